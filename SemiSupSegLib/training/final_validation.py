"""What the networks of a finished run are worth on the validation cases, written for the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.evaluation.calibration import region_of_interest
from SemiSupSegLib.evaluation.errors import ERROR_KINDS, split_errors
from SemiSupSegLib.evaluation.metrics import evaluate_label_maps
from SemiSupSegLib.evaluation.overlap import dice_of_targets
from SemiSupSegLib.files import write_json
from SemiSupSegLib.inference.calibration import Calibration, calibratable_trust
from SemiSupSegLib.inference.likeness import mean_of
from SemiSupSegLib.inference.maps import OUTSIDE
from SemiSupSegLib.losses.agreement import js_agreement
from SemiSupSegLib.losses.trust import ImageConfidence, image_confidence
from SemiSupSegLib.losses.uncertainty import uncertainty_from_log, variance_from_log
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.reliability import ReliabilityJudge
from SemiSupSegLib.training.slices import slice_with_most, write_slice

HISTOGRAM_BINS = 40
RANKINGS: tuple[ImageConfidence, ...] = ("self_dice", "class_mean", "mean_fg", "mean_all")
"""Image confidences that one plain pass gives."""
SURE_AGREEMENT = 0.9
SHOWN = ("student", "teacher", "before")
"""Networks whose label maps are in the slices."""

Judged = Callable[[PreparedCase], tuple[Tensor, Tensor | None]]
"""Class probabilities (K, D, H, W) and log-variance (D, H, W) of a prepared case."""


def summarise_validation(
    run: RunFolder,
    task: Task,
    networks: Mapping[str, Judged],
    validation: Sequence[PreparedCase],
    calibration: Calibration,
) -> None:
    """Write RUN/validation/cases.json, and slices of telling cases beside it.

    cases.json: `cases.<id>.<network>.<target>` has the figures of `evaluate_label_maps` on the
    prepared grid. `details.<id>.<network>`: `image_confidence` by kind (`self_dice`: expected
    Dice), `foreground_share` of the prediction, `errors_ml` by
    kind, and of a student with a teacher `teacher_student_dice`, the mean of the headline targets.
    `reliability.<network>`: bins and calibration error in the region of interest, before
    calibration and after (each case judged by what was fitted on the others). `histograms.<map>`:
    `edges` and `shares` of the voxels in the region of interest, and `over_0.9`, of all voxels.
    `pictures`: which case is best, median, worst, and of high, medium, low confidence; each has
    slices/<id>.npz (see `write_slice`).

    Args:
        run: The run folder.
        task: Classes and regions.
        networks: `student`, perhaps `teacher`, `ensemble`, `best_validation` and `before`, their
            temperature applied.
        validation: Cases with labels.
        calibration: The student's, fitted on these cases.
    """
    folder = run.validation / "slices"
    folder.mkdir(parents=True, exist_ok=True)
    temperatures = {
        "student": calibration.temperature,
        "teacher": calibration.teacher_temperature,
    }
    judges = {
        name: ReliabilityJudge(len(validation), task.num_classes)
        for name in temperatures
        if name in networks
    }
    histograms = _Histograms()
    cases: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for case in validation:
        label = np.asarray(case.label())
        spacing = case.grid.spacing[::-1]
        predictions: dict[str, NDArray[np.uint8]] = {}
        outputs: dict[str, tuple[Tensor, Tensor | None]] = {}
        figures, detail = {}, {}
        for name, judged in networks.items():
            probabilities, log_variance = judged(case)
            prediction = probabilities.argmax(0).to(torch.uint8).cpu().numpy()
            figures[name] = evaluate_label_maps(prediction, label, spacing, task)
            errors = split_errors(prediction, label, spacing)
            detail[name] = {
                "image_confidence": _image_confidences(probabilities, log_variance),
                "foreground_share": float(np.mean(prediction > 0)),
                "errors_ml": {kind: _ml(errors[kind]["mm3"]) for kind in ERROR_KINDS},
            }
            predictions[name] = prediction
            if name in judges:
                outputs[name] = probabilities, log_variance
                roi = region_of_interest(prediction, label, spacing)
                judges[name].add(
                    probabilities, log_variance, temperatures[name], label, prediction, roi
                )
        if "teacher" in predictions:
            dice = dice_of_targets(predictions["student"], predictions["teacher"], task)
            found = {
                target: value
                for target, value in dice.items()
                if any(
                    np.isin(predictions[name], task.targets[target]).any()
                    for name in ("student", "teacher")
                )
            }
            detail["student"]["teacher_student_dice"] = mean_of(found, task.headline_targets)
        maps = _maps(outputs, calibration, task.num_classes)
        outside = np.asarray(case.mask()) == 0
        for name, values in maps.items():
            values[outside] = OUTSIDE[name]
        histograms.add(maps, region_of_interest(predictions["student"], label, spacing))
        write_slice(
            folder / f"{case.id}.npz",
            slice_with_most(label, predictions["student"]),
            image=case.image(),
            labels={
                "truth": label,
                **{name: one for name, one in predictions.items() if name in SHOWN},
            },
            maps=maps,
            spacing_mm=(spacing[1], spacing[2]),
        )
        cases[case.id], details[case.id] = figures, detail
    pictures = _choose_pictures(task, cases, details)
    _keep_only(folder, set(pictures.values()))
    reliability = {name: judge.result() for name, judge in judges.items()}
    content = {
        "format": "semisupseg-validation",
        "version": 1,
        "cases": cases,
        "details": details,
        "reliability": {name: found for name, found in reliability.items() if found},
        "histograms": histograms.result(),
        "pictures": pictures,
    }
    write_json(run.validation / "cases.json", content)


def mean_headline_dice(task: Task, figures: Mapping[str, Mapping[str, Any]]) -> float:
    """Return the mean Dice over the task's headline targets of one case and network."""
    return float(np.mean([float(figures[name]["dice"]) for name in task.headline_targets]))


def _image_confidences(probabilities: Tensor, log_variance: Tensor | None) -> dict[str, float]:
    variance = None
    if log_variance is not None:
        log_variance = log_variance.reshape(probabilities.shape[1:])
        variance = variance_from_log(log_variance, len(probabilities))
    trust = calibratable_trust(probabilities, variance)
    return {kind: image_confidence(kind, probabilities, trust=trust) for kind in RANKINGS}


def _maps(
    outputs: Mapping[str, tuple[Tensor, Tensor | None]], calibration: Calibration, num_classes: int
) -> dict[str, NDArray[np.floating]]:
    """Return what can be said of each voxel, 0-1, (D, H, W)."""
    probabilities, log_variance = outputs["student"]
    maps: dict[str, NDArray[np.floating]] = {}
    variance = None
    if log_variance is not None:
        log_variance = log_variance.reshape(probabilities.shape[1:])
        variance = variance_from_log(log_variance, num_classes)
        maps["uncertainty"] = uncertainty_from_log(log_variance, num_classes).cpu().numpy()
    trust = calibratable_trust(probabilities, variance)
    maps["confidence"] = calibration.confidence(trust).cpu().numpy()
    if "teacher" in outputs:
        maps["agreement"] = js_agreement(outputs["teacher"][0], probabilities).cpu().numpy()
    return maps


class _Histograms:
    """Adds up how the maps' values are distributed."""

    def __init__(self) -> None:
        self._edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._high: dict[str, int] = {}
        self._voxels = 0

    def add(self, maps: Mapping[str, NDArray[np.floating]], roi: NDArray[np.bool_]) -> None:
        for name, values in maps.items():
            counts = np.histogram(values[roi], self._edges)[0]
            self._counts[name] = self._counts.get(name, np.zeros(HISTOGRAM_BINS, int)) + counts
            above = int(np.count_nonzero(values > SURE_AGREEMENT))
            self._high[name] = self._high.get(name, 0) + above
        self._voxels += roi.size

    def result(self) -> dict[str, Any]:
        return {
            name: {
                "edges": self._edges.tolist(),
                "shares": (counts / max(1, int(counts.sum()))).tolist(),
                "over_0.9": self._high[name] / max(1, self._voxels),
            }
            for name, counts in self._counts.items()
        }


def _choose_pictures(
    task: Task, cases: Mapping[str, Any], details: Mapping[str, Any]
) -> dict[str, str]:
    """Say which cases are shown: one may have several roles; few cases do not fill all."""
    by_dice = sorted(cases, key=lambda one: (-mean_headline_dice(task, cases[one]["student"]), one))
    by_confidence = sorted(
        details, key=lambda one: (-details[one]["student"]["image_confidence"]["self_dice"], one)
    )
    roles = {
        ("best", "median", "worst"): by_dice,
        ("high_confidence", "medium_confidence", "low_confidence"): by_confidence,
    }
    found = {}
    for (first, middle, last), order in roles.items():
        if order:
            found[first] = order[0]
        if len(order) > 1:
            found[last] = order[-1]
        if len(order) > 2:
            found[middle] = order[len(order) // 2]
    return found


def _keep_only(folder: Path, cases: set[str]) -> None:
    for file in folder.glob("*.npz"):
        if file.name.removesuffix(".npz") not in cases:
            file.unlink()


def _ml(mm3: float | int | None) -> float:
    return float(mm3 or 0) / 1000
