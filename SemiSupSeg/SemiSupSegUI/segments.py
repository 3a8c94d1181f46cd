"""Segments and images made from arrays: nothing is copied, and ids are names."""

from __future__ import annotations

import hashlib
import json

import slicer
import vtk
from slicer.i18n import tr as _

from SemiSupSegLib.cases.task import Class
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.resources import color_map

BINARY = "Binary labelmap"
_SAME_MATRIX = 1e-5


def fingerprint(segmentation) -> str:
    """Return a hash of what is drawn in a segmentation; it changes when somebody edits it."""
    import numpy as np

    content = segmentation.GetSegmentation()
    found = hashlib.blake2b(digest_size=8)
    for index in range(content.GetNumberOfSegments()):
        identity = content.GetNthSegmentID(index)
        segment = content.GetSegment(identity)
        image = segment.GetRepresentation(BINARY)
        found.update(identity.encode())
        if image is None or image.GetPointData().GetScalars() is None:
            continue
        extent = image.GetExtent()
        values = array_of(image) == segment.GetLabelValue()
        box = _box(values)
        if box is None:
            continue
        first = [part.start + extent[2 * axis] for part, axis in zip(box, (2, 1, 0), strict=True)]
        found.update(json.dumps([first, [part.stop - part.start for part in box]]).encode())
        found.update(np.packbits(values[box]).tobytes())
    return found.hexdigest()


def entries(classes: tuple[Class, ...]) -> list[tuple[int, Class]]:
    """Return each class with the value that it has in a label map."""
    return list(enumerate(classes, start=1))


def comparison_entries() -> list[tuple[int, Class]]:
    """Return what the comparison of teacher and student tells, but "neither"."""
    return [
        (one["value"], Class(name=one["name"], values=(one["value"],), color=tuple(one["color"])))
        for one in color_map("comparison")["entries"]
        if one["value"]
    ]


def segment(one: Class, value: int, image):
    """Return a segment that is where an image has a value; several may share one image."""
    segment = slicer.vtkSegment()
    segment.SetName(one.name)
    segment.SetColor(*(part / 255 for part in one.color))
    segment.SetLabelValue(value)
    segment.AddRepresentation(BINARY, image)
    if one.code:
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), _terminology(one))
    return segment


def _terminology(one: Class) -> str:
    """Return a class's codes in the form that Slicer keeps them in."""

    def code(kind: str) -> str:
        found = one.code.get(kind)
        return "^".join((found["scheme"], found["value"], found["meaning"])) if found else "^^"

    return "~".join(
        (
            "Segmentation category and type - DICOM master list",
            code("category"),
            code("type"),
            code("modifier"),
            "Anatomic codes - DICOM master list",
            code("anatomy"),
            "^^",
        )
    )


def bit(bits, number: int):
    """Return where a bit is set, as 0 and 1."""
    import numpy as np

    return ((bits >> bits.dtype.type(number)) & bits.dtype.type(1)).astype(np.uint8)


def cropped(values, ijk_to_ras: vtk.vtkMatrix4x4):
    """Return the part of a label map that is not 0 as an image at its place.

    Args:
        values: Whole numbers, (D, H, W).
        ijk_to_ras: Of the whole grid.
    """
    box = _box(values) or (slice(0, 1),) * 3
    image = slicer.vtkOrientedImageData()
    image.SetExtent(*(at for part in reversed(box) for at in (part.start, part.stop - 1)))
    # A copy, always: what is drawn in the image must not change the array.
    _set_scalars(image, values[box].copy())
    image.SetImageToWorldMatrix(ijk_to_ras)
    return image


def fill(node, layers: list, ijk_to_ras: vtk.vtkMatrix4x4) -> None:
    """Replace a segmentation's segments of these names; others, which are the user's, stay.

    Args:
        node: Segmentation node.
        layers: Label maps (D, H, W), each with its values and classes; classes of one layer share
            an image.
        ijk_to_ras: Of their grid.
    """
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName(BINARY)
    before = node.StartModify()
    try:
        for values, named in layers:
            image = cropped(values, ijk_to_ras)
            for value, one in named:
                if segmentation.GetSegment(one.name) is not None:
                    segmentation.RemoveSegment(one.name)
                segmentation.AddSegment(segment(one, value, image), one.name)
    finally:
        node.EndModify(before)


def label_of(
    node,
    classes: tuple[Class, ...],
    shape: tuple[int, int, int],
    ijk_to_ras: vtk.vtkMatrix4x4,
):
    """Return the label map that a segmentation holds, class indices uint8 (D, H, W).

    Args:
        node: Segmentation node whose segments are named as the classes.
        classes: Of the task; where segments overlap the later class counts.
        shape: Of the grid on which the segmentation was made.
        ijk_to_ras: Of that grid.

    Raises:
        SemiSupSegError: If somebody has brought the segmentation onto another grid.
    """
    import numpy as np

    label = np.zeros(shape, np.uint8)
    content = node.GetSegmentation()
    for value, one in entries(classes):
        drawn = content.GetSegment(one.name)
        if drawn is not None and drawn.GetRepresentation(BINARY) is None:
            # Somebody works on its surface.
            node.GetSegmentation().CreateRepresentation(BINARY)
            drawn = content.GetSegment(one.name)
        image = drawn.GetRepresentation(BINARY) if drawn is not None else None
        if image is None or image.GetPointData().GetScalars() is None:
            continue
        if not _has_matrix(image, ijk_to_ras):
            raise SemiSupSegError(
                _(
                    "{name} was brought onto another grid than its result. Undo that in the module "
                    "where it was done, or close the review and begin it again."
                ).format(name=node.GetName())
            )
        inside = array_of(image) == drawn.GetLabelValue()
        extent = image.GetExtent()
        here, there = [], []
        for axis, length in zip((2, 1, 0), shape, strict=True):
            first, last = extent[2 * axis], extent[2 * axis + 1]
            begin, end = max(first, 0), min(last + 1, length)
            here.append(slice(begin, max(begin, end)))
            there.append(slice(begin - first, max(begin, end) - first))
        label[tuple(here)][inside[tuple(there)]] = value
    return label


def _has_matrix(image, other: vtk.vtkMatrix4x4) -> bool:
    own = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(own)
    return all(
        abs(own.GetElement(row, column) - other.GetElement(row, column)) < _SAME_MATRIX
        for row in range(4)
        for column in range(4)
    )


def image_of(values):
    """Return an array, (D, H, W), as an image that shares its memory."""
    image = vtk.vtkImageData()
    image.SetDimensions(*reversed(values.shape))
    _set_scalars(image, values)
    return image


def _box(values) -> tuple[slice, slice, slice] | None:
    """Return where an array is not 0, along D, H, W; None if it is 0 everywhere."""
    import numpy as np

    where = [np.flatnonzero(values.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if any(one.size == 0 for one in where):
        return None
    depth, height, width = (slice(int(one[0]), int(one[-1]) + 1) for one in where)
    return depth, height, width


def _set_scalars(image, values) -> None:
    from vtk.util.numpy_support import numpy_to_vtk

    # Not copied: VTK keeps the array alive.
    scalars = numpy_to_vtk(values.ravel(), deep=False)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)


def array_of(image):
    """Return an image's voxels, (D, H, W), without a copy."""
    from vtk.util.numpy_support import vtk_to_numpy

    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(
        tuple(reversed(image.GetDimensions()))
    )
