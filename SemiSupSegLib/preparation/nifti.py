"""Writing NIfTI files: the header of the input, the voxels compressed in parallel."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from SemiSupSegLib.errors import SemiSupSegError, in_sentences
from SemiSupSegLib.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from SemiSupSegLib.cases.geometry import Geometry

COMPRESSION_LEVEL = 2
"""On 240x240x155 maps level 6 took half as long again and saved 1 %."""
CHUNK_BYTES = 1 << 20
"""Compressed independently of each other, so that threads can share the work."""
_AFFINE_FIELDS = (
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
    "xyzt_units",
)


def write_nifti(
    path: Path,
    array: NDArray[np.generic],
    geometry: Geometry,
    *,
    like: Path | None = None,
    slope: float = 1.0,
) -> None:
    """Write a volume as NIfTI-1; `.nii.gz` is compressed.

    Args:
        path: The file to create or replace.
        array: (D, H, W) in a type NIfTI knows.
        geometry: The grid of the array.
        like: A NIfTI file on the same grid whose affine fields and codes are copied to the bit, so
            that every program that placed that file somewhere places this one there too. Other
            files are ignored.
        slope: A reader multiplies the stored values by it.

    Raises:
        SemiSupSegError: If the name does not end in .nii or .nii.gz, or writing fails.
    """
    import numpy as np

    if not path.name.endswith((".nii", ".nii.gz")):
        raise SemiSupSegError(f"{path} must end in .nii or .nii.gz. Choose another name.")
    if array.shape != geometry.shape:
        raise ValueError(f"array has shape {array.shape}, the grid has {geometry.shape}")
    header = _header(array.dtype, geometry, like, slope)
    # A C-ordered z, y, x array has the order of a NIfTI file, x fastest.
    voxels = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    parts = (header, voxels.reshape(-1).view(np.uint8).data)
    try:
        with replacing(path) as stream:
            if path.name.endswith(".gz"):
                write_gzip(stream, parts)
            else:
                stream.writelines(parts)
    except OSError as error:
        raise SemiSupSegError(f"{path} cannot be written. {in_sentences(error)}") from error


def write_gzip(stream: IO[bytes], parts: tuple[bytes | memoryview, ...]) -> None:
    """Write `parts` as one gzip member without name and time: same content, same bytes."""
    stream.write(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
    checksum, length = 0, 0
    with ThreadPoolExecutor() as threads:
        # Chunks end at a byte border, so their compressed forms can be joined.
        for compressed in threads.map(_deflate, _chunks(parts)):
            stream.write(compressed)
        for part in parts:
            checksum = zlib.crc32(part, checksum)
            length += len(part)
    stream.write(zlib.compressobj(wbits=-zlib.MAX_WBITS).flush())
    stream.write(struct.pack("<LL", checksum, length & 0xFFFFFFFF))


def _chunks(parts: tuple[bytes | memoryview, ...]) -> Iterator[bytes | memoryview]:
    for part in parts:
        for start in range(0, len(part), CHUNK_BYTES):
            yield part[start : start + CHUNK_BYTES]


def _deflate(chunk: bytes | memoryview) -> bytes:
    compressor = zlib.compressobj(COMPRESSION_LEVEL, wbits=-zlib.MAX_WBITS)
    return compressor.compress(chunk) + compressor.flush(zlib.Z_FULL_FLUSH)


def _header(dtype: np.dtype[Any], geometry: Geometry, like: Path | None, slope: float) -> bytes:
    import nibabel
    import numpy as np

    header = nibabel.Nifti1Header(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(geometry.size)
    header.set_xyzt_units("mm")
    source = _header_of(like, geometry.size)
    if source is None:
        ras_from_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
        affine = ras_from_lps @ geometry.index_to_lps()
        header.set_qform(affine, code=1)
        header.set_sform(affine, code=1)
    else:
        for name in _AFFINE_FIELDS:
            header[name] = source[name]
        header["pixdim"][:4] = source["pixdim"][:4]
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    header["scl_slope"] = slope
    header["scl_inter"] = 0
    # Four bytes after the header say that no extensions follow.
    return header.binaryblock + b"\0\0\0\0"


def _header_of(like: Path | None, size: tuple[int, int, int]) -> Any:
    import nibabel

    if like is None or not like.name.lower().endswith((".nii", ".nii.gz")):
        return None
    try:
        header = nibabel.load(like).header
    except (OSError, nibabel.filebasedimages.ImageFileError):
        return None
    return header if tuple(header["dim"][1:4]) == size else None
