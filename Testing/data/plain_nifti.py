"""Write NIfTI with nothing but NumPy, which is all that Slicer's Python is sure to have."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from SemiSupSegLib.cases.geometry import Geometry

_DATA_START = 352
_MILLIMETRES = 2
_ALIGNED = 2
"""Code of an affine that goes to somebody's coordinates."""
_TYPE_CODES = {"uint8": 2, "int16": 4, "float32": 16, "uint16": 512}
_HEADER = "<i10s18sihcB8h3fhhhh8ffffhBBffffii80s24shh6f12f16s4s"


def write_plain_nifti(
    path: Path, array: np.ndarray, geometry: Geometry, *, slope: float = 1.0
) -> None:
    """Write a volume as `.nii.gz`, its place as sform.

    Args:
        path: The file to create.
        array: (D, H, W).
        geometry: Its grid.
        slope: A reader multiplies the stored values by it.
    """
    assert array.shape == geometry.shape
    lps_from_index = np.reshape(geometry.direction, (3, 3)) * geometry.spacing
    matrix = np.column_stack([lps_from_index, geometry.origin])
    matrix[:2] *= -1.0  # NIfTI counts to the right and to the front.
    header = struct.pack(
        _HEADER,
        *(348, b"", b"", 0, 0, b"r", 0),
        *(3, *geometry.size, 1, 1, 1, 1),
        *(0.0, 0.0, 0.0, 0),
        *(_TYPE_CODES[array.dtype.name], array.dtype.itemsize * 8, 0),
        *(1.0, *geometry.spacing, 0.0, 0.0, 0.0, 0.0),
        *(float(_DATA_START), slope, 0.0),
        *(0, 0, _MILLIMETRES),
        *(0.0, 0.0, 0.0, 0.0, 0, 0, b"", b""),
        *(0, _ALIGNED, *[0.0] * 6),
        *matrix.ravel(),
        *(b"", b"n+1"),
    )
    voxels = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    with gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) as stream:
        stream.write(header.ljust(_DATA_START, b"\0") + voxels)
