"""What a manifest says, in words: for lists of models on a terminal and in the panel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def one_line(manifest: Mapping[str, Any]) -> str:
    """Return task, method, training cases, validation Dice and date in a line."""
    words = [
        f"task {manifest['task']['name']}",
        f"method {method_name(manifest)}",
        str(manifest["network"]["name"]),
    ]
    cases = training_cases(manifest)
    if cases is not None:
        words.append(f"{cases[0]} labelled and {cases[1]} unlabelled cases")
    scores = [f"{target} {mean:.3f}" for target, mean in validation_dice(manifest).items()]
    if scores:
        words.append(f"validation Dice {', '.join(scores)}")
    date = date_of(manifest)
    return "; ".join([*words, date] if date else words)


def short_line(manifest: Mapping[str, Any]) -> str:
    """Return what it segments, how well on its validation cases, and since when."""
    task = manifest["task"]
    headline = task.get("regions") or task["classes"]
    names = {one["name"] for one in headline}
    dice = validation_dice(manifest)
    scores = [f"{name} {mean:.2f}" for name, mean in dice.items() if name in names]
    words = [str(task.get("title") or task["name"])]
    words += [f"validation Dice {', '.join(scores)}"] if scores else []
    words += [date_of(manifest)] if date_of(manifest) else []
    return "; ".join(words)


def method_name(manifest: Mapping[str, Any]) -> str:
    """Return the name of the method that trained the model."""
    method = manifest.get("method")
    return str(method["name"] if isinstance(method, dict) else method)


def training_cases(manifest: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return how many labelled and unlabelled cases it learnt from, if that is known."""
    training = manifest.get("training") or {}
    if "labelled" not in training:
        return None
    return int(training["labelled"]), int(training.get("unlabelled", 0))


def validation_dice(manifest: Mapping[str, Any]) -> dict[str, float]:
    """Return the student's mean Dice on the validation cases, by class and region."""
    figures = (manifest.get("validation") or {}).get("student") or {}
    means = {target: _mean_dice(values) for target, values in figures.items()}
    return {target: mean for target, mean in means.items() if mean is not None}


def date_of(manifest: Mapping[str, Any]) -> str:
    """Return the day of its making, or an empty text."""
    return str(manifest.get("created", ""))[:10]


def _mean_dice(figures: Any) -> float | None:
    dice = figures.get("dice") if isinstance(figures, dict) else None
    mean = dice.get("mean") if isinstance(dice, dict) else None
    return float(mean) if isinstance(mean, int | float) else None
