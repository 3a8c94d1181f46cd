"""Segments that the user adds to the copy under review: kept, in a segmentation of their own.

They are no part of the review, and the copy goes when it is closed.
"""

from __future__ import annotations

import slicer
import vtk

from SemiSupSegUI import scene
from SemiSupSegUI.nodes import new_node
from SemiSupSegUI.segments import BINARY, array_of, box_of, image_at


class OwnSegments:
    """Keeps copies of the segments of a node that are no class.

    Args:
        node: Segmentation node under review.
        names: Ids of the segments that are classes.
        title: Of the segmentation that keeps the others.
        folder: Its folder in the subject hierarchy.
    """

    def __init__(self, node, names: tuple[str, ...], title: str, folder: int) -> None:
        self._node, self._names, self._title, self._folder = node, names, title, folder
        self._kept = None
        self._times: dict[str, int] = {}

    @property
    def node(self):
        """The segmentation that keeps them; None if there is nothing to keep."""
        is_there = self._kept is not None and slicer.mrmlScene.IsNodePresent(self._kept)
        return self._kept if is_there else None

    def update(self) -> list[str]:
        """Keep what is there now; return the names of segments that are new."""
        segmentation = self._node.GetSegmentation()
        ids = [
            segmentation.GetNthSegmentID(index)
            for index in range(segmentation.GetNumberOfSegments())
        ]
        own = [one for one in ids if one not in self._names]
        new = [segmentation.GetSegment(one).GetName() for one in own if one not in self._times]
        if own and self.node is None:
            self._make()
        for gone in set(self._times) - set(own):
            # The user has removed it.
            del self._times[gone]
            if self.node is not None:
                self._kept.GetSegmentation().RemoveSegment(gone)
        for identity in own:
            self._keep(identity, segmentation.GetSegment(identity))
        return new

    def show(self):
        """Leave them in the scene, if there are any; return the node that keeps them, or None."""
        if self.node is not None:
            self.node.SetAndObserveTransformNodeID(self._node.GetTransformNodeID())
            scene.display_of(self.node).SetVisibility(True)
        return self.node

    def _make(self) -> None:
        self._kept = new_node("vtkMRMLSegmentationNode", self._title)
        self._times = {}
        self._kept.CreateDefaultDisplayNodes()
        # The copy under review shows them as long as it is there.
        self._kept.GetDisplayNode().SetVisibility(False)
        self._kept.GetSegmentation().SetSourceRepresentationName(BINARY)
        self._kept.SetAttribute(scene.ROLE, "drawn beside a review")
        scene.put_into_folder(self._kept, self._folder)

    def _keep(self, identity: str, segment) -> None:
        image = segment.GetRepresentation(BINARY)
        time = max(segment.GetMTime(), image.GetMTime() if image is not None else 0)
        if self._times.get(identity) == time:
            return
        kept = self._kept.GetSegmentation()
        if kept.GetSegment(identity) is not None:
            kept.RemoveSegment(identity)
        kept.AddSegment(_copy(segment, image), identity)
        self._times[identity] = time


def _copy(segment, image):
    """Return a segment alone: others may share its image."""
    copy = slicer.vtkSegment()
    copy.SetName(segment.GetName())
    copy.SetColor(*segment.GetColor())
    terminology = vtk.reference("")
    key = slicer.vtkSegment.GetTerminologyEntryTagName()
    if segment.GetTag(key, terminology):
        copy.SetTag(key, str(terminology))
    inside = None
    if image is not None and image.GetPointData().GetScalars() is not None:
        inside = (array_of(image) == segment.GetLabelValue()).astype("uint8")
    box = None if inside is None else box_of(inside)
    if box is not None:
        extent = image.GetExtent()
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        place = tuple(
            slice(part.start + extent[2 * axis], part.stop + extent[2 * axis])
            for part, axis in zip(box, (2, 1, 0), strict=True)
        )
        copy.SetLabelValue(1)
        copy.AddRepresentation(BINARY, image_at(inside[box].copy(), place, matrix))
    return copy
