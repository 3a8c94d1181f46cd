"""Follows a training run for a window, which must not touch a folder that may lie on a dead share.

    python watch.py MIRROR RUN [-- WORDS]

keeps MIRROR/view.json (see run_view.py), MIRROR/request.json (what the run was asked for) and the
end of the run's log, MIRROR/worker.log, as they are in the folder RUN; touches MIRROR/heard each
time the folder has answered; and carries out the wishes that come into MIRROR/wishes. With WORDS it
first starts that command, which lives on.
Its standard input is its life line: when the window goes, it carries out what was wished and ends.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if not __package__:
    # Started by its path: beside this file lie modules that nothing must find under their names.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError, in_sentences
from SemiSupSegLib.files import read_json, replacing, write_json
from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.events import EventKind, EventLog
from SemiSupSegLib.runs.lock import Holder, Lock, LockWatch, in_words
from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.workers.processes import ERROR, kill, kill_foreign, start_worker, why_ended
from SemiSupSegLib.workers.run_record import RunRecord, short
from SemiSupSegLib.workers.run_view import ENDED, fitted, write_view

KILL_AFTER_SECONDS = 20.0
"""A run that was asked to stop has so long for its last checkpoint."""
_LOOK_SECONDS = 1.0
_WISH_SECONDS = 0.1
_GRACE_SECONDS = 5.0
"""A dead share may hold this process up so long after the window has gone."""
_LOG_BYTES = 8000
_LITTLE_BYTES = 32 * 2**20
"""With less room on its disk a run that ended without a word most likely ended for that."""


class Watcher:
    """Follows one run.

    Args:
        mirror: Local folder, read by the window.
        run: The run folder.
    """

    def __init__(self, mirror: Path, run: Path) -> None:
        self._mirror = mirror
        self._record = RunRecord(run)
        self._run = self._record.run
        self._lock = LockWatch(self._run.lock_file)
        self._holder: Holder | None = None
        """Who holds the lock and lives."""
        self._silent: Holder | None = None
        """Who holds it and seems not to live."""
        self._child: subprocess.Popen[bytes] | None = None
        self._code: int | None = None
        """How what was started here ended."""
        self._before: RunState | None = None
        """What an earlier session has left in state.json."""
        self._not_started = ""
        """Why the command could not be started here."""
        self._log_offset = 0
        self._command: tuple[str, ...] = ()
        self._wanted: str | None = None
        """What the run has not heard yet: it forgets what was wished before it begins."""
        self._kill_at: float | None = None
        self._refused = ""
        self._content: dict[str, Any] = {}
        """Of the last view, but for the curves."""
        self._log = b""
        self._request: Mapping[str, Any] | None = None

    def start(self, words: Sequence[str]) -> None:
        """Start or resume the run, unless somebody works on it already."""
        self._command = tuple(words)
        self._refused = self._not_started = ""
        try:
            self._run.path.mkdir(parents=True, exist_ok=True)
            self._look_at_lock()
            if self._is_worked_on:
                self._wanted = "start"
                return
            with contextlib.suppress(OSError, SemiSupSegError):
                self._record.read()
            self._before = self._record.state
            log = self._run.path / "worker.log"
            self._log_offset = log.stat().st_size if log.exists() else 0
            self._code = None
            self._child = start_worker(sys.executable, words, log, has_life_line=False)
        except OSError as error:
            self._not_started = f"The run was not started. {in_sentences(error)}"
            told = {"status": "failed", "error": self._not_started}
            self._write({**told, "command": list(words)})

    def carry_out_wishes(self) -> bool:
        """Do what the window has asked for, in its order; return whether it has."""
        folder = self._mirror / "wishes"
        files = sorted(folder.glob("*.json")) if folder.is_dir() else []
        for file in files:
            try:
                self._carry_out(read_json(file))
            except (OSError, SemiSupSegError) as error:
                self._refused = str(in_sentences(error))
            file.unlink(missing_ok=True)
        return bool(files)

    def look(self) -> None:
        """Bring the mirror up to date.

        Raises:
            OSError: If the run folder does not answer.
        """
        try:
            self._look()
        except OSError:
            # Of a folder in which nothing could be started that is told already.
            if not self._not_started:
                raise
        (self._mirror / "heard").touch()

    def _look(self) -> None:
        self._look_at_child()
        self._look_at_lock()
        has_news = self._read()
        if self._record.command:
            self._command = self._record.command
        status = self._status()
        self._insist(status)
        content = self._record.content() | {"command": list(self._command)} | self._told(status)
        if has_news or content != self._content:
            self._content = content
            self._write(fitted(content, self._record.curves))
        if self._record.request != self._request:
            self._request = self._record.request
            write_json(self._mirror / "request.json", self._request)
        self._copy_log()

    def _read(self) -> bool:
        """Take in what has changed; a folder that was never seen is told, not waited for."""
        try:
            return self._record.read()
        except FileNotFoundError:
            if self._content.get("status", "missing") != "missing":
                raise
            return False

    def _write(self, content: Mapping[str, Any]) -> None:
        # Somebody may delete the jobs' folders while a panel is open.
        self._mirror.mkdir(parents=True, exist_ok=True)
        write_view(self._mirror / "view.json", {"heard": round(time.time(), 3), **content})

    @property
    def _is_worked_on(self) -> bool:
        return self._holder is not None or (self._child is not None and self._code is None)

    def _look_at_child(self) -> None:
        if self._child is not None and self._code is None:
            self._code = self._child.poll()

    def _look_at_lock(self) -> None:
        holder, is_alive = self._lock.look()
        self._holder, self._silent = (holder, None) if is_alive else (None, holder)

    def _status(self) -> str:
        state, holder = self._record.state, self._holder
        has_begun = state is not None and state != self._before
        told = "waiting" if state is None else state.status.value
        if holder is not None:
            # Until the holder has said something, the state is that of a session before.
            own = state is not None and (state.pid, state.host) == (holder.pid, holder.host)
            return told if own else "waiting"
        if self._is_worked_on:
            return told if has_begun else "waiting"
        if self._not_started and not has_begun:
            return "failed"
        if self._code not in (None, 0, 3) and not has_begun:
            return "failed"
        if state is None and self._code is not None:
            return "failed"
        if state is None and self._silent is None:
            return self._status_without_state()
        if state is not None and told in ("waiting", "running", "paused"):
            if self._silent is not None and self._silent.host != platform.node():
                return "foreign-host-silent"
            return "dead"
        return told

    def _status_without_state(self) -> str:
        if self._record.problem is not None:
            return "failed"
        return "missing" if self._record.request is None else "dead"

    def _told(self, status: str) -> dict[str, Any]:
        """Return what a view says of the process."""
        state = self._record.state
        locked = None
        holder, is_ours = self._holder, self._child is not None and self._code is None
        if holder is not None and not (is_ours and holder.host == platform.node()):
            locked = in_words(holder)
        error = state.error if state is not None and status in ("failed", "stopped") else None
        log = self._run.path / "worker.log"
        has_begun = state is not None and state != self._before
        if status == "failed" and not has_begun and self._not_started:
            error = self._not_started
        elif status == "failed" and not has_begun and self._code is not None:
            error = why_ended([log], self._code, offset=self._log_offset)
        elif status == "missing":
            error = (
                f"{self._run.path} holds no run. It was moved or removed, its drive or share is "
                "not connected, or it is another folder."
            )
        elif status == "dead":
            error = self._why_dead()
        elif status == "foreign-host-silent" and self._silent is not None:
            error = (
                f"{in_words(self._silent)} has said nothing for two minutes or more. It was "
                "killed, or that computer is down or cut off."
            )
        return {
            "status": status,
            "is_locked_by": locked,
            "error": short(error or self._record.problem),
            "what_to_do": self._what_to_do(status),
            "refused": self._refused,
        }

    def _why_dead(self) -> str:
        place = f" (code {self._code})" if self._code is not None else ""
        room = self._free_bytes()
        if room is not None and room < _LITTLE_BYTES:
            return (
                f"The run has ended without a word{place}: the disk of {self._run.path} is full "
                f"({room // 10**6} MB free). Make room there."
            )
        told = self._last_error()
        if told:
            return told
        return (
            f"The run's process is gone without a word{place}. It was killed, most often for want "
            "of memory, or the computer went down."
        )

    def _last_error(self) -> str:
        """Return what the run could still print when its folder took no state.json any more."""
        try:
            log = self._run.path / "worker.log"
            # Else it is of a session before, or of somebody who found the folder in use.
            if log.stat().st_mtime_ns < self._run.state_json.stat().st_mtime_ns:
                return ""
            lines = self._end_of_log().decode("utf-8", errors="replace").split("\n")
        except OSError:
            return ""
        last = next((one.strip() for one in reversed(lines) if one.strip()), "")
        return last.removeprefix(ERROR) if last.startswith(ERROR) else ""

    def _free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self._run.path).free
        except OSError:
            return None

    def _what_to_do(self, status: str) -> str:
        if status == "missing":
            return "Connect the drive, or open the run where it is now."
        if status not in ("stopped", "failed", "dead", "foreign-host-silent"):
            return ""
        checkpoint = self._record.history.checkpoint
        if checkpoint is None:
            return "Resume begins anew: there was no checkpoint yet."
        count = self._record.num_processes
        if count > 1:
            # From here it would be one process, which the run refuses.
            return (
                f"Start it again as it was, with {counted(count, 'processes')} (torchrun): it goes "
                f"on from update {checkpoint}; nothing learnt up to there is lost."
            )
        return f"Resume goes on from update {checkpoint}; nothing learnt up to there is lost."

    # Wishes

    def _carry_out(self, wish: Mapping[str, Any]) -> None:
        self._refused = ""
        what = wish["wish"]
        control = Control(self._run.control)
        if what == "exclude":
            control.exclude(wish["cases"])
        elif what == "resume":
            self._wanted, self._kill_at = what, None
        elif what == "kill":
            self._kill()
        elif what in ("pause", "stop"):
            self._wanted = what
            if what == "stop":
                self._kill_at = time.monotonic() + KILL_AFTER_SECONDS
            self._look_at_child()
            self._look_at_lock()
            if self._is_worked_on:
                _want(control, what)

    def _insist(self, status: str) -> None:
        """Repeat a wish until it is met; a stop is enforced after a while."""
        if self._wanted is None:
            return
        if self._wanted in ("start", "resume"):
            self._start_again(status)
            return
        if status in ENDED or (self._wanted == "pause" and status == "paused"):
            self._wanted = self._kill_at = None
            return
        if self._is_worked_on:
            _want(Control(self._run.control), self._wanted)
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            self._kill()

    def _start_again(self, status: str) -> None:
        if not self._is_worked_on:
            self._wanted = None
            if self._command:
                self.start(self._command)
            else:
                self._refused = "The run does not tell by which command it was started."
        elif status not in ENDED:
            # Else the process of the session before is about to end.
            if self._wanted == "resume":
                Control(self._run.control).clear()
            self._wanted = None

    def _kill(self) -> None:
        self._wanted = self._kill_at = None
        self._look_at_child()
        was_ours = self._child is not None and self._code is None
        if self._child is not None and was_ours:
            kill(self._child)
            self._code = self._child.returncode
        # Of two that were started at once, the other one may have the lock.
        self._look_at_lock()
        holder = self._holder
        if holder is None and not was_ours:
            self._refused = "Nobody works on the run."
            return
        if holder is not None and holder.host != platform.node():
            self._refused = (
                f"{in_words(holder)} can be ended there only. It can be asked to stop, which it "
                "does when it hears it."
            )
            return
        if holder is not None:
            kill_foreign(holder.pid)
        self._say_stopped()

    def _say_stopped(self) -> None:
        """Write down, in the dead process's place, that somebody ended it."""
        end = time.monotonic() + _GRACE_SECONDS
        while self._lock.look()[1] and time.monotonic() < end:
            time.sleep(_WISH_SECONDS)
        # Nobody else writes meanwhile.
        with Lock(self._run.lock_file):
            Control(self._run.control).clear()
            EventLog(self._run.events_file).append(EventKind.STOPPED)
            former = RunState()
            with contextlib.suppress(SemiSupSegError):
                former = RunState.read(self._run.state_json)
            stopped = replace(former, status=RunStatus.STOPPED, error="Stopped by force.")
            stopped.write(self._run.state_json)

    def _end_of_log(self) -> bytes:
        with (self._run.path / "worker.log").open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LOG_BYTES))
            return stream.read()

    def _copy_log(self) -> None:
        try:
            text = self._end_of_log()
        except FileNotFoundError:
            return
        if text != self._log:
            with replacing(self._mirror / "worker.log") as stream:
                stream.write(text)
            self._log = text


def _want(control: Control, what: str) -> None:
    if what == "pause":
        control.want_pause()
    else:
        control.want_stop()


def watch(mirror: Path, run: Path, words: Sequence[str], closing: threading.Event) -> None:
    """Follow a run until `closing`.

    Args:
        mirror: Local folder, read by the window.
        run: The run folder.
        words: The command that starts or resumes it; none: only look.
        closing: Set when the window has gone.
    """
    watcher = Watcher(mirror, run)
    if words:
        watcher.start(words)
    looked = -_LOOK_SECONDS
    while True:
        is_last = closing.is_set()
        has_wished = watcher.carry_out_wishes()
        if is_last and not has_wished:
            return
        if has_wished or time.monotonic() - looked >= _LOOK_SECONDS:
            looked = time.monotonic()
            # The folder does not answer: that nothing is heard of it, the window sees.
            with contextlib.suppress(OSError, SemiSupSegError):
                watcher.look()
        closing.wait(_WISH_SECONDS)


def main(words: Sequence[str]) -> int:
    """Follow the run until the standard input ends."""
    closing = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        closing.set()
        time.sleep(_GRACE_SECONDS)
        os._exit(0)

    threading.Thread(target=listen, daemon=True, name="life line").start()
    mirror, run, *rest = words
    watch(Path(mirror), Path(run), rest[1:], closing)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
