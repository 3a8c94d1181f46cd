"""Slicer modules as the application holds them: the scripted ones and the logics of core's."""

# ruff: noqa: N801, N802 - Qt's, ctk's and Slicer's own names

import types

import slicer
from PySide6 import QtCore, QtWidgets

from Testing.host import mrml_widgets
from Testing.host.complaints import guarded
from Testing.host.stand_in import StandIn


class qSlicerAbstractCoreModule(QtCore.QObject, metaclass=StandIn):
    """A module: texts, logic, widget."""

    module_logic = None

    def logic(self):
        return self.module_logic

    def mrmlScene(self):
        return slicer.mrmlScene


class qSlicerAbstractModule(qSlicerAbstractCoreModule, metaclass=StandIn):
    """A module with an icon."""


class qSlicerLoadableModule(qSlicerAbstractModule, metaclass=StandIn):
    """A module in a file of its own."""


class qSlicerScriptedLoadableModule(qSlicerLoadableModule, metaclass=StandIn):
    """A module written in Python."""

    make_widget = None
    """Returns a new Python widget for a parent; set by the host."""
    _widget = None

    def get_name(self):
        return self.__dict__.get("_stored_name", "")

    def widgetRepresentation(self):
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget.of(self)
        return self._widget

    def createNewWidgetRepresentation(self):
        return qSlicerScriptedLoadableModuleWidget.of(self)


class qSlicerWidget(QtWidgets.QWidget, metaclass=StandIn):
    """A widget that knows the scene."""

    def mrmlScene(self):
        return self.__dict__.get("_scene")

    def setMRMLScene(self, scene):
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)


class qSlicerAbstractModuleWidget(qSlicerWidget, metaclass=StandIn):
    """The panel of a module."""


class qSlicerScriptedLoadableModuleWidget(qSlicerAbstractModuleWidget, metaclass=StandIn):
    """The panel of a scripted module: the parent of the Python widget."""

    @classmethod
    def of(cls, module):
        widget = cls()
        widget._module, widget._entered = module, False
        widget.setObjectName(f"{module.property('name')}ModuleWidget")
        QtWidgets.QVBoxLayout(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        widget.reload()
        return widget

    def reload(self):
        """Make the Python widget anew and set it up."""
        with guarded(f"setup of {self._module.property('name')}"):
            self._python_widget = self._module.make_widget(self)
            self._python_widget.setup()

    def get_moduleName(self):
        return self._module.property("name")

    def get_isEntered(self):
        return self._entered

    def self(self):
        return self._python_widget

    def enter(self):
        self._entered = True
        self._call("enter")

    def exit(self):
        self._entered = False
        self._call("exit")

    def _call(self, name):
        method = getattr(self._python_widget, name, None)
        if method is not None:
            with guarded(f"{type(self._python_widget).__name__}.{name}"):
                method()


class qSlicerAbstractModuleFactoryManager(QtCore.QObject, metaclass=StandIn):
    """Finds modules."""


class qSlicerModuleFactoryManager(qSlicerAbstractModuleFactoryManager, metaclass=StandIn):
    """Knows the loaded modules."""

    modules = types.MappingProxyType({})

    def loadedModuleNames(self):
        return list(self.modules)

    def isLoaded(self, name):
        return name in self.modules

    def loadedModule(self, name):
        return self.modules.get(name)


class qSlicerModuleManager(QtCore.QObject, metaclass=StandIn):
    """Gives modules by name."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.modules = {}
        self._factory = qSlicerModuleFactoryManager(self)
        self._factory.modules = self.modules

    def module(self, name):
        return self.modules.get(name)

    def modulesNames(self):
        return list(self.modules)

    def factoryManager(self):
        return self._factory


mrml_widgets  # noqa: B018 - imported for its stand-ins
