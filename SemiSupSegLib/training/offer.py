"""What a person can choose for a run: presets, methods, and every option of the choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from SemiSupSegLib.files import read_json
from SemiSupSegLib.methods.catalogue import METHODS, label_of
from SemiSupSegLib.resources import ROOT, preset_names
from SemiSupSegLib.training.configuration import RunConfig, configure
from SemiSupSegLib.training.described_options import described_options

Variant = Literal["cpu", "gpu"]


def offer(
    *, preset: str, method: str | None, variant: Variant, settings: Mapping[str, str]
) -> dict[str, Any]:
    """Return what `plan --options` tells, by Resources/Schemas/options.json.

    Args:
        preset: A preset's name.
        method: None: the preset's.
        variant: Of the preset, by kind of device.
        settings: As of `--set`.

    Raises:
        UsageError: If one of them has no meaning.
    """
    config = configure(preset=preset, method=method, variant=variant, settings=settings)
    return {
        "format": "semisupseg-options",
        "version": 1,
        "presets": [_preset(name) for name in preset_names()],
        "methods": [
            {
                "name": name,
                "label": label_of(name),
                "title": one.title,
                "paper": one.paper,
                "needs": one.needs,
                "forward_passes": one.forward_passes,
            }
            for name, one in METHODS.items()
            if not one.goes_on
        ],
        "preset": config.preset,
        "method": config.method,
        "variant": variant,
        "iterations": config.iterations,
        "options": options_of(config, variant),
    }


def options_of(config: RunConfig, variant: Variant) -> list[dict[str, Any]]:
    """Return a run's options with their values, and what they are without settings."""
    default = configure(
        preset=config.preset,
        method=config.method,
        variant=variant,
        settings={"network.name": config.options.network.name},
    )
    return [one.to_json() for one in described_options(config, default)]


def _preset(name: str) -> dict[str, Any]:
    content = read_json(ROOT / "Presets" / f"{name}.json")
    return {
        "name": name,
        "title": content["title"],
        "method": content["method"],
        "comparison": content.get("comparison", False),
        "iterations": {variant: content[variant]["iterations"] for variant in ("cpu", "gpu")},
    }
