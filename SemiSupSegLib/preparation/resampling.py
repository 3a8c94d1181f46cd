"""From one voxel grid to another: images linearly, label maps class by class."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from SemiSupSegLib.cases.geometry import Geometry, geometry_of

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk
    from numpy.typing import NDArray

SMALLEST_BLUR_VOXELS = 0.2
"""A Gaussian narrower than this changes nothing."""


def orient(image: sitk.Image) -> sitk.Image:
    """Return the image with its axes turned to run left, posterior, superior as nearly as possible.

    Voxels are only reordered; what is left of an oblique direction stays in the geometry.
    """
    import SimpleITK as sitk

    return sitk.DICOMOrient(image, "LPS")


def with_geometry(array: NDArray[np.generic], geometry: Geometry) -> sitk.Image:
    """Return an image of `array` (D, H, W) on the grid `geometry`."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def box_of_grid(
    grid: Geometry, start: tuple[int, int, int], size: tuple[int, int, int]
) -> Geometry:
    """Return the part of `grid` from the index `start` (x, y, z) on, `size` voxels large."""
    x, y, z, _ = (float(one) for one in grid.index_to_lps() @ (*start, 1))
    return dataclasses.replace(grid, size=size, origin=(x, y, z))


def covered_box(grid: Geometry, by: Geometry) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return start and size (x, y, z) of the box of `grid` in which all voxels of `by` lie.

    Voxels reach half a spacing beyond their centres. The size is 0 where the grids lie apart.
    """
    import numpy as np

    edges = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in by.size])).reshape(3, -1)
    corners = np.vstack([edges, np.ones(edges.shape[1])])
    there = np.linalg.solve(grid.index_to_lps(), by.index_to_lps() @ corners)[:3]
    start = np.clip(np.ceil(there.min(axis=1) - 1e-6), 0, grid.size).astype(int)
    stop = np.clip(np.floor(there.max(axis=1) + 1e-6) + 1, start, grid.size).astype(int)
    x, y, z = (int(one) for one in start)
    width, height, depth = (int(one) for one in stop - start)
    return (x, y, z), (width, height, depth)


def grid_with_spacing(
    grid: Geometry, spacing: tuple[float, float, float], tolerance: float
) -> Geometry:
    """Return a grid with `spacing` that covers `grid` and shares its centre and axes.

    Axes whose spacing differs by a fraction of `tolerance` or less keep it; if all do, the
    grid is returned as it is.
    """
    import numpy as np

    new_spacing = tuple(
        old if abs(new / old - 1) <= tolerance else new
        for old, new in zip(grid.spacing, spacing, strict=True)
    )
    if new_spacing == grid.spacing:
        return grid
    # The new voxels' edges enclose the old ones', so every old centre can be restored.
    size = tuple(
        max(1, math.ceil(count * old / new - 1e-6))
        for count, old, new in zip(grid.size, grid.spacing, new_spacing, strict=True)
    )
    centre = grid.index_to_lps() @ (*((count - 1) / 2 for count in grid.size), 1)
    to_last = (np.array(size) - 1) * new_spacing
    x, y, z = (float(one) for one in centre[:3] - np.reshape(grid.direction, (3, 3)) @ to_last / 2)
    return Geometry(
        size=(size[0], size[1], size[2]),
        spacing=(new_spacing[0], new_spacing[1], new_spacing[2]),
        origin=(x, y, z),
        direction=grid.direction,
    )


def resample(image: sitk.Image, grid: Geometry, *, outside: float = 0.0) -> sitk.Image:
    """Return a scalar image on `grid`, interpolated linearly, float32.

    Axes that get coarser are blurred first, so that no detail is folded into noise.

    Args:
        image: Any scalar type.
        grid: Where to.
        outside: Value beyond the image's outermost voxels.

    Source: Cardoso et al. 2015, "Scale factor point spread function matching", for the blur.
    """
    import SimpleITK as sitk

    return sitk.Resample(
        _blurred(sitk.Cast(image, sitk.sitkFloat32), grid),
        grid.size,
        sitk.Transform(),
        sitk.sitkLinear,
        grid.origin,
        grid.spacing,
        grid.direction,
        outside,
        sitk.sitkFloat32,
    )


def resample_labels(label: sitk.Image, grid: Geometry) -> sitk.Image:
    """Return a label map on `grid`: each class is resampled linearly, the largest share wins.

    Surfaces stay where they were, while nearest neighbour would move them by up to half a voxel.

    Args:
        label: uint8 class indices.
        grid: Where to; beyond the label map it is background.
    """
    import numpy as np
    import SimpleITK as sitk

    array = sitk.GetArrayViewFromImage(label)
    source = geometry_of(label)
    winner = np.zeros(grid.shape, np.uint8)
    best = np.zeros(grid.shape, np.float32)
    background = np.ones(grid.shape, np.float32)
    present = np.flatnonzero(np.bincount(array.reshape(-1), minlength=1))
    for value in present[present > 0]:
        one = with_geometry((array == value).astype(np.float32), source)
        # A view does not keep its image alive, so the image needs a name.
        resampled = resample(one, grid)
        share = sitk.GetArrayViewFromImage(resampled)
        background -= share
        ahead = share > best
        winner[ahead] = value
        best[ahead] = share[ahead]
    winner[background >= best] = 0
    return with_geometry(winner, grid)


def _blurred(image: sitk.Image, grid: Geometry) -> sitk.Image:
    import numpy as np
    import SimpleITK as sitk
    from scipy import ndimage

    # The grid's spacing along each axis of the image, which may be oblique to it.
    axes = np.reshape(image.GetDirection(), (3, 3))
    cosines = np.reshape(grid.direction, (3, 3)).T @ axes
    reach = np.linalg.norm(cosines * np.reshape(grid.spacing, (3, 1)), axis=0)
    ratios = reach / np.asarray(image.GetSpacing())
    fwhm_to_sigma = 1 / (2 * math.sqrt(2 * math.log(2)))
    sigmas = np.sqrt(np.maximum(ratios**2 - 1, 0)) * fwhm_to_sigma
    if sigmas.max() < SMALLEST_BLUR_VOXELS:
        return image
    array = ndimage.gaussian_filter(
        sitk.GetArrayViewFromImage(image), sigmas[::-1], mode="nearest", truncate=3
    )
    return with_geometry(array, geometry_of(image))
