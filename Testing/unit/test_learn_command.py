"""`learn`, and `train --reviews`: what a person has corrected is learnt from, and told apart."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.inference.predictor import Predictor
from SemiSupSegLib.models.package import read_package
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.corrections import look_before_learning, plan_corrections
from SemiSupSegLib.runs.events import read_events
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.training.configuration import configure

ROOT = Path(__file__).resolve().parents[2]
AFFINE = np.diag([-1.5, -1.5, 2.0, 1.0])
SETTINGS = {
    "network.options": '{"width": 4, "lite": true}',
    "teacher_share": "10",
    "stage_share": "2",
    "head_share": "2",
    "pseudo_labels.passes": "2",
    "copy_paste": "0.5",
    "training.patch_size": "[16, 16, 16]",
    "training.validate_every": "10",
    "training.log_every": "2",
    "training.threads": "1",
}
SPLIT = {
    "train_labelled": ["case0", "case1", "case2"],
    "train_unlabelled": ["case3", "case4", "case5", "case6"],
    "validation": ["case7", "case8"],
}


def write_case(folder: Path, name: str, seed: int) -> None:
    """Write a noisy ball and its label."""
    draw = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (20, 18, 16)], indexing="ij"), -1)
    centre = draw.uniform(7, 10, 3)
    label = (np.linalg.norm(grid - centre, axis=-1) < draw.uniform(4, 6)).astype(np.uint8)
    image = 100 + 60 * label + draw.normal(0, 20, label.shape)
    (folder / name).mkdir(parents=True)
    nib.save(nib.Nifti1Image(image.astype(np.float32), AFFINE), folder / name / "mri.nii.gz")
    nib.save(nib.Nifti1Image(label, AFFINE), folder / name / "seg.nii.gz")


def options(settings: dict[str, str]) -> list[str]:
    return ["--set", *(f"{key}={value}" for key, value in settings.items())]


@pytest.fixture(scope="module")
def a_finished_run_anywhere(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learn")
    for number in range(9):
        write_case(folder / "cases", f"case{number}", number)
    (folder / "split.json").write_text(json.dumps(SPLIT))
    assert not main(
        ["train", "--cases", str(folder / "cases"), "--out", str(folder / "run"),
         "--task", "binary", "--split", str(folder / "split.json"), "--iterations", "26",
         "--device", "cpu", "--store", str(folder / "store"), "--no-report", *options(SETTINGS)]
    )  # fmt: skip
    return folder


@pytest.fixture
def a_finished_run(a_finished_run_anywhere, tmp_path):
    """A folder with `cases`, `split.json`, `run`, `store`, and `results` with two reviews."""
    folder = tmp_path / "here"
    shutil.copytree(a_finished_run_anywhere, folder)
    for name in ("case4", "case5"):
        review(folder, name)
    return folder


def review(folder: Path, name: str, number: int = 1, known: slice | None = None) -> Path:
    """Save the truth as a reviewed label; if `known`, of these slices alone."""
    result = folder / "results" / name
    result.mkdir(parents=True, exist_ok=True)
    stem = f"{name}_reviewed" + (f"-{number}" if number > 1 else "")
    truth = np.asarray(nib.load(folder / "cases" / name / "seg.nii.gz").dataobj)
    if number > 1:
        truth = np.roll(truth, 1, 0)
    if known is not None:
        partial = np.full(truth.shape, 255, np.uint8)
        partial[:, :, known] = truth[:, :, known]
        truth = partial
        kinds = ("confirmed", "fixed", "relabelled", "ignored", "undecided")
        provenance = {
            "format": "semisupseg-reviewed-label", "version": 1, "case": name,
            "saved": "2026-01-02T03:04:05+00:00", "model": {"sha256": "0" * 64, "name": "m"},
            "inputs": {}, "reviewer": "anna",
            "review": {"id": "1", "begun": "", "changed": "", "of_label_sha256": "0" * 64},
            "regions": {kind: [] for kind in kinds}, "verdict": None, "comment": "",
            "label_sha256": "0" * 64,
            "partial": True, "unknown_value": 255, "min_confidence": None, "share_known": 0.5,
        }  # fmt: skip
        (result / f"{stem}.json").write_text(json.dumps(provenance))
    nib.save(nib.Nifti1Image(truth, AFFINE), result / f"{stem}.nii.gz")
    return result / f"{stem}.nii.gz"


def words(folder: Path, out: str = "learnt", run: str = "run", **settings: str) -> list[str]:
    settings = {"training.threads": "1", **settings}
    return [
        "learn", "--run", str(folder / run), "--cases", str(folder / "cases"),
        "--reviews", str(folder / "results"), "--out", str(folder / out), "--iterations", "12",
        "--device", "cpu", "--store", str(folder / "store"), "--no-report", *options(settings),
    ]  # fmt: skip


def places(folder: Path) -> tuple[Path, Path, Path]:
    return folder / "run", folder / "cases", folder / "results"


def weights(run: Path, network: str = "student") -> dict[str, np.ndarray]:
    return read_package(run / "models" / "student").weights(network)


def test_a_student_goes_on_with_corrections_and_is_compared_with_before(a_finished_run, capsys):
    folder = a_finished_run
    command = words(folder)
    command.remove("--no-report")

    assert not main(command)

    run = RunFolder(folder / "learnt")
    assert RunState.read(run.state_json).status is RunStatus.FINISHED
    config = run.read_config()
    assert config["split"] == {
        "train_labelled": ["case0", "case1", "case2", "case4", "case5"],
        "train_unlabelled": [],
        "validation": ["case7", "case8"],
    }
    assert config["reviewed"]["case4"] == {"file": "case4/case4_reviewed.nii.gz", "unknown": None}
    assert {len(digest) for digest in config["inputs"]["case4"].values()} == {64}
    assert set(config["inputs"]["case4"]) == {"image", "label"}
    # As the former run did it, at a tenth of its rate.
    given = RunFolder(folder / "run").read_config()["options"]
    assert config["options"]["loss"] == given["loss"]
    rates = [one["optimizer"]["rate"] for one in (config["options"], given)]
    assert rates[0] == pytest.approx(0.1 * rates[1])
    package = read_package(folder / "learnt")
    training = package.manifest["training"]
    former = read_package(folder / "run")
    assert (training["iterations"], training["labelled"], training["reviewed"]) == (12, 5, 2)
    assert training["goes_on_from"]["model_sha256"] == former.sha256
    assert training["goes_on_from"]["training"] == former.manifest["training"]
    assert "case" not in json.dumps({**training, "goes_on_from": None})
    assert package.manifest["calibration"] != former.manifest["calibration"]
    # The teacher goes along as it was; the student has learnt.
    before, after = weights(folder / "run"), weights(folder / "learnt")
    assert any((before[key] != after[key]).any() for key in before)
    for key, value in weights(folder / "run", "teacher").items():
        np.testing.assert_array_equal(weights(folder / "learnt", "teacher")[key], value)
    assert not (run.models / "teacher").exists()
    compared = json.loads((run.validation / "before_after.json").read_text())
    check_format(compared, "before-after", "before_after.json")
    figures = json.loads((run.validation / "cases.json").read_text())["cases"]
    for network, when in (("before", "before"), ("student", "after")):
        dice = [one[network]["object"]["dice"] for one in figures.values()]
        assert compared["targets"]["object"][when] == pytest.approx(sum(dice) / 2)
    (told,) = [one for one in read_events(run.events_file) if one["kind"] == "before_after"]
    assert told["sentence"] == compared["sentence"]
    printed = capsys.readouterr().out
    assert "Over 2 cases the new student's Dice is" in printed
    assert compared["sentence"] in printed
    page = run.report.read_text()
    assert "Student before" in page
    assert compared["sentence"].replace("'", "&#39;") in page


def test_before_is_judged_as_it_was_judged_when_its_run_ended(a_finished_run):
    folder = a_finished_run

    assert not main(words(folder))

    def dice(run: str, network: str) -> list[float]:
        content = json.loads((folder / run / "validation" / "cases.json").read_text())
        return [one[network]["object"]["dice"] for one in content["cases"].values()]

    assert dice("learnt", "before") == pytest.approx(dice("run", "student"))
    assert dice("learnt", "teacher") == pytest.approx(dice("run", "teacher"), abs=0.02)


def test_the_model_of_a_learnt_run_predicts_with_its_teacher(a_finished_run):
    folder = a_finished_run
    assert not main(words(folder))

    maps = [
        Predictor(read_package(folder / run), device=torch.device("cpu")).predict(_prepared(folder))
        for run in ("run", "learnt")
    ]

    assert all(one.agreement is not None for one in maps)
    assert all(one.uncertainty is not None for one in maps)


def _prepared(folder: Path) -> PreparedCase:
    from SemiSupSegLib.cases.discovery import discover
    from SemiSupSegLib.options import from_json
    from SemiSupSegLib.preparation.options import PreparationOptions
    from SemiSupSegLib.preparation.prepare import prepare_case

    package = read_package(folder / "run")
    (case,) = (one for one in discover(folder / "cases", package.task).cases if one.id == "case6")
    kept = from_json(PreparationOptions, package.manifest["preparation"])
    return prepare_case(case, package.task, kept)


def test_half_of_the_patches_are_of_reviewed_cases(a_finished_run, monkeypatch):
    from SemiSupSegLib.methods.corrections import Corrections

    seen: list[str] = []
    step = Corrections.step

    def spied(self, phase, batch, clock):
        if phase.name == "corrections":
            seen.extend(batch.case_ids)
        return step(self, phase, batch, clock)

    monkeypatch.setattr(Corrections, "step", spied)
    assert not main(words(a_finished_run))

    assert seen.count("case4") + seen.count("case5") == len(seen) / 2
    assert set(seen) == {"case0", "case1", "case2", "case4", "case5"}


def test_killed_learning_ends_with_the_same_weights_to_the_bit(a_finished_run):
    folder = a_finished_run
    assert not main(words(folder, "undisturbed"))
    command = words(folder, "killed", **{"training.checkpoint_seconds": "0"})
    program = [sys.executable, "-m", "SemiSupSegLib", *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    events = folder / "killed" / "events.jsonl"

    for phase in ("corrections", "student_distil"):
        process = subprocess.Popen(
            program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not _has_checkpoint_in(events, phase):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        # It needs its former run no more, and a review that goes on changes nothing.
        shutil.rmtree(folder / "run", ignore_errors=True)
        review(folder, "case4", number=2)

    last = subprocess.run(program, env=environment, capture_output=True, check=False)
    assert last.returncode == 0, last.stderr.decode()
    assert [one["kind"] for one in read_events(events)].count("resumed") == 2
    for network in ("student", "teacher"):
        one, other = (weights(folder / run, network) for run in ("undisturbed", "killed"))
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=f"{network}/{key}")
    first, second = (
        json.loads((folder / run / "validation" / "before_after.json").read_text())
        for run in ("undisturbed", "killed")
    )
    assert first == second


def _has_checkpoint_in(events: Path, phase: str) -> bool:
    if not events.exists():
        return False
    lines = read_events(events)
    begun = [
        place
        for place, one in enumerate(lines)
        if one["kind"] == "phase_started" and one["phase"] == phase
    ]
    return bool(begun) and any(one["kind"] == "checkpoint" for one in lines[begun[0] :])


def test_learning_stops_when_it_is_asked_to_and_goes_on(a_finished_run):
    folder = a_finished_run
    program = [sys.executable, "-m", "SemiSupSegLib", *words(folder)]
    process = subprocess.Popen(
        program, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not _has_started(folder / "learnt" / "events.jsonl"):
        time.sleep(0.01)
    Control(folder / "learnt" / "control").want_stop()

    assert process.wait() == 3
    assert RunState.read(folder / "learnt" / "state.json").status is RunStatus.STOPPED
    assert not main(words(folder))


def _has_started(events: Path) -> bool:
    return events.exists() and any(one["kind"] == "started" for one in read_events(events))


def test_the_same_command_on_a_finished_run_changes_nothing(a_finished_run, capsys):
    folder = a_finished_run
    assert not main(words(folder))
    times = {file: file.stat().st_mtime_ns for file in (folder / "learnt").rglob("*")}

    assert not main(words(folder))

    assert "is finished already" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in (folder / "learnt").rglob("*")} == times


def test_a_learnt_run_is_not_gone_on_with_from_another_run(a_finished_run, capsys):
    folder = a_finished_run
    assert not main(words(folder))
    assert not main(words(folder, "second", run="learnt"))

    assert main(words(folder, "learnt", run="second")) == 2
    assert "was started with other options (former:" in capsys.readouterr().err


def test_a_second_round_goes_on_from_the_first(a_finished_run):
    folder = a_finished_run
    assert not main(words(folder))
    review(folder, "case4", number=2)
    review(folder, "case6")

    assert not main(words(folder, "second", run="learnt"))

    config = RunFolder(folder / "second").read_config()
    assert config["split"]["train_labelled"] == [
        "case0", "case1", "case2", "case4", "case5", "case6",
    ]  # fmt: skip
    assert config["reviewed"]["case4"]["file"] == "case4/case4_reviewed-2.nii.gz"
    first = RunFolder(folder / "learnt").read_config()
    assert config["inputs"]["case4"]["label"] != first["inputs"]["case4"]["label"]
    # The rate does not fall from round to round.
    assert config["options"]["optimizer"] == first["options"]["optimizer"]
    training = read_package(folder / "second").manifest["training"]
    assert training["reviewed"] == 3
    assert training["goes_on_from"]["training"]["reviewed"] == 2


def test_a_second_round_may_have_its_reviews_elsewhere(a_finished_run):
    folder = a_finished_run
    assert not main(words(folder))
    (folder / "results").rename(folder / "first_round")
    review(folder, "case6")

    refused = look_before_learning(folder / "learnt", folder / "cases", folder / "results")[0]
    (folder / "results").rename(folder / "second_round")
    (folder / "first_round").rename(folder / "results")
    plan = plan_corrections(folder / "learnt", folder / "cases", folder / "second_round")

    # Its own labels of the first round are verified, too, wherever the second one's are.
    assert "case4_reviewed.nii.gz" in refused
    labels = {case.id: case.label.path for case in plan.cases}
    assert labels["case4"] == folder / "results" / "case4" / "case4_reviewed.nii.gz"
    assert labels["case6"] == folder / "second_round" / "case6" / "case6_reviewed.nii.gz"


def _append(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"\0")


CHANGES = {
    "the run folder was moved": (
        lambda here: (here / "run").rename(here / "moved"),
        "run is not there. If it was moved",
    ),
    "the run has no model": (
        lambda here: shutil.rmtree(here / "run" / "models" / "student"),
        "has no finished student yet",
    ),
    "the model was changed": (
        lambda here: _append(here / "run" / "models" / "student" / "weights.safetensors"),
        "weights.safetensors is damaged or was changed",
    ),
    "a scan was changed": (
        lambda here: _append(here / "cases" / "case1" / "mri.nii.gz"),
        "mri.nii.gz has changed since",
    ),
    "a label was changed": (
        lambda here: _append(here / "cases" / "case2" / "seg.nii.gz"),
        "seg.nii.gz has changed since",
    ),
    "a validation scan was changed": (
        lambda here: _append(here / "cases" / "case8" / "mri.nii.gz"),
        "mri.nii.gz has changed since",
    ),
    "a reviewed scan was changed": (
        lambda here: _append(here / "cases" / "case4" / "mri.nii.gz"),
        "mri.nii.gz has changed since",
    ),
    "a case is missing": (
        lambda here: shutil.rmtree(here / "cases" / "case0"),
        "does not hold case0",
    ),
    "the cases were moved": (
        lambda here: (here / "cases").rename(here / "elsewhere"),
        "is not there. If it was moved",
    ),
    "nothing is reviewed": (
        lambda here: [file.unlink() for file in here.rglob("*_reviewed.nii.gz")],
        "holds no reviewed case",
    ),
    "there are no reviews": (
        lambda here: shutil.rmtree(here / "results"),
        "is not a folder",
    ),
    "validation cases alone are reviewed": (
        lambda here: [
            shutil.rmtree(here / "results"),
            review(here, "case7"),
        ],
        "All reviewed cases",
    ),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
def test_learning_is_refused_where_something_is_missing(a_finished_run, capsys, change, said):
    assert look_before_learning(*places(a_finished_run))[0] == ""
    change(a_finished_run)

    assert said in look_before_learning(*places(a_finished_run))[0]
    assert main(words(a_finished_run)) in (1, 2)
    assert said in capsys.readouterr().err
    assert not (a_finished_run / "learnt" / "run.json").exists()


def test_what_names_and_manifests_tell_is_told_without_any_package(a_finished_run):
    folder = a_finished_run
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from SemiSupSegLib.runs.corrections import look_before_learning\n"
        "print(look_before_learning(*map(Path, sys.argv[1:]), thorough=False)[0] or 'nothing')\n"
    )

    def told() -> str:
        # -S: no site-packages, as in Slicer's window before Setup.
        answer = subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-c", program, *map(str, places(folder))],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return answer.stdout.strip()

    assert told() == "nothing"
    shutil.rmtree(folder / "results")
    review(folder, "case8")
    assert "All reviewed cases" in told()
    shutil.rmtree(folder / "run")
    assert "If it was moved, give its new place" in told()


def test_validation_patients_are_left_out_by_name(a_finished_run, caplog):
    folder = a_finished_run
    review(folder, "case7")
    # A second visit of a validation patient, found by its scan.
    shutil.copy(
        folder / "cases" / "case8" / "mri.nii.gz", folder / "cases" / "case6" / "mri.nii.gz"
    )
    review(folder, "case6")

    assert not main(words(folder))

    said = "2 reviewed cases are left out, since the run is judged by their patients: case6, case7."
    assert said in caplog.text
    run = RunFolder(folder / "learnt")
    assert said in [one.get("message") for one in read_events(run.events_file)]
    config = run.read_config()
    assert config["split"]["train_labelled"] == ["case0", "case1", "case2", "case4", "case5"]
    # And judged by its own label.
    assert set(config["reviewed"]) == {"case4", "case5"}
    former = RunFolder(folder / "run").read_config()
    assert config["inputs"]["case7"] == former["inputs"]["case7"]


def test_patients_are_those_of_the_runs_own_pattern(a_finished_run):
    file = a_finished_run / "run" / "run.json"
    content = json.loads(file.read_text())
    assert content["patient"] is None
    # One patient for all: the run is judged by it.
    file.write_text(json.dumps({**content, "patient": "^(case)"}))

    with pytest.raises(SemiSupSegError, match="are of patients that the run is judged by"):
        plan_corrections(
            a_finished_run / "run", a_finished_run / "cases", a_finished_run / "results"
        )


def test_a_partly_reviewed_case_is_learnt_from_where_it_was_reviewed(a_finished_run):
    folder = a_finished_run
    review(folder, "case6", known=slice(4, 9))

    assert not main(words(folder))

    config = RunFolder(folder / "learnt").read_config()
    assert config["partial"] == ["case6"]
    assert config["reviewed"]["case6"]["unknown"] == 255
    assert read_package(folder / "learnt").manifest["training"]["partial"] == 1


def test_a_model_or_preparation_cannot_be_changed_on_the_way(a_finished_run, capsys):
    assert main(words(a_finished_run, **{"network.name": "vnet"})) == 2
    assert "network.name cannot be set" in capsys.readouterr().err


def test_learning_is_no_method_of_train():
    with pytest.raises(UsageError, match="use `learn --run RUN`"):
        configure(variant="cpu", method="corrections")


# train --reviews


def train_words(folder: Path, out: str = "trained", **settings: str) -> list[str]:
    return [
        "train", "--cases", str(folder / "cases"), "--out", str(folder / out), "--task", "binary",
        "--reviews", str(folder / "results"), "--split", str(folder / "split.json"),
        "--iterations", "26", "--device", "cpu", "--store", str(folder / "store"), "--no-report",
        *options({**SETTINGS, **settings}),
    ]  # fmt: skip


def test_a_reviewed_case_is_trained_on_with_its_label_though_the_split_calls_it_unlabelled(
    a_finished_run, caplog
):
    folder = a_finished_run
    review(folder, "case6", known=slice(4, 9))
    review(folder, "case8", number=2)

    assert not main(train_words(folder))

    config = RunFolder(folder / "trained").read_config()
    assert config["split"]["train_labelled"] == [
        "case0", "case1", "case2", "case4", "case5", "case6",
    ]  # fmt: skip
    assert config["split"]["train_unlabelled"] == ["case3"]
    assert (config["partial"], set(config["reviewed"])) == (["case6"], {"case4", "case5", "case6"})
    assert (
        "3 cases are named unlabelled in the split, but reviewed since: trained on with the "
        "reviewed labels: case4, case5, case6."
    ) in caplog.text
    assert "1 validation case is reviewed, and still judged by its own label: case8" in caplog.text
    former = RunFolder(folder / "run").read_config()
    assert config["inputs"]["case8"] == former["inputs"]["case8"]
    # The rest of the partly reviewed case is pseudo-labelled with the unlabelled one.
    ranked = json.loads((folder / "trained" / "stages" / "01" / "cases.json").read_text())["ranked"]
    assert sorted(ranked) == ["case3", "case6"]
    training = read_package(folder / "trained").manifest["training"]
    assert (training["labelled"], training["unlabelled"]) == (6, 1)
    assert (training["reviewed"], training["partial"]) == (3, 1)


def test_a_case_may_be_judged_by_a_partial_label(a_finished_run, caplog):
    folder = a_finished_run
    review(folder, "case8", known=slice(2, 9))
    (folder / "cases" / "case8" / "seg.nii.gz").unlink()

    assert not main(train_words(folder))

    assert "1 validation case is judged by a reviewed label, which favours" in caplog.text
    whole, partial = (
        json.loads((folder / run / "validation" / "cases.json").read_text())["cases"]["case8"]
        for run in ("run", "trained")
    )
    whole, partial = whole["student"]["object"], partial["student"]["object"]
    assert 0 < partial["dice"] <= 1
    assert partial["reference_volume_ml"] < whole["reference_volume_ml"]
    assert (whole["hd95_mm"] is None, partial["hd95_mm"] is None) == (False, True)
    calibration = read_package(folder / "trained").manifest["calibration"]
    assert calibration["num_cases"] == 2
    assert not main(["report", str(folder / "trained")])


def test_a_stopped_run_keeps_the_reviews_of_its_start(a_finished_run):
    folder = a_finished_run
    partial = review(folder, "case6", known=slice(4, 9))
    assert not main(train_words(folder, "undisturbed"))
    program = [sys.executable, "-m", "SemiSupSegLib", *train_words(folder)]
    process = subprocess.Popen(
        program, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    events = folder / "trained" / "events.jsonl"
    while process.poll() is None and not _has_checkpoint_in(events, "stage_1"):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    review(folder, "case6", number=2)
    review(folder, "case3")

    assert not main(train_words(folder))

    for key, value in weights(folder / "undisturbed").items():
        np.testing.assert_array_equal(weights(folder / "trained")[key], value)
    _append(partial)
    shutil.rmtree(folder / "trained" / "models")
    state = folder / "trained" / "state.json"
    state.write_text(state.read_text().replace('"finished"', '"stopped"', 1))
    assert main(train_words(folder)) == 1


def test_reviewed_cases_count_as_labelled_without_a_split_file(a_finished_run):
    folder = a_finished_run
    for name in ("case3", "case4", "case5", "case6"):
        (folder / "cases" / name / "seg.nii.gz").unlink()
    command = train_words(folder)
    at = command.index("--split")
    del command[at : at + 2]

    assert not main([*command, "--seed", "1"])

    split = RunFolder(folder / "trained").read_config()["split"]
    assert split["train_unlabelled"] == ["case3", "case6"]
    assert {"case4", "case5"} <= {*split["train_labelled"], *split["validation"]}
