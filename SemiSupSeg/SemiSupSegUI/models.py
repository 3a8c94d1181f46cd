"""The section Models: which there are, what they can, and what is done with them."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.models import registry
from SemiSupSegLib.models.description import (
    date_of,
    details,
    method_name,
    one_line,
    training_cases,
    validation_dice,
)
from SemiSupSegLib.models.registry import RegisteredModel
from SemiSupSegLib.runs.state import RunStatus
from SemiSupSegLib.workers.runner import Job
from SemiSupSegUI.jobs import Jobs, new_job_folder
from SemiSupSegUI.message import Message
from SemiSupSegUI.section import Section, enable, push_button


def line_of(model: RegisteredModel) -> str:
    """Return what there is to say of a model in a line."""
    return model.problem or one_line(model.manifest or {})


class ModelsSection(Section):
    """The registered models in a table.

    Args:
        jobs: Checks, copies and packs models in a worker.
        ask: Puts a question to the user, who says yes or no.
        ask_text: Asks the user for a text; (question, text) -> text, empty if the user gave none.
        in_use: Returns the name of the model that Segment has chosen.
        hindrance: Returns why no worker can be started, or an empty text.
        changed: Told when the list has changed.
    """

    def __init__(
        self,
        jobs: Jobs,
        ask: Callable[[str], bool],
        ask_text: Callable[[str, str], str],
        in_use: Callable[[], str],
        hindrance: Callable[[], str],
        changed: Callable[[], None],
    ) -> None:
        super().__init__(_("Models"))
        self._jobs, self._ask, self._ask_text = jobs, ask, ask_text
        self._in_use, self._hindrance, self._changed = in_use, hindrance, changed
        self._models: list[RegisteredModel] = []
        self._job: Job | None = None
        self._titles = [
            _("Name"),
            _("Task"),
            _("Method"),
            _("Labelled + unlabelled"),
            _("Validation Dice"),
            _("Date"),
            _("MB"),
        ]
        self.table = qt.QTableWidget()
        self.table.columnCount = len(self._titles)
        self.table.setHorizontalHeaderLabels(self._titles)
        self.table.verticalHeader().visible = False
        self.table.selectionBehavior = qt.QAbstractItemView.SelectRows
        self.table.selectionMode = qt.QAbstractItemView.SingleSelection
        self.table.editTriggers = qt.QAbstractItemView.NoEditTriggers
        self.table.setMinimumHeight(140)
        self.details = qt.QPlainTextEdit()
        self.details.readOnly = True
        self.details.setMaximumHeight(180)
        self.details.visible = False
        self.details_button = push_button(_("Details"), self.show_details)
        self.details_button.checkable = True
        self.default_button = push_button(_("Set as default"), self.set_default)
        self.rename_button = push_button(_("Rename..."), self.rename)
        self.delete_button = push_button(_("Delete..."), self.delete)
        self.import_button = push_button(_("Import..."), self._choose_import)
        self.import_folder_button = push_button(_("Import folder..."), self._choose_folder)
        self.export_button = push_button(_("Export..."), self._choose_export)
        self.message = Message()
        self.layout.addWidget(self.table)
        grid = qt.QGridLayout()
        for at, button in enumerate(
            (
                self.default_button,
                self.rename_button,
                self.details_button,
                self.import_button,
                self.import_folder_button,
                self.export_button,
                self.delete_button,
            )
        ):
            grid.addWidget(button, at // 4, at % 4)
        self.layout.addLayout(grid)
        self.layout.addWidget(self.details)
        self.layout.addWidget(self.message.widget)
        assert self.table.connect("itemSelectionChanged()", self.update)
        self.read()

    def enter(self) -> None:
        """Read the folder anew: a run may have added a model."""
        self.read()

    @property
    def selected(self) -> RegisteredModel | None:
        """The model whose row is selected."""
        row = self.table.currentRow()
        return self._models[row] if 0 <= row < len(self._models) else None

    def select(self, name: str) -> None:
        """Select a model's row."""
        for row, model in enumerate(self._models):
            if model.name == name:
                self.table.setCurrentCell(row, 0)

    def read(self) -> None:
        """List the models that there are; the selected one stays selected."""
        kept = self.selected.name if self.selected else ""
        self._models = registry.registered_models()
        self.table.rowCount = len(self._models)
        for row, model in enumerate(self._models):
            for column, text in enumerate(_cells(model)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(line_of(model))
                self.table.setItem(row, column, item)
        self.table.resizeColumnsToContents()
        self.select(kept)
        self.update()

    def update(self) -> None:
        """Enable what can be done, and say why the rest cannot."""
        model = self.selected
        none = "" if model is not None else _("Select a model in the table.")
        own = none or (
            _("It lies in a shared folder and cannot be changed here.")
            if model.is_read_only
            else ""
        )
        usable = none or (model.problem or "")
        is_used = model is not None and model.name == self._in_use()
        enable(self.default_button, usable)
        enable(self.details_button, none)
        enable(self.export_button, usable or self._no_worker())
        enable(self.rename_button, own or (_("It is chosen in Segment.") if is_used else ""))
        enable(self.delete_button, own or (_("It is chosen in Segment.") if is_used else ""))
        enable(self.import_button, self._no_worker(), _("Copy a model from a file (.zip)."))
        enable(
            self.import_folder_button,
            self._no_worker(),
            _("Copy a model from its folder, or from the folder of the run that trained it."),
        )
        self.show_details()

    def show_details(self, _checked: bool = False) -> None:
        """Show or hide what there is to know of the model."""
        model = self.selected if self.details_button.checked else None
        self.details.visible = model is not None
        if model is not None:
            text = model.problem or details(model.manifest or {})
            self.details.plainText = _("{text}\nFolder: {folder}").format(
                text=text, folder=model.folder
            )

    def set_default(self) -> None:
        """Make the selected model the one that is chosen when nothing is said."""
        self._do(lambda model: registry.set_default(model.name))

    def rename(self) -> None:
        """Give the selected model another name."""
        model = self.selected
        name = self._ask_text(_("New name:"), model.name) if model else ""
        if name and name != model.name:
            self._do(lambda model: registry.rename(model.name, name))
            self.select(name)

    def delete(self) -> None:
        """Remove the selected model, if the user says so."""
        model = self.selected
        if model is not None and self._ask(
            _("Delete the model {name} for good?").format(name=model.name)
        ):
            self._do(lambda model: registry.delete(model.name))

    def import_model(self, source: str) -> None:
        """Check a file or folder in a worker, and copy it to the models."""
        self._start(["models", "import", source], _("The model was imported."))

    def export_model(self, file: str) -> None:
        """Write the selected model to one file, in a worker."""
        if self.selected is not None:
            words = ["models", "export", self.selected.name, file]
            self._start(words, _("The model was written to {file}.").format(file=file))

    def _no_worker(self) -> str:
        is_busy = self._job is not None and not self._job.is_ended
        busy = _("Another model is being read or written.") if is_busy else ""
        return self._hindrance() or busy

    def _do(self, action: Callable[[RegisteredModel], object]) -> None:
        model = self.selected
        if model is None:
            return
        self.message.clear()
        with self.message.errors_shown():
            action(model)
        self.read()
        self._changed()

    def _start(self, words: list[str], success: str) -> None:
        def changed(job: Job) -> None:
            if not job.is_ended:
                return
            if job.state.status is RunStatus.FINISHED:
                self.message.say(success)
            else:
                self.message.fail(job.state.error or _("The worker said nothing."))
            self.read()
            self._changed()

        self.message.mind(_("Reading and checking ..."))
        with self.message.errors_shown():
            self._job = self._jobs.run(new_job_folder(), words, changed)
        self.update()

    def _choose_import(self) -> None:
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Import a model"), "", _("Model (*.zip)")
        )
        if path:
            self.import_model(path)

    def _choose_folder(self) -> None:
        path = qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(), _("Import a model from its folder")
        )
        if path:
            self.import_model(path)

    def _choose_export(self) -> None:
        name = self.selected.name if self.selected else "model"
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Export the model"), f"{name}.zip", _("Model (*.zip)")
        )
        if path:
            self.export_model(path)


def _cells(model: RegisteredModel) -> tuple[str, ...]:
    name = model.name + (_(" (default)") if model.is_default else "")
    size = f"{model.size_bytes / 1e6:.1f}"
    manifest = model.manifest
    if manifest is None:
        return (name, _("cannot be used"), "", "", "", "", size)
    cases = training_cases(manifest)
    dice = [f"{target} {mean:.2f}" for target, mean in validation_dice(manifest).items()]
    return (
        name,
        str(manifest["task"].get("name", "")),
        method_name(manifest),
        f"{cases[0]} + {cases[1]}" if cases else "",
        ", ".join(dice),
        date_of(manifest),
        size,
    )
