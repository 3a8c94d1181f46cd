"""Smooth random functions of space, from which anatomy and scanner artefacts are made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
"""Positions in mm, shape (3, N)."""
Values = NDArray[np.float32]
"""One value a position, shape (N,)."""


def random_field(
    points: Points, rng: np.random.Generator, wavelength: float, num_waves: int = 20
) -> Values:
    """Return a smooth random function with mean 0 and standard deviation 1.

    It is a sum of plane waves, so it is the same function of space on every voxel grid.

    Args:
        points: Where to evaluate it.
        rng: Draws directions and phases.
        wavelength: Typical distance between two maxima, mm.
        num_waves: More look more irregular.
    """
    value, _ = _waves(points, rng, wavelength, num_waves, with_slope=False)
    return value


def distance_to_sheets(
    points: Points, rng: np.random.Generator, wavelength: float, num_waves: int = 20
) -> Values:
    """Return the approximate distance in mm to the folded sheets on which a random field is 0."""
    value, slope = _waves(points, rng, wavelength, num_waves, with_slope=True)
    return np.abs(value) / np.maximum(slope, 0.5 / wavelength)


def displaced(points: Points, rng: np.random.Generator, wavelength: float, amount: float) -> Points:
    """Return the points moved by a smooth random displacement of about `amount` mm an axis."""
    moves = [random_field(points, rng, wavelength, 8) for _ in range(3)]
    return points + np.float32(amount) * np.stack(moves)


def smooth_step(values: Values, start: float, end: float) -> Values:
    """Return 0 up to `start`, 1 from `end` on, smooth between; `end` may be the smaller one."""
    share = np.clip((values - start) / (end - start), 0, 1)
    return (share * share * (3 - 2 * share)).astype(np.float32)


def _waves(
    points: Points,
    rng: np.random.Generator,
    wavelength: float,
    num_waves: int,
    *,
    with_slope: bool,
) -> tuple[Values, Values]:
    directions = rng.normal(size=(num_waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = wavelength * rng.uniform(0.75, 1.35, size=(num_waves, 1))
    numbers = (2 * np.pi / lengths * directions).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, num_waves).astype(np.float32)
    scale = np.float32(np.sqrt(2 / num_waves))
    value = np.zeros(points.shape[1], np.float32)
    slope = np.zeros((3, points.shape[1]) if with_slope else (3, 0), np.float32)
    for number, phase in zip(numbers, phases, strict=True):
        angle = number @ points + phase
        value += scale * np.cos(angle)
        if with_slope:
            slope -= scale * number[:, None] * np.sin(angle)
    return value, np.linalg.norm(slope, axis=0)
