"""What the quality network's estimates of Dice are worth, in runs that have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from SemiSupSegLib.quality.worth import LEAST_FALL, LEAST_RISE, Use, use_of_image
from SemiSupSegLib.report.blocks import Block, Figure, Note, Section, Table, number, percent
from SemiSupSegLib.report.drawing import (
    BEST,
    DOUBTED,
    KEPT,
    MUTED,
    STUDENT,
    TEACHER,
    drawing,
    legend_below,
    to_svg,
)
from SemiSupSegLib.report.record import RunRecord

_LOOKS = ((STUDENT, "o"), (TEACHER, "s"), (BEST, "^"), (DOUBTED, "D"), (KEPT, "v"))
"""Colour and mark of a class: either alone tells them apart."""
_BLANK = "mean"
_IMAGES = {"mean": "a blank image", "other": "another case's image", "noise": "noise"}
_MAKERS = {"weak": "weak models"}


def quality_section(record: RunRecord) -> Section:
    """Return estimated against true Dice, with the image and without; empty without a network."""
    blocks: list[Block] = []
    found = record.quality
    if found is not None and found["every_mask"]["n"]:
        blocks.append(Note(text=_verdict(found)))
        blocks.append(_table(record, found))
        scatter = _scatter(record, found)
        if scatter is not None:
            blocks.append(scatter)
    elif any(event["kind"] == "quality_estimated" for event in record.events):
        blocks.append(Note(text=record.absence("Estimated against true Dice")))
    return Section(
        id="quality",
        title="Estimated quality of masks",
        intro=(
            "A network of its own estimates, class by class, the Dice that a mask would have "
            "against a reference that nobody has drawn. Here its estimates are compared with the "
            "true Dice on the validation cases, from which it has not learnt."
        ),
        blocks=blocks,
    )


def _verdict(found: Mapping[str, Any]) -> str:
    """Say in plain words what the estimates do with the image, and what follows."""
    own, controls = found["every_mask"], list(found["controls"].values())
    use = use_of_image(own, controls)
    if use is Use.UNKNOWN:
        return "There are too few masks to tell whether the estimates look at the image at all."
    correlation, error = _with_and_without(own, controls)
    student = found["networks"].get("student", {}).get("all")
    without = [
        one["student"]["all"]
        for one in found.get("controls_by_class", {}).values()
        if "student" in one
    ]
    own_masks = ""
    if student is not None and without:
        both = _with_and_without(student, without)
        own_masks = f" Of the student's masks alone: {both[0]}; {both[1]}."
    if use is Use.IMAGE:
        return f"The estimates judge how a mask fits the image: {correlation}; {error}.{own_masks}"
    if use is Use.ORDER:
        return (
            "Read the estimates as an order, not as a Dice. Over all masks the image tells them "
            f"which are better ({correlation}), but their values are hardly nearer ({error}): it "
            f"would have to be {percent(LEAST_RISE)} larger without the image for them to count "
            f"as more than a shape prior.{own_masks}"
        )
    return (
        "The estimates are a shape prior: they say how usual a mask looks, not whether it fits "
        f"this patient. Other images do nearly as well ({correlation}; {error}), so a mask of "
        f"plausible shape at a wrong place may get a good estimate.{own_masks}"
    )


def _with_and_without(
    own: Mapping[str, Any], controls: Sequence[Mapping[str, Any]]
) -> tuple[str, str]:
    """Return correlation and error, each with the image and in the control that suits it best."""
    highest = max(one["pearson"] or 0 for one in controls)
    least = min(one["mae"] for one in controls)
    return (
        f"correlation with the true Dice {number(own['pearson'], 2)}, without the image at most "
        f"{number(highest, 2)}",
        f"mean error {number(own['mae'])}, without it at least {number(least)}",
    )


def _table(record: RunRecord, found: Mapping[str, Any]) -> Table:
    networks = found["networks"]
    rows = [
        _row(name, networks["student"][name], found, "student", name)
        for name in _classes(record, found)
    ]
    rows += [
        _row(f"{_MAKERS.get(one, one)}, all classes", networks[one]["all"], found, one, "all")
        for one in networks
    ]
    every, blank = found["every_mask"], found["controls"].get(_BLANK)
    rows.append(("every mask", *_figures(every), *_figures(blank)[1:], number(None), number(None)))
    others = ", ".join(_IMAGES[one] for one in found["controls"] if one != _BLANK)
    others = others.replace(", ", " and ")
    return Table(
        title="Estimated against true Dice",
        head=(
            "Masks",
            *("Number", "r", "MAE", "Bias"),
            *("r, blank", "MAE, blank", "Bias, blank"),
            *("MAE, mean Dice", "MAE, shape"),
        ),
        rows=tuple(rows),
        strong_rows=(len(rows) - 1,),
        caption=(
            "Classes: masks of the student. r: Pearson correlation; MAE: mean absolute error of "
            "Dice (0 to 1); bias: estimated minus true, so above 0 it is too optimistic. Blank: "
            "the same masks, the image replaced by its mean"
            + (f"; {others} were tried, too" if others else "")
            + ". MAE, mean Dice: of always saying the one that weak models reached on the "
            "labelled cases; MAE, shape: of reading it off the mask's volume, number of parts and "
            "surface. Rows of several classes also rank easy classes above hard ones, so their r "
            "may be above that of each class. Estimates judge the image if, in the last row, r "
            f"falls by {LEAST_FALL:g} and MAE grows by {percent(LEAST_RISE)} with each of the "
            "other images."
        ),
    )


def _row(
    title: str, own: Mapping[str, Any], found: Mapping[str, Any], network: str, name: str
) -> tuple[str, ...]:
    def other(kind: str, group: str) -> Mapping[str, Any] | None:
        figures: Mapping[str, Any] | None = (
            found.get(group, {}).get(kind, {}).get(network, {}).get(name)
        )
        return figures

    guesses = (other(kind, "guesses") for kind in ("mean_dice", "shape"))
    return (
        title,
        *_figures(own),
        *_figures(other(_BLANK, "controls_by_class"))[1:],
        *(number(None if one is None else one["mae"]) for one in guesses),
    )


def _figures(found: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    """Return number of masks, r, mean absolute error and bias."""
    if found is None:
        return "", number(None), number(None), number(None)
    return (
        str(found["n"]),
        number(found["pearson"], 2),
        number(found["mae"]),
        number(found["bias"], sign=True),
    )


def _classes(record: RunRecord, found: Mapping[str, Any]) -> Sequence[str]:
    """Return the classes of which the student's masks were judged, in the task's order."""
    judged = found["networks"].get("student", {})
    return [one.name for one in record.task.classes if one.name in judged]


def _scatter(record: RunRecord, found: Mapping[str, Any]) -> Figure | None:
    names = _classes(record, found)
    if not names:
        return None
    with drawing(4.4) as (figure, (axes,)):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, zorder=1, label="estimate is right")
        for place, name in enumerate(names):
            color, marker = _LOOKS[place % len(_LOOKS)]
            pairs = [
                mask[name]
                for by_network in found["cases"].values()
                for mask in by_network.get("student", ())
                if name in mask
            ]
            axes.plot(
                [one["estimated"] for one in pairs],
                [one["dice"] for one in pairs],
                marker,
                color=color,
                alpha=0.75,
                markersize=4.5,
                markeredgewidth=0,
                linestyle="none",
                label=name,
                clip_on=False,
            )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.set_xlabel("estimated Dice (0 to 1)")
        axes.set_ylabel("true Dice (0 to 1)")
        legend_below(figure, axes)
        svg = to_svg(figure, "Estimated against true Dice of the student's masks, by class")
    return Figure(
        svg=svg,
        title="Does the estimate tell the true Dice?",
        caption=(
            "One mark for each validation case and class, of the student's masks. On the line the "
            "estimate is right, above it too pessimistic, below it too optimistic."
        ),
    )
