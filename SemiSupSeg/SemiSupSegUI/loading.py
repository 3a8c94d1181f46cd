"""Arrays that a worker hands over, read in pieces: a large one takes longer than a call may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_PIECE_BYTES = 4 * 2**20
"""Of fresh memory; a slow machine takes 15 ms for it."""


def load_in_pieces(path: Path) -> Iterator[None]:
    """Read a `.npy` file, a piece at a step; the generator returns the array.

    Raises:
        ValueError: If the file holds something else than numbers, or too few of them.
    """
    import numpy as np

    with path.open("rb") as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{path} is of another version of the format")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.hasobject or is_fortran:
            raise ValueError(f"{path} is no plain array of numbers")
        values = np.empty(shape, dtype)
        rest = memoryview(values.reshape(-1).view(np.uint8))
        while rest:
            number = stream.readinto(rest[:_PIECE_BYTES])
            if not number:
                raise ValueError(f"{path} ends too early")
            rest = rest[number:]
            yield
    return values
