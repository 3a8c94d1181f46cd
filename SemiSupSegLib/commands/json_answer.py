"""`--json`: what a command has found, for programs; in a file, or on standard output."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from SemiSupSegLib.files import make_folder_of, write_json

TERMINAL = "-"


def add_json(
    parser: argparse.ArgumentParser, what: str = "the answer", *, default: str | None = None
) -> None:
    """Declare `--json`.

    Args:
        parser: Of the command.
        what: What is written, for the help.
        default: As of `add_argument`.
    """
    parser.add_argument(
        "--json",
        nargs="?",
        const=TERMINAL,
        metavar="FILE",
        default=default,
        help=f"write {what} to this file (without one, or '-': to standard output, without words)",
    )


def prepare_json(target: str | None) -> None:
    """Make the folder of the file before the work begins, which may take long.

    Raises:
        SemiSupSegError: If the file cannot be written.
    """
    if target is not None and target != TERMINAL:
        make_folder_of(Path(target))


def write_answer(target: str | None, content: object) -> bool:
    """Write JSON where it is wanted; return whether standard output is taken by it.

    Raises:
        SemiSupSegError: If the file cannot be written.
    """
    if target is None:
        return False
    if target == TERMINAL:
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return True
    make_folder_of(Path(target))
    write_json(Path(target), content)
    return False
