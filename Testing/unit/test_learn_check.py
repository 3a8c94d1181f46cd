"""`learn --check`: whether a run can learn from corrections, told without learning."""

import json

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.runs.corrections import free_folder


def test_a_new_run_gets_a_name_that_is_free(tmp_path):
    run = tmp_path / "best run"

    assert free_folder(run) == tmp_path / "best run-corrected"
    (tmp_path / "best run-corrected").mkdir()
    assert free_folder(run) == tmp_path / "best run-corrected-2"
    (tmp_path / "best run-corrected-2").mkdir()
    assert free_folder(tmp_path / "best run-corrected-2") == tmp_path / "best run-corrected-3"


def test_a_folder_that_is_no_run_is_told(tmp_path, capsys):
    words = ["learn", "--run", str(tmp_path), "--reviews", str(tmp_path), "--check", "names"]

    assert main(words) == 1
    assert "is not a run folder" in capsys.readouterr().err


def test_the_reason_is_written_for_programs(tmp_path):
    words = ["learn", "--run", str(tmp_path / "run"), "--reviews", str(tmp_path)]
    words += ["--cases", str(tmp_path), "--check", "names", "--json", str(tmp_path / "a.json")]

    assert main(words) == 0
    found = json.loads((tmp_path / "a.json").read_text())
    assert "The run folder" in found["why_not"]
    assert found["cases"] == str(tmp_path)
    assert found["out"] == str(tmp_path / "run-corrected")


def test_learning_needs_a_new_folder_and_says_which_name_is_free(tmp_path, capsys):
    run = tmp_path / "best run"

    assert main(["learn", "--run", str(run), "--reviews", str(tmp_path)]) == 2
    assert str(tmp_path / "best run-corrected") in capsys.readouterr().err


def test_the_result_of_one_case_is_no_folder_of_reviews(tmp_path, capsys):
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "case.json").write_text("{}")

    assert main(["scan", str(tmp_path), "--reviews", str(tmp_path / "p1")]) == 2
    assert "is the result of one case" in capsys.readouterr().err
