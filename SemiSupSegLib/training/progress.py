"""How far a run is, for whoever looks at its folder, and what they wish of it."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from SemiSupSegLib.errors import StoppedError
from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.events import EventKind, EventLog
from SemiSupSegLib.runs.lock import Lock
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.training.distribution import ALONE, Distribution, NoLog

_WRITE_SECONDS = 2.0
_POLL_SECONDS = 0.5
_TELL_SECONDS = 20.0
_TRUSTED_SECONDS = 60.0
"""After so much work the run's own pace counts as much as that of the trial before it."""

logger = logging.getLogger(__name__)

Wish = Literal["pause", "stop"]
_WISHES: tuple[Wish | None, ...] = (None, "pause", "stop")


class Progress:
    """Keeps `state.json` and the lock's heartbeat fresh, and reads the control files.

    Args:
        run: The run folder.
        lock: Held by this process; None if another one of the run holds it, and writes.
    """

    def __init__(self, run: RunFolder, lock: Lock | None) -> None:
        self._run = run
        self._lock = lock
        self._events = EventLog(run.events_file) if lock is not None else NoLog()
        self.distribution: Distribution = ALONE
        """The processes that work together now: what one is wished, all do."""
        self._control = Control(run.control)
        self._updates = 0
        self._planned = 0
        self._finished = 0
        self.seconds_before = 0.0
        self.on_pause: Callable[[], None] = _nothing
        """Called before a pause, to give up what others may want meanwhile."""
        self.on_resume: Callable[[], None] = _nothing
        self.device_use: Callable[[], Mapping[str, Any]] | None = None
        """What is used of the run's device, once there is one."""
        self._session = time.monotonic()
        self._phase = ""
        self._iteration = 0
        self._planned_seconds: float | None = None
        self._done = 0.0
        """Seconds of work by the trial if there was one, else passes."""
        self._done_at_start: float | None = None
        self._started = self._advanced = time.monotonic()
        self._doing = ""
        self._polled = 0.0
        self._written = 0.0
        self._told = time.monotonic()

    def begin(self, updates: int, work: int, seconds: float | None = None) -> None:
        """Say how much there is to do.

        Args:
            updates: Of all phases.
            work: They and all else, in forward passes over one patch.
            seconds: The same, as a trial tells; None: there was none.
        """
        self._updates = updates
        self._planned = work
        self._planned_seconds = seconds
        self._advanced = time.monotonic()

    def enter(self, phase: str, iteration: int, work: int, seconds: float | None = None) -> None:
        """Say which phase has begun, and how much is done; see `advance`."""
        self._phase = phase
        self._note(iteration, work, seconds)
        self.write(RunStatus.RUNNING)

    def advance(self, iteration: int, work: int, seconds: float | None = None) -> None:
        """Say that an update has been made; written down every two seconds.

        Args:
            iteration: Updates done.
            work: Done, that between the updates included, in forward passes.
            seconds: That work as a trial tells; None: there was none.
        """
        if self._done_at_start is None:
            # The first update's time is mostly that of first calls.
            self._done_at_start = work if seconds is None else seconds
            self._started = time.monotonic()
        self._note(iteration, work, seconds)
        self._advanced = time.monotonic()
        if time.monotonic() - self._written > _WRITE_SECONDS:
            self.write(RunStatus.RUNNING)

    def _note(self, iteration: int, work: int, seconds: float | None) -> None:
        self._iteration, self._finished = iteration, work
        self._done = work if seconds is None else seconds

    def each(self, case_ids: Iterable[str], what: str) -> Iterator[str]:
        """Go through cases, keeping the heartbeat and obeying wishes between them."""
        ids = tuple(case_ids)
        for number, case_id in enumerate(ids, start=1):
            self.attend(f"{what}, case {number} of {len(ids)}")
            yield case_id

    def attend(self, what: str) -> None:
        """Keep the heartbeat and obey wishes during long work; call it as often as you like."""
        self._doing = what
        if self.distribution.first_says(time.monotonic() - self._written > _WRITE_SECONDS):
            self.write(RunStatus.RUNNING, doing=what)
            wish = self.wish()
            if wish:
                self.obey(wish)

    def beat(self) -> None:
        """Keep the heartbeat within the work on one case, where a pause has to wait."""
        if time.monotonic() - self._written > _WRITE_SECONDS:
            self.write(RunStatus.RUNNING, doing=self._doing)

    def is_stop_wanted(self) -> bool:
        """Return whether to stop at once; cheap to ask often.

        Several processes stop together, between two cases.
        """
        if not self.distribution.is_alone or time.monotonic() - self._polled < _POLL_SECONDS:
            return False
        self._polled = time.monotonic()
        return self._control.is_stop_wanted

    def wish(self) -> Wish | None:
        """Return what a control file asks for, as the first process sees it."""
        seen = 2 * self._control.is_stop_wanted or int(self._control.is_pause_wanted)
        return _WISHES[self.distribution.first_says(seen)]

    def obey(self, wish: Wish) -> None:
        """Stop, or wait until the pause file is gone.

        Raises:
            StoppedError: If stopping was asked for, also during a pause.
        """
        if wish == "pause":
            began = time.monotonic()
            self.on_pause()
            # The state comes last: whoever reads it finds the event.
            self._events.append(EventKind.PAUSED, iteration=self._iteration)
            self.write(RunStatus.PAUSED)
            while (now := self.wish()) == "pause":
                time.sleep(_POLL_SECONDS)
                if time.monotonic() - self._written > _WRITE_SECONDS:
                    self.write(RunStatus.PAUSED)
            if now is None:
                self.on_resume()
                self._leave_out(time.monotonic() - began)
                self._events.append(EventKind.RESUMED, iteration=self._iteration)
                self.write(RunStatus.RUNNING)
                return
        if self._lock is not None:
            self._control.clear()
        self._events.append(EventKind.STOPPED, iteration=self._iteration)
        self.write(RunStatus.STOPPED)
        raise StoppedError(f"Stopped at update {self._iteration} of {self._updates}.")

    def _leave_out(self, seconds: float) -> None:
        """Take a pause out of the working time."""
        self._session += seconds
        self._started += seconds
        self._advanced += seconds

    def write(self, status: RunStatus, error: str | None = None, doing: str = "") -> None:
        """Replace `state.json` and renew the lock."""
        self._written = time.monotonic()
        if self._lock is None:
            return
        self._tell(doing)
        self._lock.heartbeat()
        RunState(
            status=status,
            phase=": ".join(one for one in (self._phase, doing) if one),
            iteration=self._iteration,
            planned=self._planned,
            finished=self._planned if status is RunStatus.FINISHED else self._finished,
            seconds_left=self._seconds_left(),
            pid=os.getpid(),
            host=platform.node(),
            heartbeat=time.time(),
            error=error,
            device=None if self.device_use is None else self.device_use(),
        ).write(self._run.state_json)

    def _tell(self, doing: str) -> None:
        """Say on the terminal how far the work is, a few times a minute."""
        if time.monotonic() - self._told < _TELL_SECONDS:
            return
        self._told = time.monotonic()
        if not self._updates:
            logger.info("%s", doing)
            return
        left = self._seconds_left()
        logger.info(
            "%s%s: update %d of %d%s",
            self._phase,
            f", {doing}" if doing else "",
            self._iteration,
            self._updates,
            f", about {max(1, round(left / 60))} min left" if left else "",
        )

    @property
    def seconds(self) -> float:
        """Working time of the run, earlier sessions included."""
        return self.seconds_before + time.monotonic() - self._session

    def _seconds_left(self) -> float | None:
        done = taken = 0.0
        if self._done_at_start is not None:
            # After a rewind there may be less than at the start.
            done = max(0.0, self._done - self._done_at_start)
            taken = self._advanced - self._started
        planned: float = self._planned
        if self._planned_seconds is not None:
            # At the start the trial alone knows; it tells what `plan` has told.
            planned = self._planned_seconds
            done, taken = done + _TRUSTED_SECONDS, taken + _TRUSTED_SECONDS
        if done <= 0:
            return None
        # Work on cases between updates is planned, but only its time tells how much is done.
        left = taken / done * (planned - self._done) - (time.monotonic() - self._advanced)
        return round(max(left, 0.0), 1)


def _nothing() -> None:
    pass
