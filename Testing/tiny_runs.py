"""Tiny training runs as real processes, followed as a panel does."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from SemiSupSegLib.workers.followed_run import FollowedRun
from SemiSupSegLib.workers.runner import JobRunner

PATIENCE = 150.0
SETTINGS = {
    "network.options": '{"width": 4, "lite": true}',
    "teacher_share": "10",
    "stage_share": "4",
    "head_share": "2",
    "fractions": "[0.5, 1.0]",
    "pseudo_labels.passes": "2",
    "training.patch_size": "[16, 16, 16]",
    "training.validate_every": "10",
    "training.log_every": "2",
    "training.threads": "1",
    "training.checkpoint_seconds": "1",
}
SPLIT = {
    "train_labelled": ["case0", "case1"],
    "train_unlabelled": ["case2", "case3", "case4"],
    "validation": ["case5"],
}
NEVER = 200_000
"""Updates of a run that is interrupted."""


def write_cases(
    folder: Path,
    count: int = 6,
    shape: tuple[int, int, int] = (20, 18, 16),
    split: Mapping[str, Sequence[str]] = SPLIT,
) -> None:
    """Write FOLDER/cases and FOLDER/split.json."""
    for number in range(count):
        draw = np.random.default_rng(number)
        grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
        distance = np.linalg.norm(grid - draw.uniform(7, 10, 3), axis=-1)
        label = (distance < draw.uniform(4, 6)).astype(np.uint8)
        image = (100 + 60 * label + draw.normal(0, 20, label.shape)).astype(np.float32)
        case = folder / "cases" / f"case{number}"
        case.mkdir(parents=True)
        affine = np.diag([-1.5, -1.5, 2.0, 1.0])
        nib.save(nib.Nifti1Image(image, affine), case / "mri.nii.gz")
        nib.save(nib.Nifti1Image(label, affine), case / "seg.nii.gz")
    (folder / "split.json").write_text(json.dumps(split))


def are_equal(
    first: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Return whether the weights of networks, by name, are the same to the bit."""
    assert first.keys() == other.keys()
    return all(
        np.array_equal(values, other[name][key])
        for name, own in first.items()
        for key, values in own.items()
    )


def training(folder: Path, iterations: int, out: Path | str = "run", **settings: str) -> list[str]:
    """Return the words that train on the cases in a folder."""
    chosen = {**SETTINGS, **{key.replace("__", "."): value for key, value in settings.items()}}
    return [
        "train", "--cases", str(folder / "cases"), "--out", str(folder / out), "--task", "binary",
        "--split", str(folder / "split.json"), "--iterations", str(iterations),
        "--device", "cpu", "--store", str(folder / "store"), "--no-report",
        "--set", *[f"{key}={value}" for key, value in chosen.items()],
    ]  # fmt: skip


def new_runner(folder: Path, python: Path | str = sys.executable) -> JobRunner:
    """Return a runner whose workers have their own user folder."""
    home = {"SEMISUPSEG_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    return JobRunner(python, folder / "logs", environment={**os.environ, **home})


def until(runner: JobRunner, *questions: Callable[[], object], what: str = "") -> None:
    """Poll until every question is answered by yes."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        runner.poll()
        if all(question() for question in questions):
            return
        time.sleep(0.02)
    raise AssertionError(f"it took too long {what}")


def status_is(run: FollowedRun, *wanted: str) -> Callable[[], bool]:
    """Return the question whether the view says so."""
    return lambda: run.view.status in wanted


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
