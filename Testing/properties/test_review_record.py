"""Whatever is decided, drawn and taken back, the record replays to what a plain model says."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from SemiSupSegLib.review.change import Change
from SemiSupSegLib.review.record import STATUSES, VERDICTS, ReviewRecord
from Testing.data.make_review_folder import SHAPE, begin, make_result, the_label


@st.composite
def boxes(draw):
    ends = []
    for length in SHAPE:
        start = draw(st.integers(0, length - 1))
        ends.append((start, draw(st.integers(start + 1, length))))
    return tuple(ends)


STEPS = st.one_of(
    st.tuples(st.just("draw"), boxes(), st.integers(0, 3), st.none() | st.integers(1, 3)),
    st.tuples(st.just("decide"), st.integers(1, 3), st.sampled_from(STATUSES)),
    st.tuples(st.just("relabel"), st.integers(1, 3), boxes(), st.integers(0, 3)),
    st.tuples(st.just("verdict"), st.sampled_from(VERDICTS), st.text(max_size=10)),
    st.tuples(st.just("undo"), st.integers(0, 30)),
    st.tuples(st.just("undo last")),
    st.tuples(st.just("reopen")),
)


def painted(label, box, class_index):
    after = label.copy()
    after[tuple(slice(*ends) for ends in box)] = class_index
    return after


def replayed(label, done):
    """Return the label map, statuses and verdict of a plain list of what was done."""
    label, statuses, verdict = label.copy(), {}, None
    for step in done:
        if step["voxels"] is not None:
            where, values = step["voxels"]
            label[where] = values
        if step["kind"] == "decision":
            statuses[step["region"]] = step["status"]
        if step["kind"] == "verdict":
            verdict = step["verdict"]
    return label, statuses, verdict


def change_to(record, shown, box, class_index):
    """Return the change and what it writes where."""
    after = painted(shown, box, class_index)
    change = Change.between(shown, after, box)
    if change is None:
        return None, None
    where = shown != after
    return change, (where, after[where])


@settings(deadline=None, max_examples=60, derandomize=True)
@given(steps=st.lists(STEPS, max_size=12))
def test_a_record_replays_to_what_a_plain_model_says(steps):
    with tempfile.TemporaryDirectory() as place:
        folder = make_result(Path(place))
        record, base = begin(folder), the_label()
        done: dict[int, dict] = {}
        for step in steps:
            shown = record.label(base)
            if step[0] == "draw":
                change, voxels = change_to(record, shown, step[1], step[2])
                if change is not None:
                    entry = record.edit(step[3], change)
                    done[entry.n] = {"kind": "edit", "voxels": voxels}
            elif step[0] == "decide":
                entry = record.decide(step[1], step[2])
                done[entry.n] = {
                    "kind": "decision",
                    "region": step[1],
                    "status": step[2],
                    "voxels": None,
                }
            elif step[0] == "relabel":
                change, voxels = change_to(record, shown, step[2], step[3])
                entry = record.decide(step[1], "relabelled", change)
                done[entry.n] = {
                    "kind": "decision",
                    "region": step[1],
                    "status": "relabelled",
                    "voxels": voxels,
                }
            elif step[0] == "verdict":
                entry = record.give_verdict(step[1], step[2])
                done[entry.n] = {"kind": "verdict", "verdict": step[1], "voxels": None}
            elif step[0] == "undo" and done:
                number = list(done)[step[1] % len(done)]
                record.undo(number)
                del done[number]
            elif step[0] == "undo last":
                undone = record.undo()
                assert (undone is None) == (not done)
                if undone is not None:
                    del done[undone.n]
                    if undone.change is not None:
                        undone.change.revert(shown)
                        assert np.array_equal(shown, record.label(base))
            else:
                record = ReviewRecord.open(folder, "ann")

        for one in (record, ReviewRecord.open(folder, "ann")):
            label, statuses, verdict = replayed(base, done.values())
            assert np.array_equal(one.label(base), label)
            assert one.statuses == statuses
            assert one.verdict == verdict
            assert one.entries == record.entries


@settings(deadline=None, max_examples=100, derandomize=True)
@given(data=st.data())
def test_a_change_turns_one_label_map_into_the_other_and_back(data):
    seed, box = data.draw(st.integers(0, 10_000)), data.draw(boxes())
    rng = np.random.default_rng(seed)
    before = rng.integers(0, 4, SHAPE).astype(np.uint8)
    after = painted(before, box, data.draw(st.integers(0, 3)))

    change = Change.between(before, after)

    label = before.copy()
    if change is None:
        assert np.array_equal(before, after)
        return
    assert change.num_voxels == (before != after).sum()
    assert Change.between(before, after, box) == change
    change.apply(label)
    assert np.array_equal(label, after)
    change.revert(label)
    assert np.array_equal(label, before)
