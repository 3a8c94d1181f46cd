"""Where voxels lie in the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk
    from numpy.typing import NDArray

SAME_GRID_VOXELS = 0.05
"""Corners closer than this, in voxels, are one grid (rounding of headers)."""
MIN_OVERLAP = 0.25
"""Fields of view that share less of the smaller one than this do not show one place."""
_SAME_COSINES = 1e-4
"""Directions whose cosines differ by less are one."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A voxel grid in LPS space, axes in SimpleITK's order x, y, z."""

    size: tuple[int, int, int]
    """Number of voxels; an array on this grid has the shape `size[::-1]` (D, H, W)."""
    spacing: tuple[float, float, float]
    """mm."""
    origin: tuple[float, float, float]
    """LPS position of the first voxel's centre, mm."""
    direction: tuple[float, ...]
    """Nine cosines, row by row, as SimpleITK has them."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Array shape D, H, W."""
        return self.size[::-1]

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel."""
        return self.spacing[0] * self.spacing[1] * self.spacing[2]

    def index_to_lps(self) -> NDArray[np.float64]:
        """Return the 4x4 matrix from voxel index (x, y, z, 1) to LPS in mm."""
        import numpy as np

        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    def corner_shift_voxels(self, other: Geometry) -> float:
        """Return how far the grid's corners lie apart from `other`'s, in voxels of this grid.

        Infinite if the sizes differ.
        """
        import numpy as np

        if self.size != other.size:
            return float("inf")
        steps = np.array(np.meshgrid(*[(0, n - 1) for n in self.size])).reshape(3, -1)
        corners = np.vstack([steps, np.ones(steps.shape[1])])
        there = np.linalg.solve(self.index_to_lps(), other.index_to_lps() @ corners)
        return float(np.linalg.norm((there - corners)[:3], axis=0).max())

    def matches(self, other: Geometry) -> bool:
        """Return whether both are one grid but for rounding (< 0.05 voxel at the corners)."""
        return self == other or self.corner_shift_voxels(other) < SAME_GRID_VOXELS

    def lies_elsewhere(self, other: Geometry) -> bool:
        """Return whether the fields of view hardly overlap, so that resampling makes no sense."""
        return max(self.shares_of_overlap(other)) < MIN_OVERLAP

    def shares_of_overlap(self, other: Geometry) -> tuple[float, float]:
        """Return which share of this field of view lies in the other's, and the reverse.

        Sampled on a lattice of 12 points an axis.
        """
        return _share_inside(self, other), _share_inside(other, self)

    def field_of_view_shift(self, other: Geometry) -> tuple[float, float]:
        """Return how far the fields of view's outer corners lie apart: voxels of this grid, mm.

        Each corner is compared with the other's nearest, so grids that only store their axes in
        another order or sense are 0 apart.
        """
        import numpy as np

        here, there = _outer_corners(self), _outer_corners(other)
        between = there[:3, :, None] - here[:3, None, :]
        mm = np.linalg.norm(between, axis=0)
        steps = np.linalg.solve(self.index_to_lps()[:3, :3], between.reshape(3, -1))
        voxels = np.linalg.norm(steps, axis=0).reshape(mm.shape)
        worst = [float(max(one.min(axis=0).max(), one.min(axis=1).max())) for one in (voxels, mm)]
        return worst[0], worst[1]

    def difference_to(self, other: Geometry) -> str:
        """Return in words how this grid differs from `other`, as in "is shifted ... against"."""
        if (self.size, str(self)) != (other.size, str(other)):
            return f"has another grid ({self}, not {other}) than"
        pairs = zip(self.direction, other.direction, strict=True)
        if max(abs(one - there) for one, there in pairs) < _SAME_COSINES:
            x, y, z = (one - there for one, there in zip(self.origin, other.origin, strict=True))
            return f"is shifted by {(x * x + y * y + z * z) ** 0.5:.2f} mm against"
        if self.field_of_view_shift(other)[0] < SAME_GRID_VOXELS:
            return "stores its axes in another order or sense than"
        return "is turned against"

    def __str__(self) -> str:
        size = "x".join(map(str, self.size))
        return f"{size} voxels of {'x'.join(f'{value:.4g}' for value in self.spacing)} mm"

    def to_json(self) -> dict[str, Any]:
        """Return the geometry as plain values."""
        return asdict(self)


def geometry_from_json(content: Mapping[str, Any]) -> Geometry:
    """Return the geometry that `Geometry.to_json` gave."""
    return Geometry(**{key: tuple(value) for key, value in content.items()})


def geometry_of(image: sitk.Image) -> Geometry:
    """Return the geometry of a 3-D SimpleITK image."""
    return Geometry(
        size=image.GetSize(),
        spacing=image.GetSpacing(),
        origin=image.GetOrigin(),
        direction=image.GetDirection(),
    )


def _outer_corners(grid: Geometry) -> NDArray[np.float64]:
    """Return the eight corners of the field of view in LPS mm, homogeneous, shape (4, 8)."""
    import numpy as np

    steps = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.size])).reshape(3, -1)
    return grid.index_to_lps() @ np.vstack([steps, np.ones(8)])


def _share_inside(grid: Geometry, other: Geometry) -> float:
    import numpy as np

    fractions = (np.arange(12) + 0.5) / 12
    steps = np.array(np.meshgrid(*[fractions * n - 0.5 for n in grid.size])).reshape(3, -1)
    points = np.vstack([steps, np.ones(steps.shape[1])])
    there = np.linalg.solve(other.index_to_lps(), grid.index_to_lps() @ points)[:3]
    limits = np.asarray(other.size)[:, None] - 0.5
    return float(np.all((there >= -0.5) & (there <= limits), axis=0).mean())
