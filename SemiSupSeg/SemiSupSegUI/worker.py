"""The worker of this Slicer: which Python it runs in, and in what environment."""

from __future__ import annotations

import sys

import slicer

from SemiSupSegLib.models.registry import user_data_folder
from SemiSupSegLib.workers.runner import JobRunner


def new_runner(kind: type[JobRunner] = JobRunner) -> JobRunner:
    """Return a runner of workers that start as they would outside Slicer."""
    return kind(
        sys.executable,
        user_data_folder() / "logs",
        environment=slicer.util.startupEnvironment(),
    )
