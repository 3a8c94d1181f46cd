"""Train the curriculum and its controls on real data; figures go to results/runs.json.

    python Testing/benchmarks/training_runs.py --dataset brats_cubes \
        --row supervised --row curriculum --row supervised_all --seeds 0 1 2 --jobs 2

A row is a name of ROWS below; compare_methods.py takes options of your own. Runs resume:
interrupted ones go on, finished ones are not repeated. Every row has the same number of optimizer
updates and the same light network. Figures are those of the last moving average, and beside it
of the checkpoint with the best validation Dice, which nothing was chosen by. All rows of a call are
printed as one table. Does it matter what ranks the cases: a quality network, or confidence, against
chance and the true Dice with the same updates?

    --row rank_quality --row rank_quality_random --row rank_quality_oracle
    --row curriculum --row order_random --row order_oracle
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from training_rows import DATASETS, ROOT, Place, Row, end_with_trainings, print_table, run_row

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
    # Ranked by a network that judges masks, which takes its share of the updates. So its controls
    # by chance and by true Dice have that network, too, and as many updates of their own; those of
    # the ranking by confidence are order_random and order_oracle.
    "rank_quality": Row(
        method="curriculum",
        variant="rank_quality",
        settings=("pseudo_labels.image_confidence=quality",),
    ),
    **{
        f"rank_quality_{order}": Row(
            method="curriculum",
            variant=f"rank_quality_{order}",
            settings=(
                "pseudo_labels.image_confidence=quality",
                f"curriculum={order}",
                *(("allow_oracle=true",) if order == "oracle" else ()),
            ),
        )
        for order in ("random", "oracle")
    },
    "rank_mean_all": Row(
        method="curriculum",
        variant="rank_mean_all",
        settings=("pseudo_labels.image_confidence=mean_all",),
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", choices=sorted(DATASETS), required=True)
    parser.add_argument("--row", action="append", choices=sorted(ROWS), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--iterations", type=int, help="default: the data set's")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "benchmarks")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    arguments = parser.parse_args()
    if not (arguments.data / DATASETS[arguments.dataset].folder).is_dir():
        print(f"The data set is not here: {arguments.data / DATASETS[arguments.dataset].folder}")
        return 1
    place = Place(data=arguments.data, work=arguments.work, threads=arguments.threads)
    tasks = [(name, seed) for seed in arguments.seeds for name in arguments.row]
    end_with_trainings()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = list(
            pool.map(
                lambda one: run_row(
                    place, arguments.dataset, one[0], ROWS[one[0]], one[1], arguments.iterations
                ),
                tasks,
            )
        )
    print_table(arguments.dataset, outcomes)
    return int(any(not outcome.lines for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
