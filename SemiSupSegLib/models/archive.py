"""A model package as one zip file: only known names, plain files and bounded sizes come out."""

from __future__ import annotations

import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from SemiSupSegLib.errors import SemiSupSegError

LARGEST_RATIO = 200
"""JSON shrinks to a tenth, weights are not compressed; more than this means a zip bomb."""
_RATIO_COUNTS_FROM = 2**20

_WAYS_TO_FAIL = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)


class ArchiveError(SemiSupSegError):
    """A zip file that is refused."""


def extract(path: Path, folder: Path, max_bytes: Mapping[str, int]) -> None:
    """Extract a zip into `folder`.

    Args:
        path: The zip file.
        folder: An empty folder.
        max_bytes: Names that may occur, with their largest size. Since names are compared
            whole, none can lead out of `folder`.

    Raises:
        ArchiveError: If anything about the zip is not as `pack` makes it.
    """
    try:
        with zipfile.ZipFile(path) as content:
            entries = content.infolist()
            _refuse_unsafe(path, entries, max_bytes)
            for entry in entries:
                with content.open(entry) as source, (folder / entry.filename).open("xb") as target:
                    _copy_bounded(source, target, entry.file_size)
    except _WAYS_TO_FAIL as error:
        raise ArchiveError(
            f"{path} is not a model package, or is damaged or incomplete ({error}). "
            "Get the file again."
        ) from error


def pack(stream: IO[bytes], files: Sequence[Path]) -> None:
    """Write a zip of `files`, without times, so that the same files give the same bytes."""
    with zipfile.ZipFile(stream, "w") as content:
        for file in files:
            entry = zipfile.ZipInfo(file.name, (1980, 1, 1, 0, 0, 0))
            # Weights hardly shrink, and unpacking them should cost no time.
            is_text = file.suffix in (".json", ".md")
            entry.compress_type = zipfile.ZIP_DEFLATED if is_text else zipfile.ZIP_STORED
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            with file.open("rb") as source, content.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, 2**20)


def _refuse_unsafe(
    path: Path, entries: Sequence[zipfile.ZipInfo], max_bytes: Mapping[str, int]
) -> None:
    seen = set()
    for entry in entries:
        problem = None
        kind = stat.S_IFMT(entry.external_attr >> 16)
        # orig_filename: zipfile shortens names at a zero byte and changes separators.
        if entry.filename not in max_bytes or entry.orig_filename != entry.filename:
            problem = "does not belong into a model package"
        elif entry.filename in seen:
            problem = "is in it twice"
        elif kind not in (0, stat.S_IFREG):
            problem = "is a link or not a plain file"
        elif entry.flag_bits & 0x1:
            problem = "is encrypted"
        elif entry.file_size > max_bytes[entry.filename]:
            problem = f"has {entry.file_size:,} bytes, more than {max_bytes[entry.filename]:,}"
        elif entry.file_size > max(_RATIO_COUNTS_FROM, LARGEST_RATIO * entry.compress_size):
            problem = "grows beyond all measure when unpacked"
        if problem is not None:
            raise ArchiveError(
                f"{path}: {entry.orig_filename!r} {problem}. Nothing was unpacked; get the model "
                "from somebody you trust."
            )
        seen.add(entry.filename)


def _copy_bounded(source: IO[bytes], target: IO[bytes], size: int) -> None:
    copied = 0
    while block := source.read(2**20):
        copied += len(block)
        if copied > size:
            raise ValueError("more data than announced")
        target.write(block)
    if copied != size:
        raise EOFError("less data than announced")
