"""A whole folder of cases through the model, as the command `predict` does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import qt
from slicer.i18n import tr as _

from SemiSupSegLib.runs.state import RunStatus
from SemiSupSegLib.workers.runner import Job
from SemiSupSegUI.jobs import Jobs, log_tail, new_job_folder
from SemiSupSegUI.segmenting import Progress

_LOOK_MS = 500


class FolderRun:
    """Runs `predict` in a process of its own, and tells the last line that it has said.

    Args:
        jobs: Starts and follows the process.
        words: Of the command.
        out: Where the results go.
        on_progress: Told now and then.
        on_end: Told once: what was done, what went wrong, and the log's end.
    """

    def __init__(
        self,
        jobs: Jobs,
        words: Sequence[str],
        out: Path,
        on_progress: Callable[[Progress], None],
        on_end: Callable[[str, str, str], None],
    ) -> None:
        self._jobs, self._out = jobs, out
        self._on_progress, self._on_end = on_progress, on_end
        self.is_ended = False
        self._timer = qt.QTimer()
        self._timer.setInterval(_LOOK_MS)
        assert self._timer.connect("timeout()", self._look)
        self._job = jobs.run(new_job_folder(), words, self._changed)
        self._timer.start()

    def cancel(self) -> None:
        """End it; cases that are done stay."""
        if not self.is_ended:
            self._jobs.cancel(self._job)

    def close(self) -> None:
        """The panel goes: tell nobody any more."""
        self._timer.stop()
        self.is_ended = True

    def _look(self) -> None:
        lines = log_tail(self._job.folder).splitlines()
        self._on_progress(Progress(lines[-1] if lines else _("Looking for cases")))

    def _changed(self, job: Job) -> None:
        if not job.is_ended:
            return
        self._timer.stop()
        self.is_ended = True
        log = log_tail(self._job.folder)
        if job.state.status is RunStatus.FINISHED:
            last = (log.splitlines() or [""])[-1]
            text = _("{last} The results lie in {folder}.").format(last=last, folder=self._out)
            self._on_end(text.strip(), "", log)
        elif job.state.status is RunStatus.STOPPED:
            self._on_end(
                _("Stopped. Cases that were done are in {folder}.").format(folder=self._out),
                "",
                log,
            )
        else:
            self._on_end("", job.state.error or _("The worker said nothing."), log)
