"""Losses on pseudo-labelled voxels: learn from the trusted ones, unlearn or soften the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.losses.cross_entropy import log_probability_of, soft_cross_entropy_map
from SemiSupSegLib.losses.reduction import IGNORED, at_least_float32, mean_over_images

LowMode = Literal[
    "ignore",
    "subtract",
    "subtract_clipped",
    "subtract_prob",
    "negative",
    "complementary",
    "uniform",
    "soft",
]

NEEDS_TEACHER = frozenset({"complementary", "soft"})
"""Modes that need the teacher's probabilities."""
UNBOUNDED = frozenset({"subtract"})
"""Modes without a lower bound: the caller warns, and stops when the weights grow out of hand."""
GATE = 0.05
""""complementary" pushes a class down only if the teacher gives it less than this."""


def high_confidence_loss(
    logits: Tensor,
    pseudo_label: Tensor,
    weight: Tensor | None,
    high_mask: Tensor,
    smoothing: float = 0.0,
    importance: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy on trusted voxels: Σω·CE/Σω per image, then the mean over images.

    Args:
        logits: Of the student, (B, K, D, H, W).
        pseudo_label: Class indices or 255 (never counted), (B, D, H, W).
        weight: ω ≥ 0, (B, D, H, W); None is 1 everywhere.
        high_mask: Trusted voxels, boolean, (B, D, H, W).
        smoothing: α of the target (1 − α)·e_ŷ + α/K, in [0, 1).
        importance: Factor on each voxel's cross-entropy, (B, D, H, W); unlike ω it is not in the
            denominator. None is 1 everywhere.

    Returns:
        Scalar; an image without trusted voxels counts as 0, with zero gradient.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}, must be in [0, 1)")
    log_probabilities = F.log_softmax(at_least_float32(logits), 1)
    values = -log_probability_of(log_probabilities, pseudo_label)
    if smoothing:
        values = (1 - smoothing) * values - smoothing * log_probabilities.mean(1)
    if importance is not None:
        values = values * importance
    mask = high_mask & (pseudo_label != IGNORED)
    factor = mask.to(values.dtype)
    if weight is not None:
        factor = torch.where(mask, weight.to(values.dtype), 0.0)
    return mean_over_images(values, factor)


def low_confidence_loss(
    logits: Tensor,
    pseudo_label: Tensor,
    low_mask: Tensor,
    mode: LowMode,
    teacher_probabilities: Tensor | None = None,
    gate: float = GATE,
    importance: Tensor | None = None,
) -> Tensor:
    """Return R_low/λ2: what happens to voxels that are not trusted, before its factor λ2.

    Averages over the untrusted voxels of each image, then over images. With P the student's
    probabilities, P̄ the teacher's, ŷ the pseudo-label and CE = −ln P_ŷ:

    * "ignore" is 0;
    * "subtract" −CE (verbatim; it has no minimum, its gradient grows without end);
    * "subtract_clipped" −min(CE, ln K), which stops when ŷ is no likelier than chance;
    * "subtract_prob" −(1 − P_ŷ);
    * "negative" −ln(1 − P_ŷ);
    * "complementary" −ln(1 − P_k) for the teacher's least likely class k, 0 where P̄_k ≥ gate;
    * "uniform" the divergence of P from chance, −(1/K)Σ ln P_k − ln K;
    * "soft" the cross-entropy with P̄.

    Source: "subtract" is Liu, Ding, Zhang 2026, Eq. 13; the others are ours or classic.

    Args:
        logits: Of the student, (B, K, D, H, W).
        pseudo_label: ŷ or 255 (never counted), (B, D, H, W).
        low_mask: Untrusted voxels, boolean, (B, D, H, W).
        mode: One of these.
        teacher_probabilities: P̄, (B, K, D, H, W), for the modes in `NEEDS_TEACHER`.
        gate: Of "complementary".
        importance: Factor on each voxel's term, (B, D, H, W); None is 1 everywhere.

    Returns:
        Scalar; an image without untrusted voxels counts as 0, with zero gradient.

    Raises:
        ValueError: For an unknown mode, or if the teacher is needed and missing.
    """
    if mode not in get_args(LowMode):
        raise ValueError(f"low_mode is {mode!r}, must be one of {', '.join(get_args(LowMode))}")
    logits = at_least_float32(logits)
    if mode == "ignore":
        # The sum of nothing is 0 and still belongs to the graph.
        return logits[:0].sum()
    log_probabilities = F.log_softmax(logits, 1)
    if mode in NEEDS_TEACHER:
        if teacher_probabilities is None:
            raise ValueError(f"low_mode '{mode}' needs the teacher's probabilities")
        teacher = teacher_probabilities.detach().to(logits.dtype)
        if mode == "soft":
            values = soft_cross_entropy_map(log_probabilities, teacher)
        else:
            values = _complementary(log_probabilities, teacher, gate)
    elif mode == "uniform":
        values = -log_probabilities.mean(1) - math.log(log_probabilities.shape[1])
    else:
        values = _ON_THE_LABEL[mode](log_probabilities, pseudo_label)
    if importance is not None:
        values = values * importance
    return mean_over_images(values, low_mask & (pseudo_label != IGNORED))


def _subtract(log_probabilities: Tensor, label: Tensor) -> Tensor:
    return log_probability_of(log_probabilities, label)


def _subtract_clipped(log_probabilities: Tensor, label: Tensor) -> Tensor:
    chance = -math.log(log_probabilities.shape[1])
    log_probability = log_probability_of(log_probabilities, label)
    return torch.where(log_probability > chance, log_probability, chance)


def _subtract_prob(log_probabilities: Tensor, label: Tensor) -> Tensor:
    return log_probability_of(log_probabilities, label).exp() - 1


def _negative(log_probabilities: Tensor, label: Tensor) -> Tensor:
    return -_log_of_others(log_probabilities, label)


_ON_THE_LABEL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "subtract": _subtract,
    "subtract_clipped": _subtract_clipped,
    "subtract_prob": _subtract_prob,
    "negative": _negative,
}


def _complementary(log_probabilities: Tensor, teacher: Tensor, gate: float) -> Tensor:
    least, index = teacher.min(1)
    return torch.where(least < gate, -_log_of_others(log_probabilities, index), 0.0)


def _log_of_others(log_probabilities: Tensor, label: Tensor) -> Tensor:
    """Return ln(1 − P_label) as a sum over the other classes, which stays finite at P = 1."""
    index = label.long().masked_fill(label == IGNORED, 0).unsqueeze(1)
    return log_probabilities.scatter(1, index, -math.inf).logsumexp(1)
