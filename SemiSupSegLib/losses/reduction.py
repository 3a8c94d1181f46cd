"""Means over the voxels that count, in float32; over the batches of all processes, if several."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

IGNORED = 255
"""Label of voxels that no loss looks at: padding, unreviewed."""

Total = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]
"""Adds tensors up over all processes."""
_total: ContextVar[Total | None] = ContextVar("total", default=None)


@contextlib.contextmanager
def shared_batch(total: Total | None) -> Iterator[None]:
    """Let losses see the batches of several processes as one, as far as they are made of sums.

    Every process must compute the same losses in the same order meanwhile.

    Args:
        total: Adds tensors up over the processes. A process's gradient with respect to what it
            adds must be as many times that of the sum as there are processes: gradients are
            averaged afterwards, and only so is their average the sum of the parts. None: this
            process is alone.
    """
    former = _total.set(total)
    try:
        yield
    finally:
        _total.reset(former)


def over_batch(*sums: Tensor) -> tuple[Tensor, ...]:
    """Return sums over this process's part of the batch, added up over the whole of it."""
    total = _total.get()
    return sums if total is None else total(sums)


def at_least_float32(values: Tensor) -> Tensor:
    """Return `values` in float32; float64 stays. Losses are never computed in half precision."""
    return values if values.dtype == torch.float64 else values.float()


def masked_mean(values: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """Average `values` over the voxels where `mask` is true.

    Args:
        values: Per-voxel quantity, any shape; what stands outside the mask may be infinite.
        mask: Boolean, of the same shape.
        weight: Factor on each value, 0-1, of the same shape. Absolute: the mean is divided by as
            many voxels as without it. None is 1 everywhere.

    Returns:
        Scalar; exactly 0 with zero gradient if the mask is empty, so that a batch in which no
        pseudo-label passed the threshold does not stop the run.

    Raises:
        ValueError: If the mask does not fit the values.
    """
    _check_same_shape(values, mask)
    if weight is not None:
        values = values * weight
    selected, count = over_batch(torch.where(mask, values, 0.0).sum(), mask.sum())
    return selected / count.clamp(min=1)


def mean_over_images(values: Tensor, weight: Tensor) -> Tensor:
    """Average per image by `weight`, then over all images of the batch.

    Args:
        values: Per-voxel quantity (B, D, H, W).
        weight: Weights of at least 0, the same shape; booleans count as 0 and 1.

    All processes have equally many images, so the average of their means is that of all images.

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
