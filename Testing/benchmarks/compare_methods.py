"""Compare methods on one data set: same cases, updates and network, each with its own preset.

    python Testing/benchmarks/compare_methods.py --dataset brats_cubes --seeds 0 1 2
    python Testing/benchmarks/compare_methods.py --dataset la --method supervised --method uamt
    python Testing/benchmarks/compare_methods.py --dataset la_full --device cuda:0

Without --method all of them, and supervised training on all labels for an upper bound;
`METHOD_reweighted` weighs its unlabelled cases by a network that judges masks. A run that
was interrupted goes on, one that is finished is not repeated; every finished run is kept in
results/runs.json, so that the table grows over days. `--folds K` trains K runs of each method,
judged on one part of the labelled training cases each, patients kept together; figures of all parts
are put together, and kept in results/folds.json. Options are chosen on folds, `--set` is for
nothing else; with `--of train_unlabelled` the parts are unlabelled cases, whose labels a benchmark
has, and `--fold 0` trains the first run alone:

    python Testing/benchmarks/compare_methods.py --dataset brats_cubes --method supervised \
        --folds 4 --of train_unlabelled --fold 0 --set labelled_per_batch=4 optimizer.rate=0.012

Of each run the last checkpoint is what counts. Beside it stand the one that was best on
validation (chosen by what it is then judged by: an optimist's figure), the network before
averaging, and of methods with two networks the teacher (or second network) and the mean of both.
`passes` are forward passes over a patch in an update, a backward pass counted as two.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from training_rows import (
    DATASETS,
    ROOT,
    Fold,
    Place,
    Row,
    end_with_trainings,
    print_table,
    run_row,
)

from SemiSupSegLib.methods.catalogue import METHODS

ITERATIONS = {
    "brats_cubes": 1200,
    "brats_cubes_flair": 600,
    "la": 400,
    "la_full": 6000,
    "brats_whole": 1000,
}
"""Updates of a run. On two cores a run is meant to take six minutes on the cubes, 20 on the atrium,
40 on whole brains; at full resolution it is meant for a GPU."""
SHORT = {"brats_cubes": 600}
"""Updates of the first runs, which the page shows, too."""
LONG = {"la": 1320}
"""Updates of longer runs there, which one core needs up to an hour for."""
SETTINGS = {
    "brats_cubes": ("optimizer.rate=0.01",),
    "brats_cubes_flair": ("optimizer.rate=0.01",),
    "la": ("optimizer.rate=0.003", "training.patch_size=[48,64,64]"),
    # The published protocol: backbone, optimizer and patch of Yu et al. 2019, for every method.
    "la_full": (
        *("network.name=vnet", "network.options.width=16", "network.options.norm=batch"),
        *("optimizer.optimizer=sgd", "optimizer.rate=0.01", "optimizer.schedule=step"),
        *("training.patch_size=[80,112,112]", "training.clip_norm=0"),
        "training.precision=float32",
    ),
    "brats_whole": ("optimizer.rate=0.003",),
}
"""Of every run on a data set. The rates are those with which supervised training was best on
unlabelled training cases, whose labels a benchmark has (results/folds.json): on the cubes .771,
.781, .786 with 0.003, 0.006, 0.012 after 600 updates; on the atrium .776, .754 with 0.003, 0.01
after 300."""
FLAIR = ("supervised", "mean_teacher", "uamt")
"""The three models of Cheng & Song."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", choices=sorted(ITERATIONS), required=True)
    parser.add_argument("--method", action="append", choices=sorted(rows()), help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--iterations", type=int, help="default: the data set's")
    parser.add_argument("--folds", type=int, help="judge on K parts of the training cases")
    parser.add_argument("--fold", type=int, help="train this part's run alone, from 0")
    parser.add_argument(
        "--of", choices=("train_labelled", "train_unlabelled"), default="train_labelled"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="with --folds")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "benchmarks")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=2, help="of each run")
    arguments = parser.parse_args()
    name = arguments.dataset
    if not (arguments.data / DATASETS[name].folder).is_dir():
        print(
            f"The data set is not here: {arguments.data / DATASETS[name].folder}. Say with --data "
            f"which folder has {DATASETS[name].folder} and {DATASETS[name].split}."
        )
        return 1
    if arguments.set and not arguments.folds:
        print("--set is for choosing options, which validation cases are not for: give --folds")
        return 2
    place = Place(
        data=arguments.data,
        work=arguments.work,
        threads=arguments.threads,
        device=arguments.device,
    )
    known = rows(SETTINGS[name])
    all_methods = tuple(one for one in known if not one.endswith("_reweighted"))
    default = FLAIR if name == "brats_cubes_flair" else all_methods
    parts = [
        Fold(index=part, count=arguments.folds, of=arguments.of)
        for part in range(arguments.folds or 0)
        if arguments.fold in (None, part)
    ]
    tasks = [
        (method, seed, part)
        for seed in arguments.seeds
        for part in parts or [None]
        for method in arguments.method or default
    ]
    suffix = "".join(f"_{one}" for one in arguments.set)
    iterations = arguments.iterations or ITERATIONS[name]
    end_with_trainings()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = list(
            pool.map(
                lambda one: run_row(
                    place,
                    name,
                    f"compare_{one[0]}{re.sub('[^a-zA-Z0-9_.=-]', '-', suffix)}",
                    with_settings(known[one[0]], arguments.set),
                    one[1],
                    iterations,
                    one[2],
                ),
                tasks,
            )
        )
    print_table(name, outcomes)
    return int(any(not outcome.lines for outcome in outcomes))


def with_settings(row: Row, settings: Sequence[str]) -> Row:
    """Return a row with further settings, which its variant names."""
    variant = ",".join([*([row.variant] if row.variant else []), *settings])
    return replace(row, variant=variant, settings=(*row.settings, *settings))


def rows(settings: tuple[str, ...] = ()) -> dict[str, Row]:
    """Return every method by name, and what it is compared with."""
    judged = ("training.judge_ensemble=true",)
    found = {
        name: Row(method=name, preset=None, settings=(*settings, *judged))
        for name, entry in METHODS.items()
        if not entry.goes_on
    }
    for name, entry in METHODS.items():
        if not entry.goes_on and hasattr(entry.options(), "quality"):
            found[f"{name}_reweighted"] = Row(
                method=name,
                variant="reweighted",
                preset=None,
                settings=(*settings, *judged, "quality.reweight=true"),
            )
    found["supervised_2"] = Row(
        # As many labelled patches an update as most methods have.
        method="supervised",
        variant="labelled_per_batch_2",
        settings=(*settings, "labelled_per_batch=2"),
    )
    copy_paste = ("copy_paste=1", "labelled_per_batch=16")
    found["supervised_16"] = Row(
        # As many patches an update as `best` has: what do the unlabelled cases add?
        method="supervised",
        variant="labelled_per_batch_16",
        settings=(*settings, "labelled_per_batch=16"),
    )
    found["supervised_copy_paste"] = Row(
        # The same, with boxes exchanged, as `best` does where there are several classes.
        method="supervised",
        variant="copy_paste_16",
        settings=(*settings, *copy_paste),
    )
    found["supervised_all"] = Row(
        method="supervised", variant="all_labels", settings=settings, all_labels=True
    )
    return found


if __name__ == "__main__":
    sys.exit(main())
