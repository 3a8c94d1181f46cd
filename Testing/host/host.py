"""The host: Slicer's scene and application with our module in it, for one test process."""

import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import slicer
import slicer.util
from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host import adaptations, complaints, install, scene
from Testing.host.application import forget_settings, qSlicerApplication
from Testing.host.conversion import to_python, unwrapped
from Testing.host.dark_palette import dark_palette
from Testing.host.modules import qSlicerScriptedLoadableModule
from Testing.host.plot_view import PlotPicture


class Host:
    """One running stand-in for Slicer. Get it by `start_host()`."""

    def __init__(self):
        install.install_modules()
        self._vtk_listener = complaints.listen_to_vtk()
        complaints.listen_to_qt()
        complaints.listen_to_python()
        self._application = qSlicerApplication()
        self._core = scene.make_scene()
        self._application.use(self._core)
        self.app = to_python(self._application)
        install.install_slicer(self.app, self._core)
        install.install_util(self)
        self.complaints = complaints.complaints
        self.slow_calls = complaints.slow_calls
        self.dialog_answers = adaptations.dialog_answers
        self.opened_urls = adaptations.opened_urls
        self.selected_module = ""
        self._default_layout = self.app.layoutManager().layout

    # Modules

    def open_module(self, name: str, path: str | Path) -> object:
        """Load a module's file as Slicer does, open its panel; returns the Python widget."""
        self.load_module(name, path)
        return self.select_module(name)

    def load_module(self, name: str, path: str | Path) -> object:
        """Load a module's file as at application start; returns the module object."""
        manager = self._application.moduleManager()
        if name in manager.modules:
            return to_python(manager.modules[name])
        path = str(Path(path).resolve())
        folder = str(Path(path).parent)
        if folder not in sys.path:
            sys.path.append(folder)
        spec = importlib.util.spec_from_file_location(name, path)
        code = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(code)
        module = qSlicerScriptedLoadableModule()
        module._stored_name, module._stored_path = name, path
        module.make_widget = lambda parent: self._make_widget(name, to_python(parent))
        proxy = to_python(module)
        instance = getattr(code, name)(proxy)
        manager.modules[name] = module
        setattr(slicer.modules, name.lower(), proxy)
        setattr(slicer.modules, f"{name}Instance", instance)
        setattr(slicer.moduleNames, name, name)
        self._application.moduleManager().moduleLoaded.emit(name)
        return proxy

    def _make_widget(self, name: str, parent: object) -> object:
        widget = getattr(sys.modules[name], f"{name}Widget")(parent)
        setattr(slicer.modules, f"{name}Widget", widget)
        return widget

    def select_module(self, name: str) -> object:
        """Leave the selected module and enter this one; returns the Python widget."""
        self.leave_module()
        panel = self._application.moduleManager().modules[name].widgetRepresentation()
        self.selected_module = name
        panel.resize(420, 800)
        panel.show()
        panel.enter()
        self.process_events()
        return panel.self()

    def leave_module(self) -> None:
        """Exit the selected module, as when the user goes to another one."""
        module = self._application.moduleManager().modules.get(self.selected_module)
        if module is not None and module._widget is not None:
            module._widget.exit()
            module._widget.hide()
        self.selected_module = ""

    def reload_module(self, name: str) -> object:
        """Press Reload: returns the new Python widget."""
        getattr(slicer.modules, f"{name}Widget").onReload()
        return getattr(slicer.modules, f"{name}Widget")

    def panel(self, name: str) -> object:
        """Return the widget that holds the module's panel."""
        return to_python(self._application.moduleManager().modules[name].widgetRepresentation())

    def close_module(self, name: str) -> None:
        """Unload a module: its cleanup() runs and its panel is gone."""
        if self.selected_module == name:
            self.leave_module()
        manager = self._application.moduleManager()
        module = manager.modules.get(name)
        if module is None:
            return
        manager.moduleAboutToBeUnloaded.emit(name)
        del manager.modules[name]
        for place in (name.lower(), f"{name}Instance", f"{name}Widget"):
            with contextlib.suppress(AttributeError):
                delattr(slicer.modules, place)
        if module._widget is not None:
            module._widget.close()
            module._widget.deleteLater()
        self.process_events()

    # Scene and time

    def reset(self) -> None:
        """Close all modules, the scene, the settings and what was complained about."""
        for name in list(self._application.moduleManager().modules):
            self.close_module(name)
        self._core.layout_logic.SetMRMLScene(self._core.scene)
        self._core.scene.Clear(0)
        self.app.layoutManager().layout = self._default_layout
        forget_settings()
        self.process_events()
        self.forget()

    def take_views_away(self) -> None:
        """Leave the scene without views until the next `reset`: their nodes come with layouts."""
        scene = self._core.scene
        self._core.layout_logic.SetMRMLScene(None)
        for name in ("vtkMRMLAbstractViewNode", "vtkMRMLSliceCompositeNode"):
            for node in slicer.util.getNodesByClass(name, scene):
                scene.RemoveNode(node)

    def forget(self) -> None:
        """Empty the lists that say what happened."""
        for record in (self.complaints, self.slow_calls, self.opened_urls):
            record.clear()
        self.dialog_answers.clear()

    def process_events(self) -> None:
        QtWidgets.QApplication.processEvents()
        QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)

    def spin(self, until: Callable[[], object], timeout_s: float = 10.0) -> bool:
        """Process events until the condition holds; returns whether it did in time."""
        end = time.monotonic() + timeout_s
        while not until():
            if time.monotonic() > end:
                return False
            QtWidgets.QApplication.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 20)
            time.sleep(0.002)
        return True

    def start_up(self) -> None:
        """Tell the modules that the application has started."""
        self._application.startupCompleted.emit()

    def quit(self) -> None:
        """Tell the modules that the application ends; it does not."""
        self._application.aboutToQuit.emit()

    @contextlib.contextmanager
    def expected_complaints(self) -> Iterator[list]:
        """Collect complaints that a test is about; they do not fail it."""
        before = len(self.complaints)
        found: list = []
        yield found
        found += self.complaints[before:]
        del self.complaints[before:]

    # Pictures

    def grab(
        self, widget: object, path: str | Path, scale: float = 1.0, dark: bool = False
    ) -> Path:
        """Save a picture of a widget at 1x, 1.5x or 2x, in the light or dark theme."""
        target = unwrapped(widget)
        palette = QtWidgets.QApplication.palette()
        if dark:
            QtWidgets.QApplication.setPalette(dark_palette())
        try:
            self.process_events()
            picture = QtGui.QPixmap(target.size() * scale)
            picture.setDevicePixelRatio(scale)
            picture.fill(QtWidgets.QApplication.palette().window().color())
            target.render(picture)
        finally:
            QtWidgets.QApplication.setPalette(palette)
        if not picture.save(str(path)):
            raise OSError(f"{path} could not be written")
        self.process_events()
        return Path(path)

    def slice_view(self, name: str) -> "SlicePicture":
        """Return the drawn side of a slice view."""
        widget = self._application.layoutManager().sliceWidget(name)
        if widget is None:
            known = self._application.layoutManager().sliceViewNames()
            raise KeyError(f"no slice view {name!r}, there are {known}")
        return SlicePicture(widget.sliceView().offscreen)

    def plot_view(self, tag: str) -> PlotPicture:
        """Return the drawn side of the plot view with a singleton tag."""
        node = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLPlotViewNode")
        if node is None:
            raise KeyError(f"no plot view {tag!r}")
        return PlotPicture(node)


class SlicePicture:
    """What a slice view shows."""

    def __init__(self, offscreen: object):
        self._offscreen = offscreen

    def resize(self, width: int, height: int) -> None:
        self._offscreen.resize(width, height)

    def array(self):
        """Return the picture as (rows, columns, 3) uint8, top row first."""
        from vtk.util.numpy_support import vtk_to_numpy

        image = self._offscreen.pixels()
        columns, rows, _ = image.GetDimensions()
        flat = vtk_to_numpy(image.GetPointData().GetScalars())
        return flat.reshape(rows, columns, -1)[::-1, :, :3].copy()

    def png(self, path: str | Path) -> Path:
        pixels = self.array()
        rows, columns, _ = pixels.shape
        image = QtGui.QImage(
            pixels.data, columns, rows, 3 * columns, QtGui.QImage.Format.Format_RGB888
        )
        if not image.save(str(path)):
            raise OSError(f"{path} could not be written")
        return Path(path)
