"""Runs the tests of this folder, written for Slicer, in the stand-in host.

In Slicer itself there is no pytest: ctest runs the same files with unittest.
"""

from pathlib import Path

from pathlib import Path

import pytest

from Testing.host import HostMissingError, start_host

MODULE = Path(__file__).resolve().parents[2] / "SemiSupSeg" / "SemiSupSeg.py"

try:
    running, why_not = start_host(), ""
except HostMissingError as error:
    running, why_not = None, str(error)
    collect_ignore_glob = ["test_*.py"]


MODULE = Path(__file__).resolve().parents[2] / "SemiSupSeg" / "SemiSupSeg.py"


@pytest.fixture(autouse=True)
def host(tmp_path, monkeypatch):
    """Give each test an empty Slicer with the module; a complaint of Qt, VTK or a slot fails it."""
    if running is None:
        pytest.skip(why_not)
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home"))
    running.reset()
    running.open_module("SemiSupSeg", MODULE)
    yield running
    complaints = list(map(str, running.complaints))
    running.reset()
    assert not complaints, "\n".join(complaints)


def pytest_terminal_summary(terminalreporter):
    if why_not:
        terminalreporter.write_line(f"Testing/slicer was skipped: {why_not}")
