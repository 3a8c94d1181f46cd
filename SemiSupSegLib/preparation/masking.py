"""Which voxels count: the mask of a scan and the box around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk
    from numpy.typing import NDArray

Box = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Start and size of a box, x, y, z."""


def nonzero_mask(
    images: Sequence[sitk.Image], *, largest_component: bool = False, fill_holes: bool = False
) -> NDArray[np.bool_]:
    """Return the voxels (D, H, W) where any of the images, all on one grid, is not 0."""
    import numpy as np
    import SimpleITK as sitk

    mask: NDArray[np.bool_] = np.zeros(images[0].GetSize()[::-1], bool)
    for image in images:
        mask |= sitk.GetArrayViewFromImage(image) != 0
    if not (largest_component or fill_holes) or not mask.any():
        return mask
    region = sitk.GetImageFromArray(mask.astype(np.uint8))
    if largest_component:
        region = sitk.RelabelComponent(sitk.ConnectedComponent(region)) == 1
    if fill_holes:
        region = sitk.BinaryFillhole(region)
    return sitk.GetArrayFromImage(region).astype(bool)


def bounding_box(mask: NDArray[np.bool_], margin_voxels: int = 0) -> Box | None:
    """Return the box of the true voxels, last planes included, widened by the margin.

    Returns:
        None if the mask is empty.
    """
    import numpy as np

    start, size = [], []
    for axis in (2, 1, 0):
        others = tuple(other for other in (0, 1, 2) if other != axis)
        planes = np.flatnonzero(mask.any(axis=others))
        if not planes.size:
            return None
        first = max(int(planes[0]) - margin_voxels, 0)
        last = min(int(planes[-1]) + margin_voxels, mask.shape[axis] - 1)
        start.append(first)
        size.append(last - first + 1)
    return (start[0], start[1], start[2]), (size[0], size[1], size[2])
