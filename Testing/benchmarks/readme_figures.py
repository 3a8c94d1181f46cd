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
from compare_methods import ITERATIONS, LONG, SHORT
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

COMPARED = {*ITERATIONS.items(), *SHORT.items(), *LONG.items()} - {
    ("brats_whole", ITERATIONS["brats_whole"])
}
"""Data sets and updates of compare_methods.py; its runs of whole brains are the same as here."""

SPEED: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "scan",
        "Finding and checking cases",
        {
            "headers_2000_cases": "the headers of 2,000 cases: {0} (limit 60 s)",
            "first_check_2000_cases": "the first check of their content: {0}",
            "second_check_2000_cases": "a second scan: {0} (limit 60 s)",
            "first_check_whole_brains": "the first check of whole brains: {0}",
        },
    ),
    (
        "predict",
        "Segmenting a whole brain (240 by 240 by 155 voxels, four channels), all maps",
        {
            "w16.patch96.threads2.command.wall": "base width 16, the whole command: {0}",
            "w16.patch96.threads2.command.peak_memory": "base width 16, peak memory: {0}",
            "w16.patch96.threads2.first_window_to_maps.ratio": (
                "base width 16, from the first window to the maps: {value:.3f} times the bare "
                "passes of the network (aim 1.15)"
            ),
            "w8_lite.patch96.threads2.command.wall": (
                "CPU default (w=8 lite), the whole command: {0} (aim 20 s)"
            ),
            "w8_lite.patch96.threads2.command.peak_memory": "CPU default, peak memory: {0}",
            "w8_lite.patch96.threads2.first_window_to_maps.ratio": (
                "CPU default, from the first window to the maps: {value:.3f} times the bare passes"
            ),
        },
    ),
    (
        "trainer",
        "The trainer beside a bare loop of the same network, loss and batch",
        {
            "trainer.step.threads_1": "a step on one thread: {value:.2f} times as long (aim 1.05)",
            "trainer.step.threads_2": "a step on two threads: {value:.2f} times as long (aim 1.05)",
            "trainer.waiting_for_data.threads_2": (
                "waiting for data: {value:.1%} of a step (aim under 5 %)"
            ),
        },
    ),
    (
        "panel",
        "The panel, from Apply to overlays in the scene, 240 by 240 by 155 voxels, four channels",
        {
            "panel.first.beside_worker": "beside the worker, first case: {0} (bound 1.5 s)",
            "panel.warm.beside_worker": "beside the worker, next cases: {0} (bound 1.5 s)",
            "panel.warm.calls_over_50_ms": "calls that hold the window for over 50 ms: {value:.0f}",
            "panel.warm.longest_call": "the longest of them: {0}",
            "panel.review.go_to": "Review, going to a region: at most {0}",
            "panel.review.relabel": "Review, relabelling one: at most {0}",
            "panel.review.stroke_to_disk": "Review, a stroke to the disk: at most {0}",
            "panel.review.fix": (
                "Review, opening the Segment Editor (made the first time): at most {0}"
            ),
        },
    ),
)
"""Name of a file of results; title; its measurements that are quoted, in words."""


def main() -> int:
    lines = [*_training_lines(), *_review_lines(), *_measurement_lines()]
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
        # Networks before averaging and ensembles, and whole comparisons, stand in
        # docs/benchmarks.md.
        own = [
            one
            for one in runs
            if one["dataset"] == dataset
            and (dataset, one["iterations"]) not in COMPARED
            and one["network"] in ("student", "teacher")
        ]
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
            "All methods side by side: [docs/benchmarks.md](docs/benchmarks.md).",
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


def _review_lines() -> list[str]:
    """Return what the five worst review regions hold, beside what as large a shell holds."""
    file = RESULTS / "review.json"
    if not file.is_file():
        return []
    measurements = read_json(file)["measurements"]
    values = {one["name"]: one["value"] for one in measurements}
    lines = [
        "",
        "**Do the review regions hold the errors?** The five worst regions of each validation case",
        f"({measurements[0]['machine']}; everything fitted is judged on other cases):",
        "",
        "| | cases | share of the wrong voxels | in a shell as large | in random balls "
        "| volume, in errors | Dice, corrected there |",
        "|---|---|---|---|---|---|---|",
    ]
    more = {"brats_whole_unlabelled": "More whole brains, left out of training"}
    for name, title in (TITLES | more).items():
        if f"{name}.cases" not in values:
            continue
        share = values[f"{name}.top5_error_share.confidence"]
        low, high = (values[f"{name}.top5_error_share.confidence.{one}"] for one in ("low", "high"))
        lines.append(
            f"| {title.partition(' (')[0]} | {values[f'{name}.cases']:.0f} "
            f"| {share:.2f} (95 % interval {low:.2f} to {high:.2f}) "
            f"| {values[f'{name}.top5_error_share.shell']:.2f} "
            f"| {values[f'{name}.top5_error_share.random']:.2f} "
            f"| {values[f'{name}.top5_volume_to_error.confidence']:.1f} times "
            f"| {values[f'{name}.dice_before']:.3f} to "
            f"{values[f'{name}.top5_dice_after.confidence']:.3f} |"
        )
    return lines


def _measurement_lines() -> list[str]:
    lines = []
    for name, title, said in SPEED:
        file = RESULTS / f"{name}.json"
        if not file.is_file():
            continue
        measured = {one["name"]: one for one in read_json(file)["measurements"]}
        if not measured:
            continue
        lines += ["", f"**{title}** ({next(iter(measured.values()))['machine']}):", ""]
        for key, words in said.items():
            if key in measured:
                value, unit = measured[key]["value"], measured[key]["unit"]
                lines.append(f"* {words.format(f'{value:.3g} {unit}'.strip(), value=value)}")
    lines += [
        "",
        "Each figure here is written by `Testing/benchmarks/readme_figures.py` from JSON files",
        "beside it, and each of those by a program beside them.",
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
