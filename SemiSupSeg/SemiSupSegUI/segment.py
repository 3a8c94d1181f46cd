"""The section Segment: from a model and volumes to a result, and what is drawn over the anatomy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.cases.task import task_from_json
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.models import registry
from SemiSupSegLib.models.description import short_line
from SemiSupSegLib.models.package import identity
from SemiSupSegLib.workers.estimates import Estimate, Kind, bound, expected
from SemiSupSegUI import demonstration, inputs, overlays, scene
from SemiSupSegUI.folder_run import FolderRun
from SemiSupSegUI.jobs import Jobs, new_job_folder
from SemiSupSegUI.message import Message
from SemiSupSegUI.options_box import OptionsBox
from SemiSupSegUI.result_box import ResultBox
from SemiSupSegUI.section import Section, enable, node_box
from SemiSupSegUI.segmenting import Outcome, Progress, Segmenting
from SemiSupSegUI.state import State
from SemiSupSegUI.tasks import identity_of, manifest_of

_LONG_SECONDS = 600.0
"""What takes longer is asked about once."""


class SegmentSection(Section):
    """Everything between a chosen model and a shown result.

    Args:
        jobs: Drives workers.
        state: Returns the panel's state; None while the scene closes.
        ask: Puts a question to the user, who says yes or no.
        hindrance: Returns why no worker can be started, or an empty text.
    """

    def __init__(
        self,
        jobs: Jobs,
        state: Callable[[], State | None],
        ask: Callable[[str], bool],
        hindrance: Callable[[], str],
    ) -> None:
        super().__init__(_("Segment"))
        self._jobs, self._state, self._ask, self._hindrance = jobs, state, ask, hindrance
        self.segmenting: Segmenting | None = None
        self.folder_run: FolderRun | None = None
        self.on_result: Callable[[], None] = lambda: None
        """Told when a result is shown, and when it is on the disk."""
        self._is_closed = False
        self._do_nodes_move = False
        """Whether selectors go on to other nodes by themselves, which nobody has chosen."""
        self._read_name: str | None = None
        self._task = None
        self._model_sha256: str | None = None
        self._model_note = ""
        self._why: dict[str, str] = {}
        self._is_updating = False
        self._build()

    # Building

    def _build(self) -> None:
        self.model_box = qt.QComboBox()
        self.model_box.toolTip = _("The model that segments. Models are managed below.")
        self.model_line = qt.QLabel()
        self.model_line.wordWrap = True
        self.channel_boxes: dict[str, object] = {}
        self.try_button = qt.QPushButton(_("Try it on a made-up case"))
        self.try_button.toolTip = _(
            "Load a made-up brain and choose a small model that knows such brains: nothing is "
            "downloaded, and no patient is needed."
        )
        self.detect_button = qt.QPushButton(_("Detect inputs"))
        self.detect_button.toolTip = _(
            "Choose the volumes by their names, file names and DICOM series descriptions."
        )
        self.output_box = node_box("vtkMRMLSegmentationNode", _("Create new segmentation"))
        self.output_box.toolTip = _("Where the result goes.")
        self.notes = qt.QLabel()
        self.notes.wordWrap = True
        form = self._form = qt.QFormLayout()
        form.addRow(_("Model:"), self.model_box)
        form.addRow("", self.model_line)
        row = qt.QHBoxLayout()
        row.addWidget(self.detect_button)
        row.addWidget(self.try_button)
        form.addRow("", row)
        form.addRow(_("Output:"), self.output_box)
        self.layout.addLayout(form)
        self.options = OptionsBox()
        self.layout.addWidget(self.options.widget)
        self.layout.addWidget(self.notes)
        self.layout.addLayout(self._buttons())
        self.message = Message()
        self.layout.addWidget(self.message.widget)
        self.results = ResultBox(self._state, self.message, lambda: self.on_result())
        self.layout.addWidget(self.results.widget)
        self._connect()

    def _buttons(self):
        row = qt.QHBoxLayout()
        self.apply_button = qt.QPushButton(_("Apply"))
        self.estimate = qt.QLabel()
        self.estimate.wordWrap = True
        self.cancel_button = qt.QPushButton(_("Cancel"))
        self.cancel_button.toolTip = _("End it; the GPU is free within 2 s.")
        self.cancel_button.visible = False
        row.addWidget(self.apply_button, 1)
        self.folder_button = qt.QPushButton(_("Folder..."))
        row.addWidget(self.folder_button)
        row.addWidget(self.cancel_button)
        column = qt.QVBoxLayout()
        column.addLayout(row)
        column.addWidget(self.estimate)
        self.progress = qt.QProgressBar()
        self.progress.setRange(0, 1000)
        self.progress.textVisible = False
        self.progress.visible = False
        self.progress_words = qt.QLabel()
        self.progress_words.wordWrap = True
        self.progress_words.visible = False
        column.addWidget(self.progress)
        column.addWidget(self.progress_words)
        return column

    def _connect(self) -> None:
        connected = (
            self.model_box.connect("currentIndexChanged(int)", self._model_chosen),
            self.detect_button.connect("clicked()", self.detect),
            self.try_button.connect("clicked()", self.try_it),
            self.output_box.connect("currentNodeChanged(vtkMRMLNode*)", self._output_chosen),
            self.options.mask_box.connect("currentNodeChanged(vtkMRMLNode*)", self._mask_chosen),
            self.apply_button.connect("clicked()", self.apply),
            self.cancel_button.connect("clicked()", self.cancel),
            self.folder_button.connect("clicked()", self._choose_folder),
        )
        assert all(connected)

    # What the user does

    def detect(self) -> None:
        """Choose inputs by what the scene says of its volumes."""
        self._choose_among(inputs.volumes_of_scene())

    def _choose_among(self, volumes: list) -> None:
        state = self._state()
        if state is None or self._task is None:
            return
        found = inputs.choose(self._task, volumes)
        for channel in self._task.channels:
            choice = found.get(channel.name)
            state.set_channel(channel.name, choice.volume if choice else None)
            self._why[channel.name] = choice.why if choice else ""
        self._leave_other_result(state)
        self.update()

    def try_it(self) -> None:
        """Load the made-up case, and choose the model for it."""
        self.try_button.enabled = False
        self._jobs.do(demonstration.load(), self._loaded_demonstration)

    def _loaded_demonstration(self, error: Exception | None) -> None:
        self.try_button.enabled = True
        state = self._state()
        if error is not None or state is None:
            self.message.fail(
                _("The made-up case could not be loaded: {error}.").format(error=error)
            )
            return
        state.model = str(demonstration.MODEL)
        self.read_models()
        # From this case's volumes only: a patient may be in the scene as well.
        self._choose_among(demonstration.volumes())
        self.message.say(_("A made-up case is loaded. Apply segments it."))

    def apply(self) -> None:
        """Segment what is chosen."""
        state = self._state()
        if state is None or self._hindrances():
            return
        chosen = self._chosen(state)
        days = inputs.dates(chosen)
        if len(days) > 1 and not self._ask(
            _("The volumes are of {count} days ({days}). Segment them together?").format(
                count=len(days), days=", ".join(days)
            )
        ):
            return
        forecast = self._expected(state)
        is_long = forecast is not None and forecast.seconds > _LONG_SECONDS
        if is_long and not self._ask(
            (
                _("This may take up to {time} on this machine. Begin?")
                if forecast.is_bound
                else _("This will take about {time} on this machine. Begin?")
            ).format(time=_duration(forecast.seconds))
        ):
            return
        output = self._output_for(state, chosen)
        if output is False:
            return
        self.message.clear()
        with self.message.errors_shown():
            self.segmenting = Segmenting(
                self._jobs,
                state.model,
                chosen,
                new_job_folder(),
                output=output,
                options=self.options.chosen(),
                on_progress=self._progressed,
                on_shown=self._shown,
                on_end=self._ended,
            )
            self.segmenting.start()
        self.update()

    def cancel(self) -> None:
        """End the segmentation that is going on."""
        for work in (self.segmenting, self.folder_run):
            if work is not None:
                work.cancel()

    @property
    def is_running(self) -> bool:
        """Whether a case or a folder is being segmented."""
        works = (self.segmenting, self.folder_run)
        return any(work is not None and not work.is_ended for work in works)

    def segment_folder(self, cases: str, out: str) -> None:
        """Segment all cases of a folder, in a process of its own.

        Args:
            cases: Folder of cases, as `predict --cases` takes it.
            out: Folder for the results.
        """
        state = self._state()
        if state is None or self._hindrance() or self._task is None:
            return
        words = ["predict", "--model", state.model, "--cases", cases, "--out", out]
        words += ["--maps", "all", "--device", self.options.chosen().device]
        words += ["--overlap", f"{self.options.chosen().overlap:g}"]
        if self.options.chosen().passes:
            words += ["--passes", str(self.options.chosen().passes)]
        self.message.clear()
        with self.message.errors_shown():
            self.folder_run = FolderRun(
                self._jobs, words, Path(out), self._progressed, self._folder_ended
            )
        self.update()

    # What the panel tells

    def enter(self) -> None:
        """Read models and scene anew, and go on where the user has left."""
        self.read_models()
        self.scene_changed()

    def exit(self) -> None:
        """Show the result itself, which other modules want to edit."""
        state = self._state()
        if state is not None:
            self.results.overlays.let_edit(state.result)

    def scene_closes(self) -> None:
        """Leave the nodes alone; a job goes on, and its result stays on the disk."""
        self.results.overlays.forget()
        self._model_note = ""
        if self.segmenting is not None:
            self.segmenting.leave_scene(_("The scene was closed."))

    def nodes_move(self) -> None:
        """Believe no selector until `scene_changed`: what was chosen stays so.

        A selector whose node goes shows a neighbour, and none after an import.
        """
        self._do_nodes_move = True

    def scene_changed(self) -> None:
        """Show what the scene says."""
        state = self._state()
        if state is None:
            return
        self._do_nodes_move = False
        is_listed = self.model_box.findData(state.model) >= 0
        if not is_listed or (state.model_sha256 or None) != self._model_sha256:
            # A new scene, or one from another machine.
            self.read_models()
        self._select_model(state.model)
        if self._task is not None and not self._chosen(state):
            self.detect()
        if state.result is not None:
            # One that nobody has chosen here came with a scene, closed before or not.
            is_from_file = state.result is not self.results.overlays.result
            self.results.show(state.overlay, from_file=is_from_file)
        else:
            # The result was removed: nothing of it stays drawn.
            self.results.overlays.show(None, overlays.OFF)
        self.update()

    def cleanup(self) -> None:
        """Put the views back, and let go of the scene."""
        if not slicer.mrmlScene.IsClosing():
            self.results.overlays.show(None, overlays.OFF)
        if self.folder_run is not None:
            self.folder_run.close()
        # Selectors that live on for a moment must not write into the state.
        self._is_closed = True
        for box in (*self.channel_boxes.values(), self.output_box, self.options.mask_box):
            box.setMRMLScene(None)
        self.results.let_go()

    def read_models(self) -> None:
        """List the registered models; the chosen one stays, else the default is taken."""
        state = self._state()
        if state is None:
            return
        self._is_updating = True
        self.model_box.clear()
        models = [one for one in registry.registered_models() if one.problem is None]
        for one in models:
            self.model_box.addItem(one.name, one.name)
        names = [one.name for one in models]
        if demonstration.is_demonstration(state.model):
            state.model = str(demonstration.MODEL)
            self.model_box.addItem(_("Demonstration only (made-up brains)"), state.model)
            names.append(state.model)
        self._find_model_of_scene(state, {one.name: identity(one.folder) for one in models})
        default = next((one.name for one in models if one.is_default), names[0] if names else "")
        if state.model not in names:
            state.model = default
        self._is_updating = False
        self._read_name = None
        self._select_model(state.model)
        self.update()

    def update(self) -> None:
        """Show state and scene in all widgets."""
        state = self._state()
        if state is None:
            return
        self._is_updating = True
        try:
            for name, box in self.channel_boxes.items():
                box.setCurrentNode(state.channel(name))
                box.toolTip = self._why.get(name) or _("Choose the volume for {channel}.").format(
                    channel=name
                )
            self.output_box.setCurrentNode(state.output)
            self.options.mask_box.setCurrentNode(state.mask)
            self.results.update()
        finally:
            self._is_updating = False
        self.notes.text = "\n".join(inputs.notes(self._chosen(state)))
        self.notes.visible = bool(self.notes.text)
        hindrances = self._hindrances()
        self.apply_button.enabled = not hindrances
        self.apply_button.toolTip = "\n".join(hindrances) or _("Segment the chosen volumes.")
        self.estimate.text = self._forecast(state)
        self.estimate.visible = self.apply_button.enabled
        without_inputs = [one for one in (self._hindrance(), self._busy(), self._no_model()) if one]
        enable(
            self.folder_button,
            "\n".join(without_inputs),
            _("Segment all cases of a folder; results go to another folder."),
        )
        self.cancel_button.visible = self.is_running
        self.progress.visible = self.is_running
        self.progress_words.visible = self.is_running
        self.detect_button.enabled = self._task is not None

    # Inner workings

    def _find_model_of_scene(self, state: State, registered: dict[str, str]) -> None:
        """Choose the model that the scene was made with, whatever its name is here."""
        wanted = state.model_sha256
        if not (wanted and state.model) or demonstration.is_demonstration(state.model):
            return
        if registered.get(state.model) != wanted:
            same = [name for name, sha256 in registered.items() if sha256 == wanted]
            if same:
                state.model = same[0]
            else:
                self._model_note = _(
                    "The model of this scene ({name}) is not registered here."
                ).format(name=state.model)
                if registered:
                    self._model_note += " " + _("What is chosen now is another one.")

    def _expected(self, state: State) -> Estimate | None:
        chosen = self._chosen(state)
        reference = next(iter(chosen.values()), None)
        if self._model_sha256 is None or reference is None or reference.GetImageData() is None:
            return None
        options = self.options.chosen()
        kind = Kind(
            model=self._model_sha256,
            device=options.device,
            overlap=options.overlap,
            passes=options.passes,
            probabilities=options.probabilities,
        )
        size = reference.GetImageData().GetDimensions()
        return expected(kind, math.prod(size)) or bound(kind, size, reference.GetSpacing())

    def _forecast(self, state: State) -> str:
        found = self._expected(state)
        if found is None:
            return _("Time and memory are known after Setup's self-test, or the first case.")
        if found.is_bound:
            said = _(
                "At most about {time} and {memory:.1f} GB of memory, by one window of this model; "
                "often much less."
            )
        else:
            said = _("About {time} and {memory:.1f} GB of memory, as the last such case here.")
        said = said.format(time=_duration(found.seconds), memory=found.peak_mb / 1000)
        if self._jobs.is_warm:
            return said
        return said + " " + _("The worker's start comes on top: some seconds.")

    def _hindrances(self) -> list[str]:
        state = self._state()
        found = []
        worker = self._hindrance()
        if worker:
            found.append(worker)
        if self._busy():
            found.append(self._busy())
        if self._task is None:
            found.append(self._no_model())
        elif state is not None:
            mask = self.options.chosen().mask
            found += inputs.hindrances(self._task, self._chosen(state), mask)
            if (state.output is not None) and scene.is_overlay(state.output):
                found.append(
                    _("{name} is an overlay. Choose another output.").format(
                        name=state.output.GetName()
                    )
                )
            if self._is_of_another_volume(state):
                found.append(
                    _("{name} is the result of another volume. Choose another output.").format(
                        name=state.output.GetName()
                    )
                )
        return found

    def _is_of_another_volume(self, state: State) -> bool:
        """Return whether the output is a result, and of another reference than the chosen one."""
        reference = next(iter(self._chosen(state).values()), None)
        output = state.output
        if output is None or reference is None or output.GetAttribute(scene.ROLE) != "segmentation":
            return False
        return scene.reference_node(output) is not reference

    def _leave_other_result(self, state: State) -> None:
        """Let a second time point, or the next patient, never replace the first one's result."""
        if self._is_of_another_volume(state):
            state.output = None

    def _busy(self) -> str:
        return _("A segmentation is going on.") if self.is_running else ""

    def _no_model(self) -> str:
        if self._task is not None:
            return ""
        return _("There is no model. Import one under Models, or train one.")

    def _chosen(self, state: State) -> dict[str, object]:
        names = [one.name for one in self._task.channels] if self._task else []
        return dict(state.channels(names))

    def _output_for(self, state: State, chosen: dict[str, object]):
        """Return the node to write to, None for a new one, or False if the user says no."""
        output = state.output
        if output is None:
            reference = next(iter(chosen.values()))
            for former in scene.results_of(reference):
                if not scene.is_edited(former):
                    return former
            return None
        is_ours = output.GetAttribute(scene.ROLE) == "segmentation"
        is_empty = output.GetSegmentation().GetNumberOfSegments() == 0
        if is_empty or (is_ours and not scene.is_edited(output)):
            return output
        question = _(
            "{name} holds what somebody has drawn or changed. Replace it by the new result?"
        ).format(name=output.GetName())
        return output if self._ask(question) else False

    def _select_model(self, name: str) -> None:
        index = self.model_box.findData(name)
        self._is_updating = True
        self.model_box.setCurrentIndex(index)
        self._is_updating = False
        self._read_task(name if index >= 0 else "")

    def _read_task(self, name: str) -> None:
        if name == self._read_name:
            return
        self._read_name = name
        task, line = None, _("No model is registered.")
        self._model_sha256 = None
        if name:
            try:
                manifest = manifest_of(name)
                task, line = task_from_json(manifest["task"], name), short_line(manifest)
                self._model_sha256 = identity_of(name)
                if demonstration.is_demonstration(name):
                    line = _("For made-up brains only, not for patients.") + " " + line
            except SemiSupSegError as error:
                line = str(error)
        state = self._state()
        if state is not None and self._model_sha256:
            state.model_sha256 = self._model_sha256
        self.model_line.text = "\n".join(part for part in (self._model_note, line) if part)
        if task != self._task:
            self._task = task
            self._build_inputs()

    def _build_inputs(self) -> None:
        for box in self.channel_boxes.values():
            self._form.removeRow(box)
        self.channel_boxes, self._why = {}, {}
        first = 2  # after the model and its line
        for row, channel in enumerate(self._task.channels if self._task else (), start=first):
            box = node_box(
                "vtkMRMLScalarVolumeNode",
                _("Choose a volume") if channel.required else _("None (the model can do without)"),
            )
            box.connect(
                "currentNodeChanged(vtkMRMLNode*)",
                lambda node, name=channel.name: self._channel_chosen(name, node),
            )
            self._form.insertRow(row, channel.name + ":", box)
            self.channel_boxes[channel.name] = box
        state = self._state()
        if state is not None and self._task is not None and not self._chosen(state):
            self.detect()

    def _model_chosen(self, index: int) -> None:
        state = self._state()
        if self._is_updating or state is None or index < 0:
            return
        state.model = self.model_box.itemData(index)
        self._model_note = ""
        self._read_task(state.model)
        self.update()

    def _channel_chosen(self, name: str, node) -> None:
        state = self._state()
        if not self._is_by_hand or state is None:
            return
        if state.channel(name) is node:
            return  # It was renamed.
        state.set_channel(name, node)
        self._why[name] = _("Chosen by hand.") if node is not None else ""
        self._leave_other_result(state)
        self.update()

    def _output_chosen(self, node) -> None:
        state = self._state()
        if self._is_by_hand and state is not None:
            state.output = node
            self.update()

    def _mask_chosen(self, node) -> None:
        state = self._state()
        if self._is_by_hand and state is not None:
            state.mask = node
            self.update()

    @property
    def _is_by_hand(self) -> bool:
        """Whether what a selector tells now is what somebody has chosen."""
        return not (self._is_updating or self._is_closed or self._do_nodes_move)

    def _progressed(self, progress: Progress) -> None:
        # Beside the bar: one without an end shows no text.
        self.progress.visible = True
        if progress.share is None:
            self.progress.setRange(0, 0)
        else:
            self.progress.setRange(0, 1000)
            self.progress.value = round(1000 * progress.share)
        left = ""
        if progress.seconds_left is not None:
            left = _(", {seconds:.0f} s left").format(seconds=progress.seconds_left)
        self.progress_words.text = progress.what + left
        self.progress_words.visible = True
        if progress.warnings:
            self.message.mind("\n".join(progress.warnings))

    def _shown(self, segmentation) -> None:
        state = self._state()
        if state is not None:
            state.result = state.output = segmentation
            self.results.show(overlays.CONTOURS)
            self.update()
            self.on_result()

    def _ended(self, outcome: Outcome) -> None:
        if outcome.is_cancelled:
            self.message.say(_("Cancelled. Nothing was changed."))
        elif outcome.error:
            self.message.fail(outcome.error, outcome.log)
        else:
            self._tell_of(outcome)
        self.update()
        self.on_result()

    def _tell_of(self, outcome: Outcome) -> None:
        unlike = outcome.content.get("unlike_training") or {}
        said = [*outcome.content.get("warnings", ()), *unlike.get("reasons", ())]
        if unlike.get("reasons"):
            said.insert(0, _("This case is unlike the cases that the model was tried on."))
        if outcome.note:
            said.insert(0, outcome.note)
        details = "\n".join(outcome.content.get("notes", ()))
        if said:
            self.message.mind("\n".join(said), details)
        else:
            self.message.say(_("Done. Research use only: look at the doubtful regions."), details)

    def _folder_ended(self, text: str, error: str, log: str) -> None:
        if error:
            self.message.fail(error, log)
        else:
            self.message.say(text, log)
        self.update()

    def _choose_folder(self) -> None:
        cases = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder of cases"))
        out = cases and qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(), _("Folder for the results")
        )
        if out:
            self.segment_folder(cases, out)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return _("{seconds:.0f} s").format(seconds=seconds)
    return _("{minutes:.0f} min").format(minutes=seconds / 60)
