"""Which Python the workers use, and what reaches it of Slicer's environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.workers.environment import (
    WorkerPython,
    choose_python,
    packages_folder,
    worker_environment,
)

SLICER = str(Path("/opt/Slicer 5.12").absolute())
FOREIGN = WorkerPython(path=Path(sys.executable), chosen_by="setting")


@pytest.fixture
def pythons(tmp_path):
    found = {}
    for name in ("default", "setting", "variable"):
        found[name] = tmp_path / name / "bin" / "python"
        found[name].parent.mkdir(parents=True)
        found[name].write_text("")
        found[name].chmod(0o755)
    return found


def test_the_variable_comes_before_the_setting_and_that_before_slicers_own(pythons):
    variable = {"SEMISUPSEG_PYTHON": str(pythons["variable"])}
    default, setting = pythons["default"], pythons["setting"]

    both = choose_python(default, setting=setting, environment=variable)
    chosen = choose_python(default, setting=setting, environment={})
    own = choose_python(default, setting="", environment={"SEMISUPSEG_PYTHON": " "})

    assert [one.path for one in (both, chosen, own)] == [pythons["variable"], setting, default]
    assert [one.chosen_by for one in (both, chosen, own)] == ["variable", "setting", "default"]
    assert [one.is_own for one in (both, chosen, own)] == [False, False, True]


def test_a_folder_of_an_environment_may_be_named(pythons, tmp_path):
    chosen = choose_python(pythons["default"], setting=tmp_path / "setting", environment={})

    assert chosen.path == pythons["setting"]


def test_slicers_own_python_is_known_when_it_is_named(pythons):
    chosen = choose_python(pythons["default"], setting=pythons["default"], environment={})

    assert chosen.is_own


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "names the Python .*nowhere, which does not exist. Correct or remove it"),
        ("empty", "names the folder .*empty, which holds no Python"),
    ],
)
def test_a_python_that_is_not_there_is_named_with_the_variable(pythons, tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    variable = {"SEMISUPSEG_PYTHON": str(tmp_path / name)}

    with pytest.raises(SemiSupSegError, match=f"SEMISUPSEG_PYTHON {message}"):
        choose_python(pythons["default"], environment=variable)


@pytest.mark.parametrize("name", ["/" + "x" * 5000, "~nobody-of-this-name/bin/python"])
def test_a_python_that_cannot_be_looked_at_is_told_in_a_sentence(pythons, name):
    with pytest.raises(SemiSupSegError, match=r"SEMISUPSEG_PYTHON names the Python .*, which"):
        choose_python(pythons["default"], environment={"SEMISUPSEG_PYTHON": name})


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such right")
def test_a_file_that_cannot_be_started_is_refused(pythons):
    pythons["setting"].chmod(0o644)

    with pytest.raises(SemiSupSegError, match=r"cannot be started\. Choose another one"):
        choose_python(pythons["default"], setting=pythons["setting"], environment={})


def test_slicers_python_finds_our_packages_first_and_once(tmp_path):
    startup = {"PYTHONPATH": os.pathsep.join(["a", "b"]), "HOME": "x"}
    first = worker_environment(startup, packages=tmp_path)
    second = worker_environment(first, packages=tmp_path)

    assert first["PYTHONPATH"].split(os.pathsep) == [str(tmp_path), "a", "b"]
    assert (first["PYTHONUTF8"], first["PYTHONUNBUFFERED"], first["HOME"]) == ("1", "1", "x")
    assert second == first
    assert startup == {"PYTHONPATH": os.pathsep.join(["a", "b"]), "HOME": "x"}


def test_packages_lie_in_the_users_folder_apart_for_each_python(monkeypatch, tmp_path):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path))

    assert packages_folder((3, 12)) == tmp_path / "packages" / "python3.12"
    assert worker_environment({})["PYTHONPATH"] == str(packages_folder())


def test_nothing_of_slicers_reaches_another_environment(tmp_path):
    lib = str(Path(SLICER, "lib"))
    startup = {
        "SLICER_HOME": SLICER,
        "PYTHONHOME": str(Path(SLICER, "lib", "Python")),
        "PYTHONPATH": "mine",
        "PYTHONNOUSERSITE": "1",
        "PATH": os.pathsep.join([str(Path(SLICER, "bin")), "/usr/bin", SLICER + " old"]),
        "LD_LIBRARY_PATH": lib,
        "SSL_CERT_FILE": str(Path(SLICER, "share", "cert.pem")),
        "CUDA_VISIBLE_DEVICES": "1",
        "EMPTY": "",
    }

    environment = worker_environment(startup, FOREIGN, packages=tmp_path)

    assert environment == {
        "PATH": os.pathsep.join(["/usr/bin", SLICER + " old"]),
        "CUDA_VISIBLE_DEVICES": "1",
        "EMPTY": "",
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
    }


def test_another_python_starts_in_spite_of_slicers_variables(tmp_path):
    startup = {**os.environ, "PYTHONHOME": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')")
    words = [sys.executable, "-c", "import json, sys; print(sys.flags.utf8_mode)"]

    answer = subprocess.run(
        words, env=worker_environment(startup, FOREIGN), capture_output=True, text=True
    )

    assert (answer.returncode, answer.stdout.strip()) == (0, "1"), answer.stderr
