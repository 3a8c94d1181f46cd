"""`plan`: what a run would be and what it would need; nothing is started, nothing is written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.commands.run_arguments import add_run_arguments, request_of, settings_of
from SemiSupSegLib.files import make_folder_of, write_json

if TYPE_CHECKING:
    from SemiSupSegLib.training.offer import Variant

HELP = "Tell what `train` with the same arguments would do, and the time, memory and disk it needs."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_run_arguments(parser)
    parser.add_argument(
        "--options",
        action="store_true",
        help="only tell what there is to choose, with the chosen preset's values; needs no cases",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write it for programs")


def run(arguments: argparse.Namespace) -> int:
    """Plan."""
    if arguments.json is not None:
        make_folder_of(arguments.json)
    content = _offer(arguments)
    if arguments.json is not None:
        write_json(arguments.json, content)
    else:
        _print_options(content["options"])
    return 0


def _offer(arguments: argparse.Namespace) -> dict[str, Any]:
    from SemiSupSegLib.training.devices import choose_device
    from SemiSupSegLib.training.offer import offer

    variant: Variant = "gpu" if choose_device(arguments.device).type == "cuda" else "cpu"
    return offer(
        preset=arguments.preset,
        method=arguments.method,
        variant=variant,
        settings=settings_of(arguments.settings),
    )


def _print_options(options: list[dict[str, Any]]) -> None:
    from SemiSupSegLib.training.described_options import text_of

    for one in options:
        print(f"{one['key']}={text_of(one['value'])}\n    {one['help']}")
