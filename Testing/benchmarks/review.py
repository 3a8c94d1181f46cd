"""Do the review regions hold the errors? Kept in results/review.json.

    python Testing/benchmarks/review.py --dataset brats_whole --run RUN --dataset la --run RUN

RUN is a finished run folder, one for each data set in turn. Without `--run` the run is trained
first, as training_runs.py trains it, into `--work` (minutes to hours). The validation cases of the
run's split are predicted and regions are sought in them. A run that was judged on other cases than
the data set's (compare_methods.py, `--folds`) is kept under the name that `--as` gives it. Seven
more whole brains, those unlabelled training cases that have a label file:

    python Testing/benchmarks/compare_methods.py --dataset brats_whole --method curriculum \
        --iterations 500 --folds 1 --of train_unlabelled
    python Testing/benchmarks/review.py --dataset brats_whole --as brats_whole_unlabelled --run RUN

Nothing is judged by what it was chosen on. The validation cases are cut into five parts (or as many
as there are cases). For each part, everything that is fitted - how a score becomes the
probability of being wrong, what far doubt is worth, the threshold - is fitted on the other parts,
which is also what export does with all validation cases. The rest of the options, sizes and shares,
was chosen on held-out parts of `train_labelled` of brats_cubes and la, which are not judged here.
Two ideas, though not their numbers, came from looking at these validation cases: that doubt fades
with the distance from what was found, and that small parts join their neighbours. So the figures
may flatter the method a little.

Scores, each made a probability of being wrong by a monotone map: `confidence`, `uncertainty`,
`agreement`, and their `combination` (logistic regression, with whether the teacher's class
differs). Controls of the same volume as the top regions by confidence: `shell`, the voxels nearest
to a border of the label map; `random`, as many balls at random places within 5 mm of what student
or teacher found (mean of five draws).

Measurements are means over the cases. `top<N>_error_share`: of all wrong voxels.
`top<N>_surface_share`: of the surface voxels, of label map and reference, more than 2 mm from the
other's surface (of any headline target). `top<N>_volume_to_error`: the effort, as volume of
the regions over that of all errors. `top<N>_dice_after`: mean Dice of the headline targets when the
true labels replace the result inside the regions. `left.*` says where the wrong voxels are that the
five worst regions do not hold. Intervals (`.low`, `.high`) are 95 %, bootstrapped over cases.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.optimize import minimize
from scipy.special import expit, logit

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "review.json"
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from SemiSupSegLib.waiting_threads import let_threads_sleep  # noqa: E402 (after the path is set)

# As in every command, which the benchmark is about.
let_threads_sleep()

import training_runs  # noqa: E402

from SemiSupSegLib.__main__ import main as command  # noqa: E402
from SemiSupSegLib.cases.case import ImageSource  # noqa: E402
from SemiSupSegLib.cases.discovery import discover  # noqa: E402
from SemiSupSegLib.cases.geometry import geometry_of  # noqa: E402
from SemiSupSegLib.cases.reading import read_image, read_label  # noqa: E402
from SemiSupSegLib.cases.task import Task  # noqa: E402
from SemiSupSegLib.evaluation.overlap import dice_of_targets  # noqa: E402
from SemiSupSegLib.files import read_json, write_json  # noqa: E402
from SemiSupSegLib.inference.calibration import fit_map  # noqa: E402
from SemiSupSegLib.models.package import read_package  # noqa: E402
from SemiSupSegLib.models.registry import load_model  # noqa: E402
from SemiSupSegLib.review.doubt import distance_to  # noqa: E402
from SemiSupSegLib.review.fitting import (  # noqa: E402
    ReviewSample,
    chosen_cases,
    fitted_options,
)
from SemiSupSegLib.review.regions import RegionOptions, find_regions  # noqa: E402

TRAINED = {"brats_whole": "curriculum", "brats_cubes": "curriculum", "la": "strict"}
"""Row of training_runs.py for each data set."""
TOPS = (1, 3, 5, 10)
SCORES = ("confidence", "uncertainty", "agreement", "combination")
CONTROLS = ("shell", "random")
DRAWS = 5
FIT_VOXELS = 20_000
"""Drawn per case to fit a score's map."""
SURFACE_MM = 2.0
NEAR_MM = 5.0
"""Where the map of a score is fitted, and random balls lie."""
SPEED_CASE = "Brats18_TCIA03_265_1"
"""Of brats_full: 240 x 240 x 155 voxels of 1 mm."""

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchCase:
    """A predicted validation case with its reference."""

    name: str
    task: Task
    sample: ReviewSample
    uncertainty: Volume
    agreement: Volume

    @property
    def found(self) -> Mask:
        found: Mask = self.sample.label > 0
        if self.sample.pseudo_label is not None:
            found = found | (self.sample.pseudo_label > 0)
        return found

    @property
    def spacing(self) -> tuple[float, float, float]:
        x, y, z = self.sample.geometry.spacing
        return z, y, x

    def near(self) -> Mask:
        return distance_to(self.found, self.spacing, NEAR_MM) <= NEAR_MM

    def features(self) -> NDArray[np.float64]:
        """Return what the combination is made of, (4, D, H, W), logit of the doubt first."""
        sample = self.sample
        doubt = np.clip(1 - sample.confidence.astype(np.float64), 0.005, 0.995)
        differs = np.zeros(doubt.shape)
        if sample.pseudo_label is not None:
            differs = (sample.pseudo_label != sample.label).astype(np.float64)
        return np.stack([logit(doubt), 1 - self.agreement, self.uncertainty, differs])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", action="append", choices=sorted(TRAINED), required=True)
    parser.add_argument("--run", action="append", type=Path, default=[])
    parser.add_argument("--as", dest="names", action="append", default=[], metavar="NAME")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "benchmarks")
    arguments = parser.parse_args()
    if arguments.run and len(arguments.run) != len(arguments.dataset):
        parser.error("give one --run for each --dataset, or none")
    if arguments.names and len(arguments.names) != len(arguments.run):
        parser.error("give one --as for each --run, or none")
    for number, dataset in enumerate(arguments.dataset):
        name = arguments.names[number] if arguments.names else dataset
        run = arguments.run[number] if arguments.run else _trained(dataset, arguments)
        keep(_measure(name, _cases(dataset, name, run, arguments)))
        if name == "brats_whole":
            keep(_speed(run, arguments))
    return 0


def _trained(dataset: str, arguments: argparse.Namespace) -> Path:
    """Train the data set's run, or find it finished, and return it."""
    iterations = training_runs.DATASETS[dataset].iterations
    row = TRAINED[dataset]
    words = ["--dataset", dataset, "--row", row, "--jobs", "1", "--threads", "2"]
    words += ["--data", str(arguments.data), "--work", str(arguments.work)]
    former, sys.argv = sys.argv, [sys.argv[0], *words]
    try:
        if training_runs.main():
            raise SystemExit(f"{dataset}: the training failed")
    finally:
        sys.argv = former
    return Path(arguments.work) / dataset / f"{row}-{iterations}-seed0" / "run"


def _measure(dataset: str, cases: Sequence[BenchCase]) -> list[dict[str, Any]]:
    cases = [one for one in cases if one.sample.wrong.any()]
    by_score: dict[str, list[dict[str, float]]] = {
        name: [{} for _ in cases] for name in (*SCORES, *CONTROLS)
    }
    folds = min(5, len(cases))
    for fold in range(folds):
        others = [one for number, one in enumerate(cases) if number % folds != fold]
        for score in SCORES:
            options, make = _fitted(score, others)
            for number in range(fold, len(cases), folds):
                figures, controls = _judge(cases[number], make, options, score == "confidence")
                by_score[score][number] = figures
                for name, own in controls.items():
                    by_score[name][number] = own
        print(f"{dataset}: part {fold + 1} of {folds} done", flush=True)
    before = [_dice(one, one.sample.label) for one in cases]
    rows = [
        row(f"{dataset}.cases", len(cases), "cases"),
        row(f"{dataset}.dice_before", np.mean(before), "Dice"),
        row(f"{dataset}.error_ml", np.mean([_error_ml(one) for one in cases]), "mL"),
    ]
    for score, figures in by_score.items():
        for name in figures[0]:
            values = [one[name] for one in figures if np.isfinite(one[name])]
            rows.append(row(f"{dataset}.{name}.{score}", np.mean(values), _unit(name)))
    best = np.array([one["top5_error_share"] for one in by_score["confidence"]])
    rows += _interval(f"{dataset}.top5_error_share.confidence", best)
    for other in ("shell", "combination"):
        there = np.array([one["top5_error_share"] for one in by_score[other]])
        name = f"{dataset}.top5_error_share.confidence_minus_{other}"
        rows.append(row(name, (best - there).mean(), "of wrong voxels"))
        rows += _interval(name, best - there)
    return rows


def _cases(dataset: str, name: str, run: Path, arguments: argparse.Namespace) -> list[BenchCase]:
    """Predict the run's validation cases unless that is done, and read them."""
    package = read_package(run / "models" / "student")
    ids = read_json(run / "run.json")["split"]["validation"]
    folder = arguments.data / training_runs.DATASETS[dataset].folder
    out = arguments.work / "review" / name
    references = {
        case.id: case.label
        for case in discover(folder, package.task, check_content=False, label_ids=()).cases
    }
    cases = []
    for case_id in ids:
        _predict(folder / case_id, out, case_id, run, package.sha256)
        label = references[case_id]
        assert label is not None
        cases.append(_read(out / case_id, case_id, package.task, label))
    return cases


def _predict(case: Path, out: Path, name: str, run: Path, sha256: str) -> None:
    file = out / name / "case.json"
    if file.is_file() and read_json(file)["model_sha256"] == sha256:
        return
    words = ["predict", "--model", str(run), "--case", str(case), "--out", str(out)]
    if command([*words, "--maps", "all", "--device", "cpu"]):
        raise SystemExit(f"{case} could not be predicted")


def _read(folder: Path, name: str, task: Task, reference: ImageSource) -> BenchCase:
    def classes(source: ImageSource) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = sitk.GetArrayFromImage(read_label(source, task))
        return found

    def path(suffix: str) -> ImageSource:
        return ImageSource(path=folder / f"{name}_{suffix}.nii.gz")

    def scalars(suffix: str) -> Volume:
        found: Volume = sitk.GetArrayFromImage(read_image(path(suffix))).astype(np.float32)
        return found

    return BenchCase(
        name=name,
        task=task,
        sample=ReviewSample(
            label=classes(path("label")),
            reference=classes(reference),
            confidence=scalars("confidence"),
            second=classes(path("second")),
            pseudo_label=classes(path("pseudolabel")),
            geometry=geometry_of(read_image(path("label"))),
            class_names=tuple(one.name for one in task.classes),
        ),
        uncertainty=scalars("uncertainty"),
        agreement=scalars("agreement"),
    )


def _fitted(
    score: str, cases: Sequence[BenchCase]
) -> tuple[RegionOptions, Callable[[BenchCase], ReviewSample]]:
    """Return options and how a case's sample is made, both fitted on `cases`."""
    raw = _raw_score(score, cases)
    drawn = [_drawn(one) for one in cases]
    values = np.concatenate([raw(one)[here] for one, here in zip(cases, drawn, strict=True)])
    right = np.concatenate(
        [~one.sample.wrong[here] for one, here in zip(cases, drawn, strict=True)]
    )
    # Of the trust, which grows with the share of right labels.
    knots, accuracy = fit_map(-values, right)

    def make(case: BenchCase) -> ReviewSample:
        confidence = np.interp(-raw(case), knots, accuracy).astype(np.float32)
        # Outside the mask nothing is in doubt, whatever the score.
        confidence[case.sample.confidence >= 1] = 1
        return dataclasses.replace(case.sample, confidence=confidence)

    by_name = {one.name: one for one in cases}
    chosen = [by_name[name] for name in chosen_cases(list(by_name))]
    return fitted_options([make(one) for one in chosen]), make


def _raw_score(
    score: str, cases: Sequence[BenchCase]
) -> Callable[[BenchCase], NDArray[np.float64]]:
    if score == "confidence":
        return lambda case: 1 - case.sample.confidence.astype(np.float64)
    if score == "uncertainty":
        return lambda case: case.uncertainty.astype(np.float64)
    if score == "agreement":
        return lambda case: 1 - case.agreement.astype(np.float64)
    weights = _logistic(cases)

    def combined(case: BenchCase) -> NDArray[np.float64]:
        values = np.tensordot(weights, case.features(), 1)
        found: NDArray[np.float64] = expit(values)
        return found

    return combined


def _logistic(cases: Sequence[BenchCase]) -> NDArray[np.float64]:
    """Return weights of the features; the constant is left to the monotone map."""
    drawn = [_drawn(one) for one in cases]
    inputs = np.concatenate(
        [one.features()[:, here].T for one, here in zip(cases, drawn, strict=True)]
    )
    wrong = np.concatenate([one.sample.wrong[here] for one, here in zip(cases, drawn, strict=True)])
    centre, spread = inputs.mean(0), inputs.std(0) + 1e-9
    scaled = np.column_stack([np.ones(len(inputs)), (inputs - centre) / spread])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        values = scaled @ weights
        error = np.mean(np.logaddexp(0, values) - wrong * values)
        slope = scaled.T @ (expit(values) - wrong) / len(values)
        return float(error + 1e-4 * weights @ weights), slope + 2e-4 * weights

    found: NDArray[np.float64] = minimize(loss, np.zeros(scaled.shape[1]), jac=True).x
    return found[1:] / spread


def _drawn(case: BenchCase) -> Mask:
    """Return some voxels near to what was found or should have been."""
    zone = case.near() | (distance_to(case.sample.reference > 0, case.spacing, NEAR_MM) <= NEAR_MM)
    places = np.flatnonzero(zone & (case.sample.confidence < 1))
    draw = np.random.default_rng(0)
    if len(places) > FIT_VOXELS:
        places = draw.choice(places, FIT_VOXELS, replace=False)
    chosen = np.zeros(zone.size, bool)
    chosen[places] = True
    return chosen.reshape(zone.shape)


def _judge(
    case: BenchCase,
    make: Callable[[BenchCase], ReviewSample],
    options: RegionOptions,
    with_controls: bool,
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    sample = make(case)
    found = find_regions(
        label=sample.label,
        confidence=sample.confidence,
        second=sample.second,
        pseudo_label=sample.pseudo_label,
        geometry=sample.geometry,
        class_names=sample.class_names,
        options=options,
    )
    surface = _surface_errors(case)
    figures: dict[str, float] = {
        "regions": len(found.regions),
        "grow": options.grow,
        "near_mm": options.near_mm,
        "reach_mm": options.reach_mm,
        "far": options.far,
    }
    controls: dict[str, dict[str, float]] = {name: {} for name in CONTROLS} if with_controls else {}
    borders = _border_distance(case) if with_controls else None
    for top in TOPS:
        inside = (found.map > 0) & (found.map <= top)
        figures |= _held(case, inside, surface, top)
        if borders is None:
            continue
        nearest = np.zeros(inside.size, bool)
        nearest[np.argsort(borders, axis=None, kind="stable")[: int(inside.sum())]] = True
        controls["shell"] |= _held(case, nearest.reshape(inside.shape), surface, top)
        sizes = np.bincount(found.map[inside], minlength=top + 1)[1:]
        draws = [_held(case, _balls(case, sizes, seed), surface, top) for seed in range(DRAWS)]
        controls["random"] |= {
            name: float(np.mean([one[name] for one in draws])) for name in draws[0]
        }
    wrong = sample.wrong
    left = wrong & ~((found.map > 0) & (found.map <= 5))
    total = wrong.sum()
    listed = found.map > 0
    far = ~case.near()
    figures["left.in_later_regions"] = float((left & listed).sum() / total)
    figures["left.far_from_everything_found"] = float((left & ~listed & far).sum() / total)
    figures["left.near_but_confident"] = float((left & ~listed & ~far).sum() / total)
    return figures, controls


def _held(case: BenchCase, inside: Mask, surface: Mask, top: int) -> dict[str, float]:
    wrong = case.sample.wrong
    corrected = np.where(inside, case.sample.reference, case.sample.label)
    errors = int(surface.sum())
    return {
        f"top{top}_error_share": float((wrong & inside).sum() / wrong.sum()),
        f"top{top}_surface_share": float((surface & inside).sum() / errors) if errors else np.nan,
        f"top{top}_volume_to_error": float(inside.sum() / wrong.sum()),
        f"top{top}_dice_after": _dice(case, corrected),
    }


def _surface_errors(case: BenchCase) -> Mask:
    """Return the surface voxels, of either map, too far from the other's surface."""
    errors = np.zeros(case.sample.label.shape, bool)
    for target in case.task.headline_targets:
        classes = case.task.targets[target]
        surfaces = [
            _surface(np.isin(one, classes)) for one in (case.sample.label, case.sample.reference)
        ]
        for own, other in itertools.permutations(surfaces):
            if not own.any():
                continue
            if not other.any():
                errors |= own
                continue
            errors |= own & (distance_transform_edt(~other, sampling=case.spacing) > SURFACE_MM)
    return errors


def _surface(mask: Mask) -> Mask:
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis, step in itertools.product(range(3), (-1, 1)):
        inner &= np.roll(padded, step, axis)
    found: Mask = (padded & ~inner)[1:-1, 1:-1, 1:-1]
    return found


def _border_distance(case: BenchCase) -> NDArray[np.float64]:
    """Return each voxel's distance to a border between two classes of the label map, mm.

    Measured from the voxels on both sides of it; equal distances in random order.
    """
    label = case.sample.label
    sides = np.zeros(label.shape, bool)
    for axis in range(3):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(0, -1), slice(1, None)
        differs = label[tuple(low)] != label[tuple(high)]
        sides[tuple(low)] |= differs
        sides[tuple(high)] |= differs
    # What lies outside the mask is known to be background; no reviewer would look there.
    outside = case.sample.confidence >= 1
    distance = distance_transform_edt(~sides, sampling=case.spacing)
    draw = np.random.default_rng(0)
    found: NDArray[np.float64] = distance + 1e-6 * draw.random(label.shape) + 1e6 * outside
    return found


def _balls(case: BenchCase, sizes: Sequence[int], seed: int) -> Mask:
    """Return balls of these numbers of voxels at random places near what was found."""
    draw = np.random.default_rng(seed)
    zone = np.argwhere(case.near() & (case.sample.confidence < 1))
    places = zone * np.asarray(case.spacing)
    free = np.ones(len(zone), bool)
    inside = np.zeros(case.sample.label.shape, bool)
    for size in sizes:
        left = np.flatnonzero(free)
        if not size or not left.size:
            continue
        centre = places[draw.choice(left)]
        distance = ((places[left] - centre) ** 2).sum(1)
        taken = left[np.argsort(distance, kind="stable")[:size]]
        free[taken] = False
        inside[tuple(zone[taken].T)] = True
    return inside


def _dice(case: BenchCase, label: NDArray[np.uint8]) -> float:
    dice = dice_of_targets(label.astype(np.uint8), case.sample.reference, case.task)
    return float(np.mean([dice[target] for target in case.task.headline_targets]))


def _error_ml(case: BenchCase) -> float:
    return float(case.sample.wrong.sum() * case.sample.geometry.voxel_volume_mm3 / 1000)


def _speed(run: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return how long the search takes in a whole brain at 1 mm, on one core."""
    package = load_model(str(run))
    out = arguments.work / "review" / "brats_full"
    folder = arguments.data / "brats_full" / "cases" / SPEED_CASE
    _predict(folder, out, SPEED_CASE, run, package.sha256)
    case = _read(
        out / SPEED_CASE,
        SPEED_CASE,
        package.task,
        ImageSource(path=folder / f"{SPEED_CASE}_seg.nii.gz"),
    )
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    walls, cores = [], []
    for _ in range(5):
        wall, core = time.perf_counter(), time.process_time()
        found = find_regions(
            label=case.sample.label,
            confidence=case.sample.confidence,
            agreement=case.agreement,
            second=case.sample.second,
            pseudo_label=case.sample.pseudo_label,
            geometry=case.sample.geometry,
            class_names=case.sample.class_names,
        )
        walls.append(time.perf_counter() - wall)
        cores.append(time.process_time() - core)
    return [
        row("brats_full.find_regions.wall", min(walls), "s"),
        row("brats_full.find_regions.core", min(cores), "s"),
        row("brats_full.find_regions.load", os.getloadavg()[0], "processes"),
        row("brats_full.find_regions.regions", len(found.regions), "regions"),
    ]


def _interval(name: str, values: NDArray[np.float64]) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    means = draw.choice(values, (10_000, len(values))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return [row(f"{name}.low", low, "share"), row(f"{name}.high", high, "share")]


def _unit(name: str) -> str:
    for end, unit in {
        "error_share": "of wrong voxels",
        "surface_share": "of surface errors over 2 mm",
        "volume_to_error": "volumes of all errors",
        "dice_after": "Dice",
        "regions": "regions",
        "grow": "doubt",
        "_mm": "mm",
        "far": "of the doubt",
    }.items():
        if name.endswith(end) and not name.startswith("left"):
            return unit
    return "of wrong voxels"


def row(name: str, value: float, unit: str, ratio_to: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(float(value), 4),
        "unit": unit,
        "ratio_to": ratio_to,
        "machine": f"{os.cpu_count()} cores {platform.machine()}",
        "date": date.today().isoformat(),
    }


def keep(rows: list[dict[str, Any]]) -> None:
    """Put rows into the results, in place of former ones of the same name."""
    former = read_json(RESULTS)["measurements"] if RESULTS.is_file() else []
    names = {one["name"] for one in rows}
    measurements = [one for one in former if one["name"] not in names] + rows
    RESULTS.parent.mkdir(exist_ok=True)
    write_json(RESULTS, {"measurements": measurements})
    _print(rows)


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows as a table of scores, and what does not fit in it as lines."""
    values = {one["name"]: one["value"] for one in rows}
    datasets = sorted({name.split(".")[0] for name in values})
    names = (*SCORES, *CONTROLS)
    for dataset in datasets:
        kinds = [
            f"top{top}_{kind}"
            for kind in ("error_share", "surface_share", "volume_to_error", "dice_after")
            for top in TOPS
        ] + ["regions"]
        if f"{dataset}.regions.confidence" not in values:
            continue
        print(f"\n{dataset:<24}" + "".join(f"{name:>13}" for name in names))
        for kind in kinds:
            cells = [values.pop(f"{dataset}.{kind}.{name}", None) for name in names]
            shown = "".join(f"{'' if one is None else f'{one:.3f}':>13}" for one in cells)
            print(f"{kind:<24}{shown}")
    for name, value in values.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    sys.exit(main())
