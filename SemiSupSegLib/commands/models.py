"""`models`: list, show, import, export, choose, rename and delete registered models."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from SemiSupSegLib.commands.json_answer import add_json, write_answer
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.models import registry
from SemiSupSegLib.models.description import one_line
from SemiSupSegLib.models.package import export_package, read_package
from SemiSupSegLib.models.registry import RegisteredModel
from SemiSupSegLib.workers.rehearsal import rehearse

HELP = "List, import, export, rename and delete models."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    listing = actions.add_parser("list", help="all registered models (what happens without ACTION)")
    add_json(listing, "the list")
    showing = actions.add_parser("show", help="check one model and tell what it is")
    showing.add_argument("model", help="a registered name, a package, a zip or a run folder")
    add_json(showing)
    importing = actions.add_parser("import", help="check a model and copy it to yours")
    importing.add_argument("source", type=Path, help="a package, a zip or a run folder")
    importing.add_argument(
        "--name", help="under which it is found (default: its own, with a number if that is taken)"
    )
    importing.add_argument(
        "--keep-default", action="store_true", help="the first model becomes no default either"
    )
    exporting = actions.add_parser("export", help="write a model as one zip file")
    exporting.add_argument("model", help="a registered name, a package or a run folder")
    exporting.add_argument("file", type=Path)
    choosing = actions.add_parser("default", help="choose the model used when nothing is said")
    choosing.add_argument("model")
    renaming = actions.add_parser("rename", help="give a model another name")
    renaming.add_argument("model")
    renaming.add_argument("new_name")
    deleting = actions.add_parser("delete", help="remove a model from yours")
    deleting.add_argument("model")
    deleting.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Do one action."""
    actions: dict[str | None, Callable[[argparse.Namespace], None]] = {
        None: _list,
        "list": _list,
        "show": _show,
        "import": _import,
        "export": _export,
        "default": _choose,
        "rename": _rename,
        "delete": _delete,
    }
    actions[arguments.action](arguments)
    return 0


def _list(arguments: argparse.Namespace) -> None:
    models = registry.registered_models()
    answer = {"models": [_as_json(model) for model in models]}
    if write_answer(getattr(arguments, "json", None), answer):
        return
    if not models:
        print("No models yet. Train one, or import one: models import FILE")
    for model in models:
        marks = ["default"] * model.is_default + ["shared"] * model.is_read_only
        name = model.name + (f" ({', '.join(marks)})" if marks else "")
        print(f"{name}: {model.problem or one_line(model.manifest or {})}")


def _show(arguments: argparse.Namespace) -> None:
    package = registry.load_model(arguments.model)
    content = {
        "path": str(package.source),
        "sha256": package.sha256,
        "size_bytes": package.size_bytes,
        "manifest": package.manifest,
    }
    if write_answer(arguments.json, content):
        return
    print(f"{package.name}: {one_line(package.manifest)}")
    print(f"{package.size_bytes / 1e6:.1f} MB, all files as they were written")
    print(f"sha256 {package.sha256}")
    print()
    print(package.card())


def _import(arguments: argparse.Namespace) -> None:
    model = registry.register(
        arguments.source, arguments.name, may_be_default=not arguments.keep_default
    )
    print(f"{model.name} is registered{' and the default' if model.is_default else ''}.")
    # Only for a forecast: without torch, or if its weights do not fit, whoever uses it is told.
    with contextlib.suppress(ImportError, SemiSupSegError):
        rehearse(model.folder)


def _export(arguments: argparse.Namespace) -> None:
    if arguments.file.exists():
        raise UsageError(f"{arguments.file} exists already. Choose another file.")
    if not arguments.file.parent.is_dir():
        raise UsageError(f"There is no folder {arguments.file.parent}. Make it first.")
    package = registry.load_model(arguments.model)
    export_package(package, arguments.file)
    # What cannot be read back should be known now, not by whoever receives it.
    read_package(arguments.file)
    print(f"{arguments.file}: {arguments.file.stat().st_size / 1e6:.1f} MB")


def _choose(arguments: argparse.Namespace) -> None:
    registry.set_default(arguments.model)
    print(f"{arguments.model} is the default.")


def _rename(arguments: argparse.Namespace) -> None:
    model = registry.rename(arguments.model, arguments.new_name)
    print(f"{arguments.model} is now called {model.name}.")


def _delete(arguments: argparse.Namespace) -> None:
    model = registry.find_model(arguments.model)
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise UsageError("Nobody can be asked here. Say --yes to delete the model.")
        if input(f"Delete {model.name} ({model.folder})? [y/N] ").strip().lower() != "y":
            print("Kept.")
            return
    registry.delete(model.name)
    print(f"{model.name} is deleted.")


def _as_json(model: RegisteredModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "folder": str(model.folder),
        "default": model.is_default,
        "shared": model.is_read_only,
        "size_bytes": model.size_bytes,
        "manifest": model.manifest,
        "problem": model.problem,
    }
