"""What correcting the k most doubtful cases brings, against k cases drawn at random.

    python Testing/benchmarks/corrections.py [--base RUN] [--work FOLDER] [--data ../shared/data]

brats_cubes. A finished run of the curriculum segments its unlabelled cases. Then a person corrects
k of them completely: truth plays that person. The run learns from the corrections (`learn` with
its defaults), and both students are judged on the validation cases. Which k:

* `least_confident`: lowest image confidence, which `predict` writes;
* `most_error`: largest expected error, the sum of 1 - confidence over the voxels, in mm³;
* `random`: drawn, with another draw for each seed;
* `nothing_new`: k cases that were labelled before, with the same labels. What this brings, more
  updates bring, not corrections.

Without --base the run is trained first, as in training_runs.py (some 20 minutes on two cores). Runs
resume: what is finished is not done again, so other settings (`--set`) need another --work.
Results: results/corrections.json; `value` of a measurement is a mean over the seeds, the gain is
after minus before in mean Dice of WT, TC, ET.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "corrections.json"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.cases.case import ImageSource  # noqa: E402 (after the path is set)
from SemiSupSegLib.cases.reading import read_image  # noqa: E402
from SemiSupSegLib.files import read_json, write_json  # noqa: E402

DATASET = "brats_cubes"
ITERATIONS = 2640
"""Updates of a base run that is trained here."""
CHANNELS = ("t1", "t1ce", "t2", "flair")
CHOICES = ("least_confident", "most_error", "random", "nothing_new")


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """How far the former student trusts its segmentation of a case."""

    confidence: float
    """Of the image, 0-1."""
    error_mm3: float
    """Expected."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", type=Path, help="finished run of the curriculum")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "benchmarks" / "corrections")
    parser.add_argument("--ks", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--iterations", type=int, help="of learning; default: that of learn")
    parser.add_argument("--set", dest="settings", nargs="+", default=[], help="of learning")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    arguments = parser.parse_args()
    cases = arguments.data / DATASET / "cases"
    if not cases.is_dir():
        print(f"The data set is not here: {cases}")
        return 1
    arguments.work.mkdir(parents=True, exist_ok=True)
    base = arguments.base or _train_base(arguments, cases)
    unlabelled = read_json(base / "run.json")["split"]["train_unlabelled"]
    doubts = _predict(arguments, base, cases, unlabelled)
    plans = [
        (choice, k, seed)
        for seed in arguments.seeds
        for k in arguments.ks
        for choice in arguments.choices
    ]

    def learn(plan: tuple[str, int, int]) -> None:
        choice, k, seed = plan
        chosen = _choose(choice, k, seed, doubts, base)
        _learn(arguments, base, cases, chosen, f"{choice}-k{k}-seed{seed}", seed)
        # Whoever stops the benchmark keeps what is finished.
        _write(arguments, base)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(learn, plans))
    for one in _write(arguments, base):
        print(f"{one['name']:<55}{one['value']:9.4f} {one['unit']}")
    return 0


def _call(arguments: argparse.Namespace, log: Path, *words: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    command = [sys.executable, "-m", "SemiSupSegLib", *words]
    with log.open("a") as stream:
        code = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=stream, stderr=stream, check=False
        ).returncode
    if code:
        raise SystemExit(f"{words[0]} ended with code {code}; see {log}")


def _train_base(arguments: argparse.Namespace, cases: Path) -> Path:
    run = arguments.work / "base"
    _call(
        arguments, arguments.work / "base.log", "train",
        "--cases", str(cases), "--out", str(run), "--task", "brats", "--device", "cpu",
        "--split", str(arguments.data / DATASET / "split.json"),
        "--iterations", str(ITERATIONS), "--store", str(arguments.work / "store"),
        "--no-report", "--set", f"training.threads={arguments.threads}",
    )  # fmt: skip
    return run


def _predict(
    arguments: argparse.Namespace, base: Path, cases: Path, unlabelled: list[str]
) -> dict[str, Doubt]:
    """Segment the unlabelled cases, once; their labels are not even in the folder."""
    images, results = arguments.work / "unlabelled", arguments.work / "results"
    if not (results / "done").is_file():
        for case_id in unlabelled:
            (images / case_id).mkdir(parents=True, exist_ok=True)
            for channel in CHANNELS:
                shutil.copyfile(
                    cases / case_id / f"{channel}.nii.gz", images / case_id / f"{channel}.nii.gz"
                )
        _call(
            arguments, arguments.work / "predict.log", "predict", "--model", str(base),
            "--cases", str(images), "--out", str(results), "--device", "cpu",
        )  # fmt: skip
        (results / "done").touch()
    return {case_id: _doubt(results / case_id) for case_id in unlabelled}


def _doubt(folder: Path) -> Doubt:
    import SimpleITK as sitk

    image = read_image(ImageSource(path=folder / f"{folder.name}_confidence.nii.gz"))
    voxel_mm3 = float(np.prod(image.GetSpacing()))
    wrong = 1.0 - np.asarray(sitk.GetArrayFromImage(image), dtype=np.float64)
    return Doubt(
        confidence=float(read_json(folder / "case.json")["confidence"]["image"]),
        error_mm3=float(wrong.sum()) * voxel_mm3,
    )


def _choose(choice: str, k: int, seed: int, doubts: dict[str, Doubt], base: Path) -> list[str]:
    ids = sorted(doubts)
    if choice == "least_confident":
        return sorted(ids, key=lambda one: (doubts[one].confidence, one))[:k]
    if choice == "most_error":
        return sorted(ids, key=lambda one: (-doubts[one].error_mm3, one))[:k]
    if choice == "nothing_new":
        ids = sorted(read_json(base / "run.json")["split"]["train_labelled"])
    return sorted(random.Random(f"{choice} {k} {seed}").sample(ids, k))


def _learn(
    arguments: argparse.Namespace,
    base: Path,
    cases: Path,
    chosen: list[str],
    name: str,
    seed: int,
) -> None:
    folder = arguments.work / "runs" / name
    for case_id in chosen:
        reviewed = folder / "reviews" / case_id
        reviewed.mkdir(parents=True, exist_ok=True)
        label = reviewed / f"{case_id}_reviewed.nii.gz"
        if not label.is_file():
            shutil.copyfile(cases / case_id / "seg.nii.gz", label)
    iterations = ("--iterations", str(arguments.iterations)) if arguments.iterations else ()
    _call(
        arguments, folder / "log.txt", "learn", "--run", str(base), "--cases", str(cases),
        "--reviews", str(folder / "reviews"), "--out", str(folder / "run"), *iterations,
        "--seed", str(seed), "--device", "cpu", "--store", str(arguments.work / "store"),
        "--no-report", "--set", f"training.threads={arguments.threads}", *arguments.settings,
    )  # fmt: skip


def _write(arguments: argparse.Namespace, base: Path) -> list[dict[str, Any]]:
    """Write what the finished runs have brought, and return the measurements."""
    runs = []
    for folder in sorted((arguments.work / "runs").iterdir()):
        file = folder / "run" / "validation" / "before_after.json"
        choice, k, seed = folder.name.split("-")
        if file.is_file():
            content = read_json(file)
            runs.append(
                {
                    "choice": choice,
                    "k": int(k.removeprefix("k")),
                    "seed": int(seed.removeprefix("seed")),
                    "cases": sorted(one.name for one in (folder / "reviews").iterdir()),
                    "iterations": read_json(folder / "run" / "run.json")["iterations"],
                    "targets": content["targets"],
                    "sentence": content["sentence"],
                }
            )
    measurements = []
    for k in sorted({one["k"] for one in runs}):
        for choice in CHOICES:
            own = [one for one in runs if one["k"] == k and one["choice"] == choice]
            if not own:
                continue
            means = [one["targets"]["mean"] for one in own]
            gains = [one["difference"]["mean"] for one in means]
            for what, values in (
                ("dice_before", [one["before"] for one in means]),
                ("dice_after", [one["after"] for one in means]),
                ("gain", gains),
            ):
                measurements.append(
                    {
                        "name": f"{DATASET}.k{k}.{choice}.{what}",
                        "value": round(float(np.mean(values)), 5),
                        "unit": "mean Dice of WT, TC, ET",
                        "ratio_to": None,
                        "sd": round(float(np.std(values, ddof=1)), 5) if len(own) > 1 else None,
                        "num_runs": len(own),
                        "num_outside_noise": sum(
                            one["difference"]["low"] is not None
                            and (one["difference"]["low"] > 0 or one["difference"]["high"] < 0)
                            for one in means
                        ),
                        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                        "date": date.today().isoformat(),
                    }
                )
    base_run = read_json(base / "run.json")
    write_json(
        RESULTS,
        {
            "base": {
                "method": base_run["method"],
                "iterations": base_run["iterations"],
                "seed": base_run["seed"],
                "labelled": len(base_run["split"]["train_labelled"]),
                "unlabelled": len(base_run["split"]["train_unlabelled"]),
                "validation": len(base_run["split"]["validation"]),
            },
            "measurements": measurements,
            "runs": runs,
        },
    )
    return measurements


if __name__ == "__main__":
    sys.exit(main())
