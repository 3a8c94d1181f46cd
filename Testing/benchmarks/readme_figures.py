"""Write the README's figures from results/*.json, between its two `figures` comments.

python Testing/benchmarks/readme_figures.py
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.evaluation.intervals import Interval, bootstrap_mean  # noqa: E402 (path is set)
from SemiSupSegLib.files import read_json, replacing  # noqa: E402

TITLES = {
    "brats_cubes": "Brain tumour cubes (32³, four MRI channels; 60 validation patients)",
    "brats_whole": "Whole brains at 1.5 mm (3 validation patients: the noise is large)",
    "la": "Left atrium at half resolution (12 validation scans)",
}


def main() -> int:
    lines = [*_training_lines(), *_measurement_lines()]
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    body = "\n".join(lines)
    with replacing(README, "w") as stream:
        stream.write(f"{before}{BEGIN}\n{body}\n{END}{after}")
    print(f"{len(lines)} lines written into {README.name}")
    return 0


def _training_lines() -> list[str]:
    file = RESULTS / "runs.json"
    if not file.is_file():
        return []
    lines = []
    runs = read_json(file)["runs"]
    for dataset, title in TITLES.items():
        own = [one for one in runs if one["dataset"] == dataset]
        if not own:
            continue
        lines += [
            "",
            f"**{title}**, Dice on validation, last checkpoint, same light network (w=8 lite):",
        ]
        for iterations in sorted({one["iterations"] for one in own}, reverse=True):
            budget = [one for one in own if one["iterations"] == iterations]
            whole = dataset == "brats_whole"
            lines += [
                *_table(budget, iterations, with_volumes=whole),
                *_control_line(budget),
                *_gain_lines(budget),
            ]
    if lines:
        lines += [
            "",
            "±: standard deviation between seeds. Beside the default: difference from `curriculum`",
            "with the same seeds, with its paired 95 % interval over the cases. Copy-paste among",
            "labelled cases needs no unlabelled one: `supervised copy paste` shows what it brings.",
            "The controls' runs were copies of the default's, from its teacher and scores on;",
            "`student scratch` was run from the start, `rank mean all` from the teacher on.",
            "`copy paste` on the left atrium: the preset as it was, with patches of 48, 64, 64;",
            "`strict`: only what is trusted most, nothing where teacher and student differ.",
        ]
    return lines


def _table(
    runs: list[Mapping[str, Any]], iterations: int, *, with_volumes: bool = False
) -> list[str]:
    """Return the rows of one data set and number of updates; volumes are false positives'."""
    targets = list(runs[0]["dice"])
    groups: dict[tuple[int, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for one in runs:
        if one["checkpoint"] == "last":
            name = f"{one['method']} {one['variant']}".strip()
            groups[(one["labels"], name, one["network"])].append(one)
    lines = [
        "",
        f"| {iterations:,} updates | labels | seeds | {' | '.join(targets)} | mean | "
        f"{'false positive mL' if with_volumes else 'beside the default'} |",
        "|---|---|---|" + "---|" * (len(targets) + 2),
    ]
    methods = {(one["method"], one["variant"]) for one in runs}
    for (labels, name, network), group in sorted(groups.items(), key=_order):
        if network == "teacher" and name != "curriculum" and ("curriculum", "") in methods:
            # A control's teacher is the default's.
            continue
        means = [f"{np.mean([one['dice'][target] for one in group]):.3f}" for target in targets]
        values = [one["mean"] for one in group]
        spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
        beside = ""
        if name.startswith("curriculum ") and network == "student":
            beside = _beside_default(runs, name.split(" ", 1)[1])
        if with_volumes:
            beside = f"{np.mean([one['false_positive_ml'] for one in group]):.1f}"
        title = name.replace("_", " ") + (" (its teacher)" if network == "teacher" else "")
        lines.append(
            f"| {title} | {labels} | {len(group)} | {' | '.join(means)} | "
            f"{np.mean(values):.3f}{spread} | {beside} |"
        )
    return lines


def _beside(runs: list[Mapping[str, Any]], variant: str) -> Interval | None:
    """Return a control's difference from the default, paired by case and seed."""
    default = _case_means(runs, "curriculum", "")
    control = _case_means(runs, "curriculum", variant)
    both = sorted(default.keys() & control.keys())
    if not both:
        return None
    return bootstrap_mean(np.mean([control[k] - default[k] for k in both], axis=0).tolist())


def _beside_default(runs: list[Mapping[str, Any]], variant: str) -> str:
    interval = _beside(runs, variant)
    if interval is None:
        return ""
    return f"{interval.mean:+.3f}" + (
        "" if interval.low is None else f" ({interval.low:+.3f} to {interval.high:+.3f})"
    )


def _control_line(runs: list[Mapping[str, Any]]) -> list[str]:
    """Say which controls differ from the default by more than the noise over cases."""
    variants = sorted({one["variant"] for one in runs if one["method"] == "curriculum"} - {""})
    told = {}
    for variant in variants:
        interval = _beside(runs, variant)
        if interval is not None:
            told[variant] = interval
    if not told:
        return []
    differ = [
        f"{variant.replace('_', ' ')} ({interval.mean:+.3f})"
        for variant, interval in told.items()
        if interval.is_outside_noise
    ]
    return [
        "",
        f"* Of {len(told)} controls, {len(differ) or 'none'} "
        + (
            f"differ from the default outside the noise: {', '.join(differ)}."
            if differ
            else "differs from the default outside the noise."
        ),
    ]


def _gain_lines(runs: list[Mapping[str, Any]]) -> list[str]:
    """Return the curriculum's gain over each supervised row, paired by case."""
    # Where the default has not been run, what has been run must not go without its verdict.
    student = _case_means(runs, "curriculum", "") or _case_means(runs, "curriculum", "copy_paste")
    lines = []
    for variant, title in (
        ("", "plain supervised training"),
        ("copy_paste", "supervised training with copy-paste"),
    ):
        other = _case_means(runs, "supervised", variant)
        both = sorted(student.keys() & other.keys())
        for budget in dict.fromkeys(key[:3] for key in both):
            pairs = [key for key in both if key[:3] == budget]
            gains = np.mean([student[key] - other[key] for key in pairs], axis=0)
            interval = bootstrap_mean(gains.tolist())
            noise = (
                f"{interval.n} cases cannot tell a gain from noise"
                if interval.low is None
                else f"paired 95 % interval over {interval.n} cases "
                f"{interval.low:+.3f} to {interval.high:+.3f}, "
                f"{'outside' if interval.is_outside_noise else 'within'} the noise"
            )
            lines.append(
                f"* Student over {title}, {budget[0]} labels, {budget[1]:,} updates, "
                f"{len(pairs)} {'seed' if len(pairs) == 1 else 'seeds'}: "
                f"{interval.mean:+.3f} Dice, {noise}"
            )
    return ["", *lines] if lines else []


def _case_means(
    runs: list[Mapping[str, Any]], method: str, variant: str
) -> dict[tuple[int, int, tuple[str, ...], int], NDArray[np.float64]]:
    """Return each case's mean Dice of the last student, by labels, updates, cases and seed."""
    return {
        (one["labels"], one["iterations"], tuple(one["case_ids"]), one["seed"]): np.mean(
            list(one["cases"].values()), axis=0
        )
        for one in runs
        if (one["method"], one["variant"]) == (method, variant)
        and (one["checkpoint"], one["network"]) == ("last", "student")
    }


def _order(item: tuple[tuple[Any, ...], list[Mapping[str, Any]]]) -> tuple[Any, ...]:
    (labels, *_), group = item
    return labels, float(np.mean([one["mean"] for one in group]))


def _measurement_lines() -> list[str]:
    lines = []
    for name, title in (
        ("scan", "Scanning 2,000 cases"),
        (
            "predict",
            "Segmenting a whole brain (240 by 240 by 155 voxels, four channels), all maps",
        ),
        ("trainer", "The trainer beside the network"),
        ("panel", "From Apply to overlays in the scene, 240 by 240 by 155 voxels, four channels"),
    ):
        file = RESULTS / f"{name}.json"
        if not file.is_file():
            continue
        measurements = read_json(file)["measurements"]
        if not measurements:
            continue
        lines += ["", f"**{title}** ({measurements[0]['machine']}):", ""]
        for one in measurements:
            ratio = one.get("ratio_to")
            is_detail = name == "panel" and not ratio and one["unit"] != "calls"
            if is_detail or ".part." in one["name"] or ".load." in one["name"]:
                continue
            beside = f" (beside {', '.join(ratio) if isinstance(ratio, dict) else ratio})"
            text = f"* {one['name']}: {one['value']:g} {one['unit']}".rstrip()
            lines.append(text + (beside if ratio else ""))
    lines += [
        "",
        "Each figure here is written by `Testing/benchmarks/readme_figures.py` from JSON files",
        "beside it, and each of those by a program beside them.",
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
