"""What holds for every method, by real runs on tiny cases (docs/add-a-method.md)."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from SemiSupSegLib.errors import StoppedError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.methods.catalogue import METHODS, find_method
from SemiSupSegLib.models.package import read_package
from SemiSupSegLib.training.run import TrainRequest, train
from SemiSupSegLib.training.trainer import Trainer
from Testing.tiny_runs import are_equal, write_cases

ALL = [name for name, one in METHODS.items() if not one.goes_on]
USING_UNLABELLED = [name for name in ALL if name != "supervised"]
SPLIT = {
    "train_labelled": ["case0", "case1", "case2"],
    "train_unlabelled": ["case3", "case4", "case5", "case6"],
    "validation": ["case7"],
}
TINY = {
    "network.options": '{"width": 4, "lite": true}',
    "training.patch_size": "[16, 16, 16]",
    "training.validate_every": "50",
    "training.log_every": "2",
    "training.threads": "1",
}
SHORTER = {
    "curriculum": {"teacher_share": "4", "stage_share": "1", "head_share": "1",
                   "pseudo_labels.passes": "2"},
    "cross_teaching": {"second.options": '{"width": 4, "norm": "group"}'},
    "dual_network": {"second.options": '{"width": 4, "norm": "group"}'},
    "quality_guided": {"quality.weak_share": "0.25", "quality.network_share": "0.2",
                       "quality.floor": "0", "warmup_fraction": "0", "rampup_fraction": "0",
                       "quality_warmup": "0", "quality_rampup": "0"},
}  # fmt: skip
"""What brings every part of a method into a few updates."""
BY_HEART = {
    "curriculum": {"teacher_share": "60", "stage_share": "20"},
    # Without half of the channels, the head of 2³ voxels needs more updates than the test has.
    "urpc": {"head_dropout": "false"},
    "quality_guided": {"quality.weak_share": "0.01", "quality.network_share": "0.01"},
}
"""What lets a method learn two cases in 160 updates."""


def request_for(folder: Path, method: str, out: str = "run", iterations: int = 12, **settings):
    chosen = {**TINY, **SHORTER.get(method, {})}
    chosen.update({key.replace("__", "."): value for key, value in settings.items()})
    return TrainRequest(
        cases=folder / "cases",
        out=folder / out,
        task="binary",
        method=method,
        preset="standard",
        split=folder / "split.json",
        iterations=iterations,
        device="cpu",
        store=folder / "store",
        settings=chosen,
    )


def weights_of(run: Path) -> dict[str, dict[str, np.ndarray]]:
    package = read_package(run / "models" / "student")
    names = [name for name in ("student", "teacher") if package.has(name)]
    return {name: dict(package.weights(name)) for name in names}


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases of every method")
    write_cases(folder, 8, (18, 17, 16), SPLIT)
    return folder


@pytest.fixture(scope="module")
def the_run_of(a_folder):
    done = {}

    def run(method: str) -> Path:
        if method not in done:
            request = request_for(a_folder, method, out=f"first {method}")
            train(request)
            done[method] = request.out
        return done[method]

    return run


@pytest.mark.parametrize("method", ALL)
def test_a_run_leaves_a_student_with_figures(the_run_of, method):
    run = the_run_of(method)

    cases = read_json(run / "validation" / "cases.json")["cases"]
    assert 0 <= cases["case7"]["student"]["object"]["dice"] <= 1
    manifest = read_package(run / "models" / "student").manifest
    assert manifest["method"] == method
    assert manifest["validation"]["student"]


@pytest.mark.parametrize("method", ALL)
def test_labels_of_unlabelled_cases_make_no_difference(a_folder, tmp_path, the_run_of, method):
    shutil.copytree(a_folder / "cases", tmp_path / "cases")
    shutil.copy(a_folder / "split.json", tmp_path)
    for name in SPLIT["train_unlabelled"]:
        (tmp_path / "cases" / name / "seg.nii.gz").write_bytes(b"poison")

    train(request_for(tmp_path, method))

    assert are_equal(weights_of(the_run_of(method)), weights_of(tmp_path / "run"))


@pytest.mark.parametrize("method", USING_UNLABELLED)
def test_images_of_unlabelled_cases_make_a_difference(a_folder, tmp_path, the_run_of, method):
    shutil.copytree(a_folder / "cases", tmp_path / "cases")
    shutil.copy(a_folder / "split.json", tmp_path)
    for name in SPLIT["train_unlabelled"]:
        file = tmp_path / "cases" / name / "mri.nii.gz"
        image = nib.load(file)
        draw = np.random.default_rng(5)
        values = image.get_fdata() + draw.normal(0, 30, image.shape)
        nib.save(nib.Nifti1Image(values.astype(np.float32), image.affine), file)

    train(request_for(tmp_path, method))

    assert not are_equal(weights_of(the_run_of(method)), weights_of(tmp_path / "run"))


@pytest.mark.parametrize("method", ALL)
def test_a_stopped_run_ends_with_the_same_weights_to_the_bit(
    a_folder, the_run_of, monkeypatch, method
):
    uninterrupted = weights_of(the_run_of(method))
    request = request_for(
        a_folder, method, out=f"stopped {method}", training__checkpoint_seconds="0"
    )
    attend = Trainer._attend

    def stop_now_and_then(self, phase, started):
        attend(self, phase, started)
        is_between = self._position.phase_iteration < phase.iterations
        if is_between and self._position.iteration % 3 == 2:
            raise StoppedError("stopped by a test")

    monkeypatch.setattr(Trainer, "_attend", stop_now_and_then)
    starts = 0
    while True:
        starts += 1
        assert starts < 12
        try:
            train(request)
            break
        except StoppedError:
            continue

    assert starts > 1
    assert are_equal(uninterrupted, weights_of(request.out))


@pytest.mark.parametrize("method", USING_UNLABELLED)
def test_without_unlabelled_cases_the_labelled_ones_are_learnt_from(a_folder, tmp_path, method):
    split = {**SPLIT, "train_unlabelled": []}
    (tmp_path / "split.json").write_text(json.dumps(split))
    (tmp_path / "cases").symlink_to(a_folder / "cases")

    train(request_for(tmp_path, method, iterations=4))

    events = (tmp_path / "run" / "events.jsonl").read_text()
    assert "no unlabelled cases" in events


@pytest.mark.parametrize("method", ALL)
def test_two_labelled_cases_can_be_learnt_by_heart(a_folder, tmp_path, method):
    (tmp_path / "cases").mkdir()
    for name in SPLIT["train_unlabelled"]:
        shutil.copytree(a_folder / "cases" / name, tmp_path / "cases" / name)
    for name in ("case0", "case1"):
        shutil.copytree(a_folder / "cases" / name, tmp_path / "cases" / name)
        shutil.copytree(a_folder / "cases" / name, tmp_path / "cases" / f"again {name}")
    split = {
        **SPLIT,
        "train_labelled": ["case0", "case1"],
        "validation": ["again case0", "again case1"],
    }
    (tmp_path / "split.json").write_text(json.dumps(split))

    train(
        request_for(
            tmp_path,
            method,
            iterations=160,
            optimizer__rate="0.01",
            training__augmentation__labelled_view="classic",
            training__augmentation__flip_axes="[]",
            training__augmentation__rotate_axial="false",
            training__validate_every="1000",
            **BY_HEART.get(method, {}),
        )
    )

    cases = read_json(tmp_path / "run" / "validation" / "cases.json")["cases"]
    for figures in cases.values():
        assert figures["student"]["object"]["dice"] > 0.95


@pytest.mark.parametrize("method", ALL)
def test_the_catalogue_says_what_a_method_is(method):
    entry = find_method(method)

    assert entry.title
    assert entry.paper
    assert entry.needs
    assert entry.options.__doc__
    torch.manual_seed(0)
    assert entry.options().network
