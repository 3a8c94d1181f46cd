"""The commands of pip that an installation consists of, and what they must not change."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from SemiSupSegLib.workers.packages import Probe
from SemiSupSegLib.workers.plan import InstallPlan

_CHOOSER = "light-the-torch"
_VERSION = re.compile(r"(\d+!)?\d+(\.\d+)*((a|b|rc)\d+)?(\.?post\d+)?(\.dev\d+)?(\+[\w.]+)?")
_ONLY_WHEELS = ("--only-binary", ":all:")


def constraints(probe: Probe, without: Collection[str] = ()) -> str:
    """Return a pip constraints file that keeps every installed package at its version.

    Args:
        probe: What is installed.
        without: Normalized names of packages that are to be installed anew.
    """
    pins = [
        f"{one.name}=={one.version}"
        for name, one in sorted(probe.installed.items())
        # What pip cannot read as a version would end it.
        if name not in without and one.is_complete and _VERSION.fullmatch(one.version)
    ]
    return "\n".join(pins) + "\n"


def pip_commands(plan: InstallPlan, python: str, constraints_file: Path) -> list[tuple[str, ...]]:
    """Return the commands that install, one after the other.

    Args:
        plan: Of the installation.
        python: The interpreter.
        constraints_file: Made by `constraints`.
    """
    pip: tuple[str, ...] = (python, "-m", "pip", "install")
    rules: tuple[str, ...] = (*_ONLY_WHEELS, "--constraint", str(constraints_file))
    if plan.wheels is not None:
        rules = (*rules, "--no-index", "--find-links", plan.wheels)
    if plan.is_target:
        rules = (*rules, "--target", plan.place)
    pairs = list(zip(plan.names, plan.install, strict=True))
    torch = [requirement for name, requirement in pairs if name == "torch"]
    others = [requirement for name, requirement in pairs if name != "torch"]
    commands: list[tuple[str, ...]] = []
    if plan.chooser == "install first":
        commands.append((*pip, *rules, _CHOOSER))
    if torch:
        start = (python, "-m", "light_the_torch", "install") if plan.chooser else pip
        commands.append((*start, *rules, *torch))
    if others:
        commands.append((*pip, *rules, *others))
    return commands
