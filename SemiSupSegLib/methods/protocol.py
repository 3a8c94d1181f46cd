"""What the trainer and a method know of each other: a method is a plan of phases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.networks.base import SegmentationNetwork
from SemiSupSegLib.processes import Part


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Patches for one step, labelled ones first, augmented and on the device."""

    images: Tensor
    """Float32, (B, C, D, H, W); the unlabelled part is a strong view if the phase asks for one."""
    labels: Tensor
    """Int64, (L, D, H, W), class indices of the labelled part; 255 where nothing is known."""
    valid: Tensor
    """Boolean, (B, D, H, W); false in padding."""
    maps: Mapping[str, Tensor]
    """Per-voxel maps of the unlabelled part that the phase's prologue wrote, (U, ..., D, H, W)."""
    case_ids: tuple[str, ...]
    weak: Tensor | None = None
    """The unlabelled part as it was before its intensities were varied, (U, C, D, H, W), if the
    phase asks for strong views."""
    second: Tensor | None = None
    """Another strong view of it, if the phase asks for two."""

    @property
    def num_labelled(self) -> int:
        """Number of labelled patches."""
        return int(self.labels.shape[0])


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Where a run stands, in optimizer updates."""

    phase_iteration: int
    """0 in a phase's first step."""
    iteration: int
    """0 in the run's first step; never reset."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one step gives the trainer."""

    total: Tensor
    """Scalar to minimise."""
    terms: Mapping[str, Tensor]
    """Unweighted loss terms and other figures to log, detached scalars."""


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters that are learnt in a phase, and how."""

    parameters: Sequence[nn.Parameter]
    optimizer: Literal["adamw", "sgd"] = "adamw"
    rate: float = 3e-4
    weight_decay: float = 1e-4
    schedule: Literal["poly", "step", "cosine", "constant"] = "poly"
    schedule_start: int = 0
    """Updates of the schedule that earlier phases have used."""
    schedule_length: int | None = None
    """Updates of the whole schedule; None: those of the phase."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training with one set of parameters, cases and loss terms."""

    name: str
    iterations: int
    group: ParameterGroup
    labelled_per_batch: int
    labelled_cases: Sequence[str] | None = None
    """Labelled cases that are drawn; None: all of the run."""
    favoured: Sequence[str] = ()
    """Labelled cases that are drawn more often than the others."""
    favoured_share: float = 0.0
    """Of the labelled patches, those of `favoured`; the rest are of the other labelled cases."""
    unlabelled_per_batch: int = 0
    unlabelled_cases: Callable[[], Sequence[str]] = tuple
    """Asked once the prologue has run."""
    prologue: Callable[[], None] | None = None
    """Work per case before the first step; resumable case by case."""
    epilogue: Callable[[], None] | None = None
    """Called after the last step, before the next phase."""
    make_batch: Callable[[int, Part], Batch] | None = None
    """Makes the batch of an iteration, on the CPU and in the loader's thread, instead of patches
    that are cut and augmented. It is told which of the processes asks: each makes its own part."""
    between: Callable[[int], None] | None = None
    """Work per case between updates, as of moving weights; told how many updates are done."""
    between_at: Sequence[int] = ()
    """Numbers of updates after which it is called, 0 and that of all updates included. It is
    called again, with the same weights, if it was interrupted."""
    between_work: int = 0
    """Forward passes over one patch that a call takes."""
    continues: bool = False
    """Whether the optimizer's state of the former phase is kept."""
    train_mode: bool = True
    """Whether networks that learn are in train mode (dropout); a head alone learns in eval mode."""
    strong_views: Literal[0, 1, 2] = 0
    """How often unlabelled patches are strongly varied in intensity; turned they are alike."""
    maps: Callable[[str], Mapping[str, NDArray[np.generic]]] | None = None
    """Per-voxel maps of an unlabelled case, cropped and turned along with its image."""
    stage: int | None = None
    judged: tuple[str, ...] = ("student",)
    """Predictors worth validating in this phase: those that it changes."""
    judged_at_end: tuple[str, ...] = ()
    """Further ones, validated after the phase's last update."""
    passes_per_patch: int = 3
    """Forward passes of a network that an update takes for each of its patches, a backward pass
    counted as two; what tells the time left."""
    passes_per_unlabelled: int = 0
    """Further ones that it takes for each unlabelled patch: a teacher's predictions of it."""
    prologue_work: int = 0
    """Forward passes over one patch that the prologue takes."""
    draws_as: str = ""
    """Name from which patches, augmentation and dropout are drawn; default the phase's own. Phases
    of two methods that share it see the same patches, which makes their comparison a paired one."""

    @property
    def stream(self) -> str:
        """The name that draws follow from, besides the run's seed."""
        return self.draws_as or self.name

    @property
    def work_per_update(self) -> int:
        """Forward passes over one patch."""
        patches = self.labelled_per_batch + self.unlabelled_per_batch
        further = self.passes_per_unlabelled * self.unlabelled_per_batch
        return self.passes_per_patch * patches + further


class Build(Protocol):
    """Makes what learns; weights follow from the run's seed and a name."""

    def __call__(self, name: str, network: NetworkOptions | None = None) -> SegmentationNetwork:
        """Return a freshly initialised network.

        Args:
            name: Tells the run's networks apart. Methods that share it start from the same
                weights, which makes their comparison a paired one.
            network: Which one; None: the run's.
        """


class TrainingData(Protocol):
    """What a method may see of the data: never a label of an unlabelled case."""

    task: Task
    labelled: Sequence[str]
    unlabelled: Sequence[str]
    """Cases to be pseudo-labelled; those of `partial` are among them."""
    validation: Sequence[str]
    partial: Sequence[str]
    """Labelled training cases whose label leaves voxels unknown (255)."""
    reviewed: Sequence[str]
    """Labelled training cases whose label comes from a review."""
    seed: int
    """The run's seed."""
    stages: Path
    """Where rankings and other records go."""
    scratch: Path
    """Where pseudo-labels and other large work files go; deleted when the run is finished."""

    def excluded(self) -> frozenset[str]:
        """Return the cases that a person took out of the stages to come."""

    def predict(self, case_id: str, forward: Callable[[Tensor], Tensor], seed: str) -> Tensor:
        """Return `forward`'s outputs averaged over sliding windows, (R, D, H, W), float32, CPU.

        All random draws of the windows follow from `seed` and the run's seed.
        """

    def count_windows(self, case_ids: Iterable[str]) -> int:
        """Return over how many windows `predict` goes for these cases together."""

    def label(self, case_id: str) -> NDArray[np.uint8]:
        """Return the label of a labelled training or validation case, (D, H, W).

        Class indices, 255 where nothing is known.
        """

    def true_label(self, case_id: str) -> NDArray[np.uint8]:
        """Return the label of an unlabelled case; refused unless the run allows the oracle."""

    def image(self, case_id: str) -> NDArray[np.float16]:
        """Return the prepared channels of a training or validation case, (C, D, H, W)."""

    def patient(self, case_id: str) -> str:
        """Return whose case it is; the case's own id where nobody knows."""

    def spacing(self, case_id: str) -> tuple[float, float, float]:
        """Return the prepared voxel spacing z, y, x in mm."""

    def tell(self, kind: str, **values: object) -> None:
        """Write an event of the run."""

    def each(self, case_ids: Iterable[str], what: str) -> Iterable[str]:
        """Go through cases with progress, heartbeat and stop requests.

        Where several processes train together, each goes through all of them.
        """

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is not written by case; true if it is alone."""

    def share(self, case_ids: Iterable[str], what: str) -> Iterable[str]:
        """Go through this process's part of the cases; when it ends, all parts are done."""

    def gathered(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what all processes have found, by case; JSON values."""

    def lacks(self, file: Path) -> bool:
        """Return whether a file has still to be made; the same in all processes."""

    def frozen(self, file: Path, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return a JSON file's content; if it is not there, the first process makes it.

        The others wait meanwhile: what takes long is done before, by all (`lacks`).
        """


class Method(Protocol):
    """A strategy of semi-supervised training."""

    def networks(self) -> Mapping[str, nn.Module]:
        """Return everything that is saved in a checkpoint."""

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Return the plan; called anew, with the same result, when a run is resumed."""

    def step(self, phase: Phase, batch: Batch, clock: Clock) -> StepResult:
        """Return loss terms for a batch; no backward, no optimizer."""

    def after_step(self, phase: Phase, clock: Clock) -> None:
        """Update what follows the weights: moving averages, queues, guards."""

    def predictors(self) -> Mapping[str, nn.Module]:
        """Return the networks worth judging: `student`, where there is one `teacher`, raw ones."""

    def state(self) -> dict[str, object]:
        """Return what else a checkpoint must hold, as JSON values."""

    def load_state(self, state: Mapping[str, object]) -> None:
        """Take back what `state` gave."""


class DivergenceError(RuntimeError):
    """Training leaves the ground: weights or losses grow without bound."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Which network, and its options."""

    name: str = "transaspp"
    """The architecture."""
    options: dict[str, object] = field(default_factory=dict)
    """Options of the network's class; what is not given has its default."""


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """How weights are updated."""

    COMMON: ClassVar = frozenset({"rate"})
    """What a person may want to change first."""

    optimizer: Literal["adamw", "sgd"] = "adamw"
    """`sgd` has a momentum of 0.9."""
    rate: float = 3e-4
    """Learning rate at the start."""
    weight_decay: float = 1e-4
    """How strongly weights are pulled towards 0, 0 or more."""
    schedule: Literal["poly", "step", "cosine", "constant"] = "poly"
    """How the learning rate falls from the start to the end of its updates."""

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"rate is {self.rate}, must be positive")

    def group(
        self,
        parameters: Sequence[nn.Parameter],
        schedule_start: int = 0,
        schedule_length: int | None = None,
    ) -> ParameterGroup:
        """Return parameters that learn in this way; the schedule as in `ParameterGroup`."""
        return ParameterGroup(
            parameters=parameters,
            optimizer=self.optimizer,
            rate=self.rate,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            schedule_start=schedule_start,
            schedule_length=schedule_length,
        )


def share_iterations(total: int, proportions: Sequence[float]) -> list[int]:
    """Split `total` updates in the given proportions by largest remainder.

    Ties go to the earlier phase. The parts add up to `total`; small totals leave some at 0.
    """
    weight = sum(proportions)
    if weight <= 0:
        return [0] * len(proportions)
    exact = [total * part / weight for part in proportions]
    shares = [int(part + 1e-9) for part in exact]
    order = sorted(range(len(exact)), key=lambda index: (shares[index] - exact[index], index))
    for index in order[: total - sum(shares)]:
        shares[index] += 1
    return shares
