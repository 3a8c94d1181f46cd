"""Whether a command that is given again asks for the run that is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from SemiSupSegLib.cases.task import load_task, task_from_json
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.models.package import identity
from SemiSupSegLib.training.configuration import (
    RunConfig,
    config_from_json,
    configure,
    fit_to_task,
)
from SemiSupSegLib.training.devices import choose_device
from SemiSupSegLib.training.request import TrainRequest, resumed
from SemiSupSegLib.training.start import LEARN_ITERATIONS


def refuse_other_options(request: TrainRequest, content: Mapping[str, Any]) -> None:
    """Refuse all that differs but folders, which may have moved.

    An option at the value that the run has by default is no difference, said or not.

    Args:
        request: What is asked for now.
        content: Of the run's run.json.

    Raises:
        UsageError: If something differs; the message says what.
    """
    former, wanted = content["request"], request.to_json()
    for name in wanted:
        if name == "cases" or former.get(name) == wanted[name]:
            continue
        if name == "reviews" and former.get(name) and wanted[name]:
            # Whether it holds the labels of the start is found out by their hashes.
            continue
        if name == "former" and former.get(name) and _is_same_model(request, content):
            continue
        if name == "task" and _is_same_task(request.task, content):
            continue
        if name in _HAVE_DEFAULTS and _HAVE_DEFAULTS[name](request, content):
            continue
        difference = f"{name}: {former.get(name)!r}, now {wanted[name]!r}"
        if name == "split":
            difference = _split_difference(former.get(name), wanted[name])
        raise UsageError(
            f"{request.out} holds a run that was started with other options ({difference}). "
            "Choose another folder for --out, or repeat the run's own command."
        )


def _is_same_task(name_or_file: str | None, content: Mapping[str, Any]) -> bool:
    """Return whether a task, perhaps recognised then or named from another folder, is the run's."""
    if name_or_file is None:
        return False
    return load_task(name_or_file) == task_from_json(content["task"], "run.json")


def _is_same_model(request: TrainRequest, content: Mapping[str, Any]) -> bool:
    """Return whether the run to go on from is the one of the start, perhaps moved."""
    if request.former is None:
        return False
    try:
        return identity(request.former) == content["former"]["model_sha256"]
    except (SemiSupSegError, OSError):
        return False


def _is_same_device(request: TrainRequest, content: Mapping[str, Any]) -> bool:
    try:
        return str(choose_device(request.device)) == content["device"]
    except UsageError:
        return False


def _is_same_method(request: TrainRequest, content: Mapping[str, Any]) -> bool:
    return _configured(request, content).method == content["config"]["method"]


def _is_same_length(request: TrainRequest, content: Mapping[str, Any]) -> bool:
    wanted = request.iterations
    if wanted is None and request.former is not None:
        wanted = LEARN_ITERATIONS[torch.device(content["device"]).type]
    if wanted is None:
        wanted = _configured(request, content).iterations
    return bool(wanted == content["config"]["iterations"])


def _has_same_settings(request: TrainRequest, content: Mapping[str, Any]) -> bool:
    """Return whether what is set now is so in the run, and what is set no more is so by default."""
    config, former = config_from_json(content["config"]), content["request"]["settings"]
    new = {key: text for key, text in request.settings.items() if former.get(key) != text}
    try:
        if config.with_settings(new) != config:
            return False
        if set(former) <= set(request.settings):
            return True
        if request.former is not None:
            # Its defaults are those of a former run, which may be gone.
            return False
        task = task_from_json(content["task"], "run.json")
        now, then = (
            fit_to_task(_configured(one, content, one.settings), task, one.settings)
            for one in (request, resumed(request.out))
        )
    except UsageError:
        # It is told as a difference.
        return False
    return now == then


def _configured(
    request: TrainRequest, content: Mapping[str, Any], settings: Mapping[str, str] | None = None
) -> RunConfig:
    return configure(
        preset=request.preset,
        method=request.method,
        variant="gpu" if torch.device(content["device"]).type == "cuda" else "cpu",
        iterations=request.iterations,
        seed=request.seed,
        settings=settings,
    )


_HAVE_DEFAULTS: Mapping[str, Callable[[TrainRequest, Mapping[str, Any]], bool]] = {
    "device": _is_same_device,
    "method": _is_same_method,
    "iterations": _is_same_length,
    "settings": _has_same_settings,
}
"""Whether an option that was said otherwise is the run's own all the same."""


def _split_difference(
    former: Mapping[str, Sequence[str]] | None, wanted: Mapping[str, Sequence[str]] | None
) -> str:
    if former is None:
        return "split: none, now a file"
    if wanted is None:
        return "split: a file, now none"
    parts = []
    for name, ids in wanted.items():
        for word, changed in (
            ("now with", sorted({*ids} - {*former[name]})),
            ("now without", sorted({*former[name]} - {*ids})),
        ):
            if changed:
                more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
                parts.append(f"{name} {word} {changed[0]}{more}")
    return f"split: {'; '.join(parts)}"
