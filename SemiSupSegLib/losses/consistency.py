"""How far a network's predictions are from what others say of the same voxels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.losses.reduction import at_least_float32, masked_mean


def squared_difference(
    logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Average (p − q)² over classes and the voxels that count.

    Source: the consistency of Mean Teacher (Tarvainen & Valpola 2017) as UA-MT and SSL4MIS have
    it: of probabilities, divided by K.

    Args:
        logits: Of the network that learns, (B, K, D, H, W); p is their softmax.
        target: Probabilities q of the same shape; get no gradient.
        mask: Voxels that count, boolean (B, D, H, W).
        weight: Of each voxel's difference, (B, D, H, W); absolute: the mean is still that of as
            many voxels. None is 1 everywhere.

    Returns:
        Scalar in [0, 2/K]; exactly 0 with zero gradient if no voxel counts.
    """
    probabilities = F.softmax(at_least_float32(logits), 1)
    values = (probabilities - target.detach()).square().mean(1)
    return masked_mean(values, mask, weight)


def input_noise(images: Tensor, deviation: float = 0.1) -> Tensor:
    """Return images with Gaussian noise limited to twice its standard deviation.

    Args:
        images: Prepared, in standard deviations of their own, any shape.
        deviation: Of the noise before it is limited. Draws are PyTorch's.
    """
    noise = torch.randn_like(images) * deviation
    return images + noise.clamp(-2 * deviation, 2 * deviation)
