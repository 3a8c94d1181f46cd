"""`train`: a folder of cases in, teacher, student and report out."""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.commands.run_arguments import add_run_arguments, request_of
from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.processes import torchrun_parts
from SemiSupSegLib.resources import default_preset
from SemiSupSegLib.workers.processes import command_line

if TYPE_CHECKING:
    from SemiSupSegLib.training.request import TrainRequest

HELP = "Train on a folder of cases; the same command again goes on where it was interrupted."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_run_arguments(parser)
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with a run as it was started; only --cases and --store may be said besides",
    )
    parser.add_argument("--list-methods", action=_ListMethods, help="tell the methods, and end")
    parser.add_argument("--no-report", action="store_true", help="do not write report.html")


_LISTED_PATCH = (48, 48, 48)
_LISTED_WIDTH = 100


class _ListMethods(argparse.Action):
    """Prints the methods and ends, without asking for the required options."""

    def __init__(self, **options: Any):
        super().__init__(nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from SemiSupSegLib.cases.task import load_task
        from SemiSupSegLib.methods.catalogue import METHODS
        from SemiSupSegLib.training.configuration import configure
        from SemiSupSegLib.training.needs import in_words, update_memory

        task = load_task("brats")
        rows = []
        for name, one in METHODS.items():
            if not one.goes_on:
                config = configure(preset=default_preset(name), method=name, variant="cpu")
                memory = in_words(update_memory(config, task, _LISTED_PATCH))
                paper = "" if one.paper == "-" else f" {one.paper}."
                below = (one.title, f"Needs {one.needs}.{paper}")
                rows.append((name, memory, one.forward_passes, below))
        named, in_memory = (max(len(row[column]) for row in rows) + 2 for column in (0, 1))
        print(f"{'Method':{named}}{'Memory':{in_memory}}Forward passes a step")
        for name, memory, passes, below in rows:
            print(f"\n{name:{named}}{memory:{in_memory}}{passes}")
            for text in below:
                for line in textwrap.wrap(text, _LISTED_WIDTH - named, break_on_hyphens=False):
                    print(" " * named + line)
        sides = " x ".join(map(str, _LISTED_PATCH))
        print(
            f"\nMemory: of an update with the method's preset for a CPU, {len(task.channels)} "
            f"channels,\n{task.num_classes} classes, patches of {sides} voxels."
        )
        parser.exit()


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    request = request_of(arguments) if arguments.resume is None else _resumed(arguments)
    return finish(request, report=not arguments.no_report)


def goes_on(arguments: argparse.Namespace) -> str:
    """Return how an interrupted run goes on."""
    return how_it_goes_on(arguments.resume or arguments.out, arguments.words)


def how_it_goes_on(run: Path | None, words: Sequence[str]) -> str:
    """Return the command line, good in any folder, with which an interrupted run goes on.

    Args:
        run: Its folder, if one was said.
        words: Of the command that was interrupted.
    """
    if torchrun_parts()[0].size > 1:
        return "Nothing that was learnt is lost; the same command goes on."
    if run is None or not (run / "run.json").is_file():
        return f"Nothing was begun. To start: {command_line(sys.executable, words)}"
    again = ["train", "--resume", str(run.absolute())]
    return f"Nothing that was learnt is lost. To go on: {command_line(sys.executable, again)}"


def _resumed(arguments: argparse.Namespace) -> TrainRequest:
    from SemiSupSegLib.training.request import resumed

    said = [
        f"--{name}"
        for name in ("out", "task", "method", "split", "patient", "reviews", "iterations")
        if getattr(arguments, name) is not None
    ]
    said += ["--set"] if arguments.settings else []
    if said:
        raise UsageError(
            f"--resume goes on with a run as it was started, so {said[0]} cannot be said. For "
            "other choices start a run in another folder."
        )
    return resumed(arguments.resume, cases=arguments.cases, store=arguments.store)


def finish(request: TrainRequest, *, report: bool) -> int:
    """Start the run or go on with it to its end, and say what came of it; `learn` does, too."""
    from SemiSupSegLib.training.run import train
    from SemiSupSegLib.workers.estimates import MeasuredRuns

    outcome = train(request, MeasuredRuns())
    if not outcome.is_first:
        # Of several processes that torchrun started, the first one speaks.
        return 0
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
