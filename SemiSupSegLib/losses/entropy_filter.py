"""Which predicted voxels are sure enough for their class, by entropy."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_SAMPLED = 100_000
"""Voxels of a class from which its quantile is told; `torch.quantile` takes 16 million at most."""


@torch.no_grad()
def surest_of_each_class(entropy: Tensor, label: Tensor, num_classes: int, share: float) -> Tensor:
    """Return the voxels whose entropy is among the lowest `share` of those of their class.

    One limit for all classes would keep the background alone.

    Source: Lu et al. 2025 (arXiv 2509.13084), class by class. Several processes each have limits of
    their own.

    Args:
        entropy: Any scale, (B, D, H, W).
        label: Predicted classes or 255, (B, D, H, W).
        num_classes: K.
        share: In [0, 1].

    Returns:
        Boolean, (B, D, H, W); false where the label is 255. Draws are PyTorch's, where a class
        has more than `MOST_SAMPLED` voxels.
    """
    kept = torch.zeros_like(label, dtype=torch.bool)
    for index in range(num_classes):
        own = label == index
        values = entropy[own]
        if not len(values):
            continue
        if len(values) > MOST_SAMPLED:
            drawn = torch.randint(len(values), (MOST_SAMPLED,), device=values.device)
            values = values[drawn]
        kept |= own & (entropy <= values.quantile(share))
    return kept
