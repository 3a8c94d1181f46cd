"""The module as Slicer sees it: its own test, reloading, and what it leaves behind."""

from __future__ import annotations

import sys
import types
import unittest
from pathlib import Path
from unittest import mock

import qt
import slicer

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest

KEYS = {"O", "N", "P", "C", "X", "L", "K", "Ctrl+Z"}
"""Of the panel, while its module is shown."""


class ModuleTest(PanelTest):
    """Loaded, reloaded, closed."""

    def test_its_own_test_passes(self):
        self.need_worker()
        code = sys.modules["SemiSupSeg"]
        result = unittest.TestResult()

        code.SemiSupSegTest().run(result)

        self.assertEqual([text for _test, text in result.errors + result.failures], [])
        self.assertEqual(result.testsRun, 1)

    def test_its_own_test_is_skipped_with_the_reason_where_packages_are_missing(self):
        code = sys.modules["SemiSupSeg"]
        reason = "Packages are missing (torch). Press Install under Setup."
        result = unittest.TestResult()

        kind = type(self.panel.setup)
        with mock.patch.object(kind, "hindrance", property(lambda section: reason)):
            code.SemiSupSegTest().run(result)

        self.assertEqual([why for _test, why in result.skipped], [reason])
        self.assertEqual(result.errors + result.failures, [])

    def test_its_own_test_ends_its_work_when_slicers_button_calls_it(self):
        code = sys.modules["SemiSupSeg"]
        ended = []

        def begin_and_fail(test):
            test.addCleanup(ended.append, True)
            test.fail("on purpose")

        name = "test_a_made_up_case_is_segmented"
        with (
            mock.patch.object(code.SemiSupSegTest, name, begin_and_fail),
            self.assertRaises(AssertionError),
        ):
            slicer.modules.SemiSupSegInstance.runTest()

        self.assertEqual(ended, [True])

    def test_reloading_gives_a_new_panel_of_new_code(self):
        modules = {
            name: module
            for name, module in sys.modules.items()
            if name.partition(".")[0] in ("SemiSupSegLib", "SemiSupSegUI")
        }
        # Later tests go on with the code that their worker and helpers are of.
        self.addCleanup(sys.modules.update, modules)
        before = self.widget.panel

        self.widget.onReload()
        self.widget = slicer.modules.SemiSupSegWidget
        self.panel = self.widget.panel

        self.assertIsNot(self.panel, before)
        self.assertIsNot(sys.modules["SemiSupSegUI.panel"], modules["SemiSupSegUI.panel"])
        self.assertIsNot(sys.modules["SemiSupSegLib.errors"], modules["SemiSupSegLib.errors"])
        self.panel.enter()
        self.panel.segment.try_it()
        self.wait(lambda: self.panel.segment.try_button.enabled, "the made-up case")
        chosen = [box.currentNode() for box in self.panel.segment.channel_boxes.values()]
        self.assertEqual(len(chosen), 4)
        self.assertNotIn(None, chosen)

    def test_the_window_never_imports_torch(self):
        # Others in this process may have; here an import would fail.
        with mock.patch.dict(sys.modules, {"torch": None}):
            self.try_it()
            self.apply()

        self.assertIn("Done", self.message)

    def test_when_slicer_has_started_layout_and_sample_are_known(self):
        manager = self.need_layout()
        from SemiSupSegUI import live_plots, overlays

        node = manager.layoutLogic().GetLayoutNode()
        for layout in (overlays.LAYOUT, live_plots.LAYOUT):
            node.SetLayoutDescription(layout.identity, "")
        listed = []

        class SampleDataLogic:
            @staticmethod
            def registerCustomSampleDataSource(
                category=None,
                sampleName=None,
                uris=None,
                fileNames=None,
                nodeNames=None,
                customDownloader=None,
                thumbnailFileName=None,
                loadFileTypes=None,
                loadFileProperties=None,
                checksums=None,
            ):
                listed.append((category, sampleName, uris, fileNames, nodeNames, loadFileTypes))

        module = types.SimpleNamespace(SampleDataLogic=SampleDataLogic)
        with mock.patch.dict(sys.modules, {"SampleData": module}):
            slicer.modules.SemiSupSegInstance._register()

        for layout in (overlays.LAYOUT, live_plots.LAYOUT):
            self.assertIn("<view", node.GetLayoutDescription(layout.identity))
        ((category, _name, uris, files, names, kinds),) = listed
        self.assertEqual(category, "SemiSupSeg")
        self.assertEqual([len(one) for one in (uris, files, names, kinds)], [4] * 4)
        self.assertTrue(all(uri.startswith("file:") for uri in uris))

    def test_keys_are_given_back_when_another_module_is_shown(self):
        window = slicer.util.mainWindow()
        if window is None:
            # Any window will do: it is the panel's keys that count.
            window = qt.QWidget()
            patch = mock.patch.object(slicer.util, "mainWindow", return_value=window)
            patch.start()
            self.addCleanup(patch.stop)
        self.widget.exit()
        others = len(window.findChildren(qt.QShortcut))

        self.widget.enter()
        taken = [one.key.toString() for one in window.findChildren(qt.QShortcut)]
        self.widget.exit()

        self.assertEqual(len(taken), others + len(KEYS))
        self.assertLessEqual(KEYS, set(taken))
        self.assertEqual(len(window.findChildren(qt.QShortcut)), others)
