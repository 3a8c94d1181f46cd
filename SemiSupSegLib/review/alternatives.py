"""What a doubtful voxel may be instead of what its label says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def alternative_classes(
    label: NDArray[np.integer[Any]],
    second: NDArray[np.integer[Any]] | None,
    pseudo_label: NDArray[np.integer[Any]] | None,
    wanted: NDArray[np.bool_],
    spacing_mm: Sequence[float],
) -> NDArray[np.int64]:
    """Return a class index for each wanted voxel, (D, H, W): what it may be instead.

    The teacher's class where it differs, else the student's second, else the class across the
    nearest border; the label itself where there is none.

    Args:
        label: The student's class indices.
        second: The student's second most likely ones, if known.
        pseudo_label: The teacher's, if there is one.
        wanted: Elsewhere the answer is the label.
        spacing_mm: Along D, H, W.
    """
    import numpy as np

    other = label.astype(np.int64)
    if second is not None:
        other[wanted] = second[wanted]
    else:
        other[wanted] = _across_the_border(label, wanted, spacing_mm)
    if pseudo_label is not None:
        differs = wanted & (pseudo_label != label)
        other[differs] = pseudo_label[differs]
    return other


def _across_the_border(
    label: NDArray[np.integer[Any]], wanted: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> NDArray[np.int64]:
    """Return, for each wanted voxel, the nearest class that is not its own."""
    import numpy as np
    from scipy.spatial import cKDTree

    own = label[wanted].astype(np.int64)
    result = own.copy()
    points = np.argwhere(wanted) * np.asarray(spacing_mm)
    nearest = np.full(len(points), np.inf)
    for number in np.unique(label):
        border = _border(label == number)
        asking = own != number
        if not border.size or not asking.any():
            continue
        distance, _ = cKDTree(border * np.asarray(spacing_mm)).query(points[asking])
        # To a thousandth of a mm, so that the lower class wins among equals whatever the rounding.
        nearer = np.round(distance, 3) < nearest[asking]
        places = np.flatnonzero(asking)[nearer]
        nearest[places] = np.round(distance[nearer], 3)
        result[places] = number
    return result


def _border(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the voxels of a mask that have a neighbour outside it."""
    import numpy as np
    from scipy import ndimage

    inner = ndimage.binary_erosion(mask, border_value=True)
    return np.argwhere(mask & ~inner)
