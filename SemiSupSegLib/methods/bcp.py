"""BCP: labelled and unlabelled patches exchange a box, the unlabelled part pseudo-labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from SemiSupSegLib.losses.classes import most_likely
from SemiSupSegLib.losses.ema import update_teacher
from SemiSupSegLib.losses.reduction import IGNORED
from SemiSupSegLib.losses.supervised import supervised_loss
from SemiSupSegLib.methods.copy_paste import exchange_with_unlabelled
from SemiSupSegLib.methods.joint import Joint, JointOptions
from SemiSupSegLib.methods.protocol import (
    Batch,
    Build,
    Clock,
    Phase,
    StepResult,
    TrainingData,
    share_iterations,
)
from SemiSupSegLib.methods.supervised import supervised_step

_PRETRAIN = "pretrain"


@dataclass(frozen=True, kw_only=True)
class BCPOptions(JointOptions):
    """Bidirectional copy-paste."""

    unlabelled_weight: float = 0.5
    """Weight of the pseudo-labelled part of a mixed patch; 0 or more."""
    rampup_fraction: float = 0.0
    """Share of the updates over which that weight climbs; as published it does not climb."""
    pretrain_share: float = 0.12
    """Share of the updates in which labelled patches exchange boxes among each other; 2,000 of
    17,000 as published."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.pretrain_share < 1:
            raise ValueError(f"pretrain_share is {self.pretrain_share}, must be in [0, 1)")
        if self.pretrain_share and self.labelled_per_batch < 2:
            raise ValueError("pretrain_share needs labelled_per_batch of 2 or more")


class BCP(Joint):
    """Pre-training on mixed labelled patches, then self-training on mixtures of both kinds.

    Source: Bai et al. 2023 (arXiv 2305.00673). The pseudo-label of the unlabelled part is that of
    the moving average, which here is in eval mode and goes on from the pre-training's own. Not
    here: keeping the largest component of a pseudo-label (a task does not say that there is only
    one), and the choice of the pre-trained weights by validation.
    """

    # Both parts of a patch are varied alike: else intensities would tell which is which.
    strong_views: ClassVar[Literal[0, 1, 2]] = 1
    _options: BCPOptions

    def __init__(self, options: BCPOptions, build: Build, iterations: int) -> None:
        super().__init__(options, build, iterations)
        share = options.pretrain_share
        self._pretraining, self._iterations = share_iterations(iterations, [share, 1 - share])

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Return pre-training and self-training, on one learning rate schedule."""
        (joint,) = super().phases(data)
        length = self._pretraining + self._iterations
        return [
            replace(
                joint,
                name=_PRETRAIN,
                iterations=self._pretraining,
                group=replace(joint.group, schedule_length=length),
                unlabelled_per_batch=0,
                judged_at_end=(),
            ),
            replace(
                joint,
                group=replace(
                    joint.group, schedule_start=self._pretraining, schedule_length=length
                ),
                draws_as="self-training",
                continues=True,
            ),
        ]

    def step(self, phase: Phase, batch: Batch, clock: Clock) -> StepResult:
        """Return the loss of mixed patches: each part by its own kind of label."""
        options = self._options
        known = batch.num_labelled
        if len(batch.images) == known:
            share = 1.0 if known > 1 else 0.0
            return supervised_step(self._raw, batch, options.loss, self._class_weights, share)
        assert batch.weak is not None
        pseudo_label = self.pseudo_label(batch.weak)
        maps = {"pseudo_label": pseudo_label}
        weight = self.voxel_weight(pseudo_label, batch)
        if weight is not None:
            maps["weight"] = weight
        mixed = exchange_with_unlabelled(replace(batch, maps=maps))
        logits = self._raw(mixed.images)
        supervised = supervised_loss(logits, mixed.labels, options.loss, self._class_weights)
        target = torch.where(mixed.pseudo_valid, mixed.maps["pseudo_label"].long(), IGNORED)
        pseudo = supervised_loss(
            logits, target, options.loss, self._class_weights, mixed.maps.get("weight")
        )["total"]
        total = supervised["total"] + self.weight(clock) * pseudo
        terms = {
            "cross_entropy": supervised["cross_entropy"],
            "dice": supervised["dice"],
            "supervised": supervised["total"],
            "unlabelled": pseudo,
            "loss": total,
        }
        return StepResult(
            total=total, terms={name: value.detach() for name, value in terms.items()}
        )

    def after_step(self, phase: Phase, clock: Clock) -> None:
        """Move the average, which goes on across the phases."""
        before = 0 if phase.name == _PRETRAIN else self._pretraining
        update_teacher(self._average, self._raw, before + clock.phase_iteration, self._options.ema)

    @torch.no_grad()
    def pseudo_label(self, images: Tensor) -> Tensor:
        """Return the moving average's classes of patches, uint8 (U, D, H, W)."""
        return most_likely(self._average(images).float())[0]

    def passes_per_unlabelled(self) -> int:
        """Return the one of the moving average."""
        return 1
