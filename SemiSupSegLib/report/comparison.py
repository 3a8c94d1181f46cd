"""What a finished run's student is worth beside its teacher and a model that is in use."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from SemiSupSegLib.cases.case import Case
from SemiSupSegLib.cases.discovery import discover
from SemiSupSegLib.cases.task import Task, task_from_json
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.evaluation.intervals import bootstrap_difference, gain_sentence
from SemiSupSegLib.evaluation.judging import Failure, JudgingRequest, judge_case
from SemiSupSegLib.files import read_json
from SemiSupSegLib.inference.predictor import Predictor
from SemiSupSegLib.inference.writing import write_result
from SemiSupSegLib.models.package import ModelPackage, read_package
from SemiSupSegLib.options import from_json
from SemiSupSegLib.preparation.options import PreparationOptions
from SemiSupSegLib.preparation.prepare import prepare_case
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.training.devices import choose_device

MEAN = "mean"
"""Over the task's headline targets."""
Dice = Mapping[str, Mapping[str, float]]
"""By case and target."""


def compare_with_teacher(run: RunFolder) -> dict[str, Any]:
    """Return student and teacher on the validation cases, from what the run has written.

    Returns:
        `num_validation`; `rows`, one a target and one for the headline `mean`, each with `target`,
        `student`, `teacher` (mean Dice) and `difference` (`mean`, `low`, `high`, `n`: paired
        bootstrap interval, 95 %); `sentence`. Without a teacher its
        figures are None and the sentence is empty.

    Raises:
        SemiSupSegError: If the run is not finished.
    """
    task = _finished_task(run)
    file = run.validation / "cases.json"
    if not file.is_file():
        sentence = "The run has no validation cases: how good the student is cannot be told."
        return {"num_validation": 0, "rows": [], "sentence": sentence}
    cases = read_json(file)["cases"]
    student = _dice_of(cases, "student", task)
    has_teacher = all("teacher" in one for one in cases.values())
    teacher = _dice_of(cases, "teacher", task) if has_teacher else None
    rows = [
        {"target": target, "student": _mean(student, target), **_beside(student, teacher, target)}
        for target in (*task.targets, MEAN)
    ]
    sentence = ""
    if teacher is not None:
        sentence = gain_sentence(_values(student, MEAN), _values(teacher, MEAN))
    return {"num_validation": len(student), "rows": rows, "sentence": sentence}


def compare_with_model(
    run: RunFolder,
    model: ModelPackage,
    cases: Path,
    *,
    device: str = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Let a run's student and another model segment the run's validation cases.

    Both are judged alike, on the cases' own grids; nothing is written that stays.

    Args:
        run: A finished run.
        model: The other one.
        cases: Folder of the run's cases.
        device: auto, cpu or cuda:N.
        progress: Told how many of how many predictions are made.

    Returns:
        `rows` with `target`, `student`, `other` and `difference` (student - other); `sentence`;
        `is_worse`: whether the student's mean over the headline targets is below the other's.

    Raises:
        SemiSupSegError: If the models cannot be compared, or a case cannot be read.
    """
    task = _finished_task(run)
    student = read_package(run.models / "student")
    why_not = why_not_compared(student, model)
    if why_not:
        raise SemiSupSegError(why_not)
    wanted = run.read_config()["split"]["validation"]
    found = discover(cases, task, check_content=False, label_ids=wanted)
    by_id = {case.id: case for case in found.cases}
    missing = [case_id for case_id in wanted if case_id not in by_id]
    if missing or not wanted:
        what = f"has no case {missing[0]}" if missing else "holds no validation cases of the run"
        raise SemiSupSegError(f"{cases} {what}. Give the folder that the run was trained on.")
    chosen = [by_id[case_id] for case_id in wanted]
    total = 2 * len(chosen)

    def judged(package: ModelPackage, before: int) -> Dice:
        def told(done: int) -> None:
            progress(before + done, total)

        return _judge(package, chosen, task, device, told)

    ours, theirs = judged(student, 0), judged(model, len(chosen))
    rows = [
        {
            "target": target,
            "student": _mean(ours, target),
            "other": _mean(theirs, target),
            "difference": _difference(ours, theirs, target),
        }
        for target in (*task.targets, MEAN)
    ]
    names = ("new student", "present model")
    return {
        "rows": rows,
        "sentence": gain_sentence(_values(ours, MEAN), _values(theirs, MEAN), names=names),
        "is_worse": _mean(ours, MEAN) < _mean(theirs, MEAN),
    }


def why_not_compared(student: ModelPackage, other: ModelPackage) -> str:
    """Return why two models cannot be compared, or an empty text."""
    if student.sha256 == other.sha256:
        return "It is the same model."
    for what in ("channels", "classes"):
        ours, theirs = (
            [one.name for one in getattr(package.task, what)] for package in (student, other)
        )
        if ours != theirs:
            return (
                f"{other.name} has other {what} ({', '.join(theirs)}) than the student "
                f"({', '.join(ours)})."
            )
    return ""


def _finished_task(run: RunFolder) -> Task:
    content = run.read_config()
    if RunState.read(run.state_json).status is not RunStatus.FINISHED:
        raise SemiSupSegError(f"{run.path} is not finished. Let it end first.")
    return task_from_json(content["task"], run.run_json)


def _judge(
    package: ModelPackage,
    cases: Sequence[Case],
    task: Task,
    device: str,
    progress: Callable[[int], None],
) -> Dice:
    options = from_json(
        PreparationOptions, package.manifest["preparation"], "the model's preparation"
    )
    predictor = Predictor(package, device=choose_device(device))
    dice: dict[str, Mapping[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="SemiSupSeg-") as scratch:
        for number, case in enumerate(cases, start=1):
            prepared = prepare_case(case, package.task, options)
            folder = write_result(
                Path(scratch),
                prepared.id,
                predictor.predict(prepared),
                package.task,
                original=prepared.original,
                like=prepared.reference,
                model_sha256=package.sha256,
                model_name=package.name,
                inputs=case.channels,
                warnings=(),
            )
            assert case.label is not None
            judged = judge_case(
                JudgingRequest(
                    id=prepared.id,
                    folder=folder,
                    channels=tuple(case.channels.values()),
                    label=case.label,
                    task=task,
                )
            )
            if isinstance(judged, Failure):
                raise SemiSupSegError(f"{case.id}: {judged.message}")
            dice[case.id] = _targets(judged.student.figures, task)
            progress(number)
    return dice


def _dice_of(cases: Mapping[str, Any], network: str, task: Task) -> Dice:
    return {case_id: _targets(one[network], task) for case_id, one in cases.items()}


def _targets(figures: Mapping[str, Any], task: Task) -> dict[str, float]:
    by_target = {target: float(figures[target]["dice"]) for target in task.targets}
    headline = [by_target[target] for target in task.headline_targets]
    return {**by_target, MEAN: sum(headline) / len(headline)}


def _values(dice: Dice, target: str) -> list[float]:
    return [one[target] for one in dice.values()]


def _mean(dice: Dice, target: str) -> float:
    values = _values(dice, target)
    return sum(values) / len(values)


def _beside(student: Dice, teacher: Dice | None, target: str) -> dict[str, Any]:
    if teacher is None:
        return {"teacher": None, "difference": None}
    return {
        "teacher": _mean(teacher, target),
        "difference": _difference(student, teacher, target),
    }


def _difference(ours: Dice, theirs: Dice, target: str) -> dict[str, float | int | None]:
    return bootstrap_difference(_values(ours, target), _values(theirs, target)).to_json()
