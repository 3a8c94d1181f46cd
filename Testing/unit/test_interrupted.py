"""Commands that are ended from outside, as real processes: each names the one that goes on."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSupSegLib.phantom.cohort import write_cohort
from Testing.tiny_runs import write_cases

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "Resources" / "Demonstration" / "model"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    return tmp_path


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A command on a terminal of its own.

    Args:
        words: Of the command.
        folder: In which it is given.
    """

    def __init__(self, words: list[str], folder: Path) -> None:
        self._ours, theirs = os.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "SemiSupSegLib", *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            # A group of its own, as of a terminal: Ctrl-C goes to all its processes.
            start_new_session=True,
            # What a shell starts in the background does not hear Ctrl-C, nor do its children.
            preexec_fn=_hear_interrupts,
        )
        os.close(theirs)
        self.shown = ""

    def wait_for(self, words: str) -> None:
        """Read until words are shown."""
        while words not in self.shown:
            assert self._read(), self.shown

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self._process.pid, signal.SIGINT)

    def end(self) -> None:
        """Ask the command alone to end, as a scheduler does."""
        self._process.terminate()

    def rest(self) -> int:
        """Read to the end, and return the exit code."""
        while self._read():
            pass
        os.close(self._ours)
        return self._process.wait()

    def _read(self) -> bool:
        try:
            found = os.read(self._ours, 4096).decode()
        except OSError:
            # Nobody else has the terminal open any more.
            return False
        self.shown += found.replace("\r\n", "\n")
        return bool(found)


AMID_AN_IMPORT = """
import sys
from SemiSupSegLib.__main__ import main
from SemiSupSegLib.commands import scan

scan.run = lambda arguments: exec("raise KeyboardInterrupt")
sys.exit(main(["scan", "."]))
"""


def test_the_exit_code_is_ours_wherever_the_interrupt_comes(folder):
    (folder / "amid_an_import.py").write_text(AMID_AN_IMPORT)

    done = subprocess.run([sys.executable, "-m", "amid_an_import"], cwd=folder, check=False)

    assert done.returncode == 3


def named_last(shown: str) -> list[str]:
    """Return the words of the command that an interrupted one has named."""
    return shlex.split(shown.strip().splitlines()[-1].rpartition(": ")[2])


def go_on(shown: str, folder: Path) -> str:
    """Give that command; return what it says."""
    done = subprocess.run(
        named_last(shown), cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_images(folder: Path, count: int, side: int) -> None:
    for number in range(count):
        image = np.random.default_rng(number).normal(100, 20, (side, side, side))
        case = folder / "cases" / f"case{number:02d}"
        case.mkdir(parents=True)
        file = case / "mri.nii.gz"
        sitk.WriteImage(sitk.GetImageFromArray(image.astype(np.float32)), str(file))


@pytest.mark.parametrize("ended_by", [Terminal.interrupt, Terminal.end], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_preparation_names_the_command_for_the_other_cases(folder, ended_by):
    write_images(folder, count=40, side=64)
    words = [
        "prepare",
        "--cases",
        "cases",
        "--store",
        "a store",
        "--workers",
        "2",
        "--set",
        "spacing=[1, 1, 1]",
    ]
    terminal = Terminal(words, folder)
    terminal.wait_for("Prepared 1 of 40")

    ended_by(terminal)

    assert terminal.rest() == 3, terminal.shown
    assert "What is prepared stays." in terminal.shown
    assert "Traceback" not in terminal.shown
    prepared = {one.name for one in (folder / "a store").iterdir() if (one / "meta.json").exists()}
    assert 0 < len(prepared) < 40
    assert "40 of 40 cases are prepared" in go_on(terminal.shown, folder)


@pytest.mark.parametrize("ended_by", [Terminal.interrupt, Terminal.end], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_predictions_name_the_command_for_the_cases_without_result(folder, ended_by):
    write_cohort(folder, 6, 0, seed=0, size=(20, 24, 18))
    words = ["predict", "--model", str(MODEL), "--cases", "cases", "--out", "some results"]
    terminal = Terminal([*words, "--device", "cpu"], folder)
    terminal.wait_for("[1 of 6]")

    ended_by(terminal)

    assert terminal.rest() == 3, terminal.shown
    assert "The results that are written stay." in terminal.shown
    assert "Traceback" not in terminal.shown
    before = {file: file.stat().st_mtime_ns for file in folder.glob("some results/*/case.json")}
    assert 0 < len(before) < 6
    told = go_on(terminal.shown, folder)
    assert f"{len(before)} of 6 cases have a result of this model already; they are left" in told
    assert f"{6 - len(before)} predicted, 0 failed." in told
    assert all(file.stat().st_mtime_ns == at for file, at in before.items())


def test_an_interrupted_demo_names_the_command_with_which_it_learns_on(folder):
    write_cases(folder)
    words = ["demo", "cases", "--out", "a demo", "--iterations", "12", "--device", "cpu"]
    terminal = Terminal(words, folder)
    terminal.wait_for("Phase teacher")

    terminal.end()

    assert terminal.rest() == 3, terminal.shown
    assert "Nothing that was learnt is lost." in terminal.shown
    assert "Traceback" not in terminal.shown
    run = (folder / "a demo" / "run" / "run.json").read_bytes()
    python, _program, *words = named_last(terminal.shown)
    assert python == sys.executable
    again = Terminal(words, folder)
    again.wait_for("Phase teacher")
    again.interrupt()
    assert again.rest() == 3, again.shown
    assert named_last(again.shown) == named_last(terminal.shown)
    assert (folder / "a demo" / "run" / "run.json").read_bytes() == run
