"""`outcome`: a student beside its teacher and beside another model, on the same cases."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.files import read_json
from SemiSupSegLib.models import registry
from SemiSupSegLib.runs.run_folder import RunFolder

AFFINE = np.diag([-1.5, -1.5, 2.0, 1.0])
SETTINGS = (
    'network.options={"width": 4, "lite": true}',
    "teacher_share=10",
    "stage_share=2",
    "head_share=2",
    "pseudo_labels.passes=2",
    "training.patch_size=[16, 16, 16]",
    "training.threads=1",
)
SPLIT = {
    "train_labelled": ["case0", "case1"],
    "train_unlabelled": ["case2", "case3"],
    "validation": ["case4", "case5", "case6", "case7", "case8", "case9"],
}


def write_case(folder, name, seed):
    """Write a noisy ball and its label."""
    draw = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (20, 18, 16)], indexing="ij"), -1)
    label = (np.linalg.norm(grid - draw.uniform(7, 10, 3), axis=-1) < 5).astype(np.uint8)
    image = 100 + 60 * label + draw.normal(0, 20, label.shape)
    (folder / name).mkdir(parents=True)
    nib.save(nib.Nifti1Image(image.astype(np.float32), AFFINE), folder / name / "mri.nii.gz")
    nib.save(nib.Nifti1Image(label, AFFINE), folder / name / "seg.nii.gz")


def train(folder, out, iterations, *more):
    words = ["train", "--cases", str(folder / "cases"), "--out", str(out), "--task", "binary"]
    words += ["--split", str(folder / "split.json"), "--iterations", str(iterations)]
    words += ["--device", "cpu", "--store", str(folder / "store"), "--no-report"]
    assert main([*words, "--set", *SETTINGS, *more]) == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs on the same cases: one hardly trained, one a little more."""
    folder = tmp_path_factory.mktemp("outcome")
    for number in range(10):
        write_case(folder / "cases", f"case{number}", number)
    (folder / "split.json").write_text(json.dumps(SPLIT))
    train(folder, folder / "short", 4)
    train(folder, folder / "long", 60, "optimizer.rate=0.01")
    return folder


def outcome(runs, name, *words):
    file = runs / f"{name}.json"
    code = main(["outcome", str(runs / name), "--json", str(file), *words])
    return code, read_json(file) if code == 0 else None


def test_student_and_teacher_are_compared_as_the_run_has_judged_them(runs, capsys):
    code, found = outcome(runs, "long")

    assert code == 0
    rows = {one["target"]: one for one in found["teacher"]["rows"]}
    judged = read_json(RunFolder(runs / "long").validation / "cases.json")["cases"]
    for network in ("student", "teacher"):
        by_hand = np.mean([one[network]["object"]["dice"] for one in judged.values()])
        assert rows["mean"][network] == pytest.approx(by_hand)
    difference = rows["mean"]["difference"]
    assert difference["mean"] == pytest.approx(rows["mean"]["student"] - rows["mean"]["teacher"])
    assert difference["n"] == 6
    assert difference["low"] <= difference["mean"] <= difference["high"]
    assert found["other"] is None
    assert found["registered"] is None
    said = capsys.readouterr().out
    assert f"{rows['mean']['student']:.3f}" in said
    assert found["teacher"]["sentence"] in said


def test_two_models_segment_the_same_validation_cases_and_are_judged_alike(runs, capsys):
    code, ours = outcome(runs, "long", "--against", str(runs / "short"), "--device", "cpu")
    assert code == 0
    code, theirs = outcome(runs, "short", "--against", str(runs / "long"), "--device", "cpu")
    assert code == 0

    one, other = ours["other"]["rows"][-1], theirs["other"]["rows"][-1]
    assert one["target"] == other["target"] == "mean"
    assert one["student"] == pytest.approx(other["other"])
    assert one["other"] == pytest.approx(other["student"])
    assert one["difference"]["mean"] == pytest.approx(-other["difference"]["mean"])
    assert one["student"] != one["other"]
    assert ours["other"]["is_worse"] == (one["student"] < one["other"])
    assert theirs["other"]["is_worse"] != ours["other"]["is_worse"]
    # The cases have no other grid than the prepared ones, so that the run's own figure is found.
    assert one["student"] == pytest.approx(ours["teacher"]["rows"][-1]["student"], abs=0.02)
    assert "the present model" in capsys.readouterr().out


def test_a_model_is_not_compared_with_itself(runs, capsys):
    code, _ = outcome(runs, "long", "--against", str(runs / "long"))

    assert code == 1
    assert "same model" in capsys.readouterr().err


def test_a_model_for_something_else_is_not_compared(runs, capsys):
    demonstration = Path(__file__).resolve().parents[2] / "Resources" / "Demonstration" / "model"

    code, _ = outcome(runs, "long", "--against", str(demonstration))

    assert code == 1
    assert "other channels" in capsys.readouterr().err


def test_a_run_that_goes_on_has_no_outcome(runs, tmp_path, capsys):
    copied = tmp_path / "run"
    copied.mkdir()
    for name in ("run.json", "state.json"):
        (copied / name).write_bytes((runs / "long" / name).read_bytes())
    state = read_json(copied / "state.json")
    (copied / "state.json").write_text(json.dumps({**state, "status": "running"}))

    assert main(["outcome", str(copied)]) == 1
    assert "not finished" in capsys.readouterr().err


def test_cases_that_moved_are_named(runs, tmp_path, capsys):
    words = ("--against", str(runs / "short"), "--cases", str(tmp_path))

    code, _ = outcome(runs, "long", *words)

    assert code == 1
    assert "no case case4" in capsys.readouterr().err


def test_a_student_that_is_registered_is_found_by_its_content(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path))
    assert main(["models", "import", str(runs / "short"), "--name", "other"]) == 0
    assert main(["models", "import", str(runs / "long"), "--name", "mine", "--keep-default"]) == 0

    assert outcome(runs, "long")[1]["registered"] == "mine"
    assert registry.default_model() == "other"
