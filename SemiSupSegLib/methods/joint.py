"""Methods of one phase, in which labelled and unlabelled patches are learnt from together.

A method of this kind is a loss on unlabelled patches: it derives from `Joint` and says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from SemiSupSegLib.losses.ema import teacher_of, update_teacher
from SemiSupSegLib.losses.schedules import consistency_weight
from SemiSupSegLib.losses.supervised import SupervisedLossOptions, supervised_loss
from SemiSupSegLib.methods.protocol import (
    Batch,
    Build,
    Clock,
    NetworkOptions,
    OptimizerOptions,
    ParameterGroup,
    Phase,
    StepResult,
    TrainingData,
)
from SemiSupSegLib.methods.quality_options import QualityOptions
from SemiSupSegLib.methods.reweighting import CaseQuality, voxel_weight
from SemiSupSegLib.methods.supervised import (
    class_weights,
    segmentation_parameters,
    tell_if_all_labelled,
)

STAIRS = 40
"""Stairs of the ramp, as of UA-MT on the left atrium: 6,000 updates in steps of 150."""


@dataclass(frozen=True, kw_only=True)
class JointOptions:
    """What every method has that learns from both kinds of patches in one phase."""

    COMMON: ClassVar = frozenset(
        {"labelled_per_batch", "unlabelled_per_batch", "unlabelled_weight"}
    )
    """What a person may want to change first."""

    network: NetworkOptions = field(default_factory=NetworkOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    loss: SupervisedLossOptions = field(
        # The mean of both terms, beside which the papers' weights of the other loss are meant.
        default_factory=lambda: SupervisedLossOptions(profile="liu", ce_weight=0.5, dice_weight=0.5)
    )
    labelled_per_batch: int = 2
    """Labelled patches in a batch."""
    unlabelled_per_batch: int = 2
    """Unlabelled patches in a batch."""
    unlabelled_weight: float = 0.1
    """Weight of the loss on unlabelled patches, once its ramp is over; 0 or more."""
    rampup_fraction: float = 1.0
    """Share of the updates over which that weight climbs; the papers climb to the end."""
    rampup_quantum: int = 0
    """Updates per stair of the ramp; 0: a fortieth of the updates."""
    ema: float = 0.99
    """Decay of the moving average that is judged and exported."""
    quality: QualityOptions = field(default_factory=QualityOptions)

    def __post_init__(self) -> None:
        for name in ("labelled_per_batch", "unlabelled_per_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        for name in ("unlabelled_weight", "rampup_quantum"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0")
        if not 0 <= self.rampup_fraction <= 1:
            raise ValueError(f"rampup_fraction is {self.rampup_fraction}, must be in [0, 1]")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}, must be in [0, 1)")


class Joint:
    """One network, its moving average, one phase; a subclass has the loss on unlabelled patches.

    The moving average is what is judged and exported as `student`; in the mean-teacher family it
    is the teacher, too, and the paper's student is `student_raw`.

    Args:
        options: The method's options.
        build: Makes a freshly initialised network.
        iterations: Optimizer updates of the whole run.
    """

    strong_views: ClassVar[Literal[0, 1, 2]] = 0
    """How often unlabelled patches are strongly varied in intensity."""
    predicts_unlabelled: ClassVar[bool] = True
    """Whether the network sees the unlabelled patches as they are, together with the labelled."""

    def __init__(self, options: Any, build: Build, iterations: int) -> None:
        self._options = options
        self._iterations = iterations
        # Weights and draws are those of supervised training: what a comparison then shows is
        # not the luck of the first weights.
        self._raw = build("teacher")
        self._average = teacher_of(self._raw)
        self._class_weights: Tensor | None = None
        self.quality: CaseQuality | None = None
        """How good the pseudo-labels of the cases are, if the run has a network that judges."""

    def networks(self) -> Mapping[str, nn.Module]:
        """Return the network and its moving average."""
        return {"student_raw": self._raw, "student": self._average}

    def predictors(self) -> Mapping[str, nn.Module]:
        """Return the moving average, exported as `student`, and the network itself."""
        return {"student": self._average, "student_raw": self._raw}

    def state(self) -> dict[str, object]:
        """Return nothing: the counters say it all."""
        return {}

    def load_state(self, state: Mapping[str, object]) -> None:
        """Take nothing back."""

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Return the one phase."""
        options = self._options
        self._class_weights = class_weights(data, options.loss)
        tell_if_all_labelled(data)
        return [
            Phase(
                name="joint",
                draws_as="teacher",
                iterations=self._iterations,
                group=self.parameter_group(),
                labelled_per_batch=options.labelled_per_batch,
                unlabelled_per_batch=options.unlabelled_per_batch if data.unlabelled else 0,
                unlabelled_cases=lambda: tuple(data.unlabelled),
                strong_views=self.strong_views,
                judged_at_end=("student_raw",),
                passes_per_patch=self.passes_per_patch(),
                passes_per_unlabelled=self.passes_per_unlabelled(),
            )
        ]

    def step(self, phase: Phase, batch: Batch, clock: Clock) -> StepResult:
        """Return L = L_sup + λ(t)·L_unlabelled of a batch."""
        known = batch.num_labelled
        images = batch.images if self.predicts_unlabelled else batch.images[:known]
        outputs = self.outputs(images)
        supervised = self.supervised_terms([logits[:known] for logits in outputs], batch)
        total = supervised["total"]
        terms = {name: value for name, value in supervised.items() if name != "total"}
        terms["supervised"] = total
        if len(batch.images) > known:
            loss, figures = self.further_loss(outputs, batch, clock)
            total = total + self.weight(clock) * loss
            terms.update(unlabelled=loss, **figures)
        terms["loss"] = total
        return StepResult(
            total=total, terms={name: value.detach() for name, value in terms.items()}
        )

    def outputs(self, images: Tensor) -> Sequence[Tensor]:
        """Return logits (B, K, D, H, W) of patches: the network's, and of further heads if any."""
        return [self._raw(images)]

    def supervised_terms(self, outputs: Sequence[Tensor], batch: Batch) -> Mapping[str, Tensor]:
        """Return the supervised loss's terms and their total: the mean over the outputs.

        Args:
            outputs: Of the labelled patches alone, (L, K, D, H, W).
            batch: All patches.
        """
        losses = [
            supervised_loss(logits, batch.labels, self._options.loss, self._class_weights)
            for logits in outputs
        ]
        return {name: torch.stack([one[name] for one in losses]).mean() for name in losses[0]}

    def further_loss(
        self, outputs: Sequence[Tensor], batch: Batch, clock: Clock
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return what is added to the supervised loss, and further figures to log.

        Args:
            outputs: Logits of all patches, (B, K, D, H, W) each; of the labelled ones alone if
                `predicts_unlabelled` is false.
            batch: All patches.
            clock: Where the run stands.
        """
        return self.unlabelled_loss(outputs[0][batch.num_labelled :], batch, clock)

    def after_step(self, phase: Phase, clock: Clock) -> None:
        """Move the average."""
        update_teacher(self._average, self._raw, clock.phase_iteration, self._options.ema)

    def weight(self, clock: Clock) -> float:
        """Return λ(t)."""
        options = self._options
        return consistency_weight(
            clock.phase_iteration,
            self._iterations,
            options.unlabelled_weight,
            rampup_fraction=options.rampup_fraction,
            rampup_quantum=options.rampup_quantum or max(1, self._iterations // STAIRS),
        )

    def parameter_group(self) -> ParameterGroup:
        """Return what is learnt, and how."""
        rates = self._options.optimizer
        return rates.group(segmentation_parameters(self._raw))

    def unlabelled_loss(
        self, logits: Tensor, batch: Batch, clock: Clock
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss on unlabelled patches, and further figures to log.

        A method that needs more than this implements `further_loss`.

        Args:
            logits: The network's, of the unlabelled patches alone, (U, K, D, H, W); none if
                `predicts_unlabelled` is false.
            batch: All patches.
            clock: Where the run stands.
        """
        raise NotImplementedError

    def passes_per_patch(self) -> int:
        """Return the forward passes that a patch takes, a backward pass counted as two."""
        return 3

    def labeller(self) -> nn.Module | None:
        """Return the network whose predictions unlabelled patches are taught: the average."""
        return self._average

    def voxel_weight(self, pseudo: Tensor, batch: Batch) -> Tensor | None:
        """Return how much each voxel of the unlabelled patches counts, (U, D, H, W), 0-1.

        Every loss on unlabelled patches multiplies its values by it, not its mean's denominator:
        weights are absolute. None if the run weighs nothing.

        Args:
            pseudo: What the patches are taught: class indices (U, D, H, W), or probabilities or
                logits (U, K, D, H, W), whose likeliest class counts.
            batch: All patches.
        """
        return voxel_weight(self.quality, pseudo, batch)

    def passes_per_unlabelled(self) -> int:
        """Return the predictions that an unlabelled patch takes besides the network's own."""
        return 0
