"""Waiting threads leave their core to others, unless somebody has said how they wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from SemiSupSegLib.waiting_threads import let_threads_sleep

OURS = {"GOMP_SPINCOUNT": "5000", "KMP_BLOCKTIME": "1"}


def test_threads_spin_briefly() -> None:
    environment = {"OMP_NUM_THREADS": "2"}
    let_threads_sleep(environment)
    assert environment == {"OMP_NUM_THREADS": "2", **OURS}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_somebody_has_set_stays(name: str) -> None:
    environment = {name: "passive"}
    let_threads_sleep(environment)
    assert environment == {name: "passive"}


def test_a_command_sets_it_before_its_library_is_loaded() -> None:
    others = {name: value for name, value in os.environ.items() if name not in OURS}
    # GNU's library then tells its settings when it is loaded.
    done = subprocess.run(
        [sys.executable, "-m", "SemiSupSegLib", "doctor", "--json"],
        env={**others, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    )
    if "GOMP_" not in done.stderr:
        pytest.skip("PyTorch comes with another OpenMP library than GNU's")
    assert "GOMP_SPINCOUNT = '5000'" in done.stderr
