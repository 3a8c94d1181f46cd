"""Segments and images made from arrays: nothing is copied, and ids are names."""

from __future__ import annotations

import hashlib
import json

import slicer
import vtk

from SemiSupSegLib.cases.task import Class
from SemiSupSegLib.resources import color_map

BINARY = "Binary labelmap"


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
        box = box_of(values)
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
    box = box_of(values) or (slice(0, 1),) * 3
    # A copy, always: what is drawn in the image must not change the array.
    return image_at(values[box].copy(), box, ijk_to_ras)


def image_at(values, box: tuple[slice, slice, slice], ijk_to_ras: vtk.vtkMatrix4x4):
    """Return a part of a label map as an image at its place; it shares the array's memory.

    Args:
        values: Whole numbers of the part, contiguous.
        box: Where the part lies in the whole grid, along D, H, W.
        ijk_to_ras: Of the whole grid.
    """
    image = slicer.vtkOrientedImageData()
    image.SetExtent(*(at for part in reversed(box) for at in (part.start, part.stop - 1)))
    set_scalars(image, values)
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
    set_segments(node, [(cropped(values, ijk_to_ras), named) for values, named in layers])


def set_segments(node, layers: list) -> None:
    """Like `fill`, with images instead of arrays."""
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName(BINARY)
    before = node.StartModify()
    try:
        for image, named in layers:
            for value, one in named:
                if segmentation.GetSegment(one.name) is not None:
                    segmentation.RemoveSegment(one.name)
                segmentation.AddSegment(segment(one, value, image), one.name)
    finally:
        node.EndModify(before)


def image_of(values):
    """Return an array, (D, H, W), as an image that shares its memory."""
    image = vtk.vtkImageData()
    image.SetDimensions(*reversed(values.shape))
    set_scalars(image, values)
    return image


def box_of(values) -> tuple[slice, slice, slice] | None:
    """Return where an array is not 0, along D, H, W; None if it is 0 everywhere."""
    import numpy as np

    # Along the last axis first: the rest is small then.
    rows = values.max(axis=2) != 0
    where = [np.flatnonzero(rows.any(axis=axis)) for axis in (1, 0)]
    if not where[0].size:
        return None
    depth, height = (slice(int(one[0]), int(one[-1]) + 1) for one in where)
    columns = np.flatnonzero(values[depth, height].max(axis=(0, 1)))
    return depth, height, slice(int(columns[0]), int(columns[-1]) + 1)


def set_scalars(image, values) -> None:
    """Give an image an array as its voxels, without a copy."""
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
