"""What a manifest says, in words: for lists of models on a terminal and in the panel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from SemiSupSegLib.counting import counted


def one_line(manifest: Mapping[str, Any]) -> str:
    """Return task, method, training cases, validation Dice and date in a line."""
    words = [
        f"task {manifest['task']['name']}",
        f"method {method_name(manifest)}",
        str(manifest["network"]["name"]),
    ]
    cases = training_cases(manifest)
    if cases is not None:
        words.append(f"{cases[0]} labelled and {counted(cases[1], 'unlabelled cases')}")
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


def details(manifest: Mapping[str, Any]) -> str:
    """Return all that a person may want to know of a model, a line for each thing."""
    task, network = manifest["task"], manifest["network"]
    other = manifest.get("teacher_network")
    architecture = str(network["name"]) + (f", teacher {other['name']}" if other else "")
    channels = [
        one["name"] + ("" if one.get("required", True) else " (optional)")
        for one in task["channels"]
    ]
    lines = [
        ("Segments", ", ".join(one["name"] for one in task["classes"])),
        ("Regions", ", ".join(one["name"] for one in task.get("regions") or ())),
        ("From", ", ".join(channels)),
        ("Method", method_name(manifest)),
        (
            "Network",
            f"{architecture}, patches of {_times(network.get('patch_size', ()))} voxels",
        ),
        ("Made", date_of(manifest)),
        ("Licence", str(manifest.get("licence") or "")),
        *_training_lines(manifest),
        *_validation_lines(manifest),
        *_calibration_lines(manifest),
        ("Made with", ", ".join(f"{name} {one}" for name, one in manifest["library"].items())),
    ]
    return "\n".join(f"{title}: {text}" for title, text in lines if text)


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


def _training_lines(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    training = manifest.get("training") or {}
    cases = training_cases(manifest)
    said = f"{cases[0]} labelled and {counted(cases[1], 'unlabelled cases')}" if cases else ""
    if said and training.get("iterations"):
        said += f", {counted(training['iterations'], 'updates')}"
    if said and training.get("preset"):
        said += f", preset {training['preset']}, seed {training.get('seed', 0)}"
    return [("Trained on", said)]


def _validation_lines(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    validation = manifest.get("validation") or {}
    teacher = validation.get("teacher") or {}
    lines = []
    for target, values in (validation.get("student") or {}).items():
        mean = _mean_dice(values)
        if mean is not None:
            spread, count = values["dice"].get("sd"), values["dice"].get("n")
            other = _mean_dice(teacher.get(target))
            text = f"{mean:.3f}"
            text += f" (standard deviation {spread:.3f})" if spread is not None else ""
            text += f", teacher {other:.3f}," if other is not None else ""
            text += f" on {counted(count, 'validation cases')}" if count else ""
            text = text.rstrip(",")
            lines.append((f"Dice of {target}", text))
    return lines


def _calibration_lines(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    error = (manifest.get("calibration") or {}).get("ece_after")
    if error is None:
        return [("Confidence", "not calibrated: there were too few validation cases")]
    return [("Confidence", f"off by {error:.3f} on average (expected calibration error)")]


def _times(sizes: Any) -> str:
    return " x ".join(str(one) for one in sizes)


def _mean_dice(figures: Any) -> float | None:
    dice = figures.get("dice") if isinstance(figures, dict) else None
    mean = dice.get("mean") if isinstance(dice, dict) else None
    return float(mean) if isinstance(mean, int | float) else None
