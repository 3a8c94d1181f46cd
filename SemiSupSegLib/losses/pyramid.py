"""How far the predictions of several decoder levels are from their mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.losses.reduction import at_least_float32, over_batch

Divergence = Literal["mean_first", "head_first"]
"""KL(p̄‖p_s), as the reference code has it, or KL(p_s‖p̄)."""

_SMALLEST_WEIGHT = 1e-8
"""Added to the mean weight that a level's squared difference is divided by."""


class PyramidConsistency(NamedTuple):
    """What `pyramid_consistency` finds."""

    loss: Tensor
    """Scalar, 0 or more."""
    disagreement: Tensor
    """Mean over levels and voxels of the divergence D_s in nats, scalar."""


def pyramid_consistency(
    outputs: Sequence[Tensor],
    mask: Tensor,
    *,
    divergence: Divergence = "mean_first",
    detach_mean: bool = False,
    weight: Tensor | None = None,
) -> PyramidConsistency:
    """Hold each level's probabilities p_s to the mean p̄ of all, less so where it differs much.

    Per level Σ w_s·(p̄ − p_s)² / Σ w_s + mean D_s with w_s = exp(−D_s), squares averaged over
    classes; then the mean over levels. The last term keeps w_s from being made small.

    Source: Luo et al. 2021 (arXiv 2012.07042) as SSL4MIS has it, where the mean comes first in
    the divergence D_s; the papers' equation is reported to differ from that code. There D_s is
    made of logarithms of probabilities, which fail on certain voxels; here of log-softmax.

    Args:
        outputs: Logits (B, K, D, H, W) of each level, all of one size.
        mask: Voxels that count, boolean (B, D, H, W).
        divergence: Which of the two comes first.
        detach_mean: Whether p̄ gets no gradient; in the reference code it does.
        weight: Of each voxel's value, (B, D, H, W); absolute: the mean is still that of as many
            voxels. None is 1 everywhere.

    Returns:
        Loss and mean divergence; exactly 0 with zero gradient if no voxel counts.

    Raises:
        ValueError: If there is no output, or shapes differ.
    """
    if not outputs:
        raise ValueError("there is no output to compare; at least 1 is needed")
    _check_shapes(outputs, mask)
    logs = torch.stack([F.log_softmax(at_least_float32(one), 1) for one in outputs])
    log_mean = logs.logsumexp(0) - math.log(len(outputs))
    if detach_mean:
        log_mean = log_mean.detach()
    mean = log_mean.exp()
    loss, disagreement = mean.new_zeros(()), mean.new_zeros(())
    for log in logs:
        probabilities = log.exp()
        if divergence == "mean_first":
            distance = (mean * (log_mean - log)).sum(1)
        else:
            distance = (probabilities * (log - log_mean)).sum(1)
        certainty = (-distance).exp()
        square = (mean - probabilities).square().mean(1)
        factor = 1.0 if weight is None else weight
        voxels = (square * certainty * factor, certainty, distance * factor)
        selected, weights, distances, count = over_batch(
            *(torch.where(mask, one, 0.0).sum() for one in voxels), mask.sum()
        )
        count = count.clamp(min=1)
        loss = loss + selected / (weights + _SMALLEST_WEIGHT * count) + distances / count
        disagreement = disagreement + distances / count
    return PyramidConsistency(loss / len(outputs), disagreement / len(outputs))


def _check_shapes(outputs: Sequence[Tensor], mask: Tensor) -> None:
    shape = outputs[0].shape
    for number, one in enumerate(outputs):
        if one.shape != shape:
            raise ValueError(
                f"output {number} has shape {tuple(one.shape)}, expected {tuple(shape)}; "
                "enlarge the logits of coarser levels first"
            )
    if mask.shape != (shape[0], *shape[2:]):
        raise ValueError(f"mask has shape {tuple(mask.shape)}, expected {(shape[0], *shape[2:])}")
