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
        progress.begin([6, 4], 0)
        progress.enter("stage_1", 6)

        phases = [
            RunState.read(run.state_json).phase
            for _ in progress.each(["a", "b", "c"], "pseudo-labelling")
        ]

    assert phases == [f"stage_1: pseudo-labelling, case {number} of 3" for number in (1, 2, 3)]
    state = RunState.read(run.state_json)
    assert (state.finished, state.planned) == (6, 10)
