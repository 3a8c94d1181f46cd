"""Laws of the files in a run folder: what went in comes out, and nothing torn comes with it."""

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import write_json
from SemiSupSegLib.runs.events import EventKind, EventLog, read_events, read_new_events
from SemiSupSegLib.runs.metrics import MetricRow, MetricsLog, read_metrics
from SemiSupSegLib.runs.state import RunState, RunStatus

laws = settings(deadline=None, derandomize=True, max_examples=40)

texts = st.text(max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
keys = st.text(min_size=1, max_size=10).filter(lambda key: key not in ("t", "kind", "self"))
events = st.tuples(st.sampled_from(EventKind), st.dictionaries(keys, json_values, max_size=4))
words = st.text(
    st.characters(codec="utf-8", exclude_characters=',"\r\n\0', exclude_categories=("Cs",)),
    max_size=12,
)
rows = st.builds(
    MetricRow,
    iteration=st.integers(0, 10**6),
    phase=words,
    kind=st.sampled_from(["step", "validation"]),
    network=words,
    name=words,
    value=st.floats(),
    seconds=st.floats(0, 1e9),
)
states = st.builds(
    RunState,
    status=st.sampled_from(RunStatus),
    phase=texts,
    iteration=st.integers(0, 10**9),
    planned=st.integers(0, 10**9),
    finished=st.integers(0, 10**9),
    seconds_left=st.none() | st.floats(0, 1e9),
    pid=st.none() | st.integers(0, 2**31),
    heartbeat=st.none() | st.floats(0, 1e10),
    error=st.none() | texts,
)


def a_log(folder, entries):
    log = EventLog(Path(folder) / "events.jsonl")
    for kind, values in entries:
        log.append(kind, **values)
    return log


def a_table(folder, entries):
    log = MetricsLog(Path(folder) / "metrics.csv")
    for row in entries:
        log.append(
            {row.name: row.value},
            iteration=row.iteration,
            phase=row.phase,
            kind=row.kind,
            network=row.network,
            seconds=row.seconds,
        )
    return log


def told(found):
    return [
        (event["kind"], {key: value for key, value in event.items() if key not in ("t", "kind")})
        for event in found
    ]


def same(found, expected):
    """Equal rows, where a number that is not one equals itself."""
    return [repr(row) for row in found] == [repr(row) for row in expected]


@laws
@given(entries=st.lists(events, max_size=5))
def test_any_list_of_events_survives_writing_and_reading(entries):
    with tempfile.TemporaryDirectory() as folder:
        log = a_log(folder, entries)

        assert told(read_events(log.path)) == [(kind.value, values) for kind, values in entries]


@laws
@given(entries=st.lists(events, min_size=1, max_size=4), cut=st.floats(0, 1), tail=st.binary())
def test_events_before_a_torn_line_survive_and_the_next_one_joins_them(entries, cut, tail):
    with tempfile.TemporaryDirectory() as folder:
        path = a_log(folder, entries).path
        whole = path.read_bytes()
        kept = whole[: int(cut * len(whole))]
        path.write_bytes(kept + tail.replace(b"\n", b""))
        expected = [(kind.value, values) for kind, values in entries][: kept.count(b"\n")]
        assert told(read_events(path)) == expected

        EventLog(path).append(EventKind.RESUMED)

        assert told(read_events(path)) == [*expected, ("resumed", {})]


@laws
@given(entries=st.lists(events, max_size=4), steps=st.lists(st.integers(1, 200), max_size=20))
def test_reading_piece_by_piece_gives_the_same_events(entries, steps):
    with tempfile.TemporaryDirectory() as folder:
        path = a_log(folder, entries).path if entries else Path(folder) / "events.jsonl"
        whole = path.read_bytes() if entries else b""
        found, offset, size = [], 0, 0
        for step in [*steps, len(whole)]:
            size += step
            path.write_bytes(whole[:size])
            new, offset = read_new_events(path, offset)
            found += new

        assert told(found) == [(kind.value, values) for kind, values in entries]


@laws
@given(data=st.binary(max_size=60), events_before=st.lists(events, max_size=2))
def test_any_bytes_in_an_event_file_are_read_or_refused(data, events_before):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.touch()
        a_log(folder, events_before)
        with path.open("ab") as stream:
            stream.write(data)

        try:
            found = read_events(path)
        except SemiSupSegError:
            return
        assert len(found) >= len(events_before)


@laws
@given(entries=st.lists(rows, max_size=6))
def test_any_table_of_figures_survives_writing_and_reading(entries):
    with tempfile.TemporaryDirectory() as folder:
        log = a_table(folder, entries)

        assert same(read_metrics(log.path) if entries else [], entries)


@laws
@given(entries=st.lists(rows, min_size=1, max_size=6), iteration=st.integers(-1, 10**6))
def test_going_back_keeps_exactly_the_rows_up_to_there(entries, iteration):
    with tempfile.TemporaryDirectory() as folder:
        log = a_table(folder, entries)
        log.truncate_after(iteration)
        log.truncate_after(iteration)

        expected = [row for row in entries if row.iteration <= iteration]
        assert same(read_metrics(log.path), expected)


@laws
@given(state=states)
def test_any_state_survives_writing_and_reading(state):
    with tempfile.TemporaryDirectory() as folder:
        state.write(Path(folder) / "state.json")

        assert RunState.read(Path(folder) / "state.json") == state


@laws
@given(state=states, cut=st.floats(0, 1, exclude_max=True))
def test_a_state_cut_at_any_byte_is_refused(state, cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.json"
        state.write(path)
        whole = path.read_bytes().rstrip()
        path.write_bytes(whole[: int(cut * len(whole))])

        with pytest.raises(SemiSupSegError, match=r"state\.json"):
            RunState.read(path)


@laws
@given(content=json_values)
def test_any_json_in_place_of_a_state_is_refused(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.json"
        path.write_text(json.dumps(content), encoding="utf-8")

        with pytest.raises(SemiSupSegError, match="is not a SemiSupSeg state file"):
            RunState.read(path)


@laws
@given(number=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_numbers_that_json_lacks_never_reach_a_json_file(number):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.json"

        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(path, {"seconds_left": number})

        assert list(Path(folder).iterdir()) == []
