"""How far a run is, as its folder tells."""

from SemiSupSegLib.runs.lock import Lock
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState
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
