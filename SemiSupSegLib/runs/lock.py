"""The file `lock`: which process works on a folder, and whether it still lives."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import write_json

HEARTBEAT_S = 10.0
"""How often the holder renews its lock."""
STALE_AFTER_S = 120.0
"""A holder on another computer that was silent for longer is taken for dead."""
OBSERVED_S = 30.0
"""So long such a lock is looked at before it is taken over: clocks of two computers may disagree
by hours, but a lock that changes has a living holder."""
_LOOK_S = 0.1


class LockedError(SemiSupSegError):
    """Another living process works on the folder."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that a lock names."""

    host: str
    pid: int
    started: str
    """The process's start as its system tells it; with `pid` it is unique, also after a reboot."""
    heartbeat: float
    """Seconds since 1970."""
    token: str
    """Random; tells two locks of one process apart."""


class Lock:
    """Exclusive use of a folder by one process, on one computer or several.

    Use it as a context manager, or `acquire` and `release`; call `heartbeat` while working.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._own: Holder | None = None

    def acquire(self) -> Holder | None:
        """Take the lock.

        Returns:
            The dead process whose lock was taken over, None if the folder was free.

        Raises:
            LockedError: If a living process has it.
        """
        if self._own is not None:
            raise RuntimeError(f"{self.path} is held by this object already")
        own = Holder(
            host=platform.node(),
            pid=os.getpid(),
            started=_start_of(os.getpid()) or "",
            heartbeat=time.time(),
            token=secrets.token_hex(8),
        )
        try:
            return self._take(own)
        except OSError as error:
            raise SemiSupSegError(
                f"{self.path} cannot be written ({error}). Choose a folder that you may write to."
            ) from error

    def _take(self, own: Holder) -> Holder | None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        former = None
        # Somebody else may take or leave the lock between any two of our steps.
        for _ in range(10):
            if self._create(own):
                self._own = own
                return former
            text = _text(self.path)
            if text is None:
                continue
            holder = _parse(text)
            if holder is None:
                _refuse_if_new(self.path)
            elif is_alive(holder) or (not _is_here(holder) and self._is_renewed(holder)):
                raise _locked(self.path, holder)
            if self._remove_stale(text):
                former = holder
        raise LockedError(f"{self.path} keeps changing: others start here too. Try again.")

    def heartbeat(self) -> None:
        """Say that the process lives; writes at most every 10 s, so call it as often as you like.

        Raises:
            LockedError: If somebody else took the lock meanwhile (this computer was asleep).
                Write nothing more then.
        """
        own = self._own
        if own is None:
            raise RuntimeError(f"{self.path} is not held")
        now = time.time()
        if 0 <= now - own.heartbeat < HEARTBEAT_S:
            return
        text = _text(self.path)
        holder = None if text is None else _parse(text)
        renewed = replace(own, heartbeat=now)
        if text is None:
            is_ours = self._create(renewed)
        else:
            is_ours = holder is not None and holder.token == own.token
            if is_ours:
                write_json(self.path, asdict(renewed))
        if not is_ours:
            # Kept as it is: each further heartbeat finds the same and says so again.
            who = "another process" if holder is None else in_words(holder)
            raise LockedError(
                f"{self.path} was taken over by {who}, because this one was silent for too long. "
                "It ends here without writing."
            )
        self._own = renewed

    def release(self) -> None:
        """Give the lock back; does nothing if it is not held or not ours any more."""
        own, self._own = self._own, None
        text = None if own is None else _text(self.path)
        holder = None if text is None else _parse(text)
        if own is not None and holder is not None and holder.token == own.token:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _create(self, own: Holder) -> bool:
        """Write the lock file if there is none, whole from its first moment where links exist."""
        temporary = self.path.with_name(f".{self.path.name}.{own.token}.part")
        content = json.dumps(asdict(own)).encode()
        try:
            temporary.write_bytes(content)
            try:
                os.link(temporary, self.path)
            except FileExistsError:
                return False
            except OSError:
                # exFAT and some network shares have no hard links.
                with contextlib.suppress(FileExistsError), self.path.open("xb") as stream:
                    stream.write(content)
                    return True
                return False
            return True
        finally:
            temporary.unlink(missing_ok=True)

    def _is_renewed(self, judged: Holder) -> bool:
        """Wait whether a holder that cannot be looked at renews its lock."""
        end = time.monotonic() + OBSERVED_S
        while time.monotonic() < end:
            time.sleep(_LOOK_S)
            text = _text(self.path)
            holder = None if text is None else _parse(text)
            if holder is None or holder.token != judged.token:
                return False
            if holder.heartbeat != judged.heartbeat:
                return True
        return False

    def _remove_stale(self, judged: str) -> bool:
        """Move the lock away, and put it back if it is no longer the one that was judged."""
        aside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}.part")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return False
        if _text(aside) == judged:
            aside.unlink(missing_ok=True)
            return True
        if not self.path.exists():
            aside.rename(self.path)
        else:
            aside.unlink()
        return False


def read_lock(path: Path) -> Holder | None:
    """Return the living holder of a lock, or None if the folder is free to take."""
    text = _text(path)
    holder = None if text is None else _parse(text)
    return holder if holder is not None and is_alive(holder) else None


def is_alive(holder: Holder) -> bool:
    """Return whether the process still runs, as far as this computer can tell at once.

    On this computer the process is looked at. On another one only its heartbeat is known, whose
    clock may be wrong; `LockWatch` and `Lock` look twice.
    """
    if holder.host == platform.node():
        with contextlib.suppress(PermissionError):
            return _start_of(holder.pid) == holder.started
    return abs(time.time() - holder.heartbeat) <= STALE_AFTER_S


class LockWatch:
    """Says who works on a folder, also where clocks jump: a lock that changes has a living holder.

    Args:
        path: The lock.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: Holder | None = None
        self._changed: float | None = None
        """When the lock was last seen to change, by this process's own clock."""

    def look(self) -> tuple[Holder | None, bool]:
        """Return who the lock names, if any, and whether that process lives.

        Raises:
            OSError: If the lock cannot be read.
        """
        text = _text(self._path)
        holder = None if text is None else _parse(text)
        if holder is None:
            self._seen = None
            return None, False
        if self._seen is None or self._seen.token != holder.token:
            self._changed = time.monotonic() if is_alive(holder) else None
        elif self._seen.heartbeat != holder.heartbeat:
            self._changed = time.monotonic()
        self._seen = holder
        if _is_here(holder):
            return holder, is_alive(holder)
        recent = self._changed is not None and time.monotonic() - self._changed <= STALE_AFTER_S
        return holder, recent


def _is_here(holder: Holder) -> bool:
    """Return whether the process is or was on this computer, and may be looked at."""
    if holder.host != platform.node():
        return False
    try:
        _start_of(holder.pid)
    except PermissionError:
        return False
    return True


def _start_of(pid: int) -> str | None:
    """Return when a process started, None if it has ended.

    Raises:
        PermissionError: If this user may not know.
    """
    if sys.platform == "linux":
        # Ticks since boot with the boot's id: unlike a time of day, a corrected clock changes
        # neither, so a living run is never taken for another process.
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            # Some systems hide other users' processes.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 0)
            return None
        if fields[0] in "ZX":
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {fields[19]}"
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return repr(process.create_time())
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied as error:
        raise PermissionError(f"process {pid} belongs to somebody else") from error


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _parse(text: str) -> Holder | None:
    try:
        content = json.loads(text)
        holder = Holder(
            host=str(content["host"]),
            pid=int(content["pid"]),
            started=str(content["started"]),
            heartbeat=float(content["heartbeat"]),
            token=str(content["token"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return holder if 0 < holder.pid < 2**31 else None


def _refuse_if_new(path: Path) -> None:
    """Refuse an unreadable lock that may be in the middle of being written."""
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return
    if age <= STALE_AFTER_S:
        raise LockedError(
            f"{path} is being written or damaged. Try again in two minutes, or delete the file "
            "if nothing works on this folder."
        )


def _locked(path: Path, holder: Holder) -> LockedError:
    return LockedError(
        f"{path.parent} is in use by {in_words(holder)}. Wait for it, stop it, or choose another "
        f"folder; if that process is gone for certain, delete {path}."
    )


def in_words(holder: Holder) -> str:
    """Name the process for a person."""
    return f"process {holder.pid} on {holder.host}"
