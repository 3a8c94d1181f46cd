"""Estimated Dice of a case's masks, what follows from it, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SemiSupSegLib.evaluation.ranking import kendall, spearman
from SemiSupSegLib.networks.quality import QualityNetwork
from SemiSupSegLib.quality.crops import box_around, foreground_of, on_cube

LEAST_RISE = 0.3
"""By which share the error must grow when the image is taken away, else masks alone were judged."""
LEAST_FALL = 0.1
"""By how much the correlation must fall then."""


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


def figures_of(estimated: Sequence[float], true: Sequence[float]) -> dict[str, float | int | None]:
    """Return how well estimates tell the true Dice.

    Args:
        estimated: One value a mask.
        true: Dice of the same masks.

    Returns:
        `n`, `pearson`, `spearman`, `kendall` (None where they do not exist), `mae` and `bias`
        (estimated minus true), None without masks.
    """
    if len(estimated) != len(true):
        raise ValueError(f"{len(estimated)} estimates and {len(true)} Dice values: need pairs")
    said, real = np.asarray(estimated, np.float64), np.asarray(true, np.float64)
    varies = len(said) > 2 and np.ptp(said) > 0 and np.ptp(real) > 0
    return {
        "n": len(said),
        "pearson": float(np.corrcoef(said, real)[0, 1]) if varies else None,
        "spearman": spearman(estimated, true).value,
        "kendall": kendall(estimated, true).value,
        "mae": float(np.abs(said - real).mean()) if len(said) else None,
        "bias": float((said - real).mean()) if len(said) else None,
    }


def looks_at_image(
    own: Mapping[str, float | int | None], controls: Sequence[Mapping[str, float | int | None]]
) -> bool | None:
    """Return whether estimates are worse by enough without the image than with it.

    Args:
        own: `figures_of` the estimates.
        controls: The same with the image replaced, in one way each; all must be worse.

    Returns:
        None if there are too few masks to tell.
    """
    if not controls or own["pearson"] is None or own["mae"] is None:
        return None
    mae, pearson = float(own["mae"] or 0), float(own["pearson"] or 0)
    return all(
        float(one["mae"] or 0) >= (1 + LEAST_RISE) * mae
        and (one["pearson"] or 0) <= pearson - LEAST_FALL
        for one in controls
    )
