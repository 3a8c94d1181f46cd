"""One segmentation from volumes in the scene to a result in the scene; needs no widget."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.errors import SemiSupSegError, in_sentences
from SemiSupSegLib.files import read_json
from SemiSupSegLib.models.registry import user_data_folder
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.runs.events import EventKind
from SemiSupSegLib.runs.state import RunStatus
from SemiSupSegLib.workers.job import JobFolder, PredictRequest
from SemiSupSegLib.workers.runner import Job
from SemiSupSegUI import scene
from SemiSupSegUI.exporting import Export
from SemiSupSegUI.jobs import Jobs, Steps, clean_up, log_tail
from SemiSupSegUI.segments import fingerprint
from SemiSupSegUI.tasks import task_of


@dataclass(frozen=True)
class Options:
    """What can be chosen beside model and volumes."""

    device: str = "auto"
    overlap: float = 0.5
    passes: int | None = None
    probabilities: bool = False
    mask: object | None = None
    """Volume node that is not 0 where intensities count."""


@dataclass(frozen=True)
class Progress:
    """How far a segmentation is."""

    what: str
    """In words."""
    share: float | None = None
    """Of the network's work, 0 to 1; None: not known."""
    seconds_left: float | None = None
    warnings: tuple[str, ...] = ()
    """What the worker found in the images before the network began."""


@dataclass(frozen=True)
class Outcome:
    """How a segmentation ended."""

    segmentation: object | None = None
    """Of the result, if it is in the scene."""
    folder: Path | None = None
    """Of the result on the disk, if it is there."""
    error: str = ""
    is_cancelled: bool = False
    content: Mapping | None = None
    """Of `result.json`."""
    note: str = ""
    """What became of the output that was chosen, if the result is not there."""
    log: str = ""
    """Last lines of the worker, for whoever asks."""


class Segmenting:
    """Hands volumes to the worker, follows it, and brings its maps into the scene.

    Args:
        jobs: Drives all of it.
        model: Registered name, or folder of a package.
        volumes: By channel; that of the task's first channel is the reference.
        folder: New, for the job's files.
        output: Segmentation node to write to; None: a new one. What a person changes in it from
            now on is not overwritten: the result is a new one then.
        options: What else was chosen.
        on_progress: Told now and then.
        on_shown: Told when the result is in the scene, which is before it is saved.
        on_end: Told once.

    Raises:
        SemiSupSegError: If the model cannot be read or does not take these channels.
    """

    def __init__(
        self,
        jobs: Jobs,
        model: str,
        volumes: Mapping[str, object],
        folder: Path,
        *,
        output=None,
        options: Options | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_shown: Callable[[object], None] = lambda segmentation: None,
        on_end: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self._jobs = jobs
        self._model = model
        self._task = task_of(model)
        self._volumes = _in_order(volumes, self._task)
        self._folder = JobFolder(folder)
        self._output = output
        self._edition = None if output is None else fingerprint(output)
        self._options = Options() if options is None else options
        self._on_progress, self._on_shown, self._on_end = on_progress, on_shown, on_end
        self._export = Export(self._volumes, folder / "input", self._options.mask)
        self._job: Job | None = None
        self._steps: Steps | None = None
        self._result: scene.Result | None = None
        self._is_shown = False
        self._is_saved = False
        self._is_ended = False
        self._leaves_scene = ""
        self._failure = ""

    def start(self) -> None:
        """Begin; everything else happens at the ticks of `jobs`."""
        self._on_progress(Progress(_("Handing over the volumes")))
        self._steps = self._jobs.do(self._export.steps(), self._exported)

    def cancel(self) -> None:
        """End it within two seconds; `on_end` is told when it has.

        Once the maps are there the network is done, and the result is shown and saved all the
        same: half a result would be worse.
        """
        if self._is_ended or self._result is not None:
            return
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None
        if self._job is None or self._job.is_ended:
            self._end(Outcome(is_cancelled=True))
        else:
            self._on_progress(Progress(_("Stopping")))
            self._jobs.cancel(self._job)

    def leave_scene(self, why: str) -> None:
        """Put nothing into the scene any more: it closes. The result is still written to disk."""
        self._leaves_scene = why
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None
            if self._job is None:
                self._end(Outcome(error=why))
            elif not self._is_shown:
                self._is_shown = True
                self._end_when_all_is_there()

    @property
    def is_ended(self) -> bool:
        """Whether `on_end` was told."""
        return self._is_ended

    def _exported(self, error: Exception | None) -> None:
        self._steps = None
        if error is None:
            try:
                self._hand_over()
            except (SemiSupSegError, OSError) as failure:
                error = failure
        if error is not None:
            self._end(Outcome(error=_say(error)))

    def _hand_over(self) -> None:
        PredictRequest(
            case=self._export.case,
            model=self._model,
            channels=self._export.sources(),
            results=user_data_folder() / "results",
            device=self._options.device,
            overlap=self._options.overlap,
            passes=self._options.passes,
            maps="all",
            probabilities=self._options.probabilities,
            mask=self._export.mask_file,
        ).write(self._folder)
        self._on_progress(Progress(_("Starting the worker")))
        self._job = self._jobs.predict(self._folder.path, self._changed)

    def _changed(self, job: Job) -> None:
        kinds = {event["kind"] for event in job.events}
        if EventKind.MAPS_READY.value in kinds and self._result is None and not self._failure:
            try:
                self._bring_into_scene()
            except (SemiSupSegError, OSError) as failure:
                self._failure = _say(failure)
        if job.is_ended:
            self._job_ended(job)
        elif not self._is_ended and self._steps is None:
            state = job.state
            share = state.finished / state.planned if state.planned else None
            warnings = tuple(
                self._with_names(str(event["message"]))
                for event in job.events
                if event["kind"] == EventKind.WARNING.value
            )
            words = _words(state.phase)
            self._on_progress(Progress(words, share, state.seconds_left, warnings))

    def _job_ended(self, job: Job) -> None:
        if job.state.status is RunStatus.STOPPED or self._result is None:
            if self._steps is not None:
                self._steps.cancel()
                self._steps = None
            stopped = job.state.status is RunStatus.STOPPED
            self._end(
                Outcome(
                    error="" if stopped else self._what_failed(job),
                    is_cancelled=stopped,
                    log=log_tail(self._folder),
                )
            )
            return
        # What can be shown is shown, also if saving it failed.
        self._is_saved = True
        if job.state.status is RunStatus.FAILED:
            self._failure = self._what_failed(job)
        self._end_when_all_is_there()

    def _what_failed(self, job: Job) -> str:
        said = self._failure or job.state.error or _("The worker said nothing.")
        return self._with_names(said)

    def _with_names(self, text: str) -> str:
        """Return what the worker says, with the names of volumes in place of the job's files."""
        names = {}
        for channel, path in self._export.files.items():
            names[str(path)] = names[path.name] = self._volumes[channel].GetName()
        files = "|".join(re.escape(file) for file in sorted(names, key=len, reverse=True))
        return re.sub(rf"(?<!\w)(?:{files})", lambda found: names[found[0]], text)

    def _bring_into_scene(self) -> None:
        content = read_json(self._folder.result_json)
        check_format(content, "job-result", self._folder.result_json)
        content["warnings"] = [self._with_names(one) for one in content.get("warnings", ())]
        reference = next(iter(self._volumes.values()))
        output = self._output
        self._result = scene.Result(
            self._folder.path,
            content,
            self._task,
            self._export.grid_now(),
            reference,
            output if output is not None and slicer.mrmlScene.IsNodePresent(output) else None,
            reference.GetName() or self._export.case,
            user_data_folder() / "results" / self._export.case / "previous",
            edition=self._edition,
        )
        if self._leaves_scene or not slicer.mrmlScene.IsNodePresent(reference):
            self._leaves_scene = self._leaves_scene or _("The reference volume was removed.")
            self._is_shown = True
            return
        self._on_progress(Progress(_("Showing the result")))
        self._steps = self._jobs.do(self._result.steps(), self._brought)

    def _brought(self, error: Exception | None) -> None:
        self._steps = None
        self._is_shown = True
        if error is not None:
            self._leaves_scene = _say(error)
        else:
            self._on_shown(self._result.segmentation)
        self._end_when_all_is_there()

    def _end_when_all_is_there(self) -> None:
        if not (self._is_shown and self._is_saved) or self._result is None:
            return
        folder = None if self._failure else user_data_folder() / "results" / self._export.case
        error = self._failure
        if self._leaves_scene and folder is not None:
            error = _("{why} The result lies in {folder}.").format(
                why=self._leaves_scene, folder=folder
            )
        self._end(
            Outcome(
                segmentation=None if self._leaves_scene else self._result.segmentation,
                folder=folder,
                content=self._result.content,
                note=self._what_was_spared(),
                error=error,
                log=log_tail(self._folder) if error else "",
            )
        )

    def _what_was_spared(self) -> str:
        spared, made = self._result.spared, self._result.segmentation
        if spared is None or made is None:
            return ""
        return _(
            "{name} was changed meanwhile and stays as it is; the new result is {new}."
        ).format(name=spared.GetName(), new=made.GetName())

    def _end(self, outcome: Outcome) -> None:
        if not self._is_ended:
            self._is_ended = True
            if self._job is None or self._job.is_ended:
                # Hundreds of megabytes that nobody needs any more.
                self._jobs.do(clean_up(self._folder.path), lambda error: None)
            self._on_end(outcome)


def _in_order(volumes: Mapping[str, object], task: Task) -> dict[str, object]:
    known = [one.name for one in task.channels]
    strange = [name for name in volumes if name not in known]
    missing = [one.name for one in task.channels if one.required and one.name not in volumes]
    if strange or missing:
        raise SemiSupSegError(
            _("The model takes {known}; not known: {strange}; missing: {missing}.").format(
                known=", ".join(known),
                strange=", ".join(strange) or "-",
                missing=", ".join(missing) or "-",
            )
        )
    return {name: volumes[name] for name in known if name in volumes}


def _words(phase: str) -> str:
    """Return the worker's phase as the panel says it."""
    return {
        "loading the model": _("Loading the model"),
        "preparing the images": _("Preparing the images"),
        "segmenting": _("Segmenting"),
        "handing over": _("Handing over the maps"),
        "saving": _("Saving the result"),
    }.get(phase, phase or _("Starting the worker"))


def _say(error: Exception) -> str:
    known = in_sentences(error)
    if known is not None:
        return known
    return _("Something went wrong in the panel ({kind}: {text}). See Slicer's log.").format(
        kind=type(error).__name__, text=error
    )
