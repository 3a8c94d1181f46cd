"""What was decided in a folder of results: a line for each region and reviewer.

A case in which nothing is doubtful enough to be listed has a line all the same, for its verdict.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json, replacing
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.review.comparison import UNDECIDED
from SemiSupSegLib.review.record import ReviewRecord, reviewers


@dataclass(frozen=True, kw_only=True)
class RegionLine:
    """One region as one reviewer left it; the columns of the table."""

    case: str
    reviewer: str
    """Empty as long as nobody has begun."""
    region: int | None
    """Its number; None: the case has no region."""
    class_name: str
    second_class: str
    volume_mm3: float | None
    expected_error_mm3: float | None
    status: str
    reason: str
    """Why it is listed."""
    decided: str
    """When: ISO time with its zone; empty if it is not."""
    verdict: str
    """Of the case by this reviewer; may be empty."""
    comment: str
    """What this reviewer wrote about the case; may be empty."""


COLUMNS = tuple(one.name for one in fields(RegionLine))


def summary_lines(folders: Iterable[Path]) -> tuple[list[RegionLine], list[str]]:
    """Return the lines of several results, and a sentence for everything that cannot be read.

    Every region of a result has a line for each reviewer, or one if there is none; so has a case
    without regions. What is damaged leaves out its own lines alone: those of another reviewer of
    the case stay.
    """
    found: list[RegionLine] = []
    problems: list[str] = []
    for folder in folders:
        names = reviewers(folder)
        for name in names or ("",):
            try:
                found += _of_reviewer(folder, name) if name else _of_nobody(folder)
            except SemiSupSegError as error:
                problems.append(str(error))
            except (AttributeError, KeyError, TypeError, ValueError):
                file = f"review.{name}.jsonl" if name else "case.json"
                problems.append(f"{folder / file} is damaged. Restore it, or predict anew.")
    return found, problems


def _of_reviewer(folder: Path, name: str) -> list[RegionLine]:
    record = ReviewRecord.open(folder, name)
    decisions = record.decisions
    lines = []
    for listed in record.listed or (None,):
        entry = None if listed is None else decisions.get(int(listed["id"]))
        lines.append(
            _line(
                record.case,
                name,
                listed,
                status=UNDECIDED if entry is None else str(entry.status),
                decided="" if entry is None else entry.when,
                verdict=record.verdict or "",
                comment=record.comment,
            )
        )
    return lines


def _of_nobody(folder: Path) -> list[RegionLine]:
    content = read_json(folder / "case.json")
    check_format(content, "case-result", folder / "case.json")
    case = str(content["case"])
    return [
        _line(case, "", listed, status=UNDECIDED)
        for listed in content.get("review_regions") or (None,)
    ]


def write_csv(path: Path, lines: Iterable[RegionLine]) -> None:
    """Write the lines as a table with a head, for a spreadsheet.

    Raises:
        OSError: If the file cannot be written.
    """
    with replacing(path, "w") as stream:
        # With its mark, Excel reads UTF-8.
        stream.write("\ufeff")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_cell(value) for value in astuple(line)] for line in lines)


def _cell(value: object) -> object:
    # A spreadsheet would take such a text for a formula, and run it.
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def _line(
    case: str,
    reviewer: str,
    listed: dict[str, Any] | None,
    *,
    status: str,
    decided: str = "",
    verdict: str = "",
    comment: str = "",
) -> RegionLine:
    return RegionLine(
        case=case,
        reviewer=reviewer,
        region=None if listed is None else int(listed["id"]),
        class_name="" if listed is None else str(listed["class"]),
        second_class="" if listed is None else str(listed["second_class"] or ""),
        volume_mm3=None if listed is None else float(listed["volume_mm3"]),
        expected_error_mm3=None if listed is None else float(listed["expected_error_mm3"]),
        status=status,
        reason="" if listed is None else str(listed["reason"]),
        decided=decided,
        verdict=verdict,
        comment=comment,
    )
