"""Cross-entropy per voxel, averaged over the voxels that are not ignored."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.losses.reduction import IGNORED, masked_mean, over_batch

ClassBalance = Literal["none", "inverse", "sqrt"]


def log_probability_of(log_probabilities: Tensor, label: Tensor) -> Tensor:
    """Return ln p of each voxel's class (B, D, H, W); that of class 0 where it is ignored.

    Args:
        log_probabilities: From `log_softmax`, (B, K, D, H, W).
        label: Class indices or 255, (B, D, H, W), any integer type.
    """
    index = label.long().masked_fill(label == IGNORED, 0)
    return log_probabilities.gather(1, index.unsqueeze(1)).squeeze(1)


def cross_entropy(
    log_probabilities: Tensor,
    label: Tensor,
    class_weights: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Average −ln p_y over the voxels whose label is not 255.

    Args:
        log_probabilities: From `log_softmax`, (B, K, D, H, W).
        label: Class indices or 255, (B, D, H, W).
        class_weights: (K,); then Σ w_y·ce / Σ w_y.
        weight: ω of each voxel, (B, D, H, W): a factor on its value, not on what is divided by.

    Returns:
        Scalar; exactly 0 if every voxel is ignored.
    """
    values = -log_probability_of(log_probabilities, label)
    valid = label != IGNORED
    if weight is not None:
        values = values * weight
    if class_weights is None:
        return masked_mean(values, valid)
    weights = class_weights.to(values)[label.long().masked_fill(~valid, 0)]
    weights = torch.where(valid, weights, 0.0)
    summed, total = over_batch((weights * values).sum(), weights.sum())
    return summed / torch.where(total > 0, total, 1.0)


def soft_cross_entropy_map(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """Return −Σ_c q_c ln p_c per voxel (B, D, H, W) for target probabilities (B, K, D, H, W)."""
    return -(target * log_probabilities).sum(1)


def binary_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Average the binary cross-entropy of overlapping regions over voxels and channels.

    Args:
        logits: (B, R, D, H, W).
        label: 0, 1 or 255, of the same shape.
    """
    values = F.binary_cross_entropy_with_logits(
        logits, (label == 1).to(logits.dtype), reduction="none"
    )
    return masked_mean(values, label != IGNORED)


def focal_loss(log_probabilities: Tensor, label: Tensor, gamma: float = 2.0) -> Tensor:
    """Average (1 − p_y)^γ·(−ln p_y), which gives hard voxels more say.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, Eq. 4.
    """
    log_probability = log_probability_of(log_probabilities, label)
    values = -((1 - log_probability.exp()) ** gamma) * log_probability
    return masked_mean(values, label != IGNORED)


def balance_weights(voxels: Tensor, balance: ClassBalance) -> Tensor | None:
    """Return a weight per class from its voxel count over the labelled training cases.

    Args:
        voxels: Voxels of each class, (K,).
        balance: "inverse" is median(f)/f_c clipped to [0.1, 10], "sqrt" its root.

    Returns:
        (K,) float32, 0 for a class without any voxel; None for "none".
    """
    if balance == "none":
        return None
    frequencies = voxels.double() / voxels.sum().clamp(min=1)
    present = frequencies > 0
    # The middle of an even count is the mean of the two in the middle, as numpy has it.
    median = frequencies[present].quantile(0.5) if bool(present.any()) else frequencies.sum()
    weights = (median / frequencies).clamp(0.1, 10)
    if balance == "sqrt":
        weights = weights.sqrt()
    return torch.where(present, weights, 0.0).float()
