"""Files of lines: appended whole or not at all, and read as they grow."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def cut_torn_end(path: Path, is_whole: Callable[[bytes], bool]) -> None:
    """Shorten a file to the end of its last line that has its line end and `is_whole`.

    After a power cut the end of a file may also be zeros, with or without line ends.
    """
    with path.open("rb+") as stream:
        position = whole = 0
        for line in stream:
            position += len(line)
            if line.endswith(b"\n") and is_whole(line[:-1]):
                whole = position
        if whole < position:
            stream.truncate(whole)


def append_lines(path: Path, lines: bytes, *, header: bytes = b"", sync: bool = False) -> None:
    """Append lines; if the disk is full, the file is left as it was.

    Args:
        path: Made if it is missing.
        lines: Each with its line end.
        header: Comes first in a file without lines.
        sync: Return only when the lines are on the disk.

    Raises:
        OSError: If they cannot be written.
    """
    with path.open("ab", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        rest = memoryview(lines if size else header + lines)
        try:
            while rest:
                # A full disk may take a part and say so only at the next write.
                rest = rest[stream.write(rest) :]
            if sync:
                os.fsync(stream.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                stream.truncate(size)
            raise


class NewLines:
    """The lines that a file gains while it is followed.

    Args:
        path: It need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._last = b""
        """The line before the offset, by which a file that was rewritten is recognised."""

    def read(self) -> tuple[list[bytes], bool]:
        """Return the whole lines since the last call, without their ends.

        A resumed run cuts its files back. Then all lines are returned, and True.

        Raises:
            OSError: If the file is there and cannot be read.
        """
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset - len(self._last))
                data = stream.read()
                is_other = not data.startswith(self._last)
                if is_other:
                    stream.seek(0)
                    data = stream.read()
        except FileNotFoundError:
            data, is_other = b"", self._offset > 0
        if is_other:
            self._offset = 0
        else:
            data = data[len(self._last) :]
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        if whole:
            self._last = whole[whole.rfind(b"\n", 0, -1) + 1 :]
        elif is_other:
            self._last = b""
        return whole.split(b"\n")[:-1], is_other
