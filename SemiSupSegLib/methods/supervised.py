"""Supervised training on the labelled cases alone: the baseline of everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from SemiSupSegLib.losses.cross_entropy import balance_weights
from SemiSupSegLib.losses.ema import teacher_of, update_teacher
from SemiSupSegLib.losses.supervised import SupervisedLossOptions, supervised_loss
from SemiSupSegLib.methods.copy_paste import exchange_labelled, is_drawn
from SemiSupSegLib.methods.protocol import (
    Batch,
    Build,
    Clock,
    NetworkOptions,
    OptimizerOptions,
    Phase,
    StepResult,
    TrainingData,
)
from SemiSupSegLib.networks.base import SegmentationNetwork


@dataclass(frozen=True, kw_only=True)
class SupervisedOptions:
    """Training on labelled cases alone."""

    COMMON: ClassVar = frozenset({"labelled_per_batch"})
    """What a person may want to change first."""

    network: NetworkOptions = field(default_factory=NetworkOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    loss: SupervisedLossOptions = field(
        default_factory=lambda: SupervisedLossOptions(profile="liu")
    )
    labelled_per_batch: int = 2
    """Patches in a batch."""
    copy_paste: float = 0.0
    """Share of the batches whose patches exchange a box, label included."""
    ema: float = 0.99
    """Decay of the moving average that is judged and exported."""

    def __post_init__(self) -> None:
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}, must be in [0, 1)")
        if not 0 <= self.copy_paste <= 1:
            raise ValueError(f"copy_paste is {self.copy_paste}, must be in [0, 1]")
        if self.copy_paste and self.labelled_per_batch < 2:
            raise ValueError("copy_paste needs labelled_per_batch of 2 or more")
        if self.labelled_per_batch < 1:
            raise ValueError(f"labelled_per_batch is {self.labelled_per_batch}, must be at least 1")


class Supervised:
    """One network, its moving average, one phase."""

    def __init__(
        self,
        options: SupervisedOptions,
        build: Build,
        iterations: int,
    ) -> None:
        self._options = options
        self._iterations = iterations
        # Weights and draws are those of the curriculum's teacher: what a comparison then shows is
        # not the luck of the first weights.
        self._raw = build("teacher")
        self._average = teacher_of(self._raw)
        self._class_weights: Tensor | None = None

    def networks(self) -> Mapping[str, nn.Module]:
        """Return the network and its moving average."""
        return {"student_raw": self._raw, "student": self._average}

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Return the one phase."""
        self._class_weights = class_weights(data, self._options.loss)
        rates = self._options.optimizer
        group = rates.group(segmentation_parameters(self._raw))
        return [
            Phase(
                name="supervised",
                draws_as="teacher",
                iterations=self._iterations,
                group=group,
                labelled_per_batch=self._options.labelled_per_batch,
                judged_at_end=("student_raw",),
            )
        ]

    def step(self, phase: Phase, batch: Batch, clock: Clock) -> StepResult:
        """Return the supervised loss of a batch."""
        options = self._options
        return supervised_step(
            self._raw, batch, options.loss, self._class_weights, options.copy_paste
        )

    def after_step(self, phase: Phase, clock: Clock) -> None:
        """Move the average."""
        update_teacher(self._average, self._raw, clock.iteration, self._options.ema)

    def predictors(self) -> Mapping[str, nn.Module]:
        """Return the moving average, exported as `student`, and the network itself."""
        return {"student": self._average, "student_raw": self._raw}

    def state(self) -> dict[str, object]:
        """Return nothing: the counters say it all."""
        return {}

    def load_state(self, state: Mapping[str, object]) -> None:
        """Take nothing back."""


def tell_if_all_labelled(data: TrainingData) -> None:
    """Warn that a method which learns from unlabelled cases has none."""
    if not data.unlabelled:
        data.tell(
            "warning",
            message="There are no unlabelled cases: the student learns from the labelled ones "
            "alone.",
        )


def class_weights(data: TrainingData, options: SupervisedLossOptions) -> Tensor | None:
    """Return what the options ask for: (K,) from the voxels of the labelled training cases.

    The labels do not change while a run lasts, so a resumed run has the same weights.
    """
    if options.class_weights == "none":
        return None
    voxels = np.zeros(data.task.num_classes, dtype=np.int64)
    for case_id in data.each(data.labelled, "counting voxels of classes"):
        # 255, unknown, lies behind the classes.
        counts = np.bincount(data.label(case_id).ravel(), minlength=len(voxels))
        voxels += counts[: len(voxels)]
    return balance_weights(torch.from_numpy(voxels), options.class_weights)


def supervised_step(
    network: nn.Module,
    batch: Batch,
    options: SupervisedLossOptions,
    class_weights: Tensor | None,
    copy_paste: float = 0.0,
) -> StepResult:
    """Return the loss of a batch of labelled patches, a share of them after copy-paste."""
    images, labels = batch.images, batch.labels
    if is_drawn(copy_paste):
        images, labels = exchange_labelled(images, labels)
    loss = supervised_loss(network(images), labels, options, class_weights)
    return StepResult(
        total=loss["total"], terms={name: value.detach() for name, value in loss.items()}
    )


def segmentation_parameters(network: SegmentationNetwork) -> list[nn.Parameter]:
    """Return the parameters without those of the log-variance head, which is learnt apart."""
    head = {id(parameter) for parameter in network.head_parameters()}
    return [parameter for parameter in network.parameters() if id(parameter) not in head]
