"""A training run from its request to its models: start, resume, or nothing left to do."""

from __future__ import annotations

import contextlib
import logging
import platform
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from SemiSupSegLib import __version__
from SemiSupSegLib.cases.case import Case
from SemiSupSegLib.cases.discovery import discover
from SemiSupSegLib.cases.label_values import UNKNOWN_CLASS
from SemiSupSegLib.cases.reading import content_hash
from SemiSupSegLib.cases.split import Split
from SemiSupSegLib.cases.task import Task, task_from_json
from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError, StoppedError, UsageError, in_sentences
from SemiSupSegLib.freed_memory import keep_freed_memory
from SemiSupSegLib.methods.catalogue import find_method
from SemiSupSegLib.methods.protocol import Build, Method, NetworkOptions
from SemiSupSegLib.models.package import (
    ModelPackage,
    new_folder,
    read_package,
    write_copy,
)
from SemiSupSegLib.networks.base import SegmentationNetwork
from SemiSupSegLib.preparation.options import PreparationOptions
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.preparation.store import (
    default_store,
    prepare_cases,
    prepared_from_json,
    prepared_to_json,
)
from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.events import EventKind, EventLog
from SemiSupSegLib.runs.lock import Lock, LockedError
from SemiSupSegLib.runs.reviewed import frozen_reviews, with_frozen_reviews
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.stages import exclusions, exclusions_in_words
from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.training.configuration import RunConfig, config_from_json
from SemiSupSegLib.training.data import RunData
from SemiSupSegLib.training.device_use import DeviceUse
from SemiSupSegLib.training.devices import choose_device
from SemiSupSegLib.training.distribution import (
    ALONE,
    Distribution,
    distribution_of_environment,
)
from SemiSupSegLib.training.export import export, export_work, validation_voxels
from SemiSupSegLib.training.fitting import network_of, patch_size_of
from SemiSupSegLib.training.needs import needs_of, refuse_what_does_not_fit
from SemiSupSegLib.training.options import TrainingOptions
from SemiSupSegLib.training.progress import Progress
from SemiSupSegLib.training.randomness import seed_of
from SemiSupSegLib.training.repeated import refuse_other_options
from SemiSupSegLib.training.request import TrainRequest
from SemiSupSegLib.training.start import members_of, scan_cache, start_anew, start_from_run
from SemiSupSegLib.training.trainer import Trainer
from SemiSupSegLib.training.trial import Measured, Trial, device_name, trial_key
from SemiSupSegLib.training.work import Prices

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainOutcome:
    """How `train` ended."""

    was_finished: bool
    """The run was finished before; nothing was done."""
    lines: tuple[str, ...] = ()
    """What to tell the user."""
    is_first: bool = True
    """Whether this process wrote the run's files; of several, one does."""


def train(request: TrainRequest, measured: Measured | None = None) -> TrainOutcome:
    """Start a run, or go on with the one in `request.out`; started by torchrun, with the others.

    Args:
        request: What is asked for.
        measured: What plans have measured here, by which the time left is told at the start.

    Raises:
        UsageError: If the run in `request.out` was started with other options.
        StoppedError: If somebody asked to stop.
        SemiSupSegError: If the data or the training do not allow to go on.
    """
    with distribution_of_environment() as distribution:
        if distribution.is_first:
            return _lead(request, distribution, measured)
        return _follow(request, distribution)


def _lead(
    request: TrainRequest, distribution: Distribution, measured: Measured | None
) -> TrainOutcome:
    run = RunFolder(request.out)
    if not distribution.is_alone and ":" in request.device:
        raise UsageError(
            f"--device {request.device} is one GPU, but torchrun started {distribution.part.size} "
            "processes. Use --device auto or cuda: each takes the GPU of its own number."
        )
    if run.is_run():
        config = run.read_config()
        refuse_other_options(request, config)
        if _is_finished(run):
            if not _is_own_folder(request, config):
                _run_cases(request, config)
            distribution.announce(is_finished=True)
            return TrainOutcome(was_finished=True)
        _refuse_other_processes(run, config, distribution)
    else:
        # Before anything is written there.
        run.refuse_foreign()
    with _leaving_no_empty_folder(run.path), Lock(run.lock_file) as lock:
        if not distribution.is_alone:
            distribution.while_waiting = lock.heartbeat
        events = EventLog(run.events_file)
        progress = Progress(run, lock)
        try:
            Control(run.control).clear()
            lines = _train(request, run, progress, events, distribution, measured)
        except (StoppedError, LockedError):
            # Somebody else's run by now, or written down already.
            raise
        except KeyboardInterrupt:
            if _has_begun(run):
                progress.write(RunStatus.STOPPED)
            raise
        except Exception as error:
            distribution.heed_no_signal()
            message = _why(error)
            if _has_begun(run):
                # On a full disk this may fail, too; whoever watches the run sees that it ended.
                with contextlib.suppress(OSError):
                    events.append(EventKind.ERROR, message=message, type=type(error).__name__)
                with contextlib.suppress(OSError):
                    progress.write(RunStatus.FAILED, error=message)
            if isinstance(error, OSError | MemoryError) or message != str(error):
                raise SemiSupSegError(message) from error
            raise
        excluded = exclusions(run)
        late = {case: stage for case, stage in excluded.items() if stage is None}
        if late:
            events.append(EventKind.WARNING, message=exclusions_in_words(late))
        lines += [exclusions_in_words(excluded)] if excluded else []
        # Before the run is called finished: afterwards nobody would look for it again.
        shutil.rmtree(run.scratch, ignore_errors=True)
        events.append(EventKind.FINISHED, seconds=round(progress.seconds, 3))
        progress.write(RunStatus.FINISHED)
    return TrainOutcome(was_finished=False, lines=tuple(lines))


@contextlib.contextmanager
def _leaving_no_empty_folder(path: Path) -> Iterator[None]:
    """Take a new folder away again if what is done meanwhile fails and has put nothing there."""
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in new:
                folder.rmdir()
        raise


def _train(
    request: TrainRequest,
    run: RunFolder,
    progress: Progress,
    events: EventLog,
    distribution: Distribution,
    measured: Measured | None,
) -> list[str]:
    if not run.is_run():
        _create(request, run, progress, events, distribution.part.size)
    content = run.read_config()
    task = task_from_json(content["task"], run.run_json)
    config = config_from_json(content["config"])
    split = _frozen_split(content)
    store = str(request.store or content["store"])
    device = distribution.device(_device_again(content["device"]))
    progress.device_use = DeviceUse(device).look
    _set_process(config.training, distribution)
    cases = _run_cases(request, content, progress)
    oracle_ids = split.train_unlabelled if getattr(config.options, "allow_oracle", False) else ()
    prepared = _prepare(cases, task, config.preparation, split, store, progress)
    distribution.announce()
    distribution.connect(device)
    distribution.from_first([content, [prepared_to_json(case) for case in prepared.values()]])
    session = _session(
        content,
        prepared,
        run,
        progress,
        device,
        distribution,
        _oracle(oracle_ids, cases, task, config.preparation, store),
        measured,
    )
    session.train()
    return export(
        method=session.method,
        build=session.build,
        trainer=session.trainer,
        data=session.data,
        run=run,
        config=config,
        device=device,
        before=session.before,
    )


def _follow(request: TrainRequest, distribution: Distribution) -> TrainOutcome:
    """Train along; the run's folder and what is in it are the first process's."""
    logging.getLogger("SemiSupSegLib").setLevel(logging.WARNING)
    if not distribution.await_first():
        return TrainOutcome(was_finished=True, is_first=False)
    run = RunFolder(request.out)
    device = distribution.device(choose_device(request.device))
    distribution.connect(device)
    content, cases = distribution.from_first(None)
    _set_process(config_from_json(content["config"]).training, distribution)
    prepared = {one["id"]: prepared_from_json(one) for one in cases}
    progress = Progress(run, None)
    _session(content, prepared, run, progress, device, distribution).train()
    return TrainOutcome(was_finished=False, is_first=False)


@dataclass(frozen=True, kw_only=True)
class _Session:
    """All that a process trains with."""

    method: Method
    build: Build
    trainer: Trainer
    data: RunData
    before: ModelPackage | None
    progress: Progress

    def train(self) -> None:
        """Go through all phases, together with the other processes; what follows, alone."""
        self.trainer.train()
        self.progress.distribution = self.data.distribution = ALONE


def _session(
    content: Mapping[str, Any],
    prepared: Mapping[str, PreparedCase],
    run: RunFolder,
    progress: Progress,
    device: torch.device,
    distribution: Distribution,
    oracle: Callable[[str], NDArray[np.uint8]] | None = None,
    measured: Measured | None = None,
) -> _Session:
    """Make networks, data and trainer from the content of run.json."""
    task = task_from_json(content["task"], run.run_json)
    config = config_from_json(content["config"])
    split = _frozen_split(content)
    before = read_package(run.before) if content.get("former") else None

    def build(name: str, network: NetworkOptions | None = None) -> SegmentationNetwork:
        torch.manual_seed(seed_of(config.seed, "initialise", name))
        known = before is not None and name in ("student", "teacher")
        if before is not None and known:
            # The former teacher may be of another architecture than the student that goes on.
            own = before.network(name)
            network = NetworkOptions(name=own["name"], options=own["options"])
        built = network_of(config, task, network)
        if before is not None and known:
            weights = before.weights(name)
            built.load_state_dict(
                {key: torch.from_numpy(np.array(value)) for key, value in weights.items()}
            )
        return built

    progress.distribution = distribution
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
        oracle=oracle,
        partial=content.get("partial", ()),
        reviewed=[one for one in content.get("reviewed", ()) if one in set(split.train_labelled)],
        distribution=distribution,
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
        work_after=export_work(
            method,
            data,
            goes_on=before is not None,
            judges_ensemble=config.training.judge_ensemble,
        ),
        # A trial is that of one process.
        prices=_prices(measured, config, data, device) if distribution.is_alone else None,
        distribution=distribution,
    )
    return _Session(
        method=method,
        build=build,
        trainer=trainer,
        data=data,
        before=before,
        progress=progress,
    )


def _prices(
    measured: Measured | None, config: RunConfig, data: RunData, device: torch.device
) -> Prices | None:
    """Return what a plan of this run has measured on this machine, if there was one."""
    key = trial_key(
        config,
        data.task,
        data.patch_size,
        device_name(device, config.training.threads),
        has_unlabelled=bool(data.unlabelled),
    )
    known = None if measured is None else measured.get(key)
    return None if known is None else Trial.from_json(known).prices(validation_voxels(data))


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


def _create(
    request: TrainRequest, run: RunFolder, progress: Progress, events: EventLog, processes: int
) -> None:
    """Decide everything, prepare the cases, and freeze it in run.json."""
    device = choose_device(request.device)
    store = (request.store or default_store()).resolve()
    begin = start_anew if request.former is None else start_from_run
    start = begin(request, device, store)
    for sentence in start.findings:
        logger.warning("%s", sentence)
    config, task, split = start.config, start.task, start.split
    logger.info(
        "%s, preset %s, %s on %s: %d labelled and %s to train on, %d to judge by.",
        config.method,
        config.preset,
        counted(config.iterations, "updates"),
        device,
        len(split.train_labelled),
        counted(len(split.train_unlabelled), "unlabelled cases"),
        len(split.validation),
    )
    prepared = _prepare(start.cases, task, config.preparation, split, str(store), progress)
    patch_size = start.patch_size or patch_size_of(
        config.training, [prepared[case_id].shape for case_id in split.train_labelled]
    )
    needs = needs_of(
        config, task, split, {name: one.shape for name, one in prepared.items()}, patch_size
    )
    refuse_what_does_not_fit(needs, run.path, device)
    partial = _partial(start.cases, prepared, split)
    seen = {*split.train_labelled, *split.validation}
    inputs = {}
    for case in _each(start.cases, "noting the files", progress):
        inputs[case.id] = {name: content_hash(one) for name, one in case.channels.items()}
        if case.id in seen and case.label is not None:
            inputs[case.id]["label"] = content_hash(case.label)
    if request.former is not None:
        # The run needs the former one no more: it may move, or learn anew.
        with new_folder(run.before) as folder:
            write_copy(read_package(request.former), folder)
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
            "partial": partial,
            "reviewed": frozen_reviews(
                [case for case in start.cases if case.id in seen], request.reviews or Path()
            ),
            "patient": start.patient,
            "former": start.former,
            "seed": config.seed,
            "iterations": config.iterations,
            "device": str(device),
            "processes": processes,
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
    for sentence in start.findings:
        events.append(EventKind.WARNING, message=sentence)


def _partial(
    cases: Sequence[Case], prepared: Mapping[str, PreparedCase], split: Split
) -> list[str]:
    """Return the labelled training cases whose label leaves voxels unknown."""
    may_be = {case.id for case in cases if case.label_unknown is not None}
    return [
        case_id
        for case_id in split.train_labelled
        if case_id in may_be and (prepared[case_id].label() == UNKNOWN_CLASS).any()
    ]


def _set_process(options: TrainingOptions, distribution: Distribution) -> None:
    keep_freed_memory()
    torch.set_num_threads(max(1, options.threads // distribution.local.size))
    # Takes effect in a thread with its first parallel work, for which another thread's setting
    # may come before; asking counts as work.
    torch.get_num_threads()


def _frozen_split(content: Mapping[str, Any]) -> Split:
    return Split(**{name: tuple(ids) for name, ids in content["split"].items()})


def _is_own_folder(request: TrainRequest, content: Mapping[str, Any]) -> bool:
    own: str = content["request"]["cases"]["folder"]
    return str(request.cases.resolve()) == own


def _run_cases(
    request: TrainRequest, content: Mapping[str, Any], progress: Progress | None = None
) -> list[Case]:
    """Find the run's cases again; their folder may have moved, their content must be the same.

    Args:
        request: What is asked for now.
        content: Of run.json.
        progress: Keeps the heartbeat, if this process holds the lock.

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
        cases = _known_cases(request, Path(content["store"]), task, split, content)
        told = cases if progress is None else _each(cases, "comparing the files", progress)
        _refuse_changed_inputs(told, split, content["inputs"])
    except StoppedError:
        raise
    except SemiSupSegError as error:
        if is_own:
            raise
        raise UsageError(
            f"{request.out} holds a run that was started with --cases {former}, and "
            f"{request.cases} does not hold the same cases: {error} For a run on other cases "
            "choose another folder for --out."
        ) from error
    return cases


def _known_cases(
    request: TrainRequest, store: Path, task: Task, split: Split, content: Mapping[str, Any]
) -> list[Case]:
    """Find the run's cases again; labels of unlabelled cases stay closed.

    Reviewed labels are those of the run's start: a review may have gone on since.
    """
    folder, reviewed = request.cases, content.get("reviewed", {})
    scan = discover(
        folder,
        task,
        check_content=False,
        cache=scan_cache(folder, store),
        label_ids={*split.train_labelled, *split.validation} - set(reviewed),
        patient=content.get("patient"),
    )
    by_id = {case.id: case for case in scan.cases}
    missing = [case_id for case_id in members_of(split) if case_id not in by_id]
    if missing:
        raise SemiSupSegError(
            f"{folder} has no case {missing[0]}"
            + (f" (nor {counted(len(missing) - 1, 'others')})" if len(missing) > 1 else "")
            + ", which this run was started with. Put the files back, or start a new run."
        )
    cases = [by_id[case_id] for case_id in members_of(split)]
    return with_frozen_reviews(cases, reviewed, request.reviews or Path())


def _each(cases: Sequence[Case], what: str, progress: Progress) -> Iterator[Case]:
    """Go through cases, keeping the heartbeat: all files are read, which may take long."""
    for number, case in enumerate(cases, start=1):
        progress.attend(f"{what}, case {number} of {len(cases)}")
        yield case


def _refuse_changed_inputs(
    cases: Iterable[Case], split: Split, inputs: Mapping[str, Mapping[str, str]]
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
        progress=lambda done, total: progress.attend(
            f"prepared {done} of {counted(total, 'cases')}"
        ),
    )
    if result.failed:
        case_id, message = result.failed[0]
        raise SemiSupSegError(
            f"{len(result.failed)} of {counted(len(cases), 'cases')} could not be prepared, "
            f"first {case_id}: {message}"
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


def _refuse_other_processes(
    run: RunFolder, content: Mapping[str, Any], distribution: Distribution
) -> None:
    """Refuse another number of processes, with which an update would see another batch."""
    former, now = content.get("processes", 1), distribution.part.size
    if former != now:
        raise UsageError(
            f"{run.path} holds a run of {former} process{'es' * (former > 1)}, and now there "
            f"{'are' if now > 1 else 'is'} {now}: each update would see another number of patches. "
            + (
                f"Go on with {former} processes (torchrun, --nproc-per-node times --nnodes), "
                if former > 1
                else "Go on without torchrun, "
            )
            + "or choose another folder for --out."
        )


def _why(error: Exception) -> str:
    """Return why a run ended, for a person."""
    known = in_sentences(error)
    if isinstance(error, SemiSupSegError) or known is None:
        return str(error)
    return f"{known} Then start the same command again: it goes on from the last checkpoint."


def _has_begun(run: RunFolder) -> bool:
    """Return whether somebody may look at the folder's state: set-up writes it before run.json."""
    return run.is_run() or run.state_json.is_file()


def _is_finished(run: RunFolder) -> bool:
    if not run.state_json.is_file():
        return False
    return RunState.read(run.state_json).status is RunStatus.FINISHED
