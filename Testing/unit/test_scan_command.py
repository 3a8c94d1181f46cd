"""`scan` tells a person what it found, and a program the same as JSON."""

import json
import os
from pathlib import Path

import pytest

from SemiSupSegLib.__main__ import main
from Testing.data.folder_layouts import (
    a_label,
    an_image,
    write,
    write_brats_case,
    write_cohort,
    write_decathlon,
)


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_STORE", str(tmp_path / "store"))


@pytest.fixture
def cohort(tmp_path) -> Path:
    write_cohort(tmp_path / "cohort", {"p1": True, "p2": False})
    write_brats_case(tmp_path / "cohort" / "p3", seed=3)
    (tmp_path / "cohort" / "p3" / "p3_t2.nii.gz").unlink()
    return tmp_path / "cohort"


def test_the_json_has_every_case_with_state_files_and_reasons(cohort, tmp_path):
    code = main(["scan", str(cohort), "--json", str(tmp_path / "out.json")])

    content = json.loads((tmp_path / "out.json").read_text())
    assert code == 0
    assert (content["task"], content["layout"]) == ("brats", "case_folders")
    assert content["counts"] == {"labelled": 1, "unlabelled": 1, "reviewed": 0, "unusable": 1}
    assert content["seconds"] > 0
    assert content["rate"]["cases_per_s"] > 0
    assert content["rate"]["mb_per_s"] > 0
    first, _, third = content["cases"]
    assert first == {
        "id": "p1",
        "patient": "p1",
        "state": "labelled",
        "channels": {
            name: str(cohort / "p1" / f"p1_{name}.nii.gz") for name in ("t1", "t1ce", "t2", "flair")
        },
        "label": str(cohort / "p1" / "p1_seg.nii.gz"),
        "reasons": [],
    }
    assert third["reasons"] == [
        {
            "code": "missing_channel",
            "severity": "error",
            "file": str(cohort / "p3"),
            "message": "no file is named as channel t2",
            "remedy": "Add a file whose name ends with t2 (or t2w); if the data set is not of task "
            "'brats', which was recognised by its file names, name yours with --task",
        }
    ]


def test_a_given_task_is_not_doubted(cohort, tmp_path):
    main(["scan", str(cohort), "--task", "brats", "--json", str(tmp_path / "out.json")])

    (reason,) = json.loads((tmp_path / "out.json").read_text())["cases"][2]["reasons"]
    assert reason["remedy"] == "Add a file whose name ends with t2 (or t2w)"


def test_volumes_of_a_4d_file_are_told_apart_in_the_json(tmp_path):
    write_decathlon(tmp_path / "msd")

    main(["scan", str(tmp_path / "msd"), "--json", str(tmp_path / "out.json")])

    case = json.loads((tmp_path / "out.json").read_text())["cases"][0]
    assert case["components"] == {"t1": 1, "t1ce": 2, "t2": 3, "flair": 0}
    assert len(set(case["channels"].values())) == 1


def test_a_person_reads_what_is_wrong_and_what_to_do(cohort, capsys):
    assert main(["scan", str(cohort)]) == 0

    shown = capsys.readouterr().out
    assert "p3: unusable\n  error: no file is named as channel t2. Add a file" in shown
    assert "3 cases (1 labelled, 1 unlabelled, 1 unusable), task brats" in shown
    assert "cases/s" in shown
    assert "MB/s" in shown


def test_one_case_is_told_in_the_singular(tmp_path, capsys):
    write_brats_case(tmp_path / "cohort" / "p1", seed=1)

    assert main(["scan", str(tmp_path / "cohort")]) == 0

    assert capsys.readouterr().out.startswith("1 case (1 labelled), task brats")


def test_skipped_folders_of_our_own_results_are_counted_and_named(cohort, tmp_path, capsys):
    folder = cohort / "results" / "p1"
    folder.mkdir(parents=True)
    (folder / "case.json").write_text('{"format": "semisupseg-case-result"}')

    main(["scan", str(cohort), "--json", str(tmp_path / "out.json")])

    assert f"Skipped 1 folder with results of SemiSupSeg ({folder})" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["num_result_folders"] == 1


def test_a_second_scan_says_that_nothing_has_changed(cohort, capsys):
    main(["scan", str(cohort)])
    main(["scan", str(cohort)])

    assert "nothing has changed since the last check" in capsys.readouterr().out


def test_headers_only_says_that_the_content_was_not_checked(cohort, capsys):
    main(["scan", str(cohort), "--headers-only"])

    shown = capsys.readouterr().out
    assert "headers only, content not checked" in shown
    assert "MB/s" not in shown


def test_the_json_makes_its_folder(cohort, tmp_path):
    file = tmp_path / "not" / "yet" / "out.json"

    assert main(["scan", str(cohort), "--json", str(file)]) == 0
    assert len(json.loads(file.read_text())["cases"]) == 3


def test_a_json_that_cannot_be_written_is_told_before_the_scan(cohort, tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")

    for file in (tmp_path / "file" / "out.json", tmp_path):
        assert main(["scan", str(cohort), "--json", str(file)]) == 1

    streams = capsys.readouterr()
    assert f"Nothing can be written to the folder {tmp_path / 'file'} (" in streams.err
    assert f"{tmp_path} is a folder. Give the name of a file." in streams.err
    assert "cases/s" not in streams.out


def test_what_the_system_refuses_is_a_sentence_and_no_traceback(cohort, tmp_path, capsys):
    # No file can have so long a name, which is found out only when it is written.
    file = tmp_path / ("x" * 300 + ".json")

    assert main(["scan", str(cohort), "--json", str(file)]) == 1

    told = capsys.readouterr().err
    assert "File name too long. Check that the path exists and may be read and written" in told
    assert "Traceback" not in told


def test_json_can_go_to_the_terminal(cohort, capsys):
    main(["scan", str(cohort), "--json", "-"])

    assert len(json.loads(capsys.readouterr().out)["cases"]) == 3


def test_what_was_found_can_be_kept_elsewhere(cohort, tmp_path):
    main(["scan", str(cohort), "--store", str(tmp_path / "mine")])

    assert list((tmp_path / "mine" / "scans").glob("*.jsonl"))
    assert not (tmp_path / "store").exists()


def test_an_empty_folder_is_a_failure_that_says_what_was_looked_for(tmp_path, capsys):
    (tmp_path / "empty").mkdir()

    assert main(["scan", str(tmp_path / "empty")]) == 1
    assert "holds no images. Looked for .nii," in capsys.readouterr().err


def test_a_folder_that_may_not_be_read_is_a_failure_that_names_it(tmp_path, monkeypatch, capsys):
    for name in ("p1", "p2"):
        write(tmp_path / "images" / f"{name}.nii.gz", an_image(1))
        write(tmp_path / "labels" / f"{name}.nii.gz", a_label((0, 1)))
    (tmp_path / "lost+found").mkdir()
    listed = os.scandir

    def refusing(folder):
        if Path(folder).name in ("labels", "lost+found"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "scandir", refusing)

    assert main(["scan", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert f"The folder {tmp_path / 'labels'} cannot be read (Permission denied)" in told
    assert "Change its rights, or move it out" in told
    assert "lost+found" not in told


def test_a_damaged_dataset_file_is_a_failure_that_says_what_is_wrong(tmp_path, capsys):
    write_decathlon(tmp_path)
    file = tmp_path / "dataset.json"
    file.write_text(file.read_text()[:-1] + ",}")

    assert main(["scan", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert f"{file} cannot be read as JSON (" in told
    assert "line 1" in told


def test_all_that_cannot_be_read_is_told_at_once(tmp_path, capsys):
    for name in ("a", "b"):
        write_decathlon(tmp_path / name)
        (tmp_path / name / "dataset.json").write_bytes(b"\xff{")

    assert main(["scan", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert all(str(tmp_path / name / "dataset.json") in told for name in ("a", "b"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_dataset_file_saved_by_windows_is_read(tmp_path, encoding):
    write_decathlon(tmp_path / "msd")
    file = tmp_path / "msd" / "dataset.json"
    file.write_text(file.read_text(), encoding=encoding)

    words = [str(tmp_path / "msd"), "--json", str(tmp_path / "out.json")]
    assert main(["scan", *words]) == 0
    case = json.loads((tmp_path / "out.json").read_text())["cases"][0]
    assert case["components"] == {"t1": 1, "t1ce": 2, "t2": 3, "flair": 0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is not a folder"),
        ([".", "--task", "bratz"], "There is no task 'bratz'"),
        ([".", "--workers", "0"], "starts at 1"),
    ],
)
def test_wrong_usage_is_told_apart_from_failure(words, message, capsys):
    assert main(["scan", *words]) == 2
    assert message in capsys.readouterr().err
