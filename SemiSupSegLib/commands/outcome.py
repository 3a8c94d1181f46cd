"""`outcome`: a finished run's student beside its teacher, and beside the model in use."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SemiSupSegLib.commands.json_answer import TERMINAL, add_json, prepare_json, write_answer

HELP = "Compare a finished run's student with its teacher, and with another model."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--against",
        metavar="MODEL",
        help="also let this model segment the run's validation cases: a package or the name of a "
        "registered model",
    )
    parser.add_argument(
        "--cases", type=Path, help="folder of the run's cases, if it has moved since"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu or cuda:N (default: %(default)s)"
    )
    add_json(parser, "the figures")


def run(arguments: argparse.Namespace) -> int:
    """Print a table for each comparison."""
    from SemiSupSegLib.models.registry import load_model
    from SemiSupSegLib.report.comparison import compare_with_model, compare_with_teacher
    from SemiSupSegLib.runs.run_folder import RunFolder
    from SemiSupSegLib.runs.stages import exclusions, exclusions_in_words

    prepare_json(arguments.json)
    tell = (lambda *_: None) if arguments.json == TERMINAL else _print
    folder = RunFolder(arguments.folder)
    content: dict[str, Any] = {
        "format": "semisupseg-outcome",
        "version": 1,
        "teacher": compare_with_teacher(folder),
        "other": None,
        "registered": _registered(folder.models / "student"),
        "excluded": exclusions(folder),
        "exclusions": exclusions_in_words(exclusions(folder)),
    }
    tell(content["teacher"], "teacher", "on the prepared grid, as in the run's report")
    if arguments.against is not None:
        package = load_model(arguments.against)
        cases = arguments.cases or Path(folder.read_config()["request"]["cases"]["folder"])
        compared = compare_with_model(
            folder, package, cases, device=arguments.device, progress=_tell
        )
        content["other"] = {"name": arguments.against, **compared}
        tell(compared, "other", "on the images' own grid, as predict writes it")
    if not write_answer(arguments.json, content) and content["exclusions"]:
        print(content["exclusions"])
    return 0


def _registered(student: Path) -> str | None:
    """Return the name under which the student is registered, if it is."""
    from SemiSupSegLib.errors import SemiSupSegError
    from SemiSupSegLib.models.package import identity
    from SemiSupSegLib.models.registry import registered_models

    own = identity(student)
    for model in registered_models():
        with contextlib.suppress(SemiSupSegError):
            if model.manifest is not None and identity(model.folder) == own:
                return model.name
    return None


def _tell(done: int, total: int) -> None:
    print(f"segmented {done} of {total}", file=sys.stderr)


def _print(compared: Mapping[str, Any], name: str, where: str) -> None:
    rows = compared["rows"]
    width = max([0, *(len(one["target"]) for one in rows)])
    if rows:
        print(f"Dice on the validation cases, {where}:")
        print(f"{'':<{width}}  student  {name:>7}  difference (95 % interval)")
    for one in rows:
        line = f"{one['target']:<{width}}  {one['student']:7.3f}"
        difference = one["difference"]
        if difference is not None:
            line += f"  {one[name]:7.3f}  {difference['mean']:+.3f}"
            if difference["low"] is not None:
                line += f" ({difference['low']:+.3f} to {difference['high']:+.3f})"
        print(line)
    if compared["sentence"]:
        print(compared["sentence"])
