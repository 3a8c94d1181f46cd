"""What is decided on this machine reaches the result's folder, whatever comes between."""

import json
import os
import sys
import time

import pytest

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.review.journal import ChangedElsewhereError, put_aside
from SemiSupSegLib.review.outbox import (
    carry,
    carry_all,
    copy_to_outbox,
    forget_old,
    outbox,
    outboxes,
)
from SemiSupSegLib.review.record import ReviewRecord
from SemiSupSegLib.review.result_label import reviewed_label
from Testing.data.make_review_folder import begin, make_result


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def a_result(tmp_path):
    return make_result(tmp_path / "out")


@pytest.fixture
def a_box(a_result):
    return copy_to_outbox(begin(a_result))


def here(box):
    """Return the record as the window has it."""
    return ReviewRecord.open(box.path, box.reviewer)


def there(box, name="ann"):
    """Return the lines of a record in the result's folder."""
    text = (box.folder / f"review.{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def statuses(lines):
    return {line["region"]: line["status"] for line in lines if line["kind"] == "decision"}


def on_another_machine(monkeypatch, tmp_path, result):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "other home"))
    return copy_to_outbox(ReviewRecord.open(result, "ann"))


def test_a_list_that_is_missing_is_named(a_result, a_box):
    record = ReviewRecord.open(a_result, "ann")
    (a_result / "review.ann.regions.json").unlink()

    with pytest.raises(SemiSupSegError, match=r"review\.ann\.regions\.json cannot be read"):
        copy_to_outbox(record)


def test_what_is_decided_here_is_carried_there_once(a_box):
    assert not a_box.is_waiting
    here(a_box).decide(1, "confirmed")
    here(a_box).decide(2, "ignored")
    assert a_box.is_waiting
    assert len(there(a_box)) == 1

    first = carry(a_box)
    again = carry(a_box)

    assert not a_box.is_waiting
    assert first == again
    assert not first.is_aside
    assert a_box.record_file.read_bytes() == first.target.read_bytes()
    assert statuses(there(a_box)) == {1: "confirmed", 2: "ignored"}
    assert outboxes() == (a_box,)
    assert outbox(a_box.path) == a_box


def test_a_carrier_that_was_killed_in_the_middle_of_a_line_does_no_harm(a_box):
    here(a_box).decide(1, "confirmed")
    line = a_box.record_file.read_bytes().splitlines(keepends=True)[-1]
    with (a_box.folder / "review.ann.jsonl").open("ab") as stream:
        stream.write(line[:-7])

    carry(a_box)

    assert a_box.record_file.read_bytes() == (a_box.folder / "review.ann.jsonl").read_bytes()


def test_a_window_that_was_killed_in_the_middle_of_a_line_leaves_it_out(a_box):
    here(a_box).decide(1, "confirmed")
    with a_box.record_file.open("ab") as stream:
        stream.write(b'{"n":3,"t":"20')

    carry(a_box)

    assert statuses(there(a_box)) == {1: "confirmed"}
    assert not a_box.is_waiting
    here(a_box).decide(2, "ignored")
    carry(a_box)
    assert statuses(there(a_box)) == {1: "confirmed", 2: "ignored"}


def test_a_folder_that_is_away_for_a_while_gets_it_afterwards(a_box):
    away = a_box.folder.with_name("away")
    a_box.folder.rename(away)
    here(a_box).decide(1, "confirmed")

    with pytest.raises(SemiSupSegError, match="kept on this machine"):
        carry(a_box)

    assert a_box.is_waiting
    here(a_box).decide(2, "ignored")
    away.rename(a_box.folder)
    assert [one.is_aside for one in carry_all(a_box.folder.parent)] == [False]
    assert statuses(there(a_box)) == {1: "confirmed", 2: "ignored"}


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="rights do not hinder this user"
)
def test_a_folder_without_the_right_to_write_is_told(a_box):
    here(a_box).decide(1, "confirmed")
    file = a_box.folder / "review.ann.jsonl"
    file.chmod(0o400)

    with pytest.raises(SemiSupSegError, match="cannot be written"):
        carry(a_box)

    assert a_box.is_waiting


def test_two_machines_do_not_overwrite_each_other(a_result, a_box, monkeypatch, tmp_path):
    other = on_another_machine(monkeypatch, tmp_path, a_result)
    assert other.path != a_box.path
    here(other).decide(1, "ignored")
    here(a_box).decide(1, "confirmed")
    carry(a_box)

    done = carry(other)

    assert done.is_aside
    assert done.target.name == "review.ann.1.jsonl"
    assert statuses(there(a_box)) == {1: "confirmed"}
    assert statuses(there(a_box, "ann.1")) == {1: "ignored"}
    for suffix in ("label.nii.gz", "regions.json", "regions.nii.gz"):
        former = (a_result / f"review.ann.{suffix}").read_bytes()
        assert (a_result / f"review.ann.1.{suffix}").read_bytes() == former
    here(other).decide(2, "ignored")
    assert carry(other) == done
    assert statuses(there(a_box, "ann.1")) == {1: "ignored", 2: "ignored"}
    assert statuses(there(a_box)) == {1: "confirmed"}


def test_after_that_the_case_is_opened_as_it_stands_there(a_result, a_box, monkeypatch, tmp_path):
    other = on_another_machine(monkeypatch, tmp_path, a_result)
    here(other).decide(1, "ignored")
    here(a_box).decide(1, "confirmed")
    carry(a_box)
    carry(other)

    again = copy_to_outbox(ReviewRecord.open(a_result, "ann"))

    assert again.path == other.path
    assert here(again).statuses == {1: "confirmed"}
    assert not again.is_waiting
    here(again).decide(2, "ignored")
    assert not carry(again).is_aside
    assert statuses(there(again)) == {1: "confirmed", 2: "ignored"}


def test_what_was_decided_on_another_machine_is_seen_when_the_case_is_opened(
    a_result, a_box, monkeypatch, tmp_path
):
    open_window = here(a_box)
    other = on_another_machine(monkeypatch, tmp_path, a_result)
    here(other).decide(1, "ignored")
    carry(other)
    monkeypatch.setenv("SEMISUPSEG_HOME", str(a_box.path.parents[1]))

    again = copy_to_outbox(ReviewRecord.open(a_result, "ann"))

    assert again == a_box
    assert here(again).statuses == {1: "ignored"}
    assert not again.is_waiting
    # A second window here, which has not seen that, is refused, and nothing is lost.
    with pytest.raises(ChangedElsewhereError, match="Open the case again"):
        open_window.decide(1, "confirmed")


def test_a_review_that_was_begun_anew_elsewhere_keeps_the_former_one_whole(a_result, a_box):
    here(a_box).decide(1, "confirmed")
    new = begin(a_result, anew=True)

    done = carry(a_box)

    assert done.is_aside
    assert done.target.name == "review.ann.1.jsonl"
    assert statuses(there(a_box, "ann.1")) == {1: "confirmed"}
    assert len(there(a_box)) == 1
    assert not (a_result / "review.ann.2.jsonl").exists()
    assert copy_to_outbox(new).path != a_box.path


def test_lines_are_not_added_to_a_file_that_was_moved_meanwhile(a_box):
    open_window = here(a_box)
    moved = a_box.path / "superseded.1.jsonl"
    data = a_box.record_file.read_bytes()
    put_aside(a_box.record_file, moved)
    with pytest.raises(ChangedElsewhereError, match="no longer there"):
        open_window.decide(1, "confirmed")
    a_box.record_file.write_bytes(data)
    open_window.decide(1, "confirmed")

    assert moved.read_bytes() == data
    assert here(a_box).statuses == {1: "confirmed"}


def test_only_what_waits_is_kept_for_ever(a_result, a_box):
    other = copy_to_outbox(begin(a_result, "bob"))
    here(other).decide(1, "confirmed")
    long_ago = time.time() - 15 * 86400
    for box in (a_box, other):
        os.utime(box.record_file, (long_ago, long_ago))

    forget_old()

    assert outboxes() == (other,)


def test_one_that_was_used_yesterday_is_kept(a_box):
    forget_old()

    assert outboxes() == (a_box,)


def test_a_command_on_a_result_knows_what_was_decided_on_this_machine(a_result, a_box, capsys):
    here(a_box).decide(1, "confirmed")

    assert main(["review", "status", "--result", str(a_result)]) == 0

    assert "1 of 3" in capsys.readouterr().out
    assert not a_box.is_waiting


def test_no_file_is_made_of_half_of_the_decisions_and_a_look_is_still_possible(
    a_result, a_box, tmp_path, capsys
):
    begin(make_result(tmp_path / "out", "p2"))
    here(a_box).decide(1, "confirmed")
    record = a_result / "review.ann.jsonl"
    record.unlink()
    record.mkdir()
    words = ["--results", str(tmp_path / "out")]

    assert main(["review", "export", *words, "--format", "csv"]) == 1
    assert "kept on this machine" in capsys.readouterr().err
    assert not (tmp_path / "out" / "review.csv").exists()
    assert main(["review", "cohort", *words]) == 0

    said = capsys.readouterr()
    assert "p2" in said.out
    assert "kept on this machine" in said.err
    assert a_box.is_waiting


def test_the_command_carries_what_waits_and_names_what_cannot_be(a_result, a_box, tmp_path, capsys):
    gone = copy_to_outbox(begin(make_result(tmp_path / "gone"), "bob"))
    here(gone).decide(1, "ignored")
    here(a_box).decide(1, "confirmed")
    (tmp_path / "gone").rename(tmp_path / "elsewhere")
    answer = tmp_path / "answer.json"

    assert main(["review", "carry", "--json", str(answer)]) == 1

    content = json.loads(answer.read_text(encoding="utf-8"))
    assert [one["target"] for one in content["carried"]] == [str(a_result / "review.ann.jsonl")]
    assert str(gone.folder) in content["problems"][0]
    assert "Error: " in capsys.readouterr().err
    assert statuses(there(a_box)) == {1: "confirmed"}
    assert gone.is_waiting


def test_a_damaged_outbox_is_named(a_box, tmp_path, capsys):
    (a_box.path / "outbox.json").write_text('{"format": "semisupseg-review-outbox", "version": 2}')

    assert main(["review", "carry", "--outbox", str(a_box.path)]) == 1

    assert "newer" in capsys.readouterr().err
    assert outboxes() == ()


def test_the_label_follows_what_was_carried(a_result, a_box):
    before = reviewed_label(ReviewRecord.open(a_result, "ann")).values
    record = here(a_box)
    from SemiSupSegLib.review.change import Change

    after = before.copy()
    after[1, 2, 1:3] = 2
    change = Change.between(before, after)
    assert change is not None
    record.edit(1, change)

    carry(a_box)

    values = reviewed_label(ReviewRecord.open(a_result, "ann")).values
    assert (values == after).all()
