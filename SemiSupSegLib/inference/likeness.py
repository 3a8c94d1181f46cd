"""Is a case unlike what a model was trained on? What the model's package must hold to be asked.

The reference holds no patient's name: quantiles of the training images, and of the validation
cases how sure the model was of them, how far teacher and student agreed, what its quality network
thought of its results (if it has one), and how far their intensities lay from the training images'.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.inference.maps import Figures, Likeness
from SemiSupSegLib.preparation.prepare import PreparedCase

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LEAST_CASES, MANY_CASES = 5, 20
"""Fewer validation cases judge nothing; from the second on their 5th percentile is the limit,
between them a standard deviation below their lowest value."""
_PERCENTILE = 5
_VOXELS = 20_000
"""Voxels of a case from which its quantiles are taken."""
_INTENSITY_FACTOR = 1.5
"""So much further from the training images than any validation case, intensities are strange."""
_SPACING_FACTOR = 1.5
"""Voxels so much larger or smaller than any in training are strange."""


def reference_of(
    task: Task, training: Sequence[PreparedCase], validation: Iterable[PreparedCase]
) -> dict[str, Any]:
    """Return the part of a package's `reference_distribution` that images alone give.

    Args:
        task: Names the channels.
        training: The labelled cases, at least one.
        validation: Cases that were not trained on.
    """
    names = [channel.name for channel in task.channels]
    samples = [_sample(case) for case in training]
    quantiles = {
        name: _quantiles(np.concatenate([sample[index] for sample in samples]))
        for index, name in enumerate(names)
    }
    spacings = [case.original.spacing for case in training]
    return {
        "quantiles": list(QUANTILES),
        "channels": quantiles,
        "original_spacing": {
            "min": [float(value) for value in np.min(spacings, axis=0)],
            "max": [float(value) for value in np.max(spacings, axis=0)],
        },
        "deviations": sorted(
            max(_deviations(case, quantiles).values(), default=0.0) for case in validation
        ),
    }


def scores_of(details: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the other part, from the students' entries in validation/cases.json."""
    scores: dict[str, list[float]] = {"image_confidence": [], "teacher_student_dice": []}
    for detail in details:
        scores["image_confidence"].append(float(detail["image_confidence"]["self_dice"]))
        dice = detail.get("teacher_student_dice")
        if dice is not None:
            scores["teacher_student_dice"].append(float(dice))
    return {name: sorted(round(value, 6) for value in one) for name, one in scores.items() if one}


def likeness(
    reference: Mapping[str, Any],
    prepared: PreparedCase,
    figures: Figures,
    task: Task,
    estimated_dice: Mapping[str, float | None],
) -> Likeness:
    """Compare a predicted case with a package's `reference_distribution`.

    Args:
        reference: Of the package; empty if it has none.
        prepared: The case as the network saw it.
        figures: Of its prediction.
        task: Names channels, classes and headline targets.
        estimated_dice: By the model's quality network, by class; empty if it has none.
    """
    reasons = [*_strange_spacing(reference, prepared), *_strange_images(reference, prepared)]
    scores = reference.get("scores", {})
    found = {
        "image_confidence": figures.confidence.get("image"),
        "teacher_student_dice": mean_of(figures.teacher_student_dice, task.headline_targets),
        "estimated_dice": mean_of(estimated_dice, [one.name for one in task.classes]),
    }
    words = {
        "image_confidence": "The model is less sure of this case",
        "teacher_student_dice": "Teacher and student differ more in this case",
        "estimated_dice": "The quality network thinks less of this case's result",
    }
    for name, value in found.items():
        known = scores.get(name, [])
        if value is None or len(known) < LEAST_CASES:
            continue
        limit, than = _limit(known)
        if value < limit:
            reasons.append(f"{words[name]} ({value:.2f}) than in {than}.")
    count = max((len(one) for one in scores.values()), default=0)
    return Likeness(is_judged=count >= LEAST_CASES, reasons=tuple(reasons))


def mean_of(dice: Mapping[str, float | None], targets: Sequence[str]) -> float | None:
    """Return the mean over the targets that one of two label maps has; None if there is none."""
    values = [value for target in targets if (value := dice.get(target)) is not None]
    return sum(values) / len(values) if values else None


def _limit(known: Sequence[float]) -> tuple[float, str]:
    count = f"{len(known)} validation cases"
    if len(known) >= MANY_CASES:
        limit = float(np.percentile(known, _PERCENTILE))
        return limit, f"95 % of {count} (above {limit:.2f})"
    # Every sixth case lies below the lowest of five others: that alone would cry wolf.
    lowest = min(known)
    return lowest - statistics.stdev(known), f"any of {count} ({lowest:.2f} and more)"


def _strange_spacing(reference: Mapping[str, Any], prepared: PreparedCase) -> list[str]:
    known = reference.get("original_spacing")
    if not known:
        return []
    spacing = prepared.original.spacing
    # Axes are sorted: a scan may have been cut in another plane than those in training.
    own, low, high = sorted(spacing), sorted(known["min"]), sorted(known["max"])
    if all(
        least / _SPACING_FACTOR <= value <= most * _SPACING_FACTOR
        for value, least, most in zip(own, low, high, strict=True)
    ):
        return []
    range_ = f"{_mm(known['min'])} to {_mm(known['max'])}"
    return [f"Its voxels ({_mm(spacing)}) are far from those of the training scans ({range_})."]


def _strange_images(reference: Mapping[str, Any], prepared: PreparedCase) -> list[str]:
    known = reference.get("deviations", [])
    if len(known) < LEAST_CASES:
        return []
    found = _deviations(prepared, reference["channels"])
    limit = _INTENSITY_FACTOR * max(known)
    strange = [name for name, value in found.items() if value > limit]
    if not strange:
        return []
    what = "Channel" if len(strange) == 1 else "Channels"
    return [
        f"{what} {', '.join(strange)}: the intensities are distributed unlike those of the "
        f"training scans (by {max(found.values()):.1f} standard deviations; at most "
        f"{max(known):.1f} in {len(known)} validation cases)."
    ]


def _sample(case: PreparedCase) -> NDArray[np.float32]:
    """Return some voxels within the mask, (C, n)."""
    inside = np.flatnonzero(case.mask())
    chosen = inside[:: max(1, len(inside) // _VOXELS)]
    image = case.image()
    return np.asarray(image.reshape(len(image), -1)[:, chosen], dtype=np.float32)


def _quantiles(values: NDArray[np.float32]) -> list[float]:
    if not values.size:
        return [0.0] * len(QUANTILES)
    return [float(value) for value in np.quantile(values, QUANTILES)]


def _deviations(case: PreparedCase, reference: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return, by channel, how far a quantile lies from the reference's at most.

    Prepared images have mean 0 and standard deviation 1, so this is in standard deviations. A
    channel that a case does not have is 0 everywhere and left out.
    """
    return {
        name: float(np.abs(np.subtract(_quantiles(values), reference[name])).max())
        for name, values in zip(reference, _sample(case), strict=True)
        if values.any()
    }


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in spacing) + " mm"
