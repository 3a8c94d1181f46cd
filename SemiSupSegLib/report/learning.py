"""How the networks learnt: curves with stage marks, the stage table, what was accepted, time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from SemiSupSegLib.report.blocks import (
    NOTHING,
    Block,
    Figure,
    Note,
    Section,
    Table,
    duration,
    number,
    percent,
)
from SemiSupSegLib.report.drawing import (
    AVERAGED,
    DOUBTED,
    INK,
    KEPT,
    MUTED,
    PAPER,
    STAGE,
    STUDENT,
    TEACHER,
    count_along,
    drawing,
    legend_below,
    to_svg,
)
from SemiSupSegLib.report.record import PhaseSpan, RunRecord, Stage
from SemiSupSegLib.runs.stages import exclusions, why_none_trusted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEACHER_PHASES = ("teacher", "distil")
UNLEARNING = ("subtract", "subtract_clipped", "subtract_prob", "negative")
"""Low-confidence modes that push the student away from a doubtful pseudo-label."""
SMOOTHING = 9
"""Logged steps that a smoothed curve averages over."""


def learning_section(record: RunRecord) -> Section:
    """Return curves, the stage table, accepted and doubted shares, and the time of each phase."""
    blocks: list[Block] = []
    if record.has_teacher:
        blocks.append(_teacher_curve(record) or Note(text="The teacher was not validated yet."))
    curve = _student_curve(record)
    blocks.append(curve or Note(text="The student was not validated yet."))
    blocks += [figure for figure in (_loss_curve(record), _term_curve(record)) if figure]
    if record.stages:
        shares = _shares_figure(record)
        blocks += [shares] if shares else []
    elif not record.goes_on:
        blocks.append(
            Note(
                text="No stages with unlabelled cases were recorded in this run, so there is no "
                "stage table, and nothing was accepted, ignored or unlearned."
            )
        )
    times = _time_figure(record)
    blocks += [times] if times else [Note(text="No phase has ended yet, so no times are known.")]
    if record.stages:
        blocks += [_stage_table(record), *_exclusions(record), *_distrusted(record)]
        blocks.append(_class_share_table(record))
    return Section(
        id="learning",
        title="Learning",
        intro=(
            "Dice is measured on the validation cases while the run goes on, with less overlap of "
            "the windows than in the final result, so the last point may differ a little from it."
        ),
        blocks=blocks,
    )


def _teacher_curve(record: RunRecord) -> Figure | None:
    names = [f"dice.{name}" for name in (*record.task.headline_targets, "mean")]
    series = {
        name: record.series(name, network="teacher", phases=TEACHER_PHASES[:1]) for name in names
    }
    if not series["dice.mean"]:
        return None
    with drawing() as (figure, (axes,)):
        _draw_dice(axes, series, TEACHER, _lowest_dice(record))
        axes.set_xlim(left=0)
        legend_below(figure, axes)
        svg = to_svg(figure, "Teacher: Dice on validation while it learns")
    return Figure(
        svg=svg,
        title="Teacher (Liu, figure 4)",
        caption="Dice on validation of the teacher's moving average, labelled cases only.",
    )


def _student_curve(record: RunRecord) -> Figure | None:
    spans = [span for span in record.phases() if span.name not in TEACHER_PHASES]
    phases = [span.name for span in spans]
    names = [f"dice.{name}" for name in (*record.task.headline_targets, "mean")]
    series = {name: record.series(name, network="student", phases=phases) for name in names}
    if not series["dice.mean"]:
        return None
    with drawing() as (figure, (axes,)):
        _mark_stages(axes, record, spans)
        raw = record.series("dice.mean", network="student_raw", phases=phases)
        if raw:
            axes.plot(*zip(*raw, strict=True), color=MUTED, linewidth=1, label="before averaging")
        _draw_dice(axes, series, STUDENT, _lowest_dice(record))
        teacher = record.series("dice.mean", network="teacher")
        if record.learns_beside:
            axes.plot(*zip(*teacher, strict=True), color=TEACHER, label="second network")
        elif teacher:
            axes.axhline(
                teacher[-1][1],
                color=TEACHER,
                linestyle=(0, (4, 2)),
                linewidth=1.5,
                label="teacher, finished",
            )
        legend_below(figure, axes, 3)
        svg = to_svg(figure, "Student: Dice on validation over the stages")
    return Figure(
        svg=svg,
        title="Student (Liu, figure 5)" if record.stages else "Student",
        caption=(
            "Dice on validation of the student's moving average"
            + (
                "; bands are the stages with their share of the unlabelled cases, the dashed "
                "line is the finished teacher."
                if record.stages
                else "."
            )
        ),
    )


def _lowest_dice(record: RunRecord) -> float:
    """Return where the axes of both networks' curves begin: at the tenth below the lowest value."""
    values = [
        value
        for name in (*record.task.headline_targets, "mean")
        for network in ("teacher", "student", "student_raw")
        for _, value in record.series(f"dice.{name}", network=network)
    ]
    return min(0.9, max(0.0, math.floor(10 * min(values, default=0.0)) / 10))


def _draw_dice(
    axes: Axes, series: dict[str, list[tuple[int, float]]], color: str, lowest: float
) -> None:
    styles = ((0, (1, 1.2)), (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), "solid")
    others = [name for name in series if name != "dice.mean"]
    if len(others) > 1:
        for place, name in enumerate(others):
            if series[name]:
                axes.plot(
                    *zip(*series[name], strict=True),
                    color=color,
                    linewidth=1,
                    alpha=0.75,
                    linestyle=styles[place % len(styles)],
                    # A line through few points is hardly seen, through one not at all.
                    marker="." if len(series[name]) < 8 else "",
                    label=name.removeprefix("dice."),
                )
    label = "mean" if len(others) > 1 else others[0].removeprefix("dice.")
    axes.plot(
        *zip(*series["dice.mean"], strict=True),
        color=color,
        linewidth=2.4,
        marker="o",
        markersize=3,
        label=label,
    )
    axes.set_ylim(lowest, 1)
    count_along(axes, "updates")
    axes.set_ylabel("Dice on validation")


def _loss_curve(record: RunRecord) -> Figure | None:
    spans = [span for span in record.phases() if "distil" not in span.name]
    name = "loss" if record.series("loss", phases=[one.name for one in spans]) else "total"
    values = record.series(name, phases=[span.name for span in spans])
    if not values:
        return None
    with drawing() as (figure, (axes,)):
        _mark_stages(axes, record, record.phases())
        named: set[str] = set()
        for span in spans:
            own = record.series(name, phases=[span.name])
            learner = "teacher" if span.name in TEACHER_PHASES else "student"
            color = TEACHER if learner == "teacher" else STUDENT
            _draw_smoothed(axes, own, color, learner if learner not in named else None)
            if own:
                named.add(learner)
        count_along(axes, "updates")
        axes.set_ylabel("loss")
        legend_below(figure, axes)
        svg = to_svg(figure, "Training loss")
    return Figure(
        svg=svg,
        title="Training loss",
        caption=(
            "Pale: as logged; strong: running mean. In the stages the loss also holds the terms "
            "of the pseudo-labels, and the term for doubtful voxels may be negative."
        ),
    )


def _term_curve(record: RunRecord) -> Figure | None:
    wanted = (
        ("supervised", "labelled", INK),
        ("high", "trusted pseudo-labels", KEPT),
        ("low", "doubtful pseudo-labels", DOUBTED),
    )
    spans = [span for span in record.phases() if span.name.startswith("stage")]
    phases = [span.name for span in spans]
    found = [
        (record.series(name, phases=phases), title, color)
        for name, title, color in wanted
        if record.series(name, phases=phases)
    ]
    if len(found) < 2:
        return None
    with drawing() as (figure, (axes,)):
        _mark_stages(axes, record, spans)
        for values, title, color in found:
            _draw_smoothed(axes, values, color, title)
        count_along(axes, "updates")
        axes.set_ylabel("loss term, not weighted")
        legend_below(figure, axes)
        svg = to_svg(figure, "Loss terms of the student")
    return Figure(
        svg=svg,
        title="Terms of the student's loss",
        caption="Before weighting; running means over what was logged.",
    )


def _draw_smoothed(
    axes: Axes, values: Sequence[tuple[int, float]], color: str, label: str | None
) -> None:
    finite = [(x, y) for x, y in values if math.isfinite(y)]
    if not finite:
        return
    axes.plot(*zip(*finite, strict=True), color=color, linewidth=0.8, alpha=0.3)
    reach = SMOOTHING // 2
    means = [
        fmean(y for _, y in finite[max(0, index - reach) : index + reach + 1])
        for index in range(len(finite))
    ]
    marker = "o" if len(finite) == 1 else ""
    axes.plot([x for x, _ in finite], means, color=color, label=label, marker=marker, markersize=4)


def _mark_stages(axes: Axes, record: RunRecord, spans: Sequence[PhaseSpan]) -> None:
    """Shade every other stage and write its number and share above it."""
    fractions = {f"stage_{stage.number}": stage.summary.get("fraction") for stage in record.stages}
    stages = [span for span in spans if span.name.startswith("stage_")]
    for place, span in enumerate(stages):
        if place % 2 == 0:
            axes.axvspan(span.start, span.end, color=STAGE, linewidth=0, zorder=0)
        share = fractions.get(span.name)
        text = span.name.removeprefix("stage_")
        if share is not None and len(spans) == len(stages) + len(
            [one for one in spans if one.name == "student_distil"]
        ):
            text += f"\n{percent(float(share))}"
        axes.annotate(
            text,
            ((span.start + span.end) / 2, 1),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            fontsize=7.5,
            color=MUTED,
        )


def _shares_figure(record: RunRecord) -> Figure | None:
    known = [(stage, stage.mean_shares) for stage in record.stages]
    rows = [(stage, shares) for stage, shares in known if shares is not None]
    if not rows:
        return None
    doubted = _doubted_word(record)
    less, why = (
        "accepted after averaging",
        (
            "Accepted after averaging: teacher and student differed, or one of them was not sure "
            "enough; their mean decides with less weight."
        ),
    )
    if record.config["method"] == "best":
        less, why = (
            "with less weight",
            (
                "With less weight: not as sure as its class asks for; the probabilities are learnt "
                "instead of the class. As the stage began; thresholds move while it goes on."
            ),
        )
    parts = (
        ("accepted", KEPT, None),
        (less, AVERAGED, ".."),
        (doubted, DOUBTED, "///"),
    )
    with drawing(1.1 + 0.28 * len(rows)) as (figure, (axes,)):
        for row, (_, shares) in enumerate(rows):
            left = 0.0
            for (_, color, hatch), share in zip(parts, shares, strict=True):
                axes.barh(
                    -row,
                    100 * share,
                    left=left,
                    height=0.72,
                    color=color,
                    hatch=hatch,
                    edgecolor=PAPER,
                    linewidth=0,
                )
                left += 100 * share
            axes.annotate(
                f"{percent(shares[2], 1)}",
                (100, -row),
                xytext=(4, 0),
                color=INK,
                textcoords="offset points",
                va="center",
                fontsize=8,
                annotation_clip=False,
            )
        names = [f"{stage.number} ({_fraction(stage)})" for stage, _ in rows]
        axes.set_yticks([-row for row in range(len(rows))], names)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False)
        axes.set_xlim(_low_end(rows), 100)
        axes.set_xlabel("voxels of the stage's cases, %")
        axes.set_ylabel("stage")
        for title, color, hatch in parts:
            axes.barh(0, 0, color=color, hatch=hatch, edgecolor=PAPER, label=title, linewidth=0)
        axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=3, columnspacing=1)
        svg = to_svg(figure, "Accepted and doubted voxels by stage")
    cut = "; the axis does not begin at 0" if _low_end(rows) > 0 else ""
    verb = {
        "unlearned": "the student is pushed away from their pseudo-label",
        "ignored": "they take no part in the loss",
    }.get(doubted, "they get the loss of the chosen mode")
    return Figure(
        svg=svg,
        title=f"Accepted and {doubted} voxels",
        caption=(
            f"Of all voxels, background included{cut}. The number at the right is the share "
            f"{doubted}: {verb}. {why}"
        ),
    )


def _low_end(rows: Sequence[tuple[Stage, tuple[float, float, float]]]) -> float:
    """Begin the axis below the smallest accepted share, or the small rest could not be seen."""
    smallest = min(100 * shares[0] for _, shares in rows)
    return max(0.0, 10 * math.floor((smallest - 2 * (100 - smallest)) / 10))


def _doubted_word(record: RunRecord) -> str:
    options = record.config["options"]
    mode = options.get("low_mode", "ignore")
    if mode == "ignore" or not options.get("lambda_low", 1):
        return "ignored"
    return "unlearned" if mode in UNLEARNING else f"doubted ({mode})"


def _time_figure(record: RunRecord) -> Figure | None:
    spans = [span for span in record.phases() if span.seconds is not None]
    if not spans:
        return None
    total = sum(span.seconds or 0 for span in spans)
    with drawing(0.9 + 0.26 * len(spans)) as (figure, (axes,)):
        unit, word = (60, "minutes") if total > 300 else (1, "seconds")
        for row, span in enumerate(spans):
            seconds = span.seconds or 0
            color = TEACHER if span.name in TEACHER_PHASES else STUDENT
            axes.barh(-row, seconds / unit, height=0.72, color=color, linewidth=0)
            axes.annotate(
                duration(seconds),
                (seconds / unit, -row),
                xytext=(4, 0),
                va="center",
                textcoords="offset points",
                fontsize=8,
                color=INK,
            )
        axes.set_yticks(
            [-row for row in range(len(spans))], [span.name.replace("_", " ") for span in spans]
        )
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.16)
        axes.set_xlabel(word)
        svg = to_svg(figure, "Time of each phase")
    return Figure(
        svg=svg,
        title="Time of each phase (Liu, figure 10)" if record.stages else "Time of each phase",
        caption=f"Computing time, validation included; {duration(total)} in all.",
    )


def _stage_table(record: RunRecord) -> Table:
    split = record.config["split"]
    labelled, unlabelled = len(split["train_labelled"]), len(split["train_unlabelled"])
    # They count twice: with their label, and with the pseudo-label of the rest.
    partial = len(record.config.get("partial", ()))
    spans = {span.name: span for span in record.phases()}
    rows: list[tuple[str, ...]] = []
    best = -math.inf
    last: float | None = None
    for stage in record.stages:
        phase = f"stage_{stage.number}"
        span = spans.get(phase)
        dice = record.series("dice.mean", network="student", phases=[phase])
        losses = [value for _, value in record.series("loss", phases=[phase])]
        best = max([best, *(value for _, value in dice)])
        end = dice[-1][1] if dice else None
        change = None if end is None or last is None else end - last
        confidence = stage.summary.get("image_confidence", {})
        cases = int(stage.summary.get("num_cases", 0))
        used = (labelled + cases) / max(1, labelled + unlabelled + partial)
        seconds = span.seconds if span else None
        rows.append(
            (
                str(stage.number),
                _fraction(stage),
                str(cases),
                percent(used),
                str(span.end - span.start) if span else NOTHING,
                number(fmean(losses)) if losses else NOTHING,
                number(end),
                number(change, sign=True),
                number(best) if math.isfinite(best) else NOTHING,
                f"{number(confidence.get('mean'))} ± {number(confidence.get('sd'))}",
                duration(seconds),
            )
        )
        last = end
    return Table(
        title="Stages of the student (Liu, table I)",
        head=(
            "Stage",
            "Share of unlabelled",
            "Cases",
            "Samples used",
            "Updates",
            "Loss",
            "Dice at its end",
            "Change",
            "Best so far",
            "Image confidence",
            "Time",
        ),
        rows=tuple(rows),
        caption=(
            "Samples used: labelled and admitted cases, of all training cases. Loss: training "
            "loss, mean over the stage. Dice: mean of the moving average on validation. Image "
            "confidence: mean ± sd of the stage's cases."
        ),
    )


def _exclusions(record: RunRecord) -> list[Block]:
    """Return how many cases a person took out, and since when; ids are not for a report."""
    counts = Counter(exclusions(record.run).values())
    sentences = []
    for stage, count in counts.items():
        what = "1 case was" if count == 1 else f"{count} cases were"
        since = f"from stage {stage} on"
        if stage is None:
            since = "when no stage followed any more, and so learnt from all the same"
        sentences.append(f"{what} excluded by hand {since}.")
    return [Note(text=" ".join(sentences))] if sentences else []


def _distrusted(record: RunRecord) -> list[Block]:
    """Return why a stage has trusted nothing, once if several have."""
    notes = [
        why_none_trusted(
            stage.number, float(stage.summary.get("high_share", 1)), record.config["options"]
        )
        for stage in record.stages
    ]
    told = [one for one in notes if one]
    return [Note(text=told[-1])] if told else []


def _class_share_table(record: RunRecord) -> Table:
    names = list(record.stages[-1].summary.get("class_shares", {}))
    rows = []
    for stage in record.stages:
        row = [str(stage.number)]
        for name in names:
            share = stage.summary["class_shares"].get(name, {})
            total = share.get("high", 0) + share.get("low", 0)
            row.append(percent(share["high"] / total, 1) if total else NOTHING)
        rows.append(tuple(row))
    return Table(
        title="Accepted voxels of each pseudo-labelled class",
        head=("Stage", *names),
        rows=tuple(rows),
        half=len(names) <= 4,
        caption=(
            "Share of the voxels pseudo-labelled as the class that are accepted: in the first "
            "stage those where the teacher's probability, lowered where it is unsure, is high "
            "enough; later, with less weight, also those where teacher and student differ. A "
            "dash: the class is in no pseudo-label of the stage."
        ),
    )


def _fraction(stage: Stage) -> str:
    share = stage.summary.get("fraction")
    return NOTHING if share is None else percent(float(share))
