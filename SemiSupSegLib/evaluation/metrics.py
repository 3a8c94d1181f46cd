"""The figures of a prediction against a reference label, per class and region; their summary."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.cases.label_values import UNKNOWN_CLASS
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.evaluation.overlap import confusion_matrix, overlap_of
from SemiSupSegLib.evaluation.surfaces import (
    bounding_box,
    check_grid,
    diagonal,
    surface_distances,
)

Figures = dict[str, float | str | None]
"""By metric; `empty` holds a word or None, a metric without a value is None."""
Summary = dict[str, dict[str, dict[str, float | int | None]]]
"""By target and metric; `empty` of a target holds counts."""

METRICS = ("dice", "iou", "hd95_mm", "assd_mm", "ravd", "volume_ml", "reference_volume_ml")
REFERENCE_METRICS = ("dice_ref", "iou_ref", "hd95_ref", "asd_ref")
"""Added by the preset `la_voxels`."""
PRESETS: dict[str, tuple[str, ...]] = {"mm": METRICS, "la_voxels": (*METRICS, *REFERENCE_METRICS)}


def evaluate_label_maps(
    prediction: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    spacing_mm: Sequence[float],
    task: Task,
    *,
    preset: str = "mm",
) -> dict[str, Figures]:
    """Return the figures of every class and region of the task.

    `dice`, `iou` (0-1), `hd95_mm` (larger of the directed percentiles), `assd_mm`, `ravd`
    (fraction), `volume_ml`, `reference_volume_ml`, and `empty`: None, `both_empty` (Dice and IoU
    1, distances and RAVD 0) or `one_empty` (Dice and IoU 0, distances the diagonal of the field
    of view, RAVD None if it is the reference).

    The preset `la_voxels` adds what the left atrium papers print: `dice_ref`, `iou_ref`,
    `hd95_ref` (both directions pooled) and `asd_ref` (prediction to reference only), distances in
    voxels, and all four 0 if the prediction is empty, which improves their mean distance.

    Where the reference leaves voxels unknown (255), overlap and volumes are of the known ones, and
    no distance has a value: the surface may lie in the rest.

    Args:
        prediction: Class indices, shape (D, H, W).
        reference: Class indices of the reference label on the same grid.
        spacing_mm: Voxel size along D, H, W (z, y, x), mm.
        task: Names the classes and regions.
        preset: `mm` or `la_voxels`.

    Raises:
        ValueError: If shapes, class indices, spacing or preset do not fit.

    Source: Yu et al., MICCAI 2019 (UA-MT), and the MedPy functions used there, for `la_voxels`.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset is '{preset}', must be one of: {', '.join(PRESETS)}")
    check_grid(prediction, reference, spacing_mm)
    confusion = confusion_matrix(prediction, reference, task.num_classes)
    voxel_ml = float(np.prod(np.asarray(spacing_mm, dtype=np.float64))) / 1000
    box = bounding_box((prediction | reference) != 0)
    is_partial = bool((reference == UNKNOWN_CLASS).any())
    result: dict[str, Figures] = {}
    for target, classes in task.targets.items():
        overlap = overlap_of(confusion, classes)
        figures: Figures = {
            "dice": overlap.dice,
            "iou": overlap.iou,
            "hd95_mm": 0.0,
            "assd_mm": 0.0,
            "ravd": overlap.ravd,
            "volume_ml": overlap.predicted * voxel_ml,
            "reference_volume_ml": overlap.referenced * voxel_ml,
            "empty": overlap.empty,
        }
        if preset == "la_voxels":
            figures |= dict.fromkeys(REFERENCE_METRICS, 0.0)
        if is_partial:
            figures["hd95_mm"] = figures["assd_mm"] = None
            if preset == "la_voxels":
                figures |= {"dice_ref": overlap.dice, "iou_ref": overlap.iou}
                figures |= {"hd95_ref": None, "asd_ref": None}
        elif overlap.empty == "one_empty":
            figures["hd95_mm"] = figures["assd_mm"] = diagonal(prediction.shape, spacing_mm)
            if preset == "la_voxels" and overlap.predicted:
                # MedPy has no distance to an empty reference.
                figures["hd95_ref"] = figures["asd_ref"] = None
        elif overlap.empty is None:
            masks = [_members(label[box], classes, task) for label in (prediction, reference)]
            distances = surface_distances(masks[0], masks[1], spacing_mm)
            figures["hd95_mm"], figures["assd_mm"] = distances.hd95, distances.assd
            if preset == "la_voxels":
                in_voxels = surface_distances(masks[0], masks[1], (1.0, 1.0, 1.0))
                figures["dice_ref"], figures["iou_ref"] = overlap.dice, overlap.iou
                figures["hd95_ref"] = in_voxels.hd95_pooled
                figures["asd_ref"] = in_voxels.asd_directed
        result[target] = figures
    return result


def summarise(
    cases: Mapping[str, Mapping[str, Mapping[str, float | str | None]]],
    *,
    skip_empty: bool = False,
) -> Summary:
    """Return mean, sd, median and n of each metric over the cases, per target.

    `n` counts the cases with a value; `sd` (n - 1 in the denominator) is None below two of them.
    `empty` counts `both_empty` and `one_empty` among all cases.

    Args:
        cases: Result of `evaluate_label_maps` by case id.
        skip_empty: Leave targets that are empty in both out of the means, except the volumes,
            instead of counting them as Dice 1 and distance 0.
    """
    collected: dict[str, dict[str, list[float]]] = {}
    empties: dict[str, dict[str, float | int | None]] = {}
    for targets in cases.values():
        for target, figures in targets.items():
            flag = figures.get("empty")
            counts = empties.setdefault(target, {"both_empty": 0, "one_empty": 0})
            if isinstance(flag, str):
                counts[flag] = int(counts[flag] or 0) + 1
            columns = collected.setdefault(target, {})
            for metric, value in figures.items():
                if metric == "empty":
                    continue
                column = columns.setdefault(metric, [])
                skipped = skip_empty and flag == "both_empty" and not metric.endswith("volume_ml")
                if isinstance(value, (int, float)) and not skipped:
                    column.append(float(value))
    return {
        target: {metric: statistics_of(values) for metric, values in columns.items()}
        | {"empty": empties[target]}
        for target, columns in collected.items()
    }


def statistics_of(values: Sequence[float]) -> dict[str, float | int | None]:
    """Return mean, sd (n - 1), median and n; None where there are too few values."""
    return {
        "mean": statistics.fmean(values) if values else None,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "median": statistics.median(values) if values else None,
        "n": len(values),
    }


def _members(label: NDArray[np.uint8], classes: Sequence[int], task: Task) -> NDArray[np.bool_]:
    table = np.zeros(task.num_classes, dtype=bool)
    table[list(classes)] = True
    return table[label]
