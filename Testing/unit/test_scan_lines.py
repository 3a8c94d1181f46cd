"""A scan tells of each case while it goes on, and takes patients from a pattern."""

import json
from pathlib import Path

import pytest

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.cases.discovery import discover
from SemiSupSegLib.cases.split import default_split
from SemiSupSegLib.errors import UsageError
from Testing.data.folder_layouts import write_brats_case, write_cohort


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_STORE", str(tmp_path / "store"))


@pytest.fixture
def a_cohort(tmp_path) -> Path:
    write_cohort(tmp_path / "cohort", {"a7_1": True, "b9_1": False})
    write_brats_case(tmp_path / "cohort" / "c2_1", seed=3)
    (tmp_path / "cohort" / "c2_1" / "c2_1_t2.nii.gz").unlink()
    return tmp_path / "cohort"


def lines_of(folder: Path, *words: str) -> list[dict]:
    file = folder.parent / "lines" / "scan.jsonl"
    assert main(["scan", str(folder), "--lines", str(file), *words]) == 0
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_cases_are_told_by_name_first_and_again_when_checked(a_cohort):
    first, *rows, last = lines_of(a_cohort)

    assert (first["kind"], first["layout"], first["total"]) == ("scan", "case_folders", 3)
    assert first["task"]["name"] == "brats"
    assert first["task"]["title"]
    by_name, checked = rows[:3], rows[3:]
    assert [(one["id"], one["is_checked"], one["size"]) for one in by_name] == [
        ("a7_1", False, None),
        ("b9_1", False, None),
        ("c2_1", False, None),
    ]
    assert [one["state"] for one in by_name] == ["labelled", "unlabelled", "labelled"]
    assert by_name[2]["channels"] == ["t1", "t1ce", "flair"]
    told = {one["id"]: one for one in checked}
    assert {name: one["state"] for name, one in told.items()} == {
        "a7_1": "labelled",
        "b9_1": "unlabelled",
        "c2_1": "unusable",
    }
    assert all(one["is_checked"] for one in checked)
    (reason,) = (one for one in told["c2_1"]["reasons"] if one["severity"] == "error")
    assert reason["code"] == "missing_channel"
    assert reason["remedy"]
    assert last["kind"] == "end"
    assert last["counts"] == {"labelled": 1, "unlabelled": 1, "reviewed": 0, "unusable": 1}


def test_a_line_has_the_size_and_spacing_of_the_first_channel(a_cohort):
    import nibabel

    header = nibabel.load(a_cohort / "a7_1" / "a7_1_t1.nii.gz").header
    row = [one for one in lines_of(a_cohort) if one.get("id") == "a7_1"][-1]

    assert row["size"] == list(header.get_data_shape())
    assert row["spacing"] == pytest.approx([float(side) for side in header.get_zooms()])


def test_a_copy_of_a_scan_is_told_in_a_later_line(tmp_path):
    for name in ("p1", "p2"):
        write_brats_case(tmp_path / "cohort" / name, seed=3)

    rows = [one for one in lines_of(tmp_path / "cohort") if one.get("id") == "p1"]

    codes = [{reason["code"] for reason in one["reasons"]} for one in rows]
    assert codes == [set(), set(), {"duplicate_content"}]


def test_a_pattern_names_the_patients(a_cohort):
    found = {one.id: one.patient for one in discover(a_cohort, patient=r"^([a-z])\d").cases}

    assert found == {"a7_1": "a", "b9_1": "b", "c2_1": "c"}


def test_a_pattern_without_a_group_names_patients_by_all_it_matches(a_cohort):
    rows = lines_of(a_cohort, "--patient", "^[a-z]")

    assert {one["id"]: one["patient"] for one in rows if one["kind"] == "case"} == {
        "a7_1": "a",
        "b9_1": "b",
        "c2_1": "c",
    }


def test_cases_of_one_patient_by_the_pattern_stay_in_one_part_of_the_split(tmp_path):
    write_cohort(tmp_path / "cohort", {f"{one}{two}x": True for one in "ab" for two in "qrst"})

    split = default_split(discover(tmp_path / "cohort", patient="^(.)").cases, seed=0)

    assert {name[0] for name in split.train_labelled} & {name[0] for name in split.validation} == (
        set()
    )
    assert len(split.validation) == 4


def test_a_case_without_a_patient_by_the_pattern_is_warned_of(a_cohort):
    cases = {one.id: one for one in discover(a_cohort, patient="^(a|b)").cases}

    assert [reason.code for reason in cases["a7_1"].reasons] == []
    assert "no_patient" in [reason.code for reason in cases["c2_1"].reasons]
    assert cases["c2_1"].patient == "c2_1"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("^(zz)", "finds no patient in any case id"), ("(", "is no regular expression")],
)
def test_a_pattern_that_names_nobody_is_refused(a_cohort, pattern, message):
    with pytest.raises(UsageError, match=message):
        discover(a_cohort, patient=pattern)
