"""Write a made-up finished run with every file that a report reads.

    python Testing/data/make_run_folder.py FOLDER

All figures are invented and say nothing about the method; they only have the shape of real ones.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np

from SemiSupSegLib.cases.task import load_task

NETWORKS = ("student", "teacher", "best_validation")
TARGETS = {"necrosis": 0.70, "edema": 0.76, "enhancing": 0.68, "WT": 0.86, "TC": 0.79, "ET": 0.68}
NOISE_OF_RANKINGS = {"self_dice": 0.03, "class_mean": 0.05, "mean_fg": 0.08, "mean_all": 0.2}
FRACTIONS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def make_run_folder(
    run: Path,
    *,
    num_validation: int = 12,
    num_unlabelled: int = 40,
    gain: float = 0.03,
    teacher: bool = True,
    num_stages: int = 6,
    seed: int = 0,
) -> Path:
    """Write a run folder in the format of architecture.md section 6 and return it."""
    random = np.random.default_rng(seed)
    run.mkdir(parents=True, exist_ok=True)
    networks = NETWORKS if teacher else ("student", "best_validation")
    validation = [f"case_{number:03d}" for number in range(100, 100 + num_validation)]
    unlabelled = [f"case_{number:03d}" for number in range(20, 20 + num_unlabelled)]
    write(run / "run.json", config(validation, unlabelled, teacher))
    write(
        run / "state.json",
        {
            "format": "semisupseg-state",
            "version": 1,
            "status": "finished",
            "phase": "student_distil",
            "iteration": 1320,
            "planned": 1320,
            "finished": 1320,
            "seconds_left": 0.0,
            "pid": None,
            "host": "",
            "heartbeat": None,
            "error": None,
        },
    )
    phases = write_metrics(run / "metrics.csv", random, teacher, num_stages)
    write_events(run / "events.jsonl", phases)
    if teacher:
        for stage in range(1, num_stages + 1):
            write_stage(run / "stages" / f"{stage:02d}", stage, unlabelled, random)
    if num_validation:
        write_validation(run / "validation", validation, networks, gain, random)
    return run


def config(validation: list[str], unlabelled: list[str], teacher: bool) -> dict[str, object]:
    network = {"name": "transaspp", "options": {"width": 8, "lite": True}}
    return {
        "format": "semisupseg-run",
        "version": 1,
        "created": "2026-01-02T03:04:05+00:00",
        "task": load_task("brats").to_json(),
        "method": "curriculum" if teacher else "supervised",
        "options": {
            "network": network,
            "optimizer": {"optimizer": "adamw", "rate": 1e-3},
            "lambda_low": 0.1,
            "low_mode": "subtract_clipped",
            "ema": 0.99,
            "fractions": list(FRACTIONS),
        },
        "preset": "fast_check",
        "seed": 7,
        "device": "cpu",
        "iterations": 1320,
        "preparation": {"spacing": [1.0, 1.0, 1.0], "mask": "nonzero", "upper_quantile": 0.999},
        "network": network,
        "training": {"patch_size": None, "validate_every": 100},
        "patch_size": [32, 32, 32],
        "split": {
            "train_labelled": [f"case_{number:03d}" for number in range(8)],
            "train_unlabelled": unlabelled,
            "validation": validation,
        },
        "versions": {
            "SemiSupSeg": "0.1.0",
            "torch": "2.13.0",
            "python": "3.11",
            "numpy": "2.2.6",
        },
        "inputs": {},
        "store": None,
        "command": ["train", "--cases", "cases", "--out", "run", "--preset", "fast_check"],
    }


def write_metrics(
    path: Path, random: np.random.Generator, teacher: bool, num_stages: int
) -> list[tuple[str, int, int]]:
    plan = [("teacher", 600), ("distil", 60)] if teacher else [("supervised", 1320)]
    if teacher:
        plan += [(f"stage_{stage}", 100) for stage in range(1, num_stages + 1)]
        plan += [("student_distil", 60)]
    rows, phases, start = [], [], 0
    for phase, length in plan:
        for iteration in range(start, start + length, 10):
            done = (iteration - start) / length
            loss = 2.1 * np.exp(-3 * done) + 0.5 if "stage" not in phase else 1.3 - iteration / 1900
            terms = {"loss": loss, "supervised": 0.7 * loss, "rate": 1e-3 * (1 - done)}
            if "distil" in phase:
                terms = {"log_variance": 2 * np.exp(-2 * done) + 0.3}
            if "stage" in phase:
                terms |= {"high": 0.25 * loss, "low": 0.4 + 0.1 * done}
            for name, value in terms.items():
                noisy = float(value * random.normal(1, 0.05))
                rows.append([iteration, phase, "step", "", name, noisy, 0.2 * iteration])
            if iteration % 100 == 0 and iteration:
                rows += validations(iteration, phase, done, random)
        start += length
        if "distil" not in phase:
            rows += validations(start, phase, 1.0, random)
        phases.append((phase, start - length, start))
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["iteration", "phase", "kind", "network", "name", "value", "seconds"])
        writer.writerows(rows)
    return phases


def validations(
    iteration: int, phase: str, done: float, random: np.random.Generator
) -> list[list[object]]:
    """Every network is judged in every phase, also before it has learnt anything."""
    staged = phase.startswith(("stage", "student", "supervised"))
    student = max(0.05, 0.3 + 0.51 * (1 - np.exp(-(iteration - 640) / 170))) if staged else 0.02
    levels = {"student": student, "student_raw": 0.98 * student}
    if phase != "supervised":
        levels["teacher"] = 0.76 if staged or "distil" in phase else 0.78 * (1 - np.exp(-4 * done))
    rows: list[list[object]] = []
    for network, level in levels.items():
        spread = 0.0 if network == "teacher" and staged else 0.02
        for name, shift in (("WT", 0.06), ("TC", 0.0), ("ET", -0.06), ("mean", 0.0)):
            value = float(np.clip((level + shift * level) * random.normal(1, spread), 0, 1))
            rows.append(
                [iteration, phase, "validation", network, f"dice.{name}", value, 0.2 * iteration]
            )
    return rows


def write_events(path: Path, phases: list[tuple[str, int, int]]) -> None:
    events: list[dict[str, object]] = [{"t": 0.0, "kind": "started", "iteration": 0}]
    for phase, start, end in phases:
        events.append(
            {
                "t": 0.2 * start,
                "kind": "phase_started",
                "phase": phase,
                "iterations": end - start,
                "iteration": start,
            }
        )
        events.append(
            {
                "t": 0.2 * end,
                "kind": "phase_finished",
                "phase": phase,
                "iteration": end,
                "seconds": 0.2 * (end - start),
            }
        )
    events.append({"t": 50.0, "kind": "warning", "message": "case_021: grid repaired (0.4 voxel)."})
    events.append({"t": 280.0, "kind": "finished", "seconds": 280.0})
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def write_stage(
    folder: Path, stage: int, unlabelled: list[str], random: np.random.Generator
) -> None:
    folder.mkdir(parents=True)
    fraction = FRACTIONS[stage - 1]
    count = max(1, int(fraction * len(unlabelled) + 1e-9))
    order = np.random.default_rng(5)
    confidence = np.sort(order.beta(14, 3, len(unlabelled)))[::-1]
    rows = []
    for rank, case in enumerate(order.permutation(unlabelled)):
        low = 0.02 + 0.25 * (1 - confidence[rank])
        averaged = 0.0 if stage == 1 else 0.3 * low
        share = 0.05 + 0.1 * order.random()
        shares = [1 - low - averaged, averaged, low, share] if rank < count else [""] * 4
        rows.append([case, rank + 1, confidence[rank], int(rank < count), *shares])
    with (folder / "ranking.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            [
                "case",
                "rank",
                "image_confidence",
                "selected",
                "kept_share",
                "averaged_share",
                "low_share",
                "foreground_share",
            ]
        )
        writer.writerows(rows)
    chosen = np.array([row[2] for row in rows if row[3]])
    low = float(np.mean([row[6] for row in rows if row[3]]))
    write(
        folder / "summary.json",
        {
            "stage": stage,
            "fraction": fraction,
            "num_cases": count,
            "seconds": float(20 + 6 * stage + random.random()),
            "high_share": 1 - low,
            "low_share": low,
            "class_shares": {
                name: {"high": share * (1 - doubt), "low": share * doubt}
                for name, share, doubt in (
                    ("background", 0.9, 0.01),
                    ("necrosis", 0.02, 0.3),
                    ("edema", 0.06, 0.15),
                    ("enhancing", 0.02, 0.25),
                )
            },
            "image_confidence": {
                "mean": float(chosen.mean()),
                "sd": float(chosen.std()),
                "min": float(chosen.min()),
                "max": float(chosen.max()),
            },
        },
    )


def write_validation(
    folder: Path,
    cases: list[str],
    networks: tuple[str, ...],
    gain: float,
    random: np.random.Generator,
) -> None:
    (folder / "slices").mkdir(parents=True)
    found: dict[str, object] = {}
    details: dict[str, object] = {}
    order: list[tuple[float, str]] = []
    for case in cases:
        difficulty = random.normal(0, 0.08)
        figures, detail = {}, {}
        for network in networks:
            shift = {"student": gain, "teacher": 0.0, "best_validation": gain + 0.005}[network]
            figures[network] = {
                target: target_figures(level + shift - difficulty + random.normal(0, 0.02))
                for target, level in TARGETS.items()
            }
            detail[network] = {
                "image_confidence": {
                    kind: float(np.clip(0.85 - difficulty + random.normal(0, noise), 0, 1))
                    for kind, noise in NOISE_OF_RANKINGS.items()
                },
                "foreground_share": float(0.1 + 0.05 * random.random()),
                "errors_ml": {
                    "false_positive": float(3 + random.random()),
                    "false_negative": float(5 - 20 * shift + random.random()),
                    "boundary": float(8 + random.random()),
                    "class_confusion": float(4 - 10 * shift + random.random()),
                },
            }
        found[case], details[case] = figures, detail
        student = figures["student"]
        order.append((float(np.mean([student[name]["dice"] for name in ("WT", "TC", "ET")])), case))
    order.sort()
    chosen = {
        "best": order[-1][1],
        "median": order[len(order) // 2][1],
        "worst": order[0][1],
        "high_confidence": order[-1][1],
        "medium_confidence": order[len(order) // 2][1],
        "low_confidence": order[0][1],
    }
    for number, case in enumerate(sorted(set(chosen.values()))):
        write_slice(folder / "slices" / f"{case}.npz", "teacher" in networks, number)
    write(
        folder / "cases.json",
        {
            "format": "semisupseg-validation",
            "version": 1,
            "cases": found,
            "details": details,
            "reliability": {name: reliability() for name in networks if name != "best_validation"},
            "histograms": histograms("teacher" in networks, random),
            "pictures": chosen,
        },
    )


def target_figures(dice: float) -> dict[str, float]:
    dice = float(np.clip(dice, 0.05, 0.98))
    return {
        "dice": dice,
        "iou": dice / (2 - dice),
        "hd95_mm": 40 * (1 - dice) ** 1.5,
        "assd_mm": 8 * (1 - dice) ** 1.4,
        "ravd": 0.4 * (1 - dice),
        "volume_ml": 40.0,
        "reference_volume_ml": 42.0,
        "empty": None,
    }


def reliability() -> dict[str, object]:
    edges = np.linspace(0, 1, 16)
    middle = (edges[1:] + edges[:-1]) / 2

    def bins(accuracy: np.ndarray) -> list[dict[str, float | None]]:
        return [
            {
                "low": edges[number],
                "high": edges[number + 1],
                "count": int(1e5 * mean**6) if mean > 0.25 else 0,
                "confidence": mean if mean > 0.25 else None,
                "accuracy": float(accuracy[number]) if mean > 0.25 else None,
            }
            for number, mean in enumerate(middle)
        ]

    return {
        "num_cases": 12,
        "before": {"ece": 0.078, "bins": bins(middle - 0.09)},
        "after": {"ece": 0.012, "bins": bins(middle + 0.01 * np.sin(9 * middle))},
    }


def histograms(teacher: bool, random: np.random.Generator) -> dict[str, object]:
    edges = np.linspace(0, 1, 41)
    shapes = {"confidence": (9, 1.2), "uncertainty": (1, 6)} | (
        {"agreement": (12, 1)} if teacher else {}
    )
    found = {}
    for name, (a, b) in shapes.items():
        counts, _ = np.histogram(random.beta(a, b, 20000), edges)
        found[name] = {
            "edges": edges.tolist(),
            "shares": (counts / counts.sum()).tolist(),
            "over_0.9": float(counts[36:].sum() / counts.sum()),
        }
    return found


def write_slice(path: Path, teacher: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:44, 0:36]

    def ball(row: float, column: float, radius: float) -> np.ndarray:
        return (rows - row) ** 2 + 1.3 * (columns - column) ** 2 < radius**2

    brain = ball(22, 18, 20)

    def label(shift: float) -> np.ndarray:
        values = np.zeros(rows.shape, np.uint8)
        values[ball(18 + shift, 21, 10 - 0.4 * shift)] = 2
        values[ball(17 + shift, 22, 5.5)] = 3
        values[ball(17, 22 + 0.5 * shift, 3)] = 1
        return values

    truth = label(0)
    image = np.stack(
        [
            brain * (0.6 + 0.2 * np.sin(rows / 5)) + 0.25 * (truth == number) * brain
            for number in (0, 1, 2, 3)
        ]
    ) + 0.05 * random.standard_normal((4, *rows.shape))
    student, other = label(0.7 + seed), label(-1.5)
    doubt = np.clip(0.08 + 0.8 * (student != other) + 0.1 * random.random(rows.shape), 0, 1)
    arrays = {
        "image": image.astype(np.float16),
        "truth": truth,
        "student": student,
        "uncertainty": to_byte(doubt),
        "confidence": to_byte(1 - doubt * 0.8),
        "spacing_mm": np.array([1.2, 1.2], np.float32),
        "index": np.array(20),
    }
    if teacher:
        arrays |= {"teacher": other, "agreement": to_byte(1 - 0.7 * (student != other))}
    np.savez_compressed(path, **arrays)


def to_byte(values: np.ndarray) -> np.ndarray:
    return np.round(200 * values).astype(np.uint8)


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    make_run_folder(Path(sys.argv[1]))
