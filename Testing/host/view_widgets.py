"""Stand-ins for slice and 3D view widgets; what they show is drawn by the real managers."""

# ruff: noqa: N801, N802, N815 - Qt's, ctk's and Slicer's own names

import slicer
import vtk
from PySide6 import QtWidgets

from Testing.host import mrml_widgets
from Testing.host.cpp_classes import stand_ins
from Testing.host.slice_view import OffscreenSlice
from Testing.host.stand_in import StandIn

SIZE = (400, 400)


class ctkVTKAbstractView(QtWidgets.QWidget, metaclass=StandIn, renderEnabled=True):
    """A render window."""

    offscreen = None

    def cornerAnnotation(self):
        return self.offscreen.corners

    def renderWindow(self):
        return self.offscreen.window

    def interactor(self):
        return self.offscreen.interactor

    def scheduleRender(self):
        """Pictures are drawn when they are asked for."""

    def forceRender(self):
        self.offscreen.render()

    def pauseRender(self):
        return 1

    def resumeRender(self):
        return 0

    def setCornerAnnotationText(self, text):
        self.offscreen.corners.SetText(2, text)


class ctkVTKSliceView(stand_ins["ctkVTKAbstractView"], metaclass=StandIn):
    """A render window for slices."""


class qMRMLSliceView(stand_ins["ctkVTKSliceView"], metaclass=StandIn):
    """The picture part of a slice widget."""

    def mrmlSliceNode(self):
        return self.offscreen.node

    def displayableManagerByClassName(self, name):
        group = self.offscreen.managers()
        if isinstance(name, bytes):
            name = name.decode()
        return group.GetDisplayableManagerByClassName(name)

    def getDisplayableManagers(self, collection):
        group = self.offscreen.managers()
        for index in range(group.GetDisplayableManagerCount()):
            collection.AddItem(group.GetNthDisplayableManager(index))

    def convertXYZToRAS(self, xyz):
        return list(self.offscreen.node.GetXYToRAS().MultiplyPoint([*xyz, 1.0])[:3])

    def convertRASToXYZ(self, ras):
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.offscreen.node.GetXYToRAS(), inverse)
        return list(inverse.MultiplyPoint([*ras, 1.0])[:3])


class qMRMLViewControllerBar(stand_ins["qMRMLWidget"], metaclass=StandIn):
    """The bar above a view."""


class qMRMLSliceControllerWidget(stand_ins["qMRMLViewControllerBar"], metaclass=StandIn):
    """The bar above a slice view."""

    logic = None

    def sliceLogic(self):
        return self.logic

    def mrmlSliceNode(self):
        return self.logic.GetSliceNode()

    def mrmlSliceCompositeNode(self):
        return self.logic.GetSliceCompositeNode()

    def setSliceOffsetValue(self, offset):
        self.logic.SetSliceOffset(offset)

    def fitSliceToBackground(self):
        self.logic.FitSliceToBackground()

    def setSliceVisible(self, visible):
        self.mrmlSliceNode().SetSliceVisible(visible)

    def setSliceLink(self, linked):
        self.mrmlSliceCompositeNode().SetLinkedControl(linked)

    def setForegroundOpacity(self, opacity):
        self.mrmlSliceCompositeNode().SetForegroundOpacity(opacity)


class qMRMLAbstractViewWidget(stand_ins["qMRMLWidget"], metaclass=StandIn):
    """A view with its bar."""

    def pauseRender(self):
        """Pictures are drawn when they are asked for."""

    def resumeRender(self):
        """Pictures are drawn when they are asked for."""


class qMRMLSliceWidget(stand_ins["qMRMLAbstractViewWidget"], metaclass=StandIn):
    """A slice view with its bar."""

    @classmethod
    def of(cls, node, application_logic):
        """Return the widget of a slice node, with a logic that the application knows."""
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(application_logic)
        application_logic.GetSliceLogics().AddItem(logic)
        logic.SetMRMLScene(node.GetScene())
        logic.SetSliceNode(node)
        widget = cls()
        widget.setObjectName(f"qMRMLSliceWidget{node.GetLayoutName()}")
        widget._logic = logic
        widget._view = stand_ins["qMRMLSliceView"](widget)
        widget._view.offscreen = OffscreenSlice(logic, application_logic, SIZE)
        widget._controller = stand_ins["qMRMLSliceControllerWidget"](widget)
        widget._controller.logic = logic
        return widget

    def close_view(self, application_logic):
        """Take the view away from the scene."""
        self._view.offscreen.close()
        application_logic.GetSliceLogics().RemoveItem(self._logic)
        self._logic.SetMRMLScene(None)

    def sliceLogic(self):
        return self._logic

    logic = sliceLogic

    def sliceView(self):
        return self._view

    viewWidget = sliceView

    def sliceController(self):
        return self._controller

    controllerWidget = sliceController

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    mrmlAbstractViewNode = mrmlSliceNode

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self):
        self._logic.FitSliceToBackground()

    def interactorStyle(self):
        return self._view.offscreen.interactor.GetInteractorStyle()

    def get_sliceViewName(self):
        return self.mrmlSliceNode().GetLayoutName()

    def get_sliceViewLabel(self):
        return self.mrmlSliceNode().GetLayoutLabel()

    def get_sliceOrientation(self):
        return self.mrmlSliceNode().GetOrientation()

    def set_sliceOrientation(self, orientation):
        self.mrmlSliceNode().SetOrientation(orientation)

    def setSliceOrientation(self, orientation):
        self.mrmlSliceNode().SetOrientation(orientation)


mrml_widgets  # noqa: B018 - imported for its stand-ins
