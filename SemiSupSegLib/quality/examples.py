"""Masks of known quality to learn from: true labels spoilt on purpose, and masks of weak models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SemiSupSegLib.files import replacing
from SemiSupSegLib.quality.corruptions import (
    SHAPE_CORRUPTIONS,
    Label,
    blobs,
    class_swap,
    placed,
    with_changed,
)
from SemiSupSegLib.quality.crops import MARGIN_MM, box_around, foreground_of, on_cube

Array = NDArray[np.float32]

_CANVAS_MARGIN_MM = 24.0
"""Around the true label: what corruptions move stays inside, so that Dice is the whole case's."""
_MOST_VOXELS = 96
"""Of a canvas's longest side; of a larger one every second, third, … voxel is taken."""
_IDENTITY, _EMPTY, _FULL, _OTHER, _CHAIN = 0.12, 0.02, 0.01, 0.1, 0.3
"""Shares of the spoilt labels; the rest have one corruption, chains two or three."""
_SIMILAR = 0.2
"""Share of the other cases, those of the most similar volume, whose mask may be put in."""
_LEAST_PROBABILITY = 0.02
"""Of a foreground class: where all have less, a weak model's prediction is not kept."""
_THRESHOLDS = (0.1, 0.3, 0.7, 0.9)
_BINS = 10


@dataclass(frozen=True, kw_only=True)
class LearningCase:
    """A labelled case that quality is learnt from."""

    id: str
    image: Callable[[], NDArray[np.float16]]
    """Returns the prepared channels (C, D, H, W)."""
    label: Callable[[], NDArray[np.uint8]]
    """Returns class indices (D, H, W)."""
    spacing: tuple[float, float, float]
    """z, y, x in mm."""
    volume_mm3: float
    """Of all its classes but background."""
    weak: Sequence[Path] = ()
    """Predictions by models that have not seen the case (`write_prediction`)."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A view of a case with a mask, and how good the mask is."""

    seen: Tensor
    """For the quality network, (C + K - 1, side, side, side), float32."""
    dice: Array
    """Of each class but background on the whole case, (K - 1,)."""
    judged: NDArray[np.bool_]
    """(K - 1,): false for a class that neither label nor mask has; its Dice is given as 1."""


def soft_dice(masks: Array, label: Label) -> tuple[Array, NDArray[np.bool_]]:
    """Return 2Σpg / (Σp + Σg) of each class but background, and which classes are judged.

    Args:
        masks: Probabilities, or 0 and 1, (K - 1, D, H, W).
        label: Class indices (D, H, W).

    Returns:
        Two arrays (K - 1,); a class without any voxel in both has Dice 1 and is not judged.
    """
    shared, sizes = np.zeros(len(masks)), np.zeros(len(masks))
    for index, mask in enumerate(masks):
        true = label == index + 1
        shared[index] = mask[true].sum(dtype=np.float64)
        sizes[index] = mask.sum(dtype=np.float64) + true.sum()
    judged = sizes > 0
    dice = np.where(judged, 2 * shared / np.where(judged, sizes, 1), 1.0)
    return dice.astype(np.float32), judged


def one_hot(label: Label, num_classes: int) -> NDArray[np.bool_]:
    """Return the masks of classes 1 to K - 1, (K - 1, D, H, W)."""
    return np.stack([label == index for index in range(1, num_classes)])


def write_prediction(file: Path, probabilities: Tensor) -> None:
    """Write class probabilities (K, D, H, W), 255 steps, where there is any foreground."""
    foreground = probabilities[1:]
    box = box_around((foreground >= _LEAST_PROBABILITY).any(0), (1, 1, 1), 0)
    kept = (foreground[:, box[0], box[1], box[2]].clamp(0, 1) * 255).round().to(torch.uint8)
    start = np.array([part.start for part in box], np.int32)
    with replacing(file) as stream:
        np.savez(stream, probabilities=kept.cpu().numpy(), start=start)


def read_prediction(file: Path, shape: Sequence[int]) -> Array:
    """Return what `write_prediction` wrote as probabilities (K - 1, D, H, W) on a grid."""
    with np.load(file, allow_pickle=False) as content:
        part, start = content["probabilities"], content["start"]
    whole = np.zeros((len(part), *shape), np.float32)
    z, y, x = (
        slice(first, first + length) for first, length in zip(start, part.shape[1:], strict=True)
    )
    whole[:, z, y, x] = part / np.float32(255)
    return whole


def sharpened(foreground: Array, temperature: float) -> Array:
    """Return p^(1/T) / Σ p^(1/T), the sum with background; (K - 1, D, H, W) in and out."""
    background = np.clip(1 - foreground.sum(0, keepdims=True), 0, 1)
    powers = np.concatenate([background, foreground]) ** (1 / temperature)
    found: Array = (powers / np.maximum(powers.sum(0, keepdims=True), 1e-6))[1:]
    return found.astype(np.float32)


def decided(foreground: Array, threshold: float | None = None) -> Label:
    """Return class indices (D, H, W) of probabilities (K - 1, D, H, W).

    Args:
        foreground: Of the classes but background.
        threshold: The likeliest foreground class counts from this probability on; None: where it
            is likelier than background.
    """
    highest, index = foreground.max(0), foreground.argmax(0) + 1
    least = 1 - foreground.sum(0) if threshold is None else threshold
    return np.where(highest >= np.maximum(least, 1e-6), index, 0).astype(np.uint8)


def make_example(
    case: LearningCase,
    others: Sequence[LearningCase],
    draw: np.random.Generator,
    *,
    num_classes: int,
    side: int,
    weak_share: float,
    soft_share: float,
) -> Example:
    """Return a view with a mask that is right, spoilt on purpose, or a weak model's.

    Source: the mix follows Abhishek & Hamarneh 2026 (arXiv 2606.01753), whose reference code
    judges hard masks alone; soft ones are seen here, since a mask that is to be improved by its
    gradient is soft.

    Args:
        case: Whose image and label.
        others: Cases whose masks may be put in its place.
        draw: Everything is drawn from it.
        num_classes: Background included.
        side: Of the view, voxels.
        weak_share: Of masks that are predictions, if there are any.
        soft_share: Of masks with probabilities rather than classes.
    """
    label = case.label()
    soft = draw.random() < soft_share
    if case.weak and draw.random() < weak_share:
        step = 1
        corner = (0, 0, 0)
        file = case.weak[int(draw.integers(len(case.weak)))]
        true = np.asarray(label)
        masks = _of_weak_model(read_prediction(file, true.shape), draw, soft)
        dice, judged = soft_dice(masks, true)
    else:
        box, step = _canvas(label, case.spacing)
        z, y, x = (slice(one.start, one.stop, step) for one in box)
        corner = (box[0].start, box[1].start, box[2].start)
        true = np.ascontiguousarray(label[z, y, x])
        spacing = tuple(step * one for one in case.spacing)
        # A view of the map on disk: only what the blobs look at is read.
        channel = case.image()[0, z, y, x]
        spoilt = spoil(true, channel, spacing, _similar(case, others), step, draw, num_classes)
        masks = one_hot(spoilt, num_classes).astype(np.float32)
        if soft:
            masks = _blurred(masks, spacing, 1 + 2 * draw.random())
        dice, judged = soft_dice(masks, true)
    given = torch.from_numpy(masks)
    shown = given if soft else given > 0.5
    spacing = tuple(step * one for one in case.spacing)
    z, y, x = box_around(foreground_of(shown), spacing, MARGIN_MM)
    parts = [
        slice(first + one.start * step, first + one.stop * step)
        for first, one in zip(corner, (z, y, x), strict=True)
    ]
    image = np.asarray(case.image()[:, parts[0], parts[1], parts[2]], np.float32)
    image = image * (1 + 0.1 * draw.uniform(-1, 1)) + 0.1 * draw.standard_normal()
    seen = on_cube(torch.from_numpy(image.astype(np.float32)), shown[:, z, y, x], side)
    return Example(seen=seen, dice=dice, judged=judged)


def spoil(
    label: Label,
    image: NDArray[np.floating],
    spacing: Sequence[float],
    others: Sequence[LearningCase],
    step: int,
    draw: np.random.Generator,
    num_classes: int,
) -> Label:
    """Return a label map with mistakes; now and then with none.

    Args:
        label: Class indices (D, H, W).
        image: One channel of the same grid.
        spacing: Of this grid, z, y, x in mm.
        others: Cases one of which may take its place.
        step: Voxels of a case per voxel of this grid.
        draw: Everything is drawn from it.
        num_classes: Background included.
    """
    kind = draw.random()
    for share, result in ((_IDENTITY, label), (_EMPTY, np.zeros_like(label))):
        if kind < share:
            return result.copy()
        kind -= share
    if kind < _FULL:
        return np.full_like(label, int(draw.integers(1, num_classes)))
    kind -= _FULL
    if kind < _OTHER and others:
        other = others[int(draw.integers(len(others)))].label()
        return placed(np.ascontiguousarray(other[::step, ::step, ::step]), label)
    count = int(draw.integers(2, 4)) if draw.random() < _CHAIN else 1
    for _ in range(count):
        label = _corrupted(label, image, spacing, draw, num_classes)
    return label


def balance(pilot: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a weight for each of ten bins of Dice, 1/√share, of mean 1 over what was seen.

    Args:
        pilot: Dice values of some examples. A bin that none of them is in counts as one value.
    """
    counts = np.bincount(bins_of(pilot), minlength=_BINS).astype(np.float64)
    weights = 1 / np.sqrt(np.maximum(counts, 1))
    mean = (weights * counts).sum() / max(counts.sum(), 1)
    return (weights / mean if mean > 0 else np.ones(_BINS)).astype(np.float32)


def bins_of(dice: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return which tenth each Dice value is in, 0-9."""
    return np.clip((np.asarray(dice) * _BINS).astype(np.int64), 0, _BINS - 1)


def _corrupted(
    label: Label,
    image: NDArray[np.floating],
    spacing: Sequence[float],
    draw: np.random.Generator,
    num_classes: int,
) -> Label:
    names = [*SHAPE_CORRUPTIONS, "component_add", "class_swap"]
    name = names[int(draw.integers(len(names) - (num_classes < 3)))]
    severity = float(draw.random())
    if name == "class_swap":
        return class_swap(label, num_classes, draw)
    classes = list(range(1, num_classes))
    one = classes[int(draw.integers(len(classes)))]
    if name == "component_add":
        added = blobs(np.asarray(image, np.float32), spacing, draw, severity)
        return with_changed(label, one, (label == one) | added)
    chosen = classes if draw.random() < 0.5 else [one]
    seed = int(draw.integers(2**62))
    result = label
    masks = {
        # All classes the same way: what is drawn is drawn anew, from one seed.
        index: SHAPE_CORRUPTIONS[name](
            label == index, spacing, np.random.Generator(np.random.PCG64(seed)), severity
        )
        for index in chosen
    }
    for index, mask in masks.items():
        result = with_changed(result, index, mask)
    return result


def _of_weak_model(foreground: Array, draw: np.random.Generator, soft: bool) -> Array:
    if soft:
        return sharpened(foreground, float(draw.uniform(0.5, 2)))
    threshold = _THRESHOLDS[int(draw.integers(4))] if draw.random() < 0.2 else None
    return one_hot(decided(foreground, threshold), len(foreground) + 1).astype(np.float32)


def _canvas(
    label: NDArray[np.uint8], spacing: Sequence[float]
) -> tuple[tuple[slice, slice, slice], int]:
    """Return a box around the true label, and every how manieth voxel of it is taken."""
    foreground = torch.from_numpy(np.asarray(label) > 0)
    box = box_around(foreground, spacing, _CANVAS_MARGIN_MM)
    longest = max(one.stop - one.start for one in box)
    return box, -(-longest // _MOST_VOXELS)


def _similar(case: LearningCase, others: Sequence[LearningCase]) -> list[LearningCase]:
    near = sorted(
        (one for one in others if one.id != case.id),
        key=lambda one: (abs(one.volume_mm3 - case.volume_mm3), one.id),
    )
    return near[: max(1, round(_SIMILAR * len(near)))]


def _blurred(masks: Array, spacing: Sequence[float], sigma_mm: float) -> Array:
    from scipy.ndimage import gaussian_filter

    sigmas = [sigma_mm / one for one in spacing]
    return np.stack([gaussian_filter(one, sigmas) for one in masks]).astype(np.float32)
