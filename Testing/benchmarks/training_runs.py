"""Train methods on real data and keep every finished run's figures in results/runs.json.

    python Testing/benchmarks/training_runs.py --dataset brats_cubes \
        --row supervised --row curriculum --row supervised_all --seeds 0 1 2 --jobs 2

A row is `name` of ROWS below, or `name:method:key=value,key=value` of your own. Runs resume:
interrupted ones go on, finished ones are not repeated. Every row has the same number of optimizer
updates and the same light network. Figures are those of the last moving average, and beside it
of the checkpoint with the best validation Dice, which nothing was chosen by.

`--folds K --fold I` judges on part I of `train_labelled` instead of on the validation cases, for
design choices; such runs are not written to runs.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "runs.json"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.cases.task import load_task  # noqa: E402 (after the path is set)
from SemiSupSegLib.files import read_json, write_json  # noqa: E402


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder of cases with its split and the updates of one run."""

    folder: str
    split: str
    task: str
    iterations: int
    exclude: tuple[str, ...] = ()
    """Cases without a label file, left out of rows that train on all labels."""


DATASETS = {
    "brats_cubes": Dataset(
        folder="brats_cubes/cases",
        split="brats_cubes/split.json",
        task="brats",
        iterations=2640,
    ),
    "la": Dataset(
        folder="la/cases",
        split="la/split_8.json",
        task="binary",
        iterations=5280,
    ),
    "brats_whole": Dataset(
        folder="brats_whole/cases",
        split="brats_whole/split.json",
        task="brats",
        iterations=500,
        exclude=("Brats18_2013_11_1",),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table."""

    method: str
    variant: str = ""
    settings: tuple[str, ...] = ()
    all_labels: bool = False


ROWS = {
    "supervised": Row(method="supervised"),
    "supervised_copy_paste": Row(
        method="supervised", variant="copy_paste", settings=("copy_paste=1",)
    ),
    "supervised_all": Row(method="supervised", variant="all_labels", all_labels=True),
    "supervised_all_copy_paste": Row(
        method="supervised",
        variant="all_labels_copy_paste",
        settings=("copy_paste=1",),
        all_labels=True,
    ),
    "curriculum": Row(method="curriculum"),
    # Controls of docs/methods.md: what does each part of the method bring?
    "unlabelled_none": Row(
        method="curriculum", variant="unlabelled_none", settings=("unlabelled=none",)
    ),
    **{
        f"order_{order}": Row(
            method="curriculum",
            variant=f"order_{order}",
            settings=(
                f"curriculum={order}",
                *(("allow_oracle=true",) if order == "oracle" else ()),
            ),
        )
        for order in ("all_at_once", "random", "reversed", "oracle")
    },
    **{
        f"low_{mode}": Row(
            method="curriculum", variant=f"low_{mode}", settings=(f"low_mode={mode}",)
        )
        for mode in (
            "ignore",
            "subtract",
            "subtract_clipped",
            "subtract_prob",
            "negative",
            "complementary",
            "uniform",
            "soft",
        )
    },
    # Only what is trusted most, and nothing where teacher and student differ (docs/adr/0007).
    "strict": Row(
        method="curriculum",
        variant="strict",
        settings=(
            "pseudo_labels.threshold=0.9",
            "pseudo_labels.refinement=ignore",
            "low_mode=ignore",
        ),
    ),
    # The plain self-training that every gain of the curriculum must beat.
    "all_at_once_ignore": Row(
        method="curriculum",
        variant="all_at_once_ignore",
        settings=("curriculum=all_at_once", "low_mode=ignore"),
    ),
    "copy_paste_off": Row(
        method="curriculum", variant="copy_paste_off", settings=("copy_paste=0",)
    ),
    "teacher_refresh": Row(
        method="curriculum", variant="teacher_refresh", settings=("teacher_refresh=true",)
    ),
    "refinement_off": Row(
        method="curriculum",
        variant="refinement_off",
        settings=("pseudo_labels.refinement=off",),
    ),
    "student_scratch": Row(
        method="curriculum", variant="student_scratch", settings=("student_init=scratch",)
    ),
    "rank_mean_all": Row(
        method="curriculum",
        variant="rank_mean_all",
        settings=("pseudo_labels.image_confidence=mean_all",),
    ),
}

_WRITING = Lock()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", choices=sorted(DATASETS), required=True)
    parser.add_argument("--row", action="append", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--iterations", type=int, help="default: the data set's")
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "benchmarks")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--folds", type=int)
    parser.add_argument("--fold", type=int, default=0)
    arguments = parser.parse_args()
    dataset = DATASETS[arguments.dataset]
    if not (arguments.data / dataset.folder).is_dir():
        print(f"The data set is not here: {arguments.data / dataset.folder}")
        return 1
    rows = {text: _row(text) for text in arguments.row}
    tasks = [(text, row, seed) for seed in arguments.seeds for text, row in rows.items()]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = list(pool.map(lambda one: _run(arguments, dataset, *one), tasks))
    _print_table(load_task(dataset.task).headline_targets, outcomes)
    return int(any("dice" not in outcome for outcome in outcomes))


def _row(text: str) -> Row:
    if text in ROWS:
        return ROWS[text]
    name, method, *rest = text.split(":", 2)
    settings = tuple(one for one in rest[0].split(",") if one) if rest else ()
    return Row(method=method, variant=name, settings=settings)


def _run(
    arguments: argparse.Namespace, dataset: Dataset, text: str, row: Row, seed: int
) -> dict[str, Any]:
    iterations = arguments.iterations or dataset.iterations
    name = text.split(":")[0]
    fold = f"-fold{arguments.fold}of{arguments.folds}" if arguments.folds else ""
    folder = arguments.work / arguments.dataset / f"{name}-{iterations}{fold}-seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    split = _split(arguments, dataset, row)
    write_json(folder / "split.json", split)
    command = [
        sys.executable,
        "-m",
        "SemiSupSegLib",
        "train",
        "--cases",
        str(arguments.data / dataset.folder),
        "--out",
        str(folder / "run"),
        "--task",
        dataset.task,
        "--method",
        row.method,
        "--preset",
        arguments.preset,
        "--split",
        str(folder / "split.json"),
        "--iterations",
        str(iterations),
        "--seed",
        str(seed),
        "--device",
        "cpu",
        "--store",
        str(arguments.work / "store"),
        "--no-report",
        "--set",
        f"training.threads={arguments.threads}",
        *row.settings,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    with (folder / "log.txt").open("a") as log:
        code = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False
        ).returncode
    if code != 0:
        print(f"{text} seed {seed}: failed with code {code}, see {folder / 'log.txt'}")
        return {"row": text, "seed": seed}
    outcome = {"row": text, "seed": seed, **_figures(folder / "run", dataset)}
    line = "  ".join(f"{key} {value:.3f}" for key, value in outcome["dice"]["student"].items())
    print(f"{text} seed {seed}: {line}", flush=True)
    if not arguments.folds:
        _keep(arguments.dataset, row, len(split["train_labelled"]), seed, iterations, outcome)
    return outcome


def _split(arguments: argparse.Namespace, dataset: Dataset, row: Row) -> dict[str, list[str]]:
    split = read_json(arguments.data / dataset.split)
    if arguments.folds:
        ids = list(split["train_labelled"])
        random.Random(0).shuffle(ids)
        held_out = ids[arguments.fold :: arguments.folds]
        split["validation"] = held_out
        split["train_labelled"] = [one for one in ids if one not in held_out]
    if row.all_labels:
        everyone = [*split["train_labelled"], *split["train_unlabelled"]]
        split["train_labelled"] = [one for one in everyone if one not in dataset.exclude]
        split["train_unlabelled"] = []
    return {name: split[name] for name in ("train_labelled", "train_unlabelled", "validation")}


def _figures(run: Path, dataset: Dataset) -> dict[str, Any]:
    """Return Dice by network and target, as means over the judged cases."""
    task = load_task(dataset.task)
    cases = read_json(run / "validation" / "cases.json")["cases"]
    by_network: dict[str, dict[str, list[float]]] = {}
    for networks in cases.values():
        for network, targets in networks.items():
            for target in task.headline_targets:
                if isinstance(targets, dict) and target in targets:
                    own = by_network.setdefault(network, {}).setdefault(target, [])
                    own.append(targets[target]["dice"])
    dice = {
        network: {target: float(np.mean(values)) for target, values in targets.items()}
        for network, targets in by_network.items()
    }
    details = read_json(run / "validation" / "cases.json").get("details", {})
    false_positive: dict[str, list[float]] = {}
    for networks in details.values():
        for network, detail in networks.items():
            own = false_positive.setdefault(network, [])
            own.append(detail["errors_ml"]["false_positive"])
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    seconds = [one["seconds"] for one in events if one["kind"] == "finished"]
    return {
        "dice": dice,
        "cases": by_network,
        "case_ids": list(cases),
        "false_positive_ml": {name: float(np.mean(one)) for name, one in false_positive.items()},
        "seconds": seconds[-1] if seconds else None,
    }


def _keep(
    dataset: str, row: Row, labels: int, seed: int, iterations: int, outcome: dict[str, Any]
) -> None:
    """Add or replace a run's lines in runs.json."""
    lines = []
    for network, dice in outcome["dice"].items():
        lines.append(
            {
                "dataset": dataset,
                "method": row.method,
                "variant": row.variant,
                "labels": labels,
                "seed": seed,
                "iterations": iterations,
                "checkpoint": "best_validation" if network == "best_validation" else "last",
                "network": "teacher" if network == "teacher" else "student",
                "dice": {target: round(value, 5) for target, value in dice.items()},
                "mean": round(float(np.mean(list(dice.values()))), 5),
                "cases": {
                    target: [round(value, 4) for value in values]
                    for target, values in outcome["cases"][network].items()
                },
                "case_ids": outcome["case_ids"],
                "false_positive_ml": round(outcome["false_positive_ml"].get(network, 0.0), 3)
                if network in outcome["false_positive_ml"]
                else None,
                "seconds": outcome["seconds"],
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread a run",
                "versions": _versions(),
                "date": date.today().isoformat(),
            }
        )
    keys = ("dataset", "method", "variant", "labels", "seed", "iterations", "checkpoint", "network")
    RESULTS.parent.mkdir(exist_ok=True)
    with _WRITING:
        # Another benchmark process may write at the same time.
        lock = RESULTS.with_suffix(".lock")
        while True:
            try:
                lock.touch(exist_ok=False)
                break
            except FileExistsError:
                time.sleep(0.2)
        try:
            kept = read_json(RESULTS)["runs"] if RESULTS.is_file() else []
            new = {tuple(str(line[key]) for key in keys) for line in lines}
            kept = [one for one in kept if tuple(str(one[key]) for key in keys) not in new]
            runs = sorted([*kept, *lines], key=lambda one: [str(one[key]) for key in keys])
            write_json(RESULTS, {"runs": runs})
        finally:
            lock.unlink()


def _versions() -> dict[str, str]:
    import torch

    from SemiSupSegLib import __version__

    return {
        "SemiSupSeg": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _print_table(targets: tuple[str, ...], outcomes: list[dict[str, Any]]) -> None:
    print()
    header = "".join(f"{one:>9}" for one in targets)
    print(f"{'row':<28}{'network':<17}{header}     mean  seeds")
    names = list(dict.fromkeys(outcome["row"] for outcome in outcomes))
    for name in names:
        own = [one["dice"] for one in outcomes if one["row"] == name and "dice" in one]
        for network in ("student", "best_validation", "teacher"):
            values = [[one[network][target] for target in targets] for one in own if network in one]
            if not values:
                continue
            table = np.array(values)
            spread = f" ± {table.mean(1).std(ddof=1):.3f}" if len(table) > 1 else ""
            cells = "".join(f"{value:9.3f}" for value in table.mean(0))
            print(f"{name:<28}{network:<17}{cells}{table.mean():9.3f}{spread}  n={len(table)}")


if __name__ == "__main__":
    sys.exit(main())
