"""The methods by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.methods.curriculum import Curriculum, CurriculumOptions
from SemiSupSegLib.methods.protocol import Method
from SemiSupSegLib.methods.supervised import Supervised, SupervisedOptions


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """A method that can be chosen by name."""

    title: str
    paper: str
    options: type[Any]
    """Dataclass of its options; has a field `network`."""
    make: Callable[..., Method]
    """Called with options, build, iterations, preset_iterations."""


METHODS: dict[str, MethodEntry] = {
    "supervised": MethodEntry(
        title="labelled cases alone",
        paper="-",
        options=SupervisedOptions,
        make=Supervised,
    ),
    "curriculum": MethodEntry(
        title="teacher, trusted cases first, doubtful voxels unlearned",
        paper="Liu, Ding, Zhang 2026, arXiv 2602.08797",
        options=CurriculumOptions,
        make=Curriculum,
    ),
}


def find_method(name: str) -> MethodEntry:
    """Return the method `name`.

    Raises:
        UsageError: If there is none; the message names those that exist.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UsageError(f"There is no method '{name}'.{hint} Choose one of: {', '.join(METHODS)}.")
    return METHODS[name]
