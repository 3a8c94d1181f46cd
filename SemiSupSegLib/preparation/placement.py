"""Grids that share their voxels: a box of another grid, with axes swapped or flipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from SemiSupSegLib.cases.geometry import Geometry

    Scalar = TypeVar("Scalar", bound=np.generic)

SHARED_VOXEL_TOLERANCE = 0.01
"""Voxel centres nearer than this, in voxels, are the same (rounding of matrices)."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Which voxels of an outer array the voxels of an inner one are."""

    slices: tuple[slice, slice, slice]
    """On the outer axes D, H, W; a step of -1 where the inner axis runs backwards."""
    axes: tuple[int, int, int]
    """The outer axis of each inner axis."""

    def view(self, outer: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return the inner voxels as a view of `outer`; writing into it writes into `outer`.

        Args:
            outer: Any axes, then the three of the outer grid.
        """
        leading = outer.ndim - 3
        part = outer[(..., *self.slices)]
        return part.transpose((*range(leading), *(leading + axis for axis in self.axes)))


def find_placement(inner: Geometry, outer: Geometry) -> Placement | None:
    """Return where the voxels of `inner` stand in `outer`; None if they are other voxels."""
    import numpy as np

    inner_to_outer = np.linalg.solve(outer.index_to_lps(), inner.index_to_lps())
    steps = np.rint(inner_to_outer[:3, :3]).astype(int)
    start = np.rint(inner_to_outer[:3, 3]).astype(int)
    last = np.asarray(inner.size) - 1
    drift = np.abs(inner_to_outer[:3, :3] - steps) @ last
    drift += np.abs(inner_to_outer[:3, 3] - start)
    is_permutation = np.array_equal(np.abs(steps) @ np.abs(steps).T, np.eye(3, dtype=int))
    if drift.max() > SHARED_VOXEL_TOLERANCE or not is_permutation:
        return None
    end = start + steps @ last
    if min(start.min(), end.min()) < 0 or (np.maximum(start, end) >= outer.size).any():
        return None
    # Matrices speak x, y, z; arrays z, y, x.
    slices = []
    for axis in (2, 1, 0):
        step = int(steps[axis].sum())
        stop = int(end[axis]) + step
        slices.append(slice(int(start[axis]), stop if stop >= 0 else None, step))
    axes = [2 - int(np.abs(steps[:, axis]).argmax()) for axis in (2, 1, 0)]
    return Placement(slices=(slices[0], slices[1], slices[2]), axes=(axes[0], axes[1], axes[2]))
