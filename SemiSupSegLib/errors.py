"""Errors that a user can act on."""

from __future__ import annotations

import errno
import re
from pathlib import Path

_WINDOWS_DISK_FULL = 112
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG, _WINDOWS_DISK_FULL)
_NO_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory")
"""How PyTorch says on each system that the computer has no memory left."""


class SemiSupSegError(Exception):
    """Something a person can mend: the message says what happened, to which file, what to do."""

    exit_code = 1
    """Of the command that it ends."""


class UsageError(SemiSupSegError):
    """The command or its options make no sense."""

    exit_code = 2


class StoppedError(SemiSupSegError):
    """Work ended because somebody asked for it; it can be resumed."""

    exit_code = 3


def in_sentences(error: BaseException) -> str | None:
    """Return what the system refused, for which file, and what to do; None of other errors."""
    if isinstance(error, SemiSupSegError):
        return str(error)
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return "The computer has too little free memory. Close other programs."
    if isinstance(error, ModuleNotFoundError):
        return f"The package {error.name} is missing. Install it (in Slicer: Setup, Install)."
    if "CUDA out of memory" in str(error):
        return "The GPU has too little free memory. Close other programs that use it."
    # safetensors tells what the system refused in its text only.
    refused = re.search(r"\(os error (\d+)\)", str(error))
    if refused is not None and int(refused[1]) in _FULL:
        return f"The disk is full, or your share of it is ({error}). Make room there."
    if not isinstance(error, OSError):
        return None
    file = error.filename2 or error.filename
    if isinstance(file, str) and Path(file).name.startswith(".") and ".part" in file:
        # A temporary name, which tells a user nothing; its folder does.
        file = str(Path(file).parent)
    what = f"{file}: {error.strerror}" if file else str(error)
    if error.errno in _FULL:
        return f"The disk is full, or your share of it is ({what}). Make room there."
    return (
        f"{what}. Check that the path exists and may be read and written, and that the disk has "
        "space."
    )
