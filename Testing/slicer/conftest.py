"""Runs the tests of this folder, written for Slicer, in the stand-in host.

In Slicer itself there is no pytest: ctest runs the same files with unittest.
"""

import os
import sys
from pathlib import Path

import pytest

from Testing.host import HostMissingError, start_host

try:
    running, why_not = start_host(), ""
except HostMissingError as error:
    running, why_not = None, str(error)


MODULE = Path(__file__).resolve().parents[2] / "SemiSupSeg" / "SemiSupSeg.py"
NOT_IN_SLICER = ("torch", "nibabel", "safetensors", "psutil", "fastjsonschema", "jinja2", "tqdm")
"""Packages that Slicer's own Python lacks. The workers' Python may be another, which has them."""


class WithoutMainWindow:
    """Slicer's application as `--no-main-window` leaves it.

    Args:
        application: The stand-in's, which goes on as before.
    """

    def __init__(self, application):
        self.__dict__["_application"] = application

    def layoutManager(self):
        """Return None: nothing is laid out."""

    def __getattr__(self, name):
        return getattr(self._application, name)

    def __setattr__(self, name, value):
        setattr(self._application, name, value)


@pytest.fixture(autouse=True)
def host(tmp_path, monkeypatch):
    """Give each test an empty Slicer with the module; a complaint of Qt, VTK or a slot fails it."""
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home"))
    for name in NOT_IN_SLICER:
        monkeypatch.setitem(sys.modules, name, None)
    running.reset()
    running.open_module("SemiSupSeg", MODULE)
    if os.environ.get("SEMISUPSEG_TEST_WITHOUT_MAIN_WINDOW"):
        import slicer

        running.take_views_away()
        monkeypatch.setattr(slicer, "app", WithoutMainWindow(slicer.app))
    yield running
    complaints = list(map(str, running.complaints))
    running.reset()
    assert not complaints, "\n".join(complaints)


class SkippedFile(pytest.Module):
    """A file that cannot be imported here, because it imports slicer."""

    def collect(self):
        pytest.skip(why_not, allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    return None if running else SkippedFile.from_parent(parent, path=module_path)
