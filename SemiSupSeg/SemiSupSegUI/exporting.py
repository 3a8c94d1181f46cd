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
from SemiSupSegUI.inputs import ijk_to_world, is_linear
from SemiSupSegUI.nodes import new_node

_SLAB_BYTES = 8_000_000
"""So much is written at a step: some 20 ms."""
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
        self._hash = hashlib.blake2b(digest_size=4)

    @property
    def case(self) -> str:
        """Name of the case: the reference's, and a hash of all that the network gets."""
        reference = next(iter(self.volumes.values()))
        return f"{safe_name(reference.GetName())}-{self._hash.hexdigest()}"

    def sources(self) -> dict[str, ImageSource]:
        """Return the files for the worker, by channel."""
        return {channel: ImageSource(path=path) for channel, path in self.files.items()}

    def steps(self) -> Iterator[None]:
        """Write the files; what is yielded between is time for the window."""
        self.folder.mkdir(parents=True, exist_ok=True)
        reference = next(iter(self.volumes.values()))
        if is_linear(reference):
            matrix = vtk.vtkMatrix4x4()
            reference.GetIJKToRASMatrix(matrix)
            self.grid = Grid(matrix, reference.GetTransformNodeID())
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
        clone = None
        try:
            if not is_linear(volume):
                clone = _hardened(volume)
                yield
            source = volume if clone is None else clone
            matrix = vtk.vtkMatrix4x4()
            vtk.vtkMatrix4x4.Multiply4x4(world_to_result, ijk_to_world(source), matrix)
            if self.grid is None:
                self.grid = Grid(matrix, None)
            yield from self._write(source, matrix, path)
        finally:
            if clone is not None:
                slicer.mrmlScene.RemoveNode(clone)

    def _write(self, volume, ijk_to_ras: vtk.vtkMatrix4x4, path: Path) -> Iterator[None]:
        import numpy as np

        name = volume.GetName()
        array = slicer.util.arrayFromVolume(volume)
        kind = _NRRD_TYPES.get(array.dtype.name)
        if kind is None:
            raise SemiSupSegError(
                _(
                    "{name} has voxels of type {type}, which cannot be handed over. Cast it to a "
                    "number type first."
                ).format(name=name, type=array.dtype.name)
            )
        header = _nrrd_header(array, kind, ijk_to_ras)
        self._hash.update(header)
        num_slices = array.shape[0]
        at_once = max(1, int(_SLAB_BYTES // max(1, array[:1].nbytes)))
        with path.open("wb") as file:
            file.write(header)
            for first in range(0, num_slices, at_once):
                if slicer.mrmlScene.GetNodeByID(volume.GetID() or "") is None:
                    raise SemiSupSegError(
                        _(
                            "{name} was removed from the scene before it was handed over. Choose "
                            "another volume and apply again."
                        ).format(name=name)
                    )
                # A view dangles when the node's image is exchanged: it is taken anew each time.
                slab = slicer.util.arrayFromVolume(volume)[first : first + at_once]
                slab = np.ascontiguousarray(slab).data
                file.write(slab)
                self._hash.update(slab)
                del slab
                yield


def safe_name(name: str) -> str:
    """Return a name that can be a folder's on every system, at most 60 characters."""
    text = unicodedata.normalize("NFC", name or "").strip()
    text = re.sub(r"[^\w.+-]+", "_", text).strip("._-")
    return text[:60].rstrip("._-") or "case"


def _nrrd_header(array, kind: str, ijk_to_ras: vtk.vtkMatrix4x4) -> bytes:
    def vector(column: int) -> str:
        x, y, z = (ijk_to_ras.GetElement(row, column) for row in range(3))
        # Slicer's space is RAS, the file's is LPS.
        return f"({-x:.17g},{-y:.17g},{z:.17g})"

    slices, rows, columns = array.shape
    little = array.dtype.byteorder != ">"
    return (
        "NRRD0004\n"
        f"type: {kind}\n"
        "dimension: 3\n"
        "space: left-posterior-superior\n"
        f"sizes: {columns} {rows} {slices}\n"
        f"space directions: {vector(0)} {vector(1)} {vector(2)}\n"
        "kinds: domain domain domain\n"
        f"endian: {'little' if little else 'big'}\n"
        "encoding: raw\n"
        f"space origin: {vector(3)}\n"
        "\n"
    ).encode("ascii")


def _world_to_local(volume) -> vtk.vtkMatrix4x4:
    matrix = vtk.vtkMatrix4x4()
    transform = volume.GetParentTransformNode()
    if transform is not None and is_linear(volume):
        transform.GetMatrixTransformToWorld(matrix)
        matrix.Invert()
    return matrix


def _hardened(volume):
    """Return a hidden copy of a volume, without its parent transform; what is 0 stays 0.

    Interpolation alone would put a faint rim around a brain, which would count as brain.
    """
    clone = new_node("vtkMRMLScalarVolumeNode", volume.GetName() + " (hardened)", hidden=True)
    # A label map's voxels are not interpolated.
    inside = new_node("vtkMRMLLabelMapVolumeNode", volume.GetName() + " (inside)", hidden=True)
    try:
        image = vtk.vtkImageData()
        image.DeepCopy(volume.GetImageData())
        clone.SetAndObserveImageData(image)
        for node in (clone, inside):
            node.SetSaveWithScene(False)
            node.CopyOrientation(volume)
        is_there = slicer.util.arrayFromVolume(volume) != 0
        slicer.util.updateVolumeFromArray(inside, is_there.astype("uint8"))
        for node in (clone, inside):
            node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
            node.HardenTransform()
        slicer.util.arrayFromVolume(clone)[slicer.util.arrayFromVolume(inside) == 0] = 0
    except BaseException:
        slicer.mrmlScene.RemoveNode(clone)
        raise
    finally:
        slicer.mrmlScene.RemoveNode(inside)
    return clone
