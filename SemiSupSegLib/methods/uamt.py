"""UA-MT: Mean Teacher where the teacher is sure, by the entropy of several of its predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.inference.stochastic import has_dropout, only_dropout_active
from SemiSupSegLib.losses.consistency import input_noise, squared_difference
from SemiSupSegLib.losses.schedules import sigmoid_ramp
from SemiSupSegLib.losses.uncertainty import entropy_of
from SemiSupSegLib.methods.mean_teacher import MeanTeacher, MeanTeacherOptions
from SemiSupSegLib.methods.protocol import Batch, Build, Clock

_LOWEST, _RISE = 0.75, 0.25
"""The threshold's start and its rise to the end, in ln K."""


@dataclass(frozen=True, kw_only=True)
class UAMTOptions(MeanTeacherOptions):
    """Uncertainty-aware Mean Teacher."""

    passes: int = 8
    """Predictions of the teacher with dropout and noise whose mean tells how sure it is."""
    target: Literal["single", "mean"] = "single"
    """What the student is held to: one further prediction, as published, or the passes' mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.passes < 2:
            raise ValueError(f"passes is {self.passes}, must be at least 2")


class UAMT(MeanTeacher):
    """Mean Teacher with the voxels left out whose predictive entropy is above a rising threshold.

    Source: Yu et al. 2019 (arXiv 1907.07034) and yulequan/UA-MT, on unlabelled patches alone:
    H(t) = (0.75 + 0.25·r(t, T))·ln K. There the teacher is in train mode, and the factors ln 2 and
    1/(2 Σm) hold for two classes; here it is in eval mode with its dropout active, and K counts.
    """

    _options: UAMTOptions

    def __init__(self, options: UAMTOptions, build: Build, iterations: int) -> None:
        super().__init__(options, build, iterations)
        if not has_dropout(self._raw):
            raise UsageError(
                "uamt tells the teacher's doubt by passes that differ, but this network has no "
                "dropout. Choose a network with dropout, or the method mean_teacher."
            )

    def unlabelled_loss(
        self, logits: Tensor, batch: Batch, clock: Clock
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return mean (p_S − p_T)² over the voxels with entropy below H(t), and their share."""
        known = batch.num_labelled
        images, valid = batch.images[known:], batch.valid[known:]
        single = self.teach(images) if self._options.target == "single" else None
        mean = self.mean_of_passes(images)
        sure = valid & (entropy_of(mean) < self.threshold(clock, logits.shape[1]))
        target = mean if single is None else single
        loss = squared_difference(logits, target, sure, self.voxel_weight(target, batch))
        return loss, {"sure_share": sure.sum() / valid.sum().clamp(min=1)}

    def threshold(self, clock: Clock, num_classes: int) -> float:
        """Return H(t) in nats."""
        ramp = sigmoid_ramp(clock.phase_iteration, self._iterations)
        return (_LOWEST + _RISE * ramp) * math.log(num_classes)

    @torch.no_grad()
    def mean_of_passes(self, images: Tensor) -> Tensor:
        """Return the mean of the passes' probabilities, (U, K, D, H, W), float32.

        Two passes make a call, as published; they are added up as they come, not kept.
        """
        passes = self._options.passes
        total: Tensor | None = None
        with only_dropout_active(self._average):
            for first in range(0, passes, 2):
                count = min(2, passes - first)
                noisy = input_noise(images.repeat(count, 1, 1, 1, 1), self._options.noise)
                found = self._average(noisy).float().softmax(1)
                for part in found.chunk(count):
                    total = part.clone() if total is None else total.add_(part)
        assert total is not None
        return total / passes

    def passes_per_unlabelled(self) -> int:
        """Return those that are averaged, and the target's."""
        return self._options.passes + (self._options.target == "single")
