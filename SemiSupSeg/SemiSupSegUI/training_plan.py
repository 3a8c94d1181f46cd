"""How a run is to be carried out: preset, method, options, what it will take, and its command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.files import write_json
from SemiSupSegLib.models.registry import user_data_folder
from SemiSupSegLib.workers.runner import Job
from SemiSupSegUI.command_job import Ended, run_command
from SemiSupSegUI.jobs import Jobs, new_job_folder
from SemiSupSegUI.message import Message
from SemiSupSegUI.run_options import RunOptions
from SemiSupSegUI.section import enable, folder_row, offer_gpus, push_button, wrapped_label
from SemiSupSegUI.training_cases import TrainingCases
from SemiSupSegUI.worker import terminal_command

_WAIT_MS = 600
"""So long after the last change a plan is made anew."""
_LONG_SECONDS = 12 * 3600.0
_GB = 1e9


class TrainingPlan:
    """Makes a plan of what is chosen, and starts it.

    Args:
        jobs: Makes plans in a worker.
        ask: Puts a question to the user, who says yes or no.
        cases: What is learnt from.
        hindrance: Returns why no worker can run, or an empty text.
        start: Called with the run folder and the words of the command.
    """

    def __init__(
        self,
        jobs: Jobs,
        ask: Callable[[str], bool],
        cases: TrainingCases,
        hindrance: Callable[[], str],
        start: Callable[[Path, list[str]], None],
    ) -> None:
        self._jobs, self._ask, self._cases = jobs, ask, cases
        self.message = Message()
        """Below Start."""
        self._hindrance, self._start = hindrance, start
        self._job: Job | None = None
        self._asked: tuple[str, ...] = ()
        """The words of the plan that is being made or is there; empty: none was made since."""
        self.plan: Mapping[str, Any] | None = None
        """What a worker has found; None: nothing yet, or it was about other wishes."""
        self._error = ""
        self._split_file: Path | None = None
        self._is_own_out = False
        self._is_filling = False
        self._is_method_new = False
        """Whether options were changed that another method may not have."""
        self._wanted: Mapping[str, Any] | None = None
        """A run's request that is taken over when it is known what there is to choose."""
        self._started = ""
        """The run folder that was given away last; it may not be there yet."""
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_WAIT_MS)
        assert self._timer.connect("timeout()", self.make)
        self._build()

    def _build(self) -> None:
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        form = qt.QFormLayout()
        self.preset_box = _box(_("How thoroughly it is trained."))
        self.method_box = _box(_("What is done with labelled and unlabelled cases."))
        self.device_box = _box(_("Where the networks are trained."))
        for title, name in ((_("Best available"), "auto"), (_("CPU"), "cpu")):
            self.device_box.addItem(title, name)
        self.iterations_box = qt.QSpinBox()
        self.iterations_box.setRange(0, 10_000_000)
        self.iterations_box.singleStep = 100
        self.iterations_box.specialValueText = _("as the preset has it")
        self.iterations_box.toolTip = _("Optimizer updates of all phases together.")
        self.seed_box = qt.QSpinBox()
        self.seed_box.setRange(0, 2**31 - 1)
        self.seed_box.toolTip = _("Another number draws other patches; the same gives the same.")
        form.addRow(_("Preset:"), self.preset_box)
        form.addRow(_("Method:"), self.method_box)
        form.addRow(_("Device:"), self.device_box)
        form.addRow(_("Iterations:"), self.iterations_box)
        form.addRow(_("Seed:"), self.seed_box)
        layout.addLayout(form)
        self.options = RunOptions(self.changed)
        layout.addWidget(self.options.widget)
        form = qt.QFormLayout()
        self.out_edit = folder_row(form, _("Run folder:"), self._out_edited)
        self.out_edit.toolTip = _("A new folder for the run. It may lie on a share.")
        self.command_edit = qt.QLineEdit()
        self.command_edit.readOnly = True
        self.command_edit.toolTip = _("The command that starts the same run on a terminal.")
        self.copy_button = qt.QToolButton()
        self.copy_button.text = _("Copy")
        self.copy_button.toolTip = _("Copy the command.")
        row = qt.QHBoxLayout()
        row.addWidget(self.command_edit)
        row.addWidget(self.copy_button)
        form.addRow(_("Command:"), row)
        layout.addLayout(form)
        self.estimate = wrapped_label()
        layout.addWidget(self.estimate)
        self.start_button = push_button(_("Start"), self.start)
        layout.addWidget(self.start_button)
        layout.addWidget(self.message.widget)
        connected = [
            *(
                box.connect("currentIndexChanged(int)", self._method_chosen)
                for box in (self.preset_box, self.method_box)
            ),
            self.device_box.connect("currentIndexChanged(int)", self.changed),
            self.iterations_box.connect("valueChanged(int)", self.changed),
            self.seed_box.connect("valueChanged(int)", self.changed),
            self.copy_button.connect("clicked()", self.copy_command),
        ]
        assert all(connected)

    @property
    def is_planning(self) -> bool:
        """Whether a plan is being made, or soon will be."""
        return self._timer.active or (self._job is not None and not self._job.is_ended)

    @property
    def words(self) -> list[str]:
        """The words of `train`, without its name and without `--out`."""
        words = list(self._cases.words)
        for option, value in (
            ("--preset", self.preset_box.currentData),
            ("--method", self.method_box.currentData),
            ("--iterations", self.iterations_box.value or None),
            ("--seed", self.seed_box.value or None),
            ("--split", self._split_file),
        ):
            if value:
                words += [option, str(value)]
        if self.device_box.currentData != "auto":
            words += ["--device", self.device_box.currentData]
        if self.options.settings:
            words += ["--set", *(f"{key}={text}" for key, text in self.options.settings.items())]
        return words

    def offer_gpus(self, names: Sequence[str]) -> None:
        """Let each of this machine's GPUs be chosen; the chosen device stays."""
        offer_gpus(self.device_box, names)

    def enter(self) -> None:
        """The panel is shown: plan, if that was not done or has failed."""
        is_due = not self._asked or bool(self._error)
        if is_due and not self.is_planning and not self._hindrance():
            self.make()
        self.update()

    def changed(self, *_args: object) -> None:
        """Something was chosen: plan anew, a moment after the last change."""
        if self._is_filling:
            return
        self._timer.start()
        self.update()

    def make(self) -> None:
        """Make a plan of what is chosen; without cases, of presets and options only."""
        self._timer.stop()
        # Whatever was planned is about other wishes.
        self._asked, self.plan, self._error = (), None, ""
        if self._job is not None and not self._job.is_ended:
            self._jobs.cancel(self._job)
        self._job = None
        if self._hindrance():
            self.update()
            return
        is_chosen = self.preset_box.count > 0 and not self._is_method_new
        # First what there is to choose, which is known at once.
        about_cases = not self._cases.why_not and is_chosen
        self.message.clear()
        job = None

        def ended(end: Ended) -> None:
            # Another plan is due if something has changed meanwhile.
            if job is self._job and not self._timer.active:
                self._planned(end, about_cases=about_cases)

        with self.message.errors_shown():
            self._write_split()
            if about_cases:
                self._propose_out()
                words = [*self.words, "--out", self.out_edit.text.strip()]
            else:
                words = ["--options", *self._without_cases()]
            job = self._job = run_command(self._jobs, ["plan", *words], ended, wants_answer=True)
            self._asked = tuple(words)
        self.update()

    def set_out(self, out: str | Path) -> None:
        """Choose the run folder."""
        self.out_edit.text = str(out)
        self._out_edited()

    def start(self) -> None:
        """Start the run as it is planned."""
        if self._why_not_start():
            return
        seconds = self.plan["estimate"]["seconds"] if self.plan else 0.0
        if seconds > _LONG_SECONDS:
            question = _("It will take about {hours:.0f} hours. Start it?")
            if not self._ask(question.format(hours=seconds / 3600)):
                return
        out = self.out_edit.text.strip()
        self._start(Path(out), ["train", *self.words, "--out", out])
        self._is_own_out, self._started = False, out
        self.changed()

    def copy_command(self) -> None:
        """Put the command on the clipboard."""
        slicer.app.clipboard().setText(self.command_edit.text)

    def take_over(self, request: Mapping[str, Any]) -> None:
        """Choose what another run was asked for, but for its folder."""
        if self.preset_box.count == 0:
            self._wanted = request
            return
        self._wanted = None
        self._is_filling = True
        for box, name in ((self.device_box, "device"), (self.preset_box, "preset")):
            if request[name] and box.findData(request[name]) < 0:
                box.addItem(request[name], request[name])
        for box, name in (
            (self.preset_box, "preset"),
            (self.method_box, "method"),
            (self.device_box, "device"),
        ):
            box.setCurrentIndex(max(0, box.findData(request[name] or "")))
        self.iterations_box.value = request["iterations"] or 0
        self.seed_box.value = request["seed"]
        self.options.settings = dict(request["settings"])
        self._is_filling = self._is_method_new = False
        self.changed()

    def update(self) -> None:
        """Show the command and what it takes, and say why it cannot be started."""
        out = self.out_edit.text.strip() or _("RUN")
        command = terminal_command(["train", *self.words, "--out", out])
        # A live run brings this here each second: what is marked in the line stays marked.
        if self.command_edit.text != command:
            self.command_edit.text = command
            self.command_edit.setCursorPosition(0)
        self.estimate.text = self._estimate_text()
        self.estimate.visible = bool(self.estimate.text)
        enable(
            self.start_button,
            self._why_not_start(),
            _("The run goes on when Slicer is closed."),
        )

    def close(self) -> None:
        """The panel goes."""
        self._timer.stop()

    def _planned(self, end: Ended, *, about_cases: bool) -> None:
        if end.error:
            self._error = end.error
            self.update()
            return
        answer = end.answer
        # A plan that is refused tells what was found out until then, perhaps nothing of this.
        if "options" in answer:
            self.options.show(answer["options"])
        if about_cases:
            self.plan = answer
            if not self._cases.is_own_split and "split" in answer:
                self._cases.show_split(answer["split"])
        else:
            self._is_method_new = False
            if self.preset_box.count == 0:
                self._offer(answer)
            if self._wanted is not None:
                self.take_over(self._wanted)
            elif not self._cases.why_not:
                self.changed()
        self.update()

    def _offer(self, answer: Mapping[str, Any]) -> None:
        """Fill the lists of presets and methods, once."""
        self._is_filling = True
        for preset in answer["presets"]:
            if preset["comparison"] and preset["name"] != answer["preset"]:
                # A method is chosen below.
                continue
            # What stands before the colon is its name; the tool tip has all.
            self.preset_box.addItem(preset["title"].partition(":")[0], preset["name"])
            at = self.preset_box.count - 1
            self.preset_box.setItemData(at, preset["title"], qt.Qt.ToolTipRole)
        self.preset_box.setCurrentIndex(max(0, self.preset_box.findData(answer["preset"])))
        self.method_box.addItem(_("The preset's"), "")
        for method in answer["methods"]:
            self.method_box.addItem(method["label"], method["name"])
            at = self.method_box.count - 1
            tip = _("{title}; {paper}; needs {needs}; {passes} forward passes an update").format(
                title=method["title"],
                paper=method["paper"],
                needs=method["needs"],
                passes=method["forward_passes"],
            )
            self.method_box.setItemData(at, tip, qt.Qt.ToolTipRole)
        self._is_filling = False

    def _method_chosen(self, _index: int) -> None:
        if not self._is_filling:
            self._is_method_new = bool(self.options.settings)
            self.changed()

    def _without_cases(self) -> list[str]:
        words = self.words
        del words[: len(self._cases.words)]
        if self._is_method_new and self.options.settings:
            # Options that the method does not have would be refused; all have a network's name.
            del words[words.index("--set") :]
            name = self.options.settings.get("network.name")
            words += ["--set", f"network.name={name}"] if name else []
        return words

    def _write_split(self) -> None:
        """Write down what the user has changed; else the library shares the cases out."""
        if not self._cases.is_own_split or self._cases.why_not:
            self._split_file = None
            return
        folder = new_job_folder()
        self._split_file = folder / "split.json"
        write_json(self._split_file, self._cases.table.split())

    def _propose_out(self) -> None:
        if self._is_own_out and self.out_edit.text.strip():
            return
        runs = user_data_folder() / "runs"
        name = Path(self._cases.folder_edit.text.strip()).name or "run"
        number = 1
        while (runs / f"{name}-{number}").exists() or str(
            runs / f"{name}-{number}"
        ) == self._started:
            number += 1
        self.out_edit.text = str(runs / f"{name}-{number}")

    def _out_edited(self, _text: str = "") -> None:
        self._is_own_out = bool(self.out_edit.text.strip())
        # Whether the disk has room depends on it.
        self.changed()

    def _why_not_start(self) -> str:
        if self._hindrance():
            return self._hindrance()
        if self._cases.why_not:
            return self._cases.why_not
        if self.is_planning:
            return _("The plan is being made.")
        if self.plan is None:
            return self._error or _("There is no plan yet.")
        if self.plan["why_not"]:
            return str(self.plan["why_not"])
        out = self.out_edit.text.strip()
        if not out:
            return _("Choose a run folder.")
        if not Path(out).is_absolute():
            return _(
                "{folder} is no whole path: choose a folder, or write all of its path."
            ).format(folder=out)
        return ""

    def _estimate_text(self) -> str:
        why_not = self._hindrance() or self._cases.why_not
        if why_not:
            return f"\u2192 {why_not}"
        if self.is_planning:
            return _("Measuring what the run will take ...")
        if self._error:
            return f"\u2716 {self._error}"
        if self.plan is None:
            return ""
        text = estimate_text(self.plan)
        if self.plan["why_not"]:
            text = f"\u2716 {self.plan['why_not']}\n{text}".strip()
        return text


def estimate_text(plan: Mapping[str, Any]) -> str:
    """Return in words what a run will take, as far as that was found out."""
    told = plan.get("estimate")
    lines = [] if told is None else _estimate_lines(told, plan["iterations"])
    lines += [f"\u26a0 {one}" for one in plan.get("findings", ())]
    return "\n".join(lines)


def _estimate_lines(told: Mapping[str, Any], iterations: int) -> list[str]:
    lines = []
    if told["seconds"] is not None:
        text = (
            _("{time} on {device}, 1 update")
            if iterations == 1
            else _("{time} on {device}, {iterations} updates")
        )
        lines.append(
            text.format(
                time=duration_text(told["seconds"]),
                device=told["device_name"],
                iterations=iterations,
            )
        )
    room = _("Memory {memory:.1f} GB (free: {free:.0f}), disk {disk:.1f} GB").format(
        memory=told["memory_bytes"] / _GB,
        free=told["free_memory_bytes"] / _GB,
        disk=(told["disk_bytes"] + told["store_bytes"]) / _GB,
    )
    if told["free_disk_bytes"] is not None:
        room += _(" (free: {free:.0f})").format(free=told["free_disk_bytes"] / _GB)
    if told["device_memory_bytes"] is not None:
        room += _("; GPU {memory:.1f} GB (free: {free:.1f})").format(
            memory=told["device_memory_bytes"] / _GB, free=(told["free_device_bytes"] or 0) / _GB
        )
    return [*lines, room]


def duration_text(seconds: float) -> str:
    """Return a time in words, as exactly as it can be foreseen."""
    if seconds < 90:
        return _("About {seconds:.0f} s").format(seconds=seconds)
    if seconds < 5400:
        return _("About {minutes:.0f} min").format(minutes=seconds / 60)
    return _("About {hours:.1f} h").format(hours=seconds / 3600)


def _box(tool_tip: str):
    box = qt.QComboBox()
    box.toolTip = tool_tip
    box.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
    return box
