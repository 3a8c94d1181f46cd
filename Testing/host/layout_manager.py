"""The layout manager: keeps a slice widget for each slice node, and says which are laid out."""

# ruff: noqa: N801, N802 - Qt's, ctk's and Slicer's own names

import xml.etree.ElementTree as ElementTree

import slicer
import vtk
from PySide6 import QtCore

from Testing.host import view_widgets
from Testing.host.cpp_classes import stand_ins
from Testing.host.stand_in import StandIn


class ctkLayoutManager(QtCore.QObject, metaclass=StandIn):
    """Base of the layout managers."""


class qMRMLLayoutManager(stand_ins["ctkLayoutManager"], metaclass=StandIn, enabled=True):
    """Follows the scene's layout node."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._widgets = {}
        self._scene = self._layout_logic = self._application_logic = None
        self._arrangement = 0
        self._viewport = None

    def follow(self, scene, layout_logic, application_logic):
        """Make views for the scene's slice nodes, now and later."""
        self._scene, self._layout_logic = scene, layout_logic
        self._application_logic = application_logic
        scene.AddObserver(scene.NodeAddedEvent, self._added)
        scene.AddObserver(scene.NodeRemovedEvent, self._removed)
        node = layout_logic.GetLayoutNode()
        node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._layout_modified())
        for each in slicer.util.getNodesByClass("vtkMRMLSliceNode", scene):
            self._widget(each)
        self._layout_modified()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _added(self, _scene, _event, node):
        if node.IsA("vtkMRMLSliceNode"):
            self._widget(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _removed(self, _scene, _event, node):
        if node.IsA("vtkMRMLSliceNode"):
            widget = self._widgets.pop(node.GetLayoutName(), None)
            if widget is not None:
                widget.close_view(self._application_logic)

    def _widget(self, node):
        name = node.GetLayoutName()
        if name not in self._widgets:
            made = view_widgets.stand_ins["qMRMLSliceWidget"].of(node, self._application_logic)
            self._widgets[name] = made
        return self._widgets[name]

    def _layout_modified(self):
        node = self._layout_logic.GetLayoutNode()
        if node is None:  # The scene has no views.
            return
        description = node.GetCurrentLayoutDescription()
        shown = views_of(description) if description else []
        for each in slicer.util.getNodesByClass("vtkMRMLAbstractViewNode", self._scene):
            each.SetMappedInLayout((each.GetClassName(), each.GetSingletonTag()) in shown)
        if node.GetViewArrangement() != self._arrangement:
            self._arrangement = node.GetViewArrangement()
            self.layoutChanged__int.emit(self._arrangement)

    def get_layout(self):
        return self._layout_logic.GetLayoutNode().GetViewArrangement()

    def set_layout(self, arrangement):
        node = self._layout_logic.GetLayoutNode()
        if not node.IsLayoutDescription(arrangement):
            arrangement = node.SlicerLayoutConventionalView
        node.SetViewArrangement(arrangement)

    def setLayout(self, arrangement):
        self.set_layout(arrangement)

    def layoutLogic(self):
        return self._layout_logic

    def mrmlScene(self):
        return self._scene

    def mrmlSliceLogics(self):
        return self._application_logic.GetSliceLogics()

    def mrmlViewLogics(self):
        return self._application_logic.GetViewLogics()

    def mrmlColorLogic(self):
        return self._application_logic.GetColorLogic()

    def sliceViewNames(self):
        return list(self._widgets)

    def sliceWidget(self, name):
        return self._widgets.get(name)

    def viewWidget(self, node):
        return self._widgets.get(node.GetLayoutName()) if node.IsA("vtkMRMLSliceNode") else None

    def viewport(self, *_names):
        return self._viewport

    def resetSliceViews(self):
        for widget in self._widgets.values():
            widget.fitSliceToBackground()

    def resetThreeDViews(self):
        """There is no 3D view to reset."""

    def get_threeDViewCount(self):
        return 0

    def get_tableViewCount(self):
        return 0

    def get_plotViewCount(self):
        return 0

    def threeDWidget(self, _which):
        return None

    def pauseRender(self):
        """Pictures are drawn when they are asked for."""

    def resumeRender(self):
        """Pictures are drawn when they are asked for."""


class qSlicerLayoutManager(stand_ins["qMRMLLayoutManager"], metaclass=StandIn):
    """Slicer's layout manager."""


def views_of(description):
    """Return (class, singleton tag) of every view in a layout's XML."""
    root = ElementTree.fromstring(description)
    return [(view.get("class"), view.get("singletontag")) for view in root.iter("view")]
