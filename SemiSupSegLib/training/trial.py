"""A short trial of a run on made-up cases: what an update, a window and the figures cost here.

The run's own network, patch, batch, loss and loader are used; only the cases are noise.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from SemiSupSegLib import __version__
from SemiSupSegLib.cases.split import Split
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.freed_memory import keep_freed_memory
from SemiSupSegLib.methods.catalogue import find_method
from SemiSupSegLib.methods.protocol import Method, NetworkOptions
from SemiSupSegLib.networks.base import SegmentationNetwork
from SemiSupSegLib.options import to_json
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.runs.lock import Lock
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.configuration import RunConfig
from SemiSupSegLib.training.data import RunData
from SemiSupSegLib.training.figures_cost import FiguresCost, measure_figures
from SemiSupSegLib.training.fitting import network_of
from SemiSupSegLib.training.made_up_case import made_up_case
from SemiSupSegLib.training.progress import Progress
from SemiSupSegLib.training.trainer import Trainer
from SemiSupSegLib.training.validation import validation_dice
from SemiSupSegLib.training.work import Prices, kind_of

_UPDATES, _SECONDS = 4, 3.0
"""Of each kind of phase; the first one warms up and does not count."""
_WARM_UPDATES = 3
"""Of the first phase, before anything counts: at first memory has to be found, too."""
_WINDOWS_TIMED = 3
_SLOW_SECONDS = 15.0
"""Updates that must take longer, as one window tells, are not tried."""
_COSTLESS = frozenset(
    {
        *("optimizer", "teacher_share", "stage_share", "finish_share", "head_share", "head_rate"),
        *("fractions", "lambda_high", "lambda_low", "ramp", "smoothing", "ema", "norm_guard"),
        *("curriculum", "refresh_gain", "reviewed_share", "student_init", "schedule_spans"),
    }
)
"""Options of methods that change how many updates there are or what they learn, not what one
costs."""
_WATCH_SECONDS = 0.01


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was measured."""

    update_seconds: Mapping[str, float]
    """Of an update, by `kind_of` its phase."""
    scoring_seconds: float
    """Of a forward pass over a patch in the first pseudo-labelling, what is done with its result
    included; 0 without one."""
    refining_seconds: float
    """The same in those that follow."""
    window_seconds: float
    """Of judging one network in one window."""
    figures_case_seconds: float
    """Of the final figures of a validation case, without the networks."""
    figures_megavoxel_seconds: float
    """What a million of its voxels add to that."""
    memory_bytes: int
    """Most that the process took."""
    device_bytes: int | None
    """Most that tensors took on a GPU; None on a CPU."""
    measured_on: str
    """The day."""
    is_scaled: bool
    """Whether updates were too slow to be tried: windows were, and multiplied."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Trial:
        """Return what `to_json` gave."""
        return cls(**content)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    def prices(self, validation_voxels: Sequence[int]) -> Prices:
        """Return what the kinds of work of a run cost.

        Args:
            validation_voxels: Of each prepared validation case.
        """
        figures = FiguresCost(
            case=self.figures_case_seconds, megavoxel=self.figures_megavoxel_seconds
        )
        return Prices(
            update=self.update_seconds,
            scoring=self.scoring_seconds,
            refining=self.refining_seconds,
            window=self.window_seconds,
            figures=figures.seconds(validation_voxels),
        )


class Measured(Protocol):
    """Remembers what was measured on this machine."""

    def get(self, key: str) -> Mapping[str, Any] | None:
        """Return what was put under a key; None if nothing was."""

    def put(self, key: str, told: Mapping[str, Any]) -> None:
        """Remember something."""


def device_name(device: torch.device, threads: int) -> str:
    """Return the name of a device under which what it takes is remembered, and for a person.

    Args:
        device: Of the run.
        threads: Of PyTorch, on a CPU.
    """
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def trial_key(
    config: RunConfig,
    task: Task,
    patch: tuple[int, int, int],
    on: str,
    *,
    has_unlabelled: bool,
) -> str:
    """Return a name that is equal for runs whose trials measure the same, phase by phase.

    Args:
        config: Options of the run.
        task: Channels and classes.
        patch: D, H, W.
        on: The `device_name`.
        has_unlabelled: Whether it has cases to pseudo-label.
    """
    options = {
        name: value for name, value in to_json(config.options).items() if name not in _COSTLESS
    }
    training = to_json(config.training)
    names = ("threads", "precision", "augmentation", "judge_ensemble")
    told = [
        config.method,
        options,
        {name: training[name] for name in names},
        [len(task.channels), task.num_classes],
        list(patch),
        [on, has_unlabelled],
        [__version__, torch.__version__, sorted(one.name for one in fields(Trial))],
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def try_out(
    config: RunConfig,
    task: Task,
    patch: tuple[int, int, int],
    device: torch.device,
    *,
    has_unlabelled: bool,
) -> Trial:
    """Measure on this machine; takes seconds where a run takes minutes.

    Args:
        config: Options of the run.
        task: Channels and classes.
        patch: D, H, W.
        device: Where the run is to be.
        has_unlabelled: Whether it has cases to pseudo-label.

    Raises:
        torch.cuda.OutOfMemoryError: If not even this fits on the GPU.
    """
    # As the run itself does.
    keep_freed_memory()
    torch.set_num_threads(config.training.threads)
    torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix="semisupseg-trial-") as name, _watched(device) as used:
        run = RunFolder(Path(name))
        with Lock(run.lock_file) as lock:
            progress = Progress(run, lock)
            data = _made_up_data(config, task, patch, device, run, progress, has_unlabelled)
            times = _timed(config, data, device, run, progress)
    return Trial(
        **times,
        memory_bytes=used.memory,
        device_bytes=used.device,
        measured_on=date.today().isoformat(),
    )


def _timed(
    config: RunConfig, data: RunData, device: torch.device, run: RunFolder, progress: Progress
) -> dict[str, Any]:
    def build(name: str, network: NetworkOptions | None = None) -> SegmentationNetwork:
        return network_of(config, data.task, network)

    method = find_method(config.method).make(config.options, build, iterations=config.iterations)
    trainer = Trainer(
        method=method,
        data=data,
        run=run,
        progress=progress,
        options=config.training,
        seed=config.seed,
        device=device,
    )
    phases = [one for one in method.phases(data) if one.iterations]
    overlap = config.training.validation_overlap
    student = {"student": method.predictors()["student"]}
    window = min(
        _seconds_of(lambda: validation_dice(student, data, overlap)) for _ in range(_WINDOWS_TIMED)
    ) / data.count_windows(data.validation, overlap)
    cost = measure_figures(data.task, _judged_at_end(method, config))
    figures = {
        "figures_case_seconds": cost.case,
        "figures_megavoxel_seconds": cost.megavoxel,
    }
    if max(one.work_per_update for one in phases) * window > _SLOW_SECONDS:
        return {
            **figures,
            "update_seconds": {kind_of(one): window * one.work_per_update for one in phases},
            "scoring_seconds": window,
            "refining_seconds": window,
            "window_seconds": window,
            "is_scaled": True,
        }
    trainer.try_out(phases[0], _WARM_UPDATES, _SLOW_SECONDS)
    updates: dict[str, float] = {}
    prologues: list[float] = []
    # In the plan's order: the second pseudo-labelling asks the student, too.
    for phase in phases:
        kind = kind_of(phase)
        if kind in updates and (not phase.prologue_work or len(prologues) == 2):
            continue
        if phase.prologue is not None:
            taken = _seconds_of(phase.prologue)
            if phase.prologue_work:
                prologues.append(taken / phase.prologue_work)
        if kind not in updates:
            each = trainer.try_out(phase, _UPDATES, _SECONDS)
            # What else the machine does meanwhile makes the others longer.
            updates[kind] = min(each[1:])
        if phase.epilogue is not None:
            phase.epilogue()
    scoring, refining = [*prologues, *prologues[-1:], 0.0, 0.0][:2]
    return {
        **figures,
        "update_seconds": updates,
        "scoring_seconds": scoring,
        "refining_seconds": refining,
        "window_seconds": window,
        "is_scaled": False,
    }


def _judged_at_end(method: Method, config: RunConfig) -> list[str]:
    """Return the networks that `export` judges."""
    names = ["student", "best_validation"]
    if "teacher" in method.predictors():
        names += ["teacher", *(["ensemble"] if config.training.judge_ensemble else [])]
    return names


def _seconds_of(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _made_up_data(
    config: RunConfig,
    task: Task,
    patch: tuple[int, int, int],
    device: torch.device,
    run: RunFolder,
    progress: Progress,
    has_unlabelled: bool,
) -> RunData:
    names = ("labelled", "other", "unlabelled", "doubtful", "judged")
    # Longer than a patch, so that windows overlap as they do in a case.
    shape = (2 * patch[0], *patch[1:])
    return RunData(
        task=task,
        split=Split(
            train_labelled=names[:2],
            train_unlabelled=names[2:4] if has_unlabelled else (),
            validation=names[4:],
        ),
        prepared={
            name: _made_up_case(name, number, task, shape) for number, name in enumerate(names)
        },
        run=run,
        progress=progress,
        seed=config.seed,
        patch_size=patch,
        device=device,
        overlap=config.training.prediction_overlap,
    )


def _made_up_case(name: str, number: int, task: Task, shape: tuple[int, int, int]) -> PreparedCase:
    draw = np.random.Generator(np.random.PCG64(number))
    label = np.zeros(shape, np.uint8)
    for index in range(task.num_classes):
        label[shape[0] // 4 : shape[0] // 2, index :: task.num_classes, shape[2] // 4 :] = index
    image = draw.standard_normal((len(task.channels), *shape), dtype=np.float32)
    return made_up_case(name, image, label)


@dataclass
class _Used:
    memory: int = 0
    device: int | None = None


@contextmanager
def _watched(device: torch.device) -> Iterator[_Used]:
    """Keep the most memory that the process, and on a GPU its tensors, take meanwhile."""
    import psutil

    process, used, ended = psutil.Process(), _Used(), threading.Event()

    def watch() -> None:
        while True:
            used.memory = max(used.memory, int(process.memory_info().rss))
            if ended.wait(_WATCH_SECONDS):
                return

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    watcher = threading.Thread(target=watch, daemon=True, name="watch memory")
    watcher.start()
    try:
        yield used
    finally:
        ended.set()
        watcher.join()
        if device.type == "cuda":
            used.device = int(torch.cuda.max_memory_allocated(device))
