"""What is chosen in the section Train while workers answer late, refuse, or are not there."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import types
import unittest.mock
from pathlib import Path

import slicer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest

from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.workers.run_view import RunView

NO_SPLIT = {"train_labelled": [], "train_unlabelled": [], "validation": []}
REQUEST = {
    "cases": {"given": "cases", "folder": "/data/cases"},
    "reviews": None,
    "former": None,
    "task": "brats",
    "method": "supervised",
    "preset": "best",
    "split": {**NO_SPLIT, "train_labelled": ["case 0001"], "validation": ["case 0002"]},
    "patient": None,
    "iterations": 1200,
    "seed": 7,
    "device": "cuda:1",
    "settings": {"rate": "0.01"},
}


def option(key, default=1.0):
    """Return an option as `plan` tells it."""
    return {
        "key": key, "group": "Method", "title": key, "help": f"What {key} is.", "kind": "float",
        "default": default, "value": default, "depth": "common", "choices": None,
    }  # fmt: skip


OPTIONS = {
    "presets": [
        {"name": "standard", "title": "Standard", "comparison": False},
        {"name": "best", "title": "Best", "comparison": False},
        {"name": "uamt", "title": "UA-MT", "comparison": True},
    ],
    "methods": [
        {
            "name": name,
            "label": name,
            "title": name,
            "paper": "-",
            "needs": "-",
            "forward_passes": 1,
        }
        for name in ("curriculum", "supervised")
    ],
    "preset": "standard",
    "method": "curriculum",
    "options": [option("rate")],
}
ESTIMATE = {
    "seconds": 60.0, "memory_bytes": 10**9, "device_memory_bytes": None, "disk_bytes": 10**9,
    "store_bytes": 10**9, "free_disk_bytes": 10**12, "free_memory_bytes": 10**10,
    "free_device_bytes": None, "device_name": "CPU",
}  # fmt: skip
PLAN = {
    "why_not": "", "iterations": 100, "findings": [], "options": OPTIONS["options"],
    "estimate": ESTIMATE, "split": {**NO_SPLIT, "train_labelled": ["case 0001"]},
}  # fmt: skip


def case(number, state="labelled"):
    """Return a case as `scan --lines` tells it."""
    return {
        "kind": "case", "id": f"case {number:04d}", "patient": f"p{number:04d}", "state": state,
        "channels": ["t1"], "size": [9, 9, 9], "spacing": [1.0, 1.0, 1.0], "is_checked": True,
        "reasons": [],
    }  # fmt: skip


class Asked:
    """A command that somebody waits for."""

    def __init__(self, words, on_end):
        self.words, self._on_end = list(words), on_end
        self.is_ended = False

    def answer(self, answer=None, error=""):
        """Let the command end."""
        from SemiSupSegUI.command_job import Ended

        self.is_ended = True
        self._on_end(Ended(error, "", answer))


class WishesTest(PanelTest):
    """The section with workers whose answers the test gives."""

    def setUp(self):
        super().setUp()
        self.hindrance = ""
        self.asked_for = []
        for module in ("training_plan", "outcome_box", "command_job"):
            patch = unittest.mock.patch(f"SemiSupSegUI.{module}.run_command", self.run_command)
            patch.start()
            self.addCleanup(patch.stop)
        self.jobs = self.widget.logic.jobs
        patch = unittest.mock.patch.object(self.jobs, "cancel")
        patch.start()
        self.addCleanup(patch.stop)
        self.started = []
        self.train = self.new_section()
        self.plan, self.cases = self.train.plan, self.train.cases
        self.plan._start = lambda folder, words: self.started.append(words)

    def new_section(self):
        """Return a section that no panel has entered yet."""
        from SemiSupSegUI.train import TrainSection

        section = TrainSection(
            self.jobs,
            lambda question: True,
            lambda title: "",
            lambda: self.hindrance,
            lambda: None,
            self.panel.review,
        )
        self.addCleanup(section.cleanup)
        return section

    def run_command(self, _jobs, words, on_end, *, wants_answer=False):
        """Remember what was asked for."""
        self.asked_for.append(Asked(words, on_end))
        return self.asked_for[-1]

    def make(self):
        """Let the time after the last change pass."""
        self.plan.make()
        return self.asked_for[-1]

    def scanned(self, num_cases=4):
        """Let a scan of a folder have ended, and the presets be known."""
        self.plan.make()
        self.asked_for[-1].answer(OPTIONS)
        self.cases.folder_edit.text = str(self.folder / "cases")
        self.cases._scanned = tuple(self.cases.words)
        for number in range(num_cases):
            self.cases.table.put(case(number))
        self.cases.update()

    def planned(self, plan=PLAN):
        """Let a plan be there."""
        self.scanned()
        self.make().answer(plan)


class PlanTest(WishesTest):
    """Plans that are refused, late, or cannot be made."""

    def test_a_plan_that_is_refused_at_once_says_why(self):
        self.planned({"why_not": "No labelled case. Add one.", "would_fit": {}})

        self.assertEqual(self.plan.start_button.toolTip, "No labelled case. Add one.")
        self.assertEqual(self.plan.estimate.text, "\u2716 No labelled case. Add one.")

    def test_what_does_not_fit_is_said_with_what_was_counted(self):
        estimate = {**ESTIMATE, "seconds": None, "free_disk_bytes": None}
        self.planned({**PLAN, "why_not": "Too large.", "estimate": estimate})

        self.assertEqual(self.plan.start_button.toolTip, "Too large.")
        first, second = self.plan.estimate.text.splitlines()
        self.assertEqual(first, "\u2716 Too large.")
        self.assertEqual(second, "Memory 1.0 GB (free: 10), disk 2.0 GB")

    def test_an_answer_about_former_wishes_is_left_alone(self):
        self.scanned()
        late = self.make()
        self.plan.options.set("rate", "0.01")
        self.plan.iterations_box.value = 500

        late.answer({**PLAN, "options": [option("other")]})

        self.assertIsNone(self.plan.plan)
        self.assertEqual(self.plan.options.settings, {"rate": "0.01"})
        self.make().answer(PLAN)
        self.assertEqual(self.plan.plan, PLAN)

    def test_what_was_changed_while_no_worker_could_run_is_planned_before_it_is_started(self):
        self.planned()
        self.hindrance = "No Python."
        self.cases.table.view.selectRow(0)
        self.cases.exclude_button.click()
        self.plan.make()
        self.assertEqual(self.plan.start_button.toolTip, "No Python.")

        self.hindrance = ""
        num_asked = len(self.asked_for)
        self.train.setup_changed()

        self.assertEqual(len(self.asked_for), num_asked + 1)
        self.assertFalse(self.plan.start_button.enabled)
        self.asked_for[-1].answer(PLAN)
        self.plan.start_button.click()
        words = self.started[0]
        split = json.loads(Path(words[words.index("--split") + 1]).read_text())
        self.assertNotIn("case 0000", split["train_labelled"])

    def test_a_plan_that_failed_for_want_of_packages_is_made_once_they_are_there(self):
        self.plan.make()
        self.asked_for[-1].answer(error="No module named torch")

        self.train.setup_changed()

        self.assertEqual(len(self.asked_for), 2)

    def test_an_option_that_another_method_does_not_have_is_forgotten(self):
        self.planned()
        self.plan.options.set("rate", "0.01")
        self.make().answer(PLAN)

        self.plan.method_box.setCurrentIndex(self.plan.method_box.findData("supervised"))
        offer = self.make()
        self.assertIn("--options", offer.words)
        self.assertNotIn("--set", offer.words)
        offer.answer({**OPTIONS, "method": "supervised", "options": [option("momentum")]})

        self.assertEqual(self.plan.options.settings, {})
        self.assertFalse(self.plan.options.changes.visible)
        self.assertIn("--cases", self.make().words)

    def test_two_runs_one_after_the_other_get_two_folders(self):
        self.planned()
        first = self.plan.out_edit.text
        self.plan.start()
        # The run's process has not made its folder yet.
        self.make()

        self.assertNotEqual(self.plan.out_edit.text, first)

    def test_a_run_folder_is_given_by_its_whole_path(self):
        self.planned()
        self.plan.set_out("run 1")
        self.make().answer(PLAN)

        self.assertIn("run 1 is no whole path", self.plan.start_button.toolTip)

    def test_what_is_marked_in_the_command_stays_marked(self):
        self.planned()
        self.plan.command_edit.setSelection(0, 4)

        self.train.update()

        self.assertEqual(len(self.plan.command_edit.selectedText), 4)

    def test_a_run_of_more_than_half_a_day_is_asked_about(self):
        asked, answers = [], iter((False, True))
        self.plan._ask = lambda question: asked.append(question) or next(answers)
        self.planned({**PLAN, "estimate": {**ESTIMATE, "seconds": 12 * 3600.0}})
        self.plan.start_button.click()
        self.assertEqual((asked, len(self.started)), ([], 1))

        for _ in range(2):
            self.make().answer({**PLAN, "estimate": {**ESTIMATE, "seconds": 13 * 3600.0}})
            self.plan.start_button.click()

        self.assertEqual(asked, ["It will take about 13 hours. Start it?"] * 2)
        self.assertEqual(len(self.started), 2)

    def test_each_gpu_of_the_machine_can_be_chosen(self):
        from SemiSupSegLib.workers.packages import Gpu

        self.need_probe()
        gpus = tuple(Gpu(name=f"Card {one}", memory_mb=24000, driver="580") for one in "ABC")
        self.panel.setup.probe = dataclasses.replace(self.panel.setup.probe, gpus=gpus)
        plan = self.panel.train.plan
        for _ in range(2):
            self.panel._setup_changed()

        box = plan.device_box
        for one in (box, self.segment.options.device_box):
            names = ["auto", "cpu", "cuda:0", "cuda:1", "cuda:2"]
            self.assertEqual([one.itemData(at) for at in range(one.count)], names)
        self.assertNotIn("--device", plan.words)
        box.setCurrentIndex(4)
        self.assertEqual(plan.words[plan.words.index("--device") + 1], "cuda:2")
        self.panel._setup_changed()
        self.assertEqual(box.currentData, "cuda:2")

    def test_long_findings_make_the_panel_no_wider(self):
        box = self.train.box
        box.collapsed = False
        box.show()
        self.addCleanup(box.hide)
        self.planned()
        narrow = self.width_of(box)
        finding = "80 unlabelled cases are left out, since their patients are validated on: "
        finding += ", ".join(f"BraTS-GLI-{number:05d}-000" for number in range(5)) + " and 75 more."
        self.plan.options.set("rate", "0.01")

        self.make().answer({**PLAN, "findings": [finding] * 3})

        self.assertIn("and 75 more", self.plan.estimate.text)
        self.assertEqual(self.width_of(box), narrow)

    def width_of(self, box):
        """Return how wide a box wants to be once Qt has laid it out."""
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            slicer.app.processEvents()
        return box.sizeHint.width()

    def test_the_command_names_the_packages_that_only_workers_have(self):
        from SemiSupSegUI import worker

        from SemiSupSegLib.workers.environment import WorkerPython, packages_folder

        packages_folder().mkdir(parents=True)
        self.planned()
        commands = {}
        for chosen_by in ("default", "setting"):
            python = WorkerPython(path=Path(sys.executable), chosen_by=chosen_by)
            with unittest.mock.patch.object(worker, "worker_python", lambda one=python: one):
                self.train.update()
            commands[chosen_by] = self.plan.command_edit.text

        place = f"PYTHONPATH={packages_folder()}"
        self.assertIn(place, commands["default"].replace("'", ""))
        self.assertNotIn(place, commands["setting"].replace("'", ""))

    def test_what_needs_a_worker_says_what_hinders_it(self):
        self.cases.set_folder(self.folder)
        self.train.run.follow(self.folder / "run")
        self.train.run._run.view = RunView(status="stopped")
        self.hindrance = "Packages are missing."

        self.train.setup_changed()

        run = self.train.run
        for button in (self.cases.scan_button, run.resume_button, self.plan.start_button):
            self.assertEqual((button.enabled, button.toolTip), (False, "Packages are missing."))


class DuplicateTest(WishesTest):
    """Choosing what another run was asked for."""

    def test_a_run_is_taken_over_before_it_is_known_what_there_is_to_choose(self):
        offer = self.make()
        self.plan.take_over(REQUEST)
        self.assertFalse(offer.is_ended)

        offer.answer(OPTIONS)

        chosen = [box.currentData for box in (self.plan.preset_box, self.plan.method_box)]
        self.assertEqual(chosen, ["best", "supervised"])
        words = self.plan.words
        for pair in (("--device", "cuda:1"), ("--iterations", "1200"), ("--seed", "7")):
            self.assertEqual(words[words.index(pair[0]) + 1], pair[1])
        self.assertEqual(self.plan.options.settings, {"rate": "0.01"})

    def test_a_preset_of_a_comparison_is_offered_to_the_run_that_has_it_only(self):
        self.make().answer(OPTIONS)
        offered = [self.plan.preset_box.itemData(at) for at in range(self.plan.preset_box.count)]
        self.plan.take_over({**REQUEST, "preset": "uamt"})

        self.assertEqual(offered, ["standard", "best"])
        self.assertEqual(self.plan.preset_box.currentData, "uamt")

    def test_options_that_were_taken_over_are_told_and_can_be_taken_back(self):
        self.make().answer(OPTIONS)
        self.plan.take_over(REQUEST)
        self.make().answer({**OPTIONS, "preset": "best", "method": "supervised"})

        self.assertIn("rate = 0.01", self.plan.options.changes.text)
        self.assertTrue(self.plan.options.reset_button.enabled)

    def test_a_scan_of_another_folder_does_not_get_the_split(self):
        scans = []

        class Scan:
            is_ended = False

            def __init__(self, _jobs, words, _on_line, on_end):
                self.words, self.on_end = words, on_end
                scans.append(self)

            def close(self):
                self.is_ended = True

        with unittest.mock.patch("SemiSupSegUI.training_cases.Scanning", Scan):
            self.cases.set_folder(self.folder / "others")
            self.cases.scan()
            self.cases.take_over(REQUEST)

            self.assertTrue(scans[0].is_ended)
            self.assertEqual(scans[1].words[1], "/data/cases")
            for number in range(3):
                self.cases.table.put(case(number))
            scans[1].is_ended = True
            scans[1].on_end("")

        self.assertEqual(self.cases.table.use_of("case 0002"), "validation")
        self.assertEqual(self.cases.table.split(), REQUEST["split"])


OUTCOME = {
    "teacher": {"num_validation": 0, "rows": [], "sentence": "Teacher."},
    "other": None,
    "registered": None,
    "excluded": {},
    "exclusions": "",
}


class OutcomeTest(WishesTest):
    """What a run has brought, while models and runs change."""

    def setUp(self):
        super().setUp()
        self.outcome = self.train.outcome
        self.default, self.models = "old", ["old"]
        registry = "SemiSupSegLib.models.registry."
        for name, replacement in (
            ("default_model", lambda: self.default),
            ("registered_models", lambda: [types.SimpleNamespace(name=one) for one in self.models]),
            ("set_default", self.set_default),
        ):
            patch = unittest.mock.patch(registry + name, replacement)
            patch.start()
            self.addCleanup(patch.stop)

    def set_default(self, name):
        """Choose the default."""
        self.default = name

    def finished(self, other=None):
        """Show a finished run, compared with the default if there is one."""
        self.outcome.show(self.folder / "run", is_finished=True, is_fresh=False)
        self.asked_for[-1].answer(OUTCOME)
        if self.default is not None:
            self.asked_for[-1].answer({**OUTCOME, "other": other or self.judged(is_worse=False)})

    def judged(self, *, is_worse):
        """Return a comparison with another model."""
        return {"name": self.default, "rows": [], "sentence": "Other.", "is_worse": is_worse}

    def registered(self):
        """Let the student be registered."""
        self.outcome.register()
        self.models.append("student")
        self.asked_for[-1].answer()

    def test_a_default_that_was_chosen_meanwhile_is_compared_first(self):
        self.finished()
        self.registered()
        self.default = "new"

        self.outcome.default_button.click()

        self.assertEqual(self.default, "new")
        self.assertEqual(self.asked_for[-1].words[-2:], ["--against", "new"])
        self.asked_for[-1].answer({**OUTCOME, "other": self.judged(is_worse=True)})
        self.assertFalse(self.outcome.default_button.enabled)
        self.assertIn("worse than the present default, new", self.outcome.default_button.toolTip)

    def test_a_comparison_that_fails_leaves_no_figures_of_another_model(self):
        self.finished(self.judged(is_worse=False))
        self.registered()
        self.default = "new"
        self.outcome.set_default()

        self.asked_for[-1].answer(error="It has other classes.")

        self.assertEqual(
            self.outcome.sentence.text, "Teacher.\nNot compared with new: It has other classes."
        )
        self.outcome.set_default()
        self.assertEqual(self.default, "student")

    def test_a_damaged_registry_is_said_and_stops_nothing(self):
        from SemiSupSegLib.errors import SemiSupSegError

        self.finished()
        self.registered()
        broken = unittest.mock.Mock(side_effect=SemiSupSegError("registry.json is damaged."))
        with (
            unittest.mock.patch("SemiSupSegLib.models.registry.default_model", broken),
            unittest.mock.patch("SemiSupSegLib.models.registry.registered_models", broken),
        ):
            self.train.update()
            self.assertEqual(self.outcome.default_button.toolTip, "registry.json is damaged.")
            self.outcome.register()
            self.assertIn("registry.json is damaged.", self.outcome.message.text)

    def test_another_run_does_not_show_what_a_former_one_has_brought(self):
        self.finished()
        self.train.run.follow(self.folder / "run")
        self.train.outcome.update()
        self.assertTrue(self.outcome.sentence.text)

        self.train.open_run(self.folder / "other")

        self.assertEqual(self.outcome.sentence.text, "")
        self.assertIsNone(self.outcome.outcome)

    def test_a_comparison_ends_when_another_run_is_looked_at(self):
        self.default = None
        self.outcome.show(self.folder / "run", is_finished=True, is_fresh=False)
        comparing = self.outcome._job

        self.train.open_run(self.folder / "other")

        self.jobs.cancel.assert_called_once_with(comparing)
        self.assertFalse(self.outcome.is_comparing)

    def test_a_run_that_learnt_from_corrections_is_not_taken_over_as_another_method(self):
        run = self.train.run
        run.follow(self.folder / "run")
        run._run.request = {**REQUEST, "former": {"folder": "/runs/1"}, "method": "corrections"}

        self.train.duplicate()
        self.train.update()

        self.assertIn("learnt from corrections", self.train.duplicate_button.toolTip)
        self.assertEqual(self.cases.folder_edit.text, "")


def stage(number, *cases, note=""):
    """Return a stage as a watcher tells it."""
    shares = {"accepted": 0.0 if note else 0.5, "ignored": 0.5, "unlearned": 0.0}
    return {
        "stage": number, "cases": len(cases), "shares": shares, "by_class": {}, "note": note,
        "histogram": {"all": [1], "stage": [1]},
        "shown": [
            {"case": case, "rank": rank, "image_confidence": 0.5}
            for case, rank in zip(cases, ("most", "median", "least"), strict=False)
        ],
    }  # fmt: skip


class StagesTest(WishesTest):
    """The stages of a run that goes on."""

    def setUp(self):
        super().setUp()
        self.run_box = self.train.run
        self.run_box.follow(self.folder / "run")

    def seen(self, *stages):
        """Let the watcher have seen these stages, and return which case is chosen."""
        self.run_box._run.view = RunView(status="running", stages=stages)
        self.run_box.update()
        return self.run_box.case_box.currentData

    def test_progress_time_left_and_device_are_told_while_it_goes_on(self):
        device = {
            "name": "Card", "is_gpu": True, "memory_bytes": 6.2e9, "memory_total_bytes": 24e9,
            "utilisation": 0.93,
        }  # fmt: skip
        view = RunView(
            status="running", phase_title="Stage 3 of 6: pseudo-labelling, case 12 of 60",
            planned=200, finished=90, seconds_left=7200.0, device=device,
        )  # fmt: skip
        self.run_box._run.view = view
        self.run_box.update()

        self.assertEqual(
            self.run_box.status.text.splitlines()[0],
            "The run goes on: Stage 3 of 6: pseudo-labelling, case 12 of 60, 45%, 2.0 h left.",
        )
        self.assertEqual(self.run_box.progress_bar.value, 450)
        self.assertEqual(self.run_box.device.text, "Card: 6.2 of 24 GB of memory, 93% busy")
        self.run_box._run.view = dataclasses.replace(view, status="stopped")
        self.run_box.update()
        self.assertEqual(self.run_box.device.text, "")
        self.assertNotIn("left", self.run_box.status.text)

    def test_the_newest_stage_is_shown_until_somebody_chooses_another(self):
        first, second, third = stage(1, "a", "b"), stage(2, "b", "a"), stage(3, "c", "a")

        self.assertEqual(self.seen(first), "1 a")
        self.assertEqual(self.seen(first, second), "2 b")
        box = self.run_box.case_box
        box.setCurrentIndex(box.findData("1 b"))
        self.assertEqual(self.seen(first, second, third), "1 b")

    def test_a_case_whose_name_is_no_utf8_can_be_opened_and_left_out(self):
        self.assertEqual(self.seen(stage(1, "caf\udce9", "b")), "1 caf?")

        with unittest.mock.patch.object(self.run_box.stage_case, "start") as start:
            self.run_box.open_case()
        start.assert_called_once_with(self.run_box.folder, 1, "caf\udce9")
        self.run_box.message.fail("No file caf\udce9.", "caf\udce9")
        self.assertIn("No file caf?.", self.run_box.message.text)

    def test_another_run_shows_its_newest_stage_again(self):
        self.seen(stage(1, "a", "b"))
        self.run_box.case_box.setCurrentIndex(1)
        self.run_box.follow(self.folder / "other")

        self.seen(stage(1, "a", "b"))
        self.assertEqual(self.seen(stage(1, "a", "b"), stage(2, "b", "a")), "2 b")

    def test_a_stage_that_trusts_nothing_is_explained_below_the_table(self):
        self.seen(stage(1, "a", note="Stage 1 trusts 0 %, because."), stage(2, "b"))

        self.assertEqual(self.run_box.stages.item(0, 2).text(), "0%")
        self.assertEqual(self.run_box.stage_note.text, "Stage 1 trusts 0 %, because.")
        self.assertTrue(self.run_box.stage_note.visible or not self.run_box.widget.visible)
        self.seen(stage(1, "a"))
        self.assertEqual(self.run_box.stage_note.text, "")


class MessagesTest(WishesTest):
    """What went wrong is said where the button is."""

    def said(self):
        """Return what each part says, if it says anything."""
        parts = {
            "scan": self.cases.message,
            "use": self.cases.use_message,
            "plan": self.plan.message,
            "run": self.train.run.message,
            "stage": self.train.run.stage_case.message,
            "outcome": self.train.outcome.message,
            "open": self.train.message,
        }
        return {name: one.text for name, one in parts.items() if one.text}

    def test_a_case_that_cannot_validate_is_said_below_the_buttons_of_the_table(self):
        self.scanned()
        self.cases.table.put(case(9, "unlabelled"))
        with unittest.mock.patch.object(
            type(self.cases.table), "selected", property(lambda table: ["case 0009"])
        ):
            self.cases.use("validation")

        self.assertEqual(list(self.said()), ["use"])

    def test_a_scan_that_fails_says_so_below_its_button(self):
        self.cases._scan_ended("There is no folder.")

        self.assertEqual(self.said(), {"scan": "\u2716 There is no folder."})

    def test_a_case_that_cannot_be_opened_is_said_below_the_button_that_opens_it(self):
        self.panel.review.reviewer_box.text = ""
        self.train.run.stage_case.start(self.folder / "run", 1, "a")

        self.assertEqual(list(self.said()), ["stage"])

    def test_an_outcome_that_cannot_be_told_is_said_in_the_outcome(self):
        self.train.outcome.show(self.folder / "run", is_finished=True, is_fresh=False)
        self.asked_for[-1].answer(error="A file is damaged.")

        self.assertEqual(self.said(), {"outcome": "\u2716 A file is damaged."})

    def test_another_run_s_messages_go(self):
        self.train.outcome.show(self.folder / "run", is_finished=True, is_fresh=False)
        self.asked_for[-1].answer(error="A file is damaged.")
        self.train.run.message.fail("It does not answer.")

        self.train.open_run(self.folder / "other")

        self.assertEqual(self.said(), {})


class SceneTest(WishesTest):
    """The curves and a stage's case, when scenes come and go."""

    def test_curves_of_a_scene_that_was_saved_with_them_can_be_left(self):
        from SemiSupSegUI import live_plots

        manager = self.need_layout()
        live_plots.register_layout()
        manager.setLayout(live_plots.LAYOUT.identity)
        self.train.update()

        self.train.run.plots_button.click()

        self.assertFalse(self.train.run.plots.is_visible)

    def test_no_case_of_a_training_comes_into_the_next_scene(self):
        stage_case = self.train.run.stage_case
        opened, told = [], []
        stage_case._open_case = opened.append
        with unittest.mock.patch.object(
            self.jobs, "run", side_effect=lambda _folder, _words, listener: told.append(listener)
        ):
            self.panel.review.reviewer_box.text = "ann"
            stage_case.start(self.folder / "run", 1, "case 0001")
        stage_case._job = job = types.SimpleNamespace(
            is_ended=True, state=RunState(status=RunStatus.FINISHED), folder=None
        )

        self.train.scene_closes()
        told[0](job)

        self.assertEqual(opened, [])
        self.assertIn("no case was opened", stage_case.message.text)


class JobsTest(PanelTest):
    """Who is told of jobs, and what happens while steps are done."""

    def test_work_that_is_begun_while_a_step_processes_events_stops_no_other(self):
        # As Slicer does when a file takes long to load: a progress dialog draws itself.
        from SemiSupSegUI.jobs import INTERVAL_MS, Jobs

        runner = unittest.mock.Mock()
        runner.poll.return_value = []
        jobs = Jobs(runner)
        self.addCleanup(jobs.close)
        done, ends = [], []

        def steps():
            for number in range(3):
                # A timer that is started anew fires again before its slot has returned.
                jobs.do(iter(()), lambda error: None)
                end = time.monotonic() + 3 * INTERVAL_MS / 1000
                while time.monotonic() < end:
                    slicer.app.processEvents()
                done.append(number)
                yield

        jobs.do(steps(), ends.append)
        end = time.monotonic() + 20
        while not ends and time.monotonic() < end:
            slicer.app.processEvents()
            time.sleep(0.005)

        self.assertEqual(done, [0, 1, 2])
        self.assertEqual(ends, [None])

    def test_a_listener_that_fails_keeps_nobody_from_being_told(self):
        from SemiSupSegUI.jobs import Jobs

        runner = unittest.mock.Mock()
        jobs = Jobs(runner)
        self.addCleanup(jobs.close)
        first, second = (types.SimpleNamespace(is_ended=True) for _ in range(2))
        runner.run.side_effect = [first, second]
        told = []
        jobs.run(self.folder, [], lambda job: told.append(1 // 0))
        jobs.run(self.folder, [], told.append)
        runner.poll.return_value = [first, second]

        with self.assertRaises(ZeroDivisionError):
            jobs._tick()

        self.assertEqual(told, [second])
        self.assertTrue(jobs.is_idle)


if __name__ == "__main__":
    unittest.main()
