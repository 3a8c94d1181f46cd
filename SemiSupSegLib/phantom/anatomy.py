"""A healthy brain without skull: cortex with folds, white matter, ventricles, deep nuclei."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from SemiSupSegLib.phantom.fields import (
    Points,
    Values,
    distance_to_sheets,
    random_field,
    smooth_step,
)

CEREBRUM_HALF_AXES = (59.0, 71.0, 52.0)
"""Left-right, posterior-anterior, inferior-superior, mm."""


@dataclass(frozen=True, kw_only=True)
class Tissues:
    """How much of each position in the brain is which tissue; the three shares sum to 1."""

    fluid: Values
    grey: Values
    white: Values
    vessels: Values
    """Bright after contrast agent: sinus and choroid plexus, 0-1, on top of the tissue."""
    rim: Values
    """Beside the ventricles, where older brains are bright on FLAIR, 0-1."""
    depth: Values
    """Distance below the brain's surface, mm."""


def brain_depth(points: Points, rng: np.random.Generator) -> Values:
    """Return how deep each position lies below the brain's surface, mm; negative outside.

    Args:
        points: Positions R, A, S in mm around the brain's centre.
        rng: Draws this brain's shape.
    """
    x, y, z = points
    half = (np.array(CEREBRUM_HALF_AXES) * rng.uniform(0.95, 1.05, 3)).astype(np.float32)
    # The base of the brain is flatter than its top.
    half_z = np.where(z > 0, half[2], 0.72 * half[2])
    narrow = 1 - 0.10 * smooth_step(y, 10, 70)
    radius = (
        np.abs(x / (half[0] * narrow)) ** 2.2
        + np.abs(y / half[1]) ** 2.2
        + np.abs(z / half_z) ** 2.2
    ) ** (1 / 2.2)
    cerebrum = (1 - radius) * half.mean()
    # The hemispheres part along the midline, deepest at top, front and back.
    cleft = np.abs(x) - 1.3 - 0.05 * np.maximum(z, 0)
    cerebrum = np.where(radius > 0.90, np.minimum(cerebrum, cleft), cerebrum)
    side = np.sign(x) * 22
    cerebellum = 1 - np.sqrt(
        ((np.abs(x) - 20) / 29) ** 2 + ((y + 36) / 28) ** 2 + ((z + 32) / 20) ** 2
    )
    vermis = 1 - np.sqrt((x / 14) ** 2 + ((y + 36) / 23) ** 2 + ((z + 32) / 17) ** 2)
    temporal = 1 - np.sqrt(
        ((x - 1.5 * side) / 22) ** 2 + ((y - 10) / 36) ** 2 + ((z + 22) / 16) ** 2
    )
    lean = y + 12 - 0.25 * (z + 30)
    stem = np.minimum(1 - np.sqrt((x / 13) ** 2 + (lean / 12) ** 2), (z + 60) / 12)
    parts = [cerebrum, 22 * cerebellum, 16 * vermis, 18 * temporal, 12 * stem]
    return np.maximum.reduce(parts).astype(np.float32)


def tissues(points: Points, depth: Values, rng: np.random.Generator) -> Tissues:
    """Return the tissues of one brain.

    Args:
        points: Positions in the brain, R, A, S in mm around its centre.
        depth: Of these positions, from `brain_depth`.
        rng: Draws this brain's shape, folds and ventricles.
    """
    atrophy = rng.uniform(0.8, 1.5)
    is_cerebellum = smooth_step(-(points[2] + 20 - 0.1 * points[1]), 0, 5) * smooth_step(
        -points[1], 8, 16
    )
    folds = distance_to_sheets(points, rng, 19.0)
    # The leaves of the cerebellum lie nearly flat, one above the other.
    flat = points * np.array([[0.6], [1], [1.6]], np.float32)
    fine = distance_to_sheets(flat, rng, 11.0)
    folds = np.where(is_cerebellum > 0.5, fine, folds)
    reach = np.where(is_cerebellum > 0.5, 9.0, rng.uniform(13, 18))
    # A fold is deepest near the surface and closes further in.
    folds = folds + np.maximum(depth - reach, 0) * 0.9
    to_cortex = np.minimum(depth, folds)
    thickness = np.where(is_cerebellum > 0.5, 2.0, 3.4)
    sulci = smooth_step(folds, 1.5 * atrophy, 0.4 * atrophy) * smooth_step(depth, 17, 10)
    subarachnoid = smooth_step(depth, 1.6 * atrophy, 0.2)
    white = smooth_step(to_cortex - thickness, -1.0, 1.0)
    ventricles, rim = _ventricles(points, rng, atrophy)
    nuclei = _nuclei(points, rng)
    is_stem = smooth_step(-points[2], 22, 30) * smooth_step(np.abs(points[0]), 13, 9)
    is_stem *= 1 - is_cerebellum
    white = np.maximum(white * (1 - 0.85 * nuclei), 0.75 * is_stem)
    fluid = np.maximum(np.maximum(0.9 * sulci, 0.8 * subarachnoid) * (1 - is_stem), ventricles)
    fluid = np.clip(fluid, 0, 1)
    white = white * (1 - fluid)
    return Tissues(
        fluid=fluid,
        white=white,
        grey=1 - fluid - white,
        vessels=_vessels(points, rng),
        rim=rim,
        depth=depth,
    )


def _ventricles(points: Points, rng: np.random.Generator, atrophy: float) -> tuple[Values, Values]:
    """Return the ventricles' share and that of the white matter around them."""
    x, y, z = points
    width = atrophy * rng.uniform(0.9, 1.2)
    side = np.abs(x)
    horns = np.full(x.shape, 99.0, np.float32)
    # Centre line of one lateral ventricle: front horn, body, and the horn that turns downward.
    line = [
        (7, 30, 8, 4.0),
        (8, 18, 13, 5.0),
        (9, 2, 17, 5.0),
        (12, -16, 15, 5.5),
        (19, -28, 6, 6.0),
    ]
    line += [(25, -20, -6, 3.5), (27, -4, -14, 2.5)]
    for (x0, y0, z0, r0), (x1, y1, z1, r1) in pairwise(line):
        axis = np.array([x1 - x0, y1 - y0, z1 - z0])
        along = ((side - x0) * axis[0] + (y - y0) * axis[1] + (z - z0) * axis[2]) / (axis @ axis)
        along = np.clip(along, 0, 1)
        away = np.sqrt(
            (side - x0 - along * axis[0]) ** 2
            + (y - y0 - along * axis[1]) ** 2
            + (z - z0 - along * axis[2]) ** 2
        )
        horns = np.minimum(horns, away - width * (r0 + along * (r1 - r0)))
    third = np.maximum(side - 1.6 * width, np.sqrt((y / 15) ** 2 + ((z + 2) / 11) ** 2) * 10 - 10)
    fourth = np.sqrt((x / 6) ** 2 + ((y + 22) / 5) ** 2 + ((z + 34) / 9) ** 2) * 6 - 6
    distance = np.minimum(horns, np.minimum(third, fourth))
    caps = smooth_step(horns, 4.0, 1.0) * rng.uniform(0.2, 1.0)
    return smooth_step(distance, 1.0, -1.0), caps


def _nuclei(points: Points, rng: np.random.Generator) -> Values:
    """Return thalamus, caudate nucleus and putamen on both sides, 0-1."""
    x, y, z = points
    side = np.abs(x)
    size = rng.uniform(0.9, 1.1)
    found = np.full(x.shape, -9.0, np.float32)
    for centre, half in [
        ((10, -10, 4), (8, 14, 9)),
        ((13, 16, 9), (5, 12, 8)),
        ((26, 4, 1), (6, 16, 10)),
    ]:
        radius = np.sqrt(
            ((side - centre[0]) / half[0]) ** 2
            + ((y - centre[1]) / half[1]) ** 2
            + ((z - centre[2]) / half[2]) ** 2
        )
        found = np.maximum(found, (1 - radius / size) * min(half))
    return smooth_step(found, -1.0, 1.0)


def _vessels(points: Points, rng: np.random.Generator) -> Values:
    """Return what takes up contrast agent in a healthy head: sinus, plexus, some vessels."""
    x, y, z = points
    sinus = smooth_step(np.abs(x), 2.5, 1.0) * smooth_step(y**2 + (1.3 * z) ** 2, 58**2, 64**2)
    plexus = smooth_step(np.sqrt((np.abs(x) - 17) ** 2 + (y + 27) ** 2 + (z - 8) ** 2), 5.0, 2.5)
    threads = smooth_step(
        distance_to_sheets(points, rng, 38.0) + distance_to_sheets(points, rng, 38.0), 3.0, 1.0
    )
    return np.maximum(np.maximum(sinus, 0.8 * plexus), 0.6 * threads)


def texture(points: Points, rng: np.random.Generator) -> Values:
    """Return a fine unevenness of tissue, mean 0 and standard deviation 1."""
    return random_field(points, rng, 9.0, 16)
