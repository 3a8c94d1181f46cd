"""How far a prediction is trusted, per voxel and per image; not yet calibrated confidence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.losses.classes import CLASS_AXIS, most_likely
from SemiSupSegLib.losses.reduction import IGNORED, at_least_float32
from SemiSupSegLib.losses.uncertainty import (
    entropy_of,
    log_variance_target,
    most_variance,
    uncertainty_from_log,
)

VoxelTrust = Literal["max", "max_expvar", "prob_var", "max_logvar", "entropy", "mi", "margin"]
ImageConfidence = Literal["mean_all", "mean_fg", "class_mean", "self_dice", "pass_dice"]
TRUST_BINS = 1000
"""Steps in which trust is counted, unless told otherwise."""


@torch.no_grad()
def voxel_trust(
    kind: VoxelTrust,
    mean: Tensor,
    *,
    variance: Tensor | None = None,
    mean_entropy: Tensor | None = None,
    kappa: float = 3.0,
) -> Tensor:
    """Return c_p per voxel, (…, D, H, W), in [0, 1].

    With m the highest mean probability, σ² the variance, u its place on the logarithmic scale
    and H the entropy: "max" m; "max_expvar" m·e^−σ²; "prob_var" m·e^(−κσ²/v_max);
    "max_logvar" m·(1 − u); "entropy" 1 − H/ln K; "mi" 1 − (H − mean H of the passes)/ln K;
    "margin" highest minus second probability.

    Args:
        kind: One of these.
        mean: Mean probabilities, (…, K, D, H, W).
        variance: (…, D, H, W), from the passes or by `variance_from_log`; for the kinds that
            use σ² or u.
        mean_entropy: (…, D, H, W), nats; for "mi".
        kappa: κ; 3 makes the factor 0.05 at the greatest variance.

    Raises:
        ValueError: For an unknown kind, or if what it needs is missing.
    """
    mean = at_least_float32(mean)
    num_classes = mean.shape[CLASS_AXIS]
    if kind == "max":
        return most_likely(mean)[1]
    if kind == "margin":
        highest = mean.topk(2, CLASS_AXIS).values
        return highest.select(CLASS_AXIS, 0) - highest.select(CLASS_AXIS, 1)
    if kind == "entropy":
        return (1 - entropy_of(mean) / math.log(num_classes)).clamp(0, 1)
    if kind == "mi":
        within = at_least_float32(_given(mean_entropy, "mean_entropy", kind))
        return (1 - (entropy_of(mean) - within) / math.log(num_classes)).clamp(0, 1)
    if kind not in get_args(VoxelTrust):
        raise ValueError(f"trust is {kind!r}, must be one of {', '.join(get_args(VoxelTrust))}")
    spread = at_least_float32(_given(variance, "variance", kind))
    highest = most_likely(mean)[1]
    if kind == "max_expvar":
        return highest * (-spread).exp()
    if kind == "prob_var":
        return highest * (-kappa / most_variance(num_classes) * spread).exp()
    return highest * (1 - uncertainty_from_log(log_variance_target(spread), num_classes))


@torch.no_grad()
def image_confidence(
    kind: ImageConfidence,
    mean: Tensor,
    *,
    trust: Tensor | None = None,
    pass_labels: Tensor | None = None,
    valid: Tensor | None = None,
    usual_classes: Collection[int] | None = None,
    always_foreground: bool = True,
    dilation: int = 2,
) -> float:
    """Return C(x) of one image, in [0, 1].

    "mean_all" averages the trust over all voxels (and so mostly tells how easy the background
    is); "mean_fg" over the predicted foreground and its surroundings; "class_mean" over each
    predicted class, then over classes; "self_dice" is the expected Dice of the prediction under
    the mean probabilities; "pass_dice" the mean pairwise Dice of the passes.

    Args:
        kind: One of these.
        mean: Mean probabilities of the image, (K, D, H, W).
        trust: c_p, (D, H, W); for the first three kinds, and where there is no foreground but
            need not be any.
        pass_labels: Class indices of each pass, (M, D, H, W) with M ≥ 2; for "pass_dice".
        valid: Voxels that count, (D, H, W); default all.
        usual_classes: Foreground classes that (nearly) every labelled case has: they count 0
            where nothing is predicted, while others are left out. Default all.
        always_foreground: Whether every labelled case has foreground: an empty prediction
            then gets 0, else the mean trust.
        dilation: Voxels around the foreground that belong to it, for "mean_fg".

    Raises:
        ValueError: For an unknown kind, or if what it needs is missing.
    """
    if kind not in get_args(ImageConfidence):
        raise ValueError(
            f"image confidence is {kind!r}, must be one of {', '.join(get_args(ImageConfidence))}"
        )
    mean = at_least_float32(mean)
    label = most_likely(mean)[0]
    if valid is not None:
        label = label.masked_fill(~valid, IGNORED)
    counted = label != IGNORED
    foreground = (label != 0) & counted
    if kind == "mean_all" or not bool(foreground.any()):
        if kind != "mean_all" and always_foreground:
            return 0.0
        return _mean(_given(trust, "trust", kind), counted)
    if kind == "mean_fg":
        near = _dilate(foreground, dilation) & counted
        return _mean(_given(trust, "trust", kind), near)

    scores = []
    for index in range(1, mean.shape[0]):
        predicted = label == index
        if not bool(predicted.any()):
            if usual_classes is None or index in usual_classes:
                scores.append(0.0)
        elif kind == "class_mean":
            scores.append(_mean(_given(trust, "trust", kind), predicted))
        elif kind == "self_dice":
            scores.append(_expected_dice(mean[index], predicted, counted))
        else:
            passes = (_given(pass_labels, "pass_labels", kind) == index) & counted
            scores.append(_mean_pairwise_dice(passes))
    return sum(scores) / len(scores)


@torch.no_grad()
def trust_histogram(
    trust: Tensor, label: Tensor, num_classes: int, bins: int = TRUST_BINS
) -> Tensor:
    """Count voxels by predicted class and trust; counts of several cases can be added.

    Args:
        trust: In [0, 1], any shape.
        label: Predicted classes or 255, of the same shape.
        num_classes: K.
        bins: Equal steps of trust.

    Returns:
        int64, (K, bins).
    """
    valid = label != IGNORED
    place = (at_least_float32(trust)[valid] * bins).long().clamp(0, bins - 1)
    counts = torch.bincount(label[valid].long() * bins + place, minlength=num_classes * bins)
    return counts.view(num_classes, bins)


def quantile_thresholds(histogram: Tensor, quantile: float = 0.3) -> Tensor:
    """Return per class the trust that a share `quantile` of its voxels stays below.

    So no class loses all its voxels to a threshold made for another.

    Args:
        histogram: Of `trust_histogram`, (K, bins).
        quantile: In [0, 1).

    Returns:
        float32, (K,), each the lower edge of a bin; 0 for a class without voxels.
    """
    if not 0 <= quantile < 1:
        raise ValueError(f"quantile is {quantile}, must be in [0, 1)")
    below = histogram.cumsum(1).double()
    place = (below <= quantile * below[:, -1:]).sum(1).clamp(max=histogram.shape[1] - 1)
    edges = place.double() / histogram.shape[1]
    return torch.where(below[:, -1] > 0, edges, 0.0).float()


def _given(value: Tensor | None, name: str, kind: str) -> Tensor:
    if value is None:
        raise ValueError(f"'{kind}' needs {name}, which was not passed")
    return value


def _mean(values: Tensor, mask: Tensor) -> float:
    count = int(mask.sum())
    return float(values[mask].sum(dtype=torch.float64)) / max(count, 1)


def _expected_dice(probability: Tensor, predicted: Tensor, counted: Tensor) -> float:
    shared = float(probability[predicted].sum(dtype=torch.float64))
    expected = float(probability[counted].sum(dtype=torch.float64))
    return 2 * shared / (expected + int(predicted.sum()))


def _mean_pairwise_dice(masks: Tensor) -> float:
    if len(masks) < 2:
        raise ValueError(f"'pass_dice' needs 2 or more passes, got {len(masks)}")
    sizes = [int(mask.sum()) for mask in masks]
    scores = []
    for i, j in itertools.combinations(range(len(masks)), 2):
        together = sizes[i] + sizes[j]
        scores.append(2 * int((masks[i] & masks[j]).sum()) / together if together else 1.0)
    return sum(scores) / len(scores)


def _dilate(mask: Tensor, radius: int) -> Tensor:
    grown = mask[None, None].float()
    for axis in range(3):
        size = [1, 1, 1]
        size[axis] = 2 * radius + 1
        grown = F.max_pool3d(grown, size, stride=1, padding=[side // 2 for side in size])
    return grown[0, 0] > 0
