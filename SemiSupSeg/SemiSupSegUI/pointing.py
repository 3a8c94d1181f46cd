"""Showing where a region is: all views go there, a marker at its peak, a line around it."""

from __future__ import annotations

import slicer
import vtk
from slicer.i18n import tr as _

from SemiSupSegLib.cases.task import Class
from SemiSupSegLib.review.regions import ReviewRegion
from SemiSupSegUI import scene
from SemiSupSegUI.nodes import new_node
from SemiSupSegUI.reviewing import ReviewSession
from SemiSupSegUI.segments import fill

_COLOR = (255, 0, 255)
"""Magenta: no class of the built-in tasks has it, and no scan."""
_LINE_WIDTH = 2
_MARKER_MM = 8.0


class Pointer:
    """Points at one region at a time."""

    def __init__(self) -> None:
        self._outline = None
        self._marker = None
        self._places: dict[str, vtk.vtkMatrix4x4] = {}
        """Where the slice views looked before they were sent elsewhere."""

    def point(self, session: ReviewSession, region: ReviewRegion) -> None:
        """Centre all slice views on a region's peak, and mark peak and extent."""
        if not self._places:
            self._remember_views()
        place = world_of(session, region.peak_ras)
        node_class = slicer.vtkMRMLSliceNode
        node_class.JumpAllSlices(slicer.mrmlScene, *place, node_class.CenteredJumpSlice)
        self._draw_outline(session, region)
        self._draw_marker(session, region, place)

    @property
    def can_go_back(self) -> bool:
        """Whether views were sent somewhere."""
        return bool(self._places)

    def go_back(self) -> None:
        """Let the views look where they did before the first region."""
        for identity, matrix in self._places.items():
            node = slicer.mrmlScene.GetNodeByID(identity)
            if node is not None:
                node.GetSliceToRAS().DeepCopy(matrix)
                node.UpdateMatrices()
        self._places = {}

    def clear(self) -> None:
        """Remove marker and outline."""
        for node in (self._outline, self._marker):
            if node is not None and slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)
        self._outline = self._marker = None

    def forget(self) -> None:
        """The scene closes: its nodes go by themselves."""
        self._outline = self._marker = None
        self._places = {}

    def _remember_views(self) -> None:
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            matrix = vtk.vtkMatrix4x4()
            matrix.DeepCopy(node.GetSliceToRAS())
            self._places[node.GetID()] = matrix

    def _draw_outline(self, session: ReviewSession, region: ReviewRegion) -> None:
        import numpy as np

        if self._outline is None or not slicer.mrmlScene.IsNodePresent(self._outline):
            self._outline = _own_node("vtkMRMLSegmentationNode", _("Review region"), session)
            display = self._outline.GetDisplayNode()
            display.SetVisibility3D(False)
            display.SetVisibility2DFill(False)
            display.SetVisibility2DOutline(True)
            display.SetSliceIntersectionThickness(_LINE_WIDTH)
        node = self._outline
        node.SetAndObserveTransformNodeID(session.node.GetTransformNodeID())
        box = tuple(slice(*side) for side in region.box)
        inside = np.zeros(session.label.shape, np.uint8)
        inside[box] = session.regions_map[box] == region.id
        one = Class(name="region", values=(1,), color=_COLOR)
        fill(node, [(inside, [(1, one)])], session.ijk_to_ras)

    def _draw_marker(
        self, session: ReviewSession, region: ReviewRegion, place: tuple[float, float, float]
    ) -> None:
        if getattr(slicer, "vtkMRMLMarkupsFiducialNode", None) is None:
            return
        if self._marker is None or not slicer.mrmlScene.IsNodePresent(self._marker):
            self._marker = _own_node("vtkMRMLMarkupsFiducialNode", _("Review peak"), session)
            self._marker.SetLocked(True)
            display = self._marker.GetDisplayNode()
            # Its middle is open: the voxel that matters stays visible.
            display.SetGlyphTypeFromString("Cross2D")
            display.SetUseGlyphScale(False)
            display.SetGlyphSize(_MARKER_MM)
            display.SetTextScale(4.0)
            display.SetSelectedColor(*(part / 255 for part in _COLOR))
            display.SetPropertiesLabelVisibility(False)
        self._marker.RemoveAllControlPoints()
        self._marker.AddControlPoint(vtk.vtkVector3d(*place), str(region.id))


def world_of(session: ReviewSession, ras: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return world RAS of a point in the result's own RAS; they differ under a transform."""
    transform = session.node.GetParentTransformNode()
    if transform is None:
        return ras
    to_world = vtk.vtkGeneralTransform()
    transform.GetTransformToWorld(to_world)
    return to_world.TransformPoint(ras)


def _own_node(node_class: str, name: str, session: ReviewSession):
    """Return a node of ours that no file and no scene keeps."""
    node = new_node(node_class, name)
    node.SetSaveWithScene(False)
    node.SetAttribute(scene.ROLE, "review mark")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetSaveWithScene(False)
    scene.put_into_folder(node, scene.folder_of(session.result))
    return node
