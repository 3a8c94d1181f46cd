"""The ways in which maps grow; trilinear does not hold up training on a CPU."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Upsampling = Literal["transpose", "trilinear", "nearest"]
"""How a decoder doubles the size of a map."""


def double_size(values: Tensor) -> Tensor:
    """Return (B, C, 2D, 2H, 2W), trilinear with `align_corners=False`."""
    return enlarge(values, 2)


def enlarge(values: Tensor, factor: int) -> Tensor:
    """Return (B, C, fD, fH, fW) of (B, C, D, H, W), trilinear with `align_corners=False`.

    On a CPU it is a matrix product per axis, two to five times as fast as torch's own kernel
    for doubling the maps of a 32³ to 96³ patch and equal to it but for rounding.
    """
    if factor == 1:
        return values
    if values.device.type != "cpu":
        return F.interpolate(values, scale_factor=float(factor), mode="trilinear")
    depth, height, width = (_weights(size, factor, values.dtype) for size in values.shape[2:])
    values = torch.matmul(height, torch.matmul(values, width.T))
    enlarged = torch.matmul(depth, values.flatten(3))
    return enlarged.reshape(*values.shape[:2], -1, *values.shape[3:])


def repeat_voxels(values: Tensor) -> Tensor:
    """Return (B, C, 2D, 2H, 2W), each voxel eight times: nearest-neighbour upsampling.

    Unlike torch's own it has a deterministic backward pass on CUDA.
    """
    batch, channels, depth, height, width = values.shape
    split = values.view(batch, channels, depth, 1, height, 1, width, 1)
    repeated = split.expand(-1, -1, -1, 2, -1, 2, -1, 2)
    return repeated.reshape(batch, channels, 2 * depth, 2 * height, 2 * width)


class Resize(nn.Module):
    """Doubles the size of a map without learning anything."""

    def __init__(self, kind: Literal["trilinear", "nearest"]) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, values: Tensor) -> Tensor:
        """Return (B, C, 2D, 2H, 2W)."""
        return double_size(values) if self.kind == "trilinear" else repeat_voxels(values)


def _weights(size: int, factor: int, dtype: torch.dtype) -> Tensor:
    """Return the matrix (factor·size, size) that enlarges an axis."""
    unit = torch.eye(size, dtype=torch.float32)[None]
    enlarged = F.interpolate(unit, scale_factor=float(factor), mode="linear")
    return enlarged[0].T.to(dtype).contiguous()
