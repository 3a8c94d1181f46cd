"""The loss on voxels whose label is a prediction, weighted by how far each is trusted."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.losses.cross_entropy import log_probability_of, soft_cross_entropy_map
from SemiSupSegLib.losses.dice import soft_dice_loss
from SemiSupSegLib.losses.reduction import IGNORED, at_least_float32, over_batch


def pseudo_label_loss(
    logits: Tensor,
    label: Tensor,
    weight: Tensor,
    valid: Tensor,
    *,
    soft_target: Tensor | None = None,
    is_soft: Tensor | None = None,
    with_dice: bool = True,
) -> Tensor:
    """Return ½·(Σω·CE/Σ1 + Dice_ω), both sums over the valid voxels.

    Divided by how many voxels there are, not by Σω: a batch that is trusted little counts little.
    Dice_ω has ω once in each of its sums, counts a class as much as the mean ω of its voxels, and
    leaves the background out.

    Args:
        logits: Of the network that learns, (B, K, D, H, W).
        label: Pseudo-labels, class indices, (B, D, H, W).
        weight: ω, 0-1, (B, D, H, W).
        valid: Voxels that count at all, boolean (B, D, H, W).
        soft_target: Probabilities (B, K, D, H, W) that stand for the label where `is_soft`.
        is_soft: Boolean (B, D, H, W).
        with_dice: Whether there is a Dice term; else ½·Σω·CE/Σ1.

    Returns:
        Scalar; exactly 0 with zero gradient if nothing is valid or trusted.
    """
    log_probabilities = F.log_softmax(at_least_float32(logits), 1)
    values = -log_probability_of(log_probabilities, label)
    if soft_target is not None and is_soft is not None:
        values = torch.where(
            is_soft, soft_cross_entropy_map(log_probabilities, soft_target), values
        )
    trusted = torch.where(valid, weight, 0.0).to(values.dtype)
    summed, count = over_batch((trusted * values).sum(), valid.sum())
    loss = summed / count.clamp(min=1)
    if with_dice:
        known = torch.where(valid, label.long(), IGNORED)
        # Not of classes that no voxel has: each would cost 1 whatever is predicted.
        loss = loss + soft_dice_loss(
            log_probabilities.exp(),
            known,
            trusted,
            exponent=1,
            background=False,
            skip_absent=True,
        )
    return loss / 2
