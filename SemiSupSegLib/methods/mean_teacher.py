"""Mean Teacher: predictions agree with those of the network's own moving average."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from SemiSupSegLib.inference.stochastic import only_dropout_active
from SemiSupSegLib.losses.consistency import input_noise, squared_difference
from SemiSupSegLib.methods.joint import Joint, JointOptions
from SemiSupSegLib.methods.protocol import Batch, Clock


@dataclass(frozen=True, kw_only=True)
class MeanTeacherOptions(JointOptions):
    """Mean Teacher."""

    noise: float = 0.1
    """Standard deviation of the noise on what the teacher sees, in those of the image; cut off at
    twice that, 0 or more."""
    teacher_dropout: bool = False
    """Whether the teacher's dropout is active, as in the reference code."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise < 0:
            raise ValueError(f"noise is {self.noise}, must be at least 0")


class MeanTeacher(Joint):
    """Squared difference of probabilities between the network and its moving average.

    Source: Tarvainen & Valpola 2017 (arXiv 1703.01780) as SSL4MIS has it in 3D; on unlabelled
    patches alone. There the teacher is in train mode, with dropout; here in eval mode.
    """

    _options: MeanTeacherOptions

    def unlabelled_loss(
        self, logits: Tensor, batch: Batch, clock: Clock
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return mean (p_S − p_T)², the teacher's p_T of the patches with noise."""
        known = batch.num_labelled
        target = self.teach(batch.images[known:])
        weight = self.voxel_weight(target, batch)
        return squared_difference(logits, target, batch.valid[known:], weight), {}

    @torch.no_grad()
    def teach(self, images: Tensor) -> Tensor:
        """Return the teacher's probabilities (U, K, D, H, W) of patches with noise."""
        noisy = input_noise(images, self._options.noise)
        if not self._options.teacher_dropout:
            return self._average(noisy).float().softmax(1)
        with only_dropout_active(self._average):
            return self._average(noisy).float().softmax(1)

    def passes_per_unlabelled(self) -> int:
        """Return the one of the teacher."""
        return 1
