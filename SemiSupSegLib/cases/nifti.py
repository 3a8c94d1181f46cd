"""NIfTI files: header, grid and voxels, with every damage noticed.

ITK fills the missing end of a truncated NIfTI file with zeros and says nothing, so these files
are read here: nibabel for the header, gzip's own checksum for the data.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.geometry import SAME_GRID_VOXELS, Geometry
from SemiSupSegLib.cases.image_error import ImageFileError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HEADER_BYTES = 540
_ORTHONORMAL = 1e-4
"""Largest deviation of cosines that is rounding of float32 headers."""


@dataclass(frozen=True, kw_only=True)
class NiftiHeader:
    """What a NIfTI header says."""

    geometry: Geometry
    components: int
    """Number of volumes in the file."""
    dtype: np.dtype[Any]
    data_offset: int
    slope: float
    intercept: float
    note: str = ""
    """A doubt about the grid: code of a warning, or empty."""

    @property
    def num_bytes(self) -> int:
        """Bytes of voxel data."""
        return math.prod(self.geometry.size) * self.components * self.dtype.itemsize

    @property
    def is_scaled(self) -> bool:
        """Whether stored values must be scaled to real ones."""
        return (self.slope, self.intercept) != (1.0, 0.0)


def read_nifti_header(path: Path) -> NiftiHeader:
    """Return the header of a file; for uncompressed files its length is checked too.

    Raises:
        ImageFileError: If it is no NIfTI file, truncated, or not three-dimensional.
    """
    try:
        if _is_compressed(path):
            with gzip.open(path) as stream:
                start = stream.read(_HEADER_BYTES)
            return parse_nifti_header(start, path)
        with path.open("rb") as stream:
            header = parse_nifti_header(stream.read(_HEADER_BYTES), path)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error
    length = path.stat().st_size
    if length < header.data_offset + header.num_bytes:
        raise _truncated(path, length, header.data_offset + header.num_bytes)
    return header


def read_nifti_bytes(path: Path) -> tuple[bytes, bytes]:
    """Return a file's bytes as stored and unpacked (one object if it is not compressed).

    Raises:
        ImageFileError: If it cannot be read, is truncated or fails its checksum.
    """
    try:
        stored = path.read_bytes()
        return stored, gzip.decompress(stored) if _is_compressed(path) else stored
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def nifti_voxels(header: NiftiHeader, unpacked: bytes, path: Path) -> NDArray[Any]:
    """Return the stored values, shape (components, D, H, W), unscaled and read-only.

    Raises:
        ImageFileError: If the data end before the last voxel.
    """
    import numpy as np

    needed = header.data_offset + header.num_bytes
    if len(unpacked) < needed:
        raise _truncated(path, len(unpacked), needed)
    count = header.num_bytes // header.dtype.itemsize
    flat = np.frombuffer(unpacked, header.dtype, count, header.data_offset)
    return flat.reshape(header.components, *header.geometry.shape)


def parse_nifti_header(start: bytes, path: Path) -> NiftiHeader:
    """Return what the first bytes of a NIfTI-1 or NIfTI-2 file say.

    Raises:
        ImageFileError: If they are no header of a three-dimensional image.
    """
    import nibabel
    from nibabel.spatialimages import HeaderDataError

    kind = nibabel.Nifti2Header if _is_nifti2(start) else nibabel.Nifti1Header
    if len(start) < kind.sizeof_hdr:
        raise _unreadable(path, "too short for a header")
    try:
        # From bytes, since nibabel's file readers want the extensions too; check=False, since it
        # would log repairs of fields that nothing here depends on.
        raw = kind(start[: kind.sizeof_hdr], check=False)
        magic = bytes(raw["magic"].tobytes()).rstrip(b"\0")[:3]
        shape = tuple(int(size) for size in raw.get_data_shape())
        dtype = raw.get_data_dtype()
    except (HeaderDataError, ValueError, KeyError, OSError) as error:
        raise _unreadable(path, error) from error
    if magic not in (b"n+1", b"n+2") or any(size < 1 for size in shape):
        raise _unreadable(path, "no NIfTI header")
    if len(shape) < 3:
        raise ImageFileError(
            "wrong_dimensions",
            path,
            f"{path.name} has {len(shape)} dimensions, a volume has three",
            "Put the volume here, not a slice",
        )
    if dtype.kind not in "iuf":
        raise ImageFileError(
            "wrong_dimensions",
            path,
            f"{path.name} holds colours or complex numbers ({dtype})",
            "Convert it to one number a voxel",
        )
    geometry, note = _geometry(raw, (shape[0], shape[1], shape[2]), path)
    slope, intercept = (float(raw[name]) for name in ("scl_slope", "scl_inter"))
    if not math.isfinite(slope) or slope == 0 or not math.isfinite(intercept):
        slope, intercept = 1.0, 0.0
    return NiftiHeader(
        geometry=geometry,
        components=math.prod(shape[3:]),
        dtype=dtype,
        data_offset=max(int(raw["vox_offset"]), raw.sizeof_hdr),
        slope=slope,
        intercept=intercept,
        note=note,
    )


def _geometry(raw: Any, size: tuple[int, int, int], path: Path) -> tuple[Geometry, str]:
    """Return grid and doubt; sform before qform, as nibabel has it."""
    import numpy as np

    candidates: list[tuple[Geometry, float]] = []
    for code, matrix in (
        ("sform_code", raw.get_sform),
        ("qform_code", raw.get_qform),
    ):
        if int(raw[code]) > 0:
            try:
                found = _geometry_from_ras(np.asarray(matrix(), dtype=np.float64), size)
            except (ValueError, np.linalg.LinAlgError):
                continue
            if found is not None:
                candidates.append(found)
    upright = [geometry for geometry, shear in candidates if shear < SAME_GRID_VOXELS]
    if upright:
        doubtful = len(upright) == 2 and not upright[0].matches(upright[1])
        return upright[0], "ambiguous_geometry" if doubtful else ""
    if candidates:
        raise ImageFileError(
            "wrong_dimensions",
            path,
            f"{path.name} has sheared voxels (up to {candidates[0][1]:.2f} voxels from a "
            "rectangular grid)",
            "Resample it to a rectangular grid",
        )
    # Neither form: only the voxel sizes are known; ITK and Slicer place it like this.
    spacing = np.abs(np.asarray(raw["pixdim"][1:4], dtype=np.float64))
    spacing[~np.isfinite(spacing) | (spacing == 0)] = 1.0
    found = _geometry_from_ras(np.diag([*spacing, 1.0]), size)
    assert found is not None
    return found[0], "missing_geometry"


def _geometry_from_ras(
    index_to_ras: NDArray[np.float64], size: tuple[int, int, int]
) -> tuple[Geometry, float] | None:
    """Return the nearest rectangular grid and its distance in voxels; None for no grid at all."""
    import numpy as np

    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ index_to_ras
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.all(np.isfinite(matrix)) or spacing.min() <= 0:
        return None
    cosines = matrix[:3, :3] / spacing
    shear = 0.0
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > _ORTHONORMAL:
        if abs(np.linalg.det(cosines)) < _ORTHONORMAL:
            return None
        left, _, right = np.linalg.svd(cosines)
        nearest = left @ right
        # Farthest corner from the first voxel, in voxels.
        shifts = ((nearest - cosines) * spacing) @ np.diag([n - 1.0 for n in size])
        shear = float(np.abs(shifts).sum(axis=1).max() / spacing.min())
        cosines = nearest
    geometry = Geometry(
        size=size,
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        origin=(float(matrix[0, 3]), float(matrix[1, 3]), float(matrix[2, 3])),
        direction=tuple(float(value) for value in cosines.ravel()),
    )
    return geometry, shear


def _is_compressed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _is_plain_nifti(path: Path) -> bool:
    """Return whether a file begins with the length of a NIfTI header, uncompressed."""
    with path.open("rb") as stream:
        start = stream.read(4)
    return _is_nifti2(start) or start in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c")


def _is_nifti2(start: bytes) -> bool:
    return start[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")


def _unreadable(path: Path, error: object) -> ImageFileError:
    if isinstance(error, EOFError):
        what = f"{path.name} ends too early: it is truncated"
    elif isinstance(error, OSError) and error.errno is not None:
        what = f"{path.name} cannot be opened ({error.strerror})"
    elif isinstance(error, gzip.BadGzipFile) and _is_plain_nifti(path):
        what = f"{path.name} is not compressed, though its name ends with .gz"
        return ImageFileError("unreadable", path, what, f"Rename it to {path.stem}")
    elif isinstance(error, OSError | zlib.error):
        what = f"{path.name} is damaged (its compressed data do not unpack)"
    else:
        what = f"{path.name} is not a readable NIfTI file"
    return ImageFileError("unreadable", path, what, "Copy or download it again")


def _truncated(path: Path, length: int, needed: int) -> ImageFileError:
    return ImageFileError(
        "unreadable",
        path,
        f"{path.name} is truncated: {length} of {needed} bytes are there",
        "Copy or download it again",
    )
