"""What a run is asked to do: preset, method and single options in one frozen value."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.methods.catalogue import find_method
from SemiSupSegLib.methods.protocol import NetworkOptions
from SemiSupSegLib.networks.catalogue import full_options
from SemiSupSegLib.options import from_json, to_json, with_settings
from SemiSupSegLib.preparation.options import PreparationOptions
from SemiSupSegLib.resources import DEFAULT_PRESET, ROOT, check_format, preset_names
from SemiSupSegLib.training.options import TrainingOptions

logger = logging.getLogger(__name__)

SHARED_OPTIONS = frozenset({"network", "optimizer", "loss", "labelled_per_batch", "ema"})
"""Options that a preset gives to any method; the others belong to the preset's own method."""


OWN_ARGUMENTS = frozenset({"iterations", "seed", "device", "preset", "method", "split", "task"})
"""What is not said by `--set`, though somebody may try."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run's result, besides its data."""

    preset: str
    method: str
    options: Any
    """The method's options dataclass."""
    training: TrainingOptions
    preparation: PreparationOptions
    iterations: int
    """Optimizer updates of all phases together."""
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as plain values."""
        return {
            "preset": self.preset,
            "method": self.method,
            "options": to_json(self.options),
            "training": to_json(self.training),
            "preparation": to_json(self.preparation),
            "iterations": self.iterations,
            "seed": self.seed,
        }

    def with_settings(self, settings: Mapping[str, str]) -> RunConfig:
        """Return the configuration changed by `--set`.

        Raises:
            UsageError: If a setting has no meaning.
        """
        groups = _grouped(settings)
        return replace(
            self,
            options=_spelled_out(with_settings(self.options, groups[""], f"method {self.method}")),
            training=with_settings(self.training, groups["training"], "training"),
            preparation=with_settings(self.preparation, groups["preparation"], "preparation"),
        )


def config_from_json(content: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that `RunConfig.to_json` gave."""
    return RunConfig(
        preset=content["preset"],
        method=content["method"],
        options=from_json(find_method(content["method"]).options, content["options"]),
        training=from_json(TrainingOptions, content["training"], "training"),
        preparation=from_json(PreparationOptions, content["preparation"], "preparation"),
        iterations=content["iterations"],
        seed=content["seed"],
    )


def configure(
    *,
    preset: str = DEFAULT_PRESET,
    method: str | None = None,
    variant: Literal["cpu", "gpu"],
    iterations: int | None = None,
    seed: int = 0,
    settings: Mapping[str, str] | None = None,
) -> RunConfig:
    """Put a run's options together.

    Args:
        preset: A file in Resources/Presets.
        method: Overrides the preset's method; what every method has (`SHARED_OPTIONS`) goes over
            from the preset, the rest has the method's own defaults.
        variant: The preset's part for this kind of device.
        iterations: Overrides the preset's number of optimizer updates; with fewer, a method may
            choose some options of the preset anew, which is told.
        seed: Of everything drawn.
        settings: Dotted name → text: `training.…`, `preparation.…`, else the method's options.

    Raises:
        UsageError: If something has no meaning; the message names what there is.
    """
    if preset not in preset_names():
        raise UsageError(
            f"There is no preset '{preset}'. Choose one of: {', '.join(preset_names())}."
        )
    path = ROOT / "Presets" / f"{preset}.json"
    content = read_json(path)
    check_format(content, "preset", path)
    part = content[variant]
    chosen = method or content["method"]
    entry = find_method(chosen)
    if entry.goes_on:
        raise UsageError(
            f"The method '{chosen}' goes on from a finished run: use `learn --run RUN` instead."
        )
    kept = {
        name: value
        for name, value in part["options"].items()
        if chosen == content["method"] or name in SHARED_OPTIONS
    }
    groups = _grouped(settings or {})
    for key in OWN_ARGUMENTS & set(groups[""]):
        raise UsageError(f"{key} is an argument of its own: --{key} {groups[''][key]}.")
    total = part["iterations"] if iterations is None else iterations
    if total < 1:
        raise UsageError(f"--iterations is {total}, must be at least 1.")
    if seed < 0:
        raise UsageError(f"--seed is {seed}, must be 0 or more.")
    for role in ("network", "second"):
        asked = groups[""].get(f"{role}.name")
        has_role = role in {one.name for one in fields(entry.options)}
        if asked is not None and has_role and asked != kept.get(role, {}).get("name"):
            # The preset's options are those of another network.
            kept[role] = {"name": asked}
    options = from_json(entry.options, kept, f"preset {preset}")
    training = from_json(TrainingOptions, part.get("training", {}), f"preset {preset}, training")
    preparation = from_json(PreparationOptions, part.get("preparation", {}), "preparation")
    if total < part["iterations"]:
        for name, text in entry.when_shorter(options, total / part["iterations"]).items():
            if name not in groups[""]:
                groups[""][name] = text
                logger.info(
                    "The run has %s, the preset %s %d: %s is %s.",
                    counted(total, "updates"),
                    preset,
                    part["iterations"],
                    name,
                    text,
                )
    return RunConfig(
        preset=preset,
        method=chosen,
        options=_spelled_out(with_settings(options, groups[""], f"method {chosen}")),
        training=with_settings(training, groups["training"], "training"),
        preparation=with_settings(preparation, groups["preparation"], "preparation"),
        iterations=total,
        seed=seed,
    )


def fit_to_task(config: RunConfig, task: Task, settings: Mapping[str, str]) -> RunConfig:
    """Return the options with what the method chooses by the task; what a user set stays."""
    wanted = find_method(config.method).for_task(config.options, task)
    chosen = {name: text for name, text in wanted.items() if name not in settings}
    for name, text in chosen.items():
        logger.info("For task %s, %s is %s.", task.name, name, text)
    options = with_settings(config.options, chosen, f"method {config.method}")
    return replace(config, options=options)


def _grouped(settings: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return settings by what they belong to; "" is the method."""
    groups: dict[str, dict[str, str]] = {"training": {}, "preparation": {}, "": {}}
    for key, text in settings.items():
        head, _, rest = key.partition(".")
        if head in ("training", "preparation") and rest:
            groups[head][rest] = text
        else:
            groups[""][key] = text
    return groups


def _spelled_out(options: Any) -> Any:
    """Return a method's options without a value that only a default or a profile decides.

    They are frozen in a run and in its models, which then mean the same in a later version.
    """
    known: dict[str, Any] = {
        one.name: replace(network, options=full_options(network.name, network.options))
        for one in fields(options)
        if isinstance(network := getattr(options, one.name), NetworkOptions)
    }
    if hasattr(options, "loss"):
        known["loss"] = options.loss.resolved()
    return replace(options, **known)
