"""`worker`: what the panel starts; with `--job`, any other command as a job."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "Wait for predict jobs on the standard input (for the panel in Slicer)."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--job", type=Path, help="do one command, and tell of it in this folder")
    parser.add_argument(
        "command_words", nargs="*", metavar="COMMAND", help="with --job, after '--'"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until the input ends, or do one command."""
    from SemiSupSegLib.errors import UsageError
    from SemiSupSegLib.workers.one_shot import run_as_job
    from SemiSupSegLib.workers.serve import serve

    if arguments.job is None:
        if arguments.command_words:
            raise UsageError("A command goes with --job FOLDER.")
        serve(sys.stdin)
        return 0
    words: list[str] = arguments.command_words
    if not words or words[0] == "worker":
        raise UsageError("--job needs a command after '--', such as: --job FOLDER -- doctor.")
    return run_as_job(arguments.job, lambda: int(arguments.main(words)), sys.stdin)
