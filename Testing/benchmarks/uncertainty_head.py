"""Does one pass with the log-variance head say what K = 8 passes with dropout say, and how fast?

    python Testing/benchmarks/uncertainty_head.py RUN [RUN ...]

Takes the students of finished runs whose head has learnt. For each validation case, in the region
of interest (5 mm around tumour and prediction), the rank correlation of the head's variance with
that of the passes, and how well each of the two finds the wrong voxels (the probability that a
wrong voxel has more doubt than a right one). Times of both in turns, on the same windows.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "uncertainty_head.json"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.cases.discovery import discover  # noqa: E402 (after the path is set)
from SemiSupSegLib.cases.label_values import UNKNOWN_CLASS  # noqa: E402
from SemiSupSegLib.evaluation.calibration import region_of_interest  # noqa: E402
from SemiSupSegLib.files import read_json, write_json  # noqa: E402
from SemiSupSegLib.inference.predictor import Predictor  # noqa: E402
from SemiSupSegLib.inference.sliding_window import sliding_window  # noqa: E402
from SemiSupSegLib.inference.stochastic import seeded_dropout_logits  # noqa: E402
from SemiSupSegLib.losses.uncertainty import pass_statistics  # noqa: E402
from SemiSupSegLib.models.package import read_package  # noqa: E402
from SemiSupSegLib.networks.base import SegmentationNetwork  # noqa: E402
from SemiSupSegLib.options import from_json  # noqa: E402
from SemiSupSegLib.preparation.options import PreparationOptions  # noqa: E402
from SemiSupSegLib.preparation.prepare import prepare_case  # noqa: E402

PASSES = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for run in arguments.run:
        rows += measure(run)
    known = read_json(RESULTS)["measurements"] if RESULTS.is_file() else []
    names = {one["name"] for one in rows}
    write_json(RESULTS, {"measurements": [one for one in known if one["name"] not in names] + rows})
    for one in rows:
        print(f"{one['name']}: {one['value']} {one['unit']}")
    return 0


def measure(run: Path) -> list[dict[str, Any]]:
    """Return what one run's student shows."""
    package = read_package(run / "models" / "student")
    predictor = Predictor(package, device=torch.device("cpu"))
    student = predictor.networks[0]
    if not student.has_log_variance:
        raise SystemExit(f"{run}: the student's head has not learnt; give it head_share.")
    config = read_json(run / "run.json")
    label = f"{package.task.name}.{config['method']}.seed{config['seed']}"
    folder = Path(config["request"]["cases"]["folder"])
    ids = set(config["split"]["validation"])
    options = from_json(PreparationOptions, package.manifest["preparation"], "preparation")
    cases = discover(folder, package.task, check_content=False, label_ids=ids).cases
    found: dict[str, list[float]] = {"rank": [], "head": [], "passes": []}
    seconds = {"head": 0.0, "passes": 0.0}
    for case in cases:
        if case.id not in ids:
            continue
        prepared = prepare_case(case, package.task, options, with_label=True)
        logits, head, seconds_head = windows(predictor, prepared.image(), one_pass(student))
        mean, passes, seconds_passes = windows(predictor, prepared.image(), eight_passes(student))
        seconds["head"] += seconds_head
        seconds["passes"] += seconds_passes
        truth = np.asarray(prepared.label())
        roi = region_of_interest(logits.argmax(0), truth, prepared.grid.spacing[::-1])
        roi &= truth != UNKNOWN_CLASS
        if not roi.any():
            continue
        found["rank"].append(float(spearmanr(head[roi], passes[roi]).statistic))
        for name, doubt, classes in (("head", head, logits), ("passes", passes, mean)):
            wrong = classes.argmax(0)[roi] != truth[roi]
            if wrong.any() and not wrong.all():
                found[name].append(area_under_curve(doubt[roi], wrong))
    return [
        row(f"{label}.rank_correlation", np.mean(found["rank"]), ""),
        row(f"{label}.finds_errors.head", np.mean(found["head"]), "AUROC"),
        row(f"{label}.finds_errors.passes", np.mean(found["passes"]), "AUROC"),
        row(f"{label}.time_ratio", seconds["head"] / seconds["passes"], "", f"{PASSES} passes"),
        row(f"{label}.cases", len(found["rank"]), ""),
    ]


def windows(predictor: Predictor, image: Any, forward: Any) -> tuple[Any, Any, float]:
    """Return class values, doubt and seconds of one way to predict."""
    start = time.perf_counter()
    values = sliding_window(
        image, forward, patch_size=predictor.patch_size, device=torch.device("cpu")
    )
    taken = time.perf_counter() - start
    return values[:-1].numpy(), values[-1].numpy(), taken


def one_pass(student: SegmentationNetwork) -> Any:
    """Return the pass that gives logits and the head's log-variance."""

    def forward(patches: torch.Tensor) -> torch.Tensor:
        features = student.features(patches)
        logits = student.segment(features)
        return torch.cat([logits, student.log_variance(features, logits)], 1)

    return forward


def eight_passes(student: SegmentationNetwork) -> Any:
    """Return the passes with dropout, which share what comes before it."""

    def forward(patches: torch.Tensor) -> torch.Tensor:
        stem = student.stem(patches)
        statistics = pass_statistics(
            logits.float().softmax(1)
            for logits in seeded_dropout_logits(student, stem, PASSES, seed=0)
        )
        return torch.cat([statistics.mean, statistics.variance[:, None]], 1)

    return forward


def area_under_curve(doubt: Any, wrong: Any) -> float:
    """Return the probability that a wrong voxel has more doubt than a right one; ties are half."""
    ranks = rankdata(doubt)
    positive = int(wrong.sum())
    negative = wrong.size - positive
    return float((ranks[wrong].sum() - positive * (positive + 1) / 2) / (positive * negative))


def row(name: str, value: float, unit: str, ratio_to: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(float(value), 4),
        "unit": unit,
        "ratio_to": ratio_to,
        "machine": f"{os.cpu_count()} cores {platform.machine()}, torch {torch.__version__}",
        "date": date.today().isoformat(),
    }


if __name__ == "__main__":
    sys.exit(main())
