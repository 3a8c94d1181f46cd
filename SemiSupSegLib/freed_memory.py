"""What becomes of memory that a network's layer frees, where the C library is glibc.

It gives large blocks back to the system at once and asks for new ones, which the system fills with
zeros page by page: a training on a CPU spends up to half of its time there.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of mallopt, from glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Let this process keep what it frees and use it again.

    The process then stays as large as it ever was, and becomes larger (with large batches nearly
    twice as large, docs/adr/0017), since free blocks lie between used ones;
    `give_back_freed_memory` is for the end of the work.

    Returns:
        Whether the C library can; elsewhere nothing changes.
    """
    library = _glibc()
    if library is None:
        return False
    # No block is mapped by itself, which would be unmapped when it is freed; -1: never trimmed.
    return bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, -1))


def give_back_freed_memory() -> None:
    """Give free memory to the system, between two pieces of work."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    # Others, musl for one, lack both.
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
