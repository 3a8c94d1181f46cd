"""`report`: a run folder in, one HTML page out."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Write the report of a run, finished or not, as one HTML page."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--out", type=Path, help="file to write (default: RUN/report.html)")


def run(arguments: argparse.Namespace) -> int:
    """Write the report."""
    from SemiSupSegLib.files import make_folder_of
    from SemiSupSegLib.report.build import build_report

    if arguments.out is not None:
        make_folder_of(arguments.out)
    print(f"Report: {build_report(arguments.folder, arguments.out)}")
    return 0
