"""A tumour in several parts: necrosis, enhancing rim, oedema, sometimes a second focus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.phantom.anatomy import Tissues
from SemiSupSegLib.phantom.fields import Points, Values, random_field, smooth_step

NECROSIS, EDEMA, ENHANCING = 1, 2, 3
"""Class indices, in the order of the built-in task `brats`."""


@dataclass(frozen=True, kw_only=True)
class Tumour:
    """Where a tumour is and how strongly its parts differ from healthy tissue."""

    label: NDArray[np.uint8]
    """Class index of each position."""
    necrosis: Values
    """Share, 0-1, with soft borders, as the scanner sees it; the same for the other parts."""
    edema: Values
    enhancing: Values
    enhancement: float
    """Strength of contrast uptake; below 0.5 it can hardly be seen."""
    edema_strength: float


def pushed_aside(points: Points, centre: Points, radius: float) -> Points:
    """Return where healthy tissue at `points` was before the tumour pressed it away.

    Args:
        points: Positions in mm.
        centre: Of the tumour, shape (3, 1).
        radius: Of its core, mm.
    """
    offset = points - centre
    distance2 = (offset**2).sum(axis=0)
    push = 0.45 * np.exp(-distance2 / (2 * (1.6 * radius) ** 2))
    return (points - offset * push).astype(np.float32)


def place_tumour(rng: np.random.Generator) -> tuple[Points, float]:
    """Return centre (3, 1) and radius of the core in mm; most lie in the white matter."""
    side = rng.choice([-1.0, 1.0])
    centre = [side * rng.uniform(17, 36), rng.uniform(-42, 40), rng.uniform(-8, 28)]
    return np.array(centre, np.float32)[:, None], float(rng.uniform(10, 18))


def grow_tumour(
    points: Points, healthy: Tissues, centre: Points, radius: float, rng: np.random.Generator
) -> Tumour:
    """Return the tumour at `centre`, grown into the healthy tissue.

    Args:
        points: Positions in mm, shape (3, N).
        healthy: The tissues there.
        centre: Shape (3, 1).
        radius: Of the core, mm.
        rng: Draws shape and kind.
    """
    core = _distance(points, centre, radius, rng)
    if rng.random() < 0.35:
        away = rng.normal(size=(3, 1))
        away *= rng.uniform(2.0, 2.8) * radius / np.linalg.norm(away)
        away[0] *= 0.6
        second = (centre + away).astype(np.float32)
        core = np.minimum(core, _distance(points, second, rng.uniform(4, 7.5), rng))
    # Neither grows into the ventricles nor out of the brain.
    core = core + 6 * smooth_step(healthy.fluid, 0.55, 0.95) + 40 * (healthy.depth < 1.0)
    rim = rng.uniform(2.5, 5.0) + rng.uniform(0.8, 1.8) * random_field(points, rng, 13.0)
    if rng.random() < 0.2:
        rim = rim + radius  # A solid tumour, hardly necrotic.
    dead = core + np.maximum(rim, 0.3)
    # In places the rim does not enhance; there the necrotic, non-enhancing part reaches out.
    gap = random_field(points, rng, 26.0) - rng.uniform(0.9, 1.9)
    reach = rng.uniform(4, 15)
    # Oedema follows the white matter and spares cortex and nuclei.
    spread = core - reach - 0.5 * reach * random_field(points, rng, 30.0)
    spread = spread + 9 * healthy.grey + 14 * healthy.fluid + 40 * (healthy.depth < 1.0)

    in_core = smooth_step(core, 0.8, -0.8)
    is_dead = np.maximum(smooth_step(dead, 0.8, -0.8), smooth_step(gap, -0.1, 0.1)) * in_core
    necrosis = is_dead
    enhancing = in_core - is_dead
    blur = rng.uniform(1.0, 3.5)
    edema = smooth_step(spread, blur, -blur) * (1 - in_core)
    label = np.zeros(core.shape, np.uint8)
    label[spread < 0] = EDEMA
    label[core < 0] = ENHANCING
    label[(core < 0) & ((dead < 0) | (gap > 0))] = NECROSIS
    return Tumour(
        label=label,
        necrosis=necrosis,
        edema=edema,
        enhancing=enhancing,
        enhancement=float(rng.uniform(0.35, 1.1)),
        edema_strength=float(rng.uniform(0.5, 1.0)),
    )


def _distance(points: Points, centre: Points, radius: float, rng: np.random.Generator) -> Values:
    """Return the signed distance in mm to an irregular blob, negative inside."""
    stretch = rng.uniform(0.8, 1.25, (3, 1)).astype(np.float32)
    distance = np.linalg.norm((points - centre) / stretch, axis=0)
    lobes = 0.20 * random_field(points, rng, 2.2 * radius) + 0.10 * random_field(points, rng, 11.0)
    return (distance - radius * (1 + lobes)).astype(np.float32)
