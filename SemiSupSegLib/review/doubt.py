"""How probably each voxel's label is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.review.options import RegionOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_ROUNDING = 1e-6


def doubt_of(
    confidence: NDArray[np.floating[Any]],
    found: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    options: RegionOptions,
) -> NDArray[np.float32]:
    """Return the probability that each voxel's label is wrong, (D, H, W).

    It is 1 - confidence within `near_mm` of what was found. The confidence was fitted near the
    object and says too little of what lies far from it, so beyond that doubt fades to its `far`
    part at `reach_mm`. Where nothing at all was found, all is far.

    Args:
        confidence: Calibrated, 0-1, (D, H, W).
        found: Where student or teacher see anything but background.
        spacing_mm: Voxel size along D, H, W.
        options: Distances and the far part.
    """
    import numpy as np

    doubt = np.subtract(1, confidence, dtype=np.float32)
    np.clip(doubt, 0, 1, out=doubt)
    if options.far == 1:
        return doubt
    box = box_of(found)
    if box is None:
        doubt *= np.float32(options.far)
        return doubt
    around = widened(box, found.shape, spacing_mm, options.reach_mm)
    weight = np.full(doubt.shape, options.far, np.float32)
    weight[around] = fade(_distances(found[around], spacing_mm), options)
    doubt *= weight
    return doubt


def reaches(doubt: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Return where doubt is at least a threshold, but for rounding: 1 - 0.6 reaches 0.4."""
    reached: NDArray[np.bool_] = doubt >= threshold - _ROUNDING
    return reached


def distance_to(
    found: NDArray[np.bool_], spacing_mm: Sequence[float], limit_mm: float
) -> NDArray[np.float32]:
    """Return how far each voxel is from what was found, in mm; infinite beyond the limit."""
    import numpy as np

    distance = np.full(found.shape, np.inf, np.float32)
    box = box_of(found)
    if box is not None:
        around = widened(box, found.shape, spacing_mm, limit_mm)
        near = _distances(found[around], spacing_mm)
        distance[around] = np.where(near <= limit_mm, near, np.inf)
    return distance


def fade(distance_mm: NDArray[np.floating[Any]], options: RegionOptions) -> NDArray[np.float32]:
    """Return which part of the doubt is left at a distance from what was found."""
    import numpy as np

    span = max(options.reach_mm - options.near_mm, 1e-6)
    share = np.clip((distance_mm - options.near_mm) / span, 0, 1)
    left: NDArray[np.float32] = (1 - (1 - options.far) * share).astype(np.float32)
    return left


def box_of(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """Return the smallest box that holds all true voxels; None if there are none."""
    import numpy as np

    sides = []
    # Slice by slice first: then the other axes need only what is left.
    for axis in range(3):
        others = tuple({0, 1, 2} - {axis})
        hits = np.flatnonzero(mask.any(axis=others))
        if not hits.size:
            return None
        sides.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return (sides[0], sides[1], sides[2])


def widened(
    box: Sequence[slice], shape: Sequence[int], spacing_mm: Sequence[float], margin_mm: float
) -> tuple[slice, slice, slice]:
    """Return a box with a margin on every side, inside the volume."""
    sides = [
        slice(
            max(0, side.start - math.ceil(margin_mm / step)),
            min(length, side.stop + math.ceil(margin_mm / step)),
        )
        for side, length, step in zip(box, shape, spacing_mm, strict=True)
    ]
    return (sides[0], sides[1], sides[2])


def _distances(found: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """Return each voxel's distance to the nearest true one, in mm."""
    import numpy as np
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(found.astype(np.uint8))
    image.SetSpacing([float(step) for step in reversed(spacing_mm)])
    # From voxel centre to voxel centre, as scipy's transform, in a fifth of its time.
    squared = sitk.SignedMaurerDistanceMap(
        image, insideIsPositive=False, squaredDistance=True, useImageSpacing=True
    )
    distances: NDArray[np.float32] = np.sqrt(np.maximum(sitk.GetArrayFromImage(squared), 0))
    # An object without any border in the box has no distances.
    distances[found] = 0
    return distances
