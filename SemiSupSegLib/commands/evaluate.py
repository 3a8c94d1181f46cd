"""`evaluate`: judge predictions by the reference labels of their cases."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.commands.json_answer import add_json, prepare_json, write_answer
from SemiSupSegLib.counting import counted

if TYPE_CHECKING:
    from SemiSupSegLib.cases.case import Case
    from SemiSupSegLib.cases.task import Task

HELP = "Judge predictions by the labels of their cases."

COLUMNS = (
    ("dice", "Dice", 3),
    ("iou", "IoU", 3),
    ("hd95_mm", "HD95 mm", 2),
    ("assd_mm", "ASSD mm", 2),
    ("ravd", "RAVD", 3),
    ("volume_ml", "volume mL", 1),
)
REFERENCE_COLUMNS = (
    ("dice_ref", "dc", 3),
    ("iou_ref", "jc", 3),
    ("hd95_ref", "hd95 voxels", 2),
    ("asd_ref", "asd voxels", 2),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evaluate`."""
    parser.add_argument(
        "--predictions", type=Path, required=True, help="folder that 'predict' wrote to"
    )
    parser.add_argument("--cases", type=Path, required=True, help="folder with the labelled cases")
    parser.add_argument(
        "--reviews",
        type=Path,
        metavar="OUT",
        help="folder of results; its reviewed labels judge cases that have no label of their own",
    )
    parser.add_argument("--task", help="task file or built-in task; left out: recognised")
    parser.add_argument(
        "--preset",
        choices=("mm", "la_voxels"),
        default="mm",
        help="la_voxels adds the voxel metrics of the left atrium papers (*_ref)",
    )
    parser.add_argument(
        "--network",
        choices=("student", "teacher"),
        default="student",
        help="teacher: judge the pseudo-labels as well, and the gain of the student",
    )
    parser.add_argument(
        "--skip-empty",
        action="store_true",
        help="leave classes that are in neither label map out of the means (else Dice 1)",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    add_json(parser, "all figures")


def run(arguments: argparse.Namespace) -> int:
    """Judge, write and print; cases that fail are told at the end, after the figures of the others.

    Raises:
        SemiSupSegError: If nothing could be judged, or a case failed.
    """
    from SemiSupSegLib.cases.case import CaseState
    from SemiSupSegLib.cases.discovery import discover
    from SemiSupSegLib.cases.task import load_task
    from SemiSupSegLib.errors import SemiSupSegError, UsageError
    from SemiSupSegLib.evaluation.cohort import cohort_figures, judge, match

    if arguments.workers < 1:
        raise UsageError(f"--workers is {arguments.workers}, must be at least 1.")
    predictions: Path = arguments.predictions
    if not predictions.is_dir():
        raise SemiSupSegError(f"{predictions} is not a folder. Give the folder 'predict' wrote to.")
    task = None if arguments.task is None else load_task(arguments.task)
    prepare_json(arguments.json)
    # Labels of cases that were not predicted stay unopened.
    predicted = {folder.name for folder in predictions.iterdir() if folder.is_dir()}
    scan = discover(arguments.cases, task, check_content=False, label_ids=predicted)
    cases: Sequence[Case] = scan.cases
    if arguments.reviews is not None:
        cases = _with_reviews(cases, arguments.cases, scan.task, arguments.reviews)
    matching = match(
        predictions,
        cases,
        scan.task,
        preset=arguments.preset,
        with_teacher=arguments.network == "teacher",
    )
    judged, failed = judge(
        matching.requests, workers=arguments.workers, progress=_progress_on(sys.stderr)
    )
    failed = [*matching.refused, *failed]
    problems = "\n".join(f"  {one.id}: {one.message}" for one in failed)
    if not judged:
        count = counted(len(failed), "cases")
        raise SemiSupSegError(f"None of {count} could be judged:\n{problems}")
    content = cohort_figures(
        judged, scan.task, preset=arguments.preset, skip_empty=arguments.skip_empty
    )
    content["skipped"] = {
        "without_label": list(matching.without_label),
        "without_prediction": list(matching.without_prediction),
        "unknown_predictions": list(matching.unknown),
    }
    content["failed"] = {one.id: one.message for one in failed}
    ids = {one.id for one in judged}
    content["judged_by_review"] = sorted(
        case.id for case in cases if case.state is CaseState.REVIEWED and case.id in ids
    )
    if not write_answer(arguments.json, content):
        print("\n".join(_report(content)))
    for warning in (
        *_label_warnings(cases),
        *(one for case in judged for one in case.warnings),
    ):
        logging.getLogger(__name__).warning(warning)
    if failed:
        all_cases = counted(len(failed) + len(judged), "cases")
        raise SemiSupSegError(
            f"{len(failed)} of {all_cases} could not be judged and "
            f"{'is' if len(failed) == 1 else 'are'} not in the figures above:\n{problems}"
        )
    return 0


def _with_reviews(cases: Sequence[Case], folder: Path, task: Task, reviews: Path) -> Sequence[Case]:
    """Return the cases, those without a label of their own with a reviewed one if there is any."""
    from SemiSupSegLib.cases.case import CaseState
    from SemiSupSegLib.cases.discovery import discover

    found = discover(folder, task, check_content=False, label_ids=(), reviews=reviews)
    reviewed = {case.id: case for case in found.cases if case.state is CaseState.REVIEWED}
    return [
        reviewed.get(case.id, case) if case.state is CaseState.UNLABELLED else case
        for case in cases
    ]


def _label_warnings(cases: Sequence[Case]) -> Iterable[str]:
    """Return what the scan doubts about the meaning of the labels, each sentence once."""
    return dict.fromkeys(
        reason.sentences
        for case in cases
        for reason in case.reasons
        if reason.code == "label_meaning"
    )


def _progress_on(stream: Any) -> Callable[[int, int], None] | None:
    if not stream.isatty():
        return None

    def show(done: int, total: int) -> None:
        print(
            f"\r{done} of {counted(total, 'cases')}", end="\n" if done == total else "", file=stream
        )

    return show


def _report(content: Mapping[str, Any]) -> list[str]:
    cases = counted(content["num_cases"], "cases")
    lines = [f"{cases}, task {content['task']}; mean ± sd over the cases"]
    skipped = content["skipped"]
    for name, words in (
        ("without_label", "predicted without a reference label (skipped)"),
        ("without_prediction", "labelled without a prediction (skipped)"),
        ("unknown_predictions", "predicted and not among the cases (skipped)"),
    ):
        if skipped[name]:
            lines.append(f"{len(skipped[name])} {words}")
    if content["judged_by_review"]:
        lines.append(
            f"{len(content['judged_by_review'])} judged by a reviewed label, which favours the "
            "model that it was made from"
        )
    columns = COLUMNS + (REFERENCE_COLUMNS if content["preset"] == "la_voxels" else ())
    lines += ["", *_table(content["summary"], columns), *_headline(content, "")]
    if "teacher" in content:
        lines += ["", "Teacher", *_table(content["teacher"]["summary"], columns)]
        lines += _headline(content["teacher"], "teacher: ")
        lines += ["", content["gain"]["headline"]["sentence"]]
    return [*lines, "", *_doubt(content)]


def _table(summary: Mapping[str, Any], columns: tuple[tuple[str, str, int], ...]) -> list[str]:
    rows = [["", *(title for _, title, _ in columns), "n", "empty: both / one"]]
    for target, metrics in summary.items():
        cells = [_mean_and_sd(metrics[name], digits) for name, _, digits in columns]
        empty = metrics["empty"]
        counts = f"{empty['both_empty']} / {empty['one_empty']}"
        rows.append([target, *cells, str(metrics["dice"]["n"]), counts])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _mean_and_sd(statistics: Mapping[str, Any], digits: int) -> str:
    if statistics["mean"] is None:
        return "-"
    mean = f"{statistics['mean']:.{digits}f}"
    return mean if statistics["sd"] is None else f"{mean} ± {statistics['sd']:.{digits}f}"


def _headline(block: Mapping[str, Any], prefix: str) -> list[str]:
    dice = block["headline"]["dice"]
    targets = ", ".join(block["headline"]["targets"])
    if dice["mean"] is None:
        return [f"{prefix}mean Dice of {targets}: no case has any of them"]
    line = f"{prefix}mean Dice of {targets}: {dice['mean']:.3f}"
    if dice["low"] is not None:
        line += f" (95 % interval {dice['low']:.3f} to {dice['high']:.3f})"
    return [line]


def _doubt(content: Mapping[str, Any]) -> list[str]:
    total = content["errors"]["summary"]["total"]
    lines = []
    if total["voxels"]:
        shares = ", ".join(
            f"{kind.replace('_', ' ')} {content['errors']['summary'][kind]['fraction']:.0%}"
            for kind in ("boundary", "false_positive", "false_negative", "class_confusion")
        )
        lines.append(f"Wrong voxels, {total['mm3'] / 1000:.1f} mL in all: {shares}")
    if "calibration" in content:
        summary = content["calibration"]["summary"]
        lines.append(
            f"Calibration error of the confidence: {_mean_and_sd(summary['ece'], 3)} "
            f"({content['calibration']['region_of_interest']})"
        )
    risk = content.get("risk_coverage", {})
    for name, found in risk.get("voxels", {}).items():
        means = found["summary"]
        if means["aurc"]["mean"] is not None:
            lines.append(
                f"Area under risk-coverage of {name}: {means['aurc']['mean']:.4f} "
                f"({means['random']['mean']:.4f} without information)"
            )
    for target, figures in content.get("qubrats", {}).get("summary", {}).items():
        lines.append(f"QU-BraTS score of {target}: {_mean_and_sd(figures['score'], 3)}")
    image = content.get("ranking", {}).get("image_confidence")
    if image is not None:
        rank = image["headline"]["spearman"]
        value = "none" if rank["value"] is None else f"{rank['value']:.2f}"
        interval = (
            ""
            if rank["low"] is None
            else f", 95 % interval {rank['low']:.2f} to {rank['high']:.2f}"
        )
        lines.append(f"Spearman of image confidence with Dice: {value} (n = {rank['n']}{interval})")
    return lines
