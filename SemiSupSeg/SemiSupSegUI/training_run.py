"""A run that is followed: how far it is, what it has learnt, and what can be wished of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.workers.followed_run import FollowedRun
from SemiSupSegLib.workers.run_view import RunView
from SemiSupSegUI.jobs import Jobs
from SemiSupSegUI.live_plots import LivePlots, percent
from SemiSupSegUI.message import Message
from SemiSupSegUI.section import enable, push_button, readable, wrapped_label
from SemiSupSegUI.stage_case import StageCase

_SETTING = "SemiSupSeg/TrainingRun"
_STEPS = 1000
_SILENT_SECONDS = 20.0
_LISTEN_MS = 1000
_ROW_PIXELS = 22
_LIVE = ("waiting", "running", "paused", "foreign-host-silent")


class TrainingRun:
    """Follows one run at a time; it goes on when the panel or Slicer is closed.

    Args:
        jobs: Starts the run, and the process that watches its folder.
        ask: Puts a question to the user, who says yes or no.
        on_change: Told when the run has begun, gone on or ended.
        stage_case: Opens a stage's case in the scene.
        hindrance: Returns why no worker can run, or an empty text.
    """

    def __init__(
        self,
        jobs: Jobs,
        ask: Callable[[str], bool],
        on_change: Callable[[], None],
        stage_case: StageCase,
        hindrance: Callable[[], str],
    ) -> None:
        self._hindrance = hindrance
        self._jobs, self._ask, self._on_change = jobs, ask, on_change
        self.message = Message()
        """Below the buttons of the run."""
        self._run: FollowedRun | None = None
        self._is_silence_told = False
        self._is_filling = False
        self._is_case_chosen = False
        """Whether a person has chosen a stage's case, rather than the newest stage being shown."""
        self._offered: dict[str, tuple[int, str]] = {}
        """Stage and case that an entry of the list means, by the entry's data."""
        self._listening = qt.QTimer()
        self._listening.setInterval(_LISTEN_MS)
        assert self._listening.connect("timeout()", self._listen)
        self.plots = LivePlots()
        self.stage_case = stage_case
        self._build()
        self.update()

    def _build(self) -> None:
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.status = wrapped_label()
        self.status.textInteractionFlags = qt.Qt.TextSelectableByMouse
        layout.addWidget(self.status)
        self.progress_bar = qt.QProgressBar()
        self.progress_bar.setRange(0, _STEPS)
        layout.addWidget(self.progress_bar)
        self.device = wrapped_label()
        layout.addWidget(self.device)
        self.pause_button = push_button(_("Pause"), self.pause_or_resume)
        self.stop_button = push_button(_("Stop after this step"), self.stop)
        self.resume_button = push_button(_("Resume"), self.resume)
        self.plots_button = push_button(_("Curves"), self.toggle_plots)
        self.plots_button.checkable = True
        grid = qt.QGridLayout()
        for at, button in enumerate(
            (self.pause_button, self.stop_button, self.resume_button, self.plots_button)
        ):
            grid.addWidget(button, at // 2, at % 2)
        layout.addLayout(grid)
        layout.addWidget(self.message.widget)
        self.stages = qt.QTableWidget()
        titles = [_("Stage"), _("Cases"), _("Trusted"), _("Ignored"), _("Unlearned")]
        self.stages.columnCount = len(titles)
        self.stages.setHorizontalHeaderLabels(titles)
        self.stages.verticalHeader().visible = False
        self.stages.verticalHeader().setDefaultSectionSize(_ROW_PIXELS)
        self.stages.editTriggers = qt.QAbstractItemView.NoEditTriggers
        self.stages.selectionMode = qt.QAbstractItemView.NoSelection
        self.stages.setMaximumHeight(190)
        self.stages.toolTip = _(
            "Of all voxels of a stage's cases, background included. Trusted: the student learns "
            "the pseudo-label, in the first stage where the teacher's probability, lowered where "
            "it is unsure, is high enough; later, with less weight, also where teacher and student "
            "differ. The others are doubtful: it leaves them out, or unlearns them."
        )
        layout.addWidget(self.stages)
        self.stage_note = wrapped_label()
        layout.addWidget(self.stage_note)
        self.case_box = qt.QComboBox()
        self.case_box.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self.case_box.toolTip = _(
            "The most, the median and the least trusted pseudo-labelled case of each stage."
        )
        assert self.case_box.connect("currentIndexChanged(int)", self._case_chosen)
        layout.addWidget(self.case_box)
        self.open_case_button = push_button(_("Open in the scene"), self.open_case)
        self.exclude_button = push_button(_("Leave out of the next stages"), self.exclude_case)
        row = qt.QHBoxLayout()
        row.addWidget(self.open_case_button)
        row.addWidget(self.exclude_button)
        layout.addLayout(row)
        layout.addWidget(self.stage_case.message.widget)
        self.warnings = wrapped_label()
        layout.addWidget(self.warnings)

    @property
    def folder(self) -> Path | None:
        """The run folder that is followed."""
        return None if self._run is None else self._run.folder

    @property
    def view(self) -> RunView:
        """What is known of the run."""
        return RunView() if self._run is None else self._run.view

    @property
    def request(self) -> Mapping[str, Any] | None:
        """What the run was asked for, with the split it has; None as long as it is not known."""
        return None if self._run is None else self._run.request

    @property
    def status_name(self) -> str:
        """The run's status, or an empty text."""
        return "" if self._run is None else self.view.status

    @property
    def is_live(self) -> bool:
        """Whether a process works on the run, as far as is known."""
        return self.status_name in _LIVE

    @property
    def remembered(self) -> Path | None:
        """The run that was followed last, also in an earlier session."""
        text = str(slicer.app.userSettings().value(_SETTING, "") or "")
        return Path(text) if text else None

    def restore(self) -> None:
        """Follow the run that was followed last, if none is."""
        if self._run is None and self.remembered is not None:
            self.follow(self.remembered)

    def follow(self, folder: str | Path, words: Sequence[str] | None = None) -> None:
        """Look at a run, or start it with the words of a command."""
        self.leave()
        self.message.clear()
        if not self.stage_case.is_running:
            self.stage_case.message.clear()
        with self.message.errors_shown():
            self._run = self._jobs.follow(Path(folder), words, self._changed)
            slicer.app.userSettings().setValue(_SETTING, str(folder))
        self._is_silence_told = False
        self._listening.start()
        self.update()

    def leave(self) -> None:
        """Look no longer; the run goes on."""
        self._listening.stop()
        if self._run is not None:
            self._run.leave()
            self._run = None
            self.plots.leave()
            self.plots.clear()
            self._is_case_chosen = False

    def pause_or_resume(self) -> None:
        """Let the run wait, or go on after a pause."""
        if self._run is not None:
            self._run.wish("resume" if self.status_name == "paused" else "pause")
        self.update()

    def stop(self) -> None:
        """Let the run end after a checkpoint; it can go on later."""
        if self._run is not None:
            self._run.wish("stop")
        self.update()

    def resume(self) -> None:
        """Let a run that stopped, failed or died go on from its last checkpoint."""
        if self._run is not None:
            self.message.clear()
            self._run.wish("resume")
        self.update()

    def toggle_plots(self) -> None:
        """Show the curves, or what was shown before them."""
        if self.plots.is_visible:
            self.plots.leave(is_wished=True)
        elif self._run is not None:
            self.plots.show(self.view)
            self.plots.enter()
        self.update()

    def open_case(self) -> None:
        """Bring the chosen pseudo-labelled case into the scene; the run goes on meanwhile."""
        chosen = self._chosen_case()
        if self.folder is not None and chosen is not None:
            self.stage_case.start(self.folder, *chosen)
        self.update()

    def exclude_case(self) -> None:
        """Leave the chosen case out of the stages to come."""
        chosen = self._chosen_case()
        if self._run is None or chosen is None:
            return
        case = chosen[1]
        question = _("Leave {case} out of all stages to come?").format(case=case)
        if self._ask(readable(question)):
            self._run.exclude([case])
        self.update()

    def update(self) -> None:
        """Show the run as it is known, enable what can be done, and say why the rest cannot."""
        view, none = self.view, _("No run is followed.")
        self.status.text = none if self._run is None else status_text(view, str(self.folder))
        self.progress_bar.visible = self.is_live
        share = view.finished / view.planned if view.planned else 0.0
        self.progress_bar.value = int(_STEPS * min(1.0, share))
        self.device.text = device_text(view)
        self.device.visible = bool(self.device.text)
        self._show_buttons(none)
        self._show_stages()
        self._show_cases(none)
        warnings = list(view.warnings)[-3:]
        self.warnings.text = readable("\n".join(f"\u26a0 {one}" for one in warnings))
        self.warnings.visible = bool(warnings)

    def scene_closes(self) -> None:
        """Nodes are about to go; no case comes into the next scene."""
        self.stage_case.cancel()
        self.plots.leave()
        self.plots.forget()

    def close(self) -> None:
        """The panel goes; the run goes on."""
        self.stage_case.cancel()
        self.leave()

    def _changed(self, run: FollowedRun) -> None:
        if run is not self._run:
            return
        if self.plots.is_visible:
            self.plots.show(run.view)
        self.update()
        self._on_change()

    def _listen(self) -> None:
        """Say so if the folder does not answer, which no change of the run tells."""
        run = self._run
        if run is None:
            return
        silent = run.silent_seconds > _SILENT_SECONDS
        if silent and not self._is_silence_told:
            self.message.mind(
                _("{folder} does not answer. The run may well go on.").format(folder=run.folder)
            )
        elif self._is_silence_told and not silent:
            self.message.say(_("{folder} answers again.").format(folder=run.folder))
        self._is_silence_told = silent

    def _show_buttons(self, none: str) -> None:
        status, live = self.status_name, self.is_live
        not_live = none if self._run is None else ("" if live else _("The run does not go on now."))
        self.pause_button.text = _("Go on") if status == "paused" else _("Pause")
        enable(
            self.pause_button,
            not_live,
            _("Let the run wait; a GPU's memory is free meanwhile."),
        )
        enable(self.stop_button, not_live, _("It writes a checkpoint first; Resume goes on."))
        done = {
            "finished": _("The run is finished."),
            "missing": _("There is no run in this folder."),
        }.get(status, "")
        enable(
            self.resume_button,
            (none if self._run is None else "")
            or done
            or (_("The run goes on.") if live else "")
            or self._hindrance(),
            _("Go on from the last checkpoint."),
        )
        enable(
            self.plots_button,
            none if self._run is None and not self.plots.is_visible else "",
            _("Losses, Dice on validation and trust, in a layout of their own."),
        )
        self.plots_button.checked = self.plots.is_visible

    def _show_stages(self) -> None:
        stages = self.view.stages
        self.stages.visible = bool(stages)
        if self.stages.rowCount != len(stages):
            self.stages.rowCount = len(stages)
            self.stages.resizeColumnsToContents()
        for row, one in enumerate(stages):
            cells = (
                str(one["stage"]),
                str(one["cases"]),
                *(percent(one["shares"][what]) for what in ("accepted", "ignored", "unlearned")),
            )
            for column, text in enumerate(cells):
                item = self.stages.item(row, column)
                if item is None:
                    self.stages.setItem(row, column, qt.QTableWidgetItem(text))
                elif item.text() != text:
                    item.setText(text)
        notes = [one["note"] for one in stages if one["note"]]
        self.stage_note.text = notes[-1] if notes else ""
        self.stage_note.visible = bool(notes)

    def _show_cases(self, none: str) -> None:
        stages = self.view.stages
        self._offered = {}
        offered = []
        for one in reversed(stages):
            for shown in one["shown"]:
                title = _("Stage {stage}, {rank} trusted: {case}").format(
                    stage=one["stage"], rank=shown["rank"], case=shown["case"]
                )
                data = readable(f"{one['stage']} {shown['case']}")
                offered.append((readable(title), data))
                self._offered[data] = (int(one["stage"]), str(shown["case"]))
        former = [self.case_box.itemData(at) for at in range(self.case_box.count)]
        if former != [data for _title, data in offered]:
            chosen = self.case_box.currentData
            self._is_filling = True
            self.case_box.clear()
            for title, data in offered:
                self.case_box.addItem(title, data)
            at = self.case_box.findData(chosen) if self._is_case_chosen else 0
            self.case_box.setCurrentIndex(max(0, at))
            self._is_filling = False
        self.case_box.visible = bool(offered)
        why_not = none if self._run is None else ("" if offered else _("No stage has begun yet."))
        chosen = self._chosen_case()
        is_out = chosen is not None and chosen[1] in self.view.excluded
        busy = _("A case is being opened.") if self.stage_case.is_running else ""
        enable(
            self.open_case_button,
            why_not or busy or self.stage_case.why_not,
            _("Segmentation, pseudo-label and all maps, while the run goes on."),
        )
        enable(
            self.exclude_button,
            why_not
            or (_("It is left out of the stages to come.") if is_out else "")
            or ("" if self.is_live else _("The run does not go on now.")),
            _("If its pseudo-label looks wrong, the student should not learn from it."),
        )

    def _chosen_case(self) -> tuple[int, str] | None:
        """Return stage and case of what is chosen in the list of cases; None: there is none."""
        return self._offered.get(self.case_box.currentData or "")

    def _case_chosen(self, _index: int) -> None:
        if not self._is_filling:
            self._is_case_chosen = True
            self._show_cases(_("No run is followed."))


def status_text(view: RunView, folder: str) -> str:
    """Return in words where a run stands and what a person can do about it."""
    words = {
        "waiting": _("The run prepares itself"),
        "running": _("The run goes on"),
        "paused": _("Paused"),
        "stopped": _("Stopped"),
        "failed": _("The run has failed"),
        "finished": _("Finished"),
        "dead": _("The run's process is gone"),
        "missing": _("There is no run"),
        "foreign-host-silent": _("The computer that the run is on says nothing"),
    }
    text = words[view.status]
    if view.status in _LIVE:
        if view.phase_title:
            text += f": {view.phase_title}"
        if view.planned:
            text += f", {100 * view.finished // view.planned:.0f}%"
        if view.seconds_left is not None and view.status == "running":
            text += ", " + time_text(view.seconds_left)
    lines = [text + ".", folder, view.error, view.what_to_do, view.refused]
    if view.is_locked_by:
        lines.append(_("It was not started from this panel: {who}.").format(who=view.is_locked_by))
    return "\n".join(one for one in lines if one)


def time_text(seconds: float) -> str:
    """Return in words how much time is left."""
    if seconds < 90:
        return _("{seconds:.0f} s left").format(seconds=seconds)
    if seconds < 5400:
        return _("{minutes:.0f} min left").format(minutes=seconds / 60)
    return _("{hours:.1f} h left").format(hours=seconds / 3600)


def device_text(view: RunView) -> str:
    """Return in words what a run takes of its device."""
    device = view.device
    if not device or view.status not in _LIVE:
        return ""
    text = _("{name}: {used:.1f} of {total:.0f} GB of memory").format(
        name=device["name"],
        used=device["memory_bytes"] / 1e9,
        total=device["memory_total_bytes"] / 1e9,
    )
    if device["utilisation"] is not None:
        text += _(", {share:.0%} busy").format(share=device["utilisation"])
    return text
