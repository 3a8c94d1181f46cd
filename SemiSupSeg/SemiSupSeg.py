"""SemiSupSeg in Slicer's window: the module, its panel, its logic, and a short test.

Slicer runs this file at every start, for every user: nothing is imported, contacted or computed
here that the panel does not need to be listed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

OLDEST_SLICER = (5, 10)


def _put_library_on_path() -> Path:
    """Return the folder of SemiSupSegLib: beside this file when installed, above it in the source.

    Slicer itself puts only this file's folder on the path.
    """
    here = Path(__file__).resolve().parent
    for folder in (here, here.parent):
        if (folder / "SemiSupSegLib" / "__init__.py").is_file():
            if str(folder) not in sys.path:
                sys.path.append(str(folder))
            return folder
    raise ImportError(f"SemiSupSegLib is not beside {here}. Install SemiSupSeg again.")


class SemiSupSeg(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "SemiSupSeg"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["SemiSupSeg developers"]
        self.parent.helpText = _(
            "Segments with models that were trained from few labels and many scans, and shows "
            "where the result should not be trusted. For research use only; not a medical device."
        )
        self.parent.acknowledgementText = _(
            "The core method is that of Liu 2026 (arXiv 2602.08797). Please cite it and SemiSupSeg."
        )
        _put_library_on_path()
        slicer.app.connect("startupCompleted()", self._register)

    def _register(self):
        """Tell other modules, once they are all there, of the made-up case and our layouts."""
        from SemiSupSegUI import demonstration, live_plots, overlays

        # First the layouts: a scene that was saved in one would open broken without it.
        overlays.register_layout()
        live_plots.register_layout()
        demonstration.register_sample()


class SemiSupSegLogic(ScriptedLoadableModuleLogic):
    """What the panel does, for scripts: everything works with explicit arguments, no widget."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        _put_library_on_path()
        from SemiSupSegUI.jobs import Jobs
        from SemiSupSegUI.worker import new_runner

        self.jobs = Jobs(new_runner())

    def segment(self, model, volumes, **options):
        """Start a segmentation and return it; see `SemiSupSegUI.segmenting.Segmenting`.

        Args:
            model: Registered name, or folder of a model package.
            volumes: Volume nodes by channel; results lie on the grid of the task's first one.
            options: `output`, `options`, `on_progress`, `on_end`, `folder`.
        """
        from SemiSupSegUI.jobs import new_job_folder
        from SemiSupSegUI.segmenting import Segmenting

        folder = options.pop("folder", None) or new_job_folder()
        segmenting = Segmenting(self.jobs, model, volumes, folder, **options)
        segmenting.start()
        return segmenting

    def close(self):
        """End all work."""
        self.jobs.close()


class SemiSupSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None
        self._refresh = None

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        if (slicer.app.majorVersion, slicer.app.minorVersion) < OLDEST_SLICER:
            text = _("SemiSupSeg needs Slicer {oldest} or later; this is {version}.").format(
                oldest="{}.{}".format(*OLDEST_SLICER), version=slicer.app.applicationVersion
            )
            self.layout.addWidget(qt.QLabel(text))
            return
        _put_library_on_path()
        from SemiSupSegUI.panel import Panel

        self.logic = SemiSupSegLogic()
        self.panel = Panel(self.logic)
        self.layout.addWidget(self.panel.widget)
        # Several events of one change are answered once, when the scene has come to rest.
        self._refresh = qt.QTimer()
        self._refresh.setSingleShot(True)
        self._refresh.setInterval(0)
        self._refresh.connect("timeout()", self._onRefresh)
        scene = slicer.mrmlScene
        # First of all, while the selectors still have what was chosen.
        self.addObserver(scene, scene.StartImportEvent, self._onStartImport, priority=1.0)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self._onNodeLeaves, priority=1.0)
        self.addObserver(scene, scene.StartCloseEvent, self._onStartClose)
        for event in (scene.EndCloseEvent, scene.EndImportEvent, scene.EndBatchProcessEvent):
            self.addObserver(scene, event, self._onSceneChanged)
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodeAdded)
        self.addObserver(scene, scene.NodeRemovedEvent, self._onNodeRemoved)
        slicer.app.connect("aboutToQuit()", self._onQuit)
        # Reloading builds a new panel where the old one was shown, and says nothing of it.
        if self.parent.isEntered:
            self.enter()

    def enter(self):
        """The module is shown."""
        if self.panel is not None:
            self.panel.enter()

    def exit(self):
        """Another module is shown."""
        if self.panel is not None:
            self.panel.exit()

    def cleanup(self):
        """The panel goes, or is loaded anew."""
        self.removeObservers()
        if self.panel is None:
            return
        self._refresh.stop()
        slicer.app.disconnect("aboutToQuit()", self._onQuit)
        self.panel.cleanup()
        self.layout.removeWidget(self.panel.widget)
        self.panel.widget.hide()
        self.panel.widget.setParent(None)
        self.panel.widget.deleteLater()
        self.panel = None
        self.logic.close()
        self.logic = None

    def onReload(self):
        """Load the sections and the library anew too, not this file only."""
        for name in list(sys.modules):
            if name.partition(".")[0] in ("SemiSupSegLib", "SemiSupSegUI"):
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def _onStartClose(self, caller, event):
        self.panel.scene_closes()

    def _onStartImport(self, caller, event):
        self.panel.nodes_move()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeLeaves(self, caller, event, node):
        if _isShown(node):
            self.panel.nodes_move()

    def _onSceneChanged(self, caller, event):
        self.panel.scene_is_there()
        self._refresh.start()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, caller, event, node):
        # A view that first appears with a new layout shows the overlay, too.
        if node.IsA("vtkMRMLSliceCompositeNode"):
            self._refresh.start()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeRemoved(self, caller, event, node):
        if _isShown(node):
            self._refresh.start()

    def _onRefresh(self):
        # While it is busy, the event at its end starts the timer again.
        scene = slicer.mrmlScene
        if not (scene.IsClosing() or scene.IsImporting() or scene.IsBatchProcessing()):
            self.panel.scene_changed()

    def _onQuit(self):
        if self.logic is not None:
            self.logic.close()


def _isShown(node):
    kinds = ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLTableNode")
    return any(node.IsA(kind) for kind in kinds)


class SemiSupSegTest(ScriptedLoadableModuleTest):
    """Short and real: a made-up case through the logic; Testing/slicer has the rest."""

    def setUp(self):
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run the one test."""
        self.setUp()
        try:
            self.test_a_made_up_case_is_segmented()
        finally:
            # Slicer's own button calls this method, and unittest nothing after it.
            self.doCleanups()

    def _skipWithoutPackages(self):
        setup = slicer.util.getModuleWidget("SemiSupSeg").panel.setup
        setup.enter()
        end = time.monotonic() + 60
        while setup.probe is None and not setup.hindrance and time.monotonic() < end:
            slicer.app.processEvents()
            time.sleep(0.01)
        if setup.hindrance:
            self.skipTest(setup.hindrance)

    def test_a_made_up_case_is_segmented(self):
        """Load the case that is shipped, segment it, and check where the result and maps lie."""
        from SemiSupSegUI import demonstration, inputs, overlays
        from SemiSupSegUI.tasks import task_of

        self._skipWithoutPackages()
        logic = SemiSupSegLogic()
        self.addCleanup(logic.close)
        for _step in demonstration.load():
            slicer.app.processEvents()
        model = str(demonstration.MODEL)
        found = inputs.choose(task_of(model), inputs.volumes_of_scene())
        volumes = {channel: choice.volume for channel, choice in found.items()}
        self.assertEqual(list(volumes), ["t1", "t1ce", "t2", "flair"])
        ended = []
        logic.segment(model, volumes, on_end=ended.append)
        while not ended:
            slicer.app.processEvents()
            time.sleep(0.01)
        self.assertEqual(ended[0].error, "")
        result = ended[0].segmentation
        reference = volumes["t1"]
        edema = slicer.util.arrayFromSegmentBinaryLabelmap(result, "edema", reference)
        self.assertGreater(int(edema.sum()), 100)
        uncertainty = result.GetNodeReference("SemiSupSeg.uncertainty")
        self.assertEqual(
            slicer.modules.volumes.logic().CompareVolumeGeometry(reference, uncertainty), ""
        )
        shown = overlays.Overlays()
        shown.show(result, "uncertainty")
        composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        if not composites:
            self.skipTest("there are no slice views without a main window: overlays not checked")
        layers = {one.GetForegroundVolumeID() for one in composites}
        self.assertEqual(layers - {uncertainty.GetID()}, set())
        shown.show(result, overlays.OFF)
        layers = {one.GetForegroundVolumeID() for one in composites}
        self.assertNotIn(uncertainty.GetID(), layers)
