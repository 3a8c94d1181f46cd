"""What the tests in Slicer share: the panel, made-up volumes, and waiting for work to be done."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
import unittest
import unittest.mock
from pathlib import Path

import numpy as np
import slicer
import vtk

PATIENCE_SECONDS = 600.0
"""A test that waits longer has failed; none waits for a fixed time."""


def _shared(runner_class):
    """Return a runner whose warm worker serves all tests: each new one would load PyTorch again."""

    class SharedRunner(runner_class):
        def close(self):
            """Stop the jobs; the worker ends with its input, when the tests do."""
            for run in self._followed:
                run.leave()
            for job in list(self._jobs):
                self.cancel(job)
            end = time.monotonic() + PATIENCE_SECONDS
            while self._jobs and time.monotonic() < end:
                self.poll()
                time.sleep(0.005)

    return SharedRunner


class PanelTest(unittest.TestCase):
    """A test with an empty scene, an own user folder, and the panel."""

    runner = None
    folders = None

    def setUp(self):
        self._use_own_home()
        self._use_own_settings()
        self._open_no_browser()
        self._share_worker()
        slicer.mrmlScene.Clear(0)
        self.widget = slicer.util.getModuleWidget("SemiSupSeg")
        # A new panel reads the new user folder, and its workers get it.
        self.widget.cleanup()
        self.widget.setup()
        self.widget.enter()
        self.panel = self.widget.panel
        self.segment = self.panel.segment
        self.asked = []
        self.answer = True
        self.panel.ask = self._asked

    def tearDown(self):
        self.panel.exit()
        self.widget.logic.close()
        slicer.mrmlScene.Clear(0)

    def _open_no_browser(self):
        self.opened = []
        patch = unittest.mock.patch("SemiSupSegUI.desktop.show", self.opened.append)
        patch.start()
        self.addCleanup(patch.stop)

    def _use_own_home(self):
        # One place for all tests, since their worker was told of it when it started.
        if PanelTest.folders is None:
            PanelTest.folders = tempfile.TemporaryDirectory(prefix="SemiSupSeg test ü ")
            atexit.register(PanelTest.folders.cleanup)
        self.folder = Path(PanelTest.folders.name) / "test"
        """Of this test; with a space and a letter that is not ASCII in its path."""
        self.home = self.folder / "home"
        shutil.rmtree(self.folder, ignore_errors=True)
        # A process of the test before that is about to end may have made it anew.
        self.home.mkdir(parents=True, exist_ok=True)
        patch = unittest.mock.patch.dict(os.environ, {"SEMISUPSEG_HOME": str(self.home)})
        patch.start()
        self.addCleanup(patch.stop)

    def _use_own_settings(self):
        # In Slicer they are the user's, and outlive a test. One says where the packages are.
        former = _settings()
        self.addCleanup(_replace_settings, former)
        python = "SemiSupSeg/WorkerPython"
        _replace_settings({python: former[python]} if python in former else {})

    def _share_worker(self):
        from SemiSupSegUI import worker

        from SemiSupSegLib.workers.runner import JobRunner

        if PanelTest.runner is None:
            PanelTest.runner = worker.new_runner(_shared(JobRunner))
        patch = unittest.mock.patch.object(worker, "new_runner", return_value=PanelTest.runner)
        patch.start()
        self.addCleanup(patch.stop)

    def _asked(self, question):
        self.asked.append(question)
        return self.answer

    def wait(self, until, what=""):
        """Let the window work until something is true."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not until():
            slicer.app.processEvents()
            if time.monotonic() > end:
                self.fail(f"waited {PATIENCE_SECONDS:.0f} s for {what or until}")
            time.sleep(0.005)

    def need_worker(self):
        """Skip the test, and say why, if nothing here can run a network."""
        self.need_probe()
        if self.panel.setup.hindrance:
            self.skipTest(f"no worker can run here: {self.panel.setup.hindrance}")

    def need_probe(self):
        """Wait until it is known what the workers' Python has; it fails if that is never known."""
        setup = self.panel.setup
        self.wait(lambda: setup.probe is not None or setup.hindrance, "a look at the packages")

    def need_packages(self, *names):
        """Skip the test if Slicer's own Python lacks one of these packages, and say which."""
        lacking = [name for name in names if importlib.util.find_spec(name) is None]
        if lacking:
            self.skipTest(f"Slicer's Python lacks {', '.join(lacking)}")

    def need_layout(self):
        """Return the layout manager, or skip the test: without a main window there is none."""
        manager = slicer.app.layoutManager()
        if manager is None:
            self.skipTest("there is no layout manager without a main window")
        return manager

    def need_views(self):
        """Return the slice views' composite nodes, or skip: without a main window none exist."""
        composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        if not composites:
            self.skipTest("there are no slice views without a main window")
        return composites

    def try_it(self):
        """Load the made-up case and its model."""
        self.segment.try_it()
        self.wait(lambda: self.segment.try_button.enabled, "the made-up case")
        # Windows side by side: the fewest, so that the tests are fast.
        self.segment.options.overlap_box.value = 0.0

    def apply(self):
        """Segment what is chosen and wait for the end."""
        self.need_worker()
        self.assertEqual(self.segment.apply_button.toolTip, "Segment the chosen volumes.")
        self.segment.apply()
        self.wait(lambda: self.segment.segmenting.is_ended, "the segmentation")

    @property
    def state(self):
        """The panel's state in the scene."""
        return self.panel.state()

    @property
    def message(self) -> str:
        """What the section Segment says."""
        return self.segment.message.text


def _settings():
    """Return the extension's settings."""
    settings = slicer.app.userSettings()
    return {key: settings.value(key) for key in settings.allKeys() if key.startswith("SemiSupSeg/")}


def _replace_settings(wanted):
    settings = slicer.app.userSettings()
    for key in _settings():
        settings.remove(key)
    for key, value in wanted.items():
        settings.setValue(key, value)


def run_in_workers_python(code, *words):
    """Run lines of Python where the packages are that Slicer's own Python may lack.

    Args:
        code: The lines; the library is on their path.
        words: They find them in `sys.argv[1:]`.
    """
    from SemiSupSegUI import worker

    import SemiSupSegLib
    from SemiSupSegLib.workers.environment import worker_environment

    python = worker.worker_python()
    home = {"SEMISUPSEG_HOME": os.environ["SEMISUPSEG_HOME"]}
    root = str(Path(SemiSupSegLib.__file__).resolve().parents[1])
    answer = subprocess.run(
        [str(python.path), "-c", f"import sys\nsys.path.insert(0, {root!r})\n{code}", *words],
        env={**worker_environment(slicer.util.startupEnvironment(), python), **home},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr.decode("utf-8", "replace")


def volume(name, array, matrix=None):
    """Return a scalar volume node with these voxels, (K, J, I).

    Args:
        name: Of the node.
        array: Its voxels.
        matrix: From voxel index to RAS in mm, 4x4; None: unit voxels at the origin.
    """
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(array))
    if matrix is not None:
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.asarray(matrix, float)))
    return node


def segment_voxels(session, segment_id):
    """Return where a segment of a review's copy is, on the result's grid, (D, H, W)."""
    node, reference = session.node, session.reference
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, reference) > 0


def world_of(node, inside):
    """Return the centre of mass in world RAS, mm, of voxels of a volume node."""
    k, j, i = (axis.mean() for axis in np.nonzero(inside))
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    point = matrix.MultiplyPoint((i, j, k, 1.0))[:3]
    transform = node.GetParentTransformNode()
    if transform is None:
        return np.array(point)
    to_world = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(to_world)
    return np.array(to_world.MultiplyPoint((*point, 1.0))[:3])
