"""A training run from its request to its models: start, resume, or nothing left to do."""

from __future__ import annotations

import logging
import math
import os
import platform
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from SemiSupSegLib import __version__
from SemiSupSegLib.cases.case import Case, CaseState, Reason
from SemiSupSegLib.cases.discovery import discover
from SemiSupSegLib.cases.inspection import default_cache
from SemiSupSegLib.cases.reading import content_hash
from SemiSupSegLib.cases.split import (
    Split,
    default_split,
    left_out,
    read_lists,
    read_split,
    separated_twins,
)
from SemiSupSegLib.cases.task import Task, load_task, task_from_json
from SemiSupSegLib.errors import SemiSupSegError, StoppedError, UsageError
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
from SemiSupSegLib.training.configuration import (
    RunConfig,
    config_from_json,
    configure,
    fit_to_task,
)
from SemiSupSegLib.training.data import RunData
from SemiSupSegLib.training.devices import choose_device
from SemiSupSegLib.training.export import export, export_work
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
    """The words of the command, for the record."""

    def to_json(self) -> dict[str, Any]:
        """Return what must be the same when the run is started again.

        Raises:
            UsageError: If the split file is no split.
        """
        split = None
        if self.split is not None:
            split = {name: sorted(ids) for name, ids in read_lists(self.split).items()}
        return {
            "cases": {"given": str(self.cases), "folder": str(self.cases.resolve())},
            "task": self.task,
            "method": self.method,
            "preset": self.preset,
            "split": split,
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
            if not _is_own_folder(request, config):
                _run_cases(request, config)
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
            if _has_begun(run):
                progress.write(RunStatus.STOPPED)
            raise
        except Exception as error:
            if _has_begun(run):
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
    split = _frozen_split(content)
    store = str(request.store or content["store"])
    device = _device_again(content["device"])
    _set_threads(config.training)
    cases = _run_cases(request, content)
    oracle_ids = split.train_unlabelled if getattr(config.options, "allow_oracle", False) else ()
    prepared = _prepare(cases, task, config.preparation, split, store, progress)

    def build(name: str) -> SegmentationNetwork:
        torch.manual_seed(seed_of(config.seed, "initialise", name))
        return _network(config, task)

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
        oracle=_oracle(oracle_ids, cases, task, config.preparation, store),
    )
    method: Method = find_method(config.method).make(
        config.options, build, iterations=config.iterations
    )
    trainer = Trainer(
        method=method,
        data=data,
        run=run,
        progress=progress,
        options=config.training,
        seed=config.seed,
        device=device,
        work_after=export_work(method, data),
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


def _device_again(name: str) -> torch.device:
    """Return the run's device.

    Raises:
        SemiSupSegError: If it is not there now; a run never changes to another kind of device.
    """
    try:
        return choose_device(name)
    except UsageError:
        raise SemiSupSegError(
            f"This run was started on {name}, which PyTorch cannot use now; doctor tells why. "
            "Start the same command again when it is back: nothing is lost. A new run can use "
            "--device cpu."
        ) from None


def _network(config: RunConfig, task: Task) -> SegmentationNetwork:
    return build_network(
        config.options.network.name,
        config.options.network.options,
        in_channels=len(task.channels),
        num_classes=task.num_classes,
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
    config = _with_threads(config)
    task = load_task(request.task) if request.task else None
    wanted = None
    if request.split is not None:
        lists = read_lists(request.split)
        wanted = {*lists["train_labelled"], *lists["validation"]}
    store = (request.store or default_store()).resolve()
    cache = _scan_cache(request.cases, store)
    scan = discover(request.cases, task, cache=cache, label_ids=wanted)
    task = scan.task
    config = fit_to_task(config, task, request.settings)
    usable = [case for case in scan.cases if case.state is not CaseState.UNUSABLE]
    if request.split is not None:
        split = read_split(request.split, scan.cases)
        _refuse_unusable(split, scan.cases)
        doubt = separated_twins(split, scan.cases)
    else:
        split = default_split(usable, request.seed)
        doubt = left_out(split, usable)
    findings = [*([doubt] if doubt else []), *_findings(scan.cases, _members(split))]
    for sentence in findings:
        logger.warning("%s", sentence)
    if not split.train_labelled:
        raise SemiSupSegError(
            f"{request.cases} has no labelled case to train on. Add label files (scan shows what "
            "was found), or name labelled cases in a split file."
        )
    by_id = {case.id: case for case in usable}
    labelled = [by_id[case_id] for case_id in split.train_labelled]
    preparation = freeze_spacing(task, config.preparation, labelled)
    config = RunConfig(**{**_fields(config), "preparation": preparation})
    members = [by_id[case_id] for case_id in _members(split)]
    seen = {*split.train_labelled, *split.validation}
    prepared = _prepare(members, task, preparation, split, str(store), progress)
    patch_size = _patch_size(
        config.training, [prepared[case_id] for case_id in split.train_labelled]
    )
    _refuse_what_cannot_run(config, task, patch_size)
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
            "config": config.to_json(),
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
    for sentence in findings:
        events.append(EventKind.WARNING, message=sentence)


def _findings(cases: Sequence[Case], used: Collection[str]) -> list[str]:
    """Return a sentence for each kind of warning of the used cases, and of unusable case."""
    used = set(used)
    found: dict[tuple[bool, str], list[tuple[str, Reason]]] = defaultdict(list)
    for case in cases:
        if case.state is CaseState.UNUSABLE:
            found[True, case.reasons[0].code].append((case.id, case.reasons[0]))
        elif case.id in used:
            for code, reason in {reason.code: reason for reason in case.reasons}.items():
                found[False, code].append((case.id, reason))
    sentences = []
    for (is_left_out, _), examples in found.items():
        case_id, reason = examples[0]
        finding = f"{case_id}: {reason.sentences}"
        if len(examples) == 1:
            sentences.append(f"Left out: {finding}" if is_left_out else finding)
        else:
            what = "were left out" if is_left_out else "of this run have this warning"
            sentences.append(f"{len(examples)} cases {what}, for example {finding}")
    return sentences


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
    # Takes effect in a thread with its first parallel work, for which another thread's setting
    # may come before; asking counts as work.
    torch.get_num_threads()


def _frozen_split(content: Mapping[str, Any]) -> Split:
    return Split(**{name: tuple(ids) for name, ids in content["split"].items()})


def _is_own_folder(request: TrainRequest, content: Mapping[str, Any]) -> bool:
    own: str = content["request"]["cases"]["folder"]
    return str(request.cases.resolve()) == own


def _run_cases(request: TrainRequest, content: Mapping[str, Any]) -> list[Case]:
    """Find the run's cases again; their folder may have moved, their content must be the same.

    Raises:
        UsageError: If `--cases` is another folder than at the start and no copy of it.
        SemiSupSegError: If the run's own folder has gone, or a file in it.
    """
    former = content["request"]["cases"]["given"]
    is_own = _is_own_folder(request, content)
    if is_own and not request.cases.is_dir():
        raise SemiSupSegError(
            f"{request.cases}, the folder of cases of this run, is no longer there. If it was "
            "moved, repeat the command with its new place as --cases; else put it back."
        )
    split = _frozen_split(content)
    try:
        task = task_from_json(content["task"], "run.json")
        cases = _known_cases(request.cases, Path(content["store"]), task, split)
        _refuse_changed_inputs(cases, split, content["inputs"])
    except SemiSupSegError as error:
        if is_own:
            raise
        raise UsageError(
            f"{request.out} holds a run that was started with --cases {former}, and "
            f"{request.cases} does not hold the same cases: {error} For a run on other cases "
            "choose another folder for --out."
        ) from error
    return cases


def _scan_cache(folder: Path, store: Path) -> Path:
    """Return where facts about the files are kept: below the store, if one was chosen."""
    return default_cache(folder, None if store == default_store().resolve() else store)


def _known_cases(folder: Path, store: Path, task: Task, split: Split) -> list[Case]:
    """Find the run's cases again; labels of unlabelled cases stay closed."""
    scan = discover(
        folder,
        task,
        check_content=False,
        cache=_scan_cache(folder, store),
        label_ids={*split.train_labelled, *split.validation},
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
        for name in inputs[case.id]:
            if name not in sources:
                raise SemiSupSegError(
                    f"Case {case.id} has no file for {name} any more. Put the file back, or start "
                    "a new run."
                )
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


def _refuse_what_cannot_run(config: RunConfig, task: Task, patch: tuple[int, int, int]) -> None:
    """Find out whether network, patch and method go together, before anything is frozen.

    Raises:
        UsageError: If they do not.
    """
    # Networks on this device have shapes, but neither weights nor memory.
    with torch.device("meta"):
        try:
            _network(config, task).check_patch(patch, config.options.labelled_per_batch)
            find_method(config.method).make(
                config.options, lambda name: _network(config, task), iterations=config.iterations
            )
        except ValueError as error:
            raise UsageError(f"This cannot be trained: {error}.") from error


def _members(split: Split) -> list[str]:
    return [*split.train_labelled, *split.train_unlabelled, *split.validation]


def _refuse_unusable(split: Split, cases: Sequence[Case]) -> None:
    unusable = {case.id: case for case in cases if case.state is CaseState.UNUSABLE}
    for case_id in _members(split):
        if case_id in unusable:
            raise SemiSupSegError(
                f"The split names case {case_id}, which is unusable: "
                f"{unusable[case_id].reasons[0].sentences}"
            )


def _refuse_other_options(request: TrainRequest, content: Mapping[str, Any]) -> None:
    """Refuse all that differs but `cases`, which may have moved (`_run_cases`)."""
    former, wanted = content["request"], request.to_json()
    for name in wanted:
        if name == "cases" or former.get(name) == wanted[name]:
            continue
        if name == "task" and _is_same_task(request.task, content):
            continue
        difference = f"{name}: {former.get(name)!r}, now {wanted[name]!r}"
        if name == "split":
            difference = _split_difference(former.get(name), wanted[name])
        raise UsageError(
            f"{request.out} holds a run that was started with other options ({difference}). "
            "Choose another folder for --out, or repeat the run's own command."
        )


def _is_same_task(name_or_file: str | None, content: Mapping[str, Any]) -> bool:
    """Return whether a task file, perhaps named from another folder, is the run's."""
    if name_or_file is None or content["request"].get("task") is None:
        return False
    return load_task(name_or_file) == task_from_json(content["task"], "run.json")


def _split_difference(
    former: Mapping[str, Sequence[str]] | None, wanted: Mapping[str, Sequence[str]] | None
) -> str:
    if former is None:
        return "split: none, now a file"
    if wanted is None:
        return "split: a file, now none"
    parts = []
    for name, ids in wanted.items():
        for word, changed in (
            ("now with", sorted({*ids} - {*former[name]})),
            ("now without", sorted({*former[name]} - {*ids})),
        ):
            if changed:
                more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
                parts.append(f"{name} {word} {changed[0]}{more}")
    return f"split: {'; '.join(parts)}"


def _has_begun(run: RunFolder) -> bool:
    """Return whether somebody may look at the folder's state: set-up writes it before run.json."""
    return run.is_run() or run.state_json.is_file()


def _is_finished(run: RunFolder) -> bool:
    if not run.state_json.is_file():
        return False
    return RunState.read(run.state_json).status is RunStatus.FINISHED
