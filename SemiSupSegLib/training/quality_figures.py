"""What the quality network's estimates are worth, on validation cases with masks of real models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from SemiSupSegLib.quality.estimates import estimates_of, figures_of, looks_at_image, seen_of
from SemiSupSegLib.quality.examples import decided, one_hot, read_prediction, soft_dice
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.data import RunData

FILE = "quality.json"
WEAK = "weak"
_CONTROLS = ("mean", "other", "noise")


def quality_of(method: Method) -> QualityNetwork | None:
    """Return a method's quality network; None if it has none that has learnt."""
    if not isinstance(method, Reweighted) or not method.training.learns:
        return None
    return method.training.network


def judge_quality(method: Method, run: RunFolder, data: RunData) -> dict[str, Any]:
    """Write RUN/validation/quality.json and tell what it says in an event.

    Each validation case is judged with the masks of the run's networks and of weak models that
    have not seen it. `networks.<network>.<class>` has `figures_of` the estimates, `all` stands for
    all classes together. `controls.<kind>` are those of all masks with the image replaced by its
    mean, by another case's, by noise: if the estimates are then hardly worse, they tell the shape
    of masks, not how they fit the image.

    Args:
        method: With a quality network (`quality_of`).
        run: With the scratch files of the weak models.
        data: The run's cases.

    Returns:
        For the model's manifest: the network's options, `mae`, `pearson` and `n` of the student's
        masks, and whether the network looks at the image. Empty without a quality network.
    """
    network = quality_of(method)
    if network is None:
        return {}
    assert isinstance(method, Reweighted)
    network.eval()
    names = [one.name for one in data.task.classes]
    pairs: dict[str, dict[str, list[tuple[float, float]]]] = {}
    controls: dict[str, list[tuple[float, float]]] = {kind: [] for kind in _CONTROLS}
    cases: dict[str, Any] = {}
    for number, case_id in enumerate(data.each(data.validation, "judging the estimates")):
        other = data.validation[number - 1]
        cases[case_id] = {}
        for source, label in _masks(method, data, case_id):
            masks = one_hot(label, data.task.num_classes)
            true = np.asarray(data.label(case_id))
            dice, judged = soft_dice(masks.astype(np.float32), true)
            seen = _seen(network, data, case_id, masks)
            estimated = estimates_of(network, seen)
            found = {}
            for index, name in enumerate(names):
                if judged[index]:
                    pair = (estimated[index], float(dice[index]))
                    pairs.setdefault(source, {}).setdefault(name, []).append(pair)
                    found[name] = {"estimated": round(pair[0], 6), "dice": round(pair[1], 6)}
            cases[case_id].setdefault(source, []).append(found)
            if other == case_id:
                continue
            for kind, changed in _without_image(network, data, seen, other, number):
                blind = estimates_of(network, changed)
                controls[kind] += [
                    (blind[index], float(dice[index])) for index in np.flatnonzero(judged)
                ]
    content: dict[str, Any] = {
        "format": "semisupseg-quality",
        "version": 1,
        "networks": {
            source: {
                **{name: _figures(one) for name, one in by_class.items()},
                "all": _figures([pair for one in by_class.values() for pair in one]),
            }
            for source, by_class in pairs.items()
        },
        "every_mask": _figures(
            [pair for by_class in pairs.values() for one in by_class.values() for pair in one]
        ),
        "controls": {kind: _figures(one) for kind, one in controls.items() if one},
        "cases": cases,
    }
    sees = looks_at_image(content["every_mask"], list(content["controls"].values()))
    content["looks_at_image"] = sees
    check_format(content, "quality", run.validation / FILE)
    run.validation.mkdir(parents=True, exist_ok=True)
    write_json(run.validation / FILE, content)
    told = content["networks"].get("student", {}).get("all", _figures([]))
    data.tell(
        "quality_judged",
        networks={source: one["all"] for source, one in content["networks"].items()},
        looks_at_image=sees,
        sentence=_sentence(told, sees),
    )
    return {
        "options": {"width": network.options.width, "side": network.options.side},
        "mae": told["mae"],
        "pearson": told["pearson"],
        "n": told["n"],
        "looks_at_image": sees,
    }


def _sentence(figures: Mapping[str, Any], sees: bool | None) -> str:
    if figures["mae"] is None:
        return "Estimated Dice was not compared with true Dice: there are no validation cases."
    pearson = "" if figures["pearson"] is None else f", correlation {figures['pearson']:.2f}"
    judged = {
        True: "It looks at the image.",
        False: "It hardly looks at the image: it judges the shape of masks.",
        None: "Whether it looks at the image cannot be told from so few masks.",
    }[sees]
    return (
        f"Estimated Dice of the student on validation: mean error {figures['mae']:.3f}{pearson}. "
        f"{judged}"
    )


def _masks(
    method: Reweighted, data: RunData, case_id: str
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield label maps of a case with the name of who made them; unknown voxels are background."""
    unknown = np.asarray(data.label(case_id)) == UNKNOWN_CLASS
    for name, network in method.predictors().items():
        if name != "student_raw":
            label = _predicted(network, data, case_id)
            yield name, np.where(unknown, 0, label).astype(np.uint8)
    for file in method.training.predictions(case_id):
        label = decided(read_prediction(file, unknown.shape))
        yield WEAK, np.where(unknown, 0, label).astype(np.uint8)


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


def _figures(pairs: list[tuple[float, float]]) -> dict[str, float | int | None]:
    return {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in figures_of(
            [estimated for estimated, _ in pairs], [true for _, true in pairs]
        ).items()
    }
