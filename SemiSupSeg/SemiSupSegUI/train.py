"""The section Train: cases, plan, run and outcome, in the order in which they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import ctk
import qt
from slicer.i18n import tr as _

from SemiSupSegUI.jobs import Jobs
from SemiSupSegUI.message import Message
from SemiSupSegUI.outcome_box import OutcomeBox
from SemiSupSegUI.review import ReviewSection
from SemiSupSegUI.section import Section, enable, push_button
from SemiSupSegUI.stage_case import StageCase
from SemiSupSegUI.training_cases import TrainingCases
from SemiSupSegUI.training_plan import TrainingPlan
from SemiSupSegUI.training_run import TrainingRun


class TrainSection(Section):
    """Trains a student on a folder of cases.

    Args:
        jobs: Starts and follows processes.
        ask: Puts a question to the user, who says yes or no.
        ask_folder: Asks the user for a folder; empty if none was given.
        hindrance: Returns why no worker can run, or an empty text.
        on_models: Told when a model was added, or another one became the default.
        review: Opens a stage's case.
    """

    def __init__(
        self,
        jobs: Jobs,
        ask: Callable[[str], bool],
        ask_folder: Callable[[str], str],
        hindrance: Callable[[], str],
        on_models: Callable[[], None],
        review: ReviewSection,
    ) -> None:
        super().__init__(_("Train"))
        self._ask_folder, self._hindrance = ask_folder, hindrance
        self.message = Message()
        """Below the buttons that choose a run; what other buttons cause is said below them."""
        self.cases = TrainingCases(jobs, self._cases_changed, hindrance)
        self.plan = TrainingPlan(jobs, ask, self.cases, hindrance, self.start)
        self._review = review
        stage_case = StageCase(
            jobs,
            Message(),
            self._open_result,
            self._why_not_open,
            lambda: self.run.update(),
        )
        self.run = TrainingRun(jobs, ask, self._run_changed, stage_case, hindrance)
        self.outcome = OutcomeBox(jobs, on_models)
        self.open_button = push_button(_("Open run..."), self._choose_run)
        self.open_button.toolTip = _("Look at a run that was started elsewhere, or earlier.")
        self.duplicate_button = push_button(_("Duplicate with changes"), self.duplicate)
        self._watched: Path | None = None
        """The run that somebody has seen going on."""
        self._boxes = {}
        for name, title, widgets in (
            ("cases", _("Cases"), (self.cases.widget,)),
            ("plan", _("Method"), (self.plan.widget,)),
            ("run", _("Run"), (self.run.widget, self.outcome.widget)),
        ):
            box = ctk.ctkCollapsibleGroupBox()
            box.title = title
            layout = qt.QVBoxLayout(box)
            for widget in widgets:
                layout.addWidget(widget)
            self._boxes[name] = box
            self.layout.addWidget(box)
        row = qt.QHBoxLayout()
        row.addWidget(self.open_button)
        row.addWidget(self.duplicate_button)
        self._boxes["run"].layout().addLayout(row)
        self._boxes["run"].layout().addWidget(self.message.widget)
        self.update()

    def enter(self) -> None:
        """The module is shown: look at the run that was followed last."""
        self.run.restore()
        self.plan.enter()
        self.update()

    def scene_closes(self) -> None:
        """All nodes are about to go."""
        self.run.scene_closes()

    def setup_changed(self, gpus: Sequence[str] = ()) -> None:
        """The workers' packages have changed, or what GPUs there are has become known."""
        self.plan.offer_gpus(gpus)
        self.cases.update()
        self.plan.enter()
        self.update()

    def cleanup(self) -> None:
        """The panel goes; a run goes on."""
        self.cases.close()
        self.plan.close()
        self.run.close()

    def fold(self, name: str) -> None:
        """Fold a part away: cases, plan or run."""
        self._boxes[name].collapsed = True

    def start(self, folder: Path, words: list[str]) -> None:
        """Start a run and follow it."""
        self._follow(folder, words)

    def open_run(self, folder: str | Path) -> None:
        """Follow a run that is there."""
        self._follow(Path(folder), None)

    def duplicate(self) -> None:
        """Choose what the run was asked for; the user changes it and starts another."""
        request = self.run.request
        if request is None or self._why_not_duplicate():
            return
        for name in ("cases", "plan"):
            self._boxes[name].collapsed = False
        self.cases.take_over(request)
        self.plan.take_over(request)
        self.message.say(
            _("Its choices are taken over, and its cases are looked at. Change what you like.")
        )
        self.update()

    def update(self) -> None:
        """Enable what can be done, and say why the rest cannot."""
        self.plan.update()
        self.run.update()
        self.outcome.update()
        enable(
            self.duplicate_button,
            self._why_not_duplicate(),
            _("Choose the same, to change some of it."),
        )
        enable(self.open_button, "", _("Look at a run that was started elsewhere, or earlier."))

    def _follow(self, folder: Path, words: list[str] | None) -> None:
        self.message.clear()
        self.outcome.show(None, is_finished=False, is_fresh=False)
        self.run.follow(folder, words)
        if words is not None:
            # What goes on comes into sight.
            self.fold("cases")
            self.fold("plan")
        self.update()

    def _why_not_duplicate(self) -> str:
        if self.run.folder is None:
            return _("No run is followed.")
        if self.run.request is None:
            return _("What the run was asked for is not known yet.")
        if self.run.request["former"]:
            return _("It learnt from corrections: start another such run in Review.")
        return ""

    def _open_result(self, folder: Path) -> None:
        self._review.box.collapsed = False
        self._review.open_folder(folder)

    def _why_not_open(self) -> str:
        why_not = self._review.why_not_open()
        return _("In Review: {why}").format(why=why_not) if why_not else ""

    def _cases_changed(self) -> None:
        self.plan.changed()

    def _run_changed(self) -> None:
        is_finished = self.run.status_name == "finished"
        if self.run.is_live:
            self._watched = self.run.folder
        is_fresh = is_finished and self._watched == self.run.folder
        self.outcome.show(self.run.folder, is_finished=is_finished, is_fresh=is_fresh)
        if is_finished:
            self._watched = None
        self.update()

    def _choose_run(self) -> None:
        folder = self._ask_folder(_("A run folder"))
        if folder:
            self.open_run(folder)
