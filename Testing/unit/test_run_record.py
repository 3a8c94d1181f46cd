"""What the files of a run say together, also of a long run and of one that was cut back."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, tuples

from SemiSupSegLib.resources import check_format
from SemiSupSegLib.runs.events import EventKind, EventLog
from SemiSupSegLib.runs.metrics import MetricsLog, read_metrics
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.workers.run_history import RunHistory
from SemiSupSegLib.workers.run_record import RunRecord
from SemiSupSegLib.workers.run_view import MOST_BYTES, RunView, fitted, title_of, write_view

CLASSES = [f"class {number} with a long name" for number in range(40)]


def content_of(record):
    told = {"status": "running", "is_locked_by": None, "error": None, "what_to_do": ""}
    return fitted({**record.content(), **told, "refused": ""}, record.curves)


def log_stage(run, number, cases, high_share=0.8):
    folder = run.stage(number)
    (folder / "shown").mkdir(parents=True)
    with (folder / "ranking.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "rank", "image_confidence", "selected"])
        for rank, case in enumerate(cases, start=1):
            writer.writerow([case, rank, 1 - rank / (len(cases) + 1), int(rank <= len(cases) / 2)])
    chosen = cases[: len(cases) // 2]
    for case in {chosen[0], chosen[len(chosen) // 2], chosen[-1]}:
        (folder / "shown" / f"{case}.npz").touch()
    EventLog(run.events_file).append(
        EventKind.STAGE_RANKED,
        stage=number,
        num_cases=len(chosen),
        high_share=high_share,
        class_shares={name: {"high": 0.02, "low": 0.005} for name in CLASSES},
    )


@pytest.fixture
def a_long_run(tmp_path):
    """A run of 60,000 updates, six stages, 40 classes and 600 unlabelled cases."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    events, metrics = EventLog(run.events_file), MetricsLog(run.metrics_file)
    phases = [{"name": f"stage_{n}", "stage": n, "iterations": 10_000} for n in range(1, 7)]
    events.append(EventKind.PLANNED, phases=phases)
    cases = [f"a patient's case {number}" for number in range(600)]
    for case in cases:
        events.append(EventKind.CASE_SCORED, case=case, image_confidence=0.71)
    for number in range(20):
        events.append(EventKind.WARNING, message=f"{number} " + "Something is odd. " * 60)
    terms = ("cross_entropy", "dice", "supervised", "high", "low", "loss", "high_share", "rate")
    for stage in range(1, 7):
        name, start = f"stage_{stage}", 10_000 * (stage - 1)
        events.append(EventKind.PHASE_STARTED, phase=name, iteration=start)
        for iteration in range(start + 10, start + 10_001, 100):
            values = dict.fromkeys(terms, 1 / (iteration + 1))
            metrics.append(values, iteration=iteration, phase=name, kind="step", seconds=1.0)
        for iteration in range(start + 200, start + 10_001, 400):
            for network in ("student", "teacher"):
                dice = {f"dice.{one}": 0.123456789 for one in (*CLASSES, "mean")}
                metrics.append(
                    dice, iteration=iteration, phase=name, kind="validation", network=network,
                    seconds=1.0,
                )  # fmt: skip
        log_stage(run, stage, cases)
    RunState(status=RunStatus.RUNNING, phase="stage_6", iteration=60_000).write(run.state_json)
    return run


def test_the_view_of_a_long_run_is_small_and_whole(a_long_run, tmp_path):
    record = RunRecord(a_long_run.path)
    assert record.read()
    write_view(tmp_path / "view.json", {"heard": 0.0, **content_of(record)})

    assert (tmp_path / "view.json").stat().st_size <= MOST_BYTES
    check_format(json.loads((tmp_path / "view.json").read_text()), "run-view", "view.json")
    view = RunView.read(tmp_path / "view.json")
    assert view.image_confidence == {}
    assert sum(view.image_confidence_histogram) == 600
    assert len(view.warnings) == 10
    assert view.warnings[-1].startswith("19 ")
    assert (view.phase_title, view.iterations) == ("Stage 6 of 6", 60_000)
    assert [one["iteration"] for one in view.stage_marks] == [10_000 * n for n in range(6)]
    assert view.losses["loss"][-1][0] == 59_910
    assert view.dice["student"]["mean"][-1] == [59_800, 0.12346]
    assert [one["rank"] for one in view.stages[5]["shown"]] == ["most", "median", "least"]
    assert view.stages[5]["shown"][0]["case"] == "a patient's case 0"


def test_nothing_is_read_twice(a_long_run):
    record = RunRecord(a_long_run.path)
    assert record.read()

    assert not record.read()
    EventLog(a_long_run.events_file).append(EventKind.WARNING, message="One more.")
    assert record.read()
    assert record.content()["warnings"][-1] == "One more."


def test_curves_of_a_run_that_was_cut_back_are_those_of_its_file(tmp_path):
    run = RunFolder(tmp_path)
    log, history = MetricsLog(run.metrics_file), RunHistory(run)

    def append(start, stop, value):
        for iteration in range(start, stop, 10):
            log.append(
                {"loss": value}, iteration=iteration, phase="teacher", kind="step", seconds=1.0
            )

    append(10, 500, 1.0)
    history.read()
    log.truncate_after(200)
    append(210, 900, 2.0)
    history.read()

    expected = [[row.iteration, row.value] for row in read_metrics(run.metrics_file)]
    assert history.losses["loss"].points() == expected


@given(steps=lists(tuples(integers(1, 30), integers(0, 60)), max_size=12))
def test_however_a_run_is_cut_back_its_curve_is_that_of_its_file(steps, tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("run"))
    log, history, reached = MetricsLog(run.metrics_file), RunHistory(run), 0
    for number, (more, back_to) in enumerate(steps):
        for _ in range(more):
            reached += 1
            log.append(
                {"loss": float(number)}, iteration=reached, phase="p", kind="step", seconds=1.0
            )
        if number % 2:
            history.read()
        reached = min(reached, back_to)
        log.truncate_after(reached)
    history.read()

    rows = read_metrics(run.metrics_file) if run.metrics_file.exists() else []
    expected = [[row.iteration, row.value] for row in rows]
    assert (history.losses["loss"].points() if history.losses else []) == expected


@pytest.mark.parametrize("line", [b"{}", b"not JSON", b'{"t": 1, "kind": "stage_ranked"}', b"\0\0"])
def test_a_damaged_event_is_passed_over(tmp_path, line):
    run = RunFolder(tmp_path)
    EventLog(run.events_file).append(EventKind.WARNING, message="before")
    with run.events_file.open("ab") as stream:
        stream.write(line + b"\n")
    with run.events_file.open("ab") as stream:
        stream.write(b'{"t": 2, "kind": "warning", "message": "after"}\n')

    history = RunHistory(run)
    history.read()

    assert list(history.warnings) == ["before", "after"]


def test_what_happened_in_training_is_among_the_warnings(tmp_path):
    run = RunFolder(tmp_path)
    log = EventLog(run.events_file)
    log.append(EventKind.RATE_HALVED, iteration=12, back_to=8, message="the loss is not finite")
    log.append(EventKind.BATCH_REDUCED, iteration=20, what="batch")

    history = RunHistory(run)
    history.read()

    assert "update 12 (the loss is not finite)" in history.warnings[0]
    assert "half the batch since update 20" in history.warnings[1]


@pytest.mark.parametrize(
    ("low_mode", "shares"),
    [
        ("ignore", {"accepted": 0.8, "ignored": 0.2, "unlearned": 0.0}),
        ("subtract_clipped", {"accepted": 0.8, "ignored": 0.0, "unlearned": 0.2}),
    ],
)
def test_doubted_voxels_are_ignored_or_unlearned(tmp_path, low_mode, shares):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    log_stage(run, 1, ["a", "b"])
    record = RunRecord(run.path)
    record._config = {
        "options": {"low_mode": low_mode, "lambda_low": 0.1},
        "split": {"train_labelled": [], "train_unlabelled": [], "validation": []},
        "method": "curriculum", "preset": None, "iterations": 1, "seed": 0, "device": "cpu",
    }  # fmt: skip
    record.read()

    (stage,) = record.content()["stages"]
    assert stage["shares"] == shares
    assert stage["by_class"][CLASSES[0]] == shares
    assert stage["shown"] == [{"case": "a", "rank": "most", "image_confidence": 0.6667}]
    assert stage["note"] == ""


def test_a_stage_that_trusts_nothing_says_why_as_the_run_was_asked(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    log_stage(run, 1, ["a", "b"], high_share=0.0)
    record = RunRecord(run.path)
    record.read()

    (stage,) = record.content()["stages"]
    assert stage["shares"]["accepted"] == 0
    assert stage["note"].startswith("Stage 1 trusts 0 % of its voxels")


def test_a_run_that_is_not_there_is_told(tmp_path):
    with pytest.raises(OSError, match="run folder is not there"):
        RunRecord(tmp_path / "nowhere").read()


def test_a_run_json_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "run.json").write_text('{"format": "semisupseg-run", "version": 99}')
    record = RunRecord(tmp_path)

    record.read()

    assert "newer SemiSupSeg" in record.problem


@pytest.mark.parametrize(
    ("phase", "stage", "title"),
    [
        ("stage_3: scoring, case 1 of 6", 3, "Stage 3 of 6: scoring, case 1 of 6"),
        ("stage_3", 3, "Stage 3 of 6"),
        ("teacher", None, "Teacher"),
        ("end: judging, case 1 of 2", None, "Judging the models: judging, case 1 of 2"),
        ("prepared 3 of 60 cases", None, "Prepared 3 of 60 cases"),
        ("a_new_phase", None, "A new phase"),
        ("", None, ""),
    ],
)  # fmt: skip
def test_a_phase_has_a_title_in_words(phase, stage, title):
    assert title_of(phase, stage, 6) == title
