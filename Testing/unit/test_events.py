"""events.jsonl."""

import json
import math
from pathlib import PurePosixPath

import numpy as np
import pytest

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.runs.events import EventKind, EventLog, read_events, read_new_events


@pytest.fixture
def a_log(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    log.append(EventKind.STARTED, method="curriculum")
    log.append(EventKind.STEP, iteration=10, loss=0.5)
    return log


def without_time(events):
    return [{key: value for key, value in event.items() if key != "t"} for event in events]


def test_events_come_back_in_order_with_time_and_kind(a_log):
    events = read_events(a_log.path)

    assert without_time(events) == [
        {"kind": "started", "method": "curriculum"},
        {"kind": "step", "iteration": 10, "loss": 0.5},
    ]
    assert events[0]["t"] <= events[1]["t"]


def test_every_event_is_one_line_even_with_line_ends_in_its_text(a_log):
    a_log.append(EventKind.ERROR, message="one\ntwo\r\nthree\u2028four")

    assert a_log.path.read_bytes().count(b"\n") == 3
    assert read_events(a_log.path)[-1]["message"] == "one\ntwo\r\nthree\u2028four"


def test_a_loss_that_is_not_a_number_can_be_told(a_log):
    a_log.append(EventKind.ERROR, loss=math.nan, rates=[math.inf, -math.inf])

    line = a_log.path.read_text().splitlines()[-1]
    assert json.loads(line, parse_constant=pytest.fail)["loss"] == "nan"
    assert read_events(a_log.path)[-1]["rates"] == ["inf", "-inf"]


def test_numbers_of_numpy_paths_and_groups_become_plain_values(a_log):
    a_log.append(EventKind.VALIDATION, dice={"WT": np.float32(0.5)}, n=np.int64(3), size=(4, 5, 6))

    assert without_time(read_events(a_log.path))[-1] == {
        "kind": "validation",
        "dice": {"WT": 0.5},
        "n": 3,
        "size": [4, 5, 6],
    }


def test_what_has_no_plain_form_is_refused_and_nothing_is_written(a_log):
    before = a_log.path.read_bytes()

    with pytest.raises(TypeError, match="cannot be part of an event"):
        a_log.append(EventKind.WARNING, what=PurePosixPath)

    assert a_log.path.read_bytes() == before


def test_the_time_cannot_be_given(a_log):
    with pytest.raises(ValueError, match="'t' cannot be given"):
        a_log.append(EventKind.STEP, t=0)


def test_a_file_that_does_not_exist_yet_has_no_events(tmp_path):
    assert read_new_events(tmp_path / "events.jsonl", 0) == ([], 0)


def test_reading_goes_on_where_it_ended(a_log):
    first, offset = read_new_events(a_log.path, 0)
    a_log.append(EventKind.FINISHED)

    second, end = read_new_events(a_log.path, offset)

    assert len(first) == 2
    assert without_time(second) == [{"kind": "finished"}]
    assert end == a_log.path.stat().st_size


def test_a_line_that_is_being_written_is_read_when_it_is_complete(a_log):
    _, offset = read_new_events(a_log.path, 0)
    with a_log.path.open("ab") as stream:
        stream.write(b'{"t": 1, "kind": "st')
    assert read_new_events(a_log.path, offset) == ([], offset)

    with a_log.path.open("ab") as stream:
        stream.write(b'ep"}\n')

    assert read_new_events(a_log.path, offset)[0] == [{"t": 1, "kind": "step"}]


def test_a_file_cut_at_any_byte_is_read_without_its_torn_line(a_log):
    whole = a_log.path.read_bytes()
    complete = read_events(a_log.path)

    for length in range(len(whole) + 1):
        a_log.path.write_bytes(whole[:length])
        assert read_events(a_log.path) == complete[: whole[:length].count(b"\n")]


def test_going_on_after_a_kill_puts_the_next_event_on_its_own_line(a_log):
    whole = a_log.path.read_bytes()

    for torn in (b'{"t": 1, "kind"', b'{"t": 1, "kind": "step"}', b"\0" * 5000, b"\0\0\n\0"):
        a_log.path.write_bytes(whole + torn)
        EventLog(a_log.path).append(EventKind.RESUMED)
        assert [event["kind"] for event in read_events(a_log.path)] == [
            "started",
            "step",
            "resumed",
        ]


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"3", b"{}", b'{"kind": "step"}', b'{"t": 1, "kind": 3}', b"\xff"]
)
def test_a_complete_line_that_is_no_event_is_refused_with_its_place(a_log, line):
    a_log.path.write_bytes(line + b"\n" + a_log.path.read_bytes())

    with pytest.raises(SemiSupSegError, match=r"events\.jsonl is damaged .*line 1"):
        read_events(a_log.path)


def test_kinds_of_a_newer_version_are_kept_as_text(a_log):
    with a_log.path.open("ab") as stream:
        stream.write(b'{"t": 1, "kind": "teleported"}\n')

    assert read_events(a_log.path)[-1]["kind"] == "teleported"
