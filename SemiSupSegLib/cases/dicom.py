"""DICOM series folders: which series, which files, which grid."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.cases.image_error import ImageFileError

if TYPE_CHECKING:
    import SimpleITK as sitk

_TAGS = [
    "SOPClassUID",
    "PatientID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "Modality",
    "Rows",
    "Columns",
    "BitsAllocated",
    "SamplesPerPixel",
    "NumberOfFrames",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "InstanceNumber",
]
UNEVEN_MM = 0.1
"""Slice distances that differ by more than this are not a volume."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One DICOM series."""

    uid: str
    description: str
    files: tuple[Path, ...]
    """Ordered along the slice normal."""
    problem: str = ""
    """Why it is not a volume, if it is not."""
    geometry: Geometry | None = None
    """Its grid; None for a file of many frames, which has it inside."""
    patient_id: str = field(default="", repr=False)
    """May be personal: to compare, not to show."""


def list_series(folder: Path) -> tuple[Series, ...]:
    """Return the image series in a folder; what is not DICOM or has no pixels is left out.

    Raises:
        ImageFileError: If the folder cannot be read.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        stamp = tuple((path.name, path.stat().st_mtime_ns) for path in files)
    except OSError as error:
        raise ImageFileError(
            "unreadable",
            folder,
            f"{folder.name} cannot be read ({error.strerror})",
            "Check that it exists and may be read",
        ) from error
    return _list_series(folder, stamp)


def find_series(source: ImageSource) -> Series:
    """Return the series that `source` names.

    Raises:
        ImageFileError: If it is not there, or its slices do not make one volume.
    """
    folder = source.path
    for series in list_series(folder):
        if series.uid == source.series:
            if series.problem:
                raise ImageFileError(
                    "unreadable",
                    source.path,
                    f"the DICOM series in {folder.name} {series.problem}",
                    "Export the series again as one complete volume",
                )
            return series
    raise ImageFileError(
        "unreadable",
        source.path,
        f"{folder.name} no longer holds the DICOM series found before",
        "Scan the folder again",
    )


def read_series(source: ImageSource) -> sitk.Image:
    """Return the volume of a DICOM series, rescaled to its real-world values.

    Raises:
        ImageFileError: If the series is incomplete or cannot be read.
    """
    import SimpleITK as sitk

    series = find_series(source)
    files = [str(path) for path in series.files]
    try:
        if len(files) == 1:
            image = sitk.ReadImage(files[0])
        else:
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(files)
            image = reader.Execute()
    except RuntimeError as error:
        raise ImageFileError(
            "unreadable",
            source.path,
            f"the DICOM series in {source.path.name} cannot be read to its end",
            "Copy or export it again",
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageFileError(
            "wrong_dimensions",
            source.path,
            f"the DICOM series in {source.path.name} is not a volume of one value a voxel",
            "Choose another series or convert it to NIfTI",
        )
    if series.geometry is not None:
        # ITK takes the slice distance from the first two slices alone.
        image.SetSpacing(series.geometry.spacing)
        image.SetOrigin(series.geometry.origin)
        image.SetDirection(series.geometry.direction)
    return image


@lru_cache(maxsize=8192)
def _list_series(folder: Path, stamp: tuple[tuple[str, int], ...]) -> tuple[Series, ...]:
    """List a folder in the state that `stamp` (names and times) describes."""
    grouped: dict[str, list[tuple[Path, Any]]] = {}
    num_damaged = 0
    for name, _ in stamp:
        header = _read_header(folder / name)
        if header is None:
            num_damaged += name.lower().endswith((".dcm", ".ima"))
        elif "Rows" in header and "SeriesInstanceUID" in header:
            grouped.setdefault(str(header.SeriesInstanceUID), []).append((folder / name, header))
    found = tuple(
        replace(_series(uid, slices), patient_id=str(slices[0][1].get("PatientID", "") or ""))
        for uid, slices in sorted(grouped.items())
    )
    if num_damaged:
        # Nobody knows which series they belonged to.
        files = "file" if num_damaged == 1 else "files"
        problem = f"has {num_damaged} damaged {files} beside it, which may be slices of it"
        found = tuple(
            replace(one, problem=f"{problem}, and {one.problem}" if one.problem else problem)
            for one in found
        )
    return found


def _read_header(path: Path) -> Any | None:
    """Return the tags used here, or None if the file is not DICOM or damaged."""
    import pydicom

    try:
        with warnings.catch_warnings(), path.open("rb") as stream:
            # pydicom warns about values that break the standard in ways we do not use.
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS)
            num_left = path.stat().st_size - stream.tell()
            is_whole = "SOPClassUID" in header and num_left >= _num_pixel_bytes(header)
            return header if is_whole else None
    except Exception:  # pydicom has no common base for what damaged files make it raise
        return None


def _num_pixel_bytes(header: Any) -> int:
    """Return the least number of bytes that the pixels need; 0 if it cannot be told."""
    syntax = header.file_meta.TransferSyntaxUID
    if "Rows" not in header or syntax.is_compressed or syntax.is_deflated:
        return 0
    num_pixels = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames", 1) or 1)
    num_bits = int(header.get("BitsAllocated", 8)) * int(header.get("SamplesPerPixel", 1) or 1)
    return num_pixels * num_bits // 8


def _series(uid: str, slices: Sequence[tuple[Path, Any]]) -> Series:
    first = slices[0][1]
    description = str(first.get("SeriesDescription", "") or "")
    files = tuple(path for path, _ in slices)
    if len(slices) == 1:
        frames = int(first.get("NumberOfFrames", 1) or 1)
        problem = "" if frames > 1 else "has a single slice"
        return Series(uid=uid, description=description, files=files, problem=problem)
    try:
        placed = sorted(
            ((_position(header), path, header) for path, header in slices), key=lambda one: one[:2]
        )
        places = [place for place, _, _ in placed]
        geometry = _geometry(
            placed[0][2], (places[-1] - places[0]) / (len(places) - 1), len(places)
        )
    except (AttributeError, TypeError, ValueError):
        problem = "has slices without position, orientation or pixel size"
        return Series(uid=uid, description=description, files=files, problem=problem)
    gaps = [later - former for former, later in itertools.pairwise(places)]
    problem = ""
    if min(gaps) < UNEVEN_MM / 10:
        problem = "has several images at one slice position"
    elif max(gaps) - min(gaps) > UNEVEN_MM:
        problem = f"has uneven slice distances ({min(gaps):.2f} to {max(gaps):.2f} mm)"
    return Series(
        uid=uid,
        description=description,
        files=tuple(path for _, path, _ in placed),
        problem=problem,
        geometry=geometry,
    )


def _geometry(first: Any, distance: float, count: int) -> Geometry:
    """Return the grid of a series from its first slice."""
    row, column, normal = _axes(first)
    row_spacing, column_spacing = (float(value) for value in first.PixelSpacing)
    x, y, z = (float(value) for value in first.ImagePositionPatient)
    return Geometry(
        size=(int(first.Columns), int(first.Rows), count),
        spacing=(column_spacing, row_spacing, distance),
        origin=(x, y, z),
        direction=tuple(value for axes in zip(row, column, normal, strict=True) for value in axes),
    )


def _axes(header: Any) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Return the directions of a slice's rows, columns and normal in LPS."""
    cosines = [float(value) for value in header.ImageOrientationPatient]
    row, column = tuple(cosines[:3]), tuple(cosines[3:6])
    normal = (
        row[1] * column[2] - row[2] * column[1],
        row[2] * column[0] - row[0] * column[2],
        row[0] * column[1] - row[1] * column[0],
    )
    return row, column, normal


def _position(header: Any) -> float:
    """Return how far along the slice normal a slice lies, in mm."""
    place = [float(value) for value in header.ImagePositionPatient]
    return sum(one * other for one, other in zip(_axes(header)[2], place, strict=True))
