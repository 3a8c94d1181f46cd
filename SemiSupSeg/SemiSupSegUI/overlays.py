"""What is drawn over the anatomy, and how the views become again what they were.

Pseudo-label, contours and comparison are segmentations; uncertainty, confidence, agreement and
trust are the foreground volume with a hard threshold. Nothing touches the label layer, slice
positions, zoom, or window and level.
"""

from __future__ import annotations

from dataclasses import dataclass

import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.resources import color_map
from SemiSupSegUI import scene
from SemiSupSegUI.changes import Changes
from SemiSupSegUI.layouts import Layout

OFF = "off"
CONTOURS = "contours"
SIDE_BY_SIDE = "teacher_student"
_SEGMENTATIONS = {
    CONTOURS: ("possible", "sure"),
    "pseudo_label": ("pseudo_label",),
    "comparison": ("comparison",),
}
_LINE_WIDTHS = {"possible": 1, "sure": 3}
LAYOUT = Layout(
    27417, "Teacher | Student", '<layout type="horizontal" split="true">{views}</layout>'
)
_VIEW_GROUP = 274
_VIEWS = ("SemiSupSegTeacher", "SemiSupSegStudent")
_VIEW_XML = (
    '<item><view class="vtkMRMLSliceNode" singletontag="{tag}">'
    '<property name="orientation" action="default">Axial</property>'
    '<property name="viewlabel" action="default">{label}</property>'
    '<property name="viewcolor" action="default">{color}</property>'
    '<property name="viewgroup" action="default">{group}</property></view></item>'
)
_MATTER_ABOVE, _MATTER_BELOW = "high", "low"


@dataclass(frozen=True)
class Kind:
    """An overlay that can be chosen."""

    name: str
    title: str
    meaning: str
    """For the legend and the tool tip."""


def kinds() -> tuple[Kind, ...]:
    """Return all overlays in the order in which they are listed."""
    return (
        Kind(OFF, _("Off"), _("The views as they were, with the result itself.")),
        Kind(
            CONTOURS,
            _("Contours"),
            _(
                "Thick lines: surely inside (probability of at least 0.9). Thin lines: possibly "
                "inside (at least 0.1). Far apart means doubtful; a thin line alone: nowhere sure."
            ),
        ),
        Kind("pseudo_label", _("Pseudo-label"), _("The teacher's label map.")),
        Kind("uncertainty", _("Uncertainty"), _("0: sure, 1: as unsure as can be.")),
        Kind("confidence", _("Confidence"), _("The probability that the voxel's class is right.")),
        Kind(
            "agreement",
            _("Agreement"),
            _(
                "How alike the probabilities of teacher and student are. Their classes may differ "
                "even at 0.95: see Teacher and student."
            ),
        ),
        Kind(
            "trust",
            _("Trust"),
            _(
                "Of a training's stage: the weight that a voxel of the pseudo-label has when the "
                "student learns from it. 1: as if a person had drawn it, 0: not learnt as it is."
            ),
        ),
        Kind(
            "comparison",
            _("Teacher and student"),
            _(
                "Green: same class. Orange: teacher only. Blue: student only. Pink: different "
                "classes."
            ),
        ),
        Kind(
            SIDE_BY_SIDE,
            _("Teacher | Student"),
            _("The teacher's label map on the left, the result (the student's) on the right."),
        ),
    )


def default_threshold(name: str) -> float:
    """Return the limit from which a map is drawn when nothing was chosen.

    Agreement compares probabilities, and is high even where the classes differ.
    """
    return {"uncertainty": 0.2, "confidence": 0.8, "agreement": 0.95, "trust": 0.5}[name]


def drawn_where(name: str, limit: float) -> str:
    """Return in words where a map is drawn."""
    if color_map(name)["look_at"] == _MATTER_ABOVE:
        return _("Drawn where it is {limit:.2f} or more.").format(limit=limit)
    return _("Drawn where it is {limit:.2f} or less; elsewhere it is higher.").format(limit=limit)


class Overlays:
    """Shows one overlay of one result at a time."""

    def __init__(self) -> None:
        self._changes = Changes()
        self.shown = OFF
        """Name of the overlay that is shown."""
        self._last_map = "uncertainty"
        self.result = None
        """Segmentation of the result that it is of."""

    def missing(self, segmentation, name: str) -> str:
        """Return why an overlay cannot be shown, or an empty text."""
        if name == OFF:
            return ""
        if segmentation is None:
            return _("Apply a model to a case first.")
        if name == "trust" and scene.overlay_node(segmentation, name) is None:
            return _("Only a case that was opened from a training's stage has this map.")
        roles = _SEGMENTATIONS.get(name, ("pseudo_label",) if name == SIDE_BY_SIDE else (name,))
        if any(scene.overlay_node(segmentation, role) is None for role in roles):
            return _("This result has no such map: its model does not give it, or it was removed.")
        if name == SIDE_BY_SIDE and slicer.app.layoutManager() is None:
            return _("There are no views.")
        return ""

    def show(
        self,
        segmentation,
        name: str,
        *,
        opacity: float = 0.6,
        threshold: float | None = None,
        near_mm: float = 0.0,
        from_file: bool = False,
    ) -> None:
        """Show an overlay of a result in place of the present one.

        Args:
            segmentation: Of the result.
            name: Of the overlay.
            opacity: Of a map or a fill, 0 to 1.
            threshold: Limit of a map; None: its own default.
            near_mm: A map is drawn so near the result only; 0: everywhere.
            from_file: Whether the scene was just loaded, with this overlay on when it was saved.
        """
        if name != OFF and self.missing(segmentation, name):
            name = OFF
        if name != self.shown or segmentation is not self.result or name == SIDE_BY_SIDE:
            self._restore(keep_layout=name == SIDE_BY_SIDE)
        self.shown, self.result = name, segmentation
        if name == OFF:
            return
        self._changes.is_adopting = from_file
        display = scene.display_of(segmentation)
        if name in scene.SCALARS:
            self._last_map = name
            # The result stays as a line, so that the map under it can be read.
            self._changes.set(display, "Visibility2DFill", False, usual=True)
            volume = scene.overlay_node(segmentation, name)
            if near_mm > 0 and scene.overlay_node(segmentation, "distance") is not None:
                volume = scene.show_copy(segmentation, name, near_mm)
            self._show_map(volume, name, opacity, threshold)
        elif name == SIDE_BY_SIDE:
            self._show_side_by_side(segmentation, opacity)
        else:
            self._changes.set(display, "Visibility2D", False, usual=True)
            for role in _SEGMENTATIONS[name]:
                self._show_segmentation(scene.overlay_node(segmentation, role), role, opacity)

    def next_of_cycle(self) -> str:
        """Return what the key shows next: off, contours, the last map."""
        cycle = (OFF, CONTOURS, self._last_map)
        at = cycle.index(self.shown) if self.shown in cycle else len(cycle) - 1
        return cycle[(at + 1) % len(cycle)]

    def let_edit(self, segmentation) -> None:
        """Show a result itself again, as other modules expect it, beside the overlay."""
        if segmentation is not None:
            self._changes.undo(scene.display_of(segmentation))

    def forget(self) -> None:
        """The scene is closing: of nodes there is nothing to put back, but the layout stays."""
        self._changes.forget()
        LAYOUT.leave()
        self.shown, self.result = OFF, None

    def _show_map(self, volume, name: str, opacity: float, threshold: float | None) -> None:
        limit = default_threshold(name) if threshold is None else threshold
        display = scene.display_of(volume)
        is_above = color_map(name)["look_at"] == _MATTER_ABOVE
        before = display.StartModify()
        display.SetThreshold(limit if is_above else 0.0, 1.0 if is_above else limit)
        display.ApplyThresholdOn()
        display.EndModify(before)
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            self._changes.set(composite, "ForegroundVolumeID", volume.GetID(), usual=None)
            self._changes.set(composite, "ForegroundOpacity", opacity, usual=0.0)
        legend = _legend(volume, name)
        self._changes.set(legend, "Visibility", True, usual=False)

    def _show_segmentation(self, node, role: str, opacity: float) -> None:
        display = scene.display_of(node)
        is_line = role in _LINE_WIDTHS
        before = display.StartModify()
        display.SetVisibility3D(False)
        display.SetVisibility2DFill(not is_line)
        display.SetVisibility2DOutline(True)
        display.SetOpacity2DFill(opacity)
        display.SetSliceIntersectionThickness(_LINE_WIDTHS.get(role, 1))
        display.EndModify(before)
        self._changes.set(display, "Visibility", True, usual=False)

    def _show_side_by_side(self, segmentation, opacity: float) -> None:
        register_layout()
        source = _first_composite()
        LAYOUT.enter()
        teacher = scene.overlay_node(segmentation, "pseudo_label")
        for tag, node in zip(_VIEWS, (teacher, segmentation), strict=True):
            slice_node = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLSliceNode")
            composite = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLSliceCompositeNode")
            if slice_node is None or composite is None:
                continue
            background = source.GetBackgroundVolumeID() if source is not None else None
            if background and composite.GetBackgroundVolumeID() != background:
                composite.SetBackgroundVolumeID(background)
                _look_from(slice_node, source)
            composite.SetLinkedControl(True)
            display = scene.display_of(node)
            is_result = node is segmentation
            self._changes.set(display, "ViewNodeIDs", (slice_node.GetID(),), usual=())
            self._changes.set(display, "Visibility", True, usual=is_result)
            self._changes.set(display, "Visibility2D", True, usual=True)
            self._changes.set(display, "Opacity2DFill", opacity, usual=opacity)

    def _restore(self, *, keep_layout: bool) -> None:
        self._changes.undo()
        if not keep_layout:
            LAYOUT.leave()


def register_layout() -> None:
    """Make the layout Teacher | Student known; also for scenes that were saved in it."""
    titles = (_("Teacher"), _("Student"))
    views = "".join(
        _VIEW_XML.format(tag=tag, label=label, color=color, group=_VIEW_GROUP)
        for tag, label, color in zip(_VIEWS, titles, ("#E69F00", "#0072B2"), strict=True)
    )
    LAYOUT.register(views=views)


def _first_composite():
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if composite.GetBackgroundVolumeID():
            return composite
    return None


def _look_from(slice_node, source) -> None:
    """Let a view begin where another one looks, since nothing fits views made by code."""
    name = source.GetLayoutName()
    for other in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        if other.GetLayoutName() == name:
            slice_node.GetSliceToRAS().DeepCopy(other.GetSliceToRAS())
            width, _height, depth = other.GetFieldOfView()
            columns, rows, _slices = slice_node.GetDimensions()
            slice_node.SetFieldOfView(width, width * rows / max(columns, 1), depth)
            slice_node.UpdateMatrices()


def _legend(volume, name: str):
    colors = slicer.modules.colors.logic()
    legend = colors.GetColorLegendDisplayNode(volume)
    if legend is None:
        legend = colors.AddDefaultColorLegendDisplayNode(volume)
        legend.SetVisibility(False)
        legend.SetTitleText(color_map(name)["title"])
        legend.SetLabelFormat("%.1f")
        legend.SetNumberOfLabels(6)
        legend.SetMaxNumberOfColors(256)
        legend.SetSaveWithScene(volume.GetSaveWithScene())
        legend.SetSize(0.12, 0.4)
        legend.GetTitleTextProperty().SetFontSize(14)
        legend.GetLabelTextProperty().SetFontSize(12)
    return legend
