"""The end of a run: calibrate, write the model packages, judge them on the validation cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from SemiSupSegLib.counting import counted
from SemiSupSegLib.evaluation.metrics import statistics_of
from SemiSupSegLib.files import read_json
from SemiSupSegLib.inference.calibration import (
    Calibration,
    CalibrationSample,
    fit_calibration,
    uncalibrated,
)
from SemiSupSegLib.inference.likeness import reference_of, scores_of
from SemiSupSegLib.inference.maps import set_background
from SemiSupSegLib.losses.uncertainty import log_variance_range
from SemiSupSegLib.methods.catalogue import find_method
from SemiSupSegLib.methods.protocol import Build, Method
from SemiSupSegLib.models.package import ModelPackage, write_package
from SemiSupSegLib.networks.base import SegmentationNetwork
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.review.fitting import ReviewThresholds
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.before_after import compare_with_before
from SemiSupSegLib.training.configuration import RunConfig
from SemiSupSegLib.training.data import RunData
from SemiSupSegLib.training.description import describe_model
from SemiSupSegLib.training.final_validation import summarise_validation
from SemiSupSegLib.training.quality_figures import judge_quality, quality_of
from SemiSupSegLib.training.review_thresholds import ReviewSamples
from SemiSupSegLib.training.trainer import Trainer

Judged = Callable[[PreparedCase], tuple[Tensor, Tensor | None]]
"""Class probabilities (K, D, H, W) and log-variance (D, H, W) of a prepared case."""


def export_work(
    method: Method, data: RunData, *, goes_on: bool = False, judges_ensemble: bool = False
) -> int:
    """Return the forward passes over one patch that `export` takes."""
    # Calibrated and judged; so is a teacher, once more for itself; and the best student is judged.
    passes = 6 if "teacher" in method.predictors() else 3
    passes += 2 * (judges_ensemble and "teacher" in method.predictors())
    # The model from before is judged, and the teacher, which is not this run's, not alone.
    passes += goes_on * (0 if "teacher" in method.predictors() else 1)
    # Estimates are judged with masks of each of them.
    judged = len(method.predictors()) - 1 if quality_of(method) is not None else 0
    return (passes + judged) * data.count_windows(data.validation)


def validation_voxels(data: RunData) -> list[int]:
    """Return the voxels of each prepared validation case, which its figures' cost depends on."""
    return [int(np.prod(data.prepared(case_id).shape)) for case_id in data.validation]


def export(
    *,
    method: Method,
    build: Build,
    trainer: Trainer,
    data: RunData,
    run: RunFolder,
    config: RunConfig,
    device: torch.device,
    before: ModelPackage | None = None,
) -> list[str]:
    """Write `models/student`, `models/teacher` and the validation figures; return a summary.

    The exported student is the last moving average; the best on validation is judged beside it,
    and so is the student from which the run went on (`before`), if it did.
    """
    predictors = {
        name: network for name, network in method.predictors().items() if name != "student_raw"
    }
    for network in predictors.values():
        network.eval()
    student = predictors["student"]
    teacher = predictors.get("teacher")
    assert isinstance(student, SegmentationNetwork)
    assert teacher is None or isinstance(teacher, SegmentationNetwork)
    best = build("best").to(device)
    has_best = trainer.best.load_into(best)
    # An untaught head gives one doubt for all voxels; without it, passes tell.
    if not student.is_head_taught:
        student.log_variance_head = best.log_variance_head = None
    if teacher is not None and not teacher.is_head_taught:
        teacher.log_variance_head = None
    calibration = _calibrate(student, teacher, data)
    judged: dict[str, Judged] = {
        "student": _judge(student, data, calibration.temperature),
    }
    if teacher is not None:
        judged["teacher"] = _judge(teacher, data, calibration.teacher_temperature)
        if config.training.judge_ensemble:
            judged["ensemble"] = _judge_mean(
                {student: calibration.temperature, teacher: calibration.teacher_temperature}, data
            )
    if has_best:
        best.eval()
        judged["best_validation"] = _judge(best, data, calibration.temperature)
    if before is not None:
        former = build("student").to(device).eval()
        temperature = float((before.manifest.get("calibration") or {}).get("temperature", 1.0))
        judged["before"] = _judge(former, data, temperature)
    review = ReviewSamples(data.task, calibration, data.validation)
    if data.validation:
        summarise_validation(
            run,
            data.task,
            {name: review.listening(name, one) for name, one in judged.items()},
            [data.prepared(case_id) for case_id in data.validation],
            calibration,
        )
    figures = _figures(run)
    learnt = [] if before is None else compare_with_before(run, data)
    common = _manifest(data, run, config, calibration, figures)
    if before is not None and before.manifest.get("teacher_network"):
        common["teacher_network"] = dict(before.manifest["teacher_network"])
    _describe_heads(common, student, teacher)
    other = common.get("teacher_network")
    quality = quality_of(method)
    judged_quality = judge_quality(method, run, data)
    if judged_quality is not None and judged_quality.scores:
        common["reference_distribution"]["scores"]["estimated_dice"] = list(judged_quality.scores)
    write_package(
        run.models / "student",
        manifest={
            **common,
            "name": f"{data.task.name} {config.method} student",
            "review": _fit_review(review, data).to_json(),
            "training": {
                **_training(config.iterations, _num_unlabelled(data), data, config, trainer),
                **_goes_on(before, data),
            },
            **({} if judged_quality is None else {"quality": dict(judged_quality.manifest)}),
        },
        weights={
            "student": _arrays(student),
            **({"teacher": _arrays(teacher)} if teacher is not None else {}),
            **({"quality": _arrays(quality)} if quality is not None else {}),
        },
        card=_card(
            "Student",
            f"Trained on {_cases_of(data, _num_unlabelled(data))}, {config.iterations:,} optimizer "
            f"updates of all phases together{_went_on(before, data)}",
            data,
            config,
            figures.get("student", {}),
        ),
    )
    # That of a run that went on is the former run's, which has a package of it.
    if teacher is not None and before is None:
        alone = _calibrate(teacher, None, data)
        # What it learnt from, which is less than the run: its figures are a baseline's.
        updates = trainer.updates_of("teacher")
        unlabelled = _num_unlabelled(data) if trainer.uses_unlabelled("teacher") else 0
        validation = {"student": figures["teacher"]} if "teacher" in figures else {}
        alone_common = {name: one for name, one in common.items() if name != "teacher_network"}
        write_package(
            run.models / "teacher",
            manifest={
                **alone_common,
                "network": {**common["network"], **(other or {})},
                "name": f"{data.task.name} {config.method} teacher",
                "calibration": alone.to_json(),
                "validation": validation,
                "training": _training(updates, unlabelled, data, config, trainer),
            },
            weights={"student": _arrays(teacher)},
            card=_card(
                "Teacher",
                f"Its segmentation was trained on {_cases_of(data, unlabelled)}, {updates:,} "
                "optimizer updates",
                data,
                config,
                figures.get("teacher", {}),
            ),
        )
    return [*_summary(data, figures), *learnt]


def _describe_heads(
    common: dict[str, Any], student: SegmentationNetwork, teacher: SegmentationNetwork | None
) -> None:
    """Say in a manifest which of the networks has a log-variance head."""
    network = common["network"]
    other = common.get("teacher_network") or {name: network[name] for name in ("name", "options")}
    if teacher is not None and (
        "teacher_network" in common or teacher.has_log_variance != student.has_log_variance
    ):
        common["teacher_network"] = {
            **other,
            "options": {**other["options"], "log_variance_head": teacher.has_log_variance},
        }
    network["options"] = {**network["options"], "log_variance_head": student.has_log_variance}


def _calibrate(
    student: SegmentationNetwork, teacher: SegmentationNetwork | None, data: RunData
) -> Calibration:
    count = data.task.num_classes
    if not data.validation:
        return uncalibrated(count)

    def forward(patches: Tensor) -> Tensor:
        features = student.features(patches)
        logits = student.segment(features)
        outputs = [logits.float()]
        if student.has_log_variance:
            outputs.append(student.log_variance(features, logits))
        if teacher is not None:
            outputs.append(teacher(patches).float())
        return torch.cat(outputs, 1)

    def samples() -> Iterator[CalibrationSample]:
        for case_id in data.each(data.validation, "calibrating"):
            outputs = data.predict(case_id, forward, "calibration")
            yield CalibrationSample(
                logits=outputs[:count],
                label=data.label(case_id),
                spacing=data.spacing(case_id),
                log_variance=outputs[count] if student.has_log_variance else None,
                teacher_logits=outputs[-count:] if teacher is not None else None,
            )

    return fit_calibration(
        samples(), num_cases=len(data.validation), num_classes=count, seed=data.seed
    )


def _fit_review(review: ReviewSamples, data: RunData) -> ReviewThresholds:
    def progress() -> None:
        # Nothing but heartbeat and wishes.
        for _ in data.each([""], "finding review regions"):
            pass

    return review.fit(progress)


def _judge(network: SegmentationNetwork, data: RunData, temperature: float) -> Judged:
    count = data.task.num_classes

    def forward(patches: Tensor) -> Tensor:
        features = network.features(patches)
        logits = network.segment(features)
        outputs = [(logits.float() / temperature).softmax(1)]
        if network.has_log_variance:
            outputs.append(network.log_variance(features, logits))
        return torch.cat(outputs, 1)

    def judge(case: PreparedCase) -> tuple[Tensor, Tensor | None]:
        # One case at a time, so that heartbeat and wishes come between the predictions.
        (case_id,) = data.each([case.id], "judging")
        outputs = data.predict(case_id, forward, "final")
        probabilities = outputs[:count]
        log_variance = outputs[count] if network.has_log_variance else None
        outside = data.outside(case_id)
        set_background(probabilities, outside)
        if log_variance is not None:
            with torch.inference_mode():
                log_variance.masked_fill_(outside, log_variance_range(count)[0])
        return probabilities, log_variance

    return judge


def _judge_mean(temperatures: Mapping[SegmentationNetwork, float], data: RunData) -> Judged:
    """Judge the mean of several networks' probabilities, each at its own temperature."""

    def forward(patches: Tensor) -> Tensor:
        parts = [
            (network(patches).float() / temperature).softmax(1)
            for network, temperature in temperatures.items()
        ]
        return torch.stack(parts).mean(0)

    def judge(case: PreparedCase) -> tuple[Tensor, Tensor | None]:
        (case_id,) = data.each([case.id], "judging")
        probabilities = data.predict(case_id, forward, "final")
        set_background(probabilities, data.outside(case_id))
        return probabilities, None

    return judge


def _arrays(network: nn.Module) -> dict[str, NDArray[np.generic]]:
    return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}


def _figures(run: RunFolder) -> dict[str, dict[str, Any]]:
    """Return mean validation Dice by network and target, from validation/cases.json."""
    file = run.validation / "cases.json"
    if not file.is_file():
        return {}
    scores: dict[str, dict[str, list[float]]] = {}
    for by_network in read_json(file)["cases"].values():
        for network, by_target in by_network.items():
            for target, metrics in by_target.items():
                if isinstance(metrics, Mapping) and metrics.get("dice") is not None:
                    own = scores.setdefault(network, {}).setdefault(target, [])
                    own.append(float(metrics["dice"]))
    return {
        network: {
            target: {"dice": {name: statistics_of(one)[name] for name in ("mean", "sd", "n")}}
            for target, one in by_target.items()
        }
        for network, by_target in scores.items()
    }


def _manifest(
    data: RunData,
    run: RunFolder,
    config: RunConfig,
    calibration: Calibration,
    figures: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        **describe_model(data.task, config, data.patch_size, calibration),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "reference_distribution": _reference_distribution(data, run),
        "validation": dict(figures),
    }


def _reference_distribution(data: RunData, run: RunFolder) -> dict[str, Any]:
    """Return what a case is compared with, to recognise one unlike the training data."""
    file = run.validation / "cases.json"
    details = read_json(file)["details"] if file.is_file() else {}
    return {
        **reference_of(
            data.task,
            [data.prepared(case_id) for case_id in data.labelled],
            (data.prepared(case_id) for case_id in data.validation),
        ),
        "scores": scores_of(detail["student"] for detail in details.values()),
    }


def _training(
    updates: int, unlabelled: int, data: RunData, config: RunConfig, trainer: Trainer
) -> dict[str, Any]:
    """Return what a network was trained on; seconds are those of the whole run."""
    return {
        "iterations": updates,
        "labelled": len(data.labelled),
        "unlabelled": unlabelled,
        "validation": len(data.validation),
        "preset": config.preset,
        "seed": config.seed,
        "seconds": round(sum(trainer.phase_seconds.values()), 1),
    }


def _num_unlabelled(data: RunData) -> int:
    """Return the cases without label; those with a partial one are counted as labelled."""
    return len(data.unlabelled) - len(data.partial)


def _goes_on(before: ModelPackage | None, data: RunData) -> dict[str, Any]:
    """Return what is told of reviewed cases and of the model that a run went on from."""
    told: dict[str, Any] = {}
    if data.reviewed:
        told["reviewed"] = len(data.reviewed)
    if data.partial:
        told["partial"] = len(data.partial)
    if before is not None:
        told["goes_on_from"] = {
            "model_sha256": before.sha256,
            "method": before.manifest["method"],
            "training": before.manifest.get("training"),
        }
    return told


def _went_on(before: ModelPackage | None, data: RunData) -> str:
    if before is None:
        return ""
    return (
        f", going on from the model {before.sha256[:12]} with the corrections of "
        f"{counted(len(data.reviewed), 'reviewed cases')}"
    )


def _cases_of(data: RunData, unlabelled: int) -> str:
    if not unlabelled:
        return counted(len(data.labelled), "labelled cases")
    return f"{len(data.labelled)} labelled and {counted(unlabelled, 'unlabelled cases')}"


def _card(
    role: str, trained: str, data: RunData, config: RunConfig, figures: Mapping[str, Any]
) -> str:
    entry = find_method(config.method)
    lines = [
        f"# {role}: {data.task.title}",
        "",
        f"Method: {config.method} ({entry.title}). Source: {entry.paper}.",
        f"{trained}; preset {config.preset}, seed {config.seed}.",
        "",
        "Mean Dice on the validation cases, last checkpoint:",
        "",
        "| | Dice | cases |",
        "|---|---|---|",
    ]
    lines += [
        f"| {target} | {one['dice']['mean']:.3f} | {one['dice']['n']} |"
        for target, one in figures.items()
    ] or ["| none | - | 0 |"]
    lines += ["", "Research use only; not a medical device.", ""]
    return "\n".join(lines)


def _summary(data: RunData, figures: Mapping[str, Any]) -> list[str]:
    lines = []
    for network, title in (
        ("teacher", "Teacher"),
        ("before", "Student before"),
        ("student", "Student (last)"),
        ("ensemble", "Mean of student and teacher"),
        ("best_validation", "Student (best on validation)"),
    ):
        if network in figures:
            parts = [
                f"{target} {figures[network][target]['dice']['mean']:.3f}"
                for target in data.task.headline_targets
            ]
            lines.append(f"{title:<29} Dice on validation: {'  '.join(parts)}")
    return lines
