"""A scan of a folder that is followed while it runs: what it finds, line by line."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from SemiSupSegLib.runs.state import RunStatus
from SemiSupSegLib.workers.runner import Job
from SemiSupSegUI.jobs import Jobs, new_job_folder

_INTERVAL_MS = 100
_BUDGET_SECONDS = 0.015
"""So long lines are handed on at a tick; the rest waits for the next."""


class Scanning:
    """Runs `scan` in a process of its own and hands on its lines, a few at a tick.

    Args:
        jobs: Starts and follows the process.
        words: Of the command, without `--lines`.
        on_line: Told each line.
        on_end: Told once, after the last line: what went wrong, or an empty text.
    """

    def __init__(
        self,
        jobs: Jobs,
        words: Sequence[str],
        on_line: Callable[[Mapping[str, Any]], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._jobs, self._on_line, self._on_end = jobs, on_line, on_end
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._offset = 0
        self.is_ended = False
        folder = new_job_folder()
        self._file = folder / "cases.jsonl"
        self._timer = qt.QTimer()
        self._timer.setInterval(_INTERVAL_MS)
        assert self._timer.connect("timeout()", self._tick)
        self._job = jobs.run(folder, [*words, "--lines", str(self._file)], _nothing)
        self._timer.start()

    def cancel(self) -> None:
        """End the process; what was found stays."""
        if not self.is_ended:
            self._jobs.cancel(self._job)

    def close(self) -> None:
        """Tell nobody any more."""
        self._timer.stop()
        if not self.is_ended:
            self._jobs.cancel(self._job)
        self.is_ended = True

    def _tick(self) -> None:
        end = time.monotonic() + _BUDGET_SECONDS
        # First the process, then the file: what it wrote before it ended is read.
        is_over = self._job.is_ended
        self._read(self._file)
        while self._lines and time.monotonic() < end:
            self._on_line(json.loads(self._lines.popleft()))
        if is_over and not self._lines:
            self._timer.stop()
            self.is_ended = True
            self._on_end(self._error())

    def _read(self, file: Path) -> None:
        try:
            with file.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:
            return
        self._offset += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._lines.extend(whole)

    def _error(self) -> str:
        state = self._job.state
        if state.status is RunStatus.FINISHED:
            return ""
        if state.status is RunStatus.STOPPED:
            return _("The scan was stopped.")
        return state.error or _("The worker said nothing.")


def _nothing(_job: Job) -> None:
    """The timer looks."""
