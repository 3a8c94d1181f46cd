"""Appending to files of lines: what a killed writer left half written goes before the next line."""

from __future__ import annotations

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
