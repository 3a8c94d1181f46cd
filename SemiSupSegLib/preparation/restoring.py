"""From the prepared grid back to the scan's own, and into files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.preparation.nifti import write_nifti
from SemiSupSegLib.preparation.placement import find_placement
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.preparation.resampling import (
    box_of_grid,
    covered_box,
    resample,
    resample_labels,
    with_geometry,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAP_STEPS = 200
"""A map of 0 to 1 is stored in this many steps."""


def restore(
    values: NDArray[np.float32], prepared: PreparedCase, *, outside: Sequence[float]
) -> NDArray[np.float32]:
    """Return maps on the original grid.

    With unchanged spacing each voxel keeps its value; else they are interpolated linearly.

    Args:
        values: (R, D, H, W) on the prepared grid.
        prepared: The case they belong to.
        outside: Value of each of the R maps where the prepared grid does not reach.

    Returns:
        (R, *original.shape).
    """
    import numpy as np
    import SimpleITK as sitk

    _check_shape(values.shape[1:], prepared)
    if len(outside) != len(values):
        raise ValueError(f"there are {len(values)} maps and {len(outside)} values for outside")
    restored = np.empty((len(values), *prepared.original.shape), np.float32)
    restored[:] = np.reshape(np.asarray(outside, np.float32), (-1, 1, 1, 1))
    placement = find_placement(prepared.grid, prepared.original)
    if placement is not None:
        placement.view(restored)[:] = values
        return restored
    part, slices = _reached(prepared)
    for one, background, target in zip(values, outside, restored, strict=True):
        image = resample(with_geometry(one, prepared.grid), part, outside=background)
        target[slices] = sitk.GetArrayViewFromImage(image)
    return restored


def restore_labels(label: NDArray[np.uint8], prepared: PreparedCase) -> NDArray[np.uint8]:
    """Return a label map (D, H, W) of the prepared grid on the original grid, 0 outside.

    Where probabilities are at hand, restore those and take the largest: it is more exact.
    """
    import numpy as np
    import SimpleITK as sitk

    _check_shape(label.shape, prepared)
    restored = np.zeros(prepared.original.shape, np.uint8)
    placement = find_placement(prepared.grid, prepared.original)
    if placement is not None:
        placement.view(restored)[:] = label
        return restored
    part, slices = _reached(prepared)
    image = resample_labels(with_geometry(label, prepared.grid), part)
    restored[slices] = sitk.GetArrayViewFromImage(image)
    return restored


def write_volume(
    path: Path,
    array: NDArray[np.generic],
    prepared_or_geometry: PreparedCase | Geometry,
    like: ImageSource | None = None,
) -> None:
    """Write a volume on the original grid as `.nii.gz` (or `.nii`) with the input's affine.

    Args:
        path: The file to create or replace.
        array: (D, H, W). Integers are written as they are, booleans as 0 and 1; a map of floats
            from 0 to 1 as uint8 in steps of 1/200, with the slope in the header.
        prepared_or_geometry: Gives the grid; a prepared case also the input to be like.
        like: The input image; if it is NIfTI, its affine and codes are copied exactly.

    Raises:
        SemiSupSegError: If the file cannot be written.
        ValueError: If a map leaves 0 to 1.
    """
    import numpy as np

    geometry = prepared_or_geometry
    if isinstance(geometry, PreparedCase):
        like = geometry.reference if like is None else like
        geometry = geometry.original
    slope = 1.0
    if np.issubdtype(array.dtype, np.floating):
        slope = 1 / MAP_STEPS
        array = _in_steps(array)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8)
    write_nifti(path, array, geometry, like=None if like is None else like.path, slope=slope)


def _in_steps(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    import numpy as np

    scaled = np.multiply(values, MAP_STEPS, dtype=np.float32)
    np.rint(scaled, out=scaled)
    # NaN fails the comparison too.
    if not (scaled.min() >= 0 and scaled.max() <= MAP_STEPS):
        raise ValueError(f"map reaches from {values.min()} to {values.max()}, must be in [0, 1]")
    return scaled.astype(np.uint8)


def in_steps(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return a map of 0 to 1 as it is read back from the file that `write_volume` makes."""
    import numpy as np

    return (_in_steps(values) / np.float32(MAP_STEPS)).astype(np.float32)


def _reached(prepared: PreparedCase) -> tuple[Geometry, tuple[slice, slice, slice]]:
    """Return the box of the original grid that the prepared grid covers, and its slices D, H, W."""
    (x, y, z), (width, height, depth) = covered_box(prepared.original, prepared.grid)
    part = box_of_grid(prepared.original, (x, y, z), (width, height, depth))
    return part, (slice(z, z + depth), slice(y, y + height), slice(x, x + width))


def _check_shape(shape: tuple[int, ...], prepared: PreparedCase) -> None:
    if shape != prepared.grid.shape:
        raise ValueError(f"values have shape {shape}, the prepared grid has {prepared.grid.shape}")
