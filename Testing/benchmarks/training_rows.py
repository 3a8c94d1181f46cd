"""Training runs on real data, and what is kept of each: shared by the programs here.

Every finished run's figures go to results/runs.json; those judged on folds of the training cases
to results/folds.json. Interrupted runs go on, finished ones are not repeated.
"""

from __future__ import annotations

import os
import platform
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"
TASKS = Path(__file__).resolve().parent / "tasks"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.cases.patients import patients_of  # noqa: E402 (after the path is set)
from SemiSupSegLib.cases.task import load_task  # noqa: E402
from SemiSupSegLib.files import read_json, write_json  # noqa: E402
from SemiSupSegLib.runs.events import EventKind, read_events  # noqa: E402

_running: list[subprocess.Popen[bytes]] = []
METRICS = ("iou", "hd95_mm", "assd_mm", "ravd")
"""Kept as means over the judged cases, besides Dice of every case."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder of cases with its split and the updates of one run."""

    folder: str
    split: str
    task: str
    iterations: int
    exclude: tuple[str, ...] = ()
    """Cases without a label file, left out of rows that train on all labels."""
    settings: tuple[str, ...] = ()
    """Of every run on it, before a row's own."""


DATASETS = {
    "brats_cubes": Dataset(
        folder="brats_cubes/cases",
        split="brats_cubes/split.json",
        task="brats",
        iterations=2640,
    ),
    # Cheng & Song's setting: FLAIR alone, whole tumour, one label in ten, 3D U-Net.
    "brats_cubes_flair": Dataset(
        folder="brats_cubes/cases",
        split="brats_cubes/split.json",
        task=str(TASKS / "flair_whole_tumour.json"),
        iterations=600,
        settings=("network.name=unet3d", "network.options.width=8"),
    ),
    "la": Dataset(
        folder="la/cases",
        split="la/split_8.json",
        task="binary",
        iterations=5280,
    ),
    # The published protocol; la_full_cases.py makes the folder.
    "la_full": Dataset(
        folder="la_full/cases",
        split="la_full/split_8.json",
        task="binary",
        iterations=6000,
    ),
    "brats_whole": Dataset(
        folder="brats_whole/cases",
        split="brats_whole/split.json",
        task="brats",
        iterations=1000,
        exclude=("Brats18_2013_11_1",),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table."""

    method: str
    variant: str = ""
    settings: tuple[str, ...] = ()
    all_labels: bool = False
    preset: str | None = "standard"
    """None: the method's own."""

    @property
    def name(self) -> str:
        """How the row is called in tables and folders."""
        return f"{self.method}_{self.variant}" if self.variant else self.method


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where runs find their data, and where they work."""

    data: Path
    work: Path
    threads: int = 1
    """Of each run."""
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A part of the training cases that a run is judged on instead of validation."""

    index: int
    count: int
    of: str = "train_labelled"
    """Or `train_unlabelled`: the part is then no training case, and its labels, which a benchmark
    has, judge it. Options are chosen so: validation cases stay unseen, and no label is lost."""

    def __str__(self) -> str:
        kind = "" if self.of == "train_labelled" else "unlabelled"
        return f"{kind}{self.index}of{self.count}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a run."""

    row: str
    seed: int
    lines: list[dict[str, Any]] = field(default_factory=list)
    """As they are kept; empty if the run failed."""


def run_row(
    place: Place,
    dataset_name: str,
    name: str,
    row: Row,
    seed: int,
    iterations: int | None = None,
    fold: Fold | None = None,
    *,
    keep: bool = True,
) -> Outcome:
    """Train a row with a seed, unless that is done, and keep its figures.

    Args:
        place: Where data and work are.
        dataset_name: A key of `DATASETS`.
        name: Of the row, for its folder.
        row: What is trained.
        seed: Of the run.
        iterations: Updates; None: the data set's.
        fold: What it is judged on; None: the validation cases.
        keep: Whether its Dice goes to the results; not if it is asked for something else.
    """
    dataset = DATASETS[dataset_name]
    updates = iterations or dataset.iterations
    folder = run_folder(place, dataset_name, name, seed, updates, fold).parent
    folder.mkdir(parents=True, exist_ok=True)
    split = split_of(place, dataset, row, fold)
    write_json(folder / "split.json", split)
    words = [
        *("--cases", str(place.data / dataset.folder), "--out", str(folder / "run")),
        *("--task", dataset.task, "--method", row.method),
        *(("--preset", row.preset) if row.preset else ()),
        *("--split", str(folder / "split.json"), "--iterations", str(updates)),
        *("--seed", str(seed), "--device", place.device),
        *("--store", str(place.work / "store"), "--no-report"),
        *("--set", f"training.threads={place.threads}", *dataset.settings, *row.settings),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(place.threads)}
    is_new = not (folder / "run").exists()
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "SemiSupSegLib", "train", *words],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
        _running.append(process)
        try:
            code, processor_seconds = _wait(process)
        finally:
            _running.remove(process)
    if code != 0:
        said = (folder / "log.txt").read_text(encoding="utf-8").strip().splitlines()[-1:]
        print(f"{name} seed {seed}: failed with code {code}, see {folder / 'log.txt'}", *said)
        return Outcome(row=name, seed=seed)
    if not is_new:
        # A part of the run was in another process, maybe on another day.
        processor_seconds = _known(folder / "work.json")
    write_json(folder / "work.json", {"processor_seconds": processor_seconds})
    lines = _lines(folder / "run", dataset_name, row, seed, updates, place, fold)
    lines = [{**line, "processor_seconds": processor_seconds} for line in lines]
    student = next(one for one in lines if _is_last_student(one))
    told = "  ".join(f"{key} {value:.3f}" for key, value in student["dice"].items())
    print(f"{name} seed {seed}{f' fold {fold}' if fold else ''}: {told}", flush=True)
    if keep:
        _keep(RESULTS / ("folds.json" if fold else "runs.json"), lines)
    return Outcome(row=name, seed=seed, lines=lines)


def run_folder(
    place: Place,
    dataset_name: str,
    name: str,
    seed: int,
    iterations: int,
    fold: Fold | None = None,
) -> Path:
    """Return where `run_row` has a run."""
    part = f"-fold{fold}" if fold else ""
    return place.work / dataset_name / f"{name}-{iterations}{part}-seed{seed}" / "run"


def end_with_trainings() -> None:
    """Let SIGTERM, which ends this program, end its trainings, too; they go on another time."""

    def end(number: int, frame: object) -> None:
        for process in list(_running):
            process.terminate()
        # Without waiting for the threads that wait for them.
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, end)


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, float | None]:
    """Return a process's exit code, and the processor time of it where the system tells."""
    if not hasattr(os, "wait4"):
        return process.wait(), None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, round(usage.ru_utime + usage.ru_stime, 1)


def _known(file: Path) -> float | None:
    return read_json(file)["processor_seconds"] if file.is_file() else None


def split_of(place: Place, dataset: Dataset, row: Row, fold: Fold | None) -> dict[str, list[str]]:
    """Return the split of a row: all labels or few, judged on validation or on a fold."""
    split = read_json(place.data / dataset.split)
    if fold:
        ids = [one for one in split[fold.of] if one not in dataset.exclude]
        patients = dict(zip(ids, patients_of(ids), strict=True))
        order = sorted(set(patients.values()))
        random.Random(0).shuffle(order)
        held_out = set(order[fold.index :: fold.count])
        split["validation"] = [one for one in ids if patients[one] in held_out]
        split[fold.of] = [one for one in split[fold.of] if patients.get(one) not in held_out]
    if row.all_labels:
        everyone = [*split["train_labelled"], *split["train_unlabelled"]]
        split["train_labelled"] = [one for one in everyone if one not in dataset.exclude]
        split["train_unlabelled"] = []
    return {name: split[name] for name in ("train_labelled", "train_unlabelled", "validation")}


def print_table(dataset_name: str, outcomes: Sequence[Outcome]) -> None:
    """Print Dice by row and network: mean over runs, and the spread of their means."""
    targets = load_task(DATASETS[dataset_name].task).headline_targets
    print()
    head = "".join(f"{one:>9}" for one in targets)
    print(f"{'row':<26}{'network':<12}{'checkpoint':<16}{head}     mean            s  passes")
    for name in dict.fromkeys(one.row for one in outcomes):
        own = [line for one in outcomes if one.row == name for line in one.lines]
        for network, checkpoint in (
            ("student", "last"),
            ("student", "best_validation"),
            ("student_raw", "last"),
            ("teacher", "last"),
            ("ensemble", "last"),
        ):
            lines = [
                one for one in own if (one["network"], one["checkpoint"]) == (network, checkpoint)
            ]
            if not lines:
                continue
            table = np.array([[one["dice"][target] for target in targets] for one in lines])
            spread = f" ± {table.mean(1).std(ddof=1):.3f}" if len(table) > 1 else " " * 8
            cells = "".join(f"{value:9.3f}" for value in table.mean(0))
            seconds = np.mean([one["seconds"] for one in lines])
            passes = np.mean([one["passes_per_update"] for one in lines])
            print(
                f"{name:<26}{network:<12}{checkpoint:<16}{cells}{table.mean():9.3f}{spread}"
                f"{seconds:8.0f}{passes:8.1f}  n={len(table)}"
            )


def _is_last_student(line: dict[str, Any]) -> bool:
    return line["network"] == "student" and line["checkpoint"] == "last"


def _lines(
    run: Path,
    dataset_name: str,
    row: Row,
    seed: int,
    iterations: int,
    place: Place,
    fold: Fold | None,
) -> list[dict[str, Any]]:
    """Return a line for each network that was judged."""
    task = load_task(DATASETS[dataset_name].task)
    validation = read_json(run / "validation" / "cases.json")
    config = read_json(run / "run.json")
    events = read_events(run / "events.jsonl")
    finished = [one for one in events if one["kind"] == EventKind.FINISHED]
    common = {
        "dataset": dataset_name,
        "method": row.method,
        "variant": row.variant,
        "labels": len(config["split"]["train_labelled"]),
        "seed": seed,
        "iterations": iterations,
        **({"fold": str(fold)} if fold else {}),
    }
    further = {
        "seconds": finished[-1]["seconds"] if finished else None,
        "passes_per_update": _passes_per_update(events, iterations),
        "backbone": _backbone(config),
        "preset": config["preset"],
        "machine": machine_of(place),
        "versions": versions(),
        "date": date.today().isoformat(),
    }
    lines = []
    names = dict.fromkeys(name for one in validation["cases"].values() for name in one)
    for name in names:
        judged = [one[name] for one in validation["cases"].values() if name in one]
        details = [
            one[name]["errors_ml"]["false_positive"]
            for one in validation.get("details", {}).values()
            if name in one
        ]
        dice = {target: [one[target]["dice"] for one in judged] for target in task.headline_targets}
        is_best = name == "best_validation"
        means = {target: float(np.mean(values)) for target, values in dice.items()}
        lines.append(
            {
                **common,
                "checkpoint": "best_validation" if is_best else "last",
                "network": "student" if is_best else name,
                "dice": {target: round(value, 5) for target, value in means.items()},
                "mean": round(float(np.mean(list(means.values()))), 5),
                "metrics": {
                    target: _metric_means([one[target] for one in judged])
                    for target in task.headline_targets
                },
                "false_positive_ml": round(float(np.mean(details)), 3) if details else None,
                **further,
            }
        )
        if _is_last_student(lines[-1]):
            # For paired intervals; of the others means are enough.
            lines[-1]["case_ids"] = list(validation["cases"])
            lines[-1]["cases"] = {
                target: [round(value, 4) for value in values] for target, values in dice.items()
            }
    raw = _last_raw(run, task.headline_targets)
    if raw:
        mean = round(float(np.mean(list(raw.values()))), 5)
        network = {"checkpoint": "last", "network": "student_raw", "dice": raw, "mean": mean}
        lines.append({**common, **network, **further})
    return lines


def _metric_means(figures: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return means over the cases that have a value; distances lack it where one side is empty."""
    means = {}
    for metric in METRICS:
        values = [one[metric] for one in figures if one.get(metric) is not None]
        if values:
            means[metric] = round(float(np.mean(values)), 4)
    return means


def _last_raw(run: Path, targets: Sequence[str]) -> dict[str, float]:
    """Return Dice of the network before averaging, as it was judged after its last update."""
    found: dict[str, float] = {}
    for line in (run / "metrics.csv").read_text().splitlines():
        cells = line.split(",")
        if "student_raw" in cells and "validation" in cells:
            name, value = next(
                (one, cells[place + 1])
                for place, one in enumerate(cells)
                if one.startswith("dice.")
            )
            found[name.removeprefix("dice.")] = round(float(value), 5)
    return {target: found[target] for target in targets if target in found}


def _passes_per_update(events: Sequence[dict[str, Any]], iterations: int) -> float | None:
    """Return forward passes over a patch in an update, a backward pass counted as two."""
    planned = [one for one in events if one["kind"] == EventKind.PLANNED]
    if not planned:
        return None
    work = sum(one["iterations"] * one["passes_per_update"] for one in planned[-1]["phases"])
    return round(float(work / iterations), 2)


def _backbone(config: dict[str, Any]) -> str:
    """Return the networks in a few words; a method may have a second one."""
    options = config["options"]
    networks = [options["network"], options.get("second")]
    return " + ".join(
        f"{one['name']} w{one['options'].get('width', '')}"
        + (" lite" if one["options"].get("lite") else "")
        for one in networks
        if one
    )


_WRITING = Lock()


def _keep(file: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Add or replace a run's lines."""
    keys = (
        *("dataset", "method", "variant", "labels", "seed", "iterations"),
        *("checkpoint", "network", "fold"),
    )
    file.parent.mkdir(exist_ok=True)
    with _WRITING:
        # Another benchmark process may write at the same time.
        lock = file.with_suffix(".lock")
        while True:
            try:
                lock.touch(exist_ok=False)
                break
            except FileExistsError:
                time.sleep(0.2)
        try:
            kept = read_json(file)["runs"] if file.is_file() else []
            new = {tuple(str(line.get(key)) for key in keys) for line in lines}
            kept = [one for one in kept if tuple(str(one.get(key)) for key in keys) not in new]
            runs = sorted([*kept, *lines], key=lambda one: [str(one.get(key)) for key in keys])
            write_json(file, {"runs": runs})
        finally:
            lock.unlink()


def machine_of(place: Place) -> str:
    """Return what runs were made on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {place.threads} threads a run"


def versions() -> dict[str, str]:
    """Return the versions of what figures depend on."""
    import torch

    from SemiSupSegLib import __version__

    return {
        "SemiSupSeg": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
