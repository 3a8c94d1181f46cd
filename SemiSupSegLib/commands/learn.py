"""`learn`: a finished run goes on with what a person has corrected."""

from __future__ import annotations

import argparse
from pathlib import Path

from SemiSupSegLib.errors import SemiSupSegError

HELP = "Let a finished run's student learn from reviewed cases, and say whether it is better."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--run", dest="former", type=Path, required=True, help="finished run")
    parser.add_argument(
        "--cases", type=Path, required=True, help="folder of cases that it was trained on"
    )
    parser.add_argument(
        "--reviews",
        type=Path,
        required=True,
        metavar="OUT",
        help="folder of results with reviewed labels",
    )
    parser.add_argument("--out", type=Path, required=True, help="new run folder")
    parser.add_argument(
        "--iterations",
        type=int,
        help="optimizer updates of all phases together (default: 200 on a CPU, 600 on a GPU)",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--device", default="auto", help="auto, cpu or cuda:N (default: %(default)s)"
    )
    parser.add_argument("--store", type=Path, help="folder of prepared cases (default: user cache)")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        nargs="+",
        help="an option of learning (reviewed_share, optimizer.rate, …) or training.…",
    )
    parser.add_argument("--no-report", action="store_true", help="do not write report.html")
    parser.add_argument(
        "--check",
        choices=("names", "hashes"),
        help="only say whether the run can learn: by names, or by comparing all files",
    )


def run(arguments: argparse.Namespace) -> int:
    """Learn; the same command again goes on where it was interrupted."""
    if arguments.check is not None:
        return _check(arguments)
    from SemiSupSegLib.commands.train import finish, settings_of
    from SemiSupSegLib.training.request import TrainRequest

    return finish(
        TrainRequest(
            cases=arguments.cases,
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


def _check(arguments: argparse.Namespace) -> int:
    from SemiSupSegLib.runs.corrections import why_not_learn

    why_not = why_not_learn(
        arguments.former,
        arguments.cases,
        arguments.reviews,
        thorough=arguments.check == "hashes",
    )
    if why_not:
        raise SemiSupSegError(why_not)
    print(f"{arguments.former} can learn from {arguments.reviews}.")
    return 0
