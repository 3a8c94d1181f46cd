"""Methods of one phase in which two networks learn side by side, from labels and from each other.

A method of this kind is a loss on unlabelled patches: it derives from `TwoNetworks` and says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from SemiSupSegLib.losses.ema import teacher_of, update_teacher
from SemiSupSegLib.losses.reduction import masked_mean
from SemiSupSegLib.losses.supervised import supervised_loss
from SemiSupSegLib.methods.joint import Joint
from SemiSupSegLib.methods.protocol import (
    Batch,
    Build,
    Clock,
    NetworkOptions,
    ParameterGroup,
    Phase,
    StepResult,
    TrainingData,
)
from SemiSupSegLib.methods.supervised import segmentation_parameters
from SemiSupSegLib.networks.base import SegmentationNetwork


@dataclass(frozen=True, kw_only=True)
class Output:
    """What one of the networks makes of all patches of a batch."""

    features: Tensor
    """Its last feature map, (B, F, D, H, W)."""
    logits: Tensor
    """(B, K, D, H, W)."""


class TwoNetworks(Joint):
    """Two networks, their moving averages, one phase; a subclass has what they tell each other.

    The moving average of the first is the `student`, that of the second the `teacher`: each is the
    other's, and what is exported as a teacher has learnt from the same cases.

    Args:
        options: The method's options; `second` is the second network, if it is another one.
        build: Makes a freshly initialised network.
        iterations: Optimizer updates of the whole run.
    """

    def __init__(self, options: Any, build: Build, iterations: int) -> None:
        super().__init__(options, build, iterations)
        second: NetworkOptions | None = getattr(options, "second", None)
        # Under another name it starts from other weights, even if it is of the same architecture:
        # from equal ones both would stay equal but for their dropout.
        self._second_raw = build("second", second)
        self._second_average = teacher_of(self._second_raw)

    def networks(self) -> Mapping[str, nn.Module]:
        """Return both networks and their moving averages."""
        second = {"teacher_raw": self._second_raw, "teacher": self._second_average}
        return {**super().networks(), **second}

    def predictors(self) -> Mapping[str, nn.Module]:
        """Return the moving averages, and the first network itself."""
        return {
            "student": self._average,
            "teacher": self._second_average,
            "student_raw": self._raw,
        }

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Return the one phase, which changes and judges both."""
        return [
            replace(one, judged=("student", "teacher"), passes_per_patch=2 * one.passes_per_patch)
            for one in super().phases(data)
        ]

    def step(self, phase: Phase, batch: Batch, clock: Clock) -> StepResult:
        """Return L = L_sup(first) + L_sup(second) + λ(t)·L_cross of a batch."""
        known = batch.num_labelled
        options = self._options
        # The first network comes first: its dropout draws what it would draw alone.
        outputs = tuple(_output(one, batch.images) for one in (self._raw, self._second_raw))
        first, second = (
            supervised_loss(one.logits[:known], batch.labels, options.loss, self._class_weights)
            for one in outputs
        )
        total = first["total"] + second["total"]
        terms = {name: value for name, value in first.items() if name != "total"}
        terms.update(supervised=first["total"], second_supervised=second["total"])
        if len(batch.images) > known:
            loss, figures = self.cross_loss((outputs[0], outputs[1]), batch, clock)
            total = total + self.weight(clock) * loss
            terms.update(
                unlabelled=loss, agreed_share=_agreed_share(*outputs, batch=batch), **figures
            )
        terms["loss"] = total
        return StepResult(
            total=total, terms={name: value.detach() for name, value in terms.items()}
        )

    def after_step(self, phase: Phase, clock: Clock) -> None:
        """Move both averages."""
        super().after_step(phase, clock)
        update_teacher(
            self._second_average, self._second_raw, clock.phase_iteration, self._options.ema
        )

    def parameter_group(self) -> ParameterGroup:
        """Return the parameters of both networks; the trainer limits each one's gradient."""
        group = super().parameter_group()
        second = segmentation_parameters(self._second_raw)
        return replace(group, parameters=[*group.parameters, *second])

    def cross_loss(
        self, outputs: tuple[Output, Output], batch: Batch, clock: Clock
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return what the networks learn from each other, and further figures to log.

        Args:
            outputs: Of the first and the second network, of all patches.
            batch: All patches, labelled ones first.
            clock: Where the run stands.
        """
        raise NotImplementedError


def _output(network: SegmentationNetwork, images: Tensor) -> Output:
    features = network.features(images)
    return Output(features=features, logits=network.segment(features))


def _agreed_share(first: Output, second: Output, *, batch: Batch) -> Tensor:
    """Return the share of unlabelled voxels in which both networks say the same class."""
    known = batch.num_labelled
    same = first.logits[known:].argmax(1) == second.logits[known:].argmax(1)
    return masked_mean(same.float(), batch.valid[known:])
