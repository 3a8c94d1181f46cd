"""A folder of results as a table: what is reviewed, what is not, which case comes next.

Only `case.json`, the records and the lists of regions are read, never a voxel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SemiSupSegLib.cases.reviews import refuse_single_result, reviewed_labels
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.review.record import Progress, ReviewRecord, reviewers

_RESULT_FORMAT = "semisupseg-case-result"


@dataclass(frozen=True, kw_only=True)
class ReviewRow:
    """What one reviewer has decided about a case."""

    reviewer: str
    decided: int
    regions: int
    decided_error_mm3: float
    expected_error_mm3: float
    """Of the listed regions."""
    verdict: str | None
    changed: str
    """When the last line was written: ISO time with its zone."""
    active_seconds: float
    comment: str = ""
    problem: str = ""
    """Why the record cannot be read, or empty; the figures are 0 then."""

    @property
    def progress(self) -> Progress:
        """How much is decided."""
        return Progress(
            decided=self.decided,
            regions=self.regions,
            decided_error_mm3=self.decided_error_mm3,
            expected_error_mm3=self.expected_error_mm3,
        )

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left: a verdict is given, or every region decided."""
        return self.verdict is not None or (self.regions > 0 and self.decided == self.regions)


@dataclass(frozen=True, kw_only=True)
class CohortRow:
    """One case of a folder of results."""

    case: str
    folder: Path
    expected_error_mm3: float | None
    """Of the whole case; None if it was predicted without review regions."""
    regions: int
    reviews: tuple[ReviewRow, ...] = ()
    saved: int = 0
    """Number of training labels that were saved."""
    model_sha256: str = ""
    problem: str = ""
    """Why the case cannot be read, or empty."""

    @property
    def open_error_mm3(self) -> float:
        """Expected error that nobody has decided about yet; 0 once somebody has finished."""
        if self.problem or any(one.is_finished for one in self.reviews):
            return 0.0
        done = max((one.decided_error_mm3 for one in self.reviews), default=0.0)
        return max(0.0, (self.expected_error_mm3 or 0.0) - done)

    @property
    def is_open(self) -> bool:
        """Whether somebody still has to look at it."""
        return not self.problem and not any(one.is_finished for one in self.reviews)

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The verdicts that were given, in the order of the reviewers."""
        return tuple(one.verdict for one in self.reviews if one.verdict is not None)

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain values; the folder by its name."""
        return {
            "case": self.case,
            "folder": self.folder.name,
            "expected_error_mm3": self.expected_error_mm3,
            "open_error_mm3": self.open_error_mm3,
            "regions": self.regions,
            "saved": self.saved,
            "is_open": self.is_open,
            "problem": self.problem,
            "reviews": [
                {
                    "reviewer": one.reviewer,
                    "decided": one.decided,
                    "regions": one.regions,
                    "decided_error_mm3": one.decided_error_mm3,
                    "expected_error_mm3": one.expected_error_mm3,
                    "verdict": one.verdict,
                    "changed": one.changed,
                    "active_seconds": one.active_seconds,
                    "problem": one.problem,
                }
                for one in self.reviews
            ],
        }


def stream_cohort(results: Path) -> Iterator[CohortRow]:
    """Yield a row for each case as it is read, by name; a window can breathe between them.

    A folder without `case.json` is no case and is passed over, unless it holds a review. What
    cannot be read is named in its row and does not end the table.

    Raises:
        UsageError: If `results` is no folder that can be read, or the result of one case.
    """
    refuse_single_result(results)
    try:
        with os.scandir(results) as found:
            names = sorted(one.name for one in found if one.is_dir() and one.name[0] != ".")
    except OSError as error:
        raise UsageError(
            f"{results} cannot be read as a folder of results ({error.strerror}). Give the folder "
            "that predict wrote to."
        ) from error
    for name in names:
        row = read_row(results / name)
        if row is not None:
            yield row


def read_cohort(results: Path) -> tuple[CohortRow, ...]:
    """Return the table of a folder of results, what should be looked at first at its top.

    Raises:
        UsageError: If `results` is no folder that can be read.
    """
    return in_order(stream_cohort(results))


def in_order(rows: Iterator[CohortRow] | Sequence[CohortRow]) -> tuple[CohortRow, ...]:
    """Return open cases by expected error that is not decided yet, then the others by name."""
    return tuple(
        sorted(
            rows,
            key=lambda row: (not row.is_open, -row.open_error_mm3, bool(row.problem), row.case),
        )
    )


def next_case(rows: Sequence[CohortRow], after: str | None = None) -> CohortRow | None:
    """Return the open case with the most expected error; None if there is none.

    Args:
        rows: The table.
        after: A case that is not wanted again now, although it may be open still.
    """
    return next((row for row in in_order(rows) if row.is_open and row.case != after), None)


def read_row(folder: Path) -> CohortRow | None:
    """Return the row of one result folder; None if it holds neither a result nor a review."""
    names = reviewers(folder)
    file = folder / "case.json"
    problem = ""
    figures = _Figures(case=folder.name)
    if file.is_file():
        try:
            figures = _read_figures(file)
        except SemiSupSegError as error:
            problem = str(error)
    elif not names:
        return None
    else:
        problem = f"{folder} holds a review, but no case.json. Predict the case again."
    try:
        saved = len(reviewed_labels(folder))
    except OSError:
        saved = 0
    return CohortRow(
        case=figures.case,
        folder=folder,
        expected_error_mm3=figures.expected_error_mm3,
        regions=figures.regions,
        reviews=tuple(_review(folder, name) for name in names),
        saved=saved,
        model_sha256=figures.model_sha256,
        problem=problem,
    )


@dataclass(frozen=True, kw_only=True)
class _Figures:
    """What the table needs of `case.json`."""

    case: str
    expected_error_mm3: float | None = None
    regions: int = 0
    model_sha256: str = ""


def _read_figures(file: Path) -> _Figures:
    """Return the figures of a result.

    Only what is shown is checked: the whole schema takes longer than all else, times 2,000.

    Raises:
        SemiSupSegError: If the file cannot be read, or is of another format or a newer version.
    """
    content = read_json(file)
    try:
        version = content["version"]
        is_ours = content["format"] == _RESULT_FORMAT and version >= 1
        listed = content.get("review_regions", ())
        whole = content.get("review", {}).get("expected_error_mm3")
        if whole is None and listed:
            whole = sum(float(one["expected_error_mm3"]) for one in listed)
        figures = _Figures(
            case=str(content["case"]),
            expected_error_mm3=None if whole is None else float(whole),
            regions=len(listed),
            model_sha256=str(content["model_sha256"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        is_ours, version = False, 0
    if version > 1:
        raise SemiSupSegError(f"{file} was written by a newer SemiSupSeg. Update SemiSupSeg.")
    if not is_ours:
        raise SemiSupSegError(f"{file} is damaged or no result of SemiSupSeg. Predict it again.")
    return figures


def _review(folder: Path, reviewer: str) -> ReviewRow:
    try:
        record = ReviewRecord.open(folder, reviewer)
        progress = record.progress()
    except SemiSupSegError as error:
        return ReviewRow(
            reviewer=reviewer,
            decided=0,
            regions=0,
            decided_error_mm3=0.0,
            expected_error_mm3=0.0,
            verdict=None,
            changed="",
            active_seconds=0.0,
            problem=str(error),
        )
    return ReviewRow(
        reviewer=reviewer,
        decided=progress.decided,
        regions=progress.regions,
        decided_error_mm3=progress.decided_error_mm3,
        expected_error_mm3=progress.expected_error_mm3,
        verdict=record.verdict,
        changed=record.changed,
        active_seconds=record.effort.active_seconds,
        comment=record.comment,
    )
