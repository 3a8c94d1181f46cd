"""Volumes of the scene into a job folder: raw NRRD files, a slab of slices at a step."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import slicer
import vtk
from slicer.i18n import tr as _

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegUI.bending import bent_grid, bent_pieces
from SemiSupSegUI.inputs import ijk_to_world, is_linear

_SLAB_BYTES = 4_000_000
"""So much is written at a step: 10 ms, 25 on a slow machine."""
_NRRD_TYPES = {
    "int8": "signed char",
    "uint8": "uchar",
    "int16": "short",
    "uint16": "ushort",
    "int32": "int",
    "uint32": "uint",
    "int64": "longlong",
    "uint64": "ulonglong",
    "float32": "float",
    "float64": "double",
}


@dataclass(frozen=True)
class Grid:
    """Where results lie: the reference volume's voxels, and the transform they stand under."""

    ijk_to_ras: vtk.vtkMatrix4x4
    size: tuple[int, int, int]
    """Columns, rows, slices."""
    transform_id: str | None


@dataclass
class Export:
    """The volumes of one case on their way to a job folder.

    Args:
        volumes: By channel; the first one is the reference, on whose grid results lie.
        folder: Gets a file for each channel.
        mask: Volume that is not 0 where intensities count, or None.
    """

    volumes: dict[str, object]
    folder: Path
    mask: object | None = None

    def __post_init__(self) -> None:
        self.mask_file: Path | None = None
        self.files: dict[str, Path] = {}
        self.grid: Grid | None = None
        self._is_bent = True
        self._hash = hashlib.blake2b(digest_size=4)

    @property
    def case(self) -> str:
        """Name of the case: the reference's, and a hash of all that the network gets."""
        reference = next(iter(self.volumes.values()))
        return f"{safe_name(reference.GetName())}-{self._hash.hexdigest()}"

    def sources(self) -> dict[str, ImageSource]:
        """Return the files for the worker, by channel."""
        return {channel: ImageSource(path=path) for channel, path in self.files.items()}

    def grid_now(self) -> Grid:
        """Return the grid where the reference lies by now.

        While the worker ran, somebody may have moved it, or hardened its transform: results go with
        its voxels. They stay where it was if it is gone, has other voxels, or was bent.
        """
        reference = next(iter(self.volumes.values()))
        image = reference.GetImageData()
        if (
            self._is_bent
            or not slicer.mrmlScene.IsNodePresent(reference)
            or image is None
            or image.GetDimensions() != self.grid.size
        ):
            return self.grid
        return _grid_of(reference)

    def steps(self) -> Iterator[None]:
        """Write the files; what is yielded between is time for the window."""
        self.folder.mkdir(parents=True, exist_ok=True)
        reference = next(iter(self.volumes.values()))
        if is_linear(reference):
            self.grid = _grid_of(reference)
            self._is_bent = False
        # Under a transform that bends, the result lies in the world.
        world_to_result = _world_to_local(reference)
        for channel, volume in self.volumes.items():
            path = self.folder / f"{channel}.nrrd"
            yield from self._place_and_write(volume, world_to_result, path)
            self.files[channel] = path
        if self.mask is not None:
            path = self.folder / "mask.nrrd"
            yield from self._place_and_write(self.mask, world_to_result, path)
            self.mask_file = path

    def _place_and_write(
        self, volume, world_to_result: vtk.vtkMatrix4x4, path: Path
    ) -> Iterator[None]:
        if is_linear(volume):
            matrix = vtk.vtkMatrix4x4()
            vtk.vtkMatrix4x4.Multiply4x4(world_to_result, ijk_to_world(volume), matrix)
            yield from self._write(volume, matrix, _slabs(volume), path)
            return
        if self.grid is None:
            self.grid = Grid(*bent_grid(volume), transform_id=None)
        # The grid's own transform, if it has one, is linear.
        result_to_world = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(world_to_result, result_to_world)
        to_world = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Multiply4x4(result_to_world, self.grid.ijk_to_ras, to_world)
        pieces = bent_pieces(volume, to_world, self.grid.size)
        yield from self._write(volume, self.grid.ijk_to_ras, pieces, path, self.grid.size)

    def _write(
        self,
        volume,
        ijk_to_ras: vtk.vtkMatrix4x4,
        pieces: Iterator[memoryview | None],
        path: Path,
        size: tuple[int, int, int] | None = None,
    ) -> Iterator[None]:
        name = volume.GetName()
        dtype = slicer.util.arrayFromVolume(volume).dtype
        kind = _NRRD_TYPES.get(dtype.name)
        if kind is None:
            raise SemiSupSegError(
                _(
                    "{name} has voxels of type {type}, which cannot be handed over. Cast it to a "
                    "number type first."
                ).format(name=name, type=dtype.name)
            )
        size = size or volume.GetImageData().GetDimensions()
        header = _nrrd_header(size, kind, dtype.byteorder != ">", ijk_to_ras)
        self._hash.update(header)
        with path.open("wb") as file:
            file.write(header)
            for piece in pieces:
                if piece is not None:
                    file.write(piece)
                    self._hash.update(piece)
                del piece
                yield
                if slicer.mrmlScene.GetNodeByID(volume.GetID() or "") is None:
                    raise SemiSupSegError(
                        _(
                            "{name} was removed from the scene before it was handed over. Choose "
                            "another volume and apply again."
                        ).format(name=name)
                    )


def safe_name(name: str) -> str:
    """Return a name that can be a folder's on every system, at most 60 characters."""
    text = unicodedata.normalize("NFC", name or "").strip()
    text = re.sub(r"[^\w.+-]+", "_", text).strip("._-")
    return text[:60].rstrip("._-") or "case"


def _nrrd_header(
    size: tuple[int, int, int], kind: str, is_little: bool, ijk_to_ras: vtk.vtkMatrix4x4
) -> bytes:
    def vector(column: int) -> str:
        x, y, z = (ijk_to_ras.GetElement(row, column) for row in range(3))
        # Slicer's space is RAS, the file's is LPS.
        return f"({-x:.17g},{-y:.17g},{z:.17g})"

    columns, rows, slices = size
    return (
        "NRRD0004\n"
        f"type: {kind}\n"
        "dimension: 3\n"
        "space: left-posterior-superior\n"
        f"sizes: {columns} {rows} {slices}\n"
        f"space directions: {vector(0)} {vector(1)} {vector(2)}\n"
        "kinds: domain domain domain\n"
        f"endian: {'little' if is_little else 'big'}\n"
        "encoding: raw\n"
        f"space origin: {vector(3)}\n"
        "\n"
    ).encode("ascii")


def _grid_of(volume) -> Grid:
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return Grid(matrix, volume.GetImageData().GetDimensions(), volume.GetTransformNodeID())


def _world_to_local(volume) -> vtk.vtkMatrix4x4:
    matrix = vtk.vtkMatrix4x4()
    transform = volume.GetParentTransformNode()
    if transform is not None and is_linear(volume):
        transform.GetMatrixTransformToWorld(matrix)
        matrix.Invert()
    return matrix


def _slabs(volume) -> Iterator[memoryview]:
    """Yield a volume's voxels, some slices at a time."""
    import numpy as np

    array = slicer.util.arrayFromVolume(volume)
    num_slices = len(array)
    at_once = max(1, int(_SLAB_BYTES // max(1, array[:1].nbytes)))
    del array
    for first in range(0, num_slices, at_once):
        # A view dangles when the node's image is exchanged: it is taken anew each time.
        slab = slicer.util.arrayFromVolume(volume)[first : first + at_once]
        yield np.ascontiguousarray(slab).data
