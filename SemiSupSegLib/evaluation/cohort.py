"""All predictions of a folder judged by the reference labels of their cases, and summed up."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from SemiSupSegLib.cases.case import Case
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.evaluation.calibration import MARGIN_MM
from SemiSupSegLib.evaluation.errors import BOUNDARY_MM, ERROR_KINDS
from SemiSupSegLib.evaluation.intervals import bootstrap_mean, gain_sentence
from SemiSupSegLib.evaluation.judging import (
    CaseJudgement,
    Failure,
    Judgement,
    JudgingRequest,
    judge_case,
)
from SemiSupSegLib.evaluation.metrics import Figures, statistics_of, summarise
from SemiSupSegLib.evaluation.ranking import ranking_quality, spearman
from SemiSupSegLib.evaluation.risk import risk_coverage, voxel_risk_coverage

NUM_WORKERS = 2
"""Each holds one case with its maps, so memory is bounded by two of the largest cases."""
NORMALISATIONS = {
    "entropy": "100 H(p) / ln 2 of the region's probability",
    "map": "100 times the uncertainty map, the same for every region",
}


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Which predictions can be judged."""

    requests: tuple[JudgingRequest, ...]
    without_label: tuple[str, ...]
    """Predicted, but there is no reference label."""
    without_prediction: tuple[str, ...]
    """Labelled, but not predicted."""
    unknown: tuple[str, ...]
    """Predicted, but no such case was found."""
    refused: tuple[Failure, ...]
    """Predicted, but which file is the reference label is not clear."""


def match(
    predictions: Path,
    cases: Sequence[Case],
    task: Task,
    *,
    preset: str = "mm",
    with_teacher: bool = False,
) -> Matching:
    """Bring together result folders and cases by case id.

    Args:
        predictions: Holds `<case>/<case>_label.nii.gz`.
        cases: What was discovered, labelled or not.
        task: Names channels and classes.
        preset: As in `evaluate_label_maps`.
        with_teacher: Whether the pseudo-labels are judged too.

    Raises:
        SemiSupSegError: If the folder does not exist or there is nothing to judge.
    """
    if not predictions.is_dir():
        raise SemiSupSegError(f"{predictions} is not a folder. Give the folder 'predict' wrote to.")
    predicted = {
        folder.name
        for folder in predictions.iterdir()
        if (folder / f"{folder.name}_label.nii.gz").is_file()
    }
    known = {case.id: case for case in cases}
    refused = {
        case.id: reason.sentences
        for case in cases
        for reason in case.reasons
        if case.id in predicted and reason.code == "doubled_label"
    }
    requests = tuple(
        JudgingRequest(
            id=case.id,
            folder=predictions / case.id,
            channels=tuple(case.channels.values()),
            label=case.label,
            unknown=case.label_unknown,
            task=task,
            preset=preset,
            with_teacher=with_teacher,
        )
        for case in cases
        if case.label is not None and case.id in predicted and case.id not in refused
    )
    matching = Matching(
        requests=requests,
        without_label=tuple(
            name for name in sorted(predicted & known.keys()) if known[name].label is None
        ),
        without_prediction=tuple(
            sorted(case.id for case in cases if case.label and case.id not in predicted)
        ),
        unknown=tuple(sorted(predicted - known.keys())),
        refused=tuple(Failure(id=name, message=why) for name, why in sorted(refused.items())),
    )
    if not requests and not refused:
        have = "has" if len(matching.without_prediction) == 1 else "have"
        raise SemiSupSegError(
            f"Nothing to evaluate: {predictions} holds {counted(len(predicted), 'predictions')} "
            f"({len(matching.without_label)} of cases without a reference label, "
            f"{len(matching.unknown)} of cases that were not found), and "
            f"{counted(len(matching.without_prediction), 'labelled cases')} {have} none. "
            "Predictions are looked for as CASE/CASE_label.nii.gz."
        )
    return matching


def judge(
    requests: Sequence[JudgingRequest],
    *,
    workers: int = NUM_WORKERS,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[CaseJudgement], list[Failure]]:
    """Judge cases in parallel processes; results are in the order of the requests.

    Args:
        requests: One a case.
        workers: Number of processes; 1 works in this one.
        progress: Called with the number done and the number of all.
    """
    judged: list[CaseJudgement] = []
    failed: list[Failure] = []
    for number, result in enumerate(_results(requests, workers), start=1):
        if isinstance(result, Failure):
            failed.append(result)
        else:
            judged.append(result)
        if progress is not None:
            progress(number, len(requests))
    return judged, failed


def cohort_figures(
    judged: Sequence[CaseJudgement],
    task: Task,
    *,
    preset: str = "mm",
    skip_empty: bool = False,
) -> dict[str, object]:
    """Return the content of an evaluation file: every figure of the cases and over them.

    Args:
        judged: At least one case.
        task: Names the targets.
        preset: Written into the file.
        skip_empty: As in `summarise`.

    Returns:
        Plain values without NaN; blocks whose files were not there are left out.
    """
    students = {one.id: one.student for one in judged}
    teachers = {one.id: one.teacher for one in judged if one.teacher is not None}
    content: dict[str, object] = {
        "format": "semisupseg-evaluation",
        "version": 1,
        "task": task.name,
        "preset": preset,
        "num_cases": len(judged),
        **_network_block(students, task, skip_empty=skip_empty),
        **_calibration_block(judged),
        **_risk_block(judged, task),
        **_filtering_block(judged),
        **_ranking_block(judged, task),
    }
    if teachers:
        content["teacher"] = _network_block(teachers, task, skip_empty=skip_empty)
        content["gain"] = _gain_block(students, teachers, task, skip_empty=skip_empty)
    warnings = [warning for one in judged for warning in one.warnings]
    return {**content, "warnings": warnings}


def headline_dice(figures: dict[str, Figures], task: Task) -> float:
    """Return the mean Dice of the task's regions, or of its classes if it has none."""
    return _mean_dice(figures, task.headline_targets)


def _mean_dice(figures: Mapping[str, Figures], targets: Sequence[str]) -> float:
    values = [figures[target]["dice"] for target in targets]
    return float(np.mean([value for value in values if isinstance(value, float)]))


def _interval(values: Sequence[float]) -> dict[str, float | int | None]:
    if not values:
        return {"mean": None, "low": None, "high": None, "n": 0}
    return bootstrap_mean(values).to_json()


def _kept(
    targets: Sequence[str], networks: Sequence[Mapping[str, Figures]], skip_empty: bool
) -> list[str]:
    """Return the targets of a case that count: with `skip_empty`, those that any map holds."""
    return [
        target
        for target in targets
        if not skip_empty or any(one[target].get("empty") != "both_empty" for one in networks)
    ]


def _results(requests: Sequence[JudgingRequest], workers: int) -> Iterator[CaseJudgement | Failure]:
    workers = min(workers, len(requests), os.cpu_count() or 1)
    if workers <= 1:
        yield from map(judge_case, requests)
        return
    # A fresh interpreter: a fork would inherit the threads' locks of SimpleITK and torch.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            yield from pool.map(judge_case, requests)
    except BrokenProcessPool as error:
        raise SemiSupSegError(
            f"One of {workers} processes ended without a word, most often for want of memory. Try "
            "again with '--workers 1'."
        ) from error


def _network_block(
    judgements: dict[str, Judgement], task: Task, *, skip_empty: bool
) -> dict[str, object]:
    cases = {name: one.figures for name, one in judgements.items()}
    kept = {name: _kept(task.headline_targets, [one], skip_empty) for name, one in cases.items()}
    means = [_mean_dice(cases[name], targets) for name, targets in kept.items() if targets]
    interval = _interval(means)
    return {
        "cases": cases,
        "summary": summarise(cases, skip_empty=skip_empty),
        "headline": {
            "targets": list(task.headline_targets),
            "dice": statistics_of(means) | {"low": interval["low"], "high": interval["high"]},
        },
        "errors": _errors_block(judgements),
    }


def _errors_block(judgements: dict[str, Judgement]) -> dict[str, object]:
    sums = {
        kind: {
            unit: sum(float(one.errors[kind][unit] or 0) for one in judgements.values())
            for unit in ("voxels", "mm3")
        }
        for kind in (*ERROR_KINDS, "total")
    }
    total = sums["total"]["voxels"]
    return {
        "boundary_mm": BOUNDARY_MM,
        "cases": {name: one.errors for name, one in judgements.items()},
        "summary": {
            kind: {
                "voxels": int(sums[kind]["voxels"]),
                "mm3": sums[kind]["mm3"],
                "fraction": sums[kind]["voxels"] / total if total else 0.0,
            }
            for kind in sums
        },
    }


def _calibration_block(judged: Sequence[CaseJudgement]) -> dict[str, object]:
    cases = {one.id: one.calibration for one in judged if one.calibration is not None}
    if not cases:
        return {}
    names = {name: None for case in cases.values() for name in case if name != "class_wise_ece"}
    summary: dict[str, object] = {
        name: statistics_of(_present(case.get(name) for case in cases.values())) for name in names
    }
    by_class: dict[str, list[float]] = {}
    for case in cases.values():
        found = case.get("class_wise_ece")
        for name, value in found.items() if isinstance(found, dict) else ():
            by_class.setdefault(name, []).extend(_present([value]))
    if by_class:
        summary["class_wise_ece"] = {name: statistics_of(of) for name, of in by_class.items()}
    block: dict[str, object] = {
        "region_of_interest": f"within {MARGIN_MM:g} mm of reference or prediction",
        "cases": cases,
        "summary": summary,
    }
    bins = [one.reliability for one in judged if one.reliability is not None]
    pooled = bins[0]
    for one in bins[1:]:
        pooled = pooled + one
    block["reliability"] = pooled.to_json()
    block["pooled_ece"] = pooled.ece
    return {"calibration": block}


def _risk_block(judged: Sequence[CaseJudgement], task: Task) -> dict[str, object]:
    block: dict[str, object] = {}
    told = [one for one in judged if "image" in one.confidence]
    if told:
        block["cases"] = risk_coverage(
            [one.confidence["image"] for one in told],
            [1 - headline_dice(one.student.figures, task) for one in told],
            [one.id for one in told],
        ).to_json()
    voxels: dict[str, object] = {}
    for name in ("confidence", "uncertainty"):
        histograms = {one.id: one.histograms[name] for one in judged if name in one.histograms}
        if not histograms:
            continue
        pooled = voxel_risk_coverage(np.sum(list(histograms.values()), axis=0))
        by_case = {key: voxel_risk_coverage(value) for key, value in histograms.items()}
        voxels[name] = {
            "pooled": pooled.to_json() if pooled is not None else None,
            "cases": {
                key: {"aurc": one.aurc, "e_aurc": one.e_aurc, "random": one.random}
                for key, one in by_case.items()
                if one is not None
            },
            "summary": {
                figure: statistics_of(
                    [getattr(one, figure) for one in by_case.values() if one is not None]
                )
                for figure in ("aurc", "e_aurc", "random")
            },
        }
    if voxels:
        block["voxels"] = voxels
    return {"risk_coverage": block} if block else {}


def _filtering_block(judged: Sequence[CaseJudgement]) -> dict[str, object]:
    with_curves = [one for one in judged if one.filtering]
    if not with_curves:
        return {}
    figures = ("score", "auc_dice", "auc_ftp", "auc_ftn")
    targets = list(with_curves[0].filtering)
    return {
        "qubrats": {
            "normalisation": "; ".join(
                NORMALISATIONS[name]
                for name in sorted({one.normalisation or "map" for one in with_curves})
            ),
            "cases": {
                one.id: {
                    target: {figure: getattr(curves, figure) for figure in figures}
                    for target, curves in one.filtering.items()
                }
                for one in with_curves
            },
            "summary": {
                target: {
                    figure: statistics_of(
                        [getattr(one.filtering[target], figure) for one in with_curves]
                    )
                    for figure in figures
                }
                for target in targets
            },
            "curves": {
                target: {
                    name: np.mean(
                        [getattr(one.filtering[target], name) for one in with_curves], axis=0
                    ).tolist()
                    for name in ("thresholds", "dice", "ftp", "ftn")
                }
                for target in targets
            },
        }
    }


def _ranking_block(judged: Sequence[CaseJudgement], task: Task) -> dict[str, object]:
    block: dict[str, object] = {}
    told = [one for one in judged if "image" in one.confidence]
    if told:
        confidence = [one.confidence["image"] for one in told]
        headline = [headline_dice(one.student.figures, task) for one in told]
        block["image_confidence"] = {
            "headline": ranking_quality(confidence, headline),
            "targets": {
                target: ranking_quality(confidence, [_dice_of(one.student, target) for one in told])
                for target in task.targets
            },
        }
        # What the predicted volume alone would tell: a confidence is of use if it tells more.
        volumes = [
            sum(float(one.student.figures[each.name]["volume_ml"] or 0) for each in task.classes)
            for one in told
        ]
        block["trivial_volume"] = {"headline": {"spearman": spearman(volumes, headline).to_json()}}
    for name in ("confidence", "estimated_dice"):
        found = {}
        for target in task.targets:
            pairs = [
                (getattr(one, name)[target], _dice_of(one.student, target))
                for one in judged
                if target in getattr(one, name)
            ]
            if pairs:
                found[target] = ranking_quality([a for a, _ in pairs], [b for _, b in pairs])
        if found:
            block["class_confidence" if name == "confidence" else name] = found
    return {"ranking": block} if block else {}


def _gain_block(
    students: dict[str, Judgement], teachers: dict[str, Judgement], task: Task, *, skip_empty: bool
) -> dict[str, object]:
    """Student against teacher, paired by case, for every target and their headline mean."""
    pairs = [
        (one.figures, teachers[name].figures) for name, one in students.items() if name in teachers
    ]

    def gain(figure: str, targets: Sequence[str]) -> dict[str, object]:
        kept = [(pair, _kept(targets, pair, skip_empty)) for pair in pairs]
        student = [_mean_dice(pair[0], names) for pair, names in kept if names]
        teacher = [_mean_dice(pair[1], names) for pair, names in kept if names]
        differences = [one - other for one, other in zip(student, teacher, strict=True)]
        return _interval(differences) | {"sentence": gain_sentence(student, teacher, figure=figure)}

    return {
        "headline": gain("mean Dice", task.headline_targets),
        "targets": {target: gain(f"Dice of {target}", [target]) for target in task.targets},
    }


def _dice_of(one: Judgement, target: str) -> float:
    return float(one.figures[target]["dice"] or 0)


def _present(values: Iterable[object]) -> list[float]:
    return [float(value) for value in values if isinstance(value, (int, float))]
