"""A run from start to end, interrupted, repeated, disturbed: on tiny cases, with real files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.commands import demo
from SemiSupSegLib.errors import SemiSupSegError, StoppedError, UsageError
from SemiSupSegLib.inference.predictor import Predictor
from SemiSupSegLib.methods import pseudo_labels
from SemiSupSegLib.methods.curriculum import Curriculum
from SemiSupSegLib.methods.pseudo_labels import Labeller
from SemiSupSegLib.models.package import read_package
from SemiSupSegLib.networks.transaspp import TransASPPUNet
from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.events import read_events
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState
from SemiSupSegLib.training import progress as progress_module
from SemiSupSegLib.training import run as run_module
from SemiSupSegLib.training import trainer as trainer_module
from SemiSupSegLib.training.checkpoints import load_checkpoint
from SemiSupSegLib.training.data import RunData
from SemiSupSegLib.training.run import TrainRequest, train
from SemiSupSegLib.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]

TINY = {
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

TWO_STAGES = {
    "teacher_share": "1",
    "head_share": "0",
    "stage_share": "1",
    "fractions": "[0.5, 1.0]",
}


REFRESHED = {"teacher_refresh": "true", "refresh_gain": "-1"}


def write_case(folder: Path, name: str, seed: int, labelled: bool) -> None:
    draw = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (20, 18, 16)], indexing="ij"), -1)
    centre = draw.uniform(7, 10, 3)
    label = (np.linalg.norm(grid - centre, axis=-1) < draw.uniform(4, 6)).astype(np.uint8)
    image = 100 + 60 * label + draw.normal(0, 20, label.shape)
    affine = np.diag([-1.5, -1.5, 2.0, 1.0])
    (folder / name).mkdir(parents=True)
    nib.save(nib.Nifti1Image(image.astype(np.float32), affine), folder / name / "mri.nii.gz")
    if labelled:
        nib.save(nib.Nifti1Image(label, affine), folder / name / "seg.nii.gz")


@pytest.fixture
def a_folder_of_cases(tmp_path):
    folder = tmp_path / "cases"
    for number in range(9):
        write_case(folder, f"case{number}", number, labelled=True)
    split = {
        "train_labelled": ["case0", "case1", "case2"],
        "train_unlabelled": ["case3", "case4", "case5", "case6"],
        "validation": ["case7", "case8"],
    }
    (tmp_path / "split.json").write_text(json.dumps(split))
    return tmp_path


def request_for(folder: Path, out: str = "run", **changes) -> TrainRequest:
    settings = {**TINY, **changes.pop("settings", {})}
    values = {
        "cases": folder / "cases",
        "out": folder / out,
        "task": "binary",
        "split": folder / "split.json",
        "iterations": 26,
        "device": "cpu",
        "store": folder / "store",
        "settings": settings,
        **changes,
    }
    return TrainRequest(**values)


def supervised_request_for(folder: Path, out: str = "run", **changes) -> TrainRequest:
    request = request_for(folder, out, **changes)
    known = {"network.options", "optimizer.rate"}
    settings = {
        key: value
        for key, value in request.settings.items()
        if key in known or key.startswith("training.")
    }
    settings["labelled_per_batch"] = "4"
    return replace(request, method="supervised", settings=settings)


def weights_of(run: Path, name: str = "student") -> dict[str, np.ndarray]:
    return read_package(run / "models" / name).weights("student")


def assert_same_weights(first: Path, second: Path) -> None:
    for name in ("student", "teacher"):
        one, other = weights_of(first, name), weights_of(second, name)
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=f"{name}/{key}")


def command_for(request: TrainRequest) -> list[str]:
    settings = [f"{key}={value}" for key, value in request.settings.items()]
    return [
        sys.executable, "-m", "SemiSupSegLib", "train", "--cases", str(request.cases),
        "--out", str(request.out), "--task", "binary", "--split", str(request.split),
        "--iterations", str(request.iterations), "--device", "cpu",
        "--store", str(request.store), "--no-report", "--set", *settings,
    ]  # fmt: skip


def test_a_split_that_separates_two_copies_of_a_scan_is_warned_of(a_folder_of_cases, caplog):
    cases = a_folder_of_cases / "cases"
    shutil.copy(cases / "case8" / "mri.nii.gz", cases / "case3" / "mri.nii.gz")
    settings = {key: TINY[key] for key in ("network.options", "training.patch_size")}
    request = request_for(a_folder_of_cases, method="supervised", iterations=1)

    train(replace(request, settings=settings))

    warnings = [
        event["message"]
        for event in read_events(RunFolder(request.out).events_file)
        if event["kind"] == "warning"
    ]
    assert "1 case in training holds the same image as a validation case" in warnings[0]
    assert "case3 (case8)" in warnings[0]
    assert warnings[0] in caplog.text


def test_a_run_leaves_student_and_teacher_with_figures_and_rankings(a_folder_of_cases):
    outcome = train(request_for(a_folder_of_cases))

    run = RunFolder(a_folder_of_cases / "run")
    assert not outcome.was_finished
    student = read_package(run.models / "student")
    assert student.has("teacher")
    assert student.task.name == "binary"
    reference = student.manifest["reference_distribution"]
    assert len(reference["deviations"]) == 2
    assert {name: len(one) for name, one in reference["scores"].items()} == {
        "image_confidence": 2, "teacher_student_dice": 2,
    }  # fmt: skip
    cases = json.loads((run.validation / "cases.json").read_text())["cases"]
    assert sorted(cases) == ["case7", "case8"]
    assert {"student", "teacher"} <= set(cases["case7"])
    state = RunState.read(run.state_json)
    assert (state.iteration, state.finished) == (26, state.planned)
    sizes = [
        json.loads((run.stage(number) / "summary.json").read_text())["num_cases"]
        for number in range(1, 7)
    ]
    assert sizes == [1, 1, 1, 2, 3, 4]
    assert {event["kind"] for event in read_events(run.events_file)} >= {
        "started", "phase_started", "stage_ranked", "validation", "finished"
    }  # fmt: skip


@pytest.mark.parametrize(
    "call",
    [main, lambda words: demo._call(words[0], words[1:])],
    ids=["terminal", "demo"],
)
def test_the_record_holds_the_words_and_threads_that_were_used(a_folder_of_cases, call):
    settings = {"training.threads": "0"}
    request = request_for(a_folder_of_cases, iterations=1, settings=settings)
    words = command_for(request)[3:]
    before = torch.get_num_threads()

    try:
        assert not call(words)
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)

    record = RunFolder(request.out).read_config()
    assert record["command"] == words
    assert record["training"]["threads"] == used
    assert record["config"]["training"]["threads"] == used


def test_patches_are_varied_on_one_thread_beside_the_networks_threads(
    a_folder_of_cases, monkeypatch
):
    """Two teams of threads on the same cores made each step take twice as long."""
    threads = {"patches": set(), "network": set()}
    vary, step = trainer_module.augment, Curriculum.step

    def vary_and_tell(*arguments, **options):
        threads["patches"].add(torch.get_num_threads())
        return vary(*arguments, **options)

    def step_and_tell(self, phase, batch, clock):
        threads["network"].add(torch.get_num_threads())
        return step(self, phase, batch, clock)

    monkeypatch.setattr(trainer_module, "augment", vary_and_tell)
    monkeypatch.setattr(Curriculum, "step", step_and_tell)
    before = torch.get_num_threads()

    try:
        train(request_for(a_folder_of_cases, iterations=4, settings={"training.threads": "2"}))
    finally:
        torch.set_num_threads(before)

    assert threads == {"patches": {1}, "network": {2}}


def test_four_updates_are_enough_for_a_student(a_folder_of_cases):
    train(request_for(a_folder_of_cases, iterations=4))

    assert weights_of(a_folder_of_cases / "run")


@pytest.mark.parametrize("settings", [{}, REFRESHED], ids=["default", "refreshed"])
def test_a_killed_run_ends_with_the_same_weights_to_the_bit(a_folder_of_cases, settings):
    train(request_for(a_folder_of_cases, "undisturbed", settings=settings))
    always = {**settings, "training.checkpoint_seconds": "0"}
    request = request_for(a_folder_of_cases, "killed", settings=always)
    events = request.out / "events.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    for wanted in ("teacher", "distil", "stage_2", "stage_5"):
        process = subprocess.Popen(
            command_for(request), env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and not _has_started(events, wanted):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    last = subprocess.run(command_for(request), env=environment, capture_output=True, check=False)
    assert last.returncode == 0, last.stderr.decode()
    kinds = [event["kind"] for event in read_events(events)]
    assert kinds.count("resumed") == 4
    assert_same_weights(a_folder_of_cases / "undisturbed", request.out)


def _has_started(events: Path, phase: str) -> bool:
    """Return whether a checkpoint was written after the phase began."""
    if not events.exists():
        return False
    lines = read_events(events)
    begun = [
        place
        for place, one in enumerate(lines)
        if one["kind"] == "phase_started" and one["phase"] == phase
    ]
    return bool(begun) and any(one["kind"] == "checkpoint" for one in lines[begun[0] :])


def test_a_folder_that_is_refused_is_left_as_it_is(a_folder_of_cases):
    out = a_folder_of_cases / "papers"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")

    with pytest.raises(UsageError, match=r"it holds thesis\.txt"):
        train(request_for(a_folder_of_cases, "papers"))

    assert [one.name for one in out.iterdir()] == ["thesis.txt"]


def test_a_run_goes_on_with_nothing_but_its_folder(a_folder_of_cases, capsys):
    train(request_for(a_folder_of_cases, "undisturbed"))
    request = request_for(a_folder_of_cases, "stopped")
    events = request.out / "events.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command_for(request), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not _has_started(events, "teacher"):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # Neither the split file nor another folder's name is needed any more.
    (a_folder_of_cases / "split.json").unlink()
    (a_folder_of_cases / "cases").rename(a_folder_of_cases / "moved")

    resumed = ["train", "--resume", str(request.out), "--no-report"]
    assert main(resumed) == 1
    assert "no longer there" in capsys.readouterr().err
    assert main([*resumed, "--cases", str(a_folder_of_cases / "moved")]) == 0

    assert_same_weights(a_folder_of_cases / "undisturbed", request.out)
    assert main([*resumed, "--iterations", "5"]) == 2
    assert "--iterations cannot be said" in capsys.readouterr().err
    assert main(["train", "--resume", str(a_folder_of_cases / "moved")]) == 1
    assert "is not a run folder" in capsys.readouterr().err


def test_the_same_command_on_a_finished_run_changes_nothing(a_folder_of_cases):
    request = request_for(a_folder_of_cases, iterations=4)
    train(request)
    before = {path: path.stat().st_mtime_ns for path in request.out.rglob("*") if path.is_file()}

    outcome = train(request)

    assert outcome.was_finished
    after = {path: path.stat().st_mtime_ns for path in request.out.rglob("*") if path.is_file()}
    assert before == after


def test_other_options_on_a_run_are_refused(a_folder_of_cases):
    train(request_for(a_folder_of_cases, iterations=4))

    with pytest.raises(UsageError, match=r"other options.*iterations: 4, now 5"):
        train(request_for(a_folder_of_cases, iterations=5))


@pytest.fixture
def a_finished_run_request(a_folder_of_cases) -> TrainRequest:
    request = request_for(a_folder_of_cases, iterations=1)
    train(request)
    return request


def test_a_default_that_is_said_or_left_out_makes_the_same_run(a_finished_run_request):
    request = a_finished_run_request
    left_out = {key: text for key, text in TINY.items() if key != "copy_paste"}
    with_defaults = {"ema": "0.99", "copy_paste": "0.50", "training.threads": "1"}

    assert train(replace(request, method="curriculum")).was_finished
    assert train(replace(request, settings={**request.settings, **with_defaults})).was_finished
    with pytest.raises(UsageError, match="settings: "):
        train(replace(request, settings={**request.settings, "ema": "0.98"}))
    with pytest.raises(UsageError, match="settings: "):
        train(replace(request, settings=left_out))
    with pytest.raises(UsageError, match="method: None, now 'uamt'"):
        train(replace(request, method="uamt"))


def test_a_run_of_the_task_device_and_length_by_default_is_the_same_when_they_are_said(
    a_finished_run_request,
):
    request = a_finished_run_request
    file = request.out / "run.json"
    content = json.loads(file.read_text())
    content["request"] |= {"task": None, "device": "auto", "iterations": None}
    content["config"]["iterations"] = 1320
    file.write_text(json.dumps(content))

    assert train(replace(request, iterations=1320)).was_finished
    with pytest.raises(UsageError, match="iterations: None, now 1321"):
        train(replace(request, iterations=1321))
    with pytest.raises(UsageError, match="task: None, now 'brats'"):
        train(replace(request, iterations=1320, task="brats"))


def test_another_split_on_a_finished_run_is_refused(a_finished_run_request):
    request = a_finished_run_request
    other = request.out.parent / "other.json"
    lists = json.loads(request.split.read_text())
    lists["train_labelled"] = ["case0", "case1", "unknown"]
    other.write_text(json.dumps(lists))

    with pytest.raises(
        UsageError,
        match=r"split: train_labelled now with unknown; train_labelled now without case2",
    ):
        train(replace(request, split=other))
    with pytest.raises(UsageError, match="split: a file, now none"):
        train(replace(request, split=None))


def test_a_split_file_that_names_the_same_cases_is_the_same_split(a_finished_run_request):
    request = a_finished_run_request
    lists = json.loads(request.split.read_text())
    copy = request.out.parent / "copy.json"
    copy.write_text(json.dumps({name: ids[::-1] for name, ids in lists.items()}))

    assert train(replace(request, split=copy)).was_finished


def test_other_cases_on_a_finished_run_are_refused(a_finished_run_request):
    request = a_finished_run_request
    other = request.out.parent / "other"
    for number in range(9):
        write_case(other, f"case{number}", 50 + number, labelled=True)

    with pytest.raises(
        UsageError, match=r"started with --cases .*cases, and .*other does not.*has changed"
    ):
        train(replace(request, cases=other))
    with pytest.raises(UsageError, match="nowhere is not a folder"):
        train(replace(request, cases=request.out.parent / "nowhere"))


def test_a_command_repeated_from_another_working_directory_is_the_same(
    a_finished_run_request, monkeypatch
):
    request = a_finished_run_request
    task = request.out.parent / "task.json"
    task.write_text((ROOT / "Resources" / "Tasks" / "binary.json").read_text())
    monkeypatch.chdir(request.out)

    outcome = train(
        replace(request, cases=Path("../cases"), split=Path("../split.json"), task="../task.json")
    )

    assert outcome.was_finished


def test_a_run_goes_on_after_its_cases_were_moved(a_folder_of_cases, monkeypatch):
    request = request_for(a_folder_of_cases, iterations=1)
    monkeypatch.setattr(Trainer, "train", lambda self: (_ for _ in ()).throw(StoppedError("now")))
    with pytest.raises(StoppedError):
        train(request)
    monkeypatch.undo()
    moved = request.cases.rename(a_folder_of_cases / "moved")

    with pytest.raises(SemiSupSegError, match=r"no longer there\. If it was moved, repeat"):
        train(request)
    outcome = train(replace(request, cases=moved))

    assert not outcome.was_finished
    assert weights_of(request.out)


def test_labels_of_unlabelled_cases_make_no_difference(a_folder_of_cases):
    train(request_for(a_folder_of_cases, "with_labels", iterations=14))
    for name in ("case3", "case4"):
        (a_folder_of_cases / "cases" / name / "seg.nii.gz").write_bytes(b"not an image")
    for name in ("case5", "case6"):
        (a_folder_of_cases / "cases" / name / "seg.nii.gz").unlink()
    train(request_for(a_folder_of_cases, "poisoned", iterations=14))

    assert_same_weights(a_folder_of_cases / "with_labels", a_folder_of_cases / "poisoned")
    inputs = RunFolder(a_folder_of_cases / "with_labels").read_config()["inputs"]
    assert [name for name in inputs if "label" in inputs[name]] == [
        "case0", "case1", "case2", "case7", "case8"
    ]  # fmt: skip


def test_images_of_unlabelled_cases_make_a_difference(a_folder_of_cases):
    train(request_for(a_folder_of_cases, "before"))
    folder = a_folder_of_cases / "cases" / "case3"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    write_case(a_folder_of_cases / "cases", "case3", 77, labelled=False)
    train(request_for(a_folder_of_cases, "after"))

    first, second = (weights_of(a_folder_of_cases / name) for name in ("before", "after"))
    assert any(not np.array_equal(first[key], second[key]) for key in first)


def test_a_precision_that_a_cpu_computes_wrongly_is_refused(a_folder_of_cases):
    request = request_for(a_folder_of_cases, settings={"training.precision": "bfloat16"})

    with pytest.raises(UsageError, match="Leave it at auto"):
        train(request)


def test_a_patch_that_the_network_cannot_take_is_refused_before_anything_is_frozen(
    a_folder_of_cases,
):
    wrong = {"training.patch_size": "[24, 24, 24]"}
    with pytest.raises(UsageError, match="every side must be a multiple of 16"):
        train(request_for(a_folder_of_cases, settings=wrong))

    run = RunFolder(a_folder_of_cases / "run")
    assert not run.is_run()
    state = json.loads(run.state_json.read_text())
    assert state["status"] == "failed"
    assert "multiple of 16" in state["error"]
    # The corrected command works on the same folder.
    train(request_for(a_folder_of_cases, iterations=1))
    assert json.loads(run.state_json.read_text())["status"] == "finished"


def test_another_seed_gives_other_weights(a_folder_of_cases):
    train(request_for(a_folder_of_cases, "zero", iterations=4))
    train(request_for(a_folder_of_cases, "one", iterations=4, seed=1))

    first, second = (weights_of(a_folder_of_cases / name) for name in ("zero", "one"))
    assert any(not np.array_equal(first[key], second[key]) for key in first)


def test_a_stop_file_ends_the_run_and_the_next_start_goes_on(a_folder_of_cases, monkeypatch):
    request = request_for(a_folder_of_cases, "stopped")
    step = Curriculum.step

    def step_with_a_wish(self, phase, batch, clock):
        if clock.iteration == 5 and not (request.out / "asked").exists():
            (request.out / "asked").touch()
            Control(request.out / "control").want_stop()
        return step(self, phase, batch, clock)

    monkeypatch.setattr(Curriculum, "step", step_with_a_wish)
    with pytest.raises(StoppedError, match="Stopped at update 6 of 26"):
        train(request)
    assert json.loads((request.out / "state.json").read_text())["status"] == "stopped"
    train(request)
    monkeypatch.undo()
    train(request_for(a_folder_of_cases, "undisturbed"))

    assert_same_weights(a_folder_of_cases / "undisturbed", request.out)


def test_a_stop_at_the_end_of_a_phase_leaves_its_checkpoint(a_folder_of_cases, monkeypatch):
    request = request_for(a_folder_of_cases, "stopped", iterations=4)
    step = Curriculum.step

    def step_with_a_wish(self, phase, batch, clock):
        if phase.name == "teacher" and clock.phase_iteration + 1 == phase.iterations:
            Control(request.out / "control").want_stop()
        return step(self, phase, batch, clock)

    monkeypatch.setattr(Curriculum, "step", step_with_a_wish)
    with pytest.raises(StoppedError, match="Stopped at update 2 of 4"):
        train(request)

    checkpoint = load_checkpoint(request.out / "checkpoints")
    assert checkpoint.state["position"]["iteration"] == 2


@pytest.mark.parametrize("work", ["preparing", "judging"])
def test_a_stop_is_heard_while_cases_are_prepared_and_judged(a_folder_of_cases, monkeypatch, work):
    request = request_for(a_folder_of_cases, iterations=1)
    predict, prepare = RunData.predict, run_module.prepare_cases
    judged = []

    def predict_with_a_wish(self, case_id, forward, seed, overlap=None):
        if work == "judging" and seed == "final":
            judged.append(case_id)
            Control(request.out / "control").want_stop()
        return predict(self, case_id, forward, seed, overlap)

    def prepare_with_a_wish(*arguments, **options):
        if work == "preparing":
            Control(request.out / "control").want_stop()
        return prepare(*arguments, **options)

    monkeypatch.setattr(progress_module, "_WRITE_SECONDS", 0.0)
    monkeypatch.setattr(RunData, "predict", predict_with_a_wish)
    monkeypatch.setattr(run_module, "prepare_cases", prepare_with_a_wish)

    with pytest.raises(StoppedError):
        train(request)

    assert (request.out / "run.json").exists() == (work == "judging")
    assert judged in ([], ["case7"])


def test_optimizer_state_does_not_cross_phases_without_updates(a_folder_of_cases, monkeypatch):
    shares = {"teacher_share": "1", "head_share": "3", "stage_share": "2"}
    request = request_for(a_folder_of_cases, iterations=3, settings=shares)
    finish = Trainer._finish_phase

    def finish_and_die(self, phase, started):
        finish(self, phase, started)
        if phase.name == "stage_1":
            raise StoppedError("now")

    monkeypatch.setattr(Trainer, "_finish_phase", finish_and_die)
    with pytest.raises(StoppedError, match="now"):
        train(request)
    monkeypatch.undo()
    train(request)
    train(request_for(a_folder_of_cases, "undisturbed", iterations=3, settings=shares))

    phases = [
        one["phase"] for one in read_events(request.out / "events.jsonl")
        if one["kind"] == "phase_finished"
    ]  # fmt: skip
    assert phases[-2:] == ["stage_1", "student_distil"]
    assert_same_weights(a_folder_of_cases / "undisturbed", request.out)


@pytest.mark.parametrize(
    "settings",
    [{"copy_paste": "0"}, {"copy_paste": "1"}, {"unlabelled": "none"}],
    ids=["apart", "mixed", "labelled"],
)
def test_weighted_classes_are_the_same_after_a_resume(a_folder_of_cases, monkeypatch, settings):
    settings = {**TWO_STAGES, "loss.class_weights": "inverse", **settings}
    request = request_for(a_folder_of_cases, iterations=3, settings=settings)
    finish = Trainer._finish_phase

    def finish_and_die(self, phase, started):
        finish(self, phase, started)
        if phase.name == "stage_1":
            raise StoppedError("now")

    monkeypatch.setattr(Trainer, "_finish_phase", finish_and_die)
    with pytest.raises(StoppedError, match="now"):
        train(request)
    monkeypatch.undo()
    train(request)
    train(replace(request, out=a_folder_of_cases / "undisturbed"))
    unweighted = {**settings, "loss.class_weights": "none"}
    train(request_for(a_folder_of_cases, "unweighted", iterations=3, settings=unweighted))

    assert_same_weights(a_folder_of_cases / "undisturbed", request.out)
    first, second = (weights_of(a_folder_of_cases / name) for name in ("run", "unweighted"))
    assert any(not np.array_equal(first[key], second[key]) for key in first)


def test_a_student_that_starts_anew_still_leaves_its_judgement(a_folder_of_cases, monkeypatch):
    settings = {**TWO_STAGES, "warm_start": "false"}
    make = Labeller.make_stage_maps
    asked = []

    def make_and_note(self, stage, fraction, cases, student):
        asked.append(student is not None)
        make(self, stage, fraction, cases, student)

    monkeypatch.setattr(Labeller, "make_stage_maps", make_and_note)
    train(request_for(a_folder_of_cases, iterations=3, settings=settings))

    assert asked == [False, True]


def test_a_head_that_never_learnt_is_not_exported(a_folder_of_cases):
    """It would give every voxel the same doubt; without it `predict` makes several passes."""
    train(supervised_request_for(a_folder_of_cases, iterations=3))

    package = read_package(a_folder_of_cases / "run" / "models" / "student")
    assert package.manifest["network"]["options"]["log_variance_head"] is False
    assert not [name for name in package.weights("student") if name.startswith("log_variance")]
    predictor = Predictor(package, device=torch.device("cpu"))
    assert not predictor.networks[0].has_log_variance


def test_without_updates_for_the_heads_trust_comes_from_the_passes(a_folder_of_cases):
    settings = {"head_share": "0", "pseudo_labels.threshold": "0.5"}
    train(request_for(a_folder_of_cases, settings=settings))

    run = RunFolder(a_folder_of_cases / "run")
    for name in ("student", "teacher"):
        network = read_package(run.models / name).manifest["network"]
        assert network["options"]["log_variance_head"] is False
    summary = json.loads((run.stage(1) / "summary.json").read_text())
    assert summary["high_share"] > 0


def test_a_run_whose_device_is_gone_says_so_and_keeps_everything(a_folder_of_cases, monkeypatch):
    request = request_for(a_folder_of_cases, iterations=2)
    train(request)
    file = a_folder_of_cases / "run" / "run.json"
    file.write_text(file.read_text().replace('"device": "cpu",', '"device": "cuda:7",', 1))
    monkeypatch.setattr(run_module, "_is_finished", lambda run: False)

    with pytest.raises(SemiSupSegError, match="started on cuda:7, which PyTorch cannot use now"):
        train(request)


def test_a_stop_is_heard_within_the_prediction_of_one_case(a_folder_of_cases, monkeypatch):
    monkeypatch.setattr(progress_module, "_POLL_SECONDS", -1.0)
    run = RunFolder(a_folder_of_cases / "run")
    forward, seen = TransASPPUNet.body, []

    def body_and_wish(self, stem):
        if torch.is_inference_mode_enabled():
            seen.append(True)
            Control(run.control).want_stop()
        return forward(self, stem)

    monkeypatch.setattr(TransASPPUNet, "body", body_and_wish)
    with pytest.raises(StoppedError, match="Stopped at update"):
        train(request_for(a_folder_of_cases, settings={"training.patch_size": "[16, 16, 16]"}))

    assert 1 <= len(seen) <= 2
    monkeypatch.undo()
    train(request_for(a_folder_of_cases))
    train(request_for(a_folder_of_cases, "undisturbed"))
    assert_same_weights(run.path, a_folder_of_cases / "undisturbed")


def test_supervised_training_and_a_teacher_of_as_many_updates_are_the_same(a_folder_of_cases):
    shares = {"head_share": "0", "stage_share": "0", "teacher_share": "1"}
    train(request_for(a_folder_of_cases, iterations=5, settings=shares))
    train(supervised_request_for(a_folder_of_cases, "supervised", iterations=5))

    teacher = read_package(a_folder_of_cases / "run" / "models" / "teacher").weights("student")
    alone = read_package(a_folder_of_cases / "supervised" / "models" / "student").weights("student")
    assert teacher.keys() == alone.keys()
    assert all(np.array_equal(teacher[name], alone[name]) for name in teacher)


def test_the_teachers_package_says_what_the_teacher_learnt_from(a_folder_of_cases):
    train(request_for(a_folder_of_cases))

    models = a_folder_of_cases / "run" / "models"
    student, teacher = (read_package(models / name).manifest for name in ("student", "teacher"))
    assert (student["training"]["iterations"], student["training"]["unlabelled"]) == (26, 4)
    assert (teacher["training"]["iterations"], teacher["training"]["unlabelled"]) == (10, 0)
    assert "Its segmentation was trained on 3 labelled cases, 10 optimizer updates" in (
        models / "teacher" / "card.md"
    ).read_text(encoding="utf-8")


def test_a_better_student_takes_over_the_labelling(a_folder_of_cases):
    train(request_for(a_folder_of_cases, iterations=3, settings={**TWO_STAGES, **REFRESHED}))

    run = RunFolder(a_folder_of_cases / "run")
    (told,) = [
        one for one in read_events(run.events_file) if one["kind"] == "teacher_refreshed"
    ]  # fmt: skip
    assert told["stage"] == 2
    assert set(told["dice"]) == {"student", "labelling"}
    before, after = (
        json.loads((run.stages / name / "scores.json").read_text())["image_confidence"]
        for name in ("teacher", "student_before_02")
    )
    assert before.keys() == after.keys()
    assert before != after


def test_a_student_that_is_not_better_leaves_the_labelling_alone(a_folder_of_cases):
    settings = {**TWO_STAGES, "teacher_refresh": "true", "refresh_gain": "1"}
    train(request_for(a_folder_of_cases, iterations=3, settings=settings))
    train(request_for(a_folder_of_cases, "without", iterations=3, settings=TWO_STAGES))

    assert_same_weights(a_folder_of_cases / "without", a_folder_of_cases / "run")


def test_a_run_whose_unlabelled_cases_are_all_excluded_goes_on_without(a_folder_of_cases):
    request = request_for(a_folder_of_cases, iterations=3, settings=TWO_STAGES)
    Control(request.out / "control").exclude(["case3", "case4", "case5", "case6"])

    train(request)

    warnings = [
        one["message"] for one in read_events(request.out / "events.jsonl")
        if one["kind"] == "warning"
    ]  # fmt: skip
    assert len([one for one in warnings if "All unlabelled cases are excluded" in one]) == 2


def test_a_case_is_told_of_once_however_often_scoring_is_interrupted(
    a_folder_of_cases, monkeypatch
):
    request = request_for(a_folder_of_cases, iterations=3, settings=TWO_STAGES)
    confidence = pseudo_labels.image_confidence
    scored = []

    def confidence_of_two(*arguments, **options):
        scored.append(True)
        if len(scored) > 2:
            raise StoppedError("now")
        return confidence(*arguments, **options)

    monkeypatch.setattr(pseudo_labels, "image_confidence", confidence_of_two)
    with pytest.raises(StoppedError, match="now"):
        train(request)
    monkeypatch.undo()
    train(request)

    told = [
        one["case"] for one in read_events(request.out / "events.jsonl")
        if one["kind"] == "case_scored"
    ]  # fmt: skip
    assert sorted(told) == ["case3", "case4", "case5", "case6"]


def test_a_loss_that_is_not_finite_halves_the_rate_once(a_folder_of_cases, monkeypatch):
    step = Curriculum.step
    broken = []

    def step_that_breaks(self, phase, batch, clock):
        result = step(self, phase, batch, clock)
        if clock.iteration == 7 and not broken:
            broken.append(True)
            return type(result)(total=result.total * float("nan"), terms=result.terms)
        return result

    monkeypatch.setattr(Curriculum, "step", step_that_breaks)
    train(request_for(a_folder_of_cases))

    events = read_events(a_folder_of_cases / "run" / "events.jsonl")
    halved = [event for event in events if event["kind"] == "rate_halved"]
    assert len(halved) == 1
    assert "not finite in phase teacher" in halved[0]["message"]
    weights = weights_of(a_folder_of_cases / "run")
    assert all(np.isfinite(values).all() for values in weights.values())


def test_a_loss_that_stays_not_finite_ends_the_run_with_an_explanation(
    a_folder_of_cases, monkeypatch
):
    step = Curriculum.step

    def step_that_breaks(self, phase, batch, clock):
        result = step(self, phase, batch, clock)
        factor = float("nan") if clock.iteration >= 7 else 1.0
        return type(result)(total=result.total * factor, terms=result.terms)

    monkeypatch.setattr(Curriculum, "step", step_that_breaks)
    with pytest.raises(SemiSupSegError, match="diverged again with half the learning rate"):
        train(request_for(a_folder_of_cases))

    state = json.loads((a_folder_of_cases / "run" / "state.json").read_text())
    assert state["status"] == "failed"
    assert "diverged again" in state["error"]


def test_a_pause_gives_networks_and_optimizer_away_and_changes_nothing(
    a_folder_of_cases, monkeypatch
):
    """The pause comes between updates of a phase, and one more while a network is judged."""
    train(request_for(a_folder_of_cases, "undisturbed"))
    request = request_for(a_folder_of_cases, "paused")
    control = Control(request.out / "control")
    validate, leave = Trainer._validate, Trainer._leave_device
    left = []

    def validate_with_a_pause(self, phase):
        control.want_pause()
        self._progress.obey("pause")
        validate(self, phase)

    def leave_and_go_on(self):
        leave(self)
        left.append(self._optimizer)
        control.clear()

    monkeypatch.setattr(Trainer, "_validate", validate_with_a_pause)
    monkeypatch.setattr(Trainer, "_leave_device", leave_and_go_on)
    train(request)

    assert len(left) > 4
    assert set(left) == {None}
    assert_same_weights(a_folder_of_cases / "undisturbed", request.out)


def test_out_of_memory_halves_the_batch_and_says_so(a_folder_of_cases, monkeypatch):
    update = Trainer._update
    sizes = []

    def update_on_a_small_device(self, phase, batch):
        if len(batch.images) > 4:
            raise torch.cuda.OutOfMemoryError("out of memory")
        sizes.append(len(batch.images))
        return update(self, phase, batch)

    monkeypatch.setattr(Trainer, "_update", update_on_a_small_device)
    # PyTorch has this name since 2.5; we run on 2.4.
    monkeypatch.delattr(torch, "OutOfMemoryError", raising=False)
    train(request_for(a_folder_of_cases))

    events = read_events(a_folder_of_cases / "run" / "events.jsonl")
    assert [one["what"] for one in events if one["kind"] == "batch_reduced"] == ["batch"]
    assert set(sizes) == {4}


def test_images_that_are_kept_on_a_device_go_before_the_batch_shrinks(
    a_folder_of_cases, monkeypatch
):
    update, failed = Trainer._update, []

    def update_that_fails_once(self, phase, batch):
        if not failed:
            failed.append(self._sampler.keeps_images)
            raise torch.cuda.OutOfMemoryError("out of memory")
        assert not self._sampler.keeps_images
        assert len(batch.images) == 4
        return update(self, phase, batch)

    monkeypatch.setattr(Trainer, "_update", update_that_fails_once)
    monkeypatch.setattr(RunData, "_resident", lambda self, cases: torch.device("cpu"))
    train(supervised_request_for(a_folder_of_cases, iterations=2))

    assert failed == [True]
    kinds = [event["kind"] for event in read_events(a_folder_of_cases / "run" / "events.jsonl")]
    assert "batch_reduced" not in kinds
    assert "warning" in kinds
    state = load_checkpoint(a_folder_of_cases / "run" / "checkpoints").state
    assert (state["position"]["keeps_images"], state["position"]["batch_scale"]) == (False, 1.0)


def test_a_gradient_that_is_not_finite_halves_the_rate_once(a_folder_of_cases, monkeypatch):
    step = Curriculum.step
    broken = []

    def step_that_breaks(self, phase, batch, clock):
        result = step(self, phase, batch, clock)
        if clock.iteration == 7 and not broken:
            broken.append(True)
            # The value stays finite; the derivative of the root at 0 does not.
            root = (result.total - result.total.detach()).abs().sqrt()
            return type(result)(total=result.total + root, terms=result.terms)
        return result

    monkeypatch.setattr(Curriculum, "step", step_that_breaks)
    train(request_for(a_folder_of_cases))

    events = read_events(a_folder_of_cases / "run" / "events.jsonl")
    (halved,) = [event for event in events if event["kind"] == "rate_halved"]
    assert "the gradient of cases" in halved["message"]
    weights = weights_of(a_folder_of_cases / "run")
    assert all(np.isfinite(values).all() for values in weights.values())


def test_predictions_that_do_not_fit_are_made_a_window_at_a_time(a_folder_of_cases, monkeypatch):
    forward = TransASPPUNet.forward
    sizes = set()

    def forward_on_a_small_device(self, image):
        if torch.is_inference_mode_enabled():
            # A lonely window is doubled on one thread.
            if len(image) > 2 or (len(image) == 2 and not torch.equal(image[0], image[1])):
                raise torch.cuda.OutOfMemoryError("out of memory")
            sizes.add(len(image))
        return forward(self, image)

    monkeypatch.setattr(TransASPPUNet, "forward", forward_on_a_small_device)
    train(request_for(a_folder_of_cases))

    assert sizes


def test_a_finished_run_leaves_no_work_files_but_three_cases_of_a_stage(a_folder_of_cases):
    run = a_folder_of_cases / "run"
    train(request_for(a_folder_of_cases))

    assert not (run / "checkpoints" / "scratch").exists()
    assert (run / "stages" / "teacher" / "scores.json").is_file()
    last = run / "stages" / "06"
    ranked = json.loads((last / "cases.json").read_text())["cases"]
    assert len(ranked) == 4
    shown = {file.stem: np.load(file) for file in (last / "shown").iterdir()}
    assert shown.keys() == {ranked[0], ranked[2], ranked[3]}
    for arrays in shown.values():
        assert arrays["pseudo_label"].shape == arrays["weight"].shape
        assert set(np.unique(arrays["pseudo_label"])) <= {0, 1}


def test_warnings_of_the_used_cases_are_told_once_a_kind(a_folder_of_cases, caplog):
    cases = a_folder_of_cases / "cases"
    for name in ("case4", "case5"):
        shutil.copy(cases / "case3" / "mri.nii.gz", cases / name / "mri.nii.gz")
    for number in (20, 21):
        write_case(cases, f"case{number}", 20, labelled=True)
    request = request_for(a_folder_of_cases, iterations=1)

    train(request)

    told = [
        one["message"] for one in read_events(request.out / "events.jsonl")
        if one["kind"] == "warning"
    ]  # fmt: skip
    (duplicates,) = [one for one in told if "is also in" in one]
    assert duplicates.startswith(
        "3 cases of this run have this warning, for example case3: the image of channel"
    )
    assert ". If this is one scan twice, remove one" in duplicates
    assert duplicates in caplog.messages


def test_unusable_cases_are_told_once_a_kind_and_refused_in_a_split(a_folder_of_cases, caplog):
    for name in ("case9", "case10"):
        write_case(a_folder_of_cases / "cases", name, 9, labelled=False)
        (a_folder_of_cases / "cases" / name / "mri.nii.gz").write_bytes(b"not an image")
    request = request_for(a_folder_of_cases, iterations=1)

    train(request)

    told = [one for one in caplog.messages if "left out" in one]
    assert len(told) == 1
    assert told[0].startswith("2 cases were left out, for example case9: ")
    lists = json.loads(request.split.read_text())
    lists["train_unlabelled"].append("case9")
    request.split.write_text(json.dumps(lists))
    with pytest.raises(
        SemiSupSegError, match=r"case9, which is unusable: [^.]*mri\.nii\.gz[^.]*\. [A-Z].*\.$"
    ):
        train(replace(request, out=request.out.parent / "other"))


def test_a_changed_input_is_noticed(a_folder_of_cases, monkeypatch):
    request = request_for(a_folder_of_cases)
    monkeypatch.setattr(Trainer, "train", lambda self: (_ for _ in ()).throw(StoppedError("now")))
    with pytest.raises(StoppedError):
        train(request)
    monkeypatch.undo()
    folder = a_folder_of_cases / "cases"
    (folder / "case0" / "mri.nii.gz").write_bytes((folder / "case1" / "mri.nii.gz").read_bytes())

    with pytest.raises(SemiSupSegError, match=r"case0.mri\.nii\.gz has changed"):
        train(request)


def test_a_run_writes_nothing_to_the_usual_cache_if_a_store_is_chosen(
    a_folder_of_cases, monkeypatch
):
    monkeypatch.setenv("SEMISUPSEG_STORE", str(a_folder_of_cases / "usual"))

    settings = {key: text for key, text in TINY.items() if "." in key and "pseudo" not in key}
    request = request_for(a_folder_of_cases, method="supervised", iterations=1)

    train(replace(request, settings=settings))

    assert list((a_folder_of_cases / "store" / "scans").glob("*.jsonl"))
    assert not (a_folder_of_cases / "usual").exists()
