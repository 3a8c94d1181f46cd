"""Slicer's Segment Editor inside the panel, limited to one review region."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.review.regions import ReviewRegion
from SemiSupSegUI import scene
from SemiSupSegUI.nodes import new_node
from SemiSupSegUI.reviewing import ReviewSession
from SemiSupSegUI.section import push_button
from SemiSupSegUI.segments import image_of

_TAG = "SemiSupSegReview"
_EFFECTS = ("Paint", "Draw", "Erase", "Scissors", "Islands", "Smoothing", "Margin")
"""Those that work when the source volume is a mask; threshold and the like do not."""
_INSIDE = 100
_UNDO_STATES = 20


class RegionEditor:
    """Draws in the copy of a result.

    A mask volume is the editor's source volume, and its intensities limit what can be drawn. The
    editor's own "inside a segment" is no limit for the eraser, and would put our region among the
    user's segments.

    Args:
        on_done: Told when the user has finished with a region.
    """

    def __init__(self, on_done: Callable[[], None]) -> None:
        self._session: ReviewSession | None = None
        self._region: ReviewRegion | None = None
        self._mask = None
        self._editor = None
        self._is_updating = False
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        row = qt.QHBoxLayout()
        self.limit_box = qt.QCheckBox(_("Only in this region, and so far around it:"))
        self.limit_box.checked = True
        self.margin_box = qt.QDoubleSpinBox()
        self.margin_box.setRange(0.0, 50.0)
        self.margin_box.singleStep = 1.0
        self.margin_box.decimals = 0
        self.margin_box.value = 5.0
        self.margin_box.suffix = " mm"
        self.done_button = push_button(_("Done: the region is fixed"), on_done)
        row.addWidget(self.limit_box, 1)
        row.addWidget(self.margin_box)
        layout.addLayout(row)
        self._place = qt.QVBoxLayout()
        layout.addLayout(self._place)
        layout.addWidget(self.done_button)
        assert self.limit_box.connect("toggled(bool)", self._limit_changed)
        assert self.margin_box.connect("valueChanged(double)", self._limit_changed)
        self.widget.visible = False

    @property
    def why_not(self) -> str:
        """Why nothing can be drawn here, or an empty text."""
        if hasattr(slicer, "qMRMLSegmentEditorWidget"):
            return ""
        return _("This Slicer has no Segment Editor (its module Segmentations is missing).")

    @property
    def is_open(self) -> bool:
        """Whether a region is being drawn in."""
        return self._session is not None

    def start(self, session: ReviewSession, region: ReviewRegion) -> None:
        """Let the user draw in a region."""
        self.stop()
        self._session, self._region = session, region
        session.editing = region.id
        is_new = self._editor is None
        if is_new:
            self._editor = slicer.qMRMLSegmentEditorWidget()
        self._editor.setMRMLSegmentEditorNode(self._editor_node())
        self._editor.setMRMLScene(slicer.mrmlScene)
        if is_new:
            # Some of its options want a node and a scene.
            self._arrange()
        self._editor.setSegmentationNode(session.node)
        self._limit()
        # Background has no segment; what may be missing there is the other class in question.
        in_question = (region.class_name, region.second_class)
        drawn = next((one for one in in_question if one in session.record.classes), None)
        if drawn is not None:
            self._editor.setCurrentSegmentID(drawn)
        self._editor.setupViewObservations()
        self._editor.setActiveEffectByName("Paint")
        self.widget.visible = True

    def stop(self) -> None:
        """Take editor and mask away; what was drawn stays."""
        if self._session is None:
            return
        self._session.editing = None
        self._session = self._region = None
        self.widget.visible = False
        if self._editor is not None:
            self._editor.setActiveEffect(None)
            self._editor.removeViewObservations()
            self._editor.setSourceVolumeNode(None)
            self._editor.setSegmentationNode(None)
            # Else its selector takes the next best segmentation as soon as a node goes.
            self._editor.setMRMLScene(None)
        if self._mask is not None and slicer.mrmlScene.IsNodePresent(self._mask):
            slicer.mrmlScene.RemoveNode(self._mask)
        self._mask = None

    def remember(self) -> None:
        """Keep the present state for the editor's own undo: the label map is changed by others."""
        if self._session is not None and self._editor is not None:
            self._editor.saveStateForUndo()

    def let_go(self) -> None:
        """The panel or the scene goes."""
        self.stop()

    def _arrange(self) -> None:
        editor = self._editor
        editor.setMaximumNumberOfUndoStates(_UNDO_STATES)
        editor.segmentationNodeSelectorVisible = False
        editor.sourceVolumeNodeSelectorVisible = False
        editor.switchToSegmentationsButtonVisible = False
        editor.addRemoveSegmentButtonsVisible = False
        editor.show3DButtonVisible = False
        editor.specifyGeometryButtonVisible = False
        # The mask is ours to set.
        editor.maskingSectionVisible = False
        # A mask volume must not become the background of all views.
        editor.autoShowSourceVolumeNode = False
        editor.setEffectNameOrder(list(_EFFECTS))
        editor.unorderedEffectsVisible = False
        self._place.addWidget(editor)

    def _editor_node(self):
        node = slicer.mrmlScene.GetSingletonNode(_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(_TAG)
            node.SetSaveWithScene(False)
            node = slicer.mrmlScene.AddNode(node)
        node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteAllSegments)
        return node

    def _limit_changed(self, _value) -> None:
        if self._session is not None:
            self._limit()

    def _limit(self) -> None:
        session, region = self._session, self._region
        self.margin_box.enabled = self.limit_box.checked
        if self._mask is None or not slicer.mrmlScene.IsNodePresent(self._mask):
            # Not hidden: the editor loses a hidden source volume at the next import of a scene.
            self._mask = new_node("vtkMRMLScalarVolumeNode", _("Editable part"))
            self._mask.SetSaveWithScene(False)
            self._mask.SetAttribute(scene.ROLE, "review mark")
            # Each stroke moves the segmentation to the folder of the source volume: to its own.
            scene.put_into_folder(self._mask, scene.folder_of(session.result))
        self._mask.SetIJKToRASMatrix(session.ijk_to_ras)
        self._mask.SetAndObserveTransformNodeID(session.node.GetTransformNodeID())
        margin = self.margin_box.value if self.limit_box.checked else None
        self._mask.SetAndObserveImageData(
            image_of(editable(session.regions_map, region, session.spacing, margin))
        )
        self._editor.setSourceVolumeNode(self._mask)
        node = self._editor.mrmlSegmentEditorNode()
        node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
        node.SetSourceVolumeIntensityMask(margin is not None)
        node.SetSourceVolumeIntensityMaskRange(_INSIDE / 2, _INSIDE)


def editable(
    regions_map,
    region: ReviewRegion,
    spacing: tuple[float, float, float],
    margin_mm: float | None,
):
    """Return 100 where may be drawn, else 0; (D, H, W).

    The region grows by the margin along each axis, so its corners become boxes.

    Args:
        regions_map: Ids, (D, H, W).
        region: Which of them.
        spacing: x, y, z in mm.
        margin_mm: Around the region; None: everywhere.
    """
    import numpy as np

    if margin_mm is None:
        return np.full(regions_map.shape, _INSIDE, np.uint8)
    values = np.zeros(regions_map.shape, np.uint8)
    reach = [int(margin_mm / step) for step in reversed(spacing)]
    box = tuple(
        slice(max(0, begin - more), min(end + more, length))
        for (begin, end), more, length in zip(region.box, reach, regions_map.shape, strict=True)
    )
    inside = regions_map[box] == region.id
    for axis, more in enumerate(reach):
        grown = inside.copy()
        length = inside.shape[axis]
        for step in range(1, min(more, length - 1) + 1):
            low = tuple(slice(None, -step) if one == axis else slice(None) for one in range(3))
            high = tuple(slice(step, None) if one == axis else slice(None) for one in range(3))
            grown[high] |= inside[low]
            grown[low] |= inside[high]
        inside = grown
    values[box] = np.where(inside, np.uint8(_INSIDE), np.uint8(0))
    return values
