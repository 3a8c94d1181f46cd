"""A run before it is started: what it would do and need, and why it could not be started."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SemiSupSegLib.cases.case import Case, ImageSource
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.preparation.store import default_store
from SemiSupSegLib.runs.events import EventKind, read_events
from SemiSupSegLib.runs.lock import Lock
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.alternatives import Choice, choose, what_fits
from SemiSupSegLib.training.data import RunData
from SemiSupSegLib.training.devices import choose_device
from SemiSupSegLib.training.export import export_work, validation_voxels
from SemiSupSegLib.training.fitting import imagined_method
from SemiSupSegLib.training.needs import (
    free_disk,
    why_disk_does_not_fit,
    why_memory_does_not_fit,
)
from SemiSupSegLib.training.offer import Variant, options_of
from SemiSupSegLib.training.progress import Progress
from SemiSupSegLib.training.request import TrainRequest
from SemiSupSegLib.training.sizes import Sizes, forecast_sizes, store_bytes
from SemiSupSegLib.training.start import Start, members_of, scan_cache, start_anew
from SemiSupSegLib.training.trial import Measured, Trial, device_name, trial_key, try_out
from SemiSupSegLib.training.work import Work, kind_of


def plan_run(request: TrainRequest, measured: Measured) -> dict[str, Any]:
    """Return what `plan --json` writes, by Resources/Schemas/plan.json.

    Why a run cannot be started is told in `why_not`; what could not be found out then is absent.

    Args:
        request: What `train` would be asked.
        measured: What earlier plans have measured.
    """
    told: dict[str, Any] = {
        "format": "semisupseg-plan",
        "version": 1,
        "why_not": "",
        "exit_code": 0,
        "would_fit": {},
    }
    try:
        _plan(request, measured, told)
    except SemiSupSegError as error:
        told["why_not"], told["exit_code"] = str(error), error.exit_code
    return told


def _plan(request: TrainRequest, measured: Measured, told: dict[str, Any]) -> None:
    device = choose_device(request.device)
    variant: Variant = "gpu" if device.type == "cuda" else "cpu"
    store = (request.store or default_store()).resolve()
    start = start_anew(request, device, store)
    told.update(_as_asked(request, start, device, variant))
    sizes = forecast_sizes(
        start.cases,
        start.task,
        start.config.preparation,
        store,
        scan_cache(request.cases, store),
    )
    choice = choose(start.config, start, sizes, device)
    told["patch_size"] = list(choice.patch)
    with _counting_data(choice, start, sizes) as (data, run):
        method = imagined_method(start.config, start.task, choice.patch)
        phases = [one for one in method.phases(data) if one.iterations]
        windows = data.count_windows(data.validation, start.config.training.validation_overlap)
        after = export_work(method, data, judges_ensemble=start.config.training.judge_ensemble)
        voxels = validation_voxels(data)
        told["findings"] += [
            str(one["message"])
            for one in read_events(run.events_file)
            if one["kind"] == EventKind.WARNING
        ]
    told["phases"] = [{"name": one.name, "iterations": one.iterations} for one in phases]
    told["estimate"] = _room(choice, start, sizes, request.out)
    trial, told["why_not"], told["would_fit"] = _memory_tried(
        choice, request, start, sizes, measured, {kind_of(one) for one in phases}
    )
    disk = why_disk_does_not_fit(
        _with_store(choice, told["estimate"]["store_bytes"], request.out, store), request.out
    )
    foreign = _why_not_there(request.out)
    told["why_not"] = " ".join(one for one in (told["why_not"], disk, foreign) if one)
    if told["why_not"]:
        # `train` looks at the folder first.
        told["exit_code"] = (UsageError if foreign else SemiSupSegError).exit_code
    if trial is not None:
        work = Work(
            phases,
            start.config.training.validate_every,
            windows,
            after=after,
            prices=trial.prices(voxels),
        )
        told["estimate"].update(_cost(trial, work, choice, sizes.seconds))


def _why_not_there(out: Path) -> str:
    """Return why no run can be started in a folder; empty if one can."""
    try:
        RunFolder(out).refuse_foreign()
    except UsageError as error:
        return str(error)
    return ""


def _as_asked(
    request: TrainRequest, start: Start, device: torch.device, variant: Variant
) -> dict[str, Any]:
    config, split = start.config, start.split
    findings = list(start.findings)
    if RunFolder(request.out).is_run():
        findings.append(
            f"{request.out} holds a run already: train goes on with it if it was started with the "
            "same options, and else refuses."
        )
    return {
        "task": start.task.to_json(),
        "method": config.method,
        "preset": config.preset,
        "variant": variant,
        "device": str(device),
        "iterations": config.iterations,
        "seed": config.seed,
        "split": {
            "train_labelled": list(split.train_labelled),
            "train_unlabelled": list(split.train_unlabelled),
            "validation": list(split.validation),
        },
        "patients": {case.id: case.patient for case in start.cases},
        "findings": findings,
        "options": options_of(config, variant),
    }


@contextmanager
def _counting_data(
    choice: Choice, start: Start, sizes: Sizes
) -> Iterator[tuple[RunData, RunFolder]]:
    """Give a run's cases with their sizes alone, in a folder that goes again."""
    split = start.split
    seen = {*split.train_labelled, *split.validation}
    with tempfile.TemporaryDirectory(prefix="semisupseg-plan-") as name:
        run = RunFolder(Path(name))
        with Lock(run.lock_file) as lock:
            yield (
                RunData(
                    task=start.task,
                    split=split,
                    prepared={
                        case.id: _sized(case, sizes, case.id in seen, start.task.num_classes)
                        for case in start.cases
                    },
                    run=run,
                    progress=Progress(run, lock),
                    seed=start.config.seed,
                    patch_size=choice.patch,
                    device=choice.device,
                    overlap=start.config.training.prediction_overlap,
                    partial=[case.id for case in start.cases if _may_be_partial(case, start)],
                ),
                run,
            )


def _may_be_partial(case: Case, start: Start) -> bool:
    """Return whether a training label may leave voxels unknown; its file is not opened."""
    return case.label_unknown is not None and case.id in start.split.train_labelled


def _sized(case: Case, sizes: Sizes, has_label: bool, num_classes: int) -> PreparedCase:
    # Of a label only class weights are taken, which change no cost.
    arrays = {"label": np.arange(num_classes, dtype=np.uint8)} if has_label else {}
    return PreparedCase(
        id=case.id,
        patient=case.patient,
        original=sizes.grids[case.id],
        grid=sizes.grids[case.id],
        image_hash="",
        reference=ImageSource(path=Path(case.id)),
        arrays=arrays,
    )


def _room(choice: Choice, start: Start, sizes: Sizes, out: Path) -> dict[str, Any]:
    """Return what is needed and what there is; what a trial tells is still None."""
    import psutil

    is_gpu = choice.device.type == "cuda"
    split = start.split
    return {
        "seconds": None,
        "seconds_training": None,
        "seconds_cases": None,
        "seconds_preparation": round(sizes.seconds, 1),
        "memory_bytes": choice.needs.memory,
        "device_memory_bytes": None,
        "disk_bytes": choice.needs.disk,
        "store_bytes": store_bytes(
            sizes, start.task, {*split.train_labelled, *split.validation} & set(members_of(split))
        ),
        "free_disk_bytes": free_disk(out),
        "free_memory_bytes": int(psutil.virtual_memory().available),
        "free_device_bytes": int(torch.cuda.mem_get_info(choice.device)[0]) if is_gpu else None,
        "device_name": device_name(choice.device, choice.config.training.threads),
        "measured": "",
    }


def _memory_tried(
    choice: Choice,
    request: TrainRequest,
    start: Start,
    sizes: Sizes,
    measured: Measured,
    kinds: Collection[str],
) -> tuple[Trial | None, str, dict[str, str]]:
    """Return a trial; or why there is none, and the settings that would fit."""
    why_not = why_memory_does_not_fit(choice.needs, choice.device)
    if not why_not:
        try:
            return _trial(choice, start, measured, kinds), "", {}
        except torch.cuda.OutOfMemoryError:
            why_not = f"{choice.device} has too little free memory for an update of this run."

    def fits(other: Choice) -> bool:
        if why_memory_does_not_fit(other.needs, other.device):
            return False
        if other.device.type == "cpu":
            return True
        torch.cuda.empty_cache()
        try:
            _trial(other, start, measured)
        except torch.cuda.OutOfMemoryError:
            return False
        return True

    found = what_fits(choice, request, start, sizes, fits)
    if not found:
        return None, f"{why_not} Nothing smaller that was tried fits either.", {}
    words = " and ".join(f"{key} = {text}" for key, text in found.items())
    return None, f"{why_not} It would fit with {words}.", found


def _trial(choice: Choice, start: Start, measured: Measured, kinds: Collection[str] = ()) -> Trial:
    """Return a trial, perhaps an earlier one if it has seen these kinds of phase."""
    has_unlabelled = bool(start.split.train_unlabelled) or any(
        _may_be_partial(case, start) for case in start.cases
    )
    key = trial_key(
        choice.config,
        start.task,
        choice.patch,
        device_name(choice.device, choice.config.training.threads),
        has_unlabelled=has_unlabelled,
    )
    known = measured.get(key)
    if known is not None and set(kinds) <= set(known["update_seconds"]):
        return Trial.from_json(known)
    trial = try_out(
        choice.config, start.task, choice.patch, choice.device, has_unlabelled=has_unlabelled
    )
    measured.put(key, trial.to_json())
    return trial


def _with_store(choice: Choice, stored: int, out: Path, store: Path) -> Any:
    """Return the needs, with what the store will take if it lies on the run folder's disk."""
    there = stored if _disk_of(out) == _disk_of(store) else 0
    return replace(choice.needs, disk=choice.needs.disk + there)


def _disk_of(folder: Path) -> int | None:
    for place in (folder.absolute(), *folder.absolute().parents):
        if place.is_dir():
            return place.stat().st_dev
    return None


def _cost(trial: Trial, work: Work, choice: Choice, preparation: float) -> dict[str, Any]:
    """Return what a trial tells of a run's work, which is in seconds."""
    return {
        "seconds": round(work.planned + preparation, 1),
        "seconds_training": round(work.of_updates, 1),
        "seconds_cases": round(work.planned - work.of_updates, 1),
        "memory_bytes": max(choice.needs.memory, trial.memory_bytes),
        "device_memory_bytes": trial.device_bytes,
        "measured": _what_was_measured(trial, choice),
    }


def _what_was_measured(trial: Trial, choice: Choice) -> str:
    patch = " x ".join(map(str, choice.patch))
    what = (
        "a window of this run's network"
        if trial.is_scaled
        else f"a few updates of each of {len(trial.update_seconds)} kinds of phase, with this "
        "run's network and batch"
    )
    more = ", multiplied, since an update is slow here" if trial.is_scaled else ""
    return f"{what} ({patch} voxels) on made-up cases{more}; {trial.measured_on}"
