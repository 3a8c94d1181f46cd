"""A label map and the segmentation in which it is drawn: what has changed, and what is shown.

Only the voxels that the segments' images hold are looked at, a slice at a time: the whole of a
large volume takes longer than a click may.
"""

from __future__ import annotations

import vtk
from slicer.i18n import tr as _

from SemiSupSegLib.cases.task import Class
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegUI.segments import (
    BINARY,
    array_of,
    box_of,
    entries,
    image_at,
    set_scalars,
    set_segments,
)

Box = tuple[slice, slice, slice]
_SAME_MATRIX = 1e-5


class Drawing:
    """Keeps a label map and the segments of a node alike.

    Args:
        node: Segmentation node; its segments are named as the classes.
        classes: Of the task; where segments overlap the later class counts.
        label: Class indices, uint8 (D, H, W); changed in place.
        ijk_to_ras: Of the label map's grid.
    """

    def __init__(
        self, node, classes: tuple[Class, ...], label, ijk_to_ras: vtk.vtkMatrix4x4
    ) -> None:
        self.node, self.label, self.ijk_to_ras = node, label, ijk_to_ras
        self._entries = entries(classes)
        self._box = box_of(label)
        """Holds every voxel of the label map that is not 0; None: there is none."""

    def changed(self):
        """Return where the segments differ from the label map, and what they hold there.

        Returns:
            The smallest box, and its class indices, uint8; None if nothing differs.

        Raises:
            SemiSupSegError: If somebody has brought the segmentation onto another grid.
        """
        import numpy as np

        images = self._images()
        search = _union([self._box, *(box for _, _, box in images)])
        if search is None:
            return None
        place = search[1:]
        first, last, lines, columns = None, None, [], []
        for at in range(search[0].start, search[0].stop):
            differs = self._slice(images, at, place) != self.label[at][place]
            if not differs.any():
                continue
            first, last = at if first is None else first, at
            for axis, found in ((1, lines), (0, columns)):
                where = np.flatnonzero(differs.any(axis=axis))
                found += [int(where[0]), int(where[-1])]
        if first is None:
            return None
        top, left = place[0].start, place[1].start
        box = (
            slice(first, last + 1),
            slice(top + min(lines), top + max(lines) + 1),
            slice(left + min(columns), left + max(columns) + 1),
        )
        values = np.stack([self._slice(images, at, box[1:]) for at in range(first, last + 1)])
        # What is left of a segment that is gone is no class.
        values[values > len(self._entries)] = 0
        return box, values.astype(np.uint8)

    def begin(self) -> None:
        """Make the segments of the label map."""
        self.show(self._box or (slice(0, 1),) * 3)

    def take(self, box: Box, values) -> None:
        """Bring what was drawn in a box into the label map."""
        self.label[box] = values
        self._box = _union([self._box, box])

    def show(self, box: Box) -> None:
        """Bring a box of the label map into the segments."""
        self._box = _union([self._box, box])
        image = self._shared_image()
        if image is None:
            values = self.label[self._box].copy()
            layer = image_at(values, self._box, self.ijk_to_ras)
            set_segments(self.node, [(layer, self._entries)])
            return
        held = _box_of_image(image, None)
        if _union([held, box]) == held:
            here = tuple(
                slice(part.start - whole.start, part.stop - whole.start)
                for part, whole in zip(box, held, strict=True)
            )
            array_of(image)[here] = self.label[box]
        else:
            # The same image with more room: segments that went would take the selection with them.
            room = _clipped(_union([held, box]), self.label.shape)
            image.SetExtent(*(at for part in reversed(room) for at in (part.start, part.stop - 1)))
            set_scalars(image, self.label[room].copy())
        image.GetPointData().GetScalars().Modified()
        image.Modified()

    # Inside

    def _images(self) -> list:
        """Return values and image of each layer, and where it lies in the label map."""
        shared = self._shared_image()
        if shared is not None:
            self._check(shared)
            return [(None, shared, _box_of_image(shared, self.label.shape))]
        found = []
        segmentation = self.node.GetSegmentation()
        for value, one in self._entries:
            drawn = segmentation.GetSegment(one.name)
            if drawn is not None and drawn.GetRepresentation(BINARY) is None:
                # Somebody works on its surface.
                segmentation.CreateRepresentation(BINARY)
                drawn = segmentation.GetSegment(one.name)
            image = drawn.GetRepresentation(BINARY) if drawn is not None else None
            if image is None or image.GetPointData().GetScalars() is None:
                continue
            self._check(image)
            values = (drawn.GetLabelValue(), value)
            found.append((values, image, _box_of_image(image, self.label.shape)))
        return found

    def _slice(self, images: list, at: int, place: tuple[slice, slice]):
        """Return class indices of a part of a slice; it may be a view of an image."""
        import numpy as np

        result = None
        for values, image, box in images:
            if box is None or not box[0].start <= at < box[0].stop:
                continue
            extent = image.GetExtent()
            held = array_of(image)[at - extent[4]]
            if values is None and all(
                b.start <= p.start and p.stop <= b.stop for p, b in zip(place, box[1:], strict=True)
            ):
                return held[_moved(place, extent)]
            if result is None:
                result = np.zeros([part.stop - part.start for part in place], np.uint8)
            both = tuple(
                slice(max(p.start, b.start), max(p.start, b.start, min(p.stop, b.stop)))
                for p, b in zip(place, box[1:], strict=True)
            )
            part = held[_moved(both, extent)]
            there = result[
                tuple(
                    slice(b.start - p.start, b.stop - p.start)
                    for b, p in zip(both, place, strict=True)
                )
            ]
            if values is None:
                there[...] = part
            else:
                there[part == values[0]] = values[1]
        if result is None:
            result = np.zeros([part.stop - part.start for part in place], np.uint8)
        return result

    def _shared_image(self):
        """Return the image that holds all classes, and them alone, by their indices, or None."""
        segmentation = self.node.GetSegmentation()
        images = []
        for value, one in self._entries:
            drawn = segmentation.GetSegment(one.name)
            image = drawn.GetRepresentation(BINARY) if drawn is not None else None
            if image is None or drawn.GetLabelValue() != value:
                return None
            images.append(image)
        image = images[0]
        if any(other is not image for other in images):
            return None
        if image.GetPointData().GetScalars() is None or not _has_matrix(image, self.ijk_to_ras):
            return None
        for index in range(segmentation.GetNumberOfSegments()):
            identity = segmentation.GetNthSegmentID(index)
            is_ours = any(one.name == identity for _, one in self._entries)
            if not is_ours and segmentation.GetSegment(identity).GetRepresentation(BINARY) is image:
                return None
        return image

    def _check(self, image) -> None:
        if not _has_matrix(image, self.ijk_to_ras):
            raise SemiSupSegError(
                _(
                    "{name} was brought onto another grid than its result. Undo that in the module "
                    "where it was done, or close the review and begin it again."
                ).format(name=self.node.GetName())
            )


def _moved(part: tuple[slice, slice], extent) -> tuple[slice, slice]:
    """Return lines and columns of a grid as those of an image's own array."""
    first = (extent[2], extent[0])
    return tuple(
        slice(one.start - begin, one.stop - begin) for one, begin in zip(part, first, strict=True)
    )


def _box_of_image(image, shape: tuple[int, int, int] | None) -> Box | None:
    """Return where an image lies in a grid, cut to its shape if that is given."""
    extent = image.GetExtent()
    box = tuple(slice(extent[2 * axis], extent[2 * axis + 1] + 1) for axis in (2, 1, 0))
    return box if shape is None else _clipped(box, shape)


def _clipped(box: Box, shape: tuple[int, int, int]) -> Box | None:
    cut = tuple(
        slice(max(one.start, 0), min(one.stop, length))
        for one, length in zip(box, shape, strict=True)
    )
    return cut if all(one.start < one.stop for one in cut) else None


def _union(boxes: list) -> Box | None:
    known = [box for box in boxes if box is not None]
    if not known:
        return None
    return tuple(
        slice(min(box[axis].start for box in known), max(box[axis].stop for box in known))
        for axis in range(3)
    )


def _has_matrix(image, other: vtk.vtkMatrix4x4) -> bool:
    own = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(own)
    return all(
        abs(own.GetElement(row, column) - other.GetElement(row, column)) < _SAME_MATRIX
        for row in range(4)
        for column in range(4)
    )
