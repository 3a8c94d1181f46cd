"""What kind of mistake each wrong voxel is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from SemiSupSegLib.cases.label_values import UNKNOWN_CLASS
from SemiSupSegLib.evaluation.surfaces import bounding_box, check_grid

ERROR_KINDS = ("boundary", "false_positive", "false_negative", "class_confusion")
BOUNDARY_MM = 2.0
OUTSIDE = 255
"""No class: beyond the border of the volume."""

Steps = NDArray[np.int64]
"""Offsets in voxels, shape (N, 3)."""


def split_errors(
    prediction: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    spacing_mm: Sequence[float],
    *,
    boundary_mm: float = BOUNDARY_MM,
) -> dict[str, dict[str, float | int | None]]:
    """Sort every wrong voxel into one kind.

    `boundary`: a border that is in both label maps was drawn at most `boundary_mm` off, or one
    voxel where voxels are larger. The reference has the predicted class within that distance or
    in one of the six voxels that share a face with this one, and the connected patch of this
    error touches the predicted class in the reference and the true class in the prediction; so a
    missed, invented or misnamed lesion is no boundary error, however small it is. Of the others,
    `false_positive` is background in the reference, `false_negative` background in the
    prediction, `class_confusion` foreground in both.

    Args:
        prediction: Class indices, shape (D, H, W).
        reference: The same; voxels of 255, unknown, are neither right nor wrong.
        spacing_mm: Voxel size along D, H, W.
        boundary_mm: Between voxel centres. Where the spacing is not above it, neighbours that
            share a face lie within it anyway.

    Returns:
        By kind: `voxels`, `mm3`, `fraction` of all errors (0 without errors). `total`: `voxels`,
        `mm3`, `fraction_of_foreground` (errors over reference and prediction; None without them).
    """
    check_grid(prediction, reference, spacing_mm)
    voxel_mm3 = float(np.prod(np.asarray(spacing_mm, dtype=np.float64)))
    known = reference != UNKNOWN_CLASS
    foreground = int(np.count_nonzero(((prediction | reference) != 0) & known))
    wrong = (prediction != reference) & known
    box = bounding_box(wrong)
    points = np.argwhere(wrong[box]) + [side.start for side in box]
    said, true = prediction[tuple(points.T)], reference[tuple(points.T)]
    near = _on_a_shared_border(points, prediction, reference)
    # Some steps are in both; _meets tries a voxel only until it has found one.
    steps = np.concatenate([_steps_within((1, 1, 1), 1), _steps_within(spacing_mm, boundary_mm)])
    near[near] = _meets(points[near], said[near], reference, steps)
    masks = {
        "boundary": near,
        "false_positive": ~near & (true == 0),
        "false_negative": ~near & (said == 0),
        "class_confusion": ~near & (said != 0) & (true != 0),
    }
    total = len(points)
    result: dict[str, dict[str, float | int | None]] = {}
    for kind in ERROR_KINDS:
        voxels = int(masks[kind].sum())
        result[kind] = {
            "voxels": voxels,
            "mm3": voxels * voxel_mm3,
            "fraction": voxels / total if total else 0.0,
        }
    result["total"] = {
        "voxels": total,
        "mm3": total * voxel_mm3,
        "fraction_of_foreground": total / foreground if foreground else None,
    }
    return result


def _on_a_shared_border(
    points: NDArray[np.intp], prediction: NDArray[np.uint8], reference: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Whether the patch of each wrong voxel touches a border that both label maps have."""
    said, true = prediction[tuple(points.T)], reference[tuple(points.T)]
    patches = _patches(points, said, true)
    neighbours = _steps_within((1, 1, 1), math.sqrt(3))
    shared = np.ones(len(points), dtype=bool)
    for wanted, label in ((said, reference), (true, prediction)):
        touching = np.zeros(len(points), dtype=bool)
        touching[patches[_meets(points, wanted, label, neighbours)]] = True
        shared &= touching[patches]
    return shared


def _patches(
    points: NDArray[np.intp], said: NDArray[np.uint8], true: NDArray[np.uint8]
) -> NDArray[np.int32]:
    """Number the patches: 26-connected voxels with one predicted and one true class."""
    if not len(points):
        return np.zeros(0, dtype=np.int32)
    start = points.min(axis=0) - 1
    shape = points.max(axis=0) - start + 2
    numbers = np.full(shape, -1, dtype=np.int32)
    home = points - start
    numbers[tuple(home.T)] = np.arange(len(points))
    firsts, seconds = [], []
    # Half of the neighbours: the other half finds the same pairs from the other side.
    for step in _steps_within((1, 1, 1), math.sqrt(3))[::2]:
        other = numbers[tuple((home + step).T)]
        first = np.flatnonzero(other >= 0)
        second = other[first]
        same = (said[first] == said[second]) & (true[first] == true[second])
        firsts.append(first[same])
        seconds.append(second[same])
    pairs = np.concatenate(firsts), np.concatenate(seconds)
    graph = coo_array((np.ones(len(pairs[0]), dtype=bool), pairs), shape=(len(points),) * 2)
    _, patches = connected_components(graph, directed=False)
    return np.asarray(patches, dtype=np.int32)


def _meets(
    points: NDArray[np.intp], wanted: NDArray[np.uint8], label: NDArray[np.uint8], steps: Steps
) -> NDArray[np.bool_]:
    """Whether `label` has the wanted class at one of the steps from each point."""
    found = np.zeros(len(points), dtype=bool)
    if not len(points) or not len(steps):
        return found
    reach = steps.max(axis=0)
    low = np.maximum(points.min(axis=0) - reach, 0)
    high = np.minimum(points.max(axis=0) + reach + 1, label.shape)
    part = label[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    padded = np.pad(part, [(n, n) for n in reach], constant_values=OUTSIDE)
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    flat, home = padded.ravel(), (points - low + reach) @ strides
    left = np.arange(len(points))
    for offset in steps @ strides:
        hit = flat[home[left] + offset] == wanted[left]
        found[left[hit]] = True
        left = left[~hit]
        if not left.size:
            break
    return found


def _steps_within(spacing: Sequence[float], reach: float) -> Steps:
    """Every step not longer than `reach`, the nearest first, each followed by its opposite."""
    limits = [math.floor(reach / size + 1e-6) for size in spacing]
    lengths = {
        step: math.sqrt(sum((n * size) ** 2 for n, size in zip(step, spacing, strict=True)))
        for step in itertools.product(*(range(-n, n + 1) for n in limits))
    }
    # A step that is greater than (0, 0, 0) has an opposite that is not.
    half = [step for step, length in lengths.items() if step > (0, 0, 0) and length <= reach + 1e-6]
    ordered = sorted(half, key=lambda step: lengths[step])
    both = [sign * np.array(step, dtype=np.int64) for step in ordered for sign in (1, -1)]
    return np.array(both, dtype=np.int64).reshape(-1, 3)
