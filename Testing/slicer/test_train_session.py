"""A whole training from the panel: an empty scene, a folder of cases, a registered student."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import qt
import slicer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest, run_in_workers_python

from SemiSupSegLib.models import registry

TINY = {
    "network.options.width": "4",
    "pseudo_labels.passes": "2",
    "training.patch_size": "[32, 32, 32]",
    "training.prediction_overlap": "0.0",
    "training.validation_overlap": "0.0",
    "training.validate_every": "20",
    "training.log_every": "2",
    "training.checkpoint_seconds": "0",
    "training.threads": "1",
}
# Nine patients, five of them labelled.
COHORT = """
from pathlib import Path
from SemiSupSegLib.phantom.cohort import write_cohort
write_cohort(Path(sys.argv[1]), 9, 5, 3, size=(40, 44, 36))
"""


class TrainTest(PanelTest):
    """With a folder of made-up brains."""

    def setUp(self):
        super().setUp()
        self.need_worker()
        run_in_workers_python(COHORT, str(self.folder / "phantoms"))
        self.cases = self.folder / "phantoms" / "cases"
        self.train = self.panel.train

    @property
    def said(self):
        """What the parts of the section say."""
        train = self.train
        parts = (train, train.cases, train.plan, train.run, train.run.stage_case, train.outcome)
        return " ".join(one.message.text for one in parts if one.message.text)

    @property
    def plan(self):
        """How the run is to be carried out."""
        return self.panel.train.plan

    @property
    def followed(self):
        """The run that is followed."""
        return self.panel.train.run

    def scan(self):
        """Find the cases, and wait until it is known what a small run would take."""
        self.choose_little()
        self.train.cases.set_folder(self.cases)
        self.train.cases.set_task("brats")
        self.train.cases.scan()
        self.wait(lambda: not self.train.cases.is_scanning, "the scan")
        self.wait_for_plan()

    def wait_for_plan(self):
        """Wait until there is a plan of what is chosen."""
        self.wait(
            lambda: not self.plan.is_planning and (self.plan.plan or self.plan._error), "the plan"
        )
        self.assertEqual(self.plan._error, "")

    def choose_little(self, iterations=60):
        """Choose a training of seconds; a larger one would be tried for as long."""
        self.wait(lambda: self.plan.preset_box.count > 0, "the presets")
        self.plan.preset_box.setCurrentIndex(self.plan.preset_box.findData("fast_check"))
        for key, text in TINY.items():
            self.plan.options.set(key, text)
        self.plan.iterations_box.value = iterations

    def start(self):
        """Start the planned run."""
        self.assertEqual(self.plan.start_button.toolTip, "The run goes on when Slicer is closed.")
        self.plan.start_button.click()

    def wait_for(self, *statuses):
        """Wait until the run has one of these statuses."""
        self.wait(
            lambda: self.followed.status_name in statuses, f"{statuses}, {self.followed.view}"
        )

    def select(self, *ids):
        """Select the rows of cases."""
        view = self.train.cases.table.view
        view.clearSelection()
        for row in range(view.model().rowCount()):
            index = view.model().index(row, 0)
            if index.data() in ids:
                flags = qt.QItemSelectionModel.Select | qt.QItemSelectionModel.Rows
                view.selectionModel().select(index, flags)


class TrainSessionTest(TrainTest):
    """From an empty scene to a registered student, with all that may come between."""

    def test_a_student_is_trained_through_a_pause_a_kill_and_a_restart_of_slicer(self):
        self.assertIn("Choose a folder of cases", self.plan.start_button.toolTip)
        self.scan()
        table = self.train.cases.table
        self.assertEqual(len(table.cases), 9)
        split = table.split()
        self.assertEqual(sum(map(len, split.values())), 9)
        self.assertTrue(split["validation"])

        self.select("Phantom_0008")
        self.train.cases.exclude_button.click()
        self.wait_for_plan()
        self.assertEqual(table.use_of("Phantom_0008"), "")
        self.assertIn("updates", self.plan.estimate.text)
        self.assertIn("--split", self.plan.command_edit.text)
        self.assertIn(str(self.cases), self.plan.command_edit.text)
        out = Path(self.plan.out_edit.text)

        self.start()
        self.wait_for("running")
        self.wait(lambda: self.followed.view.iteration > 0, "the first update")
        self.followed.pause_button.click()
        self.wait_for("paused")
        self.assertEqual(self.followed.pause_button.text, "Go on")
        self.followed.plots_button.click()
        # Without a main window there is nothing to lay out.
        has_layouts = slicer.app.layoutManager() is not None
        self.assertEqual(self.followed.plots.is_visible, has_layouts)
        self.followed.pause_button.click()
        self.wait_for("running")
        frozen = json.loads((out / "run.json").read_text())
        self.assertNotIn("Phantom_0008", [one for ids in frozen["split"].values() for one in ids])

        self.wait(lambda: self.followed.view.stages, "the first stage")
        os.kill(json.loads((out / "state.json").read_text())["pid"], signal.SIGKILL)
        self.wait_for("dead")
        self.assertIn("gone", self.followed.status.text)
        self.assertTrue(self.followed.resume_button.enabled)
        self.followed.resume_button.click()
        self.wait_for("running")

        # Slicer is closed, and opened again: the panel finds the run by itself.
        self.followed.pause_button.click()
        self.wait_for("paused")
        self.widget.cleanup()
        self.widget.setup()
        self.widget.enter()
        self.panel = self.widget.panel
        self.panel.ask = self._asked
        self.train = self.panel.train
        self.wait_for("paused")
        self.assertEqual(self.followed.folder, out)

        self.assertTrue(self.followed.case_box.count)
        self.followed.exclude_button.click()
        self.assertIn("Leave", self.asked[-1])
        self.wait(lambda: self.followed.view.excluded, "the exclusion")
        self.followed.pause_button.click()
        self.wait_for("finished")
        self.assertFalse(self.followed.pause_button.enabled)

        outcome = self.train.outcome
        self.wait(lambda: outcome.outcome is not None, "the outcome")
        self.assertGreater(outcome.table.rowCount, 3)
        self.assertTrue(outcome.sentence.text)
        # It ended while the panel looked on.
        self.wait(lambda: outcome.registered, "the registered model")
        self.wait(lambda: self.opened, "the report")
        self.assertTrue((out / "report.html").is_file())
        self.assertIn(outcome.registered, [one.name for one in registry.registered_models()])
        self.assertIsNone(registry.default_model())
        self.wait(lambda: outcome.default_button.enabled, "the way to the default")
        outcome.default_button.click()
        self.assertEqual(registry.default_model(), outcome.registered)
        self.assertIn("already", outcome.default_button.toolTip)

        # Whoever finds the finished run gets the same figures, and no second copy of the student.
        self.train.open_run(out)
        self.wait_for("finished")
        self.wait(lambda: outcome.registered == registry.default_model(), "the outcome")
        self.assertFalse(outcome.is_comparing)
        self.assertEqual(len(self.opened), 1)

    def test_another_runs_choices_are_taken_over_and_changed(self):
        self.scan()
        self.plan.iterations_box.value = 12
        self.wait_for_plan()
        self.start()
        self.wait_for("finished")
        first = self.followed.folder
        self.wait(lambda: self.train.outcome.default_button.enabled, "the registered model")
        self.train.outcome.default_button.click()
        default = self.train.outcome.registered
        former = json.loads((first / "run.json").read_text())

        self.wait(lambda: self.train.duplicate_button.enabled, "the run's request")
        self.plan.options.reset()
        self.train.duplicate_button.click()
        self.wait(lambda: not self.train.cases.is_scanning, "the scan")
        self.plan.seed_box.value = 7
        self.wait_for_plan()
        self.assertEqual(self.plan.iterations_box.value, 12)
        self.start()
        self.wait(lambda: self.followed.folder != first, "another run")
        self.wait_for("finished")

        now = json.loads((self.followed.folder / "run.json").read_text())
        self.assertEqual(now["split"], former["split"])
        self.assertEqual(now["options"], former["options"])
        self.assertEqual((former["seed"], now["seed"]), (0, 7))

        # The second student is judged on the same cases as the model in use.
        outcome = self.train.outcome
        self.wait(lambda: (outcome.outcome or {}).get("other"), f"the comparison; {self.said}")
        self.wait(lambda: outcome.registered and not outcome.is_comparing, "the registered model")
        self.assertNotEqual(outcome.registered, default)
        self.assertEqual(registry.default_model(), default)
        is_worse = outcome.outcome["other"]["is_worse"]
        self.assertEqual(outcome.default_button.enabled, not is_worse)
        if is_worse:
            self.assertIn(
                f"worse than the present default, {default}", outcome.default_button.toolTip
            )
        else:
            outcome.default_button.click()
            self.assertEqual(registry.default_model(), outcome.registered)
