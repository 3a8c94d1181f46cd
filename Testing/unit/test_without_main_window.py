"""Without a main window the tests for Slicer pass or are skipped by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from Testing.host import HostMissingError, start_host

SLICER = Path(__file__).resolve().parents[1] / "slicer"
LAYS_OUT = (
    "test_module.py",
    "test_overlays.py::OverlaysTest",
    "test_review_scene.py",
    "test_train_parts.py::LivePlotsTest",
    "test_train_wishes.py::SceneTest",
)
"""What uses layouts and needs no training."""


def test_without_a_main_window_nothing_fails_and_what_needs_one_is_skipped_by_name():
    try:
        start_host()
    except HostMissingError as error:
        pytest.skip(str(error))

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:xdist", "-p", "no:cacheprovider"]
        + [str(SLICER / name) for name in LAYS_OUT],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SEMISUPSEG_TEST_WITHOUT_MAIN_WINDOW": "1"},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "there is no layout manager without a main window" in done.stdout
