"""A person's brush in the Segment Editor: what a stroke does to the voxels, as Slicer does it.

Only tests use it. The brush covers the voxels whose centres lie in it; Slicer cuts it out of a
surface with 32 sides, so single voxels of its rim may differ there.
"""

from collections.abc import Callable, Sequence

import numpy as np
import slicer
import vtk
from PySide6 import QtCore
from vtk.util.numpy_support import vtk_to_numpy

from Testing.host.conversion import unwrapped
from Testing.host.segment_effects import WITHOUT_DIALOG

Point = Sequence[float]


def paint(
    editor: object, points: Sequence[Point], diameter_mm: float = 5.0, view: str = "Red"
) -> bool:
    """Drag the active Paint or Erase effect's brush over points in a slice view.

    It is a ball with the effect's parameter `BrushSphere`, else a disc in the view's slice.

    Args:
        editor: A qMRMLSegmentEditorWidget.
        points: In world RAS.
        diameter_mm: Of the brush.
        view: Name of the slice view.

    Returns:
        Whether the editor heard of it: an editor that left the views does not, nor one whose user
        did not want to paint on a hidden segment.

    Raises:
        ValueError: If no Paint or Erase effect is active.
    """
    effect = unwrapped(editor).activeEffect()
    manager = QtCore.QCoreApplication.instance().layoutManager()
    logic = manager.sliceWidget(view).sliceLogic()
    normal = np.array([logic.GetSliceNode().GetSliceToRAS().GetElement(i, 2) for i in range(3)])
    thickness = slicer.vtkSlicerSegmentEditorLogic.GetSliceSpacing(logic.GetSliceNode(), logic)

    def in_brush(mm: np.ndarray) -> np.ndarray:
        along = mm @ normal
        if effect.integerParameter("BrushSphere"):
            return (mm**2).sum(-1) <= (diameter_mm / 2) ** 2
        aside = (mm**2).sum(-1) - along**2
        return (np.abs(along) <= thickness / 2) & (aside <= (diameter_mm / 2) ** 2)

    reach = max(diameter_mm, thickness) / 2
    return stroke(editor, between(points, diameter_mm / 4), in_brush, (reach,) * 3)


def paint_box(editor: object, center: Point, half_mm: Point) -> bool:
    """Paint or erase a box, as `paint` does; its sides are along R, A and S."""
    half = np.asarray(half_mm, float)
    return stroke(editor, [center], lambda mm: (np.abs(mm) <= half + 1e-6).all(-1), half_mm)


def between(points: Sequence[Point], step_mm: float) -> list[np.ndarray]:
    """Return the points, with more between those that are farther apart than a step."""
    found = [np.asarray(points[0], float)]
    for point in points[1:]:
        way = np.asarray(point, float) - found[-1]
        steps = max(1, int(np.ceil(np.linalg.norm(way) / step_mm)))
        found += [found[-1] + way * part for part in np.arange(1, steps + 1) / steps]
    return found


def stroke(
    editor: object,
    points: Sequence[Point],
    in_brush: Callable[[np.ndarray], np.ndarray],
    reach_mm: Point,
) -> bool:
    """Apply a brush at points, each moved to the next voxel's centre, as one edit.

    Args:
        editor: A qMRMLSegmentEditorWidget.
        points: In world RAS.
        in_brush: Tells of places relative to the brush's centre, in mm, whether they are covered.
        reach_mm: How far the brush reaches along R, A and S.
    """
    widget = unwrapped(editor)
    effect = widget.activeEffect()
    if effect is None or not hasattr(effect, "modification_mode"):
        raise ValueError(f"{effect and effect.get_name()} is active, not Paint or Erase")
    if not widget.views_are_observed or effect.confirmCurrentSegmentVisible() != WITHOUT_DIALOG:
        return False
    image = effect.defaultModifierLabelmap()
    if image is None:
        return False
    effect.saveStateForUndo()
    extent = cover(image, voxel_to_world(widget, image), points, in_brush, reach_mm)
    effect.modifySelectedSegmentByLabelmap(image, effect.modification_mode(), extent)
    return True


def voxel_to_world(widget: object, image: object) -> np.ndarray:
    """Return the matrix from an image's voxel indices to world RAS, 4 x 4."""
    own, parent = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(own)
    transform = widget.mrmlSegmentEditorNode().GetSegmentationNode().GetParentTransformNode()
    if transform is not None:
        transform.GetMatrixTransformToWorld(parent)
    vtk.vtkMatrix4x4.Multiply4x4(parent, own, own)
    return np.array([[own.GetElement(i, j) for j in range(4)] for i in range(4)])


def cover(
    image: object,
    matrix: np.ndarray,
    points: Sequence[Point],
    in_brush: Callable[[np.ndarray], np.ndarray],
    reach_mm: Point,
) -> list[int]:
    """Set the covered voxels of an empty image to 1; returns the extent that may have changed."""
    inverse = np.linalg.inv(matrix)
    first, last = np.array(image.GetExtent()).reshape(3, 2).T
    reach = np.ceil(np.abs(inverse[:3, :3]) @ np.asarray(reach_mm, float)).astype(int)
    offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1)
    brush = offsets[in_brush(offsets @ matrix[:3, :3].T)]
    voxels = vtk_to_numpy(image.GetPointData().GetScalars())
    voxels = voxels.reshape((last - first + 1)[::-1])
    low, high = last + 1, first - 1
    for point in points:
        center = np.rint((inverse @ [*point, 1.0])[:3]).astype(int)
        low, high = np.minimum(low, center - reach), np.maximum(high, center + reach)
        covered = brush + center
        covered = covered[((covered >= first) & (covered <= last)).all(-1)] - first
        voxels[covered[:, 2], covered[:, 1], covered[:, 0]] = 1
    image.GetPointData().GetScalars().Modified()
    image.Modified()
    low, high = np.maximum(low, first), np.minimum(high, last)
    return [int(each) for pair in zip(low, high, strict=True) for each in pair]
