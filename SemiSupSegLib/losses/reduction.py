"""Means over the voxels that count, in float32."""

from __future__ import annotations

import torch
from torch import Tensor

IGNORED = 255
"""Label of voxels that no loss looks at: padding, unreviewed."""


def at_least_float32(values: Tensor) -> Tensor:
    """Return `values` in float32; float64 stays. Losses are never computed in half precision."""
    return values if values.dtype == torch.float64 else values.float()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average `values` over the voxels where `mask` is true.

    Args:
        values: Per-voxel quantity, any shape; what stands outside the mask may be infinite.
        mask: Boolean, of the same shape.

    Returns:
        Scalar; exactly 0 with zero gradient if the mask is empty, so that a batch in which no
        pseudo-label passed the threshold does not stop the run.

    Raises:
        ValueError: If the mask does not fit the values.
    """
    _check_same_shape(values, mask)
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def mean_over_images(values: Tensor, weight: Tensor) -> Tensor:
    """Average per image by `weight`, then over all images of the batch.

    Args:
        values: Per-voxel quantity (B, D, H, W).
        weight: Weights of at least 0, the same shape; booleans count as 0 and 1.

    Returns:
        Scalar, mean over images of Σ weight·values / Σ weight; an image without weight counts
        as 0, and so does an empty batch, with zero gradient.

    Raises:
        ValueError: If the weights do not fit the values.
    """
    _check_same_shape(values, weight)
    selected = torch.where(weight > 0, values * weight, 0.0).flatten(1).sum(1)
    total = weight.flatten(1).sum(1).to(values.dtype)
    means = selected / torch.where(total > 0, total, 1.0)
    return means.sum() / max(len(means), 1)


def _check_same_shape(values: Tensor, mask: Tensor) -> None:
    if mask.shape != values.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, expected {tuple(values.shape)}")
