"""How far a run is, as its folder tells."""

from types import SimpleNamespace

import pytest

from SemiSupSegLib.errors import StoppedError
from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.events import read_events
from SemiSupSegLib.runs.lock import Lock
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.training import progress as progress_module
from SemiSupSegLib.training.progress import Progress


def test_work_on_cases_says_which_case_of_how_many_it_has_come_to(tmp_path, monkeypatch):
    monkeypatch.setattr(progress_module, "_WRITE_SECONDS", -1.0)
    run = RunFolder(tmp_path)
    with Lock(run.lock_file) as lock:
        progress = Progress(run, lock)
        progress.begin(10, 300)
        progress.enter("stage_1", 6, 120)

        phases = [
            RunState.read(run.state_json).phase
            for _ in progress.each(["a", "b", "c"], "pseudo-labelling")
        ]

    assert phases == [f"stage_1: pseudo-labelling, case {number} of 3" for number in (1, 2, 3)]
    state = RunState.read(run.state_json)
    assert (state.iteration, state.finished, state.planned) == (6, 120, 300)


def test_the_time_left_follows_from_the_work_and_not_from_the_updates(tmp_path, monkeypatch):
    """40 units took 20 s, work on cases included: 160 more will take 80 s."""
    now = 100.0
    monkeypatch.setattr(progress_module, "_WRITE_SECONDS", -1.0)
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    run = RunFolder(tmp_path)
    with Lock(run.lock_file) as lock:
        progress = Progress(run, lock)
        progress.begin(100, 220)
        progress.enter("stage_1", 0, 0)
        progress.advance(1, 20)
        first = RunState.read(run.state_json).seconds_left
        now = 120.0
        progress.advance(2, 60)

    assert first is None
    assert RunState.read(run.state_json).seconds_left == 80


@pytest.fixture
def a_clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress_module, "_WRITE_SECONDS", -1.0)
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock.now)
    return clock


def test_a_pause_is_no_working_time(tmp_path, a_clock, monkeypatch):
    """20 s for 40 units, then an hour's pause: 80 s are left for 160, and 20 s were worked."""
    run = RunFolder(tmp_path)
    control = Control(run.control)
    with Lock(run.lock_file) as lock:
        progress = Progress(run, lock)
        progress.begin(100, 220)
        progress.advance(1, 20)
        a_clock.now += 20
        progress.advance(2, 60)

        def sleep(seconds):
            a_clock.now += 3600
            control.clear()

        monkeypatch.setattr(progress_module.time, "sleep", sleep)
        control.want_pause()
        progress.obey("pause")

    assert RunState.read(run.state_json).seconds_left == 80
    assert progress.seconds == 20


def test_the_time_left_falls_while_cases_are_worked_on(tmp_path, a_clock):
    """10 units of 5 s each: 50 s are planned for what is left, of which 30 s go by in a case."""
    run = RunFolder(tmp_path)
    with Lock(run.lock_file) as lock:
        progress = Progress(run, lock)
        progress.begin(3, 40)
        progress.advance(1, 20)
        a_clock.now += 50
        progress.advance(2, 30)
        left = []
        for _ in range(3):
            progress.attend("judging")
            left.append(RunState.read(run.state_json).seconds_left)
            a_clock.now += 30
        progress.write(RunStatus.FINISHED)

    assert left == [50, 20, 0]
    assert RunState.read(run.state_json).finished == 40


def test_at_the_start_the_time_left_is_that_of_the_plan(tmp_path, a_clock):
    run = RunFolder(tmp_path)
    with Lock(run.lock_file) as lock:
        progress = Progress(run, lock)
        # Preparing cases took longer than all else will.
        a_clock.now += 1000
        progress.begin(100, 220, 480.0)
        progress.enter("teacher", 0, 0, 0.0)

    assert RunState.read(run.state_json).seconds_left == 480


def test_the_run_s_own_pace_comes_to_count_more_than_the_plan_s(tmp_path, a_clock):
    """All takes twice as long as was planned: 60 s of it count for the plan."""
    run = RunFolder(tmp_path)
    left = []
    with Lock(run.lock_file) as lock:
        progress = Progress(run, lock)
        progress.begin(1000, 5000, 1000.0)
        progress.enter("teacher", 0, 0, 0.0)
        progress.advance(1, 5, 0.0)
        for done in (60, 300):
            a_clock.now = 100 + 2 * done
            progress.advance(done, 5 * done, float(done))
            left.append(RunState.read(run.state_json).seconds_left)

    # (60 + 120) / (60 + 60) of 940 s, and (60 + 600) / (60 + 300) of 700 s.
    assert left == [1410, pytest.approx(1283.3)]


def test_work_that_is_lost_in_a_rewind_does_not_count_against_the_pace(tmp_path, a_clock):
    """Begun again at 500 s of work, and thrown back to 445 after 10 s: 70 for 60, of 555 s."""
    run = RunFolder(tmp_path)
    with Lock(run.lock_file) as lock:
        progress = Progress(run, lock)
        progress.begin(1000, 5000, 1000.0)
        progress.advance(500, 2500, 500.0)
        a_clock.now += 10
        progress.advance(445, 2225, 445.0)

    assert RunState.read(run.state_json).seconds_left == 647.5


def test_whoever_reads_that_a_run_is_paused_or_stopped_finds_the_event(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    told = []
    with Lock(run.lock_file) as lock:
        progress = Progress(run, lock)
        control = Control(run.control)
        control.want_pause()
        write = progress.write

        def writing(status, **more):
            write(status, **more)
            told.append((status.value, read_events(run.events_file)[-1]["kind"]))

        monkeypatch.setattr(progress, "write", writing)
        monkeypatch.setattr(progress_module.time, "sleep", lambda seconds: control.end_pause())
        progress.obey("pause")
        with pytest.raises(StoppedError):
            progress.obey("stop")

    assert told == [("paused", "paused"), ("running", "resumed"), ("stopped", "stopped")]
