"""What is done with a result: what is drawn over the anatomy, its table, the one it replaced."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable
from pathlib import Path

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.files import replacing
from SemiSupSegUI import overlays, scene
from SemiSupSegUI.message import Message
from SemiSupSegUI.overlays import Overlays
from SemiSupSegUI.previous import kept_files, restore_previous
from SemiSupSegUI.section import enable
from SemiSupSegUI.state import State


class ResultBox:
    """The lower part of Segment; hidden while there is no result.

    Args:
        state: Returns the panel's state; None while the scene closes.
        message: Where it is said how something went.
        on_chosen: Told when another result was chosen.
    """

    def __init__(
        self,
        state: Callable[[], State | None],
        message: Message,
        on_chosen: Callable[[], None],
    ) -> None:
        self._state, self._message, self._on_chosen = state, message, on_chosen
        self._listed: list[tuple[str, str]] = []
        self.overlays = Overlays()
        self._is_updating = False
        self._build()

    def _build(self) -> None:
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        form = qt.QFormLayout()
        self.result_box = qt.QComboBox()
        self.result_box.toolTip = _("The scene's results. Choose one to see its maps and table.")
        form.addRow(_("Result:"), self.result_box)
        layout.addLayout(form)
        self.details = qt.QWidget()
        layout.addWidget(self.details)
        layout = qt.QVBoxLayout(self.details)
        layout.setContentsMargins(0, 0, 0, 0)
        form = qt.QFormLayout()
        self.overlay_box = qt.QComboBox()
        for kind in overlays.kinds():
            self.overlay_box.addItem(kind.title, kind.name)
        self.overlay_meaning = qt.QLabel()
        self.overlay_meaning.wordWrap = True
        self.opacity_slider = _slider(1.0)
        self.threshold_slider = _slider(1.0)
        self.threshold_slider.toolTip = _(
            "Uncertainty is drawn from this value on, the other maps up to it."
        )
        form.addRow(_("Overlay (O):"), self.overlay_box)
        form.addRow("", self.overlay_meaning)
        self.classes = qt.QLabel()
        self.classes.wordWrap = True
        self.classes.textFormat = qt.Qt.RichText
        form.addRow("", self.classes)
        form.addRow(_("Opacity:"), self.opacity_slider)
        form.addRow(_("Threshold:"), self.threshold_slider)
        self.near_slider = _slider(30.0)
        self.near_slider.singleStep = 1.0
        self.near_slider.decimals = 0
        self.near_slider.suffix = " mm"
        self.near_slider.toolTip = _("Draw a map only so near the result. 0: everywhere.")
        form.addRow(_("Only near:"), self.near_slider)
        layout.addLayout(form)
        self.table_view = slicer.qMRMLTableView()
        self.table_view.setMRMLScene(slicer.mrmlScene)
        self.table_view.setMinimumHeight(220)
        self.table_view.verticalHeader().visible = False
        layout.addWidget(self.table_view)
        self.regions = qt.QLabel()
        self.regions.wordWrap = True
        layout.addWidget(self.regions)
        row = qt.QHBoxLayout()
        self.copy_button = qt.QPushButton(_("Copy table"))
        self.csv_button = qt.QPushButton(_("Save as CSV..."))
        row.addWidget(self.copy_button)
        row.addWidget(self.csv_button)
        layout.addLayout(row)
        self.restore_button = qt.QPushButton(_("Restore previous result"))
        layout.addWidget(self.restore_button)
        connected = (
            self.result_box.connect("currentIndexChanged(int)", self._result_chosen),
            self.overlay_box.connect("currentIndexChanged(int)", self._overlay_chosen),
            self.opacity_slider.connect("valueChanged(double)", self._opacity_chosen),
            self.threshold_slider.connect("valueChanged(double)", self._threshold_chosen),
            self.near_slider.connect("valueChanged(double)", self._near_chosen),
            self.copy_button.connect("clicked()", self.copy_table),
            self.csv_button.connect("clicked()", self._choose_csv),
            self.restore_button.connect("clicked()", self.restore_previous),
        )
        assert all(connected)

    def next_overlay(self) -> None:
        """Go on in the cycle of the key: off, contours, the last map."""
        self._choose_overlay(self.overlays.next_of_cycle())

    def show(self, name: str, *, from_file: bool = False) -> None:
        """Draw an overlay of the result, and remember it.

        Args:
            name: Of the overlay.
            from_file: Whether the scene was just loaded, with this overlay on when it was saved.
        """
        state = self._state()
        if state is None:
            return
        threshold = None
        if name in scene.SCALARS:
            threshold = state.number("Threshold." + name, overlays.default_threshold(name))
        with slicer.util.RenderBlocker():
            self.overlays.show(
                state.result,
                name,
                opacity=state.number("Opacity", 0.6),
                threshold=threshold,
                near_mm=state.number("Near", 0.0),
                from_file=from_file,
            )
        state.overlay = self.overlays.shown

    def restore_previous(self) -> None:
        """Exchange the result with the one that it has replaced."""
        state = self._state()
        if state is None or state.result is None:
            return
        with self._message.errors_shown():
            restore_previous(state.result)
            # An overlay is drawn in the result's place, and is that of the latest one.
            self.show(overlays.OFF)
            self._message.say(
                _(
                    "The former result is back; overlays and table are those of the latest. "
                    "Pressed again, the one before it, and so round."
                )
            )
        self.update()

    def copy_table(self) -> None:
        """Put the results table on the clipboard, with tabs, as spreadsheets take it."""
        slicer.app.clipboard().setText(self._table_text("\t"))

    def save_csv(self, path: str) -> None:
        """Write the results table to a file."""
        try:
            with replacing(Path(path)) as stream:
                stream.write(self._table_text(",").encode("utf-8"))
        except OSError as error:
            self._message.fail(
                _("The table could not be written to {path} ({why}). Choose another place.").format(
                    path=path, why=error.strerror
                )
            )
        else:
            self._message.say(_("The table was written to {path}.").format(path=path))

    def let_go(self) -> None:
        """The panel goes: the scene is no longer looked at."""
        self._is_updating = True
        self.table_view.setMRMLScene(None)

    def update(self) -> None:
        """Show the result that the state names."""
        state = self._state()
        if state is None:
            return
        self._is_updating = True
        try:
            self._show(state)
        finally:
            self._is_updating = False

    def _show(self, state: State) -> None:
        result = state.result
        self._list_results(result)
        self.widget.visible = bool(self._listed)
        self.details.visible = result is not None
        if result is None:
            return
        index = self.overlay_box.findData(self.overlays.shown)
        self.overlay_box.setCurrentIndex(index)
        kind = overlays.kinds()[index]
        self.overlay_meaning.text = kind.meaning
        if kind.name in scene.SCALARS:
            default = overlays.default_threshold(kind.name)
            limit = state.number("Threshold." + kind.name, default)
            self.overlay_meaning.text += " " + overlays.drawn_where(kind.name, limit)
        self.classes.text = _legend_of(result)
        for row, one in enumerate(overlays.kinds()):
            why = self.overlays.missing(result, one.name)
            item = self.overlay_box.model().item(row)
            item.setEnabled(not why)
            item.setToolTip(why or one.meaning)
        self.opacity_slider.value = state.number("Opacity", 0.6)
        self.opacity_slider.enabled = kind.name not in (overlays.OFF, overlays.CONTOURS)
        is_map = kind.name in scene.SCALARS
        self.threshold_slider.enabled = is_map
        self.near_slider.enabled = is_map
        self.near_slider.value = state.number("Near", 0.0)
        if is_map:
            self.threshold_slider.value = state.number(
                "Threshold." + kind.name, overlays.default_threshold(kind.name)
            )
        former = kept_files(result)
        enable(
            self.restore_button,
            "" if former else _("This result has replaced none."),
            _("Exchange the result with the one that it has replaced."),
        )
        table = scene.overlay_node(result, "table")
        no_table = "" if table else _("The table was removed. Apply the model again.")
        enable(self.copy_button, no_table, _("Copy the table, to paste it into a spreadsheet."))
        enable(self.csv_button, no_table, _("Save the table as a file for spreadsheets."))
        if self.table_view.mrmlTableNode() is not table:
            self.table_view.setMRMLTableNode(table)
        self.table_view.resizeColumnsToContents()
        self.regions.text = (table.GetDescription() or "") if table is not None else ""

    def _list_results(self, result) -> None:
        listed = [(node.GetName(), node.GetID()) for node in scene.results()]
        if listed != self._listed:
            self._listed = listed
            self.result_box.clear()
            for name, identity in listed:
                self.result_box.addItem(name, identity)
        at = -1 if result is None else self.result_box.findData(result.GetID())
        self.result_box.setCurrentIndex(at)

    def _result_chosen(self, index: int) -> None:
        state = self._state()
        if self._is_updating or state is None or index < 0:
            return
        result = slicer.mrmlScene.GetNodeByID(self.result_box.itemData(index))
        if result is None or result is state.result:
            return
        former = scene.reference_node(state.result)
        state.result = result
        reference = scene.reference_node(result)
        if reference is not None and reference is not former:
            # Another patient, or another day: its maps lie over its own images.
            self.overlays.show(None, overlays.OFF)
            slicer.util.setSliceViewerLayers(background=reference, fit=True)
        self.show(state.overlay)
        self.update()
        self._on_chosen()

    def _overlay_chosen(self, index: int) -> None:
        if not self._is_updating and index >= 0:
            self._choose_overlay(self.overlay_box.itemData(index))

    def _choose_overlay(self, name: str) -> None:
        state = self._state()
        if state is None:
            return
        why = self.overlays.missing(state.result, name)
        self.show(name)
        self.update()
        if why:
            self.overlay_meaning.text = why

    def _opacity_chosen(self, value: float) -> None:
        state = self._state()
        if not self._is_updating and state is not None:
            state.set_number("Opacity", value)
            self.show(self.overlays.shown)

    def _threshold_chosen(self, value: float) -> None:
        state = self._state()
        if not self._is_updating and state is not None:
            state.set_number("Threshold." + self.overlays.shown, value)
            self.show(self.overlays.shown)
            self.update()

    def _near_chosen(self, value: float) -> None:
        state = self._state()
        if not self._is_updating and state is not None:
            state.set_number("Near", value)
            self.show(self.overlays.shown)

    def _table_text(self, separator: str) -> str:
        state = self._state()
        table = scene.overlay_node(state.result, "table") if state else None
        if table is None:
            return ""
        text = io.StringIO()
        writer = csv.writer(text, delimiter=separator, lineterminator="\n")
        columns = range(table.GetNumberOfColumns())
        writer.writerow([table.GetColumnName(column) for column in columns])
        for row in range(table.GetNumberOfRows()):
            writer.writerow([table.GetCellText(row, column) for column in columns])
        return text.getvalue()

    def _choose_csv(self) -> None:
        path = qt.QFileDialog.getSaveFileName(
            self.widget, _("Save the results table"), "results.csv", "CSV (*.csv)"
        )
        if path:
            self.save_csv(path)


def _legend_of(segmentation) -> str:
    """Return the segments' names, each beside a square of its colour."""
    content = segmentation.GetSegmentation()
    parts = []
    for index in range(content.GetNumberOfSegments()):
        segment = content.GetNthSegment(index)
        color = "#" + "".join(f"{round(255 * part):02x}" for part in segment.GetColor())
        name = html.escape(segment.GetName())
        parts.append(f'<span style="color:{color}">\u25a0</span> {name}')
    return " &nbsp; ".join(parts)


def _slider(maximum: float):
    slider = ctk.ctkSliderWidget()
    slider.minimum = 0.0
    slider.maximum = maximum
    slider.singleStep = 0.05
    slider.decimals = 2
    return slider
