"""Student and teacher of two architectures: from the run to the packages, maps, and report."""

import nibabel as nib
import numpy as np
import pytest
import torch

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.inference.predictor import Predictor
from SemiSupSegLib.models.description import details
from SemiSupSegLib.models.package import read_package, write_package
from SemiSupSegLib.networks.transaspp import TransASPPUNet
from SemiSupSegLib.networks.unet3d import UNet3D
from SemiSupSegLib.report.outcome import headline, tiles
from SemiSupSegLib.report.record import read_record
from SemiSupSegLib.training.configuration import configure
from SemiSupSegLib.training.described_options import described_options
from SemiSupSegLib.training.export import _judge_mean
from SemiSupSegLib.training.needs import kept_for_backward
from Testing.tiny_runs import SPLIT, training, write_cases

CPU = torch.device("cpu")
SECOND = {"second.options": '{"width": 4, "norm": "group"}', "training.judge_ensemble": "true"}


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory):
    """A folder with `cases`, `split.json`, and the finished `run` of two architectures."""
    folder = tmp_path_factory.mktemp("two architectures")
    write_cases(folder)
    words = training(folder, 8)
    own = ("teacher_share", "stage_share", "head_share", "fractions", "pseudo_labels")
    words = [one for one in words if not one.startswith(own)]
    chosen = [f"{key}={value}" for key, value in SECOND.items()]
    assert not main([*words, *chosen, "--method", "cross_teaching"])
    return folder


@pytest.fixture
def run(a_folder):
    return a_folder / "run"


def test_the_students_package_names_the_teachers_architecture(run):
    package = read_package(run / "models" / "student")

    assert package.manifest["network"]["name"] == "transaspp"
    assert package.manifest["teacher_network"]["name"] == "unet3d"
    assert package.network("student") == package.manifest["network"]
    assert package.network("teacher") == {
        **package.manifest["network"],
        **package.manifest["teacher_network"],
    }
    assert "transaspp, teacher unet3d, patches of 16 x 16 x 16" in details(package.manifest)


def test_both_networks_are_loaded_as_what_they_are(run):
    student, teacher = Predictor(read_package(run / "models" / "student"), device=CPU).networks

    assert isinstance(student, TransASPPUNet)
    assert isinstance(teacher, UNet3D)


def test_the_teachers_package_holds_its_own_network_alone(run):
    package = read_package(run / "models" / "teacher")

    assert package.manifest["network"]["name"] == "unet3d"
    assert "teacher_network" not in package.manifest
    (network,) = Predictor(package, device=CPU).networks
    assert isinstance(network, UNet3D)


def test_the_teachers_package_says_that_it_learnt_from_all_cases(run):
    package = read_package(run / "models" / "teacher")

    training = package.manifest["training"]
    counts = [len(SPLIT[name]) for name in ("train_labelled", "train_unlabelled")]
    assert [training["labelled"], training["unlabelled"]] == counts
    assert training["iterations"] == 8
    assert "trained on 2 labelled and 3 unlabelled cases, 8 optimizer updates" in package.card()


def test_a_case_is_segmented_by_both(a_folder, run, tmp_path):
    words = ["predict", "--model", str(run), "--cases", str(a_folder / "cases"), "--maps", "all"]

    assert not main([*words, "--out", str(tmp_path / "out"), "--device", "cpu"])

    for suffix in ("label", "pseudolabel", "agreement"):
        assert list((tmp_path / "out" / "case5").glob(f"*_{suffix}.nii.gz"))


def test_student_teacher_and_their_mean_are_judged(run):
    figures = read_json(run / "validation" / "cases.json")["cases"]["case5"]
    manifest = read_package(run / "models" / "student").manifest

    assert set(figures) == {"student", "teacher", "ensemble", "best_validation"}
    assert 0 <= figures["ensemble"]["object"]["dice"] <= 1
    assert manifest["validation"]["ensemble"]["object"]["dice"]["n"] == 1


def test_the_mean_is_of_probabilities_at_each_networks_own_temperature():
    class Constant(torch.nn.Module):
        def __init__(self, *logits):
            super().__init__()
            self.logits = torch.tensor(logits).reshape(1, 2, 1, 1, 1)

        def forward(self, patches):
            return self.logits.expand(len(patches), 2, *patches.shape[2:])

    class Data:
        def each(self, case_ids, what):
            return case_ids

        def predict(self, case_id, forward, seed):
            return forward(torch.zeros(1, 1, 2, 2, 2))[0]

        def outside(self, case_id):
            outside = torch.zeros(2, 2, 2, dtype=torch.bool)
            outside[1, 1, 1] = True
            return outside

    class Case:
        id = "a"

    first, second = Constant(0.0, 2.0), Constant(1.0, 0.0)

    probabilities, log_variance = _judge_mean({first: 2.0, second: 1.0}, Data())(Case())

    # Of class 1: e/(1 + e) at temperature 2, and 1/(1 + e).
    assert probabilities[1, 0, 0, 0].item() == pytest.approx(0.5)
    only, _ = _judge_mean({first: 2.0}, Data())(Case())
    assert only[1, 0, 0, 0].item() == pytest.approx(np.e / (1 + np.e))
    assert probabilities[:, 1, 1, 1].tolist() == [1, 0]
    assert log_variance is None


def test_the_report_does_not_call_the_second_network_a_teacher_of_labelled_cases(run):
    record = read_record(run)

    told = " ".join(headline(record))
    shown = {name: remark for name, _, remark in tiles(record)}

    assert record.learns_beside
    assert "The second network, trained beside it on the same cases, reaches" in told
    assert "The mean of both networks' probabilities reaches" in told
    assert "trained only on" not in told
    assert shown["Second network"] == "Dice, trained beside it on the same cases"
    assert shown["Mean of both"] == "Dice, of their probabilities; not exported"
    assert not main(["report", str(run)])


def test_the_student_goes_on_with_the_teacher_of_the_other_architecture(a_folder, run, tmp_path):
    label = a_folder / "cases" / "case2" / "seg.nii.gz"
    image = nib.load(label)
    result = tmp_path / "results" / "case2"
    result.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine),
             result / "case2_reviewed.nii.gz")  # fmt: skip

    words = ["learn", "--run", str(run), "--reviews", str(tmp_path / "results"),
             "--out", str(tmp_path / "learnt"), "--cases", str(a_folder / "cases"),
             "--iterations", "4", "--device", "cpu", "--no-report",
             "--store", str(a_folder / "store"), "--set", "training.threads=1"]  # fmt: skip
    assert not main(words)

    package = read_package(tmp_path / "learnt" / "models" / "student")
    former = read_package(run / "models" / "student")
    assert package.manifest["teacher_network"] == former.manifest["teacher_network"]
    assert isinstance(Predictor(package, device=CPU).networks[1], UNet3D)
    for name, values in former.weights("teacher").items():
        assert np.array_equal(values, package.weights("teacher")[name])


def test_a_package_of_one_architecture_says_so_by_saying_nothing(tmp_path, run):
    manifest = read_package(run / "models" / "student").manifest
    weights = {"stem": np.zeros(2, np.float32)}
    plain = {name: one for name, one in manifest.items() if name != "teacher_network"}

    package = write_package(
        tmp_path / "plain",
        manifest=plain,
        weights={"student": weights, "teacher": weights},
        card="",
    )

    assert package.network("teacher") == package.network("student")


def test_a_teachers_architecture_that_is_no_architecture_is_refused(tmp_path, run):
    manifest = dict(read_package(run / "models" / "student").manifest)
    manifest["teacher_network"] = {"name": "unet3d"}

    with pytest.raises(SemiSupSegError, match="options"):
        write_package(
            tmp_path / "odd",
            manifest=manifest,
            weights={"student": {"stem": np.zeros(2, np.float32)}},
            card="",
        )


def kept(method, **settings):
    chosen = {"network.options": '{"width": 4, "lite": true}'}
    chosen.update({key.replace("__", "."): value for key, value in settings.items()})
    config = configure(variant="cpu", preset="standard", method=method, settings=chosen)
    return kept_for_backward(config, load_task("binary"), (16, 32, 32))


def test_what_an_update_keeps_is_that_of_both_networks():
    alone = kept("mean_teacher")
    of_the_other = kept(
        "mean_teacher", network__name="unet3d", network__options='{"width": 4, "norm": "group"}'
    )
    second = {"second__name": "unet3d", "second__options": '{"width": 4, "norm": "group"}'}

    assert kept("cps") == pytest.approx(2 * alone, rel=0.01)
    assert kept("cross_teaching", **second) == pytest.approx(alone + of_the_other, rel=0.01)


def test_the_second_network_is_spelled_out_and_may_be_another():
    config = configure(variant="cpu", preset="dual_network")
    other = configure(variant="cpu", preset="dual_network", settings={"second.name": "resnet34"})
    cross = configure(
        variant="gpu", preset="cross_teaching", settings={"second.options.width": "8"}
    )

    assert config.options.second.options["dropout"] == 0.3
    assert other.options.second.name == "resnet34"
    # The preset's options are those of another network.
    assert other.options.second.options["width"] == 16
    assert cross.options.second.name == "transaspp"
    assert cross.options.second.options["width"] == 8


def test_options_of_the_second_network_have_a_heading_of_their_own():
    config = configure(variant="cpu", preset="cross_teaching")

    told = {one.key: one for one in described_options(config, config)}

    assert told["second.name"].group == told["second.options.width"].group == "Second network"
    assert "resnet34" in told["second.name"].choices
    assert told["network.options.width"].group == "Network"
    # Of the fields that a base class has.
    assert told["unlabelled_weight"].help.startswith("Weight of the loss on unlabelled patches")
