"""`train`: a folder of cases in, teacher, student and report out."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.resources import preset_names

if TYPE_CHECKING:
    from SemiSupSegLib.training.request import TrainRequest

HELP = "Train on a folder of cases; the same command again goes on where it was interrupted."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--cases", type=Path, required=True, help="folder of cases")
    parser.add_argument("--out", type=Path, required=True, help="run folder, made if missing")
    parser.add_argument(
        "--task", help="brats, brats_msd, binary or a task file (default: recognised)"
    )
    parser.add_argument("--method", help="default: the preset's; see --list-methods")
    parser.add_argument("--list-methods", action=_ListMethods, help="tell the methods, and end")
    parser.add_argument(
        "--preset",
        default="standard",
        help=f"one of {', '.join(preset_names())} (default: %(default)s)",
    )
    parser.add_argument(
        "--split", type=Path, help="JSON: train_labelled, train_unlabelled, validation"
    )
    parser.add_argument(
        "--reviews",
        type=Path,
        metavar="OUT",
        help="a folder of results; its reviewed labels count as labels",
    )
    parser.add_argument("--iterations", type=int, help="optimizer updates of all phases together")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--device", default="auto", help="auto, cpu or cuda:N (default: %(default)s)"
    )
    parser.add_argument(
        "--store",
        type=Path,
        help="folder of prepared cases; may change while a run goes on (default: user cache)",
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        nargs="+",
        help="an option of the method, or training.… or preparation.…; may be repeated",
    )
    parser.add_argument("--no-report", action="store_true", help="do not write report.html")


class _ListMethods(argparse.Action):
    """Prints the methods and ends, without asking for the required options."""

    def __init__(self, **options: Any):
        super().__init__(nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from SemiSupSegLib.methods.catalogue import METHODS

        head = ("Method", "What it does", "Paper", "Needs", "Forward passes a step")
        rows = [
            (name, one.title, one.paper, one.needs, one.forward_passes)
            for name, one in METHODS.items()
            if not one.goes_on
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        for row in (head, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  ".join(cells).rstrip())
        parser.exit()


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    from SemiSupSegLib.training.request import TrainRequest

    return finish(
        TrainRequest(
            cases=arguments.cases,
            out=arguments.out,
            reviews=arguments.reviews,
            task=arguments.task,
            method=arguments.method,
            preset=arguments.preset,
            split=arguments.split,
            iterations=arguments.iterations,
            seed=arguments.seed,
            device=arguments.device,
            store=arguments.store,
            settings=settings_of(arguments.settings),
            command=arguments.words,
        ),
        report=not arguments.no_report,
    )


def settings_of(given: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the values of `--set` by key.

    Raises:
        UsageError: If one is not of the form key=value.
    """
    settings: dict[str, str] = {}
    for text in (one for group in given for one in group):
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {text} is not of the form key=value.")
        settings[key] = value
    return settings


def finish(request: TrainRequest, *, report: bool) -> int:
    """Start the run or go on with it to its end, and say what came of it; `learn` does, too."""
    from SemiSupSegLib.training.run import train

    outcome = train(request)
    page = request.out / "report.html"
    if outcome.was_finished and (page.exists() or not report):
        print(f"{request.out} is finished already; nothing was changed.")
        return 0
    for line in outcome.lines:
        print(line)
    if report:
        from SemiSupSegLib.report.build import build_report

        build_report(request.out)
        print(f"Report: {page}")
    print(
        f"Segment new cases: predict --model {shlex.quote(str(request.out))} "
        "--cases FOLDER --out RESULTS"
    )
    return 0
