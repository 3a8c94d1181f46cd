"""Reading images and label maps of every format into SimpleITK, LPS, three dimensions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import Geometry, geometry_from_json, geometry_of
from SemiSupSegLib.cases.image_error import ImageFileError
from SemiSupSegLib.cases.label_values import UNKNOWN_CLASS, check_label_values, distinct_values
from SemiSupSegLib.cases.task import Task

if TYPE_CHECKING:
    import SimpleITK as sitk
    from numpy.typing import NDArray

_FLAT = 1e-4
"""Least volume that three unit axes span."""


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What is known of an image without its voxels."""

    geometry: Geometry
    components: int
    """Number of volumes in the file."""
    note: str = ""
    """Code of a doubt about the grid (`ambiguous_geometry`, `missing_geometry`), or empty."""

    def to_json(self) -> dict[str, Any]:
        """Return the header as plain values."""
        return {
            "geometry": self.geometry.to_json(),
            "components": self.components,
            "note": self.note,
        }


def header_from_json(content: Mapping[str, Any]) -> ImageHeader:
    """Return the header that `ImageHeader.to_json` gave."""
    return ImageHeader(
        geometry=geometry_from_json(content["geometry"]),
        components=int(content["components"]),
        note=str(content["note"]),
    )


@dataclass(frozen=True, kw_only=True)
class Volumes:
    """All volumes of a file, as stored."""

    values: NDArray[Any]
    """Stored values, (components, D, H, W)."""
    header: ImageHeader
    slope: float = 1.0
    intercept: float = 0.0
    sha256: str = ""
    """Of the file's bytes."""

    def scaled(self, component: int) -> NDArray[Any]:
        """Return the real values (D, H, W): as stored, or float32 if the file has a scale."""
        import numpy as np

        values = self.values[component]
        if (self.slope, self.intercept) == (1.0, 0.0):
            return values
        scaled = values.astype(np.float32)
        scaled *= np.float32(self.slope)
        scaled += np.float32(self.intercept)
        return scaled


def read_header(source: ImageSource) -> ImageHeader:
    """Return grid and number of volumes without reading voxels.

    Raises:
        ImageFileError: If the header cannot be read or is not that of a volume.
    """
    if _is_nifti(source.path):
        from SemiSupSegLib.cases.nifti import read_nifti_header

        header = read_nifti_header(source.path)
        return ImageHeader(geometry=header.geometry, components=header.components, note=header.note)
    if source.series is not None:
        from SemiSupSegLib.cases.dicom import find_series, read_series

        geometry = find_series(source).geometry
        if geometry is None:
            geometry = geometry_of(read_series(source))
        return ImageHeader(geometry=geometry, components=1)
    return _itk_header(source.path)


def read_volumes(source: ImageSource) -> Volumes:
    """Return every volume of a file, checked to its last byte.

    Raises:
        ImageFileError: If it is damaged, truncated or not made of volumes.
    """
    if _is_nifti(source.path):
        return _nifti_volumes(source.path)
    import SimpleITK as sitk

    if source.series is not None:
        from SemiSupSegLib.cases.dicom import read_series

        image = read_series(source)
        header = ImageHeader(geometry=geometry_of(image), components=1)
        values = sitk.GetArrayFromImage(image)[None]
        return Volumes(values=values, header=header, sha256=content_hash(source))
    header = _itk_header(source.path)
    values = sitk.GetArrayFromImage(_itk_image(source.path))
    if header.components > 1 and values.shape[-1] == header.components:
        values = values.transpose(3, 0, 1, 2)
    values = values.reshape(header.components, *header.geometry.shape)
    return Volumes(values=values, header=header, sha256=content_hash(source))


def read_image(source: ImageSource) -> sitk.Image:
    """Return one image: three dimensions, real values, LPS.

    Values have the file's type, or float32 if the file scales them (NIfTI `scl_slope`).

    Raises:
        ImageFileError: If the file is damaged, or has several volumes and `source` names none.
    """
    volumes = read_volumes(source)
    values = volumes.scaled(_component(source, volumes.header))
    return _to_itk(values, volumes.header.geometry)


def read_label(source: ImageSource, task: Task, unknown: int | None = None) -> sitk.Image:
    """Return a label map of class indices 0 to K-1 (uint8), whatever values the file uses.

    Args:
        source: The file.
        task: Tells what its values mean.
        unknown: Value of voxels that nobody has said anything about (`Case.label_unknown`); they
            get `UNKNOWN_CLASS`.

    Raises:
        ImageFileError: If the file is damaged or has values that are none of the task's.
    """
    import numpy as np

    volumes = read_volumes(source)
    values = volumes.scaled(_component(source, volumes.header))
    check_label_values(distinct_values(values), task, source.path, unknown)
    indices = np.zeros(values.shape, dtype=np.uint8)
    for index, one in enumerate(task.classes, start=1):
        for value in one.values:
            indices[values == value] = index
    if unknown is not None:
        indices[values == unknown] = UNKNOWN_CLASS
    return _to_itk(indices, volumes.header.geometry)


def files_of(source: ImageSource) -> tuple[Path, ...]:
    """Return every file whose bytes make up the image.

    Raises:
        ImageFileError: If the files of a DICOM series or a header's data file cannot be found.
    """
    if source.series is not None:
        from SemiSupSegLib.cases.dicom import find_series

        return find_series(source).files
    if source.path.name.lower().endswith(".mhd"):
        return (source.path, *_data_files(source.path))
    return (source.path,)


def content_hash(source: ImageSource) -> str:
    """Return the SHA-256 of the image's bytes on disk (header and data file, or all slices).

    Raises:
        ImageFileError: If a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in files_of(source):
        try:
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise ImageFileError(
                "unreadable",
                path,
                f"{path.name} cannot be opened ({error.strerror})",
                "Check that it exists and may be read",
            ) from error
    return digest.hexdigest()


def _nifti_volumes(path: Path) -> Volumes:
    from SemiSupSegLib.cases.nifti import (
        nifti_voxels,
        parse_nifti_header,
        read_nifti_bytes,
    )

    stored, unpacked = read_nifti_bytes(path)
    header = parse_nifti_header(unpacked[:540], path)
    return Volumes(
        values=nifti_voxels(header, unpacked, path),
        header=ImageHeader(
            geometry=header.geometry, components=header.components, note=header.note
        ),
        slope=header.slope,
        intercept=header.intercept,
        sha256=hashlib.sha256(stored).hexdigest(),
    )


def _component(source: ImageSource, header: ImageHeader) -> int:
    if source.component is None and header.components > 1:
        raise ImageFileError(
            "wrong_dimensions",
            source.path,
            f"{source.path.name} holds {header.components} volumes where one is expected",
            "Split it, or describe its volumes in a dataset.json",
        )
    component = source.component or 0
    if not 0 <= component < header.components:
        raise ImageFileError(
            "wrong_dimensions",
            source.path,
            f"{source.path.name} holds {header.components} volumes, number {component} is missing",
            "Scan the folder again",
        )
    return component


def _to_itk(values: NDArray[Any], geometry: Geometry) -> sitk.Image:
    import numpy as np
    import SimpleITK as sitk

    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    native = values.dtype.newbyteorder("=")
    if native.itemsize > 8 or native == np.float16:
        native = np.dtype(np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(values, dtype=native))
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _itk_header(path: Path) -> ImageHeader:
    import numpy as np
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path) from error
    size, dimension = reader.GetSize(), reader.GetDimension()
    vector = reader.GetNumberOfComponents()
    if dimension not in (3, 4) or (dimension == 4 and vector > 1):
        raise ImageFileError(
            "wrong_dimensions",
            path,
            f"{path.name} has {dimension} dimensions, a volume has three",
            "Put the volume here, not a slice",
        )
    spacing, origin, direction = reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection()
    geometry = Geometry(
        size=(size[0], size[1], size[2]),
        spacing=(spacing[0], spacing[1], spacing[2]),
        origin=(origin[0], origin[1], origin[2]),
        direction=tuple(
            direction[row * dimension + column] for row in range(3) for column in range(3)
        ),
    )
    if abs(np.linalg.det(np.reshape(geometry.direction, (3, 3)))) < _FLAT:
        raise ImageFileError(
            "flat_grid",
            path,
            f"{path.name} has axes in its header that lie in one plane, which no volume has",
            "Export it again",
        )
    return ImageHeader(geometry=geometry, components=size[3] if dimension == 4 else vector)


def _itk_image(path: Path) -> sitk.Image:
    import SimpleITK as sitk

    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        data = _named_data_file(path) if path.suffix.lower() == ".mhd" else None
        if data is not None and not data.exists():
            raise ImageFileError(
                "unreadable",
                path,
                f"{path.name} names {data.name} as the file with its voxels, which is not there",
                f"Put {data.name} beside it",
            ) from error
        raise _unreadable(path) from error


def _unreadable(path: Path) -> ImageFileError:
    return ImageFileError(
        "unreadable",
        path,
        f"{path.name} cannot be read: it is truncated, damaged or not what its suffix says",
        "Copy or download it again",
    )


def _data_files(header: Path) -> list[Path]:
    """Return the data file that a MetaImage header names, if it is a single one that is there."""
    data = _named_data_file(header)
    return [data] if data is not None and data.is_file() else []


def _named_data_file(header: Path) -> Path | None:
    try:
        with header.open("rb") as stream:
            text = stream.read(1 << 16).decode("latin-1")
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "ElementDataFile":
            name = value.strip()
            return None if name == "LOCAL" or name.startswith("LIST") else header.parent / name
    return None
