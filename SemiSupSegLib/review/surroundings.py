"""Where a piece of doubt lies, in words: along a border, inside, or apart from the result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.review.doubt import box_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ISLAND_SHARE = 0.1
"""A connected part of the result with less than this share of its voxels is an island."""
RIM_SHARE = 0.7
"""A piece with at least this share of its voxels at a border is a rim along it."""
INNER_SHARE = 0.25
"""A piece with at most this share of its voxels at a border lies inside."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Surroundings:
    """The result around its doubtful pieces; what takes time is looked at once, if ever."""

    label: NDArray[np.integer[Any]]
    """The student's class indices, (D, H, W)."""
    found: NDArray[np.bool_]
    """Where student or teacher found something."""
    spacing_mm: tuple[float, float, float]
    """Along D, H, W."""

    def words(self, points: NDArray[np.intp]) -> str:
        """Return where a piece lies.

        Args:
            points: Its voxels, slice, row, column, (N, 3).
        """
        import numpy as np

        inside = self.found[tuple(points.T)]
        if 2 * np.count_nonzero(inside) <= len(points):
            return self._beside(points)
        island = self._island(points[inside])
        if island is not None:
            return island
        at_border = self._share_at_border(points)
        if at_border >= RIM_SHARE:
            return "a thin rim along the border"
        return "away from any border" if at_border <= INNER_SHARE else "from the border inwards"

    def _beside(self, points: NDArray[np.intp]) -> str:
        distance = self._distance_mm(points, self._any)
        if distance is None or distance <= 1.01 * max(self.spacing_mm):
            return "at the outside of the result"
        return f"{distance:.0f} mm beside the result"

    def _island(self, points: NDArray[np.intp]) -> str | None:
        """Return what is said of a piece that lies mostly in an island, else None.

        Args:
            points: Those where something was found.
        """
        import numpy as np

        start, parts, sizes = self._parts
        own = np.bincount(parts[tuple((points - start).T)], minlength=len(sizes))
        part = int(np.argmax(own))
        if 2 * own[part] <= len(points) or sizes[part] >= ISLAND_SHARE * sizes.sum():
            return None
        box = self._boxes[part - 1]
        corner = start + [side.start for side in box]
        distance = self._distance_mm(np.argwhere(parts[box] == part) + corner, self._main)
        if distance is None:
            return None
        volume = sizes[part] * float(np.prod(self.spacing_mm))
        return f"an island of {volume_words(volume)}, {distance:.0f} mm from the rest"

    def _share_at_border(self, points: NDArray[np.intp]) -> float:
        """Return the share of the voxels with a neighbour (of 6) of another class."""
        import numpy as np

        own = self.label[tuple(points.T)]
        at_border = np.zeros(len(points), bool)
        for axis, length in enumerate(self.label.shape):
            for step in (-1, 1):
                other = points.copy()
                # At the edge of the image a voxel is its own neighbour, which is no border.
                other[:, axis] = np.clip(other[:, axis] + step, 0, length - 1)
                at_border |= self.label[tuple(other.T)] != own
        return float(np.count_nonzero(at_border) / len(points))

    @cached_property
    def _parts(self) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.int64]]:
        """The connected parts of what was found: a corner, numbers from there, voxels of each."""
        import numpy as np
        from scipy import ndimage

        box = box_of(self.found)
        assert box is not None
        parts, _ = ndimage.label(self.found[box], np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        return np.array([side.start for side in box]), parts, sizes

    @cached_property
    def _boxes(self) -> list[tuple[slice, slice, slice]]:
        from scipy import ndimage

        return list(ndimage.find_objects(self._parts[1]))

    @cached_property
    def _main(self) -> Any:
        """A search tree over the surface of what is no island; None if all are islands."""
        start, parts, sizes = self._parts
        return self._tree((sizes >= ISLAND_SHARE * sizes.sum())[parts] & (parts > 0), start)

    @cached_property
    def _any(self) -> Any:
        box = box_of(self.found)
        if box is None:
            return None
        return self._tree(self.found[box], [side.start for side in box])

    def _tree(self, mask: NDArray[np.bool_], start: Any) -> Any:
        import numpy as np
        from scipy import ndimage
        from scipy.spatial import cKDTree

        surface = np.argwhere(mask & ~ndimage.binary_erosion(mask))
        return cKDTree((surface + start) * self.spacing_mm) if len(surface) else None

    def _distance_mm(self, points: NDArray[np.intp], tree: Any) -> float | None:
        """Return how far the nearest voxel is from the nearest of a tree's, between centres."""
        if tree is None:
            return None
        distances, _ = tree.query(points * self.spacing_mm)
        # Equal but for rounding is equal in words, too.
        return round(float(distances.min()), 3)


def volume_words(volume_mm3: float) -> str:
    """Return a volume as a person says it."""
    unit, size = _unit(volume_mm3)
    return f"{_number(volume_mm3 / size)} {unit}"


def share_words(part_mm3: float, whole_mm3: float) -> str:
    """Return "PART of WHOLE" in one unit."""
    unit, size = _unit(whole_mm3)
    return f"{_number(part_mm3 / size)} of {_number(whole_mm3 / size)} {unit}"


def _unit(volume_mm3: float) -> tuple[str, float]:
    return ("mL", 1000.0) if volume_mm3 >= 100 else ("mm³", 1.0)


def _number(value: float) -> str:
    # Equal but for rounding is equal in words, too.
    value = round(value, 6)
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
