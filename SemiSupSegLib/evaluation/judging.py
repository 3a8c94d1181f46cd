"""One case: its prediction files read from a result folder and judged by the reference label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import Geometry, geometry_of
from SemiSupSegLib.cases.label_values import UNKNOWN_CLASS
from SemiSupSegLib.cases.reading import read_image, read_label
from SemiSupSegLib.cases.task import Task, task_from_json
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.evaluation.calibration import (
    ReliabilityBins,
    brier_score,
    class_wise_ece,
    negative_log_likelihood,
    region_of_interest,
    reliability_bins,
    top_label_brier,
    top_label_nll,
)
from SemiSupSegLib.evaluation.errors import split_errors
from SemiSupSegLib.evaluation.metrics import Figures, evaluate_label_maps
from SemiSupSegLib.evaluation.qubrats import FilteringCurves, entropy_uncertainty, filtering_curves
from SemiSupSegLib.evaluation.risk import confidence_histogram
from SemiSupSegLib.files import read_json
from SemiSupSegLib.resources import check_format

Volume = NDArray[np.uint8]

STORED_STEP = 1 / 200
"""Maps are stored in steps of this size; a probability stored as 0 may be up to half of it."""
KEPT_SHARE = 0.5
"""A reference label that loses more of its foreground by moving to the image's grid is refused."""


@dataclass(frozen=True, kw_only=True)
class JudgingRequest:
    """What a process needs to know to judge one case."""

    id: str
    folder: Path
    """Holds `<id>_label.nii.gz` and, if the method gives them, maps and `case.json`."""
    channels: tuple[ImageSource, ...]
    label: ImageSource
    unknown: int | None = None
    """Value of voxels that the label says nothing about, if it leaves any out."""
    task: Task
    preset: str = "mm"
    with_teacher: bool = False

    def file(self, name: str) -> Path:
        """Return the path of one of the case's results."""
        return self.folder / f"{self.id}_{name}.nii.gz"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The figures of one label map."""

    figures: dict[str, Figures]
    errors: dict[str, dict[str, float | int | None]]


@dataclass(frozen=True, kw_only=True)
class CaseJudgement:
    """Everything found about one case."""

    id: str
    student: Judgement
    teacher: Judgement | None = None
    calibration: dict[str, float | int | None | dict[str, float | None]] | None = None
    """None without a confidence map."""
    reliability: ReliabilityBins | None = None
    histograms: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """Counts for risk-coverage by map: `confidence`, `uncertainty`."""
    filtering: dict[str, FilteringCurves] = field(default_factory=dict)
    """QU-BraTS curves by headline target."""
    normalisation: str | None = None
    """Where the uncertainty of `filtering` is from: `entropy` or `map`."""
    confidence: dict[str, float] = field(default_factory=dict)
    """From `case.json`: `image` and classes."""
    estimated_dice: dict[str, float] = field(default_factory=dict)
    """From `case.json`, by class."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A case that could not be judged, and why."""

    id: str
    message: str


def judge_case(request: JudgingRequest) -> CaseJudgement | Failure:
    """Read and judge one case; what a person can mend comes back as a `Failure`."""
    try:
        return _judge(request)
    except SemiSupSegError as error:
        return Failure(id=request.id, message=str(error))


def _judge(request: JudgingRequest) -> CaseJudgement:
    task = request.task
    file = request.file("label")
    told, more = _read_case_json(request.folder / "case.json")
    prediction, geometry = _read_prediction(file, told, task)
    reference, warnings = _read_reference(request, geometry, file)
    spacing = geometry.spacing[::-1]
    student = _judgement(prediction, reference, spacing, request)
    teacher = None
    if request.with_teacher:
        pseudo_file = request.file("pseudolabel")
        if not pseudo_file.is_file():
            raise SemiSupSegError(
                f"{pseudo_file} does not exist, so the teacher cannot be judged. Predict with a "
                "model that has a teacher, or leave out '--network teacher'."
            )
        pseudo_label, pseudo_geometry = _read_prediction(pseudo_file, told, task)
        _check_same_grid(pseudo_geometry, geometry, pseudo_file, file)
        teacher = _judgement(pseudo_label, reference, spacing, request)

    region = region_of_interest(prediction, reference, spacing)
    wrong = (prediction != reference)[region]
    confidence = _read_map(request.file("confidence"), geometry, file)
    uncertainty = _read_map(request.file("uncertainty"), geometry, file)
    probabilities = _read_probabilities(request, geometry, file)
    histograms = {}
    if confidence is not None:
        histograms["confidence"] = confidence_histogram(confidence[region], wrong)
    if uncertainty is not None:
        histograms["uncertainty"] = confidence_histogram(1 - uncertainty[region], wrong)
    calibration, reliability = None, None
    if confidence is not None:
        reliability = reliability_bins(confidence[region], ~wrong)
        calibration = _calibration(confidence[region], ~wrong, reliability)
        if probabilities is not None:
            calibration |= _class_calibration(probabilities[:, region], reference[region], task)
    filtering, normalisation = {}, None
    if uncertainty is not None or probabilities is not None:
        normalisation = "map" if probabilities is None else "entropy"
        brain = _brain(request, geometry)
        # Background outside the brain is in no count; without it this is several times faster.
        counted = (brain | ((prediction | reference) != 0)) & (reference != UNKNOWN_CLASS)
        filtering = {
            target: _filtering(
                task.targets[target],
                prediction[counted],
                reference[counted],
                uncertainty[counted] if uncertainty is not None else None,
                probabilities[:, counted] if probabilities is not None else None,
                brain[counted],
            )
            for target in task.headline_targets
        }
    return CaseJudgement(
        id=request.id,
        student=student,
        teacher=teacher,
        calibration=calibration,
        reliability=reliability,
        histograms=histograms,
        filtering=filtering,
        normalisation=normalisation,
        confidence=_numbers(told.get("confidence", {})),
        estimated_dice=_numbers(told.get("estimated_dice", {})),
        warnings=(*warnings, *more),
    )


def _judgement(
    label: Volume, reference: Volume, spacing: tuple[float, ...], request: JudgingRequest
) -> Judgement:
    return Judgement(
        figures=evaluate_label_maps(label, reference, spacing, request.task, preset=request.preset),
        errors=split_errors(label, reference, spacing),
    )


def _calibration(
    confidence: NDArray[np.float32], correct: NDArray[np.bool_], bins: ReliabilityBins
) -> dict[str, float | int | None | dict[str, float | None]]:
    some = correct.size > 0
    return {
        "ece": bins.ece,
        "brier_top_label": top_label_brier(confidence, correct),
        "nll_top_label": top_label_nll(confidence, correct, floor=STORED_STEP / 2),
        "accuracy": float(correct.mean()) if some else None,
        "mean_confidence": float(confidence.mean(dtype=np.float64)) if some else None,
        "num_voxels": int(correct.size),
    }


def _class_calibration(
    probabilities: NDArray[np.float32], labels: Volume, task: Task
) -> dict[str, float | int | None | dict[str, float | None]]:
    by_class = class_wise_ece(probabilities, labels)
    names = [one.name for one in task.classes]
    return {
        "class_wise_ece": dict(zip(names, by_class, strict=True)),
        "brier": brier_score(probabilities, labels),
        "nll": negative_log_likelihood(probabilities, labels, floor=STORED_STEP / 2),
    }


def _filtering(
    classes: Sequence[int],
    prediction: Volume,
    reference: Volume,
    uncertainty: NDArray[np.float32] | None,
    probabilities: NDArray[np.float32] | None,
    brain: NDArray[np.bool_],
) -> FilteringCurves:
    """Curves of a union of classes; all arrays hold the voxels that count, shape (N,)."""
    doubt: NDArray[np.floating]
    if probabilities is not None:
        doubt = entropy_uncertainty(probabilities[list(classes)].sum(axis=0))
    else:
        assert uncertainty is not None  # the caller has one of the two
        doubt = uncertainty * np.float32(100)
    members = np.isin(np.arange(256), list(classes))
    return filtering_curves(members[prediction], members[reference], doubt, brain)


def _read_prediction(file: Path, told: Mapping[str, Any], task: Task) -> tuple[Volume, Geometry]:
    """Return a result's label map, in the classes of the references.

    Its values are those of the model's task, in which 2 may be what 1 is in the references.
    """
    own = task_from_json(told["task"], file.parent / "case.json") if "task" in told else task
    image = read_label(ImageSource(path=file), own)
    values = np.asarray(sitk.GetArrayFromImage(image), dtype=np.uint8)
    names, wanted = ([one.name for one in each.classes] for each in (own, task))
    if sorted(names) != sorted(wanted):
        raise SemiSupSegError(
            f"{file} has the classes {', '.join(names)} of the task '{own.name}', with which it "
            f"was predicted; the references are read with the task '{task.name}', which has "
            f"{', '.join(wanted)}. Say with --task what the references' values mean, in a task "
            "with the same classes, or predict with a model of their task."
        )
    place = np.array([0, *(1 + wanted.index(name) for name in names)], dtype=np.uint8)
    return place[values], geometry_of(image)


def _read_reference(
    request: JudgingRequest, geometry: Geometry, file: Path
) -> tuple[Volume, tuple[str, ...]]:
    image = read_label(request.label, request.task, request.unknown)
    if geometry_of(image).matches(geometry):
        return np.asarray(sitk.GetArrayFromImage(image), dtype=np.uint8), ()
    first = read_image(request.channels[0]) if request.channels else None
    if first is None or not geometry_of(first).matches(geometry):
        _check_same_grid(geometry, geometry_of(image), file, request.label.path)
    # The prediction lies where the image does: the label is the odd one out, and moves.
    moved = np.asarray(
        sitk.GetArrayFromImage(
            sitk.Resample(image, first, sitk.Transform(), sitk.sitkNearestNeighbor)
        ),
        dtype=np.uint8,
    )
    there = int(np.count_nonzero(sitk.GetArrayViewFromImage(image)))
    before = there * geometry_of(image).voxel_volume_mm3
    after = int(np.count_nonzero(moved)) * geometry.voxel_volume_mm3
    if after < KEPT_SHARE * before:
        _check_same_grid(geometry, geometry_of(image), file, request.label.path)
    return moved, (
        f"{request.id}: {request.label.path.name} lies on another grid than the image and was "
        "moved to it (nearest neighbour).",
    )


def _read_map(file: Path, geometry: Geometry, label_file: Path) -> NDArray[np.float32] | None:
    if not file.is_file():
        return None
    image = read_image(ImageSource(path=file))
    _check_same_grid(geometry_of(image), geometry, file, label_file)
    values = np.asarray(sitk.GetArrayFromImage(image), dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    # Written so that NaN fails too.
    if not (low >= 0 and high <= 1 + STORED_STEP / 2):
        raise SemiSupSegError(
            f"{file} goes from {low:g} to {high:g}; a map goes from 0 to 1. Predict the case again."
        )
    return values.clip(0, 1)


def _read_probabilities(
    request: JudgingRequest, geometry: Geometry, label_file: Path
) -> NDArray[np.float32] | None:
    """Class probabilities (K, D, H, W) with background, if there is a file for every class."""
    maps = [
        _read_map(request.file(f"prob_{one.name}"), geometry, label_file)
        for one in request.task.classes
        if request.file(f"prob_{one.name}").is_file()
    ]
    found = [values for values in maps if values is not None]
    if len(found) < len(request.task.classes):
        return None
    stacked = np.stack([np.zeros_like(found[0]), *found])
    stacked[0] = (1 - stacked.sum(axis=0)).clip(0, 1)
    return stacked


def _brain(request: JudgingRequest, geometry: Geometry) -> NDArray[np.bool_]:
    """Where true negatives count: any channel differs from 0, or everywhere if the task says so."""
    if request.task.mask != "nonzero":
        return np.ones(geometry.shape, dtype=bool)
    brain = np.zeros(geometry.shape, dtype=bool)
    for source in request.channels:
        image = read_image(source)
        if geometry_of(image).matches(geometry):
            brain |= sitk.GetArrayViewFromImage(image) != 0
    return brain if brain.any() else np.ones(geometry.shape, dtype=bool)


def _read_case_json(file: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    if not file.is_file():
        return {}, ()
    try:
        content = read_json(file)
        check_format(content, "case-result", file)
    except SemiSupSegError as error:
        return {}, (f"Confidence of the case is not judged: {error}",)
    return content, ()


def _numbers(content: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in content.items() if value is not None}


def _check_same_grid(found: Geometry, wanted: Geometry, file: Path, other: Path) -> None:
    if not found.matches(wanted):
        raise SemiSupSegError(
            f"{file} ({_words(found)}) and {other} ({_words(wanted)}) lie on different voxel "
            "grids, so they cannot be compared voxel by voxel. Predict the case again from the "
            "images beside its label, or resample the prediction to the label."
        )


def _words(geometry: Geometry) -> str:
    size = " x ".join(str(n) for n in geometry.size)
    spacing = " x ".join(f"{step:.4g}" for step in geometry.spacing)
    origin = ", ".join(f"{value:.4g}" for value in geometry.origin)
    return f"{size} voxels of {spacing} mm from {origin}"
