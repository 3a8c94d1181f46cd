"""Runs the tests of this folder, written for Slicer, in the stand-in host.

In Slicer itself there is no pytest: ctest runs the same files with unittest.
"""

import pytest

from Testing.host import HostMissingError, start_host

try:
    running, why_not = start_host(), ""
except HostMissingError as error:
    running, why_not = None, str(error)
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def host():
    """Give each test an empty Slicer; what Qt, VTK or a slot complained about fails it."""
    if running is None:
        pytest.skip(why_not)
    running.reset()
    yield running
    complaints = list(map(str, running.complaints))
    running.reset()
    assert not complaints, "\n".join(complaints)


def pytest_terminal_summary(terminalreporter):
    if why_not:
        terminalreporter.write_line(f"Testing/slicer was skipped: {why_not}")
