"""Showing where a region is: all views go there, a marker at its peak, a line around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import slicer
import vtk
from slicer.i18n import tr as _

from SemiSupSegLib.cases.task import Class
from SemiSupSegLib.review.regions import ReviewRegion
from SemiSupSegUI import scene
from SemiSupSegUI.nodes import new_node, remove_node
from SemiSupSegUI.reviewing import ReviewSession
from SemiSupSegUI.segments import image_at, set_segments

_COLOR = (255, 0, 255)
"""Magenta: no class of the built-in tasks has it, and no scan."""
_LINE_WIDTH = 2
_MARKER_MM = 8.0


@dataclass
class _View:
    """A view that was sent somewhere."""

    before: tuple
    """Where it looked before the first region."""
    sent: tuple
    """Where it was sent last."""
    read: Callable
    write: Callable


class Pointer:
    """Points at one region at a time."""

    def __init__(self) -> None:
        self._outline = None
        self._marker = None
        self._views: dict[str, _View] = {}
        """By slice or camera node."""

    def point(self, session: ReviewSession, region: ReviewRegion) -> None:
        """Centre all slice and 3D views on a region's peak, and mark peak and extent."""
        place = place_of(session, region)
        before = _seen()
        node_class = slicer.vtkMRMLSliceNode
        node_class.JumpAllSlices(slicer.mrmlScene, *place, node_class.CenteredJumpSlice)
        for camera in slicer.util.getNodesByClass("vtkMRMLCameraNode"):
            _centre(camera, place)
        for identity, (now, read, write) in _seen().items():
            known = self._views.get(identity)
            came_from = before[identity][0] if known is None else known.before
            self._views[identity] = _View(came_from, now, read, write)
        self._draw_outline(session, region)
        self._draw_marker(session, region, place)

    @property
    def can_go_back(self) -> bool:
        """Whether views were sent somewhere."""
        return bool(self._views)

    def go_back(self, *, only_where_sent: bool = False) -> None:
        """Let the views look where they did before the first region.

        Args:
            only_where_sent: Leave those that the user has moved since.
        """
        for identity, view in self._views.items():
            node = slicer.mrmlScene.GetNodeByID(identity)
            if node is not None and (not only_where_sent or view.read(node) == view.sent):
                view.write(node, view.before)
        self._views = {}

    def clear(self) -> None:
        """Remove marker and outline."""
        for node in (self._outline, self._marker):
            if node is not None:
                remove_node(node)
        self._outline = self._marker = None

    def forget(self) -> None:
        """The scene closes: its nodes go by themselves."""
        self._outline = self._marker = None
        self._views = {}

    def _draw_outline(self, session: ReviewSession, region: ReviewRegion) -> None:
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
        inside = (session.regions_map[box] == region.id).astype("uint8")
        one = Class(name="region", values=(1,), color=_COLOR)
        image = image_at(inside, box, session.ijk_to_ras)
        set_segments(node, [(image, [(1, one)])])

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


def _seen() -> dict[str, tuple[tuple, Callable, Callable]]:
    """Return where each view looks, and what reads and writes that."""
    slices = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    cameras = slicer.util.getNodesByClass("vtkMRMLCameraNode")
    return {
        **{one.GetID(): (_slice_place(one), _slice_place, _put_slice) for one in slices},
        **{one.GetID(): (_camera_place(one), _camera_place, _put_camera) for one in cameras},
    }


def _slice_place(node) -> tuple:
    matrix = node.GetSliceToRAS()
    values = tuple(matrix.GetElement(row, column) for row in range(4) for column in range(4))
    # Centring takes away how far the view was dragged.
    return values, tuple(node.GetXYZOrigin())


def _put_slice(node, place: tuple) -> None:
    values, origin = place
    node.GetSliceToRAS().DeepCopy(values)
    node.SetXYZOrigin(*origin)
    node.UpdateMatrices()


def _camera_place(node) -> tuple:
    return tuple(node.GetFocalPoint()), tuple(node.GetPosition()), tuple(node.GetViewUp())


def _put_camera(node, place: tuple) -> None:
    focal, position, up = place
    node.SetFocalPoint(*focal)
    node.SetPosition(*position)
    node.SetViewUp(*up)
    node.ResetClippingRange()


def _centre(camera, place: tuple[float, float, float]) -> None:
    """Look at a place from the same direction and distance as before."""
    focal, position, up = _camera_place(camera)
    position = tuple(p + new - f for p, new, f in zip(position, place, focal, strict=True))
    _put_camera(camera, (place, position, up))


def place_of(session: ReviewSession, region: ReviewRegion) -> tuple[float, float, float]:
    """Return world RAS of a region's peak: where its voxel lies in the scene.

    The file tells where it lay when the case was segmented; the result may have been moved since.
    """
    depth, row, column = region.peak_voxel
    ras = session.ijk_to_ras.MultiplyPoint((column, row, depth, 1.0))[:3]
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
