"""`review label`, `export`, `cohort`, `compare`, `status`: what is made of reviews, in files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.reviews import reviewed_labels
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.commands.json_answer import add_json, write_answer
from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import make_folder_of, read_json
from SemiSupSegLib.review.cohort import CohortRow, next_case, read_cohort
from SemiSupSegLib.review.comparison import Comparison, compare
from SemiSupSegLib.review.dicom_seg import known_source
from SemiSupSegLib.review.export import SUFFIXES, export_label
from SemiSupSegLib.review.record import ReviewRecord, check_reviewer, reviewers
from SemiSupSegLib.review.results import refuse_other_folder
from SemiSupSegLib.review.summary import summary_lines, write_csv
from SemiSupSegLib.review.training_label import MIN_CONFIDENCE, save_training_label

if TYPE_CHECKING:
    from SemiSupSegLib.review.result_label import ResultLabel

FORMATS = (*SUFFIXES, "csv", "html")


def add_actions(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the actions; each puts the function that does it into `act`."""
    label = _add_action(
        actions, "label", "save what a review leaves of the label map as a label to train on"
    )
    _add_result(label)
    _add_reviewer(label)
    label.add_argument(
        "--partial",
        action="store_true",
        help="only decided regions, drawn voxels and confident voxels count; the rest is unknown",
    )
    label.add_argument(
        "--all", action="store_true", help="save undecided regions as they were predicted"
    )
    label.add_argument(
        "--min-confidence",
        type=float,
        default=MIN_CONFIDENCE,
        metavar="C",
        help=f"with --partial: what confident is, 0 to 1 (default: {MIN_CONFIDENCE})",
    )
    label.set_defaults(act=_label)
    export = _add_action(
        actions, "export", "write a label map, the decisions or a page of them for others"
    )
    which = export.add_mutually_exclusive_group(required=True)
    which.add_argument("--result", type=Path, metavar="DIR", help="result of a case: OUT/<case>")
    which.add_argument(
        "--results", type=Path, metavar="OUT", help="csv and html: all results in this folder"
    )
    export.add_argument(
        "--format",
        choices=FORMATS,
        required=True,
        help="a label map (nifti, seg.nrrd, dicom-seg), a table of the decisions (csv), a page "
        "about a folder (html)",
    )
    export.add_argument("--out", type=Path, metavar="FILE", help="default: a file in the folder")
    _add_reviewer(export)
    export.add_argument(
        "--predicted", action="store_true", help="the label map as predicted, not as reviewed"
    )
    export.add_argument(
        "--dicom", type=Path, metavar="FOLDER", help="dicom-seg: where the segmented series is"
    )
    export.add_argument(
        "--series", metavar="UID", help="dicom-seg: which series in the folder that --dicom names"
    )
    export.add_argument(
        "--task", help="task file or name, for a result of long ago that does not tell it"
    )
    export.set_defaults(act=_export)
    cohort = _add_action(
        actions, "cohort", "list the cases of a folder, the one to look at next at the top"
    )
    cohort.add_argument(
        "--results",
        type=Path,
        metavar="OUT",
        required=True,
        help="the folder that predict wrote to",
    )
    add_json(cohort)
    cohort.set_defaults(act=_cohort)
    comparing = _add_action(actions, "compare", "tell where two reviewers of a case differ")
    _add_result(comparing)
    comparing.add_argument(
        "--reviewers",
        nargs=2,
        metavar="ALIAS",
        default=(None, None),
        help="two aliases (default: the only two)",
    )
    comparing.add_argument(
        "--decisions-only", action="store_true", help="do not read the label maps"
    )
    add_json(comparing)
    comparing.set_defaults(act=_compare)
    status = _add_action(actions, "status", "tell what was decided about a case")
    _add_result(status)
    _add_reviewer(status)
    add_json(status)
    status.set_defaults(act=_status)


def _add_action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, words: str
) -> argparse.ArgumentParser:
    return actions.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")


def run_action(arguments: argparse.Namespace) -> int:
    """Do the action that was chosen."""
    code: int = arguments.act(arguments)
    return code


def _add_result(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--result", type=Path, metavar="DIR", required=True, help="result of a case: OUT/<case>"
    )


def _add_reviewer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reviewer", metavar="ALIAS", help="whose review (default: that of the only reviewer)"
    )


def _label(arguments: argparse.Namespace) -> int:
    record = _record(arguments.result, arguments.reviewer)
    progress = record.progress()
    left = progress.regions - progress.decided
    is_whole = not arguments.partial and not arguments.all
    if is_whole and record.verdict is None and not progress.is_complete:
        raise UsageError(
            f"{left} of {counted(progress.regions, 'regions')} of {record.case} "
            f"{'is' if progress.regions == 1 else 'are'} not decided, and no verdict is given. "
            "Decide what is left, save only what was reviewed with --partial, or everything as it "
            "is with --all."
        )
    path = save_training_label(
        record, partial=arguments.partial, min_confidence=arguments.min_confidence
    )
    print(f"{path}: {_what_was_decided(record)}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    result: Path | None = arguments.result
    if arguments.format in ("csv", "html"):
        return _export_summary(arguments)
    if result is None:
        raise UsageError(f"--format {arguments.format} is of one case. Say which with --result.")
    label = _label_to_export(arguments)
    suffix = SUFFIXES[arguments.format]
    what = "predicted" if label.record is None else f"reviewed.{label.record.reviewer}"
    path = arguments.out or result / f"{label.case}.{what}{suffix}"
    source = None
    if arguments.series is not None and arguments.dicom is None:
        raise UsageError("--series is one in a folder. Say which folder with --dicom.")
    if arguments.series is not None:
        source = ImageSource(path=arguments.dicom, series=arguments.series)
    elif arguments.format == "dicom-seg" and arguments.dicom is None:
        source = known_source(result)
    export_label(label, path, arguments.format, dicom=arguments.dicom, source=source)
    print(path)
    return 0


def _export_summary(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.results or arguments.result
    path: Path = arguments.out or folder / f"review.{arguments.format}"
    make_folder_of(path)
    if arguments.format == "html":
        if arguments.results is None:
            raise UsageError("The page is of a folder of results. Give it with --results OUT.")
        from SemiSupSegLib.report.review import build_review_report

        print(build_review_report(folder, path))
        return 0
    folders = [folder]
    if arguments.results is not None:
        folders = sorted(row.folder for row in read_cohort(folder))
        if not folders:
            raise UsageError(f"{folder} holds no results. Give the folder that predict wrote to.")
    lines, problems = summary_lines(folders)
    write_csv(path, lines)
    print(f"{path}: {counted(len(lines), 'lines')}")
    if problems:
        told = "\n".join(f"  {problem}" for problem in problems)
        raise SemiSupSegError(
            f"{len(problems)} of the files could not be read, and what they hold is missing in "
            f"{path.name}:\n{told}"
        )
    return 0


def _label_to_export(arguments: argparse.Namespace) -> ResultLabel:
    from SemiSupSegLib.review.result_label import predicted_label, reviewed_label

    result: Path = arguments.result
    if arguments.predicted and arguments.reviewer:
        raise UsageError("--predicted and --reviewer exclude each other. Leave one out.")
    if not arguments.predicted and (arguments.reviewer or reviewers(result)):
        return reviewed_label(_record(result, arguments.reviewer))
    task = None if arguments.task is None else load_task(arguments.task)
    return predicted_label(result, task)


def _cohort(arguments: argparse.Namespace) -> int:
    rows = read_cohort(arguments.results)
    following = next_case(rows)
    content = {
        "cases": [row.to_json() for row in rows],
        "next": None if following is None else following.case,
    }
    if write_answer(arguments.json, content):
        return 0
    if not rows:
        print(f"{arguments.results} holds no results. Give the folder that predict wrote to.")
        return 0
    for line in _table(
        ("case", "error left", "regions", "saved", "reviews"), [_cells(row) for row in rows]
    ):
        print(line)
    num_open = sum(row.is_open for row in rows)
    print(f"{counted(len(rows), 'cases')}, {num_open} to be reviewed")
    if following is not None:
        print(f"Next: {following.case}")
    return 0


def _cells(row: CohortRow) -> tuple[str, ...]:
    error = "-" if row.expected_error_mm3 is None else f"{row.open_error_mm3 / 1000:.2f} mL"
    reviews = "; ".join(
        f"{one.reviewer}: {one.problem}"
        if one.problem
        else f"{one.reviewer}: "
        + (f"{one.decided} of {one.regions}" if one.regions else "no region is listed")
        + (f", {one.verdict}" if one.verdict else "")
        for one in row.reviews
    )
    return (row.case, error, str(row.regions), str(row.saved), row.problem or reviews or "-")


def _compare(arguments: argparse.Namespace) -> int:
    first, second = arguments.reviewers
    found = compare(arguments.result, first, second, labels=not arguments.decisions_only)
    if write_answer(arguments.json, found.to_json()):
        return 0
    for line in _told(found):
        print(line)
    return 0


def _told(found: Comparison) -> list[str]:
    first, second = found.reviewers
    head = ("region", "class", first, second, "voxels apart")
    rows = [
        (
            f"{one.region}{' *' if one.is_apart else ''}",
            one.class_name,
            *one.statuses,
            "-" if one.voxels_apart is None else str(one.voxels_apart),
        )
        for one in found.regions
    ]
    verdicts = [verdict or "none" for verdict in found.verdicts]
    lines = [*_table(head, rows), f"Verdict: {verdicts[0]} and {verdicts[1]}"]
    if found.equal_decisions is None:
        lines.append("No region is decided by both.")
    else:
        kappa = "not defined" if found.kappa is None else f"{found.kappa:.2f}"
        lines.append(f"Equal decisions: {found.equal_decisions:.0%}, Cohen's kappa {kappa}")
    if found.dice is not None:
        dice = ", ".join(
            f"{name} {'-' if value is None else f'{value:.3f}'}"
            for name, value in found.dice.items()
        )
        lines.append(f"Dice of the two labels: {dice}")
    num_apart, whole = len(found.apart), counted(len(found.regions), "regions")
    lines.append(f"{num_apart} of {whole} differ{'s' if len(found.regions) == 1 else ''} (*)")
    return lines


def _status(arguments: argparse.Namespace) -> int:
    record = _record(arguments.result, arguments.reviewer)
    statuses = record.statuses
    effort = record.effort
    content = {
        "case": record.case,
        "reviewer": record.reviewer,
        "reviewers": list(reviewers(arguments.result)),
        "is_of_dicom": _is_of_dicom(arguments.result),
        "labels": [path.name for _, path in sorted(reviewed_labels(arguments.result).items())],
        "begun": record.begun,
        "changed": record.changed,
        "verdict": record.verdict,
        "comment": record.comment,
        "is_of_other_result": record.is_of_other_result,
        "regions": {str(region): status for region, status in sorted(statuses.items())},
        "progress": str(record.progress()),
        "effort": {
            "active_seconds": effort.active_seconds,
            "strokes": effort.strokes,
            "voxels_changed": effort.voxels_changed,
            "accepted_unchanged": effort.accepted_unchanged,
        },
    }
    if write_answer(arguments.json, content):
        return 0
    print(f"{record.case} by {record.reviewer}: {_what_was_decided(record)}")
    for region in record.listed:
        print(f"  {region['id']}: {statuses.get(region['id'], 'undecided')}. {region['reason']}")
    if record.is_of_other_result:
        print("The case was predicted anew since this review began; it is of the former result.")
    return 0


def _is_of_dicom(result: Path) -> bool:
    """Return whether `case.json` names the DICOM series that a result was made from."""
    try:
        images = read_json(result / "case.json").get("images", {})
    except SemiSupSegError:
        return False
    return any(one.get("series") for one in images.values())


def _what_was_decided(record: ReviewRecord) -> str:
    verdict = f", {record.verdict}" if record.verdict else ", no verdict yet"
    return f"{record.progress()}{verdict}"


def _record(result: Path, reviewer: str | None) -> ReviewRecord:
    found = reviewers(result)
    if not found:
        refuse_other_folder(result)
        raise SemiSupSegError(
            f"Nobody has reviewed {result} yet. Begin in the panel: Review, Open results..."
        )
    if reviewer is not None:
        check_reviewer(reviewer)
        if reviewer not in found:
            raise UsageError(
                f"{result} holds no review by {reviewer}, only by {', '.join(found)}. Say one of "
                "them with --reviewer."
            )
        return ReviewRecord.open(result, reviewer)
    if len(found) == 1:
        return ReviewRecord.open(result, found[0])
    raise UsageError(f"{result} was reviewed by {', '.join(found)}. Say whose with --reviewer.")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
