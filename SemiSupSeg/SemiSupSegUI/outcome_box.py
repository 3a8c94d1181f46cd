"""What a finished run has brought: its student beside the teacher and the model in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.models import registry
from SemiSupSegLib.workers.runner import Job
from SemiSupSegUI.command_job import Ended, goes_on, open_report, run_and_tell, run_command
from SemiSupSegUI.jobs import Jobs
from SemiSupSegUI.message import Message
from SemiSupSegUI.section import enable, push_button, wrapped_label


class OutcomeBox:
    """Figures on the validation cases, the report, and the way into Models.

    Args:
        jobs: Compares and copies models in a worker.
        on_models: Told when a model was added, or another one became the default.
    """

    def __init__(self, jobs: Jobs, on_models: Callable[[], None]) -> None:
        self._jobs, self._on_models = jobs, on_models
        self.message = Message()
        """Below the buttons."""
        self._folder: Path | None = None
        self._is_finished = False
        self._is_fresh = False
        """Whether the run has ended while somebody looked on."""
        self.outcome: Mapping[str, Any] | None = None
        """Of `outcome --json`."""
        self._default = ""
        """The default that the student was compared with."""
        self._no_comparison = ""
        """Why it was not compared with the default."""
        self.registered = ""
        """Name of the student among the models."""
        self._job: Job | None = None
        self._register_job: Job | None = None
        self._report_job: Job | None = None
        self._build()
        self.update()

    def _build(self) -> None:
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.sentence = wrapped_label()
        self.sentence.textInteractionFlags = qt.Qt.TextSelectableByMouse
        layout.addWidget(self.sentence)
        titles = [
            _("Dice"),
            _("Student"),
            _("Teacher"),
            _("Gain (95 %)"),
            _("Default"),
            _("Gain (95 %)"),
        ]
        self.table = qt.QTableWidget()
        self.table.columnCount = len(titles)
        self.table.setHorizontalHeaderLabels(titles)
        self.table.verticalHeader().visible = False
        self.table.verticalHeader().setDefaultSectionSize(22)
        self.table.editTriggers = qt.QAbstractItemView.NoEditTriggers
        self.table.setMinimumHeight(150)
        self.table.toolTip = _(
            "Means over the validation cases. Teacher: trained on the labelled cases alone. "
            "Default: the model that Segment takes when nothing is chosen, on the same cases."
        )
        layout.addWidget(self.table)
        self.report_button = push_button(_("Open report"), self.open_report)
        self.register_button = push_button(_("Register the student"), self.register)
        self.default_button = push_button(_("Make it the default"), self.set_default)
        # Side by side all three are wider than a narrow panel.
        grid = qt.QGridLayout()
        for at, button in enumerate(
            (self.report_button, self.register_button, self.default_button)
        ):
            grid.addWidget(button, at // 2, at % 2)
        layout.addLayout(grid)
        layout.addWidget(self.message.widget)

    def show(self, folder: Path | None, *, is_finished: bool, is_fresh: bool) -> None:
        """Show what came of a run; nothing while it goes on.

        Args:
            folder: Of the run.
            is_finished: Whether it is.
            is_fresh: Whether it ended just now: its report is opened, its student registered.
        """
        if (folder, is_finished) == (self._folder, self._is_finished):
            return
        if goes_on(self._job):
            # It segments all validation cases, for a run that nobody looks at.
            self._jobs.cancel(self._job)
        self._job = None
        self._folder, self._is_finished, self._is_fresh = folder, is_finished, is_fresh
        self.message.clear()
        self.outcome, self.registered, self._default, self._no_comparison = None, "", "", ""
        if folder is not None and is_finished:
            self._compare(None)
        self.update()

    @property
    def is_comparing(self) -> bool:
        """Whether figures are still to come."""
        return goes_on(self._job)

    def open_report(self) -> None:
        """Open the run's page in a browser; it is written first, if it is not there."""
        folder = self._folder
        if folder is None:
            return

        with self.message.errors_shown():
            self._report_job = open_report(self._jobs, self.message, folder, self.update)
        self.update()

    def register(self) -> None:
        """Copy the student to the registered models; the default stays as it is."""
        if self._folder is None:
            return
        folder = self._folder
        with self.message.errors_shown():
            before = {one.name for one in registry.registered_models()}

            def copied(end: Ended) -> None:
                self.message.say(end.last_line)
                new = {one.name for one in registry.registered_models()} - before
                if folder == self._folder:
                    self.registered = next(iter(new), "")
                self._on_models()

            words = ["models", "import", str(folder), "--keep-default"]
            self._register_job = run_and_tell(self._jobs, self.message, words, copied, self.update)
            self.message.mind(_("Checking and copying the model ..."))
        self.update()

    def set_default(self) -> None:
        """Let Segment take the student when nothing is chosen; never before it was compared."""
        with self.message.errors_shown():
            present = registry.default_model()
            if present is not None and present not in (self._default, self.registered):
                self.message.mind(
                    _(
                        "{name} is the default by now. The student is compared with it first."
                    ).format(name=present)
                )
                self._compare_with(present)
                self.update()
                return
            registry.set_default(self.registered)
            self.message.say(_("{name} is the default now.").format(name=self.registered))
        self._on_models()
        self.update()

    def update(self) -> None:
        """Show the figures, enable what can be done, and say why the rest cannot."""
        outcome = self.outcome
        self.widget.visible = self._is_finished
        lines = []
        if outcome is not None:
            other = outcome["other"] or {}
            lines = [outcome["teacher"]["sentence"], other.get("sentence"), self._no_comparison]
            lines.append(outcome["exclusions"])
        if goes_on(self._job):
            lines.append(_("Comparing on the validation cases ..."))
        self.sentence.text = "\n".join(one for one in lines if one)
        self._show_table()
        busy = _("Wait until it is written.") if goes_on(self._report_job) else ""
        enable(self.report_button, busy, _("One page with all figures and pictures."))
        is_there = _("It is registered as {name}.").format(name=self.registered)
        enable(
            self.register_button,
            (is_there if self.registered else "")
            or (_("Wait until it is copied.") if goes_on(self._register_job) else ""),
            _("Segment and Models offer it then."),
        )
        enable(
            self.default_button,
            self._why_not_default(),
            _("Segment takes it from now on. It is compared with the present default first."),
        )

    def _why_not_default(self) -> str:
        if not self.registered:
            return _("Register the student first.")
        try:
            if registry.default_model() == self.registered:
                return _("It is the default already.")
        except SemiSupSegError as error:
            return str(error)
        if goes_on(self._job):
            return _("It is being compared with the present default.")
        other = (self.outcome or {}).get("other")
        if other and other["is_worse"]:
            return _("On the same cases it is worse than the present default, {name}.").format(
                name=self._default
            )
        return ""

    def _compare(self, against: str | None) -> None:
        """Ask for the figures: first of student and teacher, then of the default as well."""
        folder = self._folder
        words = ["outcome", str(folder), *(("--against", against) if against else ())]
        job = None

        def ended(end: Ended) -> None:
            if job is not self._job or folder != self._folder:
                return
            if end.error and against:
                self._no_comparison = _("Not compared with {name}: {why}").format(
                    name=against, why=end.error
                )
            elif end.error:
                self.message.fail(end.error, end.log)
            else:
                self.outcome = end.answer
                self.registered = end.answer["registered"] or self.registered
                if self._is_fresh:
                    self._is_fresh = False
                    self._end_in_sight()
            self.update()

        with self.message.errors_shown():
            job = self._job = run_command(self._jobs, words, ended, wants_answer=True)

    def _end_in_sight(self) -> None:
        """Do what whoever has watched the run expects; later, its buttons do it."""
        self.open_report()
        if not self.registered:
            self.register()
        with self.message.errors_shown():
            default = registry.default_model()
            if default is not None:
                self._compare_with(default)

    def _compare_with(self, default: str) -> None:
        self._default, self._no_comparison = default, ""
        if self.outcome is not None:
            self.outcome = {**self.outcome, "other": None}
        self._compare(default)

    def _show_table(self) -> None:
        outcome = self.outcome
        rows = outcome["teacher"]["rows"] if outcome else []
        others = {
            one["target"]: one for one in ((outcome or {}).get("other") or {}).get("rows", ())
        }
        self.table.rowCount = len(rows)
        for row, one in enumerate(rows):
            other = others.get(one["target"], {})
            cells = (
                one["target"],
                _number(one["student"]),
                _number(one["teacher"]),
                _gain(one["difference"]),
                _number(other.get("other")),
                _gain(other.get("difference")),
            )
            for column, text in enumerate(cells):
                self.table.setItem(row, column, qt.QTableWidgetItem(text))
        self.table.resizeColumnsToContents()
        self.table.visible = bool(rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _gain(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return "-"
    text = f"{difference['mean']:+.3f}"
    if difference["low"] is not None:
        text += f" ({difference['low']:+.3f} to {difference['high']:+.3f})"
    return text
