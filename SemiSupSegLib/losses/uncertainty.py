"""How much a network doubts: spread of several passes, and a log-variance learnt from it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.losses.classes import CLASS_AXIS, most_likely
from SemiSupSegLib.losses.reduction import at_least_float32, over_batch

EPSILON = 1e-4
"""Added to a variance before its logarithm."""
FLOOR = 1e-3
"""Voxels of smaller variance are one half of the distillation loss, the others the other."""


@dataclass(frozen=True, kw_only=True)
class PassStatistics:
    """What several stochastic passes over the same image say together."""

    mean: Tensor
    """Mean probabilities P̄, (…, K, D, H, W)."""
    variance: Tensor
    """Biased variance over passes, averaged over classes, (…, D, H, W), in [0, v_max]."""
    mean_entropy: Tensor
    """Mean over passes of their entropy in nats, (…, D, H, W)."""
    labels: Tensor | None
    """Each pass's most likely classes, uint8, (M, …, D, H, W), if they were kept."""


@torch.no_grad()
def pass_statistics(passes: Iterable[Tensor], *, keep_labels: bool = False) -> PassStatistics:
    """Summarise stochastic passes; one at a time, so a generator saves memory.

    Args:
        passes: Probabilities (…, K, D, H, W) of each pass.
        keep_labels: Whether `labels` is needed, for `pass_dice`.

    Raises:
        ValueError: If there is no pass.
    """
    mean: Tensor | None = None
    squares = entropy = torch.zeros(())
    labels: list[Tensor] = []
    count = 0
    for probabilities in map(at_least_float32, passes):
        count += 1
        if mean is None:
            mean = torch.zeros_like(probabilities)
            squares = torch.zeros_like(probabilities)
            entropy = torch.zeros_like(probabilities.select(CLASS_AXIS, 0))
        # Welford's update: the mean of squares minus the squared mean would cancel.
        change = probabilities - mean
        mean += change / count
        squares.addcmul_(change, probabilities - mean)
        entropy += entropy_of(probabilities)
        if keep_labels:
            labels.append(most_likely(probabilities)[0])
    if mean is None:
        raise ValueError("there is no pass to summarise; at least 1 is needed")
    return PassStatistics(
        mean=mean,
        variance=squares.mean(CLASS_AXIS) / count,
        mean_entropy=entropy / count,
        labels=torch.stack(labels) if keep_labels else None,
    )


def entropy_of(probabilities: Tensor) -> Tensor:
    """Return −Σ p ln p per voxel, (…, D, H, W), in nats; without gradient at p = 0."""
    total = torch.zeros_like(probabilities.select(CLASS_AXIS, 0))
    for probability in probabilities.unbind(CLASS_AXIS):
        total = total - torch.xlogy(probability, probability)
    return total


def entropy_of_logits(logits: Tensor) -> Tensor:
    """Return the entropy of softmax(logits) per voxel (B, D, H, W), with a finite gradient."""
    log_probabilities = F.log_softmax(at_least_float32(logits), 1)
    return -(log_probabilities.exp() * log_probabilities).sum(1)


def most_variance(num_classes: int) -> float:
    """Return v_max = (1 − 1/K)/K: passes that are each certain of another class."""
    return (1 - 1 / num_classes) / num_classes


def log_variance_range(num_classes: int, epsilon: float = EPSILON) -> tuple[float, float]:
    """Return the lowest and highest target of the log-variance."""
    return math.log(epsilon), math.log(most_variance(num_classes) + epsilon)


def log_variance_target(variance: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Return s* = ln(v + ε)."""
    return (variance + epsilon).log()


def log_variance_of(logits: Tensor, share: Tensor) -> Tensor:
    """Return s = ln(v + ε), of v = e^share · mean over classes of p·(1 − p).

    No draws around a probability p vary more than p·(1 − p), so a head needs to learn only which
    share of that stochastic passes reach, not where a class ends.

    Args:
        logits: Of one pass, (B, K, D, H, W); get no gradient.
        share: Logarithm of the share, (B, 1, D, H, W).
    """
    probabilities = at_least_float32(logits).detach().softmax(1)
    most = (probabilities * (1 - probabilities)).mean(1, keepdim=True)
    return log_variance_target(most * at_least_float32(share).exp())


def variance_from_log(log_variance: Tensor, num_classes: int, epsilon: float = EPSILON) -> Tensor:
    """Return the variance a log-variance stands for, in [0, v_max]."""
    low, high = log_variance_range(num_classes, epsilon)
    return (at_least_float32(log_variance).clamp(low, high).exp() - epsilon).clamp(min=0)


def uncertainty_from_log(
    log_variance: Tensor, num_classes: int, epsilon: float = EPSILON
) -> Tensor:
    """Return u: 0 at the lowest possible log-variance, 1 at the highest, linear between."""
    low, high = log_variance_range(num_classes, epsilon)
    return ((at_least_float32(log_variance) - low) / (high - low)).clamp(0, 1)


def log_variance_loss(
    predicted: Tensor,
    variance: Tensor,
    valid: Tensor | None = None,
    *,
    kind: Literal["smooth_l1", "nll"] = "smooth_l1",
    epsilon: float = EPSILON,
    floor: float = FLOOR,
) -> Tensor:
    """Return how far a predicted log-variance is from that of the passes.

    Voxels below the floor (nearly all background) and the others count half each; if one of
    the two is missing, the other is the loss. Without this balance the background decides.

    Args:
        predicted: (B, 1, D, H, W), of the log-variance head.
        variance: (B, D, H, W), of `pass_statistics`; gets no gradient.
        valid: Voxels that count, (B, D, H, W); default all.
        kind: "smooth_l1" of s − ln(v + ε), or the Gaussian "nll" ½((v + ε)·e^−s + s). Its ε
            bounds it below where v = 0.
        epsilon: ε.
        floor: Variance between the two halves.

    Returns:
        Scalar; exactly 0 with zero gradient if no voxel counts.

    Raises:
        ValueError: If the shapes do not fit.
    """
    if predicted.shape != variance.unsqueeze(1).shape:
        raise ValueError(
            f"predicted has shape {tuple(predicted.shape)}, "
            f"expected {tuple(variance.unsqueeze(1).shape)}"
        )
    log_variance = at_least_float32(predicted).squeeze(1)
    variance = at_least_float32(variance).detach()
    if kind == "smooth_l1":
        target = log_variance_target(variance, epsilon)
        values = F.smooth_l1_loss(log_variance, target, reduction="none")
    else:
        values = 0.5 * ((variance + epsilon) * (-log_variance).exp() + log_variance)
    total, halves = values.new_zeros(()), values.new_zeros(())
    for stratum in (variance < floor, variance >= floor):
        mask = stratum if valid is None else stratum & valid
        selected, count = over_batch(torch.where(mask, values, 0.0).sum(), mask.sum())
        total = total + selected / count.clamp(min=1)
        halves = halves + (count > 0)
    return total / halves.clamp(min=1)
