"""doctor: what it finds and how it says it."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from SemiSupSegLib.commands import doctor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def private_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEMISUPSEG_STORE", str(tmp_path / "store"))
    return tmp_path


def _run(json_wanted, capsys):
    code = doctor.run(argparse.Namespace(json=json_wanted))
    return code, capsys.readouterr().out


def test_json_has_everything_a_program_asks_for(private_folders, capsys):
    code, text = _run(True, capsys)
    found = json.loads(text)

    assert code == 0
    assert (found["format"], found["version"], found["ok"]) == ("semisupseg-doctor", 1, True)
    assert set(found["packages"]) == set(doctor.PACKAGES)
    assert set(found["packages"]["numpy"]) == {"version", "needed", "ok"}
    cpu = found["devices"][0]
    assert (cpu["name"], cpu["ok"]) == ("cpu", True)
    assert cpu["milliseconds"] > 0
    assert set(found["folders"]) == {"prepared_store", "user_data", "resources"}
    assert found["memory"]["total_bytes"] > found["memory"]["available_bytes"] > 0


def test_words_name_the_device_and_its_time(private_folders, capsys):
    _, text = _run(False, capsys)

    assert re.search(r"cpu: .*ran a 3-D convolution in \d+\.\d ms, result right", text)
    assert text.rstrip().endswith("All is well.")


def test_folder_sizes_are_added_up(private_folders):
    folder = private_folders / "store" / "inner"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"1234")
    (folder.parent / "b").write_bytes(b"56")

    found = doctor.examine()["folders"]["prepared_store"]

    assert (found["size_bytes"], found["exists"]) == (6, True)
    assert found["free_bytes"] > 0


def test_a_folder_that_is_not_there_yet_has_size_zero_and_a_disk(private_folders):
    found = doctor.examine()["folders"]["user_data"]

    assert (found["size_bytes"], found["exists"]) == (0, False)
    assert found["free_bytes"] > 0


def test_the_convolution_is_checked_against_another_way_to_calculate_it():
    _, error = doctor.convolution("cpu")

    assert error < 1e-5


def test_a_device_that_calculates_wrongly_is_a_problem(private_folders, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "convolution", lambda device: (1.0, 0.5))

    code, text = _run(False, capsys)

    assert code == 1
    assert "gave a wrong result (relative error 5.0e-01)" in text


def test_a_missing_package_is_named_with_the_remedy(private_folders, monkeypatch, capsys):
    monkeypatch.setitem(doctor.PACKAGES, "no-such-package", "1.0")

    code, text = _run(False, capsys)

    assert code == 1
    assert "no-such-package 1.0 or later (here: none)" in text
    assert "run.py setup" in text


@pytest.mark.parametrize(
    ("here", "needed", "enough"),
    [("2.13.0+cpu", "2.3", True), ("2.2.9", "2.3", False), ("2.3.0rc1", "2.3", True)],
)
def test_versions_are_compared_as_numbers(here, needed, enough):
    assert (doctor._numbers(here) >= doctor._numbers(needed)) is enough


def test_the_lowest_versions_are_those_of_pyproject():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("dependencies = [")[1].split("]")[0]

    assert dict(re.findall(r'"([\w-]+)>=([\d.]+)"', block)) == doctor.PACKAGES
