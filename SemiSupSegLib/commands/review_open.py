"""`review open`, `review carry`: for the panel, which reads and writes local files only."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from SemiSupSegLib.commands.json_answer import add_json, write_answer
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.review.outbox import carry, carry_all, outbox, outboxes
from SemiSupSegLib.workers.job import JobFolder
from SemiSupSegLib.workers.opening import open_review


def add_action(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the actions."""
    parser = actions.add_parser("open", help="begin a review, for the panel in Slicer")
    parser.add_argument(
        "--result", type=Path, required=True, metavar="OUT/CASE", help="the folder of a result"
    )
    parser.add_argument("--reviewer", required=True, metavar="ALIAS")
    parser.add_argument(
        "--job", dest="job_folder", type=Path, required=True, help="gets what the panel reads"
    )
    parser.add_argument("--sensitivity", type=float, help="list other regions, 0 to 1")
    parser.add_argument("--anew", action="store_true", help="move a former review aside")
    parser.add_argument(
        "--has-scene", action="store_true", help="images and maps are in the scene already"
    )
    parser.set_defaults(act=_open)
    carrying = actions.add_parser(
        "carry", help="add what was decided on this machine to the records in the results' folders"
    )
    carrying.add_argument(
        "--outbox", type=Path, metavar="OUTBOX", help="default: all in which something is"
    )
    add_json(carrying, "where it is now")
    carrying.set_defaults(act=_carry)


def carry_before(arguments: argparse.Namespace) -> None:
    """Let an action find in the results' folders what was decided on this machine.

    Raises:
        SemiSupSegError: If that does not work, and the action makes something of the decisions.
    """
    folder = getattr(arguments, "results", None) or getattr(arguments, "result", None)
    if folder is None or arguments.action in ("open", "carry"):
        return
    try:
        carry_all(folder)
    except SemiSupSegError as error:
        if arguments.action in ("label", "export"):
            raise
        print(error, file=sys.stderr)


def _carry(arguments: argparse.Namespace) -> int:
    chosen: Path | None = arguments.outbox
    boxes = [one for one in outboxes() if one.is_waiting] if chosen is None else [outbox(chosen)]
    problems, content = [], []
    for box in boxes:
        try:
            done = carry(box)
        except SemiSupSegError as error:
            problems.append(str(error))
            continue
        content.append({"target": str(done.target), "is_aside": done.is_aside})
    if not write_answer(arguments.json, {"carried": content, "problems": problems}):
        for one in content:
            print(one["target"])
    if problems:
        raise SemiSupSegError(" ".join(problems))
    return 0


def _open(arguments: argparse.Namespace) -> int:
    sensitivity: float | None = arguments.sensitivity
    if sensitivity is not None and not 0 <= sensitivity <= 1:
        raise UsageError(f"--sensitivity is {sensitivity}, must be from 0 to 1.")
    open_review(
        arguments.result,
        arguments.reviewer,
        JobFolder(arguments.job_folder),
        sensitivity=sensitivity,
        is_anew=arguments.anew,
        has_scene=arguments.has_scene,
    )
    return 0
