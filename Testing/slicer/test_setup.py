"""The section Setup: what is there, what is missing, and installing it after a yes."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import types
from pathlib import Path
from unittest import mock

import slicer

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest


class SetupTest(PanelTest):
    """With the Python of the workers, as far as it has the packages."""

    def setUp(self):
        super().setUp()
        self.setup = self.panel.setup
        self.need_probe()

    def lack(self, name):
        """Let it seem that a package is not installed, and that nothing stands against it.

        The workers' Python may have no pip, be kept by somebody else, or lie on a full disk.
        """
        installed = {key: one for key, one in self.setup.probe.installed.items() if key != name}
        importable = self.setup.probe.importable - {name}
        self.setup.probe = dataclasses.replace(
            self.setup.probe,
            installed=installed,
            importable=importable,
            is_writable=True,
            pip="24.0",
            free_mb=None,
            temp_free_mb=None,
        )
        self.setup.update()
        self.segment.update()

    def test_a_complete_installation_is_said_and_the_section_stays_closed(self):
        self.need_worker()
        self.assertTrue(self.setup.box.collapsed)
        self.assertIn("Everything that is needed is installed", self.setup.summary.text)
        self.assertFalse(self.setup.install_button.enabled)
        self.assertIn("Everything", self.setup.install_button.toolTip)
        self.assertTrue(self.panel.header.text.startswith("Device: "))
        names = [self.setup.table.item(row, 0).text() for row in range(self.setup.table.rowCount)]
        self.assertEqual(names[0], "torch")
        self.assertIn("numpy", names)

    def test_no_gpu_is_offered_before_one_was_seen(self):
        from SemiSupSegUI.options_box import OptionsBox

        # Held: with PythonQt a widget without a parent goes with its last reference.
        options = OptionsBox()
        box = options.device_box

        self.assertEqual([box.itemData(at) for at in range(box.count)], ["auto", "cpu"])

    def test_what_is_missing_prevents_apply_and_says_what_to_press(self):
        self.try_it()

        self.lack("torch")

        self.assertFalse(self.segment.apply_button.enabled)
        self.assertIn("torch", self.segment.apply_button.toolTip)
        self.assertIn("Install under Setup", self.segment.apply_button.toolTip)
        self.assertTrue(self.setup.install_button.enabled)

    def test_nothing_is_installed_without_a_yes(self):
        self.need_worker()
        self.wait(lambda: self.widget.logic.jobs.is_idle, "other sections' work")
        self.lack("torch")
        self.answer = False

        self.setup.install()

        self.assertEqual(len(self.asked), 1)
        self.assertIn("torch>=", self.asked[0])
        self.assertIn("No other installed package is changed", self.asked[0])
        self.assertIn("Nothing was installed", self.setup.message.text)
        self.assertEqual(list((self.home / "jobs").glob("*/request.json")), [])

    def test_after_an_installation_the_self_test_runs_and_the_section_stays_open(self):
        from SemiSupSegLib.runs.state import RunStatus
        from SemiSupSegLib.workers.job import JobFolder

        self.need_worker()
        for changed, sentence in (([], "Installed. Tested"), (["numpy"], "Restart Slicer")):
            self.wait(lambda: self.widget.logic.jobs.is_idle, "other sections' work")
            done = JobFolder(self.folder / f"installed {sentence}")
            done.path.mkdir()
            done.result_json.write_text(json.dumps({"changed": changed}), encoding="utf-8")
            state = types.SimpleNamespace(status=RunStatus.FINISHED)
            job = types.SimpleNamespace(is_ended=True, state=state, folder=done)
            self.setup.found = None

            self.setup._installed(job)
            self.wait(lambda: self.setup.found is not None, "the self-test")

            self.assertIn(sentence, self.setup.message.text)
            self.assertFalse(self.setup.box.collapsed)
            self.assertIn("ran a convolution", self.setup.findings.text)

    def test_nothing_is_asked_while_other_work_uses_the_packages(self):
        self.setup.look()

        self.setup.install()

        self.assertEqual(self.asked, [])
        self.assertIn("Work is going on", self.setup.message.text)

    def test_the_diagnostics_name_another_python_and_who_chose_it(self):
        python = self.folder / "python3"
        python.touch(mode=0o700)
        with mock.patch.dict(os.environ, {"SEMISUPSEG_PYTHON": str(python)}):
            self.setup.copy_diagnostics()

        text = slicer.app.clipboard().text()
        self.assertIn(f"workers' Python: {python} (SEMISUPSEG_PYTHON)", text)

    def test_the_diagnostics_tell_what_is_there_also_before_a_self_test(self):
        self.lack("torch")

        self.setup.copy_diagnostics()

        text = slicer.app.clipboard().text()
        self.assertIn("The self-test was not run.", text)
        self.assertIn("torch: missing, 2.4 or later is needed", text)
        self.assertIn("numpy", text)
        self.assertIn("Python: 3.", text)
        self.assertNotIn(str(Path.home()) + os.sep, text)

    def test_what_is_missing_prevents_reading_and_writing_models(self):
        self.panel.models.update()
        self.lack("safetensors")
        self.panel.models.update()

        for button in (self.panel.models.import_button, self.panel.models.import_folder_button):
            self.assertFalse(button.enabled)
            self.assertIn("safetensors", button.toolTip)
            self.assertIn("Install under Setup", button.toolTip)

    def test_the_self_test_is_told_in_sentences(self):
        self.need_worker()
        self.setup.test()
        self.wait(lambda: self.setup.found is not None, "the self-test")

        self.assertIn("ran a convolution", self.setup.findings.text)
        self.setup.copy_diagnostics()
        text = slicer.app.clipboard().text()
        self.assertIn("Slicer:", text)
        self.assertIn("torch", text)
        self.assertNotIn(str(Path.home()) + os.sep, text)

    def test_a_python_that_is_not_there_is_said_and_nothing_else_breaks(self):
        with mock.patch.dict(os.environ):
            os.environ.pop("SEMISUPSEG_PYTHON", None)
            self.wait(lambda: self.widget.logic.jobs.is_idle, "the first look")
            self.setup.python_edit.currentPath = str(self.folder / "no python")
            self.assertEqual(self.setup.message.text, "")
            self.setup.use_python()

            self.assertIn("does not exist", self.setup.message.text)
            self.try_it()
            self.assertFalse(self.segment.apply_button.enabled)
            self.assertIn("does not exist", self.segment.apply_button.toolTip)
            self.setup.python_edit.currentPath = ""
            self.setup.use_python()
            self.need_probe()
            self.assertEqual(self.setup.message.text, "")

    def test_the_variable_goes_before_the_setting(self):
        with mock.patch.dict(os.environ, {"SEMISUPSEG_PYTHON": str(self.folder)}):
            self.setup.update()

            self.assertIn("SEMISUPSEG_PYTHON", self.setup.summary.text)

    def test_the_wheel_command_names_every_package_that_slicer_lacks(self):
        self.setup.copy_wheel_command()

        text = slicer.app.clipboard().text()
        self.assertIn("pip download", text)
        for name in ("torch", "nibabel", "safetensors"):
            self.assertIn(name, text)
