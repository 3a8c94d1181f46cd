"""What the quality network's estimates are worth, on validation cases with masks of real models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from SemiSupSegLib.cases.label_values import UNKNOWN_CLASS
from SemiSupSegLib.files import write_json
from SemiSupSegLib.inference.maps import set_background
from SemiSupSegLib.methods.protocol import Method
from SemiSupSegLib.methods.reweighting import Reweighted
from SemiSupSegLib.networks.quality import QualityNetwork
from SemiSupSegLib.quality.baselines import Guesses, Shape, learn_guesses, shape_of
from SemiSupSegLib.quality.estimates import estimates_of, seen_of
from SemiSupSegLib.quality.examples import decided, one_hot, read_prediction, soft_dice
from SemiSupSegLib.quality.worth import Use, figures_of, looks_at_image, use_of_image
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.data import RunData

FILE = "quality.json"
WEAK = "weak"
_CONTROLS = ("mean", "other", "noise")
_GUESSES = ("mean_dice", "shape")

_Pairs = dict[str, dict[str, list[tuple[float, float]]]]
"""Told and true Dice of masks, by who made them and by class."""


def quality_of(method: Method) -> QualityNetwork | None:
    """Return a method's quality network; None if it has none that has learnt."""
    if not isinstance(method, Reweighted) or not method.training.learns:
        return None
    return method.training.network


@dataclass(frozen=True, kw_only=True)
class JudgedQuality:
    """What a model's package tells of its quality network."""

    manifest: Mapping[str, Any]
    """The network's options; `mae`, `pearson` and `n` of the student's masks; whether the network
    looks at the image."""
    scores: Sequence[float]
    """Its mean estimate of each validation case's result by the student, ascending."""


def judge_quality(method: Method, run: RunFolder, data: RunData) -> JudgedQuality | None:
    """Write RUN/validation/quality.json and tell what it says in an event.

    Each validation case is judged with the masks of the run's networks and of weak models that
    have not seen it. `networks.<network>.<class>` has `figures_of` the estimates, `all` stands for
    all classes together. `controls.<kind>` are those of all masks with the image replaced by its
    mean, by another case's, by noise: if the estimates are then hardly worse, they tell the shape
    of masks, not how they fit the image. `controls_by_class.<kind>` has them as `networks` has.
    `guesses.<kind>` has what is told without a quality network, by what weak models made of the
    labelled cases: always their mean Dice (`mean_dice`), a line through their `shape`.

    Args:
        method: With a quality network (`quality_of`).
        run: With the scratch files of the weak models.
        data: The run's cases.

    Returns:
        What goes into the model's package; None without a quality network.
    """
    network = quality_of(method)
    if network is None:
        return None
    assert isinstance(method, Reweighted)
    network.eval()
    names = [one.name for one in data.task.classes]
    guesses = _learn_guesses(method, data)
    pairs: _Pairs = {}
    blind: dict[str, _Pairs] = {kind: {} for kind in _CONTROLS}
    guessed: dict[str, _Pairs] = {kind: {} for kind in _GUESSES}
    cases: dict[str, Any] = {}
    scores = []
    for number, case_id in enumerate(data.each(data.validation, "judging the estimates")):
        other = data.validation[number - 1]
        cases[case_id] = {}
        for source, label in _masks(method, data, case_id):
            masks = one_hot(label, data.task.num_classes)
            true = np.asarray(data.label(case_id))
            dice, judged = soft_dice(masks.astype(np.float32), true)
            seen = _seen(network, data, case_id, masks)
            estimated = estimates_of(network, seen)
            present = masks.any(axis=(1, 2, 3))
            if source == "student" and present.any():
                scores.append(round(float(np.mean(np.asarray(estimated)[present])), 6))
            without = {
                kind: estimates_of(network, changed)
                for kind, changed in _without_image(network, data, seen, other, number)
                if other != case_id
            }
            found = {}
            for index in np.flatnonzero(judged):
                name, real = names[index], float(dice[index])
                _add(pairs, source, name, (estimated[index], real))
                for kind, one in without.items():
                    _add(blind[kind], source, name, (one[index], real))
                if name in guesses:
                    guess, shape = guesses[name], shape_of(masks[index], data.spacing(case_id))
                    for kind, value in zip(
                        _GUESSES, (guess.mean, guess.of_shape(shape)), strict=True
                    ):
                        if value is not None:
                            _add(guessed[kind], source, name, (value, real))
                found[name] = {"estimated": round(estimated[index], 6), "dice": round(real, 6)}
            cases[case_id].setdefault(source, []).append(found)
    content: dict[str, Any] = {
        "format": "semisupseg-quality",
        "version": 1,
        "networks": _by_class(pairs),
        "every_mask": _figures(_together(pairs)),
        "controls": {kind: _figures(_together(one)) for kind, one in blind.items() if one},
        "controls_by_class": {kind: _by_class(one) for kind, one in blind.items() if one},
        "guesses": {kind: _by_class(one) for kind, one in guessed.items() if one},
        "cases": cases,
    }
    controls = list(content["controls"].values())
    sees = looks_at_image(content["every_mask"], controls)
    content["looks_at_image"] = sees
    check_format(content, "quality", run.validation / FILE)
    run.validation.mkdir(parents=True, exist_ok=True)
    write_json(run.validation / FILE, content)
    told = content["networks"].get("student", {}).get("all", _figures([]))
    data.tell(
        "quality_judged",
        networks={source: one["all"] for source, one in content["networks"].items()},
        looks_at_image=sees,
        sentence=_sentence(told, use_of_image(content["every_mask"], controls)),
    )
    manifest = {
        "options": {"width": network.options.width, "side": network.options.side},
        "mae": told["mae"],
        "pearson": told["pearson"],
        "n": told["n"],
        "looks_at_image": sees,
    }
    return JudgedQuality(manifest=manifest, scores=tuple(sorted(scores)))


def _sentence(figures: Mapping[str, Any], use: Use) -> str:
    if figures["mae"] is None:
        return "Estimated Dice was not compared with true Dice: there are no validation cases."
    pearson = "" if figures["pearson"] is None else f", correlation {figures['pearson']:.2f}"
    judged = {
        Use.IMAGE: "It looks at the image.",
        Use.ORDER: (
            "Without the image it tells worse which masks are better, but its error hardly grows: "
            "its values are not to be relied on."
        ),
        Use.SHAPE: "It hardly looks at the image: it judges the shape of masks.",
        Use.UNKNOWN: "Whether it looks at the image cannot be told from so few masks.",
    }[use]
    return (
        f"Estimated Dice of the student on validation: mean error {figures['mae']:.3f}{pearson}. "
        f"{judged}"
    )


def _learn_guesses(method: Reweighted, data: RunData) -> dict[str, Guesses]:
    """Return guesses by class, from what weak models made of labelled cases they had not seen."""
    found: dict[str, tuple[list[Shape], list[float]]] = {}
    partial = set(data.partial)
    complete = [one for one in data.labelled if one not in partial]
    for case_id in data.each(complete, "judging the weak models"):
        true = np.asarray(data.label(case_id))
        for label in _weak_masks(method, data, case_id):
            masks = one_hot(label, data.task.num_classes)
            dice, judged = soft_dice(masks.astype(np.float32), true)
            for index in np.flatnonzero(judged):
                shapes, own = found.setdefault(data.task.classes[index].name, ([], []))
                shapes.append(shape_of(masks[index], data.spacing(case_id)))
                own.append(float(dice[index]))
    return {name: learn_guesses(shapes, own) for name, (shapes, own) in found.items()}


def _masks(
    method: Reweighted, data: RunData, case_id: str
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield label maps of a case with the name of who made them; unknown voxels are background."""
    unknown = np.asarray(data.label(case_id)) == UNKNOWN_CLASS
    for name, network in method.predictors().items():
        if name != "student_raw":
            label = _predicted(network, data, case_id)
            yield name, np.where(unknown, 0, label).astype(np.uint8)
    for label in _weak_masks(method, data, case_id):
        yield WEAK, label


def _weak_masks(method: Reweighted, data: RunData, case_id: str) -> Iterator[NDArray[np.uint8]]:
    unknown = np.asarray(data.label(case_id)) == UNKNOWN_CLASS
    for file in method.training.predictions(case_id):
        label = decided(read_prediction(file, unknown.shape))
        yield np.where(unknown, 0, label).astype(np.uint8)


def _predicted(network: nn.Module, data: RunData, case_id: str) -> NDArray[np.uint8]:
    probabilities = data.predict(case_id, lambda x: network(x).float().softmax(1), "final")
    set_background(probabilities, data.outside(case_id))
    return probabilities.argmax(0).numpy().astype(np.uint8)


def _seen(network: QualityNetwork, data: RunData, case_id: str, masks: NDArray[np.bool_]) -> Tensor:
    side = network.options.side
    return seen_of(data.image(case_id), torch.from_numpy(masks), data.spacing(case_id), side)


def _without_image(
    network: QualityNetwork, data: RunData, seen: Tensor, other: str, number: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield views with the same masks and another image, by the kind of control."""
    channels = network.in_channels
    masks = seen[channels:]
    mean = seen[:channels].mean((1, 2, 3), keepdim=True).expand_as(seen[:channels])
    yield "mean", torch.cat([mean, masks])
    there = one_hot(np.asarray(data.label(other)), data.task.num_classes)
    yield "other", torch.cat([_seen(network, data, other, there)[:channels], masks])
    generator = torch.Generator().manual_seed(number)
    noise = torch.randn(seen[:channels].shape, generator=generator)
    yield "noise", torch.cat([noise, masks])


def _add(pairs: _Pairs, source: str, name: str, pair: tuple[float, float]) -> None:
    pairs.setdefault(source, {}).setdefault(name, []).append(pair)


def _together(pairs: _Pairs) -> list[tuple[float, float]]:
    return [pair for by_class in pairs.values() for one in by_class.values() for pair in one]


def _by_class(pairs: _Pairs) -> dict[str, dict[str, Any]]:
    return {
        source: {
            **{name: _figures(one) for name, one in by_class.items()},
            "all": _figures([pair for one in by_class.values() for pair in one]),
        }
        for source, by_class in pairs.items()
    }


def _figures(pairs: list[tuple[float, float]]) -> dict[str, float | int | None]:
    return {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in figures_of(
            [estimated for estimated, _ in pairs], [true for _, true in pairs]
        ).items()
    }
