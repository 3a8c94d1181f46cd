"""A stored array, memory-mapped: opened for each patch, thousands of times in a run."""

from __future__ import annotations

import mmap
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def mapped_array(file: Path) -> NDArray[Any]:
    """Return the array of a `.npy` file, memory-mapped and read-only.

    `numpy.load(file, mmap_mode="r")` reads and evaluates the header each time: to cut a batch of
    four patches then took twice as long. A file under a name holds one array for good: the store
    names folders by content and settings.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If it is no such file, or shorter than its header says.
    """
    import numpy as np

    dtype, shape, offset = _layout(file)
    with file.open("rb") as stream:
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return np.ndarray(shape, dtype, buffer=content, offset=offset)
    except TypeError as error:
        raise ValueError(f"it has {len(content)} bytes, which is too short") from error


@lru_cache(maxsize=4096)
def _layout(file: Path) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return type, shape and place of a file's array."""
    import numpy as np

    # NumPy reads the header: kept are only its answers.
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except EOFError as error:
        raise ValueError("it is empty") from error
    if not isinstance(array, np.memmap) or not array.flags.c_contiguous:
        raise ValueError("it holds no single array in C order")
    return array.dtype, array.shape, array.offset
