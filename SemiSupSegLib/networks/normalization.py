"""Normalization layers by name."""

from __future__ import annotations

from typing import Literal

from torch import nn

Normalization = Literal["group", "instance", "batch", "none"]


def normalization(kind: Normalization, channels: int, *, groups: int = 8) -> nn.Module:
    """Return a layer that normalises (B, channels, D, H, W).

    Args:
        kind: "group" has no buffers and works at batch 1 and with one voxel; "instance" is
            without affine parameters and running statistics, so it has neither parameters nor
            buffers; "batch" is what most papers used; "none" leaves the values alone.
        channels: Channels of the feature map.
        groups: Most groups of group norm; the largest of it, its half, its quarter, … that
            divides `channels` is taken.

    Raises:
        ValueError: For an unknown `kind`.
    """
    if kind == "group":
        while channels % groups:
            groups //= 2
        return nn.GroupNorm(groups, channels)
    if kind == "instance":
        return nn.InstanceNorm3d(channels)
    if kind == "batch":
        return nn.BatchNorm3d(channels)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"norm is {kind!r}, must be one of group, instance, batch, none")


def shared_statistics(kind: Normalization) -> str | None:
    """Return what one value per channel would be compared with: see `SegmentationNetwork`."""
    return {"instance": "sample", "batch": "batch"}.get(kind)
