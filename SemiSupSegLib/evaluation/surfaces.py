"""How far two surfaces lie apart: Hausdorff distance, its 95th percentile, mean distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

VOXELS_PER_POINT = 10
"""A tree over surface points beats a distance map when the box has more voxels a point."""


@dataclass(frozen=True, kw_only=True)
class SurfaceDistances:
    """Distances between the surface voxels of a prediction and those of a reference.

    A surface voxel is an object voxel with a 6-neighbour outside; beyond the border of the grid
    counts as outside. Distances are Euclidean, between voxel centres, in the unit of the spacing.
    """

    to_reference: NDArray[np.float64]
    """From each surface voxel of the prediction to the nearest one of the reference."""
    to_prediction: NDArray[np.float64]
    """From each surface voxel of the reference to the nearest one of the prediction."""

    @property
    def hd(self) -> float:
        """Hausdorff distance: the largest of all."""
        return float(max(self.to_reference.max(), self.to_prediction.max()))

    @property
    def hd95(self) -> float:
        """The larger of the two directed 95th percentiles (linear interpolation)."""
        return float(
            max(np.percentile(self.to_reference, 95), np.percentile(self.to_prediction, 95))
        )

    @property
    def hd95_pooled(self) -> float:
        """95th percentile of both lists together, as MedPy's `hd95` has it."""
        both = np.concatenate([self.to_reference, self.to_prediction])
        return float(np.percentile(both, 95))

    @property
    def assd(self) -> float:
        """Average symmetric surface distance: the mean of both lists together."""
        total = self.to_reference.sum() + self.to_prediction.sum()
        return float(total / (self.to_reference.size + self.to_prediction.size))

    @property
    def asd_directed(self) -> float:
        """Mean distance from the prediction to the reference only, as MedPy's `asd` has it."""
        return float(self.to_reference.mean())


def surface_distances(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Sequence[float]
) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks.

    Args:
        prediction: Boolean mask, shape (D, H, W), not empty.
        reference: The same.
        spacing: Voxel size along D, H, W; mm for distances in mm, (1, 1, 1) for voxels.

    Raises:
        ValueError: If a mask is empty, or shapes or spacing do not fit.
    """
    check_grid(prediction, reference, spacing)
    box = bounding_box(prediction | reference)
    prediction, reference = prediction[box], reference[box]
    if not prediction.any() or not reference.any():
        raise ValueError("an empty mask has no surface, so no distance can be measured")
    of_prediction, of_reference = _surface(prediction), _surface(reference)
    return SurfaceDistances(
        to_reference=_nearest(of_prediction, of_reference, spacing),
        to_prediction=_nearest(of_reference, of_prediction, spacing),
    )


def diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Return the diagonal of the field of view: the distance counted if one mask is empty."""
    return math.sqrt(sum((n * step) ** 2 for n, step in zip(shape, spacing, strict=True)))


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the smallest box of slices that holds all true voxels; empty slices if none is."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        found = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0))
    return tuple(box)


def check_grid(
    prediction: NDArray[np.generic], reference: NDArray[np.generic], spacing: Sequence[float]
) -> None:
    """Check that two volumes have one shape and the spacing fits them.

    Raises:
        ValueError: If they do not.
    """
    if prediction.shape != reference.shape:
        raise ValueError(
            f"prediction has shape {prediction.shape}, reference {reference.shape}: "
            "they must lie on one grid"
        )
    if len(spacing) != prediction.ndim or not all(
        math.isfinite(step) and step > 0 for step in spacing
    ):
        raise ValueError(
            f"spacing is {tuple(spacing)}, must be {prediction.ndim} positive numbers (D, H, W)"
        )


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inner = np.zeros(mask.shape, dtype=bool)
    if min(mask.shape) > 2:
        core = mask[1:-1, 1:-1, 1:-1].copy()
        for axis in range(3):
            for start in (0, 2):
                window = [slice(1, -1)] * 3
                window[axis] = slice(start, mask.shape[axis] - 2 + start)
                core &= mask[tuple(window)]
        inner[1:-1, 1:-1, 1:-1] = core
    surface: NDArray[np.bool_] = mask & ~inner
    return surface


def _nearest(
    source: NDArray[np.bool_], target: NDArray[np.bool_], spacing: Sequence[float]
) -> NDArray[np.float64]:
    points, goals = np.argwhere(source), np.argwhere(target)
    if source.size > VOXELS_PER_POINT * max(len(points), len(goals)):
        step = np.asarray(spacing, dtype=np.float64)
        distances, _ = cKDTree(goals * step).query(points * step)
        return np.asarray(distances, dtype=np.float64)
    away = distance_transform_edt(~target, sampling=tuple(spacing))
    return np.asarray(away[source], dtype=np.float64)
