"""`review open`: what the panel needs to review a result, in a folder of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.workers.job import JobFolder
from SemiSupSegLib.workers.opening import open_review


def add_action(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the action."""
    parser = actions.add_parser("open", help="begin a review, for the panel in Slicer")
    parser.add_argument("result", type=Path, metavar="OUT/CASE", help="the folder of a result")
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
