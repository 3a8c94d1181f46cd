"""The module as Slicer sees it: its own test, reloading, and what it leaves behind."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

import qt
import slicer

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest


class ModuleTest(PanelTest):
    """Loaded, reloaded, closed."""

    def test_its_own_test_passes(self):
        self.need_worker()
        code = sys.modules["SemiSupSeg"]
        result = unittest.TestResult()

        code.SemiSupSegTest().run(result)

        self.assertEqual([text for _test, text in result.errors + result.failures], [])

    def test_reloading_gives_a_new_panel_of_new_code(self):
        before = sys.modules["SemiSupSegUI.panel"]

        self.widget.onReload()
        self.widget = slicer.modules.SemiSupSegWidget
        self.panel = self.widget.panel
        self.panel.enter()

        self.assertIsNot(sys.modules["SemiSupSegUI.panel"], before)
        self.assertIsNot(sys.modules["SemiSupSegLib.cases.task"], None)
        self.panel.segment.try_it()
        self.wait(lambda: self.panel.segment.try_button.enabled, "the made-up case")
        self.assertTrue(self.panel.segment.apply_button.enabled)

    def test_the_window_never_imports_torch(self):
        self.try_it()
        self.apply()

        self.assertNotIn("torch", sys.modules)

    def test_the_layout_is_known_before_a_scene_asks_for_it(self):
        if slicer.app.layoutManager() is None:
            self.skipTest("there is no layout manager without a main window")
        from SemiSupSegUI import overlays

        overlays.register_layout()
        overlays.register_layout()

        node = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
        self.assertTrue(node.IsLayoutDescription(overlays.LAYOUT))

    def test_keys_are_given_back_when_another_module_is_shown(self):
        window = slicer.util.mainWindow()
        if window is None:
            self.skipTest("there are no keys without a main window")
        before = len(window.findChildren(qt.QShortcut))

        self.widget.exit()

        self.assertLess(len(window.findChildren(qt.QShortcut)), before)
