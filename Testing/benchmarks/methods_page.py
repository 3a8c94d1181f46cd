"""Write the tables of docs/benchmarks.md from results/*.json, between its comments.

python Testing/benchmarks/methods_page.py
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from compare_methods import ITERATIONS, LONG, SHORT, rows
from training_rows import RESULTS, ROOT

from SemiSupSegLib.evaluation.intervals import bootstrap_mean
from SemiSupSegLib.files import read_json, replacing

PAGE = ROOT / "docs" / "benchmarks.md"
NOTHING = ("No run has finished yet.",)
USES = {
    "image": "the estimates judge how a mask fits the image",
    "order": "the image tells the order of masks, the values are hardly nearer with it",
    "shape": "a shape prior",
    "unknown": "too few masks to tell",
}
ORDERS = {
    "": ("confidence", "order_random"),
    "order_random": ("chance", None),
    "order_oracle": ("true Dice", "order_random"),
    "rank_quality": ("a quality network", "rank_quality_random"),
    "rank_quality_random": ("chance, with that network", None),
    "rank_quality_oracle": ("true Dice, with that network", "rank_quality_random"),
}
"""Variants of the curriculum: what ranks the cases, and the variant that it must beat."""
METRICS = (("ravd", "RAVD"), ("hd95_mm", "HD95, mm"), ("assd_mm", "ASSD, mm"))


def main() -> int:
    """Fill every table that the page has a place for."""
    runs = [one for one in read_json(RESULTS / "runs.json")["runs"] if "passes_per_update" in one]
    text = PAGE.read_text(encoding="utf-8")
    for kind, budgets in (("methods", ITERATIONS), ("short", SHORT), ("long", LONG)):
        for name, iterations in budgets.items():
            own = [
                one for one in runs if one["dataset"] == name and one["iterations"] == iterations
            ]
            text = filled(text, f"{kind} {name}", table_of(name, own) if own else NOTHING)
    name = "brats_cubes"
    own = [one for one in runs if one["dataset"] == name and one["iterations"] == ITERATIONS[name]]
    text = filled(text, f"orders {name}", order_table(own))
    file = RESULTS / "quality_network.json"
    text = filled(text, "quality", quality_tables(file) if file.is_file() else NOTHING)
    with replacing(PAGE) as stream:
        stream.write(text.encode())
    return 0


def filled(text: str, name: str, lines: Sequence[str]) -> str:
    """Return the page with lines between the comments of a name, if it has these."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    place = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return place.sub(lambda _: "\n".join([begin, *lines, end]), text)


def table_of(dataset: str, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a data set's table, the best mean first."""
    by_row: dict[str, dict[tuple[str, str], list[Mapping[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    known = {(row.method, row.variant): name for name, row in rows().items()}
    for one in runs:
        name = known.get((one["method"], one["variant"]))
        if name is not None:
            by_row[name][one["network"], one["checkpoint"]].append(one)
    students = {name: kinds["student", "last"] for name, kinds in by_row.items()}
    students = {name: own for name, own in students.items() if own}
    targets = list(next(iter(students.values()))[0]["dice"])
    base = students.get("supervised")
    lines = [
        f"{runs[0]['iterations']:,} updates a run.",
        "",
        "| method | seeds | "
        + " | ".join(targets)
        + (" | mean" if len(targets) > 1 else "")
        + " | over supervised | best on validation | raw | teacher | ensemble | passes | CPU s |",
        "|---|" + "---:|" * (len(targets) + (len(targets) > 1) + 8),
    ]
    order = sorted(students, key=lambda name: -_mean(students[name]))
    for name in order:
        own, kinds = students[name], by_row[name]
        cells = [_spread([one["dice"][target] for one in own]) for target in targets]
        if len(targets) > 1:
            cells.append(f"**{_spread([one['mean'] for one in own])}**")
        others = [
            _spread([one["mean"] for one in kinds[kind]]) if kinds[kind] else ""
            for kind in (
                ("student", "best_validation"),
                ("student_raw", "last"),
                ("teacher", "last"),
                ("ensemble", "last"),
            )
        ]
        gain = "" if base is None or name == "supervised" else _gain(own, base)
        lines.append(
            f"| {name} | {len(own)} | {' | '.join(cells)} | {gain} | {' | '.join(others)} | "
            f"{np.mean([one['passes_per_update'] for one in own]):.0f} | "
            f"{_processor_seconds(own)} |"
        )
    networks = sorted({one["backbone"] for own in students.values() for one in own})
    lines += ["", f"Networks: {'; '.join(networks)}."]
    if dataset == "brats_cubes_flair":
        lines += ["", *_four_metrics(students, targets[0])]
    return lines


def order_table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a table: the curriculum with cases in different orders, same seeds."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for one in runs:
        if one["method"] == "curriculum" and one["checkpoint"] == "last":
            found[one["variant"], one["network"]].append(one)
    known = [found[variant, "student"] for variant in ORDERS if found[variant, "student"]]
    seeds = set.intersection(*({one["seed"] for one in own} for own in known)) if known else set()
    found = defaultdict(
        list,
        {kind: [one for one in own if one["seed"] in seeds] for kind, own in found.items()},
    )
    lines = [
        "| ranked by | seeds | its teacher | student | over chance |",
        "|---|" + "---:|" * 4,
    ]
    for variant, (words, control) in ORDERS.items():
        students, teachers = found[variant, "student"], found[variant, "teacher"]
        if not students:
            continue
        gain = _gain(students, found[control, "student"]) if control else ""
        lines.append(
            f"| {words} | {len(students)} | {_spread([one['mean'] for one in teachers])} | "
            f"{_spread([one['mean'] for one in students])} | {gain} |"
        )
    return lines


def _processor_seconds(runs: Sequence[Mapping[str, Any]]) -> str:
    known = [one["processor_seconds"] for one in runs if one.get("processor_seconds")]
    return f"{np.mean(known):.0f}" if known else ""


def quality_tables(file: Path) -> list[str]:
    """Return the lines of a table for each data set and row that estimates were judged in."""
    groups: dict[tuple[str, str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for one in read_json(file)["runs"]:
        groups[one["dataset"], one["row"], one["iterations"]].append(one)
    lines: list[str] = []
    for (dataset, row, iterations), runs in sorted(groups.items()):
        seeds = ", ".join(str(one["seed"]) for one in runs)
        lines += [
            *([""] if lines else []),
            f"`{row}` on {dataset}, {iterations:,} updates, seeds: {seeds}; masks of "
            f"{runs[0]['cases']} validation cases.",
            "",
            "| masks of | class | masks | r | MAE | bias | r, blank | MAE, blank "
            "| MAE, other image | MAE, noise | MAE, mean Dice | MAE, shape | MAE, own mean |",
            "|---|---|" + "---:|" * 11,
            *_quality_rows(runs),
            "",
        ]
        for use in dict.fromkeys(one["use"] for one in runs):
            of = [str(one["seed"]) for one in runs if one["use"] == use]
            lines.append(f"By the rule below (seed {', '.join(of)}): {USES[use]}.")
        lines.append(f"Network: {'; '.join(sorted({one['network'] for one in runs}))}.")
    return lines


def _quality_rows(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for network, by_class in runs[0]["figures"].items():
        for name in by_class:
            own = [one["figures"][network][name] for one in runs]
            blind = {
                kind: [one["without_image"][kind] for one in own if kind in one["without_image"]]
                for kind in ("mean", "other", "noise")
            }
            cells = [
                _known([one["pearson"] for one in own], 2),
                f"**{_known([one['mae'] for one in own])}**",
                _known([one["bias"] for one in own], sign="+"),
                _known([one["pearson"] for one in blind["mean"]], 2),
                *(_known([one["mae"] for one in blind[kind]]) for kind in blind),
                *(
                    _known([one["guesses"].get(kind) for one in own])
                    for kind in ("mean_dice", "shape", "own_mean")
                ),
            ]
            masks = sum(one["n"] for one in own)
            lines.append(f"| {network} | {name} | {masks} | {' | '.join(cells)} |")
    return lines


def _known(values: Sequence[float | None], digits: int = 3, sign: str = "") -> str:
    return _spread([one for one in values if one is not None], digits, sign)


def _four_metrics(students: Mapping[str, Sequence[Mapping[str, Any]]], target: str) -> list[str]:
    lines = [
        "| method | Dice | " + " | ".join(title for _, title in METRICS) + " |",
        "|---|" + "---:|" * (1 + len(METRICS)),
    ]
    for name, own in students.items():
        cells = [_spread([one["dice"][target] for one in own])]
        for metric, _ in METRICS:
            values = [one["metrics"][target].get(metric) for one in own]
            cells.append(_spread([one for one in values if one is not None], 2))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _mean(lines: Sequence[Mapping[str, Any]]) -> float:
    return float(np.mean([one["mean"] for one in lines]))


def _spread(values: Sequence[float], digits: int = 3, sign: str = "") -> str:
    if not values:
        return ""
    text = f"{np.mean(values):{sign}.{digits}f}"
    return text + (f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else "")


def _gain(own: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]]) -> str:
    """Return the mean difference to the baseline's same seeds, with a 95 % interval over cases."""
    by_seed = {one["seed"]: _per_case(one) for one in base}
    pairs = [_per_case(one) - by_seed[one["seed"]] for one in own if one["seed"] in by_seed]
    if not pairs:
        return ""
    found = bootstrap_mean(np.mean(pairs, axis=0))
    noise = "" if found.low is None else f" ({found.low:+.3f} to {found.high:+.3f})"
    return f"{found.mean:+.3f}{noise}"


def _per_case(line: Mapping[str, Any]) -> np.ndarray:
    """Return each judged case's Dice, the mean over its targets."""
    order = np.argsort(line["case_ids"])
    return np.mean([np.array(values)[order] for values in line["cases"].values()], axis=0)


if __name__ == "__main__":
    sys.exit(main())
