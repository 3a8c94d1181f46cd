"""An append-only file of JSON lines: each is on the disk before `append` returns.

Several programs may have the file open. A line is written under the system's lock of the file, and
only if nobody else has written since this program read it; else the line is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from SemiSupSegLib.errors import SemiSupSegError

_TRIALS, _WAIT_SECONDS = 100, 0.01
_LOCKED_BYTE = 1 << 40
"""On Windows a lock is of bytes, which nobody else can then read; this one is never there."""


class ChangedElsewhereError(SemiSupSegError):
    """Another program has written to the file since this one read it."""


class Journal:
    """The lines of one file, and the right to add to them.

    Args:
        path: An existing file; `create` makes one.

    Raises:
        SemiSupSegError: If the file cannot be read or a line of it is damaged.
    """

    def __init__(self, path: Path):
        self.path = path
        data = _read(path)
        self.lines, self._whole = _parse(data, path)
        """The content of the lines, in order, and the number of bytes they take."""
        self._seen = len(data)
        self._head = data[: data.find(b"\n") + 1]

    @classmethod
    def create(cls, path: Path, first: Mapping[str, Any]) -> Journal:
        """Make a file with its first line.

        Raises:
            FileExistsError: If there is one already that has a whole line.
        """
        line = _line(first)
        with contextlib.suppress(FileNotFoundError):
            if b"\n" not in path.read_bytes().rstrip(b"\0"):
                path.unlink()  # a program was killed while it wrote the first line
        try:
            create_file(path, line)
        except FileExistsError:
            raise
        except OSError as error:
            raise _not_written(path, error) from error
        return cls(path)

    def append(self, content: Mapping[str, Any]) -> None:
        """Add a line; it is on the disk when this returns, or nothing of it is in the file.

        What a killed program left half written at the end of the file is removed first.

        Raises:
            ChangedElsewhereError: If another program has written meanwhile, or put another file
                here.
            SemiSupSegError: If the line cannot be written, for instance on a full disk.
        """
        line = _line(content)
        try:
            with self.path.open("rb+", buffering=0) as stream, _locked(stream):
                self._refuse_if_changed(stream)
                try:
                    if self._seen > self._whole:
                        stream.truncate(self._whole)
                    stream.seek(self._whole)
                    _write_all(stream, line)
                    os.fsync(stream.fileno())
                except OSError:
                    with contextlib.suppress(OSError):
                        stream.truncate(self._whole)
                        self._seen = self._whole
                    raise
        except FileNotFoundError:
            raise ChangedElsewhereError(
                f"{self.path} is no longer there: another program has begun it anew or removed it, "
                "so nothing was added. Open the case again."
            ) from None
        except OSError as error:
            raise _not_written(self.path, error) from error
        self._whole = self._seen = self._whole + len(line)
        self.lines.append(dict(content))

    def _refuse_if_changed(self, stream: BinaryIO) -> None:
        opened = os.fstat(stream.fileno())
        # It may have been moved while this program waited for the lock.
        is_same = opened.st_size == self._seen and os.path.samestat(opened, self.path.stat())
        # A file begun anew may have the same length, but not the same first line.
        if not is_same or stream.read(len(self._head)) != self._head:
            raise ChangedElsewhereError(
                f"Another program has written to {self.path} since it was opened here, so this was "
                "not added. Open the case again to see both, then repeat it."
            )


def whole_lines(path: Path) -> bytes:
    """Return the whole lines of a file; what is torn off at its end is left out.

    Raises:
        SemiSupSegError: If it cannot be read, or a line is damaged.
    """
    data = _read(path)
    return data[: _parse(data, path)[1]]


def add_lines(path: Path, data: bytes) -> int | None:
    """Let a file hold the lines of `data`; they are on the disk when this returns.

    Args:
        path: An existing file.
        data: Whole lines, from the first on.

    Returns:
        The number of bytes that were added, 0 if it held them; None if it holds other lines in
        their place, and then it is left alone.

    Raises:
        SemiSupSegError: If a line of the file is damaged.
        OSError: If it cannot be read or written; then nothing was added.
    """
    with path.open("rb+", buffering=0) as stream, _locked(stream):
        held = stream.read()
        whole = _parse(held, path)[1]
        if held[:whole].startswith(data):
            return 0
        if not data.startswith(held[:whole]):
            return None
        try:
            if len(held) > whole:
                stream.truncate(whole)
            stream.seek(whole)
            _write_all(stream, data[whole:])
            os.fsync(stream.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                stream.truncate(whole)
            raise
        return len(data) - whole


def create_file(path: Path, data: bytes) -> None:
    """Make a file with these lines.

    Raises:
        OSError: If there is one, or it cannot be written; then there is none.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb", buffering=0) as stream:  # noqa: PTH123 (a descriptor)
            _write_all(stream, data)
            os.fsync(stream.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def put_aside(path: Path, target: Path) -> None:
    """Move a file, so that no other program adds to it while it is moved."""
    if sys.platform == "win32":
        # A file that is open cannot be moved there.
        path.rename(target)
        return
    with path.open("rb+", buffering=0) as stream, _locked(stream):
        path.rename(target)


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of files to the disk, where the system can be asked to."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _line(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def _write_all(stream: BinaryIO, data: bytes) -> None:
    """Write all of it; a stream without buffer may take less at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise SemiSupSegError(f"{path} does not exist. Check the path.") from None
    except OSError as error:
        raise SemiSupSegError(f"{path} cannot be read ({error.strerror}). Check it.") from error


def _parse(data: bytes, path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines and the number of bytes they take.

    The end of the file is passed over if it has no line end, or is zeros, which a power cut leaves.
    """
    lines: list[dict[str, Any]] = []
    whole = 0
    pieces = data.split(b"\n")
    for number, piece in enumerate(pieces[:-1], start=1):
        content = _object(piece)
        if content is None:
            if all(b"\0" in one or not one for one in pieces[number - 1 :]):
                break
            raise SemiSupSegError(
                f"{path} is damaged: its line {number} is not JSON. Restore the file from a "
                "backup, or move it away and begin anew."
            )
        lines.append(content)
        whole += len(piece) + 1
    return lines, whole


def _object(piece: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(piece)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _not_written(path: Path, error: OSError) -> SemiSupSegError:
    return SemiSupSegError(
        f"{path} cannot be written ({error.strerror}), so this was not saved. Make room on the "
        "disk or check the folder's rights, then repeat it."
    )


@contextlib.contextmanager
def _locked(stream: BinaryIO) -> Iterator[None]:
    """Have the file for oneself; the system frees it if the program ends."""
    for trial in range(1, _TRIALS + 1):
        try:
            _lock(stream)
            break
        except OSError:
            if trial == _TRIALS:
                raise
            time.sleep(_WAIT_SECONDS)
    try:
        yield
    finally:
        _unlock(stream)


if sys.platform == "win32":
    import msvcrt

    def _lock(stream: BinaryIO) -> None:
        stream.seek(_LOCKED_BYTE)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        stream.seek(0)

    def _unlock(stream: BinaryIO) -> None:
        stream.seek(_LOCKED_BYTE)
        msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import errno
    import fcntl

    _WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
    """Some network shares have no locks; there the check of the length has to do."""

    def _lock(stream: BinaryIO) -> None:
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise

    def _unlock(stream: BinaryIO) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(stream.fileno(), fcntl.LOCK_UN)
