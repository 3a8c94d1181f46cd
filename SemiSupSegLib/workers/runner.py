"""Starting and watching workers, without Qt and without threads: whoever owns it calls `poll`.

In Slicer a timer does; a Python thread would hardly run there while the window is idle.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import write_json
from SemiSupSegLib.runs.events import EventKind, EventLog, read_new_events
from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.workers.environment import WorkerPython, packages_folder, worker_environment
from SemiSupSegLib.workers.followed_run import FollowedRun
from SemiSupSegLib.workers.job import JobFolder
from SemiSupSegLib.workers.plan import InstallPlan
from SemiSupSegLib.workers.processes import close_input, kill, start_worker, why_ended

KILL_AFTER_SECONDS = 1.5
"""A worker that does not stop by then is killed: within 2 s, until its owner has looked and the
system has ended it, the GPU must be free."""
_ENDED = (RunStatus.FINISHED, RunStatus.FAILED, RunStatus.STOPPED)
_TRIALS = 2
"""So often a job is handed to a worker, if the first one ends before it begins."""


@dataclass
class Job:
    """A job as its owner sees it; `JobRunner.poll` keeps it up to date."""

    folder: JobFolder
    state: RunState = field(default_factory=RunState)
    events: list[dict[str, Any]] = field(default_factory=list)
    """All so far."""
    _offset: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _kill_at: float | None = None
    _times_handed: int = 0
    _was_mended: bool = False
    """Whether the runner said how it ended; on a full disk the file does not say it."""

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state.status in _ENDED


class JobRunner:
    """Runs predict jobs in one warm worker, and other commands in processes of their own.

    Args:
        python: The interpreter that has the packages; a path is taken for Slicer's own.
        logs: Folder for what workers print.
        environment: From which `worker_environment` makes theirs; default this process's.
    """

    def __init__(
        self,
        python: WorkerPython | Path | str,
        logs: Path,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(python, WorkerPython):
            python = WorkerPython(path=Path(python), chosen_by="default")
        self._python = str(python.path)
        self._logs = logs
        startup = os.environ if environment is None else environment
        self._environment = worker_environment(startup, python)
        self._retired: list[subprocess.Popen[bytes]] = []
        """Warm workers that are ending."""
        self._warm: subprocess.Popen[bytes] | None = None
        self._jobs: list[Job] = []
        self._followed: list[FollowedRun] = []

    def predict(self, folder: Path) -> Job:
        """Hand a job folder with a request to the warm worker, which is started if need be."""
        job = self._new_job(folder)
        self._hand_over(job)
        return job

    @property
    def is_warm(self) -> bool:
        """Whether a worker is there for the next case; else it takes some seconds to start."""
        return self._warm is not None and self._warm.poll() is None

    def run(self, folder: Path, words: Sequence[str]) -> Job:
        """Run a command (`doctor`, `scan`, ...) in a process of its own, as a job in `folder`."""
        job = self._new_job(folder)
        job._process = self._start(
            ["worker", "--job", str(folder), "--", *words], job.folder.log_file
        )
        return job

    def follow(self, mirror: Path, run: Path, words: Sequence[str] | None = None) -> FollowedRun:
        """Follow a training run through a process that looks at its folder; it outlives this one.

        Args:
            mirror: Local folder of what is known of the run, made if it is missing.
            run: The run folder, wherever it lies: this process never touches it.
            words: The command that starts or resumes the run (`train --out ...`), unless somebody
                works on it already; None: only look.
        """
        followed = FollowedRun(mirror, run, self, words)
        self._followed.append(followed)
        return followed

    def take_over(self, other: JobRunner) -> None:
        """Go on following the runs that another runner has followed."""
        for followed in other._followed:
            followed.hand_over(self)
        self._followed += other._followed
        other._followed = []

    def start_watcher(self, words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start the process that looks at a run folder, for `FollowedRun`."""
        return self._start(words, log, script="workers/watch.py")

    def give_up_memory(self) -> None:
        """End an idle warm worker: its model leaves the GPU to a run."""
        if not any(job._process is self._warm and not job.is_ended for job in self._jobs):
            self._retire()

    def probe(self, folder: Path) -> Job:
        """Look what the Python has, without importing it; `result.json` holds a `Probe`."""
        job = self._new_job(folder)
        words = [str(folder), str(packages_folder())]
        job._process = self._start(words, job.folder.log_file, script="workers/probe.py")
        return job

    def install(self, folder: Path, plan: InstallPlan) -> Job:
        """Carry out a plan; the next predict job gets a new warm worker.

        Raises:
            SemiSupSegError: If the plan cannot be carried out, or if work is going on that uses
                the packages.
        """
        if not plan.is_possible:
            raise SemiSupSegError(" ".join(plan.blockers) or "There is nothing to install.")
        busy: list[Job | FollowedRun] = [*self._jobs, *self._followed]
        if any(not one.is_ended for one in busy):
            raise SemiSupSegError(
                "Packages cannot be installed while SemiSupSeg works with them. Wait until its "
                "jobs have ended, or cancel them."
            )
        job = self._new_job(folder)
        write_json(folder / "request.json", plan.to_json())
        # The warm worker holds files open, which Windows does not replace.
        self._retire()
        job._process = self._start([str(folder)], job.folder.log_file, script="workers/install.py")
        return job

    def poll(self) -> list[Job | FollowedRun]:
        """Look at all jobs that have not ended and all runs; return those that changed."""
        self._retired = [one for one in self._retired if one.poll() is None]
        changed = [job for job in self._jobs if self._look_at(job)]
        self._jobs = [job for job in self._jobs if not job.is_ended or self._is_to_reap(job)]
        runs = [run for run in self._followed if run.look()]
        self._retired += [run.watcher for run in self._followed if run.is_left]
        self._followed = [run for run in self._followed if not run.is_left]
        return [*changed, *runs]

    def cancel(self, job: Job) -> None:
        """Ask a job to stop; `poll` kills its worker if it does not in time."""
        if job.is_ended:
            return
        job.folder.control.want_stop()
        if job._kill_at is None:
            job._kill_at = time.monotonic() + KILL_AFTER_SECONDS

    def close(self) -> None:
        """End all workers: politely, then by force; runs go on, and nobody follows them."""
        processes = {job._process.pid: job._process for job in self._jobs if job._process}
        for run in self._followed:
            run.leave()
            processes[run.watcher.pid] = run.watcher
        self._followed = []
        processes.update({one.pid: one for one in self._retired})
        if self._warm is not None:
            processes[self._warm.pid] = self._warm
        for process in processes.values():
            close_input(process)
        end = time.monotonic() + KILL_AFTER_SECONDS
        for process in processes.values():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                kill(process)
        self._warm, self._retired = None, []
        for job in self._jobs:
            job._times_handed = _TRIALS
        self.poll()

    def _hand_over(self, job: Job) -> None:
        if not self.is_warm:
            self._warm = self._start(["worker"], self._logs / "predict-worker.log")
        assert self._warm is not None
        assert self._warm.stdin is not None
        # If it has just died, `poll` finds that out.
        with contextlib.suppress(OSError):
            self._warm.stdin.write(f"{job.folder.path}\n".encode())
            self._warm.stdin.flush()
        job._process = self._warm
        job._times_handed += 1

    def _retire(self) -> None:
        if self._warm is not None:
            close_input(self._warm)
            self._retired.append(self._warm)
            self._warm = None

    def _new_job(self, folder: Path) -> Job:
        job = Job(folder=JobFolder(folder))
        if job.folder.state_json.exists():
            raise SemiSupSegError(f"{folder} holds a job already. Take a new folder.")
        folder.mkdir(parents=True, exist_ok=True)
        job.state.write(job.folder.state_json)
        self._jobs.append(job)
        return job

    def _start(
        self, words: Sequence[str], log: Path, *, script: str = "__main__.py"
    ) -> subprocess.Popen[bytes]:
        return start_worker(self._python, words, log, script=script, environment=self._environment)

    def _look_at(self, job: Job) -> bool:
        """Bring a job up to date; return whether anything changed."""
        process = job._process
        # First the process, then the files: what a process wrote before it ended is read.
        was_ended = job.is_ended
        code = None if process is None else process.poll()
        events: list[dict[str, Any]] = []
        # A line that a killed process has torn off is cut by the next one: the next look will do.
        with contextlib.suppress(SemiSupSegError):
            events, job._offset = read_new_events(job.folder.events_file, job._offset)
        job.events += events
        former = job.state
        if not job._was_mended:
            # On Windows a file that is being replaced cannot be read; the next look will do.
            with contextlib.suppress(SemiSupSegError):
                job.state = RunState.read(job.folder.state_json)
        if not job.is_ended:
            if process is not None and code is not None:
                close_input(process)
                self._mend(job, code)
            elif job._kill_at is not None and time.monotonic() > job._kill_at:
                assert process is not None
                kill(process)
                self._say_stopped(job)
        elif process is not None and code is not None:
            close_input(process)
        return bool(events) or job.state != former or job.is_ended != was_ended

    def _is_to_reap(self, job: Job) -> bool:
        """Return whether a job that has ended still has a process of its own."""
        process = job._process
        if process is None or process is self._warm:
            return False
        if process.poll() is None:
            return True
        close_input(process)
        return False

    def _mend(self, job: Job, code: int) -> None:
        """Go on after a worker ended before its job did."""
        if job._kill_at is not None:
            self._say_stopped(job)
        elif not job.events and 0 < job._times_handed < _TRIALS:
            # It had not begun: another job was at fault, or its end was wished.
            self._hand_over(job)
        else:
            self._say_why(job, code)

    def _say_stopped(self, job: Job) -> None:
        self._end(job, replace(job.state, status=RunStatus.STOPPED, error="Stopped."))

    def _say_why(self, job: Job, code: int) -> None:
        """Say of a job whose worker is gone how that came."""
        logs = [job.folder.log_file]
        if job._times_handed:
            logs.insert(0, self._logs / "predict-worker.log")
        message = why_ended(logs, code)
        self._end(job, replace(job.state, status=RunStatus.FAILED, error=message))

    def _end(self, job: Job, state: RunState) -> None:
        job.state, job._was_mended = state, True
        # What ended the worker may be a full disk: then only who asks the runner is told.
        with contextlib.suppress(OSError, SemiSupSegError):
            if state.status is RunStatus.STOPPED:
                EventLog(job.folder.events_file).append(EventKind.STOPPED)
            else:
                EventLog(job.folder.events_file).append(EventKind.ERROR, message=state.error)
        with contextlib.suppress(OSError, SemiSupSegError):
            state.write(job.folder.state_json)
