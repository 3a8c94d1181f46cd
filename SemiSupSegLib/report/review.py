"""The page of a folder of results: progress, decisions, agreement of reviewers, volumes."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import replacing
from SemiSupSegLib.report.blocks import (
    NOTHING,
    Block,
    Figure,
    Note,
    Section,
    Table,
    count_of,
    duration,
    number,
    percent,
)
from SemiSupSegLib.report.drawing import BEST, INK, MUTED, STUDENT, TEACHER, drawing, to_svg
from SemiSupSegLib.report.page import render_page
from SemiSupSegLib.report.record import without_folders
from SemiSupSegLib.review.cohort import CohortRow, read_cohort
from SemiSupSegLib.review.comparison import (
    UNDECIDED,
    Comparison,
    cohens_kappa,
    compare,
    share_equal,
)
from SemiSupSegLib.review.record import STATUSES, ReviewRecord
from SemiSupSegLib.review.result_label import base_label, reviewed_label
from SemiSupSegLib.review.summary import RegionLine, summary_lines

PAGE = "review.html"
_COLORS = {"confirmed": STUDENT, "fixed": TEACHER, "relabelled": BEST, "ignored": MUTED}
_HATCHES = {"confirmed": None, "fixed": "///", "relabelled": "...", "ignored": "xxx"}


@dataclass(frozen=True, kw_only=True)
class VolumeChange:
    """What a review did to the volume of one class or region of classes."""

    case: str
    reviewer: str
    target: str
    before_ml: float
    after_ml: float


def build_review_report(results: Path, out: Path | None = None) -> Path:
    """Write the page of a folder of results and return its path.

    It needs no network and no other file, and holds no path and no names but case ids and
    reviewers' aliases. What cannot be read is named on it.

    Args:
        results: The folder that `predict` wrote to.
        out: Where to write; default `review.html` in the folder.

    Raises:
        UsageError: If the folder holds no result.
        OSError: If the page cannot be written.
    """
    rows = read_cohort(results)
    if not rows:
        raise UsageError(f"{results} holds no results. Give the folder that predict wrote to.")
    lines, problems = summary_lines(row.folder for row in rows if not row.problem)
    volumes, more = _volume_changes(rows)
    compared, still_more = _comparisons(rows)
    told = [f"{row.case}: {row.problem}" for row in rows if row.problem]
    told += [f"{row.case}: {one.problem}" for row in rows for one in row.reviews if one.problem]
    told += [*problems, *more, *still_more]
    text = render_page(
        title=f"Review of {results.resolve().name}",
        about="folder of results",
        headline=_headline(rows),
        tiles=_tiles(rows, lines),
        sections=(
            _cases_section(rows, told),
            _decisions_section(lines, _redrawn(rows)),
            _agreement_section(compared),
            _volumes_section(volumes),
        ),
    )
    path = results / PAGE if out is None else out
    with replacing(path, "w") as stream:
        stream.write(text)
    return path


def _headline(rows: Sequence[CohortRow]) -> list[str]:
    finished = [row for row in rows if any(one.is_finished for one in row.reviews)]
    begun = [row for row in rows if row.reviews]
    sentences = [f"{len(finished)} of {count_of(len(rows), 'cases')} are reviewed."]
    if len(rows) == 1:
        sentences = ["The case is reviewed." if finished else "The case is not reviewed yet."]
    if len(begun) > len(finished):
        more = len(begun) - len(finished)
        sentences.append(f"{more} more {'is' if more == 1 else 'are'} begun.")
    verdicts = Counter(verdict for row in rows for verdict in row.verdicts)
    if verdicts:
        parts = [f"{count} {verdict}" for verdict, count in sorted(verdicts.items())]
        sentences.append(f"Verdicts: {', '.join(parts)}.")
    following = next((row for row in rows if row.is_open), None)
    if following is not None and following.open_error_mm3 > 0:
        sentences.append(
            f"Next is {following.case}, with {_volume(following.open_error_mm3)} of expected error."
        )
    return sentences


def _tiles(rows: Sequence[CohortRow], lines: Sequence[RegionLine]) -> list[tuple[str, str, str]]:
    finished = sum(any(one.is_finished for one in row.reviews) for row in rows)
    decided = [one for one in lines if one.status != UNDECIDED]
    whole = sum(row.expected_error_mm3 or 0.0 for row in rows)
    left = sum(row.open_error_mm3 for row in rows)
    seconds = sum(one.active_seconds for row in rows for one in row.reviews)
    people = {one.reviewer for row in rows for one in row.reviews}
    saved = sum(row.saved > 0 for row in rows)
    return [
        ("Reviewed", f"{finished} / {len(rows)}", "cases finished, of all"),
        ("Expected error left", _volume(left), f"of {_volume(whole)}"),
        ("Decisions", str(len(decided)), f"by {count_of(len(people), 'reviewers')}"),
        ("Active time", duration(seconds) if seconds else NOTHING, "where it was logged"),
        ("Training labels", str(saved), f"case{'' if saved == 1 else 's'} with a saved label"),
    ]


def _cases_section(rows: Sequence[CohortRow], problems: Iterable[str]) -> Section:
    table = []
    for row in rows:
        if row.problem:
            continue
        start = (row.case, _volume(row.expected_error_mm3), str(row.regions))
        saved = str(row.saved) if row.saved else NOTHING
        if not row.reviews:
            table.append((*start, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, saved))
        for one in row.reviews:
            share = f"{one.progress.percent_of_error} %" if one.expected_error_mm3 else NOTHING
            table.append(
                (
                    *start,
                    one.reviewer,
                    f"{one.decided} of {one.regions}" if one.regions else NOTHING,
                    share,
                    one.verdict or NOTHING,
                    duration(one.active_seconds) if one.active_seconds else NOTHING,
                    saved,
                )
            )
    blocks: list[Block] = [
        Table(
            title="Progress",
            head=(
                "Case",
                "Expected error",
                "Regions",
                "Reviewer",
                "Decided",
                "Of the listed error",
                "Verdict",
                "Active time",
                "Labels saved",
            ),
            rows=tuple(table),
            caption="Open cases first, by the expected error that nobody has decided about.",
        )
    ]
    comments = tuple(
        (row.case, one.reviewer, one.comment)
        for row in rows
        for one in row.reviews
        if one.comment and not row.problem
    )
    if comments:
        head = ("Case", "Reviewer", "Comment")
        blocks.append(Table(title="Comments", head=head, rows=comments))
    blocks += [Note(text=without_folders(one)) for one in dict.fromkeys(problems)]
    return Section(id="cases", title="Cases", blocks=blocks)


_Redrawn = Set[tuple[str, str, int | None]]
"""Case, reviewer and number of regions in which a change is in force."""


def _decisions_section(lines: Sequence[RegionLine], redrawn: _Redrawn) -> Section:
    from matplotlib.ticker import MaxNLocator

    decided = [one for one in lines if one.status != UNDECIDED]
    if not decided:
        note = Note(text="No region is decided yet.")
        return Section(id="decisions", title="Decisions", blocks=[note])
    names = list(
        dict.fromkeys(one.class_name for one in sorted(decided, key=lambda one: one.region or 0))
    )
    counts = {
        name: Counter(one.status for one in decided if one.class_name == name) for name in names
    }
    with drawing(max(1.6, 1.2 + 0.3 * len(names))) as (figure, (axes,)):
        for place, name in enumerate(names):
            left = 0
            for status in STATUSES:
                width = counts[name][status]
                axes.barh(
                    -place,
                    width,
                    left=left,
                    height=0.6,
                    color=_COLORS[status],
                    hatch=_HATCHES[status],
                    label=status if place == 0 else None,
                )
                left += width
        axes.set_yticks([-place for place in range(len(names))], names)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("regions")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(STATUSES))
        svg = to_svg(figure, "Decisions for each class")
    rows = [
        (name, *(str(counts[name][status]) for status in STATUSES), str(counts[name].total()))
        for name in names
    ]
    sums = Counter(one.status for one in decided)
    rows.append(("all", *(str(sums[status]) for status in STATUSES), str(len(decided))))
    blocks: list[Block] = [
        Figure(
            svg=svg,
            title="What was decided",
            caption="Regions by the class that the result gives most of their voxels.",
        ),
        Table(
            title="Decisions for each class",
            head=("Class", *STATUSES, "all"),
            rows=tuple(rows),
            strong_rows=(len(rows) - 1,),
            half=True,
            caption=_precision(decided, redrawn),
        ),
    ]
    return Section(id="decisions", title="Decisions", blocks=blocks)


def _redrawn(rows: Sequence[CohortRow]) -> _Redrawn:
    found: set[tuple[str, str, int | None]] = set()
    for row in rows:
        for review in row.reviews:
            # What cannot be read is told elsewhere.
            with contextlib.suppress(SemiSupSegError):
                record = ReviewRecord.open(row.folder, review.reviewer)
                found |= {(record.case, record.reviewer, one) for one in record.redrawn}
    return found


def _precision(decided: Sequence[RegionLine], redrawn: _Redrawn) -> str:
    judged = [one for one in decided if one.status != "ignored"]
    if not judged:
        return ""
    # A region that was drawn in and then confirmed was changed, too.
    wrong = sum(
        one.status in ("fixed", "relabelled") or (one.case, one.reviewer, one.region) in redrawn
        for one in judged
    )
    return (
        f"{percent(wrong / len(judged))} of the regions that were judged were changed: so often "
        "was a listed region wrong."
    )


def _agreement_section(compared: Sequence[Comparison]) -> Section:
    blocks: list[Block] = []
    pairs: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for one in compared:
        pairs[one.reviewers].append(one)
    rows = []
    for (first, second), found in pairs.items():
        both = [pair.statuses for one in found for pair in one.regions if pair.is_decided]
        rows.append(
            (
                f"{first} and {second}",
                str(len(found)),
                str(len(both)),
                percent(share_equal(both)),
                number(cohens_kappa(both), 2),
            )
        )
    if rows:
        blocks.append(
            Table(
                title="Decisions of both",
                head=("Reviewers", "Cases", "Regions decided by both", "Equal", "Cohen's kappa"),
                rows=tuple(rows),
                caption="Kappa: 1 agree, 0 agree as often as by chance.",
            )
        )
        blocks.append(_dice_table(compared))
    apart = [
        (one.case, str(pair.region), pair.class_name, *one.reviewers, *pair.statuses)
        for one in compared
        for pair in one.apart
    ]
    if apart:
        blocks.append(
            Table(
                title="Where they differ",
                head=("Case", "Region", "Class", "Reviewer", "Other", "Decided", "Other decided"),
                rows=tuple(apart),
                caption="Two equal decisions differ if the voxels of the two labels do.",
            )
        )
    return Section(id="agreement", title="Agreement of reviewers", blocks=blocks)


def _dice_table(compared: Sequence[Comparison]) -> Table:
    names = list(dict.fromkeys(name for one in compared for name in one.dice or ()))
    return Table(
        title="Dice of the two labels",
        head=("Case", *names),
        rows=tuple(
            (one.case, *(number((one.dice or {}).get(name)) for name in names)) for one in compared
        ),
        half=True,
        caption="Of the labels as both reviewers leave them.",
    )


def _volumes_section(volumes: Sequence[VolumeChange]) -> Section:
    blocks: list[Block] = []
    if volumes:
        blocks.append(
            Table(
                title="Volumes before and after",
                head=("Case", "Reviewer", "Class or region", "Before", "After", "Change"),
                rows=tuple(
                    (
                        one.case,
                        one.reviewer,
                        one.target,
                        f"{number(one.before_ml, 2)} mL",
                        f"{number(one.after_ml, 2)} mL",
                        f"{number(one.after_ml - one.before_ml, 2, sign=True)} mL",
                    )
                    for one in volumes
                ),
                caption="Only reviews that changed a voxel, and only what they changed.",
            )
        )
    return Section(id="volumes", title="Volumes", blocks=blocks)


def _volume_changes(rows: Sequence[CohortRow]) -> tuple[list[VolumeChange], list[str]]:
    found: list[VolumeChange] = []
    problems: list[str] = []
    for row in rows:
        for review in row.reviews:
            if review.problem:
                continue
            try:
                record = ReviewRecord.open(row.folder, review.reviewer)
                if record.changes:
                    found += _changes_of(record)
            except SemiSupSegError as error:
                problems.append(str(error))
    return found, problems


def _changes_of(record: ReviewRecord) -> list[VolumeChange]:
    before, after = base_label(record), reviewed_label(record)
    voxel_ml = after.geometry.voxel_volume_mm3 / 1000

    def volumes(values: NDArray[np.uint8]) -> Mapping[str, float]:
        return {
            name: int(np.count_nonzero(np.isin(values, classes))) * voxel_ml
            for name, classes in after.task.targets.items()
        }

    old, new = volumes(before.values), volumes(after.values)
    return [
        VolumeChange(
            case=record.case,
            reviewer=record.reviewer,
            target=name,
            before_ml=old[name],
            after_ml=new[name],
        )
        for name in old
        if old[name] != new[name]
    ]


def _comparisons(rows: Sequence[CohortRow]) -> tuple[list[Comparison], list[str]]:
    found: list[Comparison] = []
    problems: list[str] = []
    for row in rows:
        names = [one.reviewer for one in row.reviews if not one.problem]
        for first, second in combinations(names, 2):
            try:
                found.append(compare(row.folder, first, second))
            except SemiSupSegError as error:
                problems.append(str(error))
    return found, problems


def _volume(mm3: float | None) -> str:
    if mm3 is None:
        return NOTHING
    return f"{number(mm3 / 1000, 2)} mL" if mm3 >= 1000 else f"{number(mm3, 0)} mm³"
