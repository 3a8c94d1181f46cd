"""`learn`: a finished run goes on with what a person has corrected."""

from __future__ import annotations

import argparse
from pathlib import Path

from SemiSupSegLib.commands.json_answer import add_json, write_answer
from SemiSupSegLib.commands.run_arguments import add_work_arguments, settings_of
from SemiSupSegLib.commands.train import finish, how_it_goes_on
from SemiSupSegLib.errors import SemiSupSegError, UsageError

HELP = "Let a finished run's student learn from reviewed cases, and say whether it is better."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--run", dest="former", type=Path, required=True, metavar="RUN", help="the finished run"
    )
    parser.add_argument(
        "--cases",
        type=Path,
        metavar="FOLDER",
        help="folder of cases that it was trained on (default: where they were then)",
    )
    parser.add_argument(
        "--reviews",
        type=Path,
        required=True,
        metavar="OUT",
        help="folder of results with reviewed labels",
    )
    parser.add_argument("--out", type=Path, metavar="RUN2", help="new run folder")
    add_work_arguments(
        parser,
        iterations="(default: 200 on a CPU, 600 on a GPU)",
        settings="an option of learning (reviewed_share, optimizer.rate, …) or training.…; what is "
        "not set is as in the former run, but for training.threads, which is of this machine",
    )
    parser.add_argument("--no-report", action="store_true", help="do not write report.html")
    parser.add_argument(
        "--check",
        choices=("names", "hashes"),
        help="only tell whether the run can learn: from names alone, or by comparing all files",
    )
    add_json(parser, "what --check finds")


def run(arguments: argparse.Namespace) -> int:
    """Learn; the same command again goes on where it was interrupted."""
    if arguments.check is not None:
        return _check(arguments)
    from SemiSupSegLib.runs.corrections import cases_of, free_folder

    if arguments.out is None:
        raise UsageError(
            "Say with --out in which new run folder to learn, for example "
            f"{free_folder(arguments.former)}"
        )
    from SemiSupSegLib.training.request import TrainRequest

    return finish(
        TrainRequest(
            cases=cases_of(arguments.former) if arguments.cases is None else arguments.cases,
            out=arguments.out,
            reviews=arguments.reviews,
            former=arguments.former,
            method="corrections",
            iterations=arguments.iterations,
            seed=arguments.seed,
            device=arguments.device,
            store=arguments.store,
            settings=settings_of(arguments.settings),
            command=arguments.words,
        ),
        report=not arguments.no_report,
    )


def goes_on(arguments: argparse.Namespace) -> str:
    """Return how an interrupted run goes on."""
    return how_it_goes_on(arguments.out, arguments.words)


def _check(arguments: argparse.Namespace) -> int:
    from SemiSupSegLib.runs.corrections import cases_of, free_folder, look_before_learning

    former: Path = arguments.former
    cases = arguments.cases or cases_of(former)
    why_not, notes = look_before_learning(
        former, cases, arguments.reviews, thorough=arguments.check == "hashes"
    )
    if arguments.json is not None:
        out = free_folder(former)
        content = {"why_not": why_not, "notes": list(notes), "cases": str(cases), "out": str(out)}
        write_answer(arguments.json, content)
        return 0
    if why_not:
        raise SemiSupSegError(why_not)
    print("\n".join([f"{former} can learn from {arguments.reviews}.", *notes]))
    return 0
