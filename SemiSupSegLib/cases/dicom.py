"""DICOM series folders: which series, which files, which grid."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.image_error import ImageFileError

if TYPE_CHECKING:
    import SimpleITK as sitk

_TAGS = [
    "SeriesInstanceUID",
    "SeriesDescription",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
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


def list_series(paths: Sequence[Path]) -> list[Series]:
    """Return the image series among these files; what is not DICOM or has no pixels is left out."""
    grouped: dict[str, list[tuple[Path, Any]]] = {}
    for path in paths:
        header = _read_header(path)
        if header is not None:
            grouped.setdefault(str(header.SeriesInstanceUID), []).append((path, header))
    return [_series(uid, slices) for uid, slices in sorted(grouped.items())]


def find_series(source: ImageSource) -> Series:
    """Return the series that `source` names.

    Raises:
        ImageFileError: If it is not there, or its slices do not make one volume.
    """
    folder = source.path
    stamp = tuple((path.name, path.stat().st_mtime_ns) for path in _files_in(folder))
    for series in _list_folder(folder, stamp):
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

    files = [str(path) for path in find_series(source).files]
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
    return image


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise ImageFileError(
            "unreadable", folder, f"{folder.name} cannot be read ({error.strerror})", "Check it"
        ) from error


@lru_cache(maxsize=256)
def _list_folder(folder: Path, stamp: tuple[tuple[str, int], ...]) -> tuple[Series, ...]:
    del stamp  # part of the cache's key only: a changed folder is listed anew
    return tuple(list_series(_files_in(folder)))


def _read_header(path: Path) -> Any | None:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            # pydicom warns about values that break the standard in ways we do not use.
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            if "Rows" not in header or "SeriesInstanceUID" not in header:
                return None
            return header
    except (InvalidDicomError, OSError, EOFError, ValueError):
        return None


def _series(uid: str, slices: Iterable[tuple[Path, Any]]) -> Series:
    slices = list(slices)
    description = str(slices[0][1].get("SeriesDescription", "") or "")
    if len(slices) == 1:
        frames = int(slices[0][1].get("NumberOfFrames", 1) or 1)
        problem = "" if frames > 1 else "has a single slice"
        return Series(uid=uid, description=description, files=(slices[0][0],), problem=problem)
    try:
        placed = sorted(((_position(header), path) for path, header in slices))
    except (AttributeError, TypeError, ValueError):
        files = tuple(path for path, _ in slices)
        problem = "has slices without position or orientation"
        return Series(uid=uid, description=description, files=files, problem=problem)
    gaps = [later[0] - former[0] for former, later in itertools.pairwise(placed)]
    problem = ""
    if min(gaps) < UNEVEN_MM / 10:
        problem = "has several images at one slice position"
    elif max(gaps) - min(gaps) > UNEVEN_MM:
        problem = f"has uneven slice distances ({min(gaps):.2f} to {max(gaps):.2f} mm)"
    files = tuple(path for _, path in placed)
    return Series(uid=uid, description=description, files=files, problem=problem)


def _position(header: Any) -> float:
    """Return how far along the slice normal a slice lies, in mm."""
    row = [float(value) for value in header.ImageOrientationPatient[:3]]
    column = [float(value) for value in header.ImageOrientationPatient[3:]]
    normal = (
        row[1] * column[2] - row[2] * column[1],
        row[2] * column[0] - row[0] * column[2],
        row[0] * column[1] - row[1] * column[0],
    )
    place = [float(value) for value in header.ImagePositionPatient]
    return sum(one * other for one, other in zip(normal, place, strict=True))
