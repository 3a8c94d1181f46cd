"""slicer.app: one QApplication with the members of Slicer's."""

# ruff: noqa: N801, N802 - Qt's, ctk's and Slicer's own names

import contextlib
import tempfile
from pathlib import Path

from PySide6 import QtCore, QtWidgets

from Testing.host import io_manager, layout_manager, modules
from Testing.host.adaptations import adapts
from Testing.host.conversion import unwrapped
from Testing.host.stand_in import StandIn

VERSION = "5.13.0"


class qSlicerCoreApplication(
    QtWidgets.QApplication,
    metaclass=StandIn,
    majorVersion=5,
    minorVersion=13,
    mainApplicationName="Slicer",
    mainApplicationDisplayName="3D Slicer",
    mainApplicationMajorVersion=5,
    mainApplicationMinorVersion=13,
    applicationLocaleName="en-US",
    revision="31053",
    repositoryRevision="31053",
    mainApplicationRevision="31053",
    platform="linux-amd64",
    os="linux",
    arch="amd64",
    releaseType="Experimental",
    isInstalled=True,
    isCustomMainApplication=False,
):
    """The part of the application without windows."""

    def __init__(self):
        super().__init__(["Slicer", "--testing", "--no-main-window"])
        self.setApplicationName("Slicer")
        self.setApplicationVersion(VERSION)
        self.setOrganizationDomain("host.invalid")
        self.setOrganizationName("stand-in host")
        self.setQuitOnLastWindowClosed(False)
        self._folder = tempfile.TemporaryDirectory(prefix="host-slicer-")
        self.core = None
        """SceneWithLogics; set by the host."""
        self._core_io = self._module_manager = self._layout_manager = None
        home = Path(self._folder.name)
        for name in ("slicerHome", "temporaryPath", "cachePath", "slicerSharePath"):
            self.__dict__[f"_stored_{name}"] = str(home / name)
            (home / name).mkdir()
        QtCore.QStandardPaths.setTestModeEnabled(True)
        settings = QtCore.QSettings
        settings.setDefaultFormat(settings.Format.IniFormat)
        for scope in (settings.Scope.UserScope, settings.Scope.SystemScope):
            settings.setPath(settings.Format.IniFormat, scope, str(home / "settings"))
        self._settings = settings()

    def use(self, core):
        """Take the scene and its logics."""
        self.core = core
        self._core_io = io_manager.qSlicerIOManager(self)
        self._core_io.host = core
        self._module_manager = modules.qSlicerModuleManager(self)
        self._layout_manager = layout_manager.qSlicerLayoutManager(self)
        self._layout_manager.follow(core.scene, core.layout_logic, core.application_logic)

    def get_slicerUserSettingsFilePath(self):
        return self._settings.fileName()

    def get_applicationLocale(self):
        return QtCore.QLocale("en_US")

    def mrmlScene(self):
        return self.core.scene

    def applicationLogic(self):
        return self.core.application_logic

    def moduleLogic(self, name):
        return self.core.logics.get(name.lower())

    def coreIOManager(self):
        return self._core_io

    def moduleManager(self):
        return self._module_manager

    def userSettings(self):
        return self._settings

    def settings(self):
        return self._settings

    def revisionUserSettings(self):
        return self._settings

    def startupEnvironment(self):
        return QtCore.QProcessEnvironment.systemEnvironment()

    def environment(self):
        return QtCore.QProcessEnvironment.systemEnvironment()

    def testingEnabled(self):
        return True

    def pauseRender(self):
        """Pictures are drawn when they are asked for."""

    def resumeRender(self):
        """Pictures are drawn when they are asked for."""

    def setRenderPaused(self, _paused):
        """Pictures are drawn when they are asked for."""

    def registerResource(self, _data):
        return 0

    def logUsageEvent(self, component, event):
        self.usageEventLogged.emit(component, event)


class qSlicerApplication(qSlicerCoreApplication, metaclass=StandIn):
    """The application with windows."""

    def layoutManager(self):
        return self._layout_manager

    def ioManager(self):
        return self._core_io


@adapts("QCoreApplication.exit", "QCoreApplication.quit")
def no_exit(_app, status=0):
    """Leave the test process alone."""
    raise SystemExit(status)


@adapts("QCoreApplication.processEvents")
def process_events(_app, *_arguments):
    QtWidgets.QApplication.processEvents()


@adapts("QApplication.setOverrideCursor", "QGuiApplication.setOverrideCursor")
def set_override_cursor(_app, cursor):
    shape = QtCore.Qt.CursorShape(cursor) if isinstance(cursor, int) else unwrapped(cursor)
    QtWidgets.QApplication.setOverrideCursor(shape)


def forget_settings():
    """Empty the settings, as for a new user."""
    with contextlib.suppress(AttributeError):
        QtCore.QCoreApplication.instance().userSettings().clear()
