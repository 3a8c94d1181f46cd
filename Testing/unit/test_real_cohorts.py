"""The real cohorts beside the repository scan without fault."""

from pathlib import Path

import pytest

from SemiSupSegLib.cases.discovery import discover

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "task", "labelled", "unlabelled"),
    [
        ("brats_full", "brats", 2, 3),
        ("brats_whole", "brats", 14, 1),
        ("brats_cubes", "brats", 300, 0),
        ("la", "binary", 80, 0),
    ],
)
def test_a_real_cohort_has_no_unusable_case(name, task, labelled, unlabelled, tmp_path):
    folder = DATA / name / "cases"
    if not folder.is_dir():
        pytest.skip(f"{name} is not beside the repository (../shared/data)")

    # The voxels of whole brains take seconds; their headers are enough here.
    result = discover(folder, cache=tmp_path / "scan.jsonl", check_content=name == "la")

    assert result.task.name == task
    assert result.counts == {
        "labelled": labelled,
        "unlabelled": unlabelled,
        "reviewed": 0,
        "unusable": 0,
    }
    assert [case.reasons for case in result.cases if case.reasons] == []
