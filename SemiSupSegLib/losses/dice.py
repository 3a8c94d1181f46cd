"""Soft Dice loss."""

from __future__ import annotations

import torch
from torch import Tensor

from SemiSupSegLib.losses.classes import one_hot
from SemiSupSegLib.losses.reduction import IGNORED, over_batch

_SMOOTH = 1e-5


def dice_per_class(
    probabilities: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    exponent: int = 2,
    batch: bool = True,
) -> Tensor:
    """Return L_c = 1 − (2Σp·g + ε)/(Σp^r + Σg^r + ε), ε = 1e-5, for every class.

    Args:
        probabilities: (B, K, D, H, W).
        target: One-hot booleans, or soft targets, of the same shape.
        weight: ω ≥ 0 of each voxel in every sum, broadcastable; booleans leave voxels out. It
            stands once in each: with ω² in Σp·g, doubtful foreground would be unlearnt.
        exponent: r, 1 or 2.
        batch: Whether the sums run over all samples.

    Returns:
        (K,) if `batch`, else (B, K), each value in [0, 1].
    """
    _check_exponent(exponent)
    axes = (0, 2, 3, 4) if batch else (2, 3, 4)
    weighted = probabilities if weight is None else probabilities * weight
    shared = (weighted * target).sum(axes)
    if exponent == 2:
        weighted = weighted * probabilities
        if target.dtype != torch.bool:
            target = target * target
    if weight is not None:
        target = target & weight if _both_boolean(target, weight) else target * weight
    sizes = weighted.sum(axes) + target.sum(axes)
    if batch:
        shared, sizes = over_batch(shared, sizes)
    return 1 - (2 * shared + _SMOOTH) / (sizes + _SMOOTH)


def soft_dice_loss(
    probabilities: Tensor,
    label: Tensor,
    weight: Tensor | None = None,
    *,
    exponent: int = 2,
    background: bool = True,
    batch: bool = True,
    skip_absent: bool = False,
) -> Tensor:
    """Average the soft Dice loss over classes.

    Args:
        probabilities: (B, K, D, H, W), softmax of classes or sigmoid of regions.
        label: Class indices or 255, (B, D, H, W); for regions 0, 1 or 255, (B, K, D, H, W).
        weight: Per voxel, (B, D, H, W), 0-1, in every sum. Absolute: a class's loss counts as much
            as the mean weight of its voxels, else weights that are all small would change nothing.
        exponent: Of the sums in the denominator, 1 or 2.
        background: Whether class 0 counts; regions all count.
        batch: Whether sums run over all samples; else each sample has its own Dice.
        skip_absent: Leave classes out that the label does not hold: in a crop without the class
            its loss is 1 for any prediction.

    Returns:
        Scalar in [0, 1]; exactly 0 with zero gradient if every voxel is ignored.
    """
    regions = label.ndim == probabilities.ndim
    target = label == 1 if regions else one_hot(label, probabilities.shape[1])
    valid = label != IGNORED if regions else (label != IGNORED).unsqueeze(1)
    factor = valid if weight is None else valid * weight.unsqueeze(1)
    first = 0 if regions or background else 1
    probabilities, target = probabilities[:, first:], target[:, first:]
    losses = dice_per_class(probabilities, target, factor, exponent=exponent, batch=batch)
    if weight is not None:
        losses = losses * _mean_weight(target & valid, weight, batch=batch)
    if not skip_absent:
        return losses.mean()
    present = target.flatten(2).any(2)
    if batch:
        (samples,) = over_batch(present.sum(0))
        present = samples > 0
    means = torch.where(present, losses, 0.0).sum(-1) / present.sum(-1).clamp(min=1)
    if batch:
        return means
    total, judged = over_batch(means.sum(), present.any(-1).sum())
    return total / judged.clamp(min=1)


def _mean_weight(known: Tensor, weight: Tensor, *, batch: bool) -> Tensor:
    """Return the mean weight of each class's voxels, (K,) or (B, K); 0 of a class without any."""
    axes = (0, 2, 3, 4) if batch else (2, 3, 4)
    weights, voxels = (known * weight.unsqueeze(1)).sum(axes), known.sum(axes)
    if batch:
        weights, voxels = over_batch(weights, voxels)
    return weights / voxels.clamp(min=1)


def _check_exponent(exponent: int) -> None:
    if exponent not in (1, 2):
        raise ValueError(f"exponent is {exponent}, must be 1 or 2")


def _both_boolean(first: Tensor, second: Tensor) -> bool:
    return first.dtype == torch.bool and second.dtype == torch.bool
