"""What a reviewer decided is on the disk before the next click, and comes back as it was."""

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from SemiSupSegLib.cases.reading import read_label
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.report.review import _precision, _redrawn
from SemiSupSegLib.review.change import Change
from SemiSupSegLib.review.cohort import read_cohort
from SemiSupSegLib.review.journal import ChangedElsewhereError, Journal
from SemiSupSegLib.review.record import Progress, ReviewRecord, has_review, reviewers
from SemiSupSegLib.review.summary import summary_lines
from Testing.data.make_review_folder import (
    BOXES,
    SHAPE,
    begin,
    make_result,
    the_label,
    the_regions,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def a_result(tmp_path) -> Path:
    return make_result(tmp_path / "out")


@pytest.fixture
def a_record(a_result) -> ReviewRecord:
    return begin(a_result)


def to_class(label: np.ndarray, box, class_index: int) -> Change:
    after = label.copy()
    after[tuple(slice(*ends) for ends in box)] = class_index
    change = Change.between(label, after)
    assert change is not None
    return change


def test_a_change_is_as_small_as_what_differs():
    before = np.zeros((4, 5, 6), np.uint8)
    after = before.copy()
    after[1:3, 2, 3:5] = 2
    after[2, 4, 3] = 1

    change = Change.between(before, after, ((0, 4), (1, 5), (1, 6)))

    assert change is not None
    assert change.box == ((1, 3), (2, 5), (3, 5))
    assert change.num_voxels == 5
    old, new = change.arrays()
    assert not old.any()
    assert new[:, 0].tolist() == [[2, 2], [2, 2]]


def test_a_change_may_be_given_by_its_box_alone():
    before, after = np.zeros((2, 2, 2), np.uint8), np.ones((2, 2, 2), np.uint8)
    label = np.zeros((4, 5, 6), np.uint8)

    change = Change.between(before, after, ((1, 3), (3, 5), (2, 4)))
    assert change is not None
    change.apply(label)

    assert label.sum() == 8
    assert label[1:3, 3:5, 2:4].all()
    change.revert(label)
    assert not label.any()


def test_no_change_is_none():
    label = the_label()

    assert Change.between(label, label.copy()) is None


def test_label_maps_of_two_shapes_are_no_change():
    with pytest.raises(ValueError, match="have the shapes"):
        Change.between(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match="does not lie in label maps"):
        Change.between(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), ((0, 3), (0, 2), (0, 2)))


def test_voxels_of_the_box_that_were_not_touched_stay_as_others_made_them():
    label = np.zeros((1, 1, 4), np.uint8)
    first = Change.between(label, np.array([[[1, 0, 0, 1]]], np.uint8))
    second = Change.between(label, np.array([[[0, 2, 2, 0]]], np.uint8))
    assert first is not None
    assert second is not None

    for change in (first, second):
        change.apply(label)
    assert label.ravel().tolist() == [1, 2, 2, 1]
    first.revert(label)

    assert label.ravel().tolist() == [0, 2, 2, 0]


def test_a_review_begins_with_copies_of_label_and_regions(a_result, a_record):
    assert sorted(path.name for path in a_result.iterdir() if path.name.startswith("review")) == [
        "review.ann.jsonl",
        "review.ann.label.nii.gz",
        "review.ann.regions.json",
        "review.ann.regions.nii.gz",
    ]
    assert a_record.label_file.read_bytes() == (a_result / "p1_label.nii.gz").read_bytes()
    assert [region["id"] for region in a_record.listed] == [1, 2, 3]
    assert [region.id for region in a_record.regions] == [1, 2, 3]
    assert a_record.regions[0].class_name == "necrosis"
    assert (a_record.case, a_record.shape, a_record.classes) == (
        "p1",
        SHAPE,
        ("necrosis", "edema", "enhancing"),
    )
    assert a_record.task.written_values == (0, 1, 2, 4)


def test_everything_is_there_when_the_case_is_opened_again(a_result, a_record):
    label = the_label()
    a_record.decide(1, "relabelled", to_class(label, BOXES[0], 2))
    a_record.decide(2, "confirmed")
    a_record.edit(None, to_class(label, ((5, 6), (9, 10), (7, 8)), 3))
    a_record.give_verdict("corrected", "edge of the edema")
    a_record.log_effort(12.34, 3)

    again = ReviewRecord.open(a_result, "ann")

    assert again.statuses == {1: "relabelled", 2: "confirmed"}
    assert (again.verdict, again.comment) == ("corrected", "edge of the edema")
    replayed = again.label(label)
    assert (replayed[1:3, 2:5, 1:4] == 2).all()
    assert replayed[5, 9, 7] == 3
    assert (replayed != label).sum() == 18 + 1
    assert (label == the_label()).all(), "the label map given is not changed"
    assert again.effort.active_seconds == 12.3
    assert (again.effort.strokes, again.effort.voxels_changed) == (3, 19)
    assert again.effort.accepted_unchanged == 1
    assert again.entries == a_record.entries


def test_progress_counts_regions_and_expected_error(a_record):
    assert str(a_record.progress()) == "0 of 3 regions, 0% of the expected error"
    a_record.decide(1, "confirmed")
    a_record.decide(3, "ignored")

    progress = a_record.progress()

    assert (progress.decided, progress.regions) == (2, 3)
    assert progress.share_of_error == pytest.approx(45 / 70)
    assert str(progress) == "2 of 3 regions, 64% of the expected error"
    assert (
        str(a_record.progress(a_record.regions[:1])) == "1 of 1 region, 100% of the expected error"
    )


@pytest.mark.parametrize(
    ("decided", "done", "whole", "percent"),
    [(2, 99.6, 100.0, 99), (2, 100.0, 100.0, 99), (1, 29.0, 100.0, 29), (3, 99.99, 100.0, 100)],
)
def test_all_of_the_error_is_decided_only_when_no_region_is_open(decided, done, whole, percent):
    progress = Progress(
        decided=decided, regions=3, decided_error_mm3=done, expected_error_mm3=whole
    )

    assert str(progress) == f"{decided} of 3 regions, {percent}% of the expected error"


def test_progress_of_a_case_without_regions_is_told_in_words(a_record):
    assert str(a_record.progress(())) == "no region is listed"


def test_the_last_step_is_taken_back(a_record):
    label = the_label()
    a_record.decide(1, "confirmed")
    a_record.decide(1, "relabelled", to_class(label, BOXES[0], 2))
    shown = a_record.label(label)

    undone = a_record.undo()

    assert undone is not None
    assert undone.status == "relabelled"
    undone.change.revert(shown)
    assert (shown == label).all()
    assert a_record.statuses == {1: "confirmed"}
    assert a_record.undo().status == "confirmed"
    assert a_record.undo() is None
    assert a_record.statuses == {}


def test_an_earlier_step_is_taken_back_without_the_later_ones(a_result, a_record):
    label = the_label()
    first = a_record.decide(1, "relabelled", to_class(label, BOXES[0], 2))
    after = a_record.label(label)
    wider = ((1, 4), (2, 6), (1, 5))
    drawn = after.copy()
    drawn[3, 5, 4] = 3
    a_record.edit(1, Change.between(after[1:4, 2:6, 1:5], drawn[1:4, 2:6, 1:5], wider))

    a_record.undo(first.n)

    expected = label.copy()
    expected[3, 5, 4] = 3
    assert (a_record.label(label) == expected).all()
    assert (ReviewRecord.open(a_result, "ann").label(label) == expected).all()
    with pytest.raises(UsageError, match=r"Line 2 .* nothing that can be taken back"):
        a_record.undo(first.n)


def test_a_verdict_is_taken_back_too(a_record):
    a_record.give_verdict("accepted", "fine")
    a_record.give_verdict("rejected", "moved")

    a_record.undo()

    assert (a_record.verdict, a_record.comment) == ("accepted", "fine")


def test_a_region_that_was_drawn_in_and_then_confirmed_is_not_accepted_unchanged(a_record):
    for region in (1, 2):
        a_record.edit(region, to_class(a_record.label(the_label()), BOXES[region - 1], 3))
        a_record.decide(region, "confirmed")
    a_record.decide(3, "confirmed")

    assert a_record.effort.accepted_unchanged == 1
    lines, _ = summary_lines([a_record.folder])
    assert _precision(lines, _redrawn(read_cohort(a_record.folder.parent))).startswith("67 % of")
    a_record.undo(of=a_record.entries[0].n)
    assert (a_record.effort.accepted_unchanged, a_record.redrawn) == (2, {2})


def test_a_line_is_plain_json_that_says_when(a_record):
    a_record.decide(2, "confirmed")

    lines = [json.loads(line) for line in a_record.path.read_text().splitlines()]

    assert [line["n"] for line in lines] == [1, 2]
    assert lines[0]["format"] == "semisupseg-review"
    assert {key: lines[1][key] for key in ("kind", "region", "status", "change")} == {
        "kind": "decision",
        "region": 2,
        "status": "confirmed",
        "change": None,
    }
    assert "+" in lines[1]["t"] or "-" in lines[1]["t"][10:]


def test_a_cut_off_last_line_is_passed_over_and_removed_by_the_next(a_result, a_record):
    a_record.decide(1, "confirmed")
    whole = a_record.path.read_bytes()
    for rest in (b'{"n": 3, "t": "2026', b"\0" * 50, b"\0\0\n\0\0"):
        a_record.path.write_bytes(whole + rest)

        again = ReviewRecord.open(a_result, "ann")
        assert again.statuses == {1: "confirmed"}
        again.decide(2, "ignored")

        assert ReviewRecord.open(a_result, "ann").statuses == {1: "confirmed", 2: "ignored"}
        assert a_record.path.read_bytes().startswith(whole)
        assert b"\0" not in a_record.path.read_bytes()


def test_a_program_that_was_killed_while_it_wrote_loses_its_last_line_at_most(a_result, a_record):
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from SemiSupSegLib.review.change import Change\n"
        "from SemiSupSegLib.review.record import ReviewRecord\n"
        f"record = ReviewRecord.open(Path({str(a_result)!r}), 'ann')\n"
        "one = np.random.default_rng(0).integers(0, 4, (6, 10, 8)).astype(np.uint8)\n"
        "other = (one + 1) % 4\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    record.edit(number, Change.between(one, other))\n"
        "    print(number, flush=True)\n"
        "    one, other = other, one\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    told = [child.stdout.readline() for _ in range(20)]
    child.kill()
    told += child.communicate()[0].splitlines()
    said = max(int(line) for line in told if line.strip())

    again = ReviewRecord.open(a_result, "ann")

    assert len(again.entries) >= said, "what was said to be saved is there"
    assert len(again.entries) <= said + 1
    again.decide(1, "confirmed")
    assert ReviewRecord.open(a_result, "ann").statuses == {1: "confirmed"}


def test_a_full_disk_is_told_and_nothing_is_half_there(a_record, monkeypatch):
    a_record.decide(1, "confirmed")
    whole = a_record.path.read_bytes()
    real = os.fsync

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SemiSupSegError, match=r"No space left on device.*not saved.*repeat it"):
        a_record.decide(2, "confirmed")
    monkeypatch.setattr(os, "fsync", real)

    assert a_record.path.read_bytes() == whole
    assert a_record.statuses == {1: "confirmed"}
    a_record.decide(2, "ignored")
    assert a_record.statuses == {1: "confirmed", 2: "ignored"}


@pytest.mark.parametrize("num_written", range(7))
def test_a_review_that_cannot_be_begun_anew_for_a_full_disk_is_as_it_was(
    a_result, a_record, monkeypatch, num_written
):
    a_record.decide(1, "confirmed")
    before = {one.name: one.read_bytes() for one in a_result.iterdir()}
    real, left = os.fsync, iter([True] * num_written)

    def full(descriptor):
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode) and not next(left, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SemiSupSegError, match=r"No space left on device"):
        begin(a_result, anew=True)
    monkeypatch.setattr(os, "fsync", real)

    assert {one.name: one.read_bytes() for one in a_result.iterdir()} == before
    begin(a_result, anew=True)
    assert ReviewRecord.open(a_result, "ann").statuses == {}
    assert (a_result / "review.ann.1.jsonl").read_bytes() == before["review.ann.jsonl"]


def test_a_review_that_another_window_begins_anew_at_the_same_time_is_kept(
    a_result, a_record, monkeypatch
):
    a_record.decide(1, "confirmed")
    begin_one = ReviewRecord.begin

    def begin_two(*args, **values):
        monkeypatch.setattr(ReviewRecord, "begin", begin_one)
        begin(a_result).decide(2, "ignored")
        return begin_one(*args, **values)

    monkeypatch.setattr(ReviewRecord, "begin", begin_two)
    with pytest.raises(SemiSupSegError, match=r"There is a review already"):
        begin(a_result, anew=True)

    assert ReviewRecord.open(a_result, "ann").statuses == {2: "ignored"}
    assert b'"confirmed"' in (a_result / "review.ann.1.jsonl").read_bytes()


def test_a_folder_that_cannot_be_written_is_told_with_what_to_do(tmp_path, monkeypatch):
    folder = make_result(tmp_path)

    def refused(prefix, suffix, dir):
        name = str(dir / f"{prefix}w_9p{suffix}")
        raise PermissionError(errno.EACCES, "Permission denied", name)

    monkeypatch.setattr(tempfile, "mkstemp", refused)
    with pytest.raises(SemiSupSegError) as told:
        begin(folder, "bob-2")

    assert str(told.value) == (
        "The review of p1 cannot be begun. Nothing can be written to the folder "
        f"{folder} (Permission denied). Ask for the right to write there, or copy the folder to a "
        "place of your own and use the copy."
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_takes_no_byte_is_told(tmp_path):
    journal = Journal.create(tmp_path / "a.jsonl", {"n": 1})
    journal.path = Path("/dev/full")
    journal._seen = 0
    journal._head = b""
    journal._whole = 0

    with pytest.raises(SemiSupSegError, match="cannot be written"):
        journal.append({"n": 2})


def test_of_two_programs_the_slower_one_is_refused_and_nothing_is_lost(a_result, a_record):
    other = ReviewRecord.open(a_result, "ann")
    a_record.decide(1, "confirmed")

    with pytest.raises(ChangedElsewhereError, match=r"Another program has written.*Open the case"):
        other.decide(1, "ignored")

    assert other.statuses == {}
    assert ReviewRecord.open(a_result, "ann").statuses == {1: "confirmed"}


def test_programs_that_write_at_once_leave_a_record_that_can_be_read(a_result):
    begin(a_result)
    saved, barrier = [], threading.Barrier(4)

    def decide(number):
        barrier.wait()
        for region in range(20):
            try:
                ReviewRecord.open(a_result, "ann").decide(100 * number + region, "confirmed")
                saved.append(100 * number + region)
            except ChangedElsewhereError:
                pass

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(ReviewRecord.open(a_result, "ann").statuses) == sorted(saved)


def test_a_review_begun_anew_by_another_program_is_not_written_to(a_result, a_record):
    begin(a_result, anew=True)

    with pytest.raises(ChangedElsewhereError, match="Open the case again"):
        a_record.decide(1, "confirmed")

    assert ReviewRecord.open(a_result, "ann").statuses == {}


def test_beginning_anew_keeps_the_former_review_under_a_number(a_result, a_record):
    a_record.decide(1, "confirmed")
    former = a_record.path.read_bytes()
    begin(a_result, anew=True).decide(2, "ignored")
    begin(a_result, anew=True)

    assert (a_result / "review.ann.1.jsonl").read_bytes() == former
    for number in (1, 2):
        for suffix in (".jsonl", ".label.nii.gz", ".regions.json", ".regions.nii.gz"):
            assert (a_result / f"review.ann.{number}{suffix}").is_file()
    assert ReviewRecord.open(a_result, "ann").statuses == {}
    assert reviewers(a_result) == ("ann",)


def test_a_review_is_not_begun_twice(a_result, a_record):
    a_record.decide(1, "confirmed")

    with pytest.raises(SemiSupSegError, match="There is a review already"):
        begin(a_result)

    assert ReviewRecord.open(a_result, "ann").statuses == {1: "confirmed"}


def test_a_review_whose_program_was_killed_while_it_began_begins_again(a_result):
    (a_result / "review.ann.jsonl").write_bytes(b'{"n":1,"t":"20')

    assert not has_review(a_result, "ann")
    assert begin(a_result).statuses == {}


def test_two_reviewers_do_not_meet(a_result):
    begin(a_result, "ann").decide(1, "confirmed")
    begin(a_result, "bob-2").decide(1, "ignored")

    assert reviewers(a_result) == ("ann", "bob-2")
    assert ReviewRecord.open(a_result, "ann").statuses == {1: "confirmed"}
    assert ReviewRecord.open(a_result, "bob-2").statuses == {1: "ignored"}


@pytest.mark.parametrize("alias", ["-", "-x", "--all"])
def test_an_alias_that_a_command_line_takes_for_an_option_is_refused(a_result, alias):
    with pytest.raises(UsageError, match="the first one not a -"):
        begin(a_result, alias)


@pytest.mark.parametrize("alias", ["", "Ann", "a.b", "a b", "../x", "x" * 33, "né"])
def test_an_alias_that_cannot_be_in_a_file_name_is_refused(a_result, alias):
    with pytest.raises(UsageError, match="cannot be a reviewer's alias"):
        begin(a_result, alias)


def test_a_new_prediction_leaves_the_review_whole(a_result, a_record):
    assert not a_record.is_of_other_result
    a_record.decide(1, "relabelled", to_class(the_label(), BOXES[0], 2))
    expected = a_record.label(the_label())
    changed = the_label()
    changed[0] = 2
    make_result(a_result.parent, label=changed)

    again = ReviewRecord.open(a_result, "ann")

    assert again.is_of_other_result
    from SemiSupSegLib.cases.case import ImageSource
    from SemiSupSegLib.review.result_label import reviewed_label

    assert (reviewed_label(again).values == expected).all()
    assert read_label(ImageSource(path=again.label_file), again.task).GetSize() == SHAPE[::-1]


def test_a_base_label_that_was_changed_is_not_replayed_on(a_record):
    from SemiSupSegLib.review.result_label import reviewed_label

    a_record.label_file.write_bytes((a_record.folder / "p1_confidence.nii.gz").read_bytes())

    with pytest.raises(SemiSupSegError, match="was changed since the review began"):
        reviewed_label(a_record)


def test_a_label_map_of_another_shape_is_not_replayed_on(a_record):
    with pytest.raises(SemiSupSegError, match=r"of \(6, 10, 8\) voxels, this one has \(2, 2, 2\)"):
        a_record.label(np.zeros((2, 2, 2), np.uint8))


def rewritten(record: ReviewRecord, edit) -> None:
    lines = [json.loads(line) for line in record.path.read_text().splitlines()]
    edit(lines)
    record.path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda lines: lines[0].update(format="other"), "is not a SemiSupSeg review-record file"),
        (lambda lines: lines[0].update(version=2), "newer SemiSupSeg"),
        (lambda lines: lines[0].update(reviewer="bob"), "is a review by bob"),
        (lambda lines: lines[1].update(kind="poll"), "does not know. Update SemiSupSeg"),
        (lambda lines: lines[1].update(n=7), "line 2 has the number 7"),
        (lambda lines: lines[1].update(status="perhaps"), "line 2 decides nothing"),
        (lambda lines: lines[1].pop("t"), "line 2 lacks 't'"),
        (lambda lines: lines[2].update(of=9), "takes back a line that is not in force"),
        (lambda lines: lines[1].update(change={"box": [[0, 1]]}), "lacks its box or its voxels"),
        (
            lambda lines: lines[1].update(
                change={"box": [[0, 9], [0, 1], [0, 1]], "before": "", "after": ""}
            ),
            "lies outside the label map",
        ),
    ],
)
def test_a_damaged_record_is_told_in_a_sentence(a_result, a_record, edit, match):
    a_record.decide(1, "confirmed")
    a_record.undo()
    rewritten(a_record, edit)

    with pytest.raises(SemiSupSegError, match=match):
        ReviewRecord.open(a_result, "ann")


def test_a_damaged_line_in_the_middle_is_told_by_its_number(a_result, a_record):
    a_record.decide(1, "confirmed")
    lines = a_record.path.read_bytes().splitlines(keepends=True)
    a_record.path.write_bytes(lines[0] + b'{"n": 2, \n' + lines[1])

    with pytest.raises(SemiSupSegError, match="its line 2 is not JSON"):
        ReviewRecord.open(a_result, "ann")


def test_damaged_voxels_of_a_change_are_told(a_result, a_record):
    a_record.decide(1, "relabelled", to_class(the_label(), BOXES[0], 2))
    rewritten(a_record, lambda lines: lines[1]["change"].update(after="AAAA"))

    with pytest.raises(SemiSupSegError, match="is damaged: the voxels of a change do not unpack"):
        ReviewRecord.open(a_result, "ann").label(the_label())


def test_a_review_that_is_not_there_is_told(a_result):
    with pytest.raises(SemiSupSegError, match="does not exist"):
        ReviewRecord.open(a_result, "nobody")


def test_statuses_and_verdicts_are_of_a_list(a_record):
    with pytest.raises(UsageError, match="confirmed, fixed, relabelled, ignored, not 'done'"):
        a_record.decide(1, "done")
    with pytest.raises(UsageError, match="accepted, corrected, rejected"):
        a_record.give_verdict("perfect")
    with pytest.raises(UsageError, match="lies outside the label map"):
        a_record.edit(1, Change(((0, 7), (0, 1), (0, 1)), "", "", 0))
    assert a_record.entries == ()


def test_regions_may_be_given_as_they_were_found(a_result):
    from SemiSupSegLib.review.regions import region_from_json

    record = ReviewRecord.begin(
        a_result,
        "ann",
        case="p1",
        task=begin(a_result, "bob").task,
        shape=SHAPE,
        label_file=a_result / "p1_label.nii.gz",
        regions=[region_from_json(one) for one in the_regions()],
        regions_file=None,
        model_sha256="0" * 64,
    )

    assert [one.id for one in record.regions] == [1, 2, 3]
    assert not record.regions_file.exists()
