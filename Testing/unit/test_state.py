"""state.json."""

import json
from dataclasses import replace

import pytest

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.runs.state import RunState, RunStatus


@pytest.fixture
def a_state():
    return RunState(
        status=RunStatus.RUNNING,
        phase="stage_2",
        iteration=120,
        planned=500,
        finished=130,
        seconds_left=61.5,
        pid=4711,
        host="node-1",
        heartbeat=1.5e9,
    )


def test_a_state_reads_back_as_it_was_written(tmp_path, a_state):
    a_state.write(tmp_path / "state.json")

    assert RunState.read(tmp_path / "state.json") == a_state


def test_writing_replaces_the_former_state_and_leaves_nothing_else(tmp_path, a_state):
    a_state.write(tmp_path / "state.json")
    failed = replace(a_state, status=RunStatus.FAILED, error="The disk is full. Make room.")
    failed.write(tmp_path / "state.json")

    assert RunState.read(tmp_path / "state.json").error == "The disk is full. Make room."
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_values_that_this_version_does_not_know_are_passed_over(tmp_path, a_state):
    file = tmp_path / "state.json"
    a_state.write(file)
    file.write_text(json.dumps({**json.loads(file.read_text()), "temperature": 60}))

    assert RunState.read(file) == a_state


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": 2}, "newer SemiSupSeg"),
        ({"format": "semisupseg-run"}, "is not a SemiSupSeg state file"),
        ({"status": "dreaming"}, "status"),
        ({"iteration": -1}, "iteration"),
        ({"pid": "4711"}, "pid"),
    ],
)
def test_a_state_that_makes_no_sense_is_refused(tmp_path, a_state, values, message):
    file = tmp_path / "state.json"
    a_state.write(file)
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    with pytest.raises(SemiSupSegError, match=message):
        RunState.read(file)


def test_a_missing_state_is_told_with_its_path(tmp_path):
    with pytest.raises(SemiSupSegError, match=r"state\.json does not exist"):
        RunState.read(tmp_path / "state.json")
