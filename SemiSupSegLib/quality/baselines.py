"""What Dice is guessed to be without a quality network: always the same, or from a mask's shape.

An estimate that comes no nearer than these has learnt nothing of how a mask fits its image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Shape = tuple[float, float, float]

_LEAST = 8
"""Masks that a line is fitted to; two for each of its four numbers."""


def shape_of(mask: NDArray[np.bool_], spacing: Sequence[float]) -> Shape:
    """Return the shape of a mask as three numbers.

    Args:
        mask: Boolean, (D, H, W).
        spacing: z, y, x in mm.

    Returns:
        ln(1 + volume in mm³), the number of components (26 neighbours), and the area of the voxel
        faces to the outside by volume, in 1/mm. Zeros of an empty mask.
    """
    from scipy.ndimage import find_objects, label

    boxes = find_objects(mask.astype(np.uint8))
    if not boxes:
        return 0.0, 0.0, 0.0
    part = np.pad(mask[boxes[0]], 1)
    voxel = float(np.prod(spacing))
    volume = int(part.sum()) * voxel
    faces = (np.count_nonzero(np.diff(part, axis=axis)) for axis in range(3))
    area = sum(count * voxel / step for count, step in zip(faces, spacing, strict=True))
    _, components = label(part, np.ones((3, 3, 3)))
    return math.log1p(volume), float(components), area / volume


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """What a class's Dice is guessed from, learnt from masks of known quality."""

    mean: float
    """Of their Dice, 0-1: the same guess for every mask."""
    line: tuple[float, float, float, float] | None
    """Of a constant and the three numbers of a shape; None if there were too few masks."""

    def of_shape(self, shape: Shape) -> float | None:
        """Return the Dice that a line through the masks' shapes tells, 0-1; None without a line."""
        if self.line is None:
            return None
        value = sum(weight * one for weight, one in zip(self.line, (1.0, *shape), strict=True))
        return min(max(value, 0.0), 1.0)


def learn_guesses(shapes: Sequence[Shape], dice: Sequence[float]) -> Guesses:
    """Return guesses fitted to masks of one class by least squares.

    Args:
        shapes: One a mask (`shape_of`).
        dice: Of the same masks; at least one.
    """
    if len(dice) < _LEAST:
        return Guesses(mean=float(np.mean(dice)), line=None)
    table = np.column_stack([np.ones(len(shapes)), np.asarray(shapes, np.float64)])
    line, *_ = np.linalg.lstsq(table, np.asarray(dice, np.float64), rcond=None)
    a, b, c, d = line.tolist()
    return Guesses(mean=float(np.mean(dice)), line=(a, b, c, d))
