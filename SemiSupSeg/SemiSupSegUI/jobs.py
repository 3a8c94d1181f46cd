"""Work that takes longer than a moment: worker processes, and work in the window in small steps.

One timer does both. There are no threads: in Slicer they hardly run while the window is idle.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import qt

from SemiSupSegLib.models.registry import user_data_folder
from SemiSupSegLib.workers.diagnosis import without_user
from SemiSupSegLib.workers.followed_run import FollowedRun
from SemiSupSegLib.workers.job import JobFolder
from SemiSupSegLib.workers.plan import InstallPlan
from SemiSupSegLib.workers.runner import Job, JobRunner

INTERVAL_MS = 50
_WORKING_INTERVAL_MS = 25
"""While the window has steps of its own to do."""
_TAIL_BYTES = 8000
_BUDGET_SECONDS = 0.012
"""So long the window may work at a tick, but for the step that is begun."""

_Work = TypeVar("_Work", Job, FollowedRun)

logger = logging.getLogger(__name__)


@dataclass
class Steps:
    """Work of the window that is done in small steps."""

    steps: Iterator[None]
    on_end: Callable[[Exception | None], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        """Do no further step; `on_end` is not called."""
        self.is_cancelled = True
        close = getattr(self.steps, "close", None)
        if close is not None:
            close()


class Jobs:
    """Starts work, follows it from a timer, and tells whoever asked for it.

    Args:
        runner: Starts and watches the worker processes.
    """

    def __init__(self, runner: JobRunner) -> None:
        self._runner = runner
        self._listeners: list[tuple[Job | FollowedRun, Callable[[Any], None]]] = []
        self._steps: list[Steps] = []
        self._is_ticking = False
        self._timer = qt.QTimer()
        self._timer.setInterval(INTERVAL_MS)
        self._timer.connect("timeout()", self._tick)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is going on; a run that is followed may have ended."""
        return not self._steps and all(work.is_ended for work, _ in self._listeners)

    @property
    def is_warm(self) -> bool:
        """Whether the worker of the next case runs already."""
        return self._runner.is_warm

    def predict(self, folder: Path, on_change: Callable[[Job], None]) -> Job:
        """Hand a job folder with a request to the warm worker."""
        return self._follow(self._runner.predict(folder), on_change)

    def run(self, folder: Path, words: Sequence[str], on_change: Callable[[Job], None]) -> Job:
        """Run a command in a process of its own."""
        return self._follow(self._runner.run(folder, words), on_change)

    def follow(
        self,
        run: Path,
        words: Sequence[str] | None,
        on_change: Callable[[FollowedRun], None],
    ) -> FollowedRun:
        """Follow a training run until it is left; it goes on when Slicer is closed.

        Args:
            run: Its folder, wherever it lies.
            words: The command that starts or resumes it; None: only look.
            on_change: Told whenever the run's view has changed.
        """
        return self._follow(self._runner.follow(new_job_folder(), run, words), on_change)

    def probe(self, folder: Path, on_change: Callable[[Job], None]) -> Job:
        """Look what the workers' Python has."""
        return self._follow(self._runner.probe(folder), on_change)

    def install(self, folder: Path, plan: InstallPlan, on_change: Callable[[Job], None]) -> Job:
        """Carry out an installation that the user has agreed to."""
        return self._follow(self._runner.install(folder, plan), on_change)

    def do(self, steps: Iterator[None], on_end: Callable[[Exception | None], None]) -> Steps:
        """Do some steps at each tick; `on_end` gets the error that ended them, or None."""
        work = Steps(steps, on_end)
        self._steps.append(work)
        self._timer.setInterval(_WORKING_INTERVAL_MS)
        self._timer.start()
        return work

    def cancel(self, job: Job) -> None:
        """Ask a job to stop; it is killed if it does not within two seconds."""
        self._runner.cancel(job)

    def replace_runner(self, runner: JobRunner) -> None:
        """Use another worker from now on; jobs of the former one end."""
        runner.take_over(self._runner)
        self._runner.close()
        self._tell([job for job, _ in self._listeners if isinstance(job, Job) and job.is_ended])
        self._runner = runner

    def close(self) -> None:
        """End all work; whoever asked for it is not told."""
        self._timer.stop()
        for work in self._steps:
            work.cancel()
        self._steps, self._listeners = [], []
        self._runner.close()

    def _follow(self, job: _Work, on_change: Callable[[_Work], None]) -> _Work:
        self._listeners.append((job, on_change))
        self._timer.start()
        return job

    def _tick(self) -> None:
        # What a tick calls may process events: Slicer does, below the progress dialog of a file
        # that takes long to load. That tick goes on afterwards.
        if self._is_ticking:
            return
        self._is_ticking = True
        try:
            self._do_tick()
        finally:
            self._is_ticking = False

    def _do_tick(self) -> None:
        self._tell(self._runner.poll())
        end = time.monotonic() + _BUDGET_SECONDS
        while self._steps and time.monotonic() < end:
            work = self._steps.pop(0)
            if not work.is_cancelled:
                self._do_one(work)
        if not self._steps:
            self._timer.setInterval(INTERVAL_MS)
            if not self._listeners:
                self._timer.stop()

    def _do_one(self, work: Steps) -> None:
        try:
            next(work.steps)
        except StopIteration:
            work.on_end(None)
        except Exception as error:  # The boundary of a piece of work: it is shown, not lost.
            logger.exception("A step in the window failed")
            work.on_end(error)
        else:
            if not work.is_cancelled:
                self._steps.append(work)

    def _tell(self, changed: Sequence[Job | FollowedRun]) -> None:
        told = [
            (job, listener)
            for job in changed
            for known, listener in self._listeners
            if known is job
        ]
        first: Exception | None = None
        for job, listener in told:
            try:
                listener(job)
            except Exception as error:  # The others are told all the same: they hear it once.
                first = first or error
        self._listeners = [one for one in self._listeners if not _is_over(one[0])]
        if first is not None:
            raise first


def _is_over(work: Job | FollowedRun) -> bool:
    """Return whether nobody will be told anything more."""
    return work.is_left if isinstance(work, FollowedRun) else work.is_ended


def clean_up(folder: Path) -> Iterator[None]:
    """Remove a job's volumes and maps, a file at a step; its log and events stay."""
    for part in ("input", "maps"):
        for file in sorted((folder / part).glob("*")):
            file.unlink(missing_ok=True)
            yield
        with contextlib.suppress(OSError):
            (folder / part).rmdir()


def clean_up_old(days: float = 14.0) -> Iterator[None]:
    """Remove jobs that nobody has looked at for so many days, one at a step."""
    limit = time.time() - days * 86400
    folder = user_data_folder() / "jobs"
    for job in sorted(folder.iterdir()) if folder.is_dir() else ():
        if job.is_dir() and job.stat().st_mtime < limit:
            shutil.rmtree(job, ignore_errors=True)
        yield


def log_tail(job: JobFolder, lines: int = 40) -> str:
    """Return the last lines that a job's process has printed, without the user's name."""
    try:
        with job.log_file.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return without_user("\n".join(text.splitlines()[-lines:]))


def new_job_folder() -> Path:
    """Return a new folder for a job in the user's data folder."""
    parent = user_data_folder() / "jobs"
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Path(tempfile.mkdtemp(prefix="job-", dir=parent))
