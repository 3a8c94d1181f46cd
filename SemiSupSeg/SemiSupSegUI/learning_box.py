"""Learn from my corrections: a finished run's model goes on with the cases that were reviewed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.workers.followed_run import FollowedRun
from SemiSupSegLib.workers.job import JobFolder
from SemiSupSegLib.workers.run_view import RunView
from SemiSupSegLib.workers.runner import Job
from SemiSupSegUI.command_job import Ended, goes_on, open_report, run_and_tell, run_command
from SemiSupSegUI.jobs import Jobs, log_tail
from SemiSupSegUI.message import Message
from SemiSupSegUI.section import enable, folder_row, push_button

_SETTING = "SemiSupSeg/LearningRun"
_GOING_ON = "SemiSupSeg/LearningRunGoingOn"
"""The folder of a run that learns, which outlives Slicer."""
_CHECK_MS = 400
"""So long after the last key the folders are looked at."""
_LONG_SECONDS = 12 * 3600.0
_STEPS = 1000


class LearningBox:
    """Starts `learn`, follows it, and shows what it has brought.

    Args:
        jobs: Runs the learning, and what looks into folders that may lie on a share.
        message: Where it is said how something went.
        ask: Puts a question to the user, who says yes or no.
        reviews: Returns the folder of results with the reviewed cases, or None.
    """

    def __init__(
        self,
        jobs: Jobs,
        message: Message,
        ask: Callable[[str], bool],
        reviews: Callable[[], Path | None],
    ) -> None:
        self._jobs, self._message, self._ask, self._reviews = jobs, message, ask, reviews
        self.on_registered: Callable[[], None] = lambda: None
        """Told when a model was added."""
        self.settings: tuple[str, ...] = ()
        """Further options of learning, KEY=VALUE; tests shorten it so."""
        self._why_not = ""
        """Why it cannot be learnt, as a worker found; meaningless while one is looking."""
        self._notes = ""
        """Who is left out and the like, as a worker found."""
        self._check: Job | None = None
        self._compared: set[tuple[str, ...]] = set()
        """Run, cases and results whose files were all compared in this session."""
        self._run: FollowedRun | None = None
        self.folder: Path | None = None
        """The run folder that was started last."""
        self._is_stopping = False
        self._is_long_asked = False
        self._is_own_out = False
        """Whether the user, or a run that was stopped, has chosen the new folder."""
        self._register_job: Job | None = None
        self._report_job: Job | None = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_CHECK_MS)
        assert self._timer.connect("timeout()", self.check)
        self._build()
        self.run_edit.text = str(slicer.app.userSettings().value(_SETTING, "") or "")
        self.update()

    def _build(self) -> None:
        self.widget = qt.QWidget()
        form = qt.QFormLayout(self.widget)
        form.setContentsMargins(0, 0, 0, 0)
        self.run_edit = folder_row(form, _("Run:"), self._run_edited)
        self.run_edit.toolTip = _("The finished run whose model has made the results.")
        self.cases_edit = folder_row(form, _("Its cases:"), self._cases_edited)
        self.cases_edit.toolTip = _("The folder of cases that it was trained on, where it is now.")
        self.out_edit = folder_row(form, _("New run:"), self._out_edited)
        self.out_edit.toolTip = _("A new folder for the run that learns.")
        self.iterations_box = qt.QSpinBox()
        self.iterations_box.setRange(0, 1_000_000)
        self.iterations_box.singleStep = 100
        self.iterations_box.specialValueText = _("as fits the device")
        self.iterations_box.toolTip = _("Optimizer updates: 200 on a CPU, 600 on a GPU, or yours.")
        form.addRow(_("Iterations:"), self.iterations_box)
        self.start_button = push_button(_("Learn from my corrections"), self.start)
        self.stop_button = push_button(_("Stop"), self.stop)
        row = qt.QHBoxLayout()
        row.addWidget(self.start_button)
        row.addWidget(self.stop_button)
        form.addRow(row)
        self.why_not_label = qt.QLabel()
        self.why_not_label.wordWrap = True
        form.addRow(self.why_not_label)
        self.progress_bar = qt.QProgressBar()
        self.progress_bar.setRange(0, _STEPS)
        self.progress_label = qt.QLabel()
        self.progress_label.wordWrap = True
        form.addRow(self.progress_bar)
        form.addRow(self.progress_label)
        titles = [_("Dice"), _("Before"), _("After"), _("Difference"), _("95 % interval")]
        self.table = qt.QTableWidget()
        self.table.columnCount = len(titles)
        self.table.setHorizontalHeaderLabels(titles)
        self.table.verticalHeader().visible = False
        self.table.editTriggers = qt.QAbstractItemView.NoEditTriggers
        self.table.setMinimumHeight(110)
        self.table.setMaximumHeight(220)
        self.table.visible = False
        form.addRow(self.table)
        self.sentence = qt.QLabel()
        self.sentence.wordWrap = True
        form.addRow(self.sentence)
        self.report_button = push_button(_("Open report"), self.open_report)
        self.register_button = push_button(_("Register model"), self.register)
        row = qt.QHBoxLayout()
        row.addWidget(self.report_button)
        row.addWidget(self.register_button)
        form.addRow(row)

    @property
    def is_running(self) -> bool:
        """Whether a run learns now."""
        return self._run is not None and not self._run.is_ended

    def set_run(self, run: str | Path) -> None:
        """Choose the finished run; its cases and a new folder beside it are proposed."""
        self.run_edit.text = str(run)
        self._run_edited(str(run))

    def set_out(self, out: str | Path) -> None:
        """Choose the folder of the new run."""
        self.out_edit.text = str(out)
        self._out_edited(str(out))

    def refresh(self) -> None:
        """Look again whether it can be learnt: a label was saved, or other results were opened."""
        if self._words() is not None:
            self._check_soon()
        self.update()

    def check(self) -> None:
        """Look in a worker whether it can be learnt: first by names, then by comparing files."""
        self._timer.stop()
        words = self._words()
        if words is not None and not self.is_running:
            self._look(words, "names")
        self.update()

    def start(self) -> None:
        """Start to learn; it goes on when Slicer is closed."""
        words = self._words()
        if words is None or self.is_running:
            return
        words = [*words, "--cases", self.cases_edit.text, "--out", self.out_edit.text]
        if self.iterations_box.value > 0:
            words += ["--iterations", str(self.iterations_box.value)]
        if self.settings:
            words += ["--set", *self.settings]
        self._is_stopping = self._is_long_asked = False
        self.table.visible = False
        self.sentence.text = ""
        self.folder = Path(self.out_edit.text)
        with self._message.errors_shown():
            self._message.clear()
            self._run = self._jobs.follow(self.folder, ["learn", *words], self._run_changed)
            slicer.app.userSettings().setValue(_GOING_ON, str(self.folder))
        self.update()

    def pick_up(self) -> None:
        """Follow the run that was going on when Slicer was closed, if there is one."""
        folder = str(slicer.app.userSettings().value(_GOING_ON, "") or "")
        if not folder or self._run is not None:
            return
        self.folder = Path(folder)
        with self._message.errors_shown():
            self._run = self._jobs.follow(self.folder, None, self._run_changed)
        self.update()

    def stop(self) -> None:
        """Stop after a checkpoint; the same folder goes on from there."""
        if self._run is not None and self.is_running:
            self._is_stopping = True
            self._run.wish("stop")
        self.update()

    def open_report(self) -> None:
        """Open the run's page in a browser; it is written first, if it is not there."""
        folder = self.folder
        if folder is None:
            return

        # The run's own page may be under way still: written twice, it is whole all the same.
        with self._message.errors_shown():
            self._report_job = open_report(self._jobs, self._message, folder, self.update)
        self.update()

    def register(self) -> None:
        """Copy the new model to the registered ones."""
        folder = self.folder
        if folder is None:
            return

        with self._message.errors_shown():
            words = ["models", "import", str(folder)]
            self._register_job = run_and_tell(
                self._jobs, self._message, words, self._registered, self.update
            )
            self._message.mind(_("Checking and copying the model ..."))
        self.update()

    def update(self) -> None:
        """Enable what can be done, and say why the rest cannot."""
        why_not_start = self._why_not_start()
        # Not in the tool tip alone: it is often long, and names files.
        self.why_not_label.text = why_not_start or self._notes
        self.why_not_label.visible = bool(self.why_not_label.text) and not self.is_running
        enable(
            self.start_button,
            why_not_start,
            _("A short run on the reviewed cases and those that were labelled before."),
        )
        why_not_stop = "" if self.is_running else _("Nothing is learnt now.")
        if self.is_running and self._is_stopping:
            why_not_stop = _("It stops after the next checkpoint.")
        enable(self.stop_button, why_not_stop, _("It can go on later from where it was."))
        view = self._run.view if self._run is not None else RunView()
        is_finished = view.status == "finished"
        no_result = "" if is_finished else _("Nothing was learnt yet.")
        busy = _("Wait until it is written.")
        enable(self.report_button, no_result or (busy if goes_on(self._report_job) else ""))
        enable(self.register_button, no_result or (busy if goes_on(self._register_job) else ""))
        self.progress_bar.visible = self.is_running
        self.progress_label.visible = self.is_running
        if self.is_running:
            share = view.finished / view.planned if view.planned else 0.0
            self.progress_bar.value = int(_STEPS * min(1.0, share))
            self.progress_label.text = _progress_text(view, is_stopping=self._is_stopping)

    def close(self) -> None:
        """The panel goes; a run goes on."""
        self._timer.stop()

    def _registered(self, end: Ended) -> None:
        self._message.say(end.last_line)
        self.on_registered()

    # Whether it can be learnt

    def _words(self) -> list[str] | None:
        """Return what run, from which reviews; None if that is not chosen."""
        run, reviews = self.run_edit.text.strip(), self._reviews()
        if not run or reviews is None:
            return None
        return ["--run", run, "--reviews", str(reviews)]

    def _why_not_start(self) -> str:
        if self.is_running:
            return _("A run learns already.")
        if not self.run_edit.text.strip():
            return _("Choose the run whose model has made the results.")
        if self._reviews() is None:
            return _("Open a folder of results with reviewed cases first.")
        if goes_on(self._check) or self._timer.active:
            return _("The folders are being looked at.")
        if not self.out_edit.text.strip():
            return self._why_not or _("Choose a folder for the new run.")
        return self._why_not

    def _look(self, words: list[str], how: str) -> None:
        cases = self.cases_edit.text.strip()
        asked = ["learn", *words, "--check", how, *(("--cases", cases) if cases else ())]
        job = None

        def ended(end: Ended) -> None:
            if job is not self._check or words != self._words():
                return
            answer = end.answer or {}
            self._why_not = end.error or answer["why_not"]
            self._notes = " ".join(answer.get("notes", ()))
            if not end.error:
                self._propose(answer)
            key = (*words, self.cases_edit.text)
            if not self._why_not and how == "hashes":
                self._compared.add(key)
            if not self._why_not and key not in self._compared:
                self._look(words, "hashes")
            self.update()

        if self._check is not None and not self._check.is_ended:
            self._jobs.cancel(self._check)
        with self._message.errors_shown():
            job = self._check = run_command(self._jobs, asked, ended, wants_answer=True)

    def _propose(self, answer: Mapping[str, str]) -> None:
        if not self.cases_edit.text.strip():
            self.cases_edit.text = answer["cases"]
        if not self._is_own_out:
            self.out_edit.text = answer["out"]
        slicer.app.userSettings().setValue(_SETTING, self.run_edit.text.strip())

    def _run_edited(self, _text: str) -> None:
        self.cases_edit.text = ""
        self._is_own_out = False
        self.out_edit.text = ""
        self._check_soon()

    def _cases_edited(self, _text: str) -> None:
        self._check_soon()

    def _out_edited(self, text: str) -> None:
        self._is_own_out = bool(text.strip())
        self.update()

    def _check_soon(self) -> None:
        self._timer.start()
        self.update()

    # The run

    def _run_changed(self, run: FollowedRun) -> None:
        if run is not self._run:
            return
        if run.is_ended:
            run.leave()
            slicer.app.userSettings().remove(_GOING_ON)
            self._run_ended(run)
        elif (run.view.seconds_left or 0.0) > _LONG_SECONDS and not self._is_long_asked:
            self._is_long_asked = True
            # A question in the middle of the timer's round would hold up all other work.
            qt.QTimer.singleShot(0, self._ask_long)
        self.update()

    def _ask_long(self) -> None:
        seconds = self._run.view.seconds_left if self._run is not None else None
        if seconds is None or not self.is_running:
            return
        question = _("It will take about {hours:.0f} hours. Go on?").format(hours=seconds / 3600)
        if not self._ask(question):
            self.stop()

    def _run_ended(self, run: FollowedRun) -> None:
        # Stopped or failed, the same folder goes on when it is started again.
        view = run.view
        self._is_own_out = view.status != "finished"
        log = log_tail(JobFolder(run.mirror))
        if view.status == "finished":
            self._message.say(_("Learnt: {folder}").format(folder=run.folder), log)
            self._show_outcome(view.before_after or {})
            self.refresh()
        elif view.status == "stopped":
            self._message.mind(_("Stopped. Started again, it goes on from there."), log)
        else:
            self._message.fail(view.error or _("The run said nothing."), log)

    def _show_outcome(self, outcome: Mapping[str, Any]) -> None:
        targets = outcome.get("targets") or {}
        self.table.rowCount = len(targets)
        for row, (name, one) in enumerate(targets.items()):
            for column, text in enumerate(_cells(name, one)):
                self.table.setItem(row, column, qt.QTableWidgetItem(text))
        self.table.resizeColumnsToContents()
        self.table.visible = bool(targets)
        self.sentence.text = outcome.get("sentence", "")


def _cells(name: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    difference = one["difference"]
    low, high = difference["low"], difference["high"]
    return (
        name,
        f"{one['before']:.3f}",
        f"{one['after']:.3f}",
        f"{difference['mean']:+.3f}",
        "-" if low is None or high is None else f"{low:+.3f} - {high:+.3f}",
    )


def _progress_text(view: RunView, *, is_stopping: bool) -> str:
    if is_stopping:
        return _("Stopping ...")
    if not view.planned:
        return _("Comparing and preparing the cases ...")
    text = f"{view.phase_title}, {100 * view.finished // view.planned:.0f}%"
    if view.seconds_left is not None:
        minutes = view.seconds_left / 60
        text += (
            _(", {seconds:.0f} s left").format(seconds=view.seconds_left)
            if minutes < 1.5
            else _(", {minutes:.0f} min left").format(minutes=minutes)
        )
    return text
