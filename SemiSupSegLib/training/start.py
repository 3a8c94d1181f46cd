"""What a run begins with: cases, split, options; decided once, before it is frozen in run.json."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from SemiSupSegLib.cases.case import Case, CaseState, Reason
from SemiSupSegLib.cases.discovery import discover
from SemiSupSegLib.cases.inspection import default_cache
from SemiSupSegLib.cases.split import (
    Split,
    default_split,
    left_out,
    read_lists,
    read_split,
    separated_twins,
)
from SemiSupSegLib.cases.task import Task, load_task
from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.methods.corrections import CorrectionsOptions
from SemiSupSegLib.options import from_json, with_settings
from SemiSupSegLib.preparation.options import PreparationOptions, freeze_spacing
from SemiSupSegLib.preparation.store import default_store
from SemiSupSegLib.runs.corrections import CorrectionsPlan, plan_corrections
from SemiSupSegLib.training.configuration import RunConfig, configure, fit_to_task
from SemiSupSegLib.training.options import TrainingOptions
from SemiSupSegLib.training.request import TrainRequest

LEARN_ITERATIONS = {"cpu": 200, "cuda": 600}
"""Updates of a run that learns from corrections, by kind of device."""
LEARN_RATE = 0.1
"""Its learning rate, by that of the run that it goes on from."""
_MAX_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run begins with."""

    config: RunConfig
    task: Task
    split: Split
    cases: Sequence[Case]
    """Those of the split."""
    findings: Sequence[str] = ()
    """What a person should know of the cases, in sentences."""
    patch_size: tuple[int, int, int] | None = None
    """D, H, W, voxels; None: chosen by the cases."""
    patient: str | None = None
    """The regular expression that finds the patient in a case id, if one was given."""
    former: Mapping[str, Any] | None = None
    """What run.json tells of the model that the run goes on from."""


def members_of(split: Split) -> list[str]:
    """Return the cases of a split, as often as they are named."""
    return [*split.train_labelled, *split.train_unlabelled, *split.validation]


def scan_cache(folder: Path, store: Path) -> Path:
    """Return where facts about the files are kept: below the store, if one was chosen."""
    return default_cache(folder, None if store == default_store().resolve() else store)


def start_anew(request: TrainRequest, device: torch.device, store: Path) -> Start:
    """Look at the cases, and decide everything by preset, settings and split.

    A case that a split file names unlabelled is labelled once a person has reviewed it: the file
    says which labels may be used, and this one came later. What a case of validation is judged by
    stays its own label, if it has one: a corrected prediction would favour who made it.

    Raises:
        SemiSupSegError: If the cases do not allow to train.
        UsageError: If an option or the split makes no sense.
    """
    config = configure(
        preset=request.preset,
        method=request.method,
        variant="gpu" if device.type == "cuda" else "cpu",
        iterations=request.iterations,
        seed=request.seed,
        settings=request.settings,
    )
    config = _with_threads(config)
    task = load_task(request.task) if request.task else None
    wanted = None
    if request.split is not None:
        lists = read_lists(request.split)
        wanted = {*lists["train_labelled"], *lists["validation"]}
    cache = scan_cache(request.cases, store)
    scan = discover(
        request.cases,
        task,
        cache=cache,
        label_ids=wanted,
        reviews=request.reviews,
        patient=request.patient,
    )
    task, cases = scan.task, list(scan.cases)
    config = fit_to_task(config, task, request.settings)
    findings = []
    if request.split is not None:
        split = read_split(request.split, cases)
        _refuse_unusable(split, cases)
        split, promoted = _with_reviewed(split, cases)
        findings += [*promoted, separated_twins(split, cases)]
    else:
        usable = [case for case in cases if case.state is not CaseState.UNUSABLE]
        split = default_split(usable, request.seed)
        findings.append(left_out(split, usable))
    if request.reviews is not None:
        cases, told = _judged_by_own_labels(request, split, cases, task, cache)
        findings += told
    findings = [one for one in (*findings, *_findings(cases, members_of(split))) if one]
    if not split.train_labelled:
        raise SemiSupSegError(
            f"{request.cases} has no labelled case to train on. Add label files (scan shows what "
            "was found), or name labelled cases in a split file."
        )
    by_id = {case.id: case for case in cases}
    labelled = [by_id[case_id] for case_id in split.train_labelled]
    preparation = freeze_spacing(task, config.preparation, labelled)
    return Start(
        config=replace(config, preparation=preparation),
        task=task,
        split=split,
        cases=[by_id[case_id] for case_id in members_of(split)],
        findings=findings,
        patient=request.patient,
    )


def start_from_run(request: TrainRequest, device: torch.device, store: Path) -> Start:
    """Look at what was corrected, and decide how the run's student goes on with it.

    Raises:
        SemiSupSegError: If the run cannot go on; `look_before_learning` says the same.
        UsageError: If a setting makes no sense.
    """
    if request.former is None or request.reviews is None:
        raise ValueError("a run that goes on needs a former one and reviews")
    plan = plan_corrections(
        request.former, request.cases, request.reviews, cache=scan_cache(request.cases, store)
    )
    config = _corrections_config(plan, request, device)
    patch: tuple[int, int, int] = tuple(plan.manifest["network"]["patch_size"])
    return Start(
        config=_with_threads(config),
        task=plan.task,
        split=plan.split,
        cases=plan.cases,
        findings=[*plan.notes, *_findings(plan.cases, members_of(plan.split))],
        patch_size=patch if "training.patch_size" not in request.settings else None,
        patient=plan.former.get("patient"),
        former={
            "run": str(request.former.resolve()),
            "model_sha256": plan.model_sha256,
            "training": plan.manifest.get("training"),
        },
    )


def _corrections_config(
    plan: CorrectionsPlan, request: TrainRequest, device: torch.device
) -> RunConfig:
    former = plan.former
    given, network = former["options"], plan.manifest["network"]
    kept = {
        name: given[name]
        for name in ("loss", "labelled_per_batch", "ema", "pseudo_labels")
        if name in given
    }
    if former["method"] == "corrections":
        # The next round goes on as the last one did.
        kept = dict(given)
    elif "optimizer" in given:
        # To the end of its schedule the former rate came down; a tenth disturbs little.
        kept["optimizer"] = {
            **given["optimizer"],
            "rate": LEARN_RATE * given["optimizer"]["rate"],
            "schedule": "poly",
        }
    kept["network"] = {"name": network["name"], "options": network["options"]}
    kept["has_teacher"] = "teacher.safetensors" in plan.manifest["files"]
    settings: dict[str, dict[str, str]] = {"training": {}, "": {}}
    for key, text in request.settings.items():
        head, _, rest = key.partition(".")
        if head in ("network", "preparation", "has_teacher"):
            raise UsageError(f"{key} cannot be set: the run goes on with the model as it is.")
        if head == "training":
            settings["training"][rest] = text
        else:
            settings[""][key] = text
    options = from_json(CorrectionsOptions, kept, f"the options of {request.former}")
    # The number of threads is that of this machine.
    training = from_json(TrainingOptions, {**former["training"], "threads": 0}, "training")
    iterations = request.iterations
    if iterations is None:
        iterations = LEARN_ITERATIONS[device.type]
    if iterations < 1:
        raise UsageError(f"--iterations is {iterations}, must be at least 1.")
    if request.seed < 0:
        raise UsageError(f"--seed is {request.seed}, must be 0 or more.")
    return RunConfig(
        preset=str(former["preset"]),
        method="corrections",
        options=with_settings(options, settings[""], "method corrections"),
        training=with_settings(training, settings["training"], "training"),
        preparation=from_json(PreparationOptions, former["preparation"], "preparation"),
        iterations=iterations,
        seed=request.seed,
    )


def _with_reviewed(split: Split, cases: Sequence[Case]) -> tuple[Split, list[str]]:
    """Return the split with reviewed cases labelled that it names unlabelled, and who they are."""
    reviewed = {case.id for case in cases if case.state is CaseState.REVIEWED}
    moved = [case_id for case_id in split.train_unlabelled if case_id in reviewed]
    told = []
    if moved:
        told.append(
            f"{counted(len(moved), 'cases are')} named unlabelled in the split, but reviewed "
            f"since: trained on with the reviewed label{'s' * (len(moved) > 1)}: {_listed(moved)}."
        )
    unused = sorted(reviewed - set(members_of(split)))
    if unused:
        told.append(
            f"{counted(len(unused), 'reviewed cases are')} in no list of the split, and not used: "
            f"{_listed(unused)}."
        )
    rest = tuple(case_id for case_id in split.train_unlabelled if case_id not in reviewed)
    labelled = (*split.train_labelled, *moved)
    return replace(split, train_labelled=labelled, train_unlabelled=rest), told


def _judged_by_own_labels(
    request: TrainRequest, split: Split, cases: Sequence[Case], task: Task, cache: Path
) -> tuple[list[Case], list[str]]:
    """Return the cases, those of validation with their own label instead of a reviewed one."""
    judged = set(split.validation)
    both = {case.id for case in cases if case.id in judged and case.state is CaseState.REVIEWED}
    if not both:
        return list(cases), []
    plain = discover(request.cases, task, cache=cache, label_ids=both, patient=request.patient)
    own = {
        case.id: case
        for case in plain.cases
        if case.id in both and case.state is CaseState.LABELLED
    }
    told = []
    if own:
        told.append(
            f"{counted(len(own), 'validation cases are')} reviewed, and still judged by "
            f"{'its own label' if len(own) == 1 else 'their own labels'}: {_listed(list(own))}."
        )
    without = sorted(both - set(own))
    if without:
        told.append(
            f"{counted(len(without), 'validation cases are')} judged by a reviewed label, which "
            f"favours the model that it was made from: {_listed(without)}."
        )
    return [own.get(case.id, case) for case in cases], told


def _findings(cases: Sequence[Case], used: Collection[str]) -> list[str]:
    """Return a sentence for each kind of warning of the used cases, and of unusable case."""
    used = set(used)
    found: dict[tuple[bool, str], list[tuple[str, Reason]]] = defaultdict(list)
    for case in cases:
        if case.state is CaseState.UNUSABLE:
            found[True, case.reasons[0].code].append((case.id, case.reasons[0]))
        elif case.id in used:
            for code, reason in {reason.code: reason for reason in case.reasons}.items():
                found[False, code].append((case.id, reason))
    sentences = []
    for (is_left_out, _), examples in found.items():
        case_id, reason = examples[0]
        finding = f"{case_id}: {reason.sentences}"
        if len(examples) == 1:
            sentences.append(f"Left out: {finding}" if is_left_out else finding)
        else:
            what = "were left out" if is_left_out else "of this run have this warning"
            sentences.append(f"{len(examples)} cases {what}, for example {finding}")
    return sentences


def _with_threads(config: RunConfig) -> RunConfig:
    """Freeze the number of threads: another number may round differently."""
    if hasattr(os, "sched_getaffinity"):
        there = len(os.sched_getaffinity(0))
    else:
        there = os.cpu_count() or 1
    threads = config.training.threads or there
    return replace(config, training=replace(config.training, threads=threads))


def _refuse_unusable(split: Split, cases: Sequence[Case]) -> None:
    unusable = {case.id: case for case in cases if case.state is CaseState.UNUSABLE}
    for case_id in members_of(split):
        if case_id in unusable:
            raise SemiSupSegError(
                f"The split names case {case_id}, which is unusable: "
                f"{unusable[case_id].reasons[0].sentences}"
            )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
