"""A Slicer that is killed in the middle of a review loses nothing that was decided."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.review.outbox import carry_all, outboxes
from SemiSupSegLib.review.record import ReviewRecord
from SemiSupSegLib.review.result_label import base_label, reviewed_label
from Testing.data.make_review_folder import make_result, the_task
from Testing.host import HostMissingError, missing_libraries

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from Testing.host import start_host

host = start_host()
host.open_module("SemiSupSeg", Path("SemiSupSeg/SemiSupSeg.py"))
import slicer

review = slicer.util.getModuleWidget("SemiSupSeg").panel.review
setup = slicer.util.getModuleWidget("SemiSupSeg").panel.setup
host.spin(lambda: setup.probe is not None or setup.hindrance, 100)
review.reviewer_box.text = "ann"
review.open_folder(Path(sys.argv[1]))
host.spin(lambda: review.opening is None, 100)
print(json.dumps({str(k): v for k, v in review.session.record.statuses.items()}), flush=True)
if sys.argv[2] == "decide":
    review.decide("confirmed")
    review.relabel()
    os.kill(os.getpid(), signal.SIGKILL)
os._exit(0)
"""

try:
    missing = missing_libraries()
except HostMissingError as error:
    missing = [str(error)]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"the stand-in host lacks {missing}")


@pytest.fixture
def result(tmp_path):
    folder = make_result(tmp_path / "out")
    content = read_json(folder / "case.json")
    write_json(folder / "case.json", {**content, "task": the_task().to_json()})
    return folder


def slicer_process(result, what, home):
    """Let a process of its own open the review, and perhaps decide and die."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(result), what],
        cwd=ROOT,
        env={**os.environ, "SEMISUPSEG_HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=250,
    )


def test_what_was_decided_before_a_kill_is_there_after_it(result, tmp_path, monkeypatch):
    killed = slicer_process(result, "decide", tmp_path / "home")

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home"))
    (box,) = outboxes()
    assert box.is_waiting
    kept = ReviewRecord.open(box.path, "ann")
    assert kept.statuses == {1: "confirmed", 2: "relabelled"}
    carry_all(result)
    record = ReviewRecord.open(result, "ann")
    assert record.statuses == {1: "confirmed", 2: "relabelled"}
    changed = reviewed_label(record).values != base_label(record).values
    assert changed.any()
    assert np.isin(np.argwhere(changed)[:, 0], (3, 4)).all()

    again = slicer_process(result, "look", tmp_path / "home")

    assert json.loads(again.stdout.splitlines()[-1]) == {"1": "confirmed", "2": "relabelled"}
