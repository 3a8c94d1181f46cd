"""What a run would need with a smaller patch, batch or preset, or on a CPU: found by trying."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.training.configuration import RunConfig, configure, fit_to_task
from SemiSupSegLib.training.fitting import patch_size_of
from SemiSupSegLib.training.needs import Needs, needs_of
from SemiSupSegLib.training.request import TrainRequest
from SemiSupSegLib.training.sizes import Sizes
from SemiSupSegLib.training.start import Start

_PATCH_STEP, _SMALLEST_PATCH = 16, 32
_LIGHT_PRESET = "fast_check"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A run as it was asked for, or one like it."""

    config: RunConfig
    device: torch.device
    patch: tuple[int, int, int]
    needs: Needs


def choose(config: RunConfig, start: Start, sizes: Sizes, device: torch.device) -> Choice:
    """Return a run of these options with its patch and its needs.

    Raises:
        UsageError: If network, patch and method do not go together.
    """
    shapes = sizes.shapes
    patch = patch_size_of(
        config.training, [shapes[case_id] for case_id in start.split.train_labelled]
    )
    needs = needs_of(config, start.task, start.split, shapes, patch)
    return Choice(config=config, device=device, patch=patch, needs=needs)


def what_fits(
    choice: Choice,
    request: TrainRequest,
    start: Start,
    sizes: Sizes,
    fits: Callable[[Choice], bool],
) -> dict[str, str]:
    """Return the first change with which a run fits, as `--set`, `--preset` or `--device` take it.

    Args:
        choice: The run that does not.
        request: What was asked for.
        start: Its cases.
        sizes: How large they are.
        fits: Judges a run.

    Returns:
        Text by key (`training.patch_limit`, `preset`, `device`); empty if nothing fits.
    """
    for changes in _changes(choice):
        try:
            other = _changed(choice, request, start, sizes, changes)
        except UsageError:
            continue
        if fits(other):
            return changes
    return {}


def _changes(choice: Choice) -> Iterator[dict[str, str]]:
    patches = list(_patches(choice))
    batches = list(_batches(choice.config.options))
    yield from patches
    yield from batches
    if patches and batches:
        yield {**patches[-1], **batches[-1]}
    if choice.config.preset != _LIGHT_PRESET:
        yield {"preset": _LIGHT_PRESET}
    if choice.device.type != "cpu":
        yield {"device": "cpu"}


def _patches(choice: Choice) -> Iterator[dict[str, str]]:
    longest = (max(choice.patch) - 1) // _PATCH_STEP * _PATCH_STEP
    for limit in range(longest, _SMALLEST_PATCH - 1, -_PATCH_STEP):
        if choice.config.training.patch_size is None:
            yield {"training.patch_limit": str(limit)}
        else:
            yield {"training.patch_size": json.dumps([min(one, limit) for one in choice.patch])}


def _batches(options: Any) -> Iterator[dict[str, str]]:
    counts = {name: one for name, one in vars(options).items() if name.endswith("_per_batch")}
    while max(counts.values()) > 1:
        counts = {name: max(1, one // 2) for name, one in counts.items()}
        yield {name: str(one) for name, one in counts.items()}


def _changed(
    choice: Choice,
    request: TrainRequest,
    start: Start,
    sizes: Sizes,
    changes: Mapping[str, str],
) -> Choice:
    rest = {key: text for key, text in changes.items() if key not in ("preset", "device")}
    settings = {**request.settings, **rest}
    device = torch.device(changes.get("device", str(choice.device)))
    config = configure(
        preset=changes.get("preset", request.preset),
        method=request.method,
        variant="gpu" if device.type == "cuda" else "cpu",
        iterations=request.iterations,
        seed=request.seed,
        settings=settings,
    )
    config = fit_to_task(config, start.task, settings)
    threads = choice.config.training.threads
    config = replace(
        config,
        training=replace(config.training, threads=threads),
        preparation=choice.config.preparation,
    )
    return choose(config, start, sizes, device)
