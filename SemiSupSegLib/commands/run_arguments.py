"""What a run is asked for on the command line: shared by `train`, `plan` and `learn`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from SemiSupSegLib.commands.scan import PATIENT_HELP
from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.resources import DEFAULT_PRESET, default_preset, preset_names

if TYPE_CHECKING:
    from SemiSupSegLib.training.request import TrainRequest


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what a run from nothing is asked for; `request_of` reads it."""
    parser.add_argument("--cases", type=Path, help="folder of cases")
    parser.add_argument("--out", type=Path, help="run folder, made if missing")
    parser.add_argument(
        "--task", help="brats, brats_msd, binary or a task file (default: recognised)"
    )
    parser.add_argument("--method", help="default: the preset's; see train --list-methods")
    parser.add_argument(
        "--preset",
        help=f"one of {', '.join(preset_names())} (default: the method's own, else "
        f"{DEFAULT_PRESET})",
    )
    parser.add_argument(
        "--split", type=Path, help="JSON: train_labelled, train_unlabelled, validation"
    )
    parser.add_argument("--patient", metavar="PATTERN", help=PATIENT_HELP)
    parser.add_argument(
        "--reviews",
        type=Path,
        metavar="OUT",
        help="a folder of results; its reviewed labels count as labels",
    )
    add_work_arguments(
        parser,
        iterations="(default: the preset's)",
        settings="an option of the method, or training.… or preparation.…; may be repeated",
    )


def add_work_arguments(parser: argparse.ArgumentParser, *, iterations: str, settings: str) -> None:
    """Declare how long and where a run works, and its single options.

    Args:
        parser: Of the command.
        iterations: What is said of their default.
        settings: Which options there are.
    """
    parser.add_argument(
        "--iterations", type=int, help=f"optimizer updates of all phases together {iterations}"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)"
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
        help=settings,
    )


def request_of(arguments: argparse.Namespace) -> TrainRequest:
    """Return what the arguments of `add_run_arguments` ask for.

    Raises:
        UsageError: If cases or run folder are not said, or a setting is not of the form key=value.
    """
    from SemiSupSegLib.training.request import TrainRequest

    if arguments.cases is None or arguments.out is None:
        raise UsageError("Say the folder of cases with --cases and the run folder with --out.")
    return TrainRequest(
        cases=arguments.cases,
        out=arguments.out,
        reviews=arguments.reviews,
        task=arguments.task,
        method=arguments.method,
        preset=arguments.preset or default_preset(arguments.method),
        split=arguments.split,
        patient=arguments.patient,
        iterations=arguments.iterations,
        seed=arguments.seed,
        device=arguments.device,
        store=arguments.store,
        settings=settings_of(arguments.settings),
        command=arguments.words,
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
