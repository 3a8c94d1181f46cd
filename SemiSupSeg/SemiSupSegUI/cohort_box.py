"""The cases of a folder of results: which to look at next, and which were looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.workers.runner import Job
from SemiSupSegUI.command_job import Ended, open_page, run_command
from SemiSupSegUI.jobs import Jobs
from SemiSupSegUI.message import Message
from SemiSupSegUI.section import enable, push_button, readable

_SETTING = "SemiSupSeg/ResultsFolder"
_SILENT_MS = 20_000
"""A folder that has not answered by then is spoken of."""


class CohortBox:
    """A folder of results as a table, what should be looked at first at its top.

    Args:
        jobs: Reads the folder, which may lie on a share that does not answer.
        message: Where it is said how something went.
        open_case: Opens the result in a folder OUT/<case>.
    """

    def __init__(self, jobs: Jobs, message: Message, open_case: Callable[[Path], None]) -> None:
        self._jobs, self._message, self._open_case = jobs, message, open_case
        self.folder: Path | None = None
        """OUT; None: none was opened."""
        self._rows: list[Mapping[str, Any]] = []
        self._history: list[Path] = []
        """The cases that were opened, in this order."""
        self._at = -1
        self._leads_to: int | None = None
        """Place in the history of the case that is being opened, if it is one of these."""
        self._is_told_gone = False
        """Whether it was said that the folder of last time cannot be read."""
        self._reading: Job | None = None
        self._wanted: Path | None = None
        """The folder that is being read."""
        self._is_stale = False
        """Whether something has changed since reading has begun."""
        self._summary_job: Job | None = None
        self._silence = qt.QTimer()
        self._silence.setSingleShot(True)
        self._silence.setInterval(_SILENT_MS)
        assert self._silence.connect("timeout()", self._tell_silence)
        self._build()
        self.update()

    def _build(self) -> None:
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.open_button = push_button(_("Open results..."), self._choose_folder)
        self.open_button.toolTip = _("A folder that predict, or Segment with Folder..., wrote to.")
        self.summary_button = push_button(_("HTML summary"), self.write_summary)
        row = qt.QHBoxLayout()
        row.addWidget(self.open_button)
        row.addWidget(self.summary_button)
        layout.addLayout(row)
        self.summary = qt.QLabel()
        self.summary.wordWrap = True
        layout.addWidget(self.summary)
        titles = [
            _("Case"),
            _("Left (mL)"),
            _("Decided"),
            _("Verdict"),
            _("Reviewers"),
            _("Labels"),
        ]
        self.table = qt.QTableWidget()
        self.table.columnCount = len(titles)
        self.table.setHorizontalHeaderLabels(titles)
        self.table.horizontalHeaderItem(1).setToolTip(
            _("Expected volume of wrong voxels in what nobody has decided yet")
        )
        self.table.horizontalHeaderItem(5).setToolTip(_("Training labels that were saved"))
        self.table.verticalHeader().visible = False
        self.table.selectionBehavior = qt.QAbstractItemView.SelectRows
        self.table.selectionMode = qt.QAbstractItemView.SingleSelection
        self.table.editTriggers = qt.QAbstractItemView.NoEditTriggers
        self.table.setMinimumHeight(140)
        assert self.table.connect("cellDoubleClicked(int,int)", self._double_clicked)
        layout.addWidget(self.table)
        self.previous_button = push_button(_("Previous case"), self.previous_case)
        self.next_button = push_button(_("Next case"), self.next_case)
        row = qt.QHBoxLayout()
        row.addWidget(self.previous_button)
        row.addWidget(self.next_button)
        layout.addLayout(row)

    @property
    def current(self) -> Path | None:
        """The case that is open: OUT/<case>."""
        return self._history[self._at] if self._history else None

    @property
    def remembered(self) -> Path | None:
        """The folder that was opened last, also in an earlier session."""
        text = str(slicer.app.userSettings().value(_SETTING, "") or "")
        return Path(text) if text else None

    def open_folder(self, path: str | Path) -> None:
        """Read a folder of results in a worker, and show its cases."""
        # What was said of another folder would stand beside this one's cases.
        self._message.clear()
        if self._reading is not None and not self._reading.is_ended:
            self._jobs.cancel(self._reading)
        self._read(Path(path))

    def restore(self) -> None:
        """Read the folder that was opened last, if none is open.

        It may be on a disk that is not there now: that is said once, and it stays remembered.
        """
        if self.folder is None and self._wanted is None and self.remembered is not None:
            self._read(self.remembered, is_restored=True)

    def refresh(self) -> None:
        """Read the folder again: something was decided or saved."""
        if self._wanted is not None:
            self._is_stale = True
        elif self.folder is not None:
            self._read(self.folder)

    def mark(self, folder: Path) -> None:
        """Mark a case as the current one: it is open now, whoever has opened it."""
        place, self._leads_to = self._leads_to, None
        if place is not None and self._history[place] == folder:
            self._at = place
        elif folder != self.current:
            self._history = [*self._history[: self._at + 1], folder]
            self._at = len(self._history) - 1
        self._fill()

    def next_case(self) -> None:
        """Open the case that was left by going back, or else the one with most expected error."""
        if self._at + 1 < len(self._history):
            self._go_to(self._at + 1)
            return
        following = self._following()
        if following is not None:
            self.open_case(following)

    def previous_case(self) -> None:
        """Open the case before."""
        if self._at > 0:
            self._go_to(self._at - 1)

    def open_case(self, folder: Path) -> None:
        """Open a case of the table; `mark` is told when it is open."""
        self._leads_to = None
        self._open(folder)

    def write_summary(self) -> None:
        """Write the page of the folder, and open it."""
        folder = self.folder
        if folder is None:
            return

        words = ["review", "export", "--results", str(folder), "--format", "html"]
        with self._message.errors_shown():
            page = folder / "review.html"
            self._summary_job = open_page(self._jobs, self._message, words, page, self.update)
            self._message.mind(_("Writing the summary ..."))
        self.update()

    def update(self) -> None:
        """Enable what can be done, and say why the rest cannot."""
        has_cases = self.folder is not None or self._wanted is not None
        for part in (self.table, self.summary, self.previous_button, self.next_button):
            part.visible = has_cases
        none = ""
        if self.folder is None:
            none = (
                _("Open a folder of results first.")
                if self._wanted is None
                else _("The folder is being read.")
            )
        is_busy = self._summary_job is not None and not self._summary_job.is_ended
        enable(
            self.summary_button,
            none or (_("The summary is being written.") if is_busy else ""),
            _("A page of all cases, for a browser."),
        )
        is_left = self._at + 1 < len(self._history) or self._following() is not None
        enable(
            self.next_button,
            "" if is_left else none or _("No other case is to be reviewed."),
            _("The case with the most expected error that nobody has reviewed."),
        )
        enable(
            self.previous_button,
            "" if self._at > 0 else _("No other case was open before."),
            _("Back to the case before. What you decided is kept."),
        )

    def close(self) -> None:
        """The panel goes."""
        self._silence.stop()
        self._wanted = None

    # Inside

    def _read(self, folder: Path, *, is_restored: bool = False) -> None:
        def ended(end: Ended) -> None:
            if folder != self._wanted or job is not self._reading:
                return
            self._silence.stop()
            self._wanted = None
            if end.error:
                self._tell_unread(folder, end, is_restored=is_restored)
            else:
                self._show(folder, end.answer)
            if self._is_stale:
                self.refresh()
            self.update()

        job = None
        with self._message.errors_shown():
            words = ["review", "cohort", "--results", str(folder)]
            job = self._reading = run_command(self._jobs, words, ended, wants_answer=True)
            self._wanted, self._is_stale = folder, False
            self._silence.start()
            if folder != self.folder:
                self.summary.text = _("Reading {folder} ...").format(folder=folder)
        self.update()

    def _tell_unread(self, folder: Path, end: Ended, *, is_restored: bool) -> None:
        if folder != self.folder:
            self.summary.text = self._summary_words()
        if not is_restored:
            self._message.fail(end.error, end.log)
        elif not self._is_told_gone:
            self._is_told_gone = True
            self._message.mind(
                _(
                    "The folder of results of last time, {folder}, cannot be read now. It is "
                    "looked for again whenever you come back; Open results... chooses another."
                ).format(folder=folder),
                end.error,
            )

    def _show(self, folder: Path, answer: Mapping[str, Any]) -> None:
        if folder != self.folder:
            # Going back should not lead to a case of another folder.
            self._history = [one for one in self._history if one.parent == folder]
            self._at = len(self._history) - 1
            self._leads_to = None
        self.folder = folder
        slicer.app.userSettings().setValue(_SETTING, str(folder))
        self._rows = answer["cases"]
        self.summary.text = self._summary_words()
        self._fill()

    def _summary_words(self) -> str:
        if self.folder is None:
            return ""
        if not self._rows:
            return _(
                "{folder} holds no results. Open the folder that predict, or Segment with "
                "Folder..., wrote to."
            ).format(folder=self.folder)
        num_open = sum(bool(row["is_open"]) for row in self._rows)
        words = _("{folder}: {cases} cases, {open} to be reviewed")
        if len(self._rows) == 1:
            words = _("{folder}: 1 case, {open} to be reviewed")
        return words.format(folder=self.folder, cases=len(self._rows), open=num_open)

    def _fill(self) -> None:
        self.table.rowCount = len(self._rows)
        for place, row in enumerate(self._rows):
            folder = self._place(row)
            for column, text in enumerate(_cells(row, is_current=folder == self.current)):
                item = qt.QTableWidgetItem(readable(text))
                item.setToolTip(readable(row["problem"] or _tip(row)))
                self.table.setItem(place, column, item)
            if folder == self.current:
                self.table.selectRow(place)
        self.table.resizeColumnsToContents()
        self.update()

    def _place(self, row: Mapping[str, Any]) -> Path:
        assert self.folder is not None
        return self.folder / row["folder"]

    def _following(self) -> Path | None:
        """Return the open case to be looked at next: first those not opened yet."""
        is_open = [self._place(row) for row in self._rows if row["is_open"]]
        others = [folder for folder in is_open if folder != self.current]
        new = [folder for folder in others if folder not in self._history]
        return (new or others or [None])[0]

    def _go_to(self, place: int) -> None:
        self._leads_to = place
        self._open(self._history[place])

    def _open(self, folder: Path) -> None:
        with self._message.errors_shown():
            self._open_case(folder)

    def _double_clicked(self, row: int, _column: int) -> None:
        self.open_case(self._place(self._rows[row]))

    def _tell_silence(self) -> None:
        self._message.mind(
            _("{folder} has not answered for 20 s. Open another folder, or wait.").format(
                folder=self._wanted
            )
        )

    def _choose_folder(self) -> None:
        start = self.folder or self.remembered or ""
        path = qt.QFileDialog.getExistingDirectory(self.widget, _("Open results"), str(start))
        if path:
            self.open_folder(path)


def _cells(row: Mapping[str, Any], *, is_current: bool) -> Sequence[str]:
    name = f"\u25b6 {row['case']}" if is_current else str(row["case"])
    if row["problem"]:
        return (name, "-", _("cannot be read"), "", "", "")
    error = row["expected_error_mm3"] and row["open_error_mm3"]
    reviews = row["reviews"]
    decided = [f"{one['decided']} / {one['regions']}" for one in reviews]
    return (
        name,
        "-" if error is None else f"{error / 1000:.2f}",
        ", ".join(decided) or f"0 / {row['regions']}",
        ", ".join(one["verdict"] or "-" for one in reviews),
        ", ".join(one["reviewer"] for one in reviews),
        str(row["saved"] or "-"),
    )


def _tip(row: Mapping[str, Any]) -> str:
    problems = [f"{one['reviewer']}: {one['problem']}" for one in row["reviews"] if one["problem"]]
    left = _("{volume:.2f} mL of expected error are not decided.").format(
        volume=row["open_error_mm3"] / 1000
    )
    return "\n".join([*problems, left])
