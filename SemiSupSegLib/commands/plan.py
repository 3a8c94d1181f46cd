"""`plan`: what a run would be and what it would need; nothing is started."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.commands.json_answer import add_json, prepare_json, write_answer
from SemiSupSegLib.commands.run_arguments import add_run_arguments, request_of, settings_of
from SemiSupSegLib.counting import counted
from SemiSupSegLib.resources import default_preset

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
    add_json(parser, "the plan, or the options,")


def run(arguments: argparse.Namespace) -> int:
    """Plan."""
    prepare_json(arguments.json)
    if arguments.options:
        content = _offer(arguments)
    else:
        from SemiSupSegLib.training.planning import plan_run
        from SemiSupSegLib.workers.estimates import MeasuredRuns

        content = plan_run(request_of(arguments), MeasuredRuns())
    if write_answer(arguments.json, content):
        return 0
    if arguments.options:
        _print_options(content["options"])
        return 0
    _print_plan(content)
    if not content["why_not"]:
        return 0
    if arguments.json is not None:
        # For a program, a refusal is an answer as well.
        print(content["why_not"])
        return 0
    print(f"Error: {content['why_not']}", file=sys.stderr)
    return int(content["exit_code"])


def _offer(arguments: argparse.Namespace) -> dict[str, Any]:
    from SemiSupSegLib.training.devices import choose_device
    from SemiSupSegLib.training.offer import offer

    variant: Variant = "gpu" if choose_device(arguments.device).type == "cuda" else "cpu"
    return offer(
        preset=arguments.preset or default_preset(arguments.method),
        method=arguments.method,
        variant=variant,
        settings=settings_of(arguments.settings),
    )


def _print_options(options: list[dict[str, Any]]) -> None:
    from SemiSupSegLib.training.described_options import text_of

    for one in options:
        print(f"{one['key']}={text_of(one['value'])}\n    {one['help']}")


def _print_plan(plan: Mapping[str, Any]) -> None:
    for finding in plan.get("findings", ()):
        print(finding)
    if "split" in plan:
        counts = {name: len(ids) for name, ids in plan["split"].items()}
        print(
            f"{plan['method']}, preset {plan['preset']}, {counted(plan['iterations'], 'updates')} "
            f"on {plan['device']}: {counts['train_labelled']} labelled and "
            f"{counted(counts['train_unlabelled'], 'unlabelled cases')} to train on, "
            f"{counts['validation']} to judge by"
        )
    if "phases" in plan:
        phases = ", ".join(f"{one['name']} {one['iterations']}" for one in plan["phases"])
        print(f"Patch {' x '.join(map(str, plan['patch_size']))} voxels; updates: {phases}")
    if "estimate" in plan:
        _print_estimate(plan["estimate"])


def _print_estimate(estimate: Mapping[str, Any]) -> None:
    from SemiSupSegLib.training.needs import in_words

    if estimate["seconds"] is not None:
        print(
            f"Time: about {_duration(estimate['seconds'])} on {estimate['device_name']}, of which "
            f"{_duration(estimate['seconds_cases'])} predicting cases and "
            f"{_duration(estimate['seconds_preparation'])} preparing them"
        )
        print(f"Measured: {estimate['measured']}")
    print(
        f"Memory: about {in_words(estimate['memory_bytes'])} "
        f"({in_words(estimate['free_memory_bytes'])} free)"
    )
    if estimate["device_memory_bytes"] is not None:
        print(
            f"Memory of the GPU: about {in_words(estimate['device_memory_bytes'])} "
            f"({in_words(estimate['free_device_bytes'])} free)"
        )
    free = estimate["free_disk_bytes"]
    print(
        f"Disk: at most {in_words(estimate['disk_bytes'])} in the run folder and "
        f"{in_words(estimate['store_bytes'])} more in the store of prepared cases"
        + ("" if free is None else f" ({in_words(free)} free)")
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
