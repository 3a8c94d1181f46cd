"""Which cases a run learns from: a folder is scanned, and its cases are shared out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SemiSupSegUI.case_table import LABELLED, UNLABELLED, VALIDATION, CaseTable
from SemiSupSegUI.jobs import Jobs
from SemiSupSegUI.message import Message
from SemiSupSegUI.scanning import Scanning
from SemiSupSegUI.section import enable, folder_row, push_button, readable, wrapped_label

_SETTING = "SemiSupSeg/TrainingCases"


class TrainingCases:
    """Folder, table and split.

    Args:
        jobs: Scans in a worker.
        changed: Told when the cases, or what they are used for, have changed.
        hindrance: Returns why no worker can run, or an empty text.
    """

    def __init__(
        self,
        jobs: Jobs,
        changed: Callable[[], None],
        hindrance: Callable[[], str],
    ) -> None:
        self._jobs, self._changed = jobs, changed
        self.message = Message()
        """Below the buttons of the scan."""
        self.use_message = Message()
        """Below the buttons that say what cases are used for."""
        self._hindrance = hindrance
        self._scan: Scanning | None = None
        self._scanned: tuple[str, ...] = ()
        """Of what the table is."""
        self._total = 0
        self._checked: set[str] = set()
        self.is_own_split = False
        """Whether the user has changed what a case is used for."""
        self._wanted_split: Mapping[str, list[str]] | None = None
        """To be taken over when the scan has ended."""
        self._build()
        self.folder_edit.text = str(slicer.app.userSettings().value(_SETTING, "") or "")
        self.update()

    def _build(self) -> None:
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        form = qt.QFormLayout()
        self.folder_edit = folder_row(form, _("Folder of cases:"), self._edited)
        self.folder_edit.toolTip = _("Any layout: BraTS, BIDS, nnU-Net, DICOM, one folder a case.")
        self.task_box = qt.QComboBox()
        for title, name in (
            (_("Recognized from the files"), ""),
            (_("Brain tumor (t1 t1ce t2 flair)"), "brats"),
            (_("Brain tumor (Medical Decathlon)"), "brats_msd"),
            (_("One structure in one image"), "binary"),
            (_("Task file..."), None),
        ):
            self.task_box.addItem(title, name)
        self.task_box.toolTip = _("Which channels and classes the cases have.")
        self.task_box.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        form.addRow(_("Task:"), self.task_box)
        self.reviews_edit = folder_row(form, _("Reviewed results:"), self._edited)
        self.reviews_edit.placeholderText = _("none")
        self.reviews_edit.toolTip = _(
            "A folder of results with labels that were saved in Review: they count as labels."
        )
        self.patient_edit = qt.QLineEdit()
        self.patient_edit.placeholderText = _("as the names tell")
        self.patient_edit.toolTip = _(
            "A regular expression whose first group in a case's name is the patient, such as "
            "^([^_]+)_ : all cases of one patient stay in one part of the split."
        )
        assert self.patient_edit.connect("textEdited(QString)", self._edited)
        form.addRow(_("Patient pattern:"), self.patient_edit)
        layout.addLayout(form)
        self.scan_button = push_button(_("Scan"), self.scan)
        self.stop_button = push_button(_("Stop"), self.stop)
        row = qt.QHBoxLayout()
        row.addWidget(self.scan_button)
        row.addWidget(self.stop_button)
        layout.addLayout(row)
        layout.addWidget(self.message.widget)
        self.summary = wrapped_label()
        layout.addWidget(self.summary)
        self.table = CaseTable(self.update)
        layout.addWidget(self.table.widget)
        self.finding = wrapped_label()
        self.finding.textInteractionFlags = qt.Qt.TextSelectableByMouse
        layout.addWidget(self.finding)
        self.train_button = push_button(_("Use for training"), lambda: self.use(LABELLED))
        self.validate_button = push_button(_("Use for validation"), lambda: self.use(VALIDATION))
        self.exclude_button = push_button(_("Leave out"), lambda: self.use(""))
        self.split_button = push_button(_("Share out anew"), self.share_out_anew)
        self.patients_box = qt.QCheckBox(_("with all cases of the patient"))
        self.patients_box.checked = True
        self.patients_box.toolTip = _(
            "One patient's cases in training and in validation would make validation too good."
        )
        grid = qt.QGridLayout()
        for at, button in enumerate(
            (self.train_button, self.validate_button, self.exclude_button, self.split_button)
        ):
            grid.addWidget(button, at // 2, at % 2)
        layout.addLayout(grid)
        layout.addWidget(self.patients_box)
        layout.addWidget(self.use_message.widget)
        assert self.task_box.connect("activated(int)", self._task_chosen)

    @property
    def is_scanning(self) -> bool:
        """Whether a scan goes on."""
        return self._scan is not None and not self._scan.is_ended

    @property
    def words(self) -> list[str]:
        """The words of `train` and `plan` that say which cases, without the split."""
        words = ["--cases", self.folder_edit.text.strip()]
        return words + self._choices()

    @property
    def why_not(self) -> str:
        """Why nothing can be trained with what is here; empty: it can."""
        if not self.folder_edit.text.strip():
            return _("Choose a folder of cases.")
        if self.is_scanning:
            return _("The folder is being scanned.")
        if not self.table.cases or self._scanned != tuple(self.words):
            return _("Scan the folder first.")
        split = self.table.split()
        if self.is_own_split and not split[LABELLED]:
            return _("No labelled case is used for training.")
        return ""

    def set_folder(self, path: str | Path) -> None:
        """Choose the folder of cases."""
        self.folder_edit.text = str(path)
        self._edited()

    def set_task(self, name: str) -> None:
        """Choose a built-in task by name, or a task file; empty: recognized from the files."""
        index = self.task_box.findData(name)
        if index < 0:
            self.task_box.addItem(Path(name).name, name)
            index = self.task_box.count - 1
        self.task_box.setCurrentIndex(index)
        self.update()

    def take_over(self, request: Mapping[str, Any]) -> None:
        """Choose the cases that another run was asked for, shared out as they were there."""
        for edit, name in ((self.folder_edit, "cases"), (self.reviews_edit, "reviews")):
            edit.text = request[name]["folder"] if request[name] else ""
        self.patient_edit.text = request["patient"] or ""
        self.set_task(request["task"] or "")
        if self._scan is not None:
            # Of another folder, perhaps; it would get these cases' uses.
            self._scan.close()
        self.scan()
        self._wanted_split = request["split"]

    def scan(self) -> None:
        """Find the cases in a worker; the table fills while it looks."""
        if self.is_scanning or not self.folder_edit.text.strip():
            return
        self._wanted_split = None
        self.message.clear()
        self.use_message.clear()
        self.table.clear()
        self._total, self._checked = 0, set()
        self.is_own_split = False
        self._scanned = tuple(self.words)
        words = ["scan", self.folder_edit.text.strip(), *self._choices()]
        with self.message.errors_shown():
            self._scan = Scanning(self._jobs, words, self._line, self._scan_ended)
            slicer.app.userSettings().setValue(_SETTING, self.folder_edit.text.strip())
        self.update()

    def stop(self) -> None:
        """Stop to scan."""
        if self._scan is not None:
            self._scan.cancel()
        self.update()

    def show_split(self, split: Mapping[str, list[str]]) -> None:
        """Show what the cases are used for, as a worker has shared them out."""
        uses = dict.fromkeys(self.table.cases, "")
        for use in (LABELLED, UNLABELLED, VALIDATION):
            uses.update(dict.fromkeys(split[use], use))
        self.table.set_uses(uses)
        self.update()

    def use(self, use: str) -> None:
        """Use the selected cases for something else, those of the same patients with them."""
        chosen = self.table.selected
        if self.patients_box.checked:
            chosen = self.table.of_same_patients(chosen)
        if not chosen:
            return
        self.is_own_split = True
        self.use_message.clear()
        uses = {one: self.table.possible_use(one, use) for one in chosen}
        self.table.set_uses(uses)
        others = sum(found != use for found in uses.values())
        if use == VALIDATION and others:
            text = (
                _("The case cannot be used for validation: no label.")
                if len(uses) == 1
                else _("{count} of {all} cases cannot be used for validation: no label.")
            )
            self.use_message.mind(text.format(count=others, all=len(uses)))
        self.update()
        self._changed()

    def share_out_anew(self) -> None:
        """Let the library share the cases out again."""
        self.is_own_split = False
        self.table.set_uses(dict.fromkeys(self.table.cases, ""))
        self.update()
        self._changed()

    def update(self) -> None:
        """Enable what can be done, and say why the rest cannot."""
        scanning = _("The folder is being scanned.") if self.is_scanning else ""
        no_folder = "" if self.folder_edit.text.strip() else _("Choose a folder of cases.")
        enable(
            self.scan_button,
            scanning or no_folder or self._hindrance(),
            _("Find the cases and check them; nothing is changed."),
        )
        enable(
            self.stop_button,
            "" if self.is_scanning else _("Nothing is being scanned."),
            _("End the scan; what it has found stays in the table."),
        )
        selected = self.table.selected
        none = scanning or ("" if selected else _("Select cases in the table."))
        enable(self.train_button, none, _("A case with a label teaches with it."))
        enable(self.validate_button, none, _("Its label judges the model, which never sees it."))
        enable(self.exclude_button, none, _("The run does not touch these cases."))
        not_own = "" if self.is_own_split else _("The cases are shared out by the library.")
        enable(self.split_button, scanning or not_own, _("Undo all changes to the split."))
        known = [one for one in selected if one in self.table.cases]
        self.finding.text = readable(self.table.finding_of(known[0])) if len(known) == 1 else ""
        self.finding.visible = bool(self.finding.text)
        self.summary.text = self._summary()

    def close(self) -> None:
        """The panel goes."""
        self.table.close()
        if self._scan is not None:
            self._scan.close()

    def _choices(self) -> list[str]:
        words = []
        task, reviews = self.task_box.currentData, self.reviews_edit.text.strip()
        if task:
            words += ["--task", task]
        if reviews:
            words += ["--reviews", reviews]
        if self.patient_edit.text.strip():
            words += ["--patient", self.patient_edit.text.strip()]
        return words

    def _line(self, line: Mapping[str, Any]) -> None:
        if line["kind"] == "scan":
            self._total = line["total"]
        elif line["kind"] == "case":
            if line["is_checked"]:
                self._checked.add(line["id"])
            self.table.put(line)
        self.summary.text = self._summary()

    def _scan_ended(self, error: str) -> None:
        if error:
            self.message.fail(error)
        elif self._wanted_split is not None:
            self.is_own_split = True
            self.show_split(self._wanted_split)
        self.update()
        self._changed()

    def _summary(self) -> str:
        if self.is_scanning:
            if not self._total:
                return _("Looking for cases ...")
            text = (
                _("Checked {done} of 1 case ...")
                if self._total == 1
                else _("Checked {done} of {total} cases ...")
            )
            return text.format(done=len(self._checked), total=self._total)
        if not self.table.cases:
            return ""
        states = Counter(str(one["state"]) for one in self.table.cases.values())
        text = ", ".join(f"{count} {state}" for state, count in states.items())
        split = self.table.split()
        if any(split.values()):
            text += ". " + _(
                "Training: {labelled} with label, {unlabelled} without; validation: {validation}; "
                "left out: {rest}."
            ).format(
                labelled=len(split[LABELLED]),
                unlabelled=len(split[UNLABELLED]),
                validation=len(split[VALIDATION]),
                rest=len(self.table.cases) - sum(map(len, split.values())),
            )
        return text

    def _edited(self, _text: str = "") -> None:
        self.update()
        self._changed()

    def _task_chosen(self, _index: int) -> None:
        if self.task_box.currentData is None:
            file = qt.QFileDialog.getOpenFileName(self.widget, _("Task file"), "", "*.json")
            self.set_task(file or "")
        self._edited()
