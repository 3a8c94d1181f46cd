"""What is said of a whole case after its review, and what is made of it: files for others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import qt
from slicer.i18n import tr as _

from SemiSupSegLib.review.export import SUFFIXES
from SemiSupSegLib.review.record import ReviewRecord
from SemiSupSegLib.workers.runner import Job
from SemiSupSegUI.command_job import Ended, run_command
from SemiSupSegUI.dicom_source import DicomSource, dicom_source
from SemiSupSegUI.jobs import Jobs
from SemiSupSegUI.message import Message
from SemiSupSegUI.region_table import regions_in_words
from SemiSupSegUI.section import enable, push_button

_COMMENT_MS = 2000
"""So long after the last key a comment is on the disk."""
_DICOM = "dicom-seg"
_ENDINGS = {**SUFFIXES, "csv": ".csv"}


class Reviewed(Protocol):
    """What must be known of a case under review; a `ReviewSession` has it."""

    @property
    def folder(self) -> Path:
        """OUT/<case>."""

    @property
    def case(self) -> str:
        """Its id."""

    @property
    def record(self) -> ReviewRecord:
        """What was decided."""

    @property
    def reviewer(self) -> str:
        """Alias."""

    @property
    def reference(self):
        """Volume node of the scan, or None."""

    def flush(self) -> None:
        """Write what was drawn."""


class CaseBox:
    """The verdict on a case, its training label, its files for others, its reviewers side by side.

    Args:
        jobs: Runs what reads or writes images.
        message: Where it is said how something went.
        ask: Puts a question to the user, who says yes or no.
        changed: Told when the case stands otherwise: a verdict, a saved label.
    """

    def __init__(
        self,
        jobs: Jobs,
        message: Message,
        ask: Callable[[str], bool],
        changed: Callable[[], None],
    ) -> None:
        self._jobs, self._message, self._ask, self._changed = jobs, message, ask, changed
        self._session: Reviewed | None = None
        self._status: Mapping[str, Any] | None = None
        """What a worker has found in the case's folder; None: not yet."""
        self._labels: list[str] = []
        """Names of the training labels that were saved, the newest last."""
        self._series: DicomSource | None = None
        self._why_no_series = ""
        self._job: Job | None = None
        self._comment_timer = qt.QTimer()
        self._comment_timer.setSingleShot(True)
        self._comment_timer.setInterval(_COMMENT_MS)
        assert self._comment_timer.connect("timeout()", self.keep_comment)
        self._build()
        self.update()

    def _build(self) -> None:
        self.widget = qt.QWidget()
        form = qt.QFormLayout(self.widget)
        form.setContentsMargins(0, 0, 0, 0)
        self.verdict_buttons = {
            name: push_button(title, partial(self.give_verdict, name))
            for name, title in _verdict_words().items()
        }
        row = qt.QHBoxLayout()
        for button in self.verdict_buttons.values():
            button.checkable = True
            row.addWidget(button)
        form.addRow(_("Verdict:"), row)
        self.comment_edit = qt.QLineEdit()
        assert self.comment_edit.connect("textEdited(QString)", self._comment_edited)
        assert self.comment_edit.connect("editingFinished()", self.keep_comment)
        form.addRow(_("Comment:"), self.comment_edit)
        self.partial_box = qt.QCheckBox(_("Only what was reviewed"))
        self.partial_box.toolTip = _(
            "Regions that were decided, voxels that were drawn, and those that the model is "
            "confident of count; the rest is written as unknown and learnt as if it had no label."
        )
        self.label_button = push_button(_("Save as training label"), self.save_label)
        row = qt.QHBoxLayout()
        row.addWidget(self.label_button)
        row.addWidget(self.partial_box)
        form.addRow(row)
        self.format_box = qt.QComboBox()
        for title, name in _formats():
            self.format_box.addItem(title, name)
        assert self.format_box.connect("currentIndexChanged(int)", lambda _index: self.update())
        self.export_button = push_button(_("Export..."), self._choose_export)
        row = qt.QHBoxLayout()
        row.addWidget(self.format_box)
        row.addWidget(self.export_button)
        form.addRow(_("For others:"), row)
        self.other_box = qt.QComboBox()
        self.other_box.toolTip = _("The reviewer to compare with.")
        self.compare_button = push_button(_("Compare reviewers"), self.compare)
        row = qt.QHBoxLayout()
        row.addWidget(self.compare_button)
        row.addWidget(self.other_box)
        form.addRow(row)
        self.comparison = qt.QPlainTextEdit()
        self.comparison.readOnly = True
        self.comparison.setMaximumHeight(140)
        form.addRow(self.comparison)

    @property
    def format(self) -> str:
        """The chosen format, as the command names it."""
        return self.format_box.itemData(self.format_box.currentIndex)

    def choose_format(self, name: str) -> None:
        """Choose a format as a user does."""
        self.format_box.setCurrentIndex(self.format_box.findData(name))

    def show(self, session: Reviewed | None) -> None:
        """Show another case, or none; a comment of the former one is kept."""
        if session is self._session:
            self.update()
            return
        self.keep_comment()
        self._session = session
        self._status, self._series, self._labels = None, None, []
        self.comparison.plainText = ""
        self.comment_edit.text = ""
        self.other_box.clear()
        if session is not None:
            self._series, self._why_no_series = dicom_source(session.reference)
            with self._message.errors_shown():
                self._look(session)
        self.update()

    def update(self) -> None:
        """Show what the record says, enable what can be done, and say why the rest cannot."""
        session = self._session
        none = "" if session is not None else _("Open a case first.")
        verdict = session.record.verdict if session is not None else None
        for name, button in self.verdict_buttons.items():
            button.checked = name == verdict
            # In a dark window the pressed button looks much like the others.
            title = _verdict_words()[name]
            button.text = f"\u2714 {title}" if name == verdict else title
            enable(button, none, _("What the case is after your review."))
        no_comment = none or (
            "" if verdict else _("Give a verdict first; the comment goes with it.")
        )
        enable(self.comment_edit, no_comment, _("Kept with the verdict."))
        if session is not None and not self.comment_edit.modified:
            self.comment_edit.text = session.record.comment
        busy = none or self._busy()
        rejected = _("The case was rejected. Correct it and change the verdict first.")
        enable(
            self.label_button,
            busy or (rejected if verdict == "rejected" else ""),
            _("Write a new file beside the result; no former one is replaced."),
        )
        enable(self.export_button, busy or self._why_no_export())
        enable(self.compare_button, busy or self._why_no_comparison())
        self.other_box.visible = self.other_box.count > 1
        self.comparison.visible = bool(self.comparison.plainText)

    def close(self) -> None:
        """The panel goes."""
        self.keep_comment()
        self._comment_timer.stop()
        self._session = None

    # The verdict

    def give_verdict(self, verdict: str) -> None:
        """Keep what the case is."""
        session = self._session
        if session is not None and self._is_meant(session, verdict):
            with self._message.errors_shown():
                session.flush()
                self._keep(session, verdict)
                if verdict == "rejected" and self._labels:
                    self._message.mind(_still_counts(self._labels[-1]))
        self.update()

    def _is_meant(self, session: Reviewed, verdict: str) -> bool:
        """Ask if a case is accepted although somebody has not looked at all of its places."""
        progress = session.record.progress()
        left = progress.regions - progress.decided
        if verdict != "accepted" or not left:
            return True
        return self._ask(
            _("{undecided} Accept the case all the same?").format(
                undecided=_undecided_words(left, progress.regions)
            )
        )

    def keep_comment(self) -> None:
        """Write a comment that was changed; it stands with the verdict."""
        self._comment_timer.stop()
        session = self._session
        if session is None or not self.comment_edit.modified or session.record.verdict is None:
            return
        with self._message.errors_shown():
            self._keep(session, session.record.verdict)

    def _keep(self, session: Reviewed, verdict: str) -> None:
        comment = self.comment_edit.text.strip()
        if (verdict, comment) != (session.record.verdict, session.record.comment):
            session.record.give_verdict(verdict, comment)
            self.comment_edit.modified = False
            self._changed()
        self.comment_edit.modified = False

    def _comment_edited(self, _text: str) -> None:
        self._comment_timer.start()

    # The files

    def save_label(self) -> None:
        """Save the label map as reviewed, to train on."""
        session = self._session
        if session is None:
            return
        is_partial = self.partial_box.checked
        progress = session.record.progress()
        left = progress.regions - progress.decided
        if left and not is_partial and not self._ask(_many_undecided(left, progress.regions)):
            return
        words = ["review", "label", *_of(session)]
        self._start(
            session,
            [*words, "--partial" if is_partial else "--all"],
            _("The training label was saved: {what}"),
        )

    def export(self, path: str) -> None:
        """Write a file of the chosen format.

        Args:
            path: The file; the ending of the format is added if it is missing.
        """
        session = self._session
        if session is None:
            return
        ending = _ENDINGS[self.format]
        if not path.lower().endswith(ending):
            path += ending
        words = ["review", "export", *_of(session), "--format", self.format, "--out", path]
        if self.format == _DICOM and self._series is not None:
            words += ["--dicom", str(self._series.folder), "--series", self._series.series]
        self._start(session, words, _("Written: {what}"))

    def compare(self) -> None:
        """Show where the reviewers of the case differ."""
        session = self._session
        if session is None or self.other_box.count == 0:
            return

        def ended(end: Ended) -> None:
            if end.error:
                self._message.fail(end.error, end.log)
            elif session is self._session:
                self.comparison.plainText = _comparison_text(end.answer)
            self.update()

        words = ["review", "compare", "--result", str(session.folder)]
        words += ["--reviewers", session.reviewer, self.other_box.currentText]
        with self._message.errors_shown():
            session.flush()
            self._job = run_command(self._jobs, words, ended, wants_answer=True)
        self.update()

    def _start(self, session: Reviewed, words: Sequence[str], success: str) -> None:
        def ended(end: Ended) -> None:
            if end.error:
                self._message.fail(end.error, end.log)
            else:
                self._message.say(success.format(what=end.last_line))
                if session is self._session:
                    self._look(session)
            self.update()
            self._changed()

        with self._message.errors_shown():
            session.flush()
            self._job = run_command(self._jobs, words, ended)
            self._message.mind(_("Writing ..."))
        self.update()

    def _look(self, session: Reviewed) -> None:
        """Find out in a worker who else has reviewed the case: its folder may be on a share."""

        def ended(end: Ended) -> None:
            if session is not self._session:
                return
            if end.error:
                self._message.fail(end.error, end.log)
            self._status = end.answer or {}
            self._labels = list(self._status.get("labels", ()))
            for name in self._status.get("reviewers", ()):
                if name != session.reviewer and self.other_box.findText(name) < 0:
                    self.other_box.addItem(name)
            self.update()

        run_command(self._jobs, ["review", "status", *_of(session)], ended, wants_answer=True)

    def _busy(self) -> str:
        is_busy = self._job is not None and not self._job.is_ended
        return _("Wait until the file is written.") if is_busy else ""

    def _why_no_export(self) -> str:
        if self.format != _DICOM or self._series is not None:
            return ""
        if self._status is None:
            return _("Looking what the case was made from.")
        return "" if self._status.get("is_of_dicom") else self._why_no_series

    def _why_no_comparison(self) -> str:
        if self._status is None:
            return _("Looking who has reviewed the case.")
        return "" if self.other_box.count else _("Nobody else has reviewed this case.")

    def _choose_export(self) -> None:
        session = self._session
        if session is None:
            return
        ending = _ENDINGS[self.format]
        path = qt.QFileDialog.getSaveFileName(
            self.widget,
            _("Export the case"),
            f"{session.case}.reviewed{ending}",
            f"{self.format_box.currentText} (*{ending})",
        )
        if path:
            self.export(path)


def _verdict_words() -> dict[str, str]:
    return {"accepted": _("Accepted"), "corrected": _("Corrected"), "rejected": _("Rejected")}


def _formats() -> Sequence[tuple[str, str]]:
    return (
        (_("NIfTI"), "nifti"),
        (_("Slicer segmentation"), "seg.nrrd"),
        (_("DICOM SEG"), _DICOM),
        (_("Decisions as CSV"), "csv"),
    )


def _of(session: Reviewed) -> list[str]:
    return ["--result", str(session.folder), "--reviewer", session.reviewer]


def _still_counts(name: str) -> str:
    return _(
        "A training label of this case was saved before, and still counts in training. Remove "
        "{name} from the case's folder if it should not."
    ).format(name=name)


def _many_undecided(left: int, regions: int) -> str:
    return _("{undecided} Save the whole label map all the same?").format(
        undecided=_undecided_words(left, regions)
    )


def _undecided_words(left: int, regions: int) -> str:
    if regions == 1:
        return _("The only region is not decided.")
    return _("{left} of {regions} regions are not decided.").format(left=left, regions=regions)


def _comparison_text(found: Mapping[str, Any]) -> str:
    """Return where two reviewers differ, in lines."""
    first, second = found["reviewers"]
    verdicts = [verdict or _("no verdict") for verdict in found["verdicts"]]
    lines = [f"{first}: {verdicts[0]}; {second}: {verdicts[1]}"]
    if found["equal_decisions"] is None:
        lines.append(_("No region is decided by both."))
    else:
        kappa = found["kappa"]
        lines.append(
            _("Equal decisions: {share:.0%}, Cohen's kappa {kappa}").format(
                share=found["equal_decisions"],
                kappa=_("not defined") if kappa is None else f"{kappa:.2f}",
            )
        )
    dice = [
        f"{name} {'-' if value is None else f'{value:.3f}'}"
        for name, value in (found["dice"] or {}).items()
    ]
    if dice:
        lines.append(_("Dice of the two labels: {dice}").format(dice=", ".join(dice)))
    apart = [one for one in found["regions"] if one["apart"]]
    lines.append(
        _("They differ in {apart} of {regions}.").format(
            apart=len(apart), regions=regions_in_words(len(found["regions"]))
        )
    )
    for one in apart:
        statuses = one["statuses"]
        line = f"{one['region']} ({one['class']}): {first} {statuses[0]}, {second} {statuses[1]}"
        if one["voxels_apart"]:
            words = _(", {voxels} voxels apart")
            if one["voxels_apart"] == 1:
                words = _(", 1 voxel apart")
            line += words.format(voxels=one["voxels_apart"])
        lines.append(line)
    return "\n".join(lines)
