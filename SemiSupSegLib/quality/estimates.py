"""Estimated Dice of a case's masks, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SemiSupSegLib.networks.quality import QualityNetwork
from SemiSupSegLib.quality.crops import box_around, foreground_of, on_cube


def seen_of(
    image: NDArray[np.floating], masks: Tensor, spacing: Sequence[float], side: int
) -> Tensor:
    """Return what the quality network sees of a whole case, (C + K - 1, side, side, side).

    Args:
        image: Prepared channels, (C, D, H, W); of one on the disk, only what is seen is read.
        masks: Of the classes but background, boolean (K - 1, D, H, W).
        spacing: z, y, x in mm.
        side: Of the view, voxels.
    """
    z, y, x = box_around(foreground_of(masks), spacing)
    part = torch.from_numpy(np.asarray(image[:, z, y, x], np.float32))
    return on_cube(part, masks[:, z, y, x], side)


@torch.no_grad()
def estimates_of(network: QualityNetwork, seen: Tensor) -> list[float]:
    """Return the estimated Dice of each class but background for one view.

    Args:
        network: In eval mode; on any device.
        seen: From `seen_of`.

    Returns:
        K - 1 values, 0-1. That of a class which neither mask nor truth has means nothing.
    """
    device = next(network.parameters()).device
    with torch.autocast(device.type, enabled=False):
        estimates: list[float] = network(seen[None].to(device))[0].tolist()
    return estimates


def judged_label(
    network: QualityNetwork,
    image: NDArray[np.floating],
    label: Tensor,
    spacing: Sequence[float],
) -> list[float | None]:
    """Return the estimated Dice of each class but background of a label map.

    Args:
        network: In eval mode.
        image: Prepared channels, (C, D, H, W).
        label: Class indices, (D, H, W).
        spacing: z, y, x in mm.

    Returns:
        K - 1 values, 0-1; None of a class that the map does not have.
    """
    masks = torch.stack([label == index for index in range(1, network.num_classes)])
    estimates = estimates_of(network, seen_of(image, masks, spacing, network.options.side))
    return [one if bool(mask.any()) else None for one, mask in zip(estimates, masks, strict=True)]


def case_weights(estimates: Sequence[float | None], floor: float, power: float) -> list[float]:
    """Return how far each class's voxels in a case's pseudo-label are trusted.

    w_k = clip((q_k − q₀) / (1 − q₀), 0, 1)^γ of the classes; background has the least of those
    that are present, as a missed voxel lies in it. A label map without any class weighs nothing.

    Source: Abhishek & Hamarneh 2026 (arXiv 2606.01753) weigh by q²·1[q ≥ 0.5] and divide by the
    sum of weights, so that a batch of bad cases counts fully. These weights rise from 0 without a
    jump, and are absolute.

    Args:
        estimates: q of classes 1 to K - 1; None of one that the pseudo-label does not have.
        floor: q₀ in [0, 1): estimates up to it weigh nothing.
        power: γ, above 0.

    Returns:
        K weights, 0-1, background first.
    """
    each = [
        None if one is None else min(max((one - floor) / (1 - floor), 0.0), 1.0) ** power
        for one in estimates
    ]
    least = min((one for one in each if one is not None), default=0.0)
    return [least, *(one or 0.0 for one in each)]
