"""What was found once is not looked up again, unless a file has changed."""

import json
import os
from pathlib import Path

import pytest

from SemiSupSegLib.cases.discovery import ScanResult, discover
from SemiSupSegLib.cases.inspection import default_cache
from Testing.data.folder_layouts import a_label, an_image, write, write_cohort, write_decathlon


@pytest.fixture
def cohort(tmp_path) -> Path:
    write_cohort(tmp_path / "cohort", {"p1": True, "p2": False})
    return tmp_path / "cohort"


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache" / "scan.jsonl"


def summary(result: ScanResult) -> list[object]:
    return [(case.id, case.state, case.reasons) for case in result.cases]


def test_a_second_scan_reads_no_content_and_finds_the_same(cohort, cache):
    write(cohort / "p2" / "p2_t1.nii.gz", an_image(100))  # the same image as p1's t1
    first = discover(cohort, cache=cache)
    second = discover(cohort, cache=cache)

    assert first.bytes_read == sum(path.stat().st_size for path in cohort.rglob("*.nii.gz"))
    assert second.bytes_read == 0
    assert summary(second) == summary(first)
    assert any(case.reasons for case in first.cases)


def test_a_second_scan_of_4d_files_finds_the_same(tmp_path, cache):
    write_decathlon(tmp_path / "msd")

    first = discover(tmp_path / "msd", cache=cache)
    second = discover(tmp_path / "msd", cache=cache)

    assert (second.bytes_read, summary(second)) == (0, summary(first))


def test_a_changed_file_is_read_again(cohort, cache):
    discover(cohort, cache=cache)
    path = write(cohort / "p1" / "p1_seg.nii.gz", a_label((0, 9)))

    second = discover(cohort, cache=cache)

    assert second.bytes_read == path.stat().st_size
    assert second.cases[0].state.value == "unusable"


def test_a_file_of_equal_size_with_another_time_is_read_again(cohort, cache):
    discover(cohort, cache=cache)
    path = cohort / "p1" / "p1_seg.nii.gz"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))

    assert discover(cohort, cache=cache).bytes_read == path.stat().st_size


def test_damage_is_not_remembered(cohort, cache):
    path = cohort / "p1" / "p1_t1.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert discover(cohort, cache=cache).cases[0].state.value == "unusable"

    path.write_bytes(whole)

    assert discover(cohort, cache=cache).cases[0].state.value == "labelled"


def test_a_scan_of_headers_is_no_substitute_for_the_content(cohort, cache):
    discover(cohort, cache=cache, check_content=False)

    assert discover(cohort, cache=cache).bytes_read > 0


def test_a_torn_or_foreign_line_is_passed_over(cohort, cache):
    discover(cohort, cache=cache)
    lines = cache.read_text().splitlines()
    foreign = json.dumps({**json.loads(lines[1]), "record": 99})
    cache.write_text("\n".join([*lines[2:], foreign, lines[0][: len(lines[0]) // 2]]))

    second = discover(cohort, cache=cache)

    assert second.bytes_read > 0
    assert [case.state.value for case in second.cases] == ["labelled", "unlabelled"]
    assert discover(cohort, cache=cache).bytes_read == 0


def test_outdated_lines_are_dropped(cohort, cache):
    path = cohort / "p1" / "p1_t1.nii.gz"
    for time in range(12):
        os.utime(path, ns=(0, time))
        discover(cohort, cache=cache)

    # Nine files; the file is rewritten before it holds twice as many lines.
    assert len(cache.read_text().splitlines()) < 18


def test_a_cache_that_cannot_be_written_costs_time_only(cohort, tmp_path, caplog):
    (tmp_path / "taken").write_text("a file where a folder should be")

    result = discover(cohort, cache=tmp_path / "taken" / "scan.jsonl")

    assert [case.state.value for case in result.cases] == ["labelled", "unlabelled"]
    assert "the next scan will be as slow" in caplog.text


def test_the_cache_lies_in_the_store_by_default(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_STORE", str(tmp_path / "store"))

    discover(cohort)

    assert default_cache(cohort).parent == tmp_path / "store" / "scans"
    assert default_cache(cohort).is_file()
    assert discover(cohort / ".." / "cohort").bytes_read == 0
