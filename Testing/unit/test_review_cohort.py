"""A folder of results as a table: what was reviewed, and what should be looked at next."""

import json
import time

import pytest

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.review.cohort import in_order, next_case, read_cohort, read_row, stream_cohort
from Testing.data.make_review_folder import begin, make_result


@pytest.fixture
def a_cohort(tmp_path):
    """Three cases; the second has the most expected error."""
    for case, scale in (("p1", 1.0), ("p2", 3.0), ("p3", 2.0)):
        make_result(tmp_path / "out", case, scale=scale)
    return tmp_path / "out"


def cases(rows):
    return [row.case for row in rows]


def test_unreviewed_cases_come_by_their_expected_error(a_cohort):
    rows = read_cohort(a_cohort)

    assert cases(rows) == ["p2", "p3", "p1"]
    assert [row.expected_error_mm3 for row in rows] == [240.0, 160.0, 80.0]
    assert [row.regions for row in rows] == [3, 3, 3]
    assert all(row.is_open and row.reviews == () for row in rows)


def test_what_is_decided_no_longer_counts_for_the_order(a_cohort):
    record = begin(a_cohort / "p2")
    record.decide(1, "confirmed")
    record.decide(2, "fixed")

    rows = read_cohort(a_cohort)

    # 240 - 3 * (40 + 25) mm³ are left of the first.
    assert [row.open_error_mm3 for row in rows] == [160.0, 80.0, 45.0]
    assert cases(rows) == ["p3", "p1", "p2"]
    (review,) = rows[2].reviews
    assert (review.reviewer, review.decided, review.regions) == ("ann", 2, 3)
    assert (review.decided_error_mm3, review.expected_error_mm3) == (195.0, 210.0)


def test_a_finished_case_goes_to_the_end(a_cohort):
    begin(a_cohort / "p2").give_verdict("accepted")
    record = begin(a_cohort / "p3", "bob")
    for region in (1, 2, 3):
        record.decide(region, "ignored")

    rows = read_cohort(a_cohort)

    assert cases(rows) == ["p1", "p2", "p3"]
    assert [row.is_open for row in rows] == [True, False, False]
    assert rows[1].verdicts == ("accepted",)
    assert next_case(rows).case == "p1"
    assert next_case(rows, after="p1") is None


def test_the_next_case_is_not_the_one_that_is_left_open(a_cohort):
    begin(a_cohort / "p2")

    assert next_case(read_cohort(a_cohort), after="p2").case == "p3"


def test_saved_labels_are_counted(a_cohort):
    for name in ("p1_reviewed.nii.gz", "p1_reviewed-2.nii.gz", "p1_reviewed-x.nii.gz"):
        (a_cohort / "p1" / name).write_bytes(b"")

    assert {row.case: row.saved for row in read_cohort(a_cohort)} == {"p1": 2, "p2": 0, "p3": 0}


def test_no_voxel_is_read(a_cohort):
    begin(a_cohort / "p2").decide(1, "confirmed")
    for file in a_cohort.glob("*/*.nii.gz"):
        file.write_bytes(b"not for your eyes")

    rows = read_cohort(a_cohort)

    assert [row.problem for row in rows] == ["", "", ""]
    assert [one.problem for row in rows for one in row.reviews] == [""]


def test_a_broken_case_is_named_and_does_not_end_the_table(a_cohort):
    (a_cohort / "p2" / "case.json").write_text('{"format": "semisupseg-case-')
    record = begin(a_cohort / "p3")
    record.path.write_text("no record\n")

    rows = read_cohort(a_cohort)

    assert cases(rows) == ["p3", "p1", "p2"]
    assert "cannot be read as JSON" in rows[2].problem
    assert not rows[2].is_open
    assert "line 1 is not JSON" in rows[0].reviews[0].problem


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": 2}, "newer SemiSupSeg"),
        ({"format": "other"}, "damaged or no result"),
        ({"review_regions": [{}], "review": {}}, "damaged or no result"),
        ({"review": []}, "damaged or no result"),
    ],
)
def test_a_case_json_that_makes_no_sense_is_named(a_cohort, change, match):
    file = a_cohort / "p1" / "case.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))

    assert match in read_row(a_cohort / "p1").problem


def test_other_folders_are_passed_over(a_cohort):
    (a_cohort / "notes").mkdir()
    (a_cohort / ".hidden").mkdir()
    (a_cohort / "readme.txt").write_text("")

    assert sorted(cases(stream_cohort(a_cohort))) == ["p1", "p2", "p3"]


def test_a_review_without_its_result_is_named(a_cohort):
    begin(a_cohort / "p1")
    (a_cohort / "p1" / "case.json").unlink()

    row = read_row(a_cohort / "p1")

    assert "holds a review, but no case.json" in row.problem


def test_a_result_without_regions_is_open_and_comes_last(a_cohort):
    file = a_cohort / "p2" / "case.json"
    content = json.loads(file.read_text())
    del content["review_regions"], content["review"]
    file.write_text(json.dumps(content))

    rows = read_cohort(a_cohort)

    assert cases(rows) == ["p3", "p1", "p2"]
    assert rows[2].expected_error_mm3 is None
    assert rows[2].is_open


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UsageError, match="cannot be read as a folder of results"):
        read_cohort(tmp_path / "nowhere")


def test_rows_are_plain_values(a_cohort):
    begin(a_cohort / "p1").decide(1, "confirmed")

    content = json.loads(json.dumps([row.to_json() for row in read_cohort(a_cohort)]))

    assert [one["case"] for one in content] == ["p2", "p3", "p1"]
    assert content[2]["reviews"][0]["decided"] == 1
    assert str(a_cohort) not in json.dumps(content)


def test_two_hundred_cases_are_read_in_a_blink(a_cohort):
    record = begin(a_cohort / "p1")
    for region in (1, 2, 3):
        record.decide(region, "confirmed")
    names = ("case.json", "review.ann.jsonl", "review.ann.regions.json")
    texts = {name: (a_cohort / "p1" / name).read_text() for name in names}
    for number in range(200):
        folder = a_cohort / f"q{number}"
        folder.mkdir()
        for name, text in texts.items():
            (folder / name).write_text(text)

    start = time.process_time()
    rows = in_order(stream_cohort(a_cohort))
    seconds = time.process_time() - start

    assert len(rows) == 203
    assert seconds < 1.0, "2,000 cases are to take less than 2 s, with a wide margin here"
