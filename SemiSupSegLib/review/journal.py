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
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with open(descriptor, "wb", buffering=0) as stream:  # noqa: PTH123 (a descriptor)
                _write_all(stream, line)
                os.fsync(stream.fileno())
        except OSError as error:
            path.unlink(missing_ok=True)
            raise _not_written(path, error) from error
        sync_folder(path.parent)
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
        is_same = os.fstat(stream.fileno()).st_size == self._seen
        # A file begun anew may have the same length, but not the same first line.
        if not is_same or stream.read(len(self._head)) != self._head:
            raise ChangedElsewhereError(
                f"Another program has written to {self.path} since it was opened here, so this was "
                "not added. Open the case again to see both, then repeat it."
            )


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
