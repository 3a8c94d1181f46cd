"""Errors that a user can act on."""

from __future__ import annotations

import errno
import re
from pathlib import Path

_WINDOWS_DISK_FULL = 112
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG, _WINDOWS_DISK_FULL)
_NO_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)
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


class FolderRefusesError(PermissionError):
    """Nothing can be written to a folder, which is the error's `filename`."""


def renamed(error: BaseException, temporary: str, path: Path) -> OSError | None:
    """Return what the system refused of a temporary file, told of the file that was meant.

    Args:
        error: What was raised.
        temporary: The name of the temporary file, or how it begins.
        path: The file whose place it was to take.

    Returns:
        None if the error is of something else.
    """
    # A rename names its target, too: a program that holds it on Windows, not the folder, refuses.
    if not isinstance(error, OSError) or error.filename2 is not None:
        return None
    is_ours = Path(str(error.filename or "")).name.startswith(temporary)
    if is_ours and error.errno in _NO_RIGHTS:
        return FolderRefusesError(error.errno, error.strerror, str(path.parent))
    # A stream that is written to does not name its file.
    if is_ours or (error.filename is None and error.errno in _FULL):
        return OSError(error.errno, error.strerror, str(path))
    return None


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
    if isinstance(error, FolderRefusesError):
        return (
            f"Nothing can be written to the folder {error.filename} ({error.strerror}). Ask for "
            "the right to write there, or copy the folder to a place of your own and use the copy."
        )
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
