"""A training run from its request to its models: start, resume, or nothing left to do."""

from __future__ import annotations

import logging
import math
import os
import platform
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from SemiSupSegLib import __version__
from SemiSupSegLib.cases.case import Case, CaseState
from SemiSupSegLib.cases.discovery import discover
from SemiSupSegLib.cases.reading import content_hash
from SemiSupSegLib.cases.split import Split, default_split, read_split
from SemiSupSegLib.cases.task import Task, load_task, task_from_json
from SemiSupSegLib.errors import SemiSupSegError, StoppedError, UsageError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.methods.catalogue import find_method
from SemiSupSegLib.methods.protocol import Method
from SemiSupSegLib.networks.base import SegmentationNetwork
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.preparation.options import PreparationOptions, freeze_spacing
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.preparation.store import default_store, prepare_cases
from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.events import EventKind, EventLog
from SemiSupSegLib.runs.lock import Lock, LockedError
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.training.configuration import RunConfig, config_from_json, configure
from SemiSupSegLib.training.data import RunData
from SemiSupSegLib.training.devices import choose_device
from SemiSupSegLib.training.export import export
from SemiSupSegLib.training.options import TrainingOptions
from SemiSupSegLib.training.progress import Progress
from SemiSupSegLib.training.randomness import seed_of
from SemiSupSegLib.training.trainer import Trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What `train` was asked to do."""

    cases: Path
    out: Path
    task: str | None = None
    method: str | None = None
    preset: str = "standard"
    split: Path | None = None
    iterations: int | None = None
    seed: int = 0
    device: str = "auto"
    store: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = ()
    """For the record."""

    def to_json(self) -> dict[str, Any]:
        """Return what must be the same when the run is started again."""
        return {
            "task": self.task,
            "method": self.method,
            "preset": self.preset,
            "iterations": self.iterations,
            "seed": self.seed,
            "device": self.device,
            "settings": dict(sorted(self.settings.items())),
        }


@dataclass(frozen=True, kw_only=True)
class TrainOutcome:
    """How `train` ended."""

    was_finished: bool
    """The run was finished before; nothing was done."""
    lines: tuple[str, ...] = ()
    """What to tell the user."""


def train(request: TrainRequest) -> TrainOutcome:
    """Start a run, or go on with the one in `request.out`.

    Raises:
        UsageError: If the run in `request.out` was started with other options.
        StoppedError: If somebody asked to stop.
        SemiSupSegError: If the data or the training do not allow to go on.
    """
    run = RunFolder(request.out)
    if run.is_run():
        config = run.read_config()
        _refuse_other_options(request, config)
        if _is_finished(run):
            return TrainOutcome(was_finished=True)
    with Lock(run.lock_file) as lock:
        events = EventLog(run.events_file)
        progress = Progress(run, lock)
        try:
            Control(run.control).clear()
            lines = _train(request, run, progress, events)
        except (StoppedError, LockedError):
            # Somebody else's run by now, or written down already.
            raise
        except KeyboardInterrupt:
            if run.is_run():
                progress.write(RunStatus.STOPPED)
            raise
        except Exception as error:
            if run.is_run():
                events.append(EventKind.ERROR, message=str(error), type=type(error).__name__)
                progress.write(RunStatus.FAILED, error=str(error))
            raise
        # Before the run is called finished: afterwards nobody would look for it again.
        shutil.rmtree(run.scratch, ignore_errors=True)
        events.append(EventKind.FINISHED, seconds=round(progress.seconds, 3))
        progress.write(RunStatus.FINISHED)
    return TrainOutcome(was_finished=False, lines=tuple(lines))


def _train(
    request: TrainRequest, run: RunFolder, progress: Progress, events: EventLog
) -> list[str]:
    if not run.is_run():
        _create(request, run, progress, events)
    content = run.read_config()
    task = task_from_json(content["task"], run.run_json)
    config = config_from_json(content["config"])
    split = Split(**{name: tuple(ids) for name, ids in content["split"].items()})
    device = torch.device(content["device"])
    _set_threads(config.training)
    cases = _known_cases(request.cases, task, split)
    _refuse_changed_inputs(cases, split, content["inputs"])
    oracle_ids = split.train_unlabelled if getattr(config.options, "allow_oracle", False) else ()
    prepared = _prepare(cases, task, config.preparation, split, content["store"], progress)
    entry = find_method(config.method)

    def build(name: str) -> SegmentationNetwork:
        torch.manual_seed(seed_of(config.seed, "initialise", name))
        return build_network(
            config.options.network.name,
            config.options.network.options,
            in_channels=len(task.channels),
            num_classes=task.num_classes,
        )

    patch_size: tuple[int, int, int] = tuple(content["patch_size"])
    data = RunData(
        task=task,
        split=split,
        prepared=prepared,
        run=run,
        progress=progress,
        seed=config.seed,
        patch_size=patch_size,
        device=device,
        overlap=config.training.prediction_overlap,
        oracle=_oracle(oracle_ids, cases, task, config.preparation, content["store"]),
    )
    method: Method = entry.make(
        config.options,
        build,
        iterations=config.iterations,
        preset_iterations=config.preset_iterations,
    )
    trainer = Trainer(
        method=method,
        data=data,
        run=run,
        progress=progress,
        options=config.training,
        seed=config.seed,
        device=device,
    )
    trainer.train()
    return export(
        method=method,
        build=build,
        trainer=trainer,
        data=data,
        run=run,
        config=config,
        device=device,
    )


def _create(request: TrainRequest, run: RunFolder, progress: Progress, events: EventLog) -> None:
    """Look at the cases, decide everything, and freeze it in run.json."""
    device = choose_device(request.device)
    config = configure(
        preset=request.preset,
        method=request.method,
        variant="gpu" if device.type == "cuda" else "cpu",
        iterations=request.iterations,
        seed=request.seed,
        settings=request.settings,
    )
    task = load_task(request.task) if request.task else None
    wanted = None
    if request.split is not None:
        content = read_json(request.split)
        if not isinstance(content, dict):
            raise UsageError(f"{request.split} is not a split file (a JSON object of three lists).")
        wanted = {*content.get("train_labelled", ()), *content.get("validation", ())}
    scan = discover(request.cases, task, label_ids=wanted)
    task = scan.task
    usable = [case for case in scan.cases if case.state is not CaseState.UNUSABLE]
    for case in scan.cases:
        if case.state is CaseState.UNUSABLE:
            logger.warning("Left out: %s (%s)", case.id, case.reasons[0].message)
    if request.split is not None:
        split = read_split(request.split, scan.cases)
        _refuse_unusable(split, scan.cases)
    else:
        split = default_split(usable, request.seed)
    if not split.train_labelled:
        raise SemiSupSegError(
            f"{request.cases} has no labelled case to train on. Add label files (scan shows what "
            "was found), or name labelled cases in a split file."
        )
    by_id = {case.id: case for case in usable}
    labelled = [by_id[case_id] for case_id in split.train_labelled]
    preparation = freeze_spacing(task, config.preparation, labelled)
    config = RunConfig(**{**_fields(config), "preparation": preparation})
    store = request.store or default_store()
    members = [by_id[case_id] for case_id in _members(split)]
    seen = {*split.train_labelled, *split.validation}
    prepared = _prepare(members, task, preparation, split, str(store), progress)
    patch_size = _patch_size(
        config.training, [prepared[case_id] for case_id in split.train_labelled]
    )
    inputs = {}
    for case in members:
        inputs[case.id] = {name: content_hash(one) for name, one in case.channels.items()}
        if case.id in seen and case.label is not None:
            inputs[case.id]["label"] = content_hash(case.label)
    run.create(
        {
            "task": task.to_json(),
            "method": config.method,
            "options": config.to_json()["options"],
            "preset": config.preset,
            "split": {
                "train_labelled": list(split.train_labelled),
                "train_unlabelled": list(split.train_unlabelled),
                "validation": list(split.validation),
            },
            "seed": config.seed,
            "iterations": config.iterations,
            "device": str(device),
            "preparation": config.to_json()["preparation"],
            "network": config.to_json()["options"]["network"],
            "training": config.to_json()["training"],
            "patch_size": list(patch_size),
            "versions": {
                "SemiSupSeg": __version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
            "inputs": inputs,
            "store": str(store),
            "command": list(request.command),
            "request": request.to_json(),
            "config": _with_threads(config).to_json(),
        }
    )
    events.append(
        EventKind.STARTED,
        method=config.method,
        iterations=config.iterations,
        device=str(device),
        labelled=len(split.train_labelled),
        unlabelled=len(split.train_unlabelled),
        validation=len(split.validation),
    )


def _with_threads(config: RunConfig) -> RunConfig:
    """Freeze the number of threads: another number may round differently."""
    training = TrainingOptions(
        **{
            **_fields(config.training),
            "threads": config.training.threads or len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else config.training.threads or os.cpu_count() or 1,
        }
    )
    return RunConfig(**{**_fields(config), "training": training})


def _fields(value: Any) -> dict[str, Any]:
    import dataclasses

    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}


def _set_threads(options: TrainingOptions) -> None:
    torch.set_num_threads(options.threads)


def _known_cases(folder: Path, task: Task, split: Split) -> list[Case]:
    """Find the run's cases again; labels of unlabelled cases stay closed."""
    scan = discover(
        folder, task, check_content=False, label_ids={*split.train_labelled, *split.validation}
    )
    by_id = {case.id: case for case in scan.cases}
    missing = [case_id for case_id in _members(split) if case_id not in by_id]
    if missing:
        raise SemiSupSegError(
            f"{folder} has no case {missing[0]}"
            + (f" (nor {len(missing) - 1} others)" if len(missing) > 1 else "")
            + ", which this run was started with. Put the files back, or start a new run."
        )
    return [by_id[case_id] for case_id in _members(split)]


def _refuse_changed_inputs(
    cases: Sequence[Case], split: Split, inputs: Mapping[str, Mapping[str, str]]
) -> None:
    seen = {*split.train_labelled, *split.validation}
    for case in cases:
        sources = dict(case.channels)
        if case.id in seen and case.label is not None:
            sources["label"] = case.label
        for name, source in sources.items():
            if inputs[case.id].get(name) != content_hash(source):
                raise SemiSupSegError(
                    f"{source} has changed since this run was started. Put the former file back, "
                    "or start a new run."
                )


def _prepare(
    cases: Sequence[Case],
    task: Task,
    options: PreparationOptions,
    split: Split,
    store: str,
    progress: Progress,
) -> dict[str, PreparedCase]:
    result = prepare_cases(
        cases,
        task,
        options,
        Path(store),
        with_label={*split.train_labelled, *split.validation},
        progress=lambda done, total: progress.attend(f"prepared {done} of {total} cases"),
    )
    if result.failed:
        case_id, message = result.failed[0]
        raise SemiSupSegError(
            f"{len(result.failed)} of {len(cases)} cases could not be prepared, first {case_id}: "
            f"{message}"
        )
    return {case.id: case for case in result.prepared}


def _oracle(
    ids: Collection[str],
    cases: Sequence[Case],
    task: Task,
    options: PreparationOptions,
    store: str,
) -> Callable[[str], NDArray[np.uint8]] | None:
    """Return access to labels of unlabelled cases, for the control that is allowed to look."""
    if not ids:
        return None
    wanted = set(ids)
    chosen = [case for case in cases if case.id in wanted]
    prepared = prepare_cases(chosen, task, options, Path(store), with_label=wanted).prepared
    by_id = {case.id: case for case in prepared}
    return lambda case_id: np.asarray(by_id[case_id].label())


def _patch_size(options: TrainingOptions, labelled: Sequence[PreparedCase]) -> tuple[int, int, int]:
    """Return the patch: the median case, in multiples of 16, at most `patch_limit` a side."""
    if options.patch_size is not None:
        return options.patch_size
    median = np.median([case.grid.shape for case in labelled], axis=0)
    limit = max(16, options.patch_limit // 16 * 16)
    depth, height, width = (int(min(limit, max(32, math.ceil(side / 16) * 16))) for side in median)
    return depth, height, width


def _members(split: Split) -> list[str]:
    return [*split.train_labelled, *split.train_unlabelled, *split.validation]


def _refuse_unusable(split: Split, cases: Sequence[Case]) -> None:
    unusable = {case.id: case for case in cases if case.state is CaseState.UNUSABLE}
    for case_id in _members(split):
        if case_id in unusable:
            reason = unusable[case_id].reasons[0]
            raise SemiSupSegError(
                f"The split names case {case_id}, which is unusable: {reason.message} "
                f"{reason.remedy}"
            )


def _refuse_other_options(request: TrainRequest, config: Mapping[str, Any]) -> None:
    former, wanted = config["request"], request.to_json()
    different = [name for name in wanted if former.get(name) != wanted[name]]
    if different:
        name = different[0]
        raise UsageError(
            f"{request.out} holds a run that was started with other options "
            f"({name}: {former.get(name)!r}, now {wanted[name]!r}). Choose another folder for "
            "--out, or repeat the run's own command."
        )
    if request.split is not None:
        content = read_json(request.split)
        frozen = config["split"]
        known = {*frozen["train_labelled"], *frozen["train_unlabelled"], *frozen["validation"]}
        for name in ("train_labelled", "train_unlabelled", "validation"):
            ids = set(content.get(name, ()))
            if ids <= known and ids != set(frozen[name]):
                raise UsageError(
                    f"{request.out} holds a run with another split ({name} differs). Choose "
                    "another folder for --out."
                )


def _is_finished(run: RunFolder) -> bool:
    if not run.state_json.is_file():
        return False
    return RunState.read(run.state_json).status is RunStatus.FINISHED
