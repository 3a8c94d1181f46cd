"""How far the run's confidence can be trusted: ranking, calibration, maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from SemiSupSegLib.evaluation.ranking import Correlation, spearman
from SemiSupSegLib.report.blocks import (
    Block,
    Figure,
    Note,
    Section,
    Table,
    count_of,
    number,
    percent,
)
from SemiSupSegLib.report.drawing import (
    INK,
    MUTED,
    STEPS,
    STUDENT,
    TEACHER,
    count_along,
    drawing,
    to_svg,
)
from SemiSupSegLib.report.record import RankedCase, RunRecord

ONE_VALUE = 0.95
"""A map with more of its voxels than this in one bin of its histogram is not informative."""
RHO = "\u03c1"
WHAT_TELLS = {
    "self_dice": "Expected Dice (self_dice)",
    "class_mean": "Mean trust by class (class_mean)",
    "mean_fg": "Mean trust near the foreground (mean_fg)",
    "mean_all": "Mean trust of all voxels (mean_all, the paper's)",
    "pass_dice": "Mean Dice between the passes (pass_dice)",
    "foreground_share": "Share of foreground alone",
}
MAPS = ("confidence", "agreement", "uncertainty")


def doubt_section(record: RunRecord) -> Section:
    """Return image confidence by stage, its ranking, reliability, and the maps' histograms."""
    blocks: list[Block] = []
    if record.stages and any(stage.ranking for stage in record.stages):
        blocks += [_stage_histograms(record), _sorted_curve(record)]
    else:
        blocks.append(
            Note(text="No unlabelled cases were ranked in this run: no image confidence by stage.")
        )
    validation = record.validation or {}
    scatter = _scatter(record, validation)
    reliability = _reliability(validation)
    maps = _map_histograms(validation)
    blocks.append(scatter or Note(text=record.absence("Image confidence against Dice")))
    if scatter:
        blocks.append(_ranking_table(record, validation))
    blocks.append(reliability or Note(text=record.absence("Reliability of the confidence")))
    blocks.append(maps or Note(text=record.absence("Values of the maps")))
    missing = [name for name in MAPS if name not in validation.get("histograms", {})]
    blocks += [Note(text=text) for text in _uninformative(validation)]
    if maps and missing:
        blocks.append(Note(text=_why_missing(missing)))
    return Section(
        id="doubt",
        title="Doubt",
        intro=_what_confidence_is(record),
        blocks=blocks,
    )


def _what_confidence_is(record: RunRecord) -> str:
    """Say what image confidence is in this run, and what it decides."""
    options = record.config["options"]
    kind = options.get("pseudo_labels", {}).get("image_confidence", "self_dice")
    expected = (
        "the Dice that a network expects of its own label map, from its probabilities alone "
        "(self_dice)"
    )
    order = options.get("curriculum", "stages")
    if not record.stages:
        return f"Image confidence is {expected}."
    if kind == "self_dice":
        text = f"Image confidence is {expected}."
    else:
        meant = WHAT_TELLS.get(kind, kind)
        text = (
            f"Image confidence of the unlabelled cases is, in this run: {meant[0].lower()}"
            f"{meant[1:]}. On the validation cases it is {expected}."
        )
    decides = {
        "stages": "It decides which unlabelled cases come first.",
        "reversed": "The cases with the least of it come first in this run.",
    }.get(order, f"It does not decide the order of the cases in this run (curriculum={order}).")
    return f"{text} {decides}"


def _stage_histograms(record: RunRecord) -> Figure:
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    stages = [stage for stage in record.stages if stage.chosen]
    values = [value for stage in stages for value in stage.chosen]
    low, high = min(values), max(values)
    margin = max(0.01, 0.03 * (high - low))
    edges = np.linspace(max(0, low - margin), min(1, high + margin), 25)
    with drawing(0.8 + 0.48 * len(stages), panels=len(stages)) as (figure, axes):
        for panel, (axis, stage) in enumerate(zip(axes, stages, strict=True)):
            color = STEPS[min(panel, len(STEPS) - 1)]
            axis.hist(stage.chosen, edges.tolist(), color=color, linewidth=0)
            axis.set_xlim(edges[0], edges[-1])
            axis.set_ylabel(
                f"stage {stage.number}\nn = {len(stage.chosen)}",
                rotation=0,
                ha="right",
                va="center",
                fontsize=8,
                color=INK,
            )
            axis.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
            axis.grid(visible=False, axis="y")
            if axis is not axes[-1]:
                axis.tick_params(axis="x", labelbottom=False, length=0)
        axes[-1].set_xlabel("image confidence of the stage's cases")
        svg = to_svg(figure, "Histogram of image confidence for each stage")
    return Figure(
        svg=svg,
        title="Image confidence by stage (Liu, figure 6)",
        caption="Number of unlabelled cases in each stage, by the teacher's confidence.",
    )


def _sorted_curve(record: RunRecord) -> Figure:
    ranking = record.stages[-1].ranking
    values = sorted((case.image_confidence for case in ranking), reverse=True)
    with drawing() as (figure, (axes,)):
        axes.plot(
            range(1, len(values) + 1),
            values,
            color=TEACHER,
            marker="o",
            markersize=3 if len(values) < 100 else 0,
        )
        former = 0
        for stage in record.stages:
            count = len(stage.chosen)
            if 0 < count <= len(values) and count != former:
                axes.axvline(count + 0.5, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
                axes.annotate(
                    str(stage.number),
                    (count + 0.5, 1),
                    xycoords=("data", "axes fraction"),
                    ha="right",
                    va="bottom",
                    xytext=(1, 1),
                    textcoords="offset points",
                    fontsize=7.5,
                    color=MUTED,
                )
            former = count
        count_along(axes, "unlabelled cases, most confident first")
        axes.set_ylabel("image confidence")
        svg = to_svg(figure, "Image confidence of the unlabelled cases, sorted")
    return Figure(
        svg=svg,
        title="Sorted image confidence (Liu, figure 6)",
        caption=(
            f"{count_of(len(values), 'unlabelled cases')}, {number(values[-1])} to "
            f"{number(values[0])}; a stage has as many cases as stand left of its dashed line. "
            f"{_size_sentence(ranking)}"
        ),
    )


def _size_sentence(ranking: Sequence[RankedCase]) -> str:
    """Say whether the confidence follows the size of what was found rather than its quality."""
    pairs = [
        (case.image_confidence, case.foreground_share)
        for case in ranking
        if case.foreground_share is not None
    ]
    found = spearman([told for told, _ in pairs], [share for _, share in pairs])
    return (
        "Rank correlation (Spearman) with the share of foreground in the pseudo-label, over "
        f"{count_of(len(pairs), 'selected cases')}: {_correlation(found)}. Near 1, the most "
        "confident cases are those with the largest foreground."
    )


def _scatter(record: RunRecord, validation: Mapping[str, Any]) -> Figure | None:
    details = validation.get("details", {})
    networks = [name for name in ("teacher", "student") if name in record.networks]
    looks = {"teacher": (TEACHER, "s"), "student": (STUDENT, "o")}
    sentences = []
    shown: list[float] = []
    with drawing() as (figure, (axes,)):
        for network in networks:
            dice = record.mean_dice(network)
            cases = [case for case in dice if case in details]
            told = [details[case][network]["image_confidence"]["self_dice"] for case in cases]
            true = [dice[case] for case in cases]
            if not cases:
                return None
            shown += told + true
            color, marker = looks[network]
            axes.plot(
                told,
                true,
                marker,
                color=color,
                alpha=0.8,
                markersize=5,
                linestyle="none",
                label=network,
            )
            sentences.append(f"{network}: {_correlation(spearman(told, true))}")
        if not shown:
            return None
        low, high = min(shown) - 0.03, max(shown) + 0.03
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, zorder=1)
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_xlabel("image confidence (self_dice: expected Dice)")
        axes.set_ylabel("Dice")
        axes.legend(loc="best")
        svg = to_svg(figure, "Image confidence against Dice on the validation cases")
    return Figure(
        svg=svg,
        title="Does image confidence tell the good cases?",
        caption=(
            "One mark for each validation case; on the line the expected Dice is the true one. "
            f"Rank correlation (Spearman), {'; '.join(sentences)}."
        ),
    )


def _ranking_table(record: RunRecord, validation: Mapping[str, Any]) -> Table:
    details = validation["details"]
    networks = [name for name in ("teacher", "student") if name in record.networks]
    kinds = list(next(iter(details.values()))[networks[0]]["image_confidence"])
    rows = []
    for kind in (*kinds, "foreground_share"):
        row = [WHAT_TELLS[kind]]
        for network in networks:
            dice = record.mean_dice(network)
            own = [(details[case][network], dice[case]) for case in dice if case in details]
            told = [
                one[kind] if kind == "foreground_share" else one["image_confidence"][kind]
                for one, _ in own
            ]
            row.append(_correlation(spearman(told, [true for _, true in own])))
        rows.append(tuple(row))
    return Table(
        title="What tells the good cases?",
        head=("Told by", *(name.capitalize() for name in networks)),
        rows=tuple(rows),
        strong_rows=(len(rows) - 1,),
        caption=(
            "Rank correlation (Spearman) with the true mean Dice over the validation cases. The "
            "last row needs no confidence at all: a score that does no better ranks cases by how "
            "much was found in them."
        ),
    )


def _correlation(found: Correlation) -> str:
    if found.value is None:
        return "cannot be given"
    text = f"{RHO} = {number(found.value, 2)}"
    if found.low is None or found.high is None:
        return text
    return f"{text} (95 % interval {number(found.low, 2)} to {number(found.high, 2)})"


def _reliability(validation: Mapping[str, Any]) -> Figure | None:
    found = validation.get("reliability", {}).get("student")
    if not found:
        return None
    before, after = found["before"], found.get("after")
    with drawing(3.0) as (figure, (axes,)):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
        _draw_bins(axes, before["bins"], MUTED, "before", "s", (0, (4, 2)))
        if after:
            _draw_bins(axes, after["bins"], STUDENT, "calibrated", "o", "solid")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("confidence")
        axes.set_ylabel("share of right voxels")
        axes.legend(loc="upper left")
        axes.annotate(
            "too sure", (0.96, 0.05), xycoords="axes fraction", ha="right", fontsize=8, color=MUTED
        )
        svg = to_svg(figure, "Reliability of the student's confidence")
    cases = int(found["num_cases"])
    if after:
        text = (
            f"Calibration error (ECE) {number(before['ece'])} before, {number(after['ece'])} "
            "after, mean over the cases; each was judged by a calibration fitted on the others. "
            "The curves are of all cases together."
        )
    else:
        text = (
            f"Calibration error (ECE) {number(before['ece'])} before calibration. With {cases} "
            "validation case nothing can be said about it after: it was fitted on that case."
        )
    return Figure(
        svg=svg,
        title="Reliability of the student's confidence",
        caption=(
            f"{text} Voxels within 5 mm of reference or prediction; larger marks stand for more "
            "voxels. On the line a confidence of 80 % is right in 80 %."
        ),
    )


def _draw_bins(
    axes: Any, bins: list[Mapping[str, Any]], color: str, label: str, marker: str, style: Any
) -> None:
    filled = [one for one in bins if one["count"]]
    total = sum(one["count"] for one in filled)
    x = [one["confidence"] for one in filled]
    y = [one["accuracy"] for one in filled]
    axes.plot(
        x, y, color=color, linestyle=style, linewidth=1.5, marker=marker, markersize=4, label=label
    )
    sizes = [18 + 220 * one["count"] / total for one in filled]
    axes.scatter(x, y, s=sizes, color=color, marker=marker, alpha=0.45, linewidths=0, clip_on=False)


def _map_histograms(validation: Mapping[str, Any]) -> Figure | None:
    histograms = validation.get("histograms", {})
    names = [name for name in MAPS if name in histograms]
    if not names:
        return None
    with drawing(0.5 + 0.85 * len(names), panels=len(names)) as (figure, axes):
        for axis, name in zip(axes, names, strict=True):
            edges, shares = histograms[name]["edges"], histograms[name]["shares"]
            axis.bar(
                edges[:-1],
                [100 * share for share in shares],
                width=edges[1] - edges[0],
                align="edge",
                color=STUDENT,
                linewidth=0,
            )
            axis.set_xlim(0, 1)
            axis.set_yscale("log")
            axis.set_ylim(bottom=0.01)
            axis.yaxis.set_major_formatter("{x:g}")
            axis.minorticks_off()
            axis.grid(visible=False, axis="x")
            axis.set_title(name, loc="left", color=INK, pad=2)
            axis.set_ylabel("voxels, %", fontsize=8)
            if axis is not axes[-1]:
                axis.tick_params(axis="x", labelbottom=False)
        svg = to_svg(figure, "Histograms of confidence, agreement and uncertainty")
    shares = ", ".join(f"{name} {percent(histograms[name]['over_0.9'], 1)}" for name in names)
    return Figure(
        svg=svg,
        title="Values of the maps (Liu, figure 8)",
        caption=(
            "Voxels within 5 mm of reference or prediction, all validation cases, logarithmic. "
            f"Of all voxels, background included, above 0.9: {shares}."
        ),
    )


def _uninformative(validation: Mapping[str, Any]) -> list[str]:
    """Say of a map that it has nearly one value everywhere."""
    found = []
    for name, histogram in validation.get("histograms", {}).items():
        top = max(histogram["shares"])
        if top > ONE_VALUE:
            found.append(
                f"The {name} map has nearly the same value in {percent(top)} of the voxels near "
                "reference or prediction: it tells little about where to look."
            )
    return found


def _why_missing(missing: list[str]) -> str:
    reasons = {
        "agreement": "agreement needs a teacher",
        "uncertainty": "uncertainty needs a network with a log-variance head",
        "confidence": "confidence was not written",
    }
    return f"Not in this run: {'; '.join(reasons[name] for name in missing)}."
