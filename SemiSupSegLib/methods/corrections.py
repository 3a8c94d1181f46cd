"""Learning from corrections: a finished student goes on with what a person has corrected.

A short phase at a low rate. Of each batch a share is of reviewed cases, which so come up more often
than their number; the rest is of the cases that the student learnt from before, so that nothing
is forgotten. Where a person has said nothing (255 in the label) nothing is learnt. The former
teacher stays as it is and goes along, so that agreement can still be told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from SemiSupSegLib.losses.ema import teacher_of, update_teacher
from SemiSupSegLib.losses.supervised import SupervisedLossOptions
from SemiSupSegLib.methods.distillation import distil_phase, distil_step
from SemiSupSegLib.methods.protocol import (
    Batch,
    Build,
    Clock,
    NetworkOptions,
    OptimizerOptions,
    Phase,
    StepResult,
    TrainingData,
    share_iterations,
)
from SemiSupSegLib.methods.pseudo_labels import PseudoLabelOptions
from SemiSupSegLib.methods.supervised import (
    class_weights,
    segmentation_parameters,
    supervised_step,
)

_DISTIL = "student_distil"


@dataclass(frozen=True, kw_only=True)
class CorrectionsOptions:
    """A short run from a finished student."""

    COMMON: ClassVar = frozenset({"labelled_per_batch", "reviewed_share"})
    """What a person may want to change first."""

    network: NetworkOptions = field(default_factory=NetworkOptions)
    """That of the student that it starts from."""
    has_teacher: bool = False
    """Whether the former teacher goes along."""
    optimizer: OptimizerOptions = field(default_factory=lambda: OptimizerOptions(rate=3e-5))
    loss: SupervisedLossOptions = field(
        default_factory=lambda: SupervisedLossOptions(profile="liu")
    )
    labelled_per_batch: int = 4
    """Patches in a batch."""
    reviewed_share: float = 0.5
    """Of the patches, those of reviewed cases."""
    copy_paste: float = 0.0
    """Share of the batches whose patches exchange a box, label included. Not taken over from the
    former run: with half of the patches of few reviewed cases it cost Dice on brats_cubes."""
    ema: float = 0.99
    """Decay of the moving average that is judged and exported."""
    head_share: float = 0.15
    """Updates of the log-variance head, if there is one, by those of the segmentation."""
    head_rate: float = 1e-3
    """Learning rate of the log-variance head at the start."""
    pseudo_labels: PseudoLabelOptions = field(default_factory=PseudoLabelOptions)
    """How the head is taught (`passes`, `log_variance_loss`); no case is pseudo-labelled."""

    def __post_init__(self) -> None:
        if self.labelled_per_batch < 1:
            raise ValueError(f"labelled_per_batch is {self.labelled_per_batch}, must be at least 1")
        for name in ("reviewed_share", "copy_paste"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1]")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}, must be in [0, 1)")
        if self.copy_paste and self.labelled_per_batch < 2:
            raise ValueError("copy_paste needs labelled_per_batch of 2 or more")
        if self.head_share < 0:
            raise ValueError(f"head_share is {self.head_share}, must be at least 0")
        if self.head_rate <= 0:
            raise ValueError(f"head_rate is {self.head_rate}, must be positive")


class Corrections:
    """The former student, its moving average, and the former teacher.

    Args:
        options: The method's options.
        build: Makes the networks `student` and `teacher` with the weights of the former model.
        iterations: Optimizer updates of the whole run.
    """

    def __init__(
        self,
        options: CorrectionsOptions,
        build: Build,
        iterations: int,
    ) -> None:
        self._options = options
        self._raw = build("student")
        self._average = teacher_of(self._raw)
        self._teacher = teacher_of(build("teacher")) if options.has_teacher else None
        head = options.head_share if self._raw.has_log_variance else 0.0
        self._iterations, self._distil_iterations = share_iterations(iterations, [1.0, head])
        self._class_weights: Tensor | None = None

    def networks(self) -> Mapping[str, nn.Module]:
        """Return the student, its moving average, and the teacher, if there is one."""
        networks: dict[str, nn.Module] = {"student_raw": self._raw, "student": self._average}
        if self._teacher is not None:
            networks["teacher"] = self._teacher
        return networks

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Return the phase of the corrections, and that of the head if there is one."""
        options = self._options
        self._class_weights = class_weights(data, options.loss)
        rates = options.optimizer
        phases = [
            Phase(
                name="corrections",
                iterations=self._iterations,
                group=rates.group(segmentation_parameters(self._raw)),
                labelled_per_batch=options.labelled_per_batch,
                favoured=tuple(data.reviewed),
                favoured_share=options.reviewed_share,
                judged_at_end=("student_raw",),
            )
        ]
        if self._distil_iterations:
            phases.append(
                distil_phase(
                    _DISTIL,
                    self._average,
                    iterations=self._distil_iterations,
                    rate=options.head_rate,
                    passes=options.pseudo_labels.passes,
                    labelled_per_batch=options.labelled_per_batch,
                )
            )
        return phases

    def step(self, phase: Phase, batch: Batch, clock: Clock) -> StepResult:
        """Return the supervised loss of a batch, or that of the head."""
        options = self._options
        if phase.name == _DISTIL:
            return distil_step(self._average, batch, options.pseudo_labels)
        return supervised_step(
            self._raw, batch, options.loss, self._class_weights, options.copy_paste
        )

    def after_step(self, phase: Phase, clock: Clock) -> None:
        """Move the average."""
        if phase.name != _DISTIL:
            update_teacher(self._average, self._raw, clock.phase_iteration, self._options.ema)

    def predictors(self) -> Mapping[str, nn.Module]:
        """Return the moving average, the former teacher, and the network itself."""
        predictors: dict[str, nn.Module] = {"student": self._average, "student_raw": self._raw}
        if self._teacher is not None:
            predictors["teacher"] = self._teacher
        return predictors

    def state(self) -> dict[str, object]:
        """Return nothing: the counters say it all."""
        return {}

    def load_state(self, state: Mapping[str, object]) -> None:
        """Take nothing back."""
