"""A training run as a window sees it: through local files that a watcher process keeps."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.workers.processes import close_input
from SemiSupSegLib.workers.run_view import ENDED, RunView

_LOOK_SECONDS = 0.1
_RESTART_SECONDS = 5.0

Wish = Literal["pause", "resume", "stop", "kill"]


class Starter(Protocol):
    """Who starts processes."""

    def start_watcher(self, words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start a watcher with these words, which logs to this file."""

    def give_up_memory(self) -> None:
        """Free the device for a run."""


class FollowedRun:
    """A run that somebody follows; `JobRunner.poll` keeps it up to date.

    Args:
        mirror: Local folder that the watcher keeps.
        folder: The run folder; only the watcher touches it.
        starter: Starts its watchers.
        words: The command that starts or resumes the run; None: only look.
    """

    def __init__(
        self,
        mirror: Path,
        folder: Path,
        starter: Starter,
        words: Sequence[str] | None = None,
    ) -> None:
        self.mirror = mirror
        """Local; `worker.log` there is the end of the run's."""
        self.folder = folder
        self.view = RunView()
        """As the watcher last saw it."""
        self.request: Mapping[str, Any] | None = None
        """What the run was asked for, with the method and split that it has; None: not known."""
        self.is_left = False
        """Whether nobody follows it any more."""
        self._starter = starter
        self._num_wishes = 0
        self._view_stamp: tuple[int, int] | None = None
        self._heard_stamp: int | None = None
        self._heard = self._looked = time.monotonic()
        (mirror / "wishes").mkdir(parents=True, exist_ok=True)
        # A former watcher of this mirror may have left them.
        left = (self._view_json, self._request_json, mirror / "heard")
        for file in (*left, *(mirror / "wishes").iterdir()):
            file.unlink(missing_ok=True)
        self.watcher = self._begin(words)

    @property
    def is_ended(self) -> bool:
        """Whether nobody works on the run; it may be resumed."""
        return self.view.status in ENDED

    @property
    def silent_seconds(self) -> float:
        """Time since the run folder last answered, by this process's own clock."""
        return time.monotonic() - self._heard

    def wish(self, what: Wish) -> None:
        """Ask the run to pause, stop or go on.

        A pause frees the device's memory. A stop writes a checkpoint; after 20 s, and with
        `kill` at once, the run's process is killed if it is on this computer. `resume` ends a
        pause, and starts a run again that nobody works on.
        """
        if what == "resume":
            self._starter.give_up_memory()
        self._put({"wish": what})

    def exclude(self, cases: Iterable[str]) -> None:
        """Leave out these cases from the next stage on, besides those that are already."""
        self._put({"wish": "exclude", "cases": sorted(cases)})

    def leave(self) -> None:
        """Follow it no more; the run goes on, and what was wished is done still."""
        self.is_left = True
        close_input(self.watcher)

    def hand_over(self, starter: Starter) -> None:
        """Let another one start its watchers from now on."""
        self._starter = starter
        self._begun = -_RESTART_SECONDS
        close_input(self.watcher)

    def look(self) -> bool:
        """Bring the view up to date; return whether it changed. It reads local files only."""
        now = time.monotonic()
        if self.is_left or now - self._looked < _LOOK_SECONDS:
            return False
        self._looked = now
        self._listen(now)
        had_request = self.request is not None
        if not had_request:
            # Not there yet, or just being written: the next look will do.
            with contextlib.suppress(SemiSupSegError):
                self.request = read_json(self._request_json)
        if self.watcher.poll() is not None and now - self._begun >= _RESTART_SECONDS:
            # Killed, perhaps; the run does not need it, but the window does.
            close_input(self.watcher)
            # Its Python may be gone; nobody else's jobs must suffer, and it is tried again.
            with contextlib.suppress(OSError):
                self.watcher = self._begin(None)
        return self._read() or (self.request is not None) != had_request

    @property
    def _view_json(self) -> Path:
        return self.mirror / "view.json"

    @property
    def _request_json(self) -> Path:
        return self.mirror / "request.json"

    def _begin(self, words: Sequence[str] | None) -> subprocess.Popen[bytes]:
        self._begun = time.monotonic()
        if words:
            self._starter.give_up_memory()
        asked = [str(self.mirror), str(self.folder), *(("--", *words) if words else ())]
        return self._starter.start_watcher(asked, self.mirror / "watch.log")

    def _listen(self, now: float) -> None:
        # Only that it changes counts: no clock's jump makes a run silent.
        with contextlib.suppress(OSError):
            stamp = (self.mirror / "heard").stat().st_mtime_ns
            if stamp != self._heard_stamp:
                self._heard_stamp, self._heard = stamp, now

    def _read(self) -> bool:
        try:
            found = self._view_json.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp == self._view_stamp:
                return False
            view = RunView.read(self._view_json)
        except (OSError, SemiSupSegError):
            # Not there yet, or, on Windows, being replaced: the next look will do.
            return False
        self._view_stamp = stamp
        former, self.view = self.view, view
        return view != former

    def _put(self, wish: dict[str, object]) -> None:
        self._num_wishes += 1
        folder = self.mirror / "wishes"
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{self._num_wishes:06d}.json", wish)
