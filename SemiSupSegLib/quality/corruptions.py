"""Mistakes that segmentations make, made on purpose: sizes in mm, draws from a given generator.

A corruption of a mask takes (mask, spacing, draw, severity) and returns a new mask: the mask a
boolean (D, H, W), the spacing z, y, x in mm, the severity 0-1 from the mildest to the strongest.

Source: the kinds are those of Abhishek & Hamarneh 2026 (arXiv 2606.01753) for pictures, and further
ones; parameters in mm, and all in 3D, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Label = NDArray[np.uint8]
Spacing = Sequence[float]
Corruption = Callable[[Mask, Spacing, np.random.Generator, float], Mask]

_DIRECTIONS = 80
"""Half-spaces whose intersection stands for the convex hull."""


def erosion(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Take away what is within 1-5 mm of the surface."""
    return _eroded(mask, spacing, _between(1, 5, severity))


def dilation(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Add what is within 1-5 mm of the surface."""
    return _dilated(mask, spacing, _between(1, 5, severity))


def opening(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Take away what no ball of radius 2-4 mm inside the mask covers."""
    radius = _between(2, 4, severity)
    return _dilated(_eroded(mask, spacing, radius), spacing, radius)


def closing(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Fill what no ball of radius 2-4 mm outside the mask covers."""
    radius = _between(2, 4, severity)
    return _eroded(_dilated(mask, spacing, radius), spacing, radius)


def smoothing(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Blur with a standard deviation of 2-4 mm and take what is above one half."""
    from scipy.ndimage import gaussian_filter

    sigma = _between(2, 4, severity)
    blurred = gaussian_filter(mask.astype(np.float32), [sigma / step for step in spacing])
    return np.asarray(blurred > 0.5)


def boundary_noise(
    mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float
) -> Mask:
    """Move the surface in and out by 1-4 mm (one standard deviation), smoothly over 3 mm."""
    from scipy.ndimage import gaussian_filter

    if not mask.any() or mask.all():
        return mask.copy()
    noise = draw.standard_normal(mask.shape, dtype=np.float32)
    noise = gaussian_filter(noise, [3 / step for step in spacing])
    noise *= _between(1, 4, severity) / max(float(noise.std()), 1e-6)
    signed = _distance(~mask, spacing) - _distance(mask, spacing)
    return np.asarray(signed + noise <= 0)


def elastic(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Bend by a smooth field of 4-8 knots a side, which moves voxels by at most 8 mm an axis."""
    from scipy.ndimage import map_coordinates, zoom

    knots = int(draw.integers(4, 9))
    places = np.indices(mask.shape, dtype=np.float32)
    factors = [length / knots for length in mask.shape]
    for axis, step in enumerate(spacing):
        coarse = draw.uniform(-1, 1, (knots, knots, knots)).astype(np.float32)
        field = zoom(coarse, factors, order=1, grid_mode=True, mode="nearest")
        places[axis] += field * (_between(2, 8, severity) / step)
    return np.asarray(map_coordinates(mask.astype(np.uint8), places, order=0) > 0)


def shift(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Move by at most 10 mm in a random direction."""
    way = draw.standard_normal(3)
    offset = way / max(float(np.linalg.norm(way)), 1e-6) * _between(1, 10, severity)
    return _moved(mask, spacing, np.eye(3), offset)


def scaling(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Scale about the centre, down to 0.75 or up to 1.25."""
    change = _between(0.05, 0.25, severity)
    factor = 1 - change if draw.random() < 0.5 else 1 + change
    return _moved(mask, spacing, np.eye(3) / factor, np.zeros(3))


def rotation(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Turn about the centre by at most 20 degrees around one axis of the grid."""
    angle = math.radians(_between(3, 20, severity)) * (1 if draw.random() < 0.5 else -1)
    first, second = draw.permutation(3)[:2]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
    return _moved(mask, spacing, matrix, np.zeros(3))


def bounding_box(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Fill the box around the mask."""
    filled = np.zeros_like(mask)
    if mask.any():
        filled[_box(mask)] = True
    return filled


def ellipsoid(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Put the ellipsoid that touches the faces of the box around the mask in its place."""
    if not mask.any():
        return mask.copy()
    box = _box(mask)
    distance = np.zeros(mask.shape, np.float32)
    for part, places in zip(box, np.indices(mask.shape), strict=True):
        centre, half = (part.start + part.stop - 1) / 2, (part.stop - part.start) / 2
        distance += ((places - centre) / half) ** 2
    return np.asarray(distance <= 1)


def convex_hull(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Fill the convex hull, as far as a few dozen directions tell it."""
    if not mask.any():
        return mask.copy()
    directions = draw.standard_normal((_DIRECTIONS, 3))
    box = _box(mask)
    inside = mask[box]
    points = np.argwhere(inside) * np.asarray(spacing)
    places = np.moveaxis(np.indices(inside.shape), 0, -1) * np.asarray(spacing)
    hull = np.ones(inside.shape, bool)
    for direction in directions:
        hull &= places @ direction <= (points @ direction).max() + 1e-6
    filled = np.zeros_like(mask)
    filled[box] = hull
    return filled


def component_drop(
    mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float
) -> Mask:
    """Take one connected part away, or all but the largest; a mask of one part loses it."""
    parts, count = _parts(mask)
    if not count:
        return mask.copy()
    if count > 1 and draw.random() < 0.5:
        return np.asarray(parts == 1 + int(np.bincount(parts.ravel())[1:].argmax()))
    return mask & (parts != int(draw.integers(1, count + 1)))


def holes(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Cut 1-3 balls of 3-10 mm diameter out of the mask."""
    return mask & ~_balls(mask, mask, spacing, draw, severity)


def slice_drop(mask: Mask, spacing: Spacing, draw: np.random.Generator, severity: float) -> Mask:
    """Empty 1-5 consecutive slices of an axis within the mask, or repeat the one before them."""
    if not mask.any():
        return mask.copy()
    axis, count = int(draw.integers(3)), 1 + round(4 * severity)
    part = _box(mask)[axis]
    first = int(draw.integers(part.start, part.stop))
    turned = np.moveaxis(mask.copy(), axis, 0)
    repeats = draw.random() < 0.5 and first > 0
    turned[first : first + count] = turned[first - 1] if repeats else False
    return np.moveaxis(turned, 0, axis)


SHAPE_CORRUPTIONS: dict[str, Corruption] = {
    "erosion": erosion,
    "dilation": dilation,
    "boundary_noise": boundary_noise,
    "elastic": elastic,
    "shift": shift,
    "scaling": scaling,
    "rotation": rotation,
    "opening": opening,
    "closing": closing,
    "smoothing": smoothing,
    "bounding_box": bounding_box,
    "ellipsoid": ellipsoid,
    "convex_hull": convex_hull,
    "component_drop": component_drop,
    "holes": holes,
    "slice_drop": slice_drop,
}
"""Those of one mask, by name."""


def blobs(
    image: NDArray[np.floating], spacing: Spacing, draw: np.random.Generator, severity: float
) -> Mask:
    """Return 1-3 balls of 3-10 mm diameter on bright or on dark tissue, (D, H, W).

    Args:
        image: One channel, in standard deviations; 0 is taken for no tissue.
        spacing: z, y, x in mm.
        draw: Draws number, sizes and places.
        severity: 0-1.
    """
    tissue = image[image != 0]
    if not tissue.size:
        return np.zeros(image.shape, bool)
    low, high = np.quantile(tissue, [0.2, 0.8])
    wanted = image >= high if draw.random() < 0.5 else image <= low
    return _balls(np.asarray(wanted & (image != 0)), None, spacing, draw, severity)


def class_swap(label: Label, num_classes: int, draw: np.random.Generator) -> Label:
    """Return a label map in which a class, or one connected part of it, has become another.

    Args:
        label: Class indices, (D, H, W).
        num_classes: Background included; with one other class nothing can be swapped.
        draw: Draws which.
    """
    present = [index for index in range(1, num_classes) if (label == index).any()]
    swapped = label.copy()
    if num_classes < 3 or not present:
        return swapped
    source = present[int(draw.integers(len(present)))]
    others = [index for index in range(1, num_classes) if index != source]
    where = label == source
    if draw.random() < 0.5:
        parts, count = _parts(where)
        where = parts == int(draw.integers(1, count + 1))
    swapped[where] = others[int(draw.integers(len(others)))]
    return swapped


def placed(other: Label, label: Label) -> Label:
    """Return another case's label map, centred where `label` is; both of one spacing.

    Args:
        other: Class indices, (d, h, w).
        label: Gives the grid (D, H, W), and the place; the grid's middle if it is empty.
    """
    result = np.zeros_like(label)
    if not (other > 0).any():
        return result
    source = other[_box(other > 0)]
    centre = [length // 2 for length in label.shape]
    if (label > 0).any():
        centre = [(part.start + part.stop) // 2 for part in _box(label > 0)]
    here, there = [], []
    for middle, size, length in zip(centre, source.shape, label.shape, strict=True):
        start = middle - size // 2
        first, last = max(0, start), min(length, start + size)
        here.append(slice(first, last))
        there.append(slice(first - start, last - start))
    result[tuple(here)] = source[tuple(there)]
    return result


def with_changed(label: Label, index: int, mask: Mask) -> Label:
    """Return a label map in which class `index` is `mask`; what it leaves becomes background."""
    changed = np.where(label == index, 0, label).astype(np.uint8)
    changed[mask] = index
    return changed


def _between(low: float, high: float, severity: float) -> float:
    return low + (high - low) * severity


def _distance(mask: Mask, spacing: Spacing) -> NDArray[np.float64]:
    """Return the distance of each voxel of a mask to the nearest one outside of it, mm."""
    from scipy.ndimage import distance_transform_edt

    if mask.all():
        # There is no such voxel.
        return np.full(mask.shape, np.inf)
    found: NDArray[np.float64] = distance_transform_edt(mask, sampling=spacing)
    return found


def _eroded(mask: Mask, spacing: Spacing, radius: float) -> Mask:
    return np.asarray(_distance(mask, spacing) > radius)


def _dilated(mask: Mask, spacing: Spacing, radius: float) -> Mask:
    return np.asarray(_distance(~mask, spacing) <= radius)


def _moved(
    mask: Mask, spacing: Spacing, matrix: NDArray[np.float64], offset: NDArray[np.float64]
) -> Mask:
    """Return the mask after x → M⁻¹·(x - centre) + centre + offset, in mm."""
    from scipy.ndimage import affine_transform

    if not mask.any():
        return mask.copy()
    steps = np.asarray(spacing)
    centre = np.argwhere(mask).mean(0) * steps
    inner = np.diag(1 / steps) @ matrix @ np.diag(steps)
    start = (centre - matrix @ (centre + offset)) / steps
    moved = affine_transform(mask.astype(np.uint8), inner, start, order=0)
    return np.asarray(moved > 0)


def _parts(mask: Mask) -> tuple[NDArray[np.int32], int]:
    from scipy.ndimage import label as connected

    parts, count = connected(mask, np.ones((3, 3, 3)))
    return parts, int(count)


def _box(mask: Mask) -> tuple[slice, slice, slice]:
    """Return the box around a mask that is not empty."""
    found = []
    for axis in range(3):
        others = tuple(one for one in range(3) if one != axis)
        places = np.flatnonzero(mask.any(others))
        found.append(slice(int(places[0]), int(places[-1]) + 1))
    return found[0], found[1], found[2]


def _balls(
    centres: Mask,
    within: Mask | None,
    spacing: Spacing,
    draw: np.random.Generator,
    severity: float,
) -> Mask:
    """Return 1-3 balls whose centres are drawn from a mask."""
    found = np.zeros(centres.shape, bool)
    candidates = np.flatnonzero(centres)
    if not candidates.size:
        return found
    for _ in range(int(draw.integers(1, 4))):
        centre = np.unravel_index(int(draw.choice(candidates)), centres.shape)
        radius = _between(3, 10, severity) / 2
        squares = np.zeros(centres.shape, np.float32)
        for axis, (place, step) in enumerate(zip(centre, spacing, strict=True)):
            line = ((np.arange(centres.shape[axis]) - place) * step) ** 2
            squares += line.reshape([-1 if one == axis else 1 for one in range(3)])
        found |= squares <= radius**2
    return found if within is None else found & within
