"""What the quality network sees of a case: the surroundings of its masks, on a cube of voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN_MM = 8.0
"""How far the surroundings reach beyond the masks."""

Box = tuple[slice, slice, slice]


def box_around(foreground: Tensor, spacing: Sequence[float], margin_mm: float = MARGIN_MM) -> Box:
    """Return the smallest box with all foreground voxels and a margin, within the grid.

    Args:
        foreground: Boolean, (D, H, W).
        spacing: Voxel spacing z, y, x in mm.
        margin_mm: On every side, rounded up to voxels.

    Returns:
        Slices z, y, x; the whole grid if there is no foreground.
    """
    slices = []
    for axis, (length, step) in enumerate(zip(foreground.shape, spacing, strict=True)):
        others = [one for one in range(3) if one != axis]
        places = foreground.any(others[1]).any(others[0]).nonzero()
        if not len(places):
            return (*(slice(0, size) for size in foreground.shape),)  # type: ignore[return-value]
        reach = math.ceil(margin_mm / step - 1e-6)
        first, last = int(places[0]), int(places[-1])
        slices.append(slice(max(0, first - reach), min(length, last + reach + 1)))
    return slices[0], slices[1], slices[2]


def on_cube(image: Tensor, masks: Tensor, side: int) -> Tensor:
    """Return image and masks on a cube of voxels, whatever their extent.

    Masks of floating point are interpolated like the image, and so differentiable; booleans take
    the value of the nearest voxel, and stay masks.

    Args:
        image: Channels, (C, D, H, W).
        masks: Of the classes but background, (K - 1, D, H, W).
        side: Of the cube.

    Returns:
        (C + K - 1, side, side, side), float32.
    """
    size = (side, side, side)
    seen = F.interpolate(image[None].float(), size, mode="trilinear", align_corners=False)
    if masks.is_floating_point():
        shown = F.interpolate(masks[None].float(), size, mode="trilinear", align_corners=False)
    else:
        shown = F.interpolate(masks[None].float(), size, mode="nearest-exact")
    return torch.cat([seen, shown], 1)[0]


def view_of(image: Tensor, masks: Tensor, spacing: Sequence[float], side: int) -> Tensor:
    """Return what the quality network sees of a case or a patch.

    Where the box is follows from the masks, without gradient; what is in it has one.

    Args:
        image: Channels, (C, D, H, W).
        masks: Of the classes but background, (K - 1, D, H, W), booleans or probabilities.
        spacing: Voxel spacing z, y, x in mm.
        side: Of the cube.

    Returns:
        (C + K - 1, side, side, side), float32.
    """
    z, y, x = box_around(foreground_of(masks), spacing)
    return on_cube(image[:, z, y, x], masks[:, z, y, x], side)


def foreground_of(masks: Tensor) -> Tensor:
    """Return where masks (K - 1, D, H, W) together hold more than half a voxel, boolean."""
    return masks.any(0) if masks.dtype == torch.bool else masks.detach().sum(0) > 0.5
