"""A plot view drawn off-screen: the chart of a plot node, as VTK draws it for Slicer too."""

from pathlib import Path

import vtk

_LINES = {0: vtk.vtkPen.NO_PEN, 1: vtk.vtkPen.SOLID_LINE, 2: vtk.vtkPen.DASH_LINE}
_MARKER_CIRCLE = 4


class PlotPicture:
    """What a plot view shows.

    Args:
        node: A `vtkMRMLPlotViewNode`.
    """

    def __init__(self, node: object) -> None:
        self._node = node
        self._size = (480, 360)

    def resize(self, width: int, height: int) -> None:
        """Set the picture's size, pixels."""
        self._size = (width, height)

    def png(self, path: Path) -> Path:
        """Draw the chart into a file."""
        view = vtk.vtkContextView()
        window = view.GetRenderWindow()
        window.SetOffScreenRendering(1)
        window.SetSize(*self._size)
        view.GetRenderer().SetBackground(1.0, 1.0, 1.0)
        view.GetScene().AddItem(_chart(self._node.GetPlotChartNode()))
        window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(window)
        grab.ReadFrontBufferOff()
        writer = vtk.vtkPNGWriter()
        writer.SetFileName(str(path))
        writer.SetInputConnection(grab.GetOutputPort())
        writer.Write()
        return path


def _chart(node: object) -> vtk.vtkChartXY:
    chart = vtk.vtkChartXY()
    chart.SetTitle(node.GetTitle() or "")
    chart.SetShowLegend(bool(node.GetLegendVisibility()))
    chart.GetAxis(vtk.vtkAxis.BOTTOM).SetTitle(node.GetXAxisTitle() or "")
    chart.GetAxis(vtk.vtkAxis.LEFT).SetTitle(node.GetYAxisTitle() or "")
    for place, is_auto, ends in (
        (vtk.vtkAxis.BOTTOM, node.GetXAxisRangeAuto(), node.GetXAxisRange()),
        (vtk.vtkAxis.LEFT, node.GetYAxisRangeAuto(), node.GetYAxisRange()),
    ):
        if not is_auto:
            chart.GetAxis(place).SetBehavior(vtk.vtkAxis.FIXED)
            chart.GetAxis(place).SetRange(*ends)
    for index in range(node.GetNumberOfPlotSeriesNodes()):
        series = node.GetNthPlotSeriesNode(index)
        plot = chart.AddPlot(vtk.vtkChart.LINE)
        table = series.GetTableNode().GetTable()
        plot.SetInputData(table, series.GetXColumnName(), series.GetYColumnName())
        plot.SetLabel(series.GetName())
        plot.SetColorF(*series.GetColor())
        plot.SetWidth(series.GetLineWidth())
        plot.GetPen().SetLineType(_LINES.get(series.GetLineStyle(), vtk.vtkPen.SOLID_LINE))
        if series.GetMarkerStyle() != series.MarkerStyleNone:
            plot.SetMarkerStyle(_MARKER_CIRCLE)
            plot.SetMarkerSize(series.GetMarkerSize())
    return chart
