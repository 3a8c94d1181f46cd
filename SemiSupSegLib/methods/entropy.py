"""Entropy minimisation: predictions without labels are made certain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from SemiSupSegLib.losses.classes import most_likely
from SemiSupSegLib.losses.reduction import masked_mean
from SemiSupSegLib.losses.uncertainty import entropy_of_logits
from SemiSupSegLib.methods.joint import Joint, JointOptions
from SemiSupSegLib.methods.protocol import Batch, Clock


@dataclass(frozen=True, kw_only=True)
class EntropyOptions(JointOptions):
    """Entropy minimisation."""

    on: Literal["unlabelled", "all"] = "unlabelled"
    """Whose predictions are made certain; "all" as in the reference code."""


class Entropy(Joint):
    """Mean entropy of the predictions, in units of the highest possible, ln K.

    It sharpens whatever is there: where little is foreground, the cheapest certain prediction is
    background, so `foreground_share`, of the unlabelled voxels, is worth watching.

    Source: Grandvalet & Bengio 2004 as SSL4MIS has it in 3D. There the mean runs over
    labelled patches, too, in units of ln 2; here over unlabelled ones, and K counts.
    """

    _options: EntropyOptions

    def further_loss(
        self, outputs: Sequence[Tensor], batch: Batch, clock: Clock
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean of −Σ p ln p / ln K in [0, 1], and the share of foreground."""
        (logits,) = outputs
        known = batch.num_labelled
        first = 0 if self._options.on == "all" else known
        entropy = entropy_of_logits(logits[first:]) / math.log(logits.shape[1])
        valid = batch.valid[known:]
        foreground = (most_likely(logits[known:].detach())[0] > 0) & valid
        share = foreground.sum() / valid.sum().clamp(min=1)
        weight = self.voxel_weight(logits[known:], batch)
        if weight is not None and not first:
            weight = torch.cat([torch.ones_like(entropy[:known]), weight])
        return masked_mean(entropy, batch.valid[first:], weight), {"foreground_share": share}
