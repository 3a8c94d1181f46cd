"""How far the predictions of several decoders are from each other's sharpened ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.losses.reduction import at_least_float32, masked_mean


def mutual_consistency(
    outputs: Sequence[Tensor],
    mask: Tensor,
    *,
    temperature: float = 0.1,
    detach_sharp: bool = True,
    weight: Tensor | None = None,
) -> Tensor:
    """Add up the mean (P_i − S_j)² over all pairs i ≠ j of outputs, S_j sharpened.

    S_j = P_j^(1/T) / Σ_k P_j,k^(1/T), which is the softmax of logits divided by T.

    Source: Wu et al. 2022 (arXiv 2109.09960), MC-Net+; means over voxels and classes. The
    reference code sharpens each class by itself, which is the same for two classes, and lets the
    gradient into S_j, too, as `detach_sharp=False` does.

    Args:
        outputs: Logits (B, K, D, H, W) of each decoder.
        mask: Voxels that count, boolean (B, D, H, W).
        temperature: T; below 1 it sharpens, above 0.
        detach_sharp: Whether S_j gets no gradient.
        weight: Of each voxel's value, (B, D, H, W); absolute: the mean is still that of as many
            voxels. None is 1 everywhere.

    Returns:
        Scalar; exactly 0 with zero gradient if no voxel counts.

    Raises:
        ValueError: If there are fewer than 2 outputs, or the temperature is not positive.
    """
    if len(outputs) < 2:
        raise ValueError(f"there are {len(outputs)} outputs to compare; at least 2 are needed")
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}, must be positive")
    logits = [at_least_float32(one) for one in outputs]
    predictions = [F.softmax(one, 1) for one in logits]
    sharp = [F.softmax(one / temperature, 1) for one in logits]
    if detach_sharp:
        sharp = [one.detach() for one in sharp]
    terms = [
        masked_mean((predictions[one] - sharp[other]).square().mean(1), mask, weight)
        for one, other in permutations(range(len(logits)), 2)
    ]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
