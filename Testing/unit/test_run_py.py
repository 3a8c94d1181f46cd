"""run.py: what it installs, when, and how it mends what was interrupted."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "run.py"
REQUIREMENTS = "# pins\ntorch==2.9.1\nnumpy==2.2.6\n"


def _load():
    spec = importlib.util.spec_from_file_location("run_py", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_py"] = module
    spec.loader.exec_module(module)
    return module


run_py = _load()
LINUX = run_py.Machine("linux", (3, 12), True, False)


class FakePrograms:
    """Stands for venv and pip; keeps what was started and answers as told."""

    def __init__(self, root, failing=()):
        self.root = root
        self.failing = list(failing)
        self.started = []

    def __call__(self, words, env=None, cwd=None, quiet=False):
        line = " ".join(words)
        self.started.append(line)
        if any(part in line for part in self.failing):
            return 1
        if "-m venv" in line:
            for name in ("bin/python", "Scripts/python.exe"):
                file = self.root / ".venv" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
        if "import sys, torch" in line:
            return 0 if self.has("install torch==") else 1
        return 0

    def has(self, part):
        return any(part in line for line in self.started)

    def installs(self):
        return [line.split(" install ")[1] for line in self.started if " install " in line]


@pytest.fixture
def a_checkout(tmp_path):
    (tmp_path / "requirements.txt").write_text(REQUIREMENTS)
    (tmp_path / "requirements-test.txt").write_text("pytest==9.0.2\n")
    return tmp_path


def _install(root, machine=LINUX, asked=None, failing=(), with_tests=False):
    programs = FakePrograms(root, failing)
    run_py.install(root, machine, asked, programs, with_tests=with_tests)
    return programs


def _stamp(root):
    return json.loads((root / ".venv" / "semisupseg-stamp.json").read_text())


def test_the_first_call_makes_the_environment_and_installs_the_pins(a_checkout):
    programs = _install(a_checkout)

    assert programs.has("-m venv --clear")
    assert programs.installs()[-1] == f"-r {a_checkout / 'requirements.txt'}"
    assert _stamp(a_checkout)["python"] == "3.12"


def test_the_second_call_installs_nothing(a_checkout):
    _install(a_checkout)

    again = _install(a_checkout)

    assert again.installs() == []
    assert not again.has("-m venv")


def test_what_tests_need_is_installed_with_the_first_test_and_stays(a_checkout):
    _install(a_checkout)

    with_tests = _install(a_checkout, with_tests=True)

    both = " ".join(
        f"-r {a_checkout / name}" for name in ("requirements.txt", "requirements-test.txt")
    )
    assert with_tests.installs()[-1] == both
    assert _install(a_checkout).installs() == []
    assert _install(a_checkout, with_tests=True).installs() == []
    (a_checkout / "requirements-test.txt").write_text("pytest==9.0.3\n")
    assert _install(a_checkout).installs() == []
    assert _install(a_checkout, with_tests=True).installs()[-1] == both


def test_changed_requirements_are_installed_into_the_same_environment(a_checkout):
    _install(a_checkout)
    (a_checkout / "requirements.txt").write_text(REQUIREMENTS + "scipy==1.15.3\n")

    again = _install(a_checkout)

    assert not again.has("-m venv")
    assert again.installs()


def test_an_installation_that_failed_says_so_and_is_done_again(a_checkout, capsys):
    with pytest.raises(run_py.SetupError, match="pip could not install requirements"):
        _install(a_checkout, failing=["install -r"])
    assert not (a_checkout / ".venv" / "semisupseg-stamp.json").exists()

    again = _install(a_checkout)

    assert again.installs()
    assert _stamp(a_checkout)


def test_an_update_that_was_killed_half_way_is_not_taken_for_complete(a_checkout):
    _install(a_checkout)
    (a_checkout / "requirements.txt").write_text(REQUIREMENTS + "scipy==1.15.3\n")
    with pytest.raises(run_py.SetupError, match="pip could not install"):
        _install(a_checkout, failing=["install -r"])
    (a_checkout / "requirements.txt").write_text(REQUIREMENTS)

    assert _install(a_checkout).installs()


def test_an_environment_whose_python_no_longer_works_is_made_anew(a_checkout):
    _install(a_checkout)

    again = _install(a_checkout, failing=["import sys, pip"])

    assert again.has("-m venv --clear")
    assert again.installs()


def test_an_environment_made_by_another_python_is_kept(a_checkout):
    _install(a_checkout)

    again = _install(a_checkout, replace(LINUX, python=(3, 13)))

    assert again.installs() == []
    assert _stamp(a_checkout)["python"] == "3.12"


def test_without_a_driver_linux_gets_the_cpu_build_from_the_configured_index(a_checkout):
    programs = _install(a_checkout)

    assert programs.installs() == ["torch==2.9.1+cpu", f"-r {a_checkout / 'requirements.txt'}"]
    assert _stamp(a_checkout)["build"] == "cpu"


def test_where_the_index_has_no_cpu_build_the_chooser_finds_it(a_checkout):
    programs = _install(a_checkout, failing=["+cpu"])

    assert programs.installs()[1:3] == [
        run_py.TORCH_CHOOSER,
        "--pytorch-computation-backend=cpu torch==2.9.1",
    ]


def test_where_no_cpu_build_is_to_be_had_the_plain_one_is_installed_and_said(a_checkout, capsys):
    _install(a_checkout, failing=["+cpu", "light"])

    assert "several gigabytes" in capsys.readouterr().out
    assert _stamp(a_checkout)["build"] == "cpu"


def test_with_a_driver_linux_gets_the_plain_package(a_checkout):
    programs = _install(a_checkout, replace(LINUX, nvidia_driver=True))

    assert programs.installs() == [f"-r {a_checkout / 'requirements.txt'}"]
    assert _stamp(a_checkout)["build"] == "gpu"


def test_asking_for_the_other_build_removes_the_one_that_is_there(a_checkout):
    _install(a_checkout)

    again = _install(a_checkout, asked="gpu")

    assert again.has("uninstall --yes torch")
    assert _stamp(a_checkout)["build"] == "gpu"


def test_the_build_that_was_asked_for_once_stays(a_checkout):
    driver = replace(LINUX, nvidia_driver=True)
    _install(a_checkout, driver, asked="cpu")

    assert _install(a_checkout, driver).installs() == []


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_the_plain_package_is_the_cpu_build(a_checkout, platform):
    programs = _install(a_checkout, replace(LINUX, platform=platform), asked="cpu")

    assert programs.installs() == [f"-r {a_checkout / 'requirements.txt'}"]


def test_windows_with_a_driver_asks_the_chooser(a_checkout):
    programs = _install(a_checkout, replace(LINUX, platform="win32", nvidia_driver=True))

    assert programs.installs()[:2] == [run_py.TORCH_CHOOSER, "torch==2.9.1"]


def test_windows_keeps_its_python_in_scripts():
    assert run_py.venv_python(Path("e"), "win32") == Path("e/Scripts/python.exe")
    assert run_py.venv_python(Path("e"), "linux") == Path("e/bin/python")


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        (replace(LINUX, has_venv=False), r"apt install python3\.12-venv"),
        (replace(LINUX, python=(3, 9)), r"this is Python 3\.9; SemiSupSeg needs 3\.10"),
    ],
)
def test_a_python_that_cannot_do_it_is_named_with_the_remedy(a_checkout, machine, sentence):
    with pytest.raises(run_py.SetupError, match=sentence):
        _install(a_checkout, machine)


def test_an_environment_that_cannot_be_made_is_explained(a_checkout):
    with pytest.raises(run_py.SetupError, match="could not be made"):
        _install(a_checkout, failing=["-m venv"])


def test_requirements_without_torch_are_refused():
    with pytest.raises(run_py.SetupError, match="no line 'torch==VERSION'"):
        run_py.torch_pin("numpy==2.2.6\n")


def _main(words, root):
    handed = {}

    def hand_over(command, env=None, cwd=None, quiet=False):
        handed.update(command=command, env=env, cwd=cwd)
        return 7

    programs = FakePrograms(root)
    code = run_py.main(words, root=root, machine=LINUX, run=programs, hand_over=hand_over)
    return code, handed


def test_test_runs_pytest_on_all_cores_in_the_checkout(a_checkout):
    code, handed = _main(["test", "-k", "split"], a_checkout)

    assert code == 7
    assert handed["command"][1:] == ["-m", "pytest", "-n", "auto", "-k", "split"]
    assert handed["cwd"] == a_checkout


def test_any_other_command_goes_to_the_library_from_where_the_user_stands(a_checkout):
    code, handed = _main(["--cpu", "train", "--cases", "my folder"], a_checkout)

    assert code == 7
    assert handed["command"][1:] == ["-m", "SemiSupSegLib", "train", "--cases", "my folder"]
    assert handed["cwd"] is None
    assert handed["env"]["PYTHONPATH"].startswith(str(a_checkout))


def test_without_a_command_the_usage_is_shown(a_checkout, capsys):
    assert _main([], a_checkout)[0] == 2
    assert _main(["--help"], a_checkout)[0] == 0
    assert "run.py demo" in capsys.readouterr().out


def test_a_failed_setup_is_one_sentence_and_exit_code_1(a_checkout, capsys):
    code = run_py.main(
        ["demo"], root=a_checkout, machine=replace(LINUX, has_venv=False), run=FakePrograms("")
    )

    assert code == 1
    assert "python3.12-venv" in capsys.readouterr().err
