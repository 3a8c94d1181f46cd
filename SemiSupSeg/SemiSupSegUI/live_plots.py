"""A run's curves in Slicer's own plots: losses, Dice on validation, trust of cases and voxels.

Below them a table of the stages.

Every curve has a table of its own: curves of one chart begin and end where they like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import slicer
import vtk
from slicer.i18n import tr as _

from SemiSupSegLib.workers.run_view import RunView
from SemiSupSegUI.layouts import Layout

Points = Sequence[Sequence[float]]

LAYOUT = Layout(
    27418,
    "SemiSupSeg training",
    '<layout type="vertical" split="true">{rows}</layout>',
)
_CHARTS = ("losses", "dice", "cases", "voxels")
_COLORS = (
    (0.0, 0.447, 0.698),
    (0.902, 0.624, 0.0),
    (0.0, 0.620, 0.451),
    (0.8, 0.475, 0.655),
    (0.337, 0.706, 0.914),
    (0.835, 0.369, 0.0),
    (0.0, 0.0, 0.0),
    (0.941, 0.894, 0.259),
)
"""Of Okabe and Ito: told apart by colour-blind people, too."""
_GREY = (0.5, 0.5, 0.5)
_TABLE_TAG = "SemiSupSegStages"
_LOSSES = ("supervised", "high", "low", "log_variance")
_HEADROOM = 1.35
"""So much higher than its curves a chart is where they would run below the legend."""
_LEAST_PLOT_PIXELS, _LEGEND_PIXELS, _LETTER_PIXELS = 400, 45, 7.2
"""Of a view of 480 pixels between its axes; of a legend without its text; of a letter there."""


@dataclass(frozen=True)
class Curve:
    """A line of a chart."""

    name: str
    points: tuple[tuple[float, float], ...]
    color: tuple[float, float, float]
    is_dashed: bool = False
    has_markers: bool = False
    width: int = 2


@dataclass(frozen=True)
class Chart:
    """What a chart shows."""

    title: str
    x_title: str
    y_title: str
    curves: tuple[Curve, ...]
    x_range: tuple[float, float] | None = None
    """None: as the curves have it."""
    y_range: tuple[float, float] | None = None


def charts(view: RunView) -> dict[str, Chart]:
    """Return the four charts of a run, as its watcher tells them."""
    top = _top(view.dice)
    marks = [float(one["iteration"]) for one in view.stage_marks if one["stage"] is not None]
    dice = (
        *_dice_curves(view.dice),
        *([Curve(_("stages"), _fence(marks, top), _GREY, width=1)] if marks else []),
    )
    return {
        "losses": _losses_chart(view),
        "dice": Chart(
            _("Dice on validation (dashed: teacher; grey: stages begin)"),
            _("update"),
            _("Dice"),
            dice,
            x_range=(0.0, _room(dice) * max([1.0, *_last_updates(view.dice), *marks])),
            y_range=(0.0, top),
        ),
        "cases": _cases_chart(view),
        "voxels": _voxels_chart(view),
    }


class LivePlots:
    """Keeps plot nodes up to date, and shows them in a layout that can be left again."""

    def __init__(self) -> None:
        self._shown: dict[str, Chart] = {}
        self._rows: list[tuple[str, ...]] = []
        """Of the table of stages, its titles first."""

    @property
    def is_visible(self) -> bool:
        """Whether the layout is on."""
        return LAYOUT.is_on

    def show(self, view: RunView) -> None:
        """Bring the charts up to date; what has not changed is not touched."""
        for name, chart in charts(view).items():
            if self._shown.get(name) != chart:
                _draw(name, chart, self._shown.get(name))
                self._shown[name] = chart
        rows = stage_rows(view)
        if rows != self._rows:
            _fill_stages(rows)
            self._rows = rows

    def enter(self) -> None:
        """Show the charts beside each other."""
        register_layout()
        LAYOUT.enter()
        for name in _CHARTS:
            chart = _node("vtkMRMLPlotChartNode", f"chart.{name}", make=False)
            view = slicer.mrmlScene.GetSingletonNode(_tag(name), "vtkMRMLPlotViewNode")
            if chart is not None and view is not None:
                view.SetPlotChartNodeID(chart.GetID())
        table = _node("vtkMRMLTableNode", "stages", make=False)
        view = slicer.mrmlScene.GetSingletonNode(_TABLE_TAG, "vtkMRMLTableViewNode")
        if table is not None and view is not None:
            view.SetTableNodeID(table.GetID())

    def leave(self, *, is_wished: bool = False) -> None:
        """Show again what was there before; if wished, also if nobody knows what that was."""
        LAYOUT.leave(is_wished=is_wished)

    def clear(self) -> None:
        """Remove all nodes: another run is followed, or none."""
        for node in _own_nodes():
            slicer.mrmlScene.RemoveNode(node)
        self.forget()

    def forget(self) -> None:
        """The scene closes, and the nodes go with it."""
        self._shown, self._rows = {}, []


def register_layout() -> None:
    """Make the layout known; also for scenes that were saved in it."""
    rows = "".join(
        '<item><layout type="horizontal" split="true">'
        + "".join(
            f'<item><view class="vtkMRMLPlotViewNode" singletontag="{_tag(name)}">'
            f'<property name="viewlabel" action="default">{name}</property></view></item>'
            for name in pair
        )
        + "</layout></item>"
        for pair in (_CHARTS[:2], _CHARTS[2:])
    )
    table = f'<item><view class="vtkMRMLTableViewNode" singletontag="{_TABLE_TAG}"></view></item>'
    LAYOUT.register(rows=rows + table)


def _tag(name: str) -> str:
    return f"SemiSupSeg{name.capitalize()}"


def _color(at: int) -> tuple[float, float, float]:
    return _COLORS[at % len(_COLORS)]


def _room(curves: Sequence[Curve]) -> float:
    """Return how much longer than its curves an axis is, so that the legend covers none of them."""
    longest = max([0, *(len(one.name) for one in curves)])
    legend = _LEGEND_PIXELS + _LETTER_PIXELS * longest
    # However long a name is, the curves keep half of the chart.
    return 1 / max(0.5, 1 - legend / _LEAST_PLOT_PIXELS)


def _pairs(points: Points) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in points)


def _fence(places: Sequence[float], height: float) -> tuple[tuple[float, float], ...]:
    """Return a line that rises at each place; between them it runs along the chart's borders."""
    points: list[tuple[float, float]] = []
    for at, place in enumerate(places):
        ends = (0.0, height) if at % 2 == 0 else (height, 0.0)
        points += [(place, ends[0]), (place, ends[1])]
    return tuple(points)


def _shown_losses(losses: Mapping[str, Points]) -> list[str]:
    """Return the terms that are told apart by what they learn from, else all."""
    known = [name for name in _LOSSES if name in losses]
    return known or sorted(losses)


def _loss_title(name: str) -> str:
    titles = {
        "supervised": _("labels"),
        "high": _("trusted pseudo-labels"),
        "low": _("doubtful pseudo-labels"),
        "log_variance": _("uncertainty"),
    }
    return titles.get(name, name.replace("_", " "))


def _top(dice: Mapping[str, Mapping[str, Points]]) -> float:
    """Return a round value above all Dice: early ones would lie flat below an axis to 1."""
    most = max(
        (y for one in dice.values() for points in one.values() for _x, y in points), default=1
    )
    return min(1.0, (int(most * 10) + 1) / 10)


def _last_updates(dice: Mapping[str, Mapping[str, Points]]) -> list[float]:
    return [float(points[-1][0]) for one in dice.values() for points in one.values() if points]


def _dice_curves(dice: Mapping[str, Mapping[str, Points]]) -> list[Curve]:
    targets = list(dict.fromkeys(name for one in dice.values() for name in one))
    end = max(_last_updates(dice), default=0.0)
    curves = []
    for network, is_dashed in (("student", False), ("teacher", True)):
        shown = dice.get(network, {})
        if is_dashed and "mean" in shown:
            # One line to be measured by; seven more would hide the student's.
            shown = {"mean": shown["mean"]}
        for name, points in shown.items():
            title = _("{name} (teacher)").format(name=name) if is_dashed else name
            color = _color(targets.index(name))
            pairs = _pairs(points)
            if is_dashed and pairs:
                # What the student is measured by, to where it is now.
                pairs += ((end, pairs[-1][1]),)
            curves.append(Curve(title, pairs, color, is_dashed, has_markers=not is_dashed))
    return curves


def _losses_chart(view: RunView) -> Chart:
    curves = tuple(
        Curve(_loss_title(name), _pairs(view.losses[name]), _color(at))
        for at, name in enumerate(_shown_losses(view.losses))
    )
    last = max([1.0, *(one.points[-1][0] for one in curves if one.points)])
    return Chart(_("Losses"), _("update"), _("loss"), curves, x_range=(0.0, _room(curves) * last))


def _cases_chart(view: RunView) -> Chart:
    """Return how the unlabelled cases are trusted, and those of the present stage."""
    curves = []
    stages = view.stages
    if stages:
        histogram = stages[-1]["histogram"]
        for title, counts, color in (
            (_("all unlabelled cases"), histogram["all"], _GREY),
            (
                _("those of stage {stage}").format(stage=stages[-1]["stage"]),
                histogram["stage"],
                _color(0),
            ),
        ):
            curves.append(Curve(title, _steps(counts), color))
    most = max([1.0, *(y for one in curves for _x, y in one.points)])
    return Chart(
        _("Trust of cases"),
        _("image confidence"),
        _("cases"),
        tuple(curves),
        x_range=(0.0, 1.0),
        y_range=(0.0, _HEADROOM * most),
    )


def _voxels_chart(view: RunView) -> Chart:
    """Return the share of voxels that each stage learns as they are labelled, by class."""
    by_class: dict[str, list[tuple[float, float]]] = {}
    for one in view.stages:
        for name, shares in one["by_class"].items():
            if shares["accepted"] is not None:
                point = (float(one["stage"]), float(shares["accepted"]))
                by_class.setdefault(name, []).append(point)
    curves = tuple(
        Curve(name, tuple(points), _color(at), has_markers=True)
        for at, (name, points) in enumerate(by_class.items())
    )
    last = max([1.0, *(float(one["stage"]) for one in view.stages)])
    return Chart(
        _("Pseudo-labelled voxels that are trusted"),
        _("stage"),
        _("share"),
        curves,
        x_range=(0.0, _room(curves) * last),
        y_range=(0.0, 1.0),
    )


def stage_rows(view: RunView) -> list[tuple[str, ...]]:
    """Return the table of stages: how many cases, and how much of their voxels is trusted."""
    names = list(dict.fromkeys(name for one in view.stages for name in one["by_class"]))
    titles = (
        _("Stage"),
        _("Cases"),
        _("Trusted"),
        _("Ignored"),
        _("Unlearned"),
        *(_("{name} trusted").format(name=name) for name in names),
    )
    rows = [
        (
            str(one["stage"]),
            str(one["cases"]),
            *(percent(one["shares"][what]) for what in ("accepted", "ignored", "unlearned")),
            *(percent(one["by_class"].get(name, {}).get("accepted")) for name in names),
        )
        for one in view.stages
    ]
    return [titles, *rows]


def percent(share: float | None) -> str:
    """Return a share in percent."""
    return "-" if share is None else f"{share:.0%}"


def _fill_stages(rows: Sequence[tuple[str, ...]]) -> None:
    node = _node("vtkMRMLTableNode", "stages", title=_("Training stages"))
    node.SetHideFromEditors(False)
    content = vtk.vtkTable()
    for at, title in enumerate(rows[0]):
        column = vtk.vtkStringArray()
        column.SetName(title)
        for row in rows[1:]:
            column.InsertNextValue(row[at])
        content.AddColumn(column)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)
    node.SetAndObserveTable(content)


def _steps(counts: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Return the outline of a histogram from 0 to 1."""
    points = [(0.0, 0.0)]
    for at, count in enumerate(counts):
        points += [(at / len(counts), float(count)), ((at + 1) / len(counts), float(count))]
    return (*points, (1.0, 0.0))


def _draw(name: str, chart: Chart, former: Chart | None) -> None:
    node = _node("vtkMRMLPlotChartNode", f"chart.{name}", title=chart.title)
    old = {} if former is None else {one.name: one for one in former.curves}
    before = node.StartModify()
    node.SetTitle(chart.title)
    node.SetXAxisTitle(chart.x_title)
    node.SetYAxisTitle(chart.y_title)
    node.SetLegendVisibility(True)
    if chart.x_range is not None:
        node.XAxisRangeAutoOff()
        node.SetXAxisRange(*chart.x_range)
    if chart.y_range is not None:
        node.YAxisRangeAutoOff()
        node.SetYAxisRange(*chart.y_range)
    for curve in chart.curves:
        if old.get(curve.name) != curve:
            _draw_curve(node, f"{name}.{curve.name}", curve)
    for gone in set(old) - {curve.name for curve in chart.curves}:
        _remove_curve(node, f"{name}.{gone}")
    node.EndModify(before)


def _draw_curve(chart, role: str, curve: Curve) -> None:
    table = _node("vtkMRMLTableNode", f"table.{role}", title=curve.name)
    content = vtk.vtkTable()
    # VTK complains about a line of a single point each time that it draws it.
    points = curve.points * (2 if len(curve.points) == 1 else 1)
    for title, at in (("x", 0), ("y", 1)):
        column = vtk.vtkDoubleArray()
        column.SetName(title)
        column.SetNumberOfValues(len(points))
        for row, point in enumerate(points):
            column.SetValue(row, point[at])
        content.AddColumn(column)
    table.SetAndObserveTable(content)
    series = _node("vtkMRMLPlotSeriesNode", f"series.{role}", title=curve.name)
    before = series.StartModify()
    series.SetName(curve.name)
    series.SetAndObserveTableNodeID(table.GetID())
    # A scatter plot with lines: a line plot would space its points evenly.
    series.SetPlotType(series.PlotTypeScatter)
    series.SetXColumnName("x")
    series.SetYColumnName("y")
    series.SetColor(*curve.color)
    series.SetLineWidth(curve.width)
    series.SetLineStyle(series.LineStyleDash if curve.is_dashed else series.LineStyleSolid)
    markers = series.MarkerStyleCircle if curve.has_markers else series.MarkerStyleNone
    series.SetMarkerStyle(markers)
    series.SetMarkerSize(5)
    series.EndModify(before)
    if not chart.HasPlotSeriesNodeID(series.GetID()):
        chart.AddAndObservePlotSeriesNodeID(series.GetID())


def _remove_curve(chart, role: str) -> None:
    for kind, node_class in (
        ("series", "vtkMRMLPlotSeriesNode"),
        ("table", "vtkMRMLTableNode"),
    ):
        node = _node(node_class, f"{kind}.{role}", make=False)
        if node is not None:
            if kind == "series":
                chart.RemovePlotSeriesNodeID(node.GetID())
            slicer.mrmlScene.RemoveNode(node)


def _node(node_class: str, role: str, *, title: str = "", make: bool = True):
    """Return our node of a role; it is made if it is missing."""
    tag = f"SemiSupSegTraining.{role}"
    node = slicer.mrmlScene.GetSingletonNode(tag, node_class)
    if node is None and make:
        node = slicer.mrmlScene.CreateNodeByClass(node_class)
        node.UnRegister(None)
        node.SetSingletonTag(tag)
        node.SetName(title)
        # The run folder has all of it; and no list of the user's tables should be full of them.
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(node_class == "vtkMRMLTableNode")
        node = slicer.mrmlScene.AddNode(node)
    return node


def _own_nodes() -> list:
    found = []
    for node_class in ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode"):
        for node in slicer.util.getNodesByClass(node_class):
            if (node.GetSingletonTag() or "").startswith("SemiSupSegTraining."):
                found.append(node)
    return found
