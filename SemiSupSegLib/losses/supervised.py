"""The loss on labelled cases: cross-entropy and soft Dice, in the mixtures papers use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.losses.cross_entropy import (
    ClassBalance,
    binary_cross_entropy,
    cross_entropy,
)
from SemiSupSegLib.losses.dice import soft_dice_loss
from SemiSupSegLib.losses.reduction import at_least_float32


class _Profile(NamedTuple):
    exponent: int
    background: bool
    ce_weight: float
    dice_weight: float


PROFILES = {
    "ssl4mis": _Profile(2, True, 0.5, 0.5),
    "uamt": _Profile(2, False, 0.5, 0.5),
    "pymic": _Profile(1, True, 0.5, 0.5),
    "liu": _Profile(1, False, 1.0, 1.0),
}
"""Mixtures by name; "liu" is the teacher's loss of Liu, Ding, Zhang 2026 with λ_CE = 1."""


@dataclass(frozen=True, kw_only=True)
class SupervisedLossOptions:
    """What the loss on labelled cases is made of; None takes the profile's value."""

    profile: Literal["ssl4mis", "uamt", "pymic", "liu"] = "ssl4mis"
    """Where the values come from that are not set here."""
    dice_weight: float | None = None
    """Factor on the Dice term, at least 0."""
    ce_weight: float | None = None
    """Factor on the cross-entropy, at least 0."""
    exponent: int | None = None
    """Exponent in the denominator of Dice, 1 or 2."""
    background: bool | None = None
    """Whether class 0 has a Dice term."""
    batch: bool = True
    """Whether Dice sums run over all samples of a batch; else each sample has its own Dice."""
    skip_absent: bool = True
    """With batch=False: leave classes out that are not in the crop."""
    class_weights: ClassBalance = "none"
    """Class weights of the cross-entropy, from the class sizes in the labelled training cases;
    see `balance_weights`."""

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(f"profile is {self.profile!r}, must be one of {', '.join(PROFILES)}")
        for name in ("dice_weight", "ce_weight"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}, must be at least 0")
        if self.exponent not in (None, 1, 2):
            raise ValueError(f"exponent is {self.exponent}, must be 1 or 2")

    def resolved(self) -> SupervisedLossOptions:
        """Return the options with every value of the profile filled in."""
        profile = PROFILES[self.profile]._asdict()
        missing = {name: value for name, value in profile.items() if getattr(self, name) is None}
        return replace(self, **missing)


def supervised_loss(
    logits: Tensor,
    label: Tensor,
    options: SupervisedLossOptions,
    class_weights: Tensor | None = None,
    weight: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the terms "cross_entropy" and "dice", unweighted, and their weighted sum "total".

    Args:
        logits: (B, K, D, H, W); any float type, the loss is float32 (float64 for float64).
        label: Class indices or 255, (B, D, H, W); for overlapping regions 0, 1 or 255,
            (B, K, D, H, W), which makes it sigmoid instead of softmax.
        options: Mixture; see `SupervisedLossOptions`.
        class_weights: (K,), from `balance_weights`; needed if the options ask for them.
        weight: Of each voxel, (B, D, H, W), 0-1, for classes; absolute, the means are still those
            of as many voxels. None is 1 everywhere.

    Raises:
        ValueError: If the shapes differ, or class weights are asked for but missing.
    """
    _check_shapes(logits, label)
    if options.class_weights != "none" and class_weights is None:
        raise ValueError(
            f"class_weights is '{options.class_weights}', but no weights were passed; "
            "count the voxels of the labelled cases and call balance_weights"
        )
    options = options.resolved()
    logits = at_least_float32(logits)
    if label.ndim == logits.ndim:
        entropy = binary_cross_entropy(logits, label)
        probabilities = logits.sigmoid()
    else:
        log_probabilities = F.log_softmax(logits, 1)
        entropy = cross_entropy(log_probabilities, label, class_weights, weight)
        probabilities = log_probabilities.exp()
    # `resolved` leaves no None; the type checker cannot know.
    assert options.exponent is not None
    assert options.background is not None
    assert options.ce_weight is not None
    assert options.dice_weight is not None
    dice = soft_dice_loss(
        probabilities,
        label,
        weight,
        exponent=options.exponent,
        background=options.background,
        batch=options.batch,
        skip_absent=options.skip_absent and not options.batch,
    )
    total = options.ce_weight * entropy + options.dice_weight * dice
    return {"cross_entropy": entropy, "dice": dice, "total": total}


def deep_supervision_weights(count: int) -> tuple[float, ...]:
    """Return weights 2^−i of outputs from fine to coarse, with sum 1."""
    weights = torch.tensor([2.0**-i for i in range(count)], dtype=torch.float64)
    return tuple((weights / weights.sum()).tolist())


def _check_shapes(logits: Tensor, label: Tensor) -> None:
    classes = (logits.shape[0], *logits.shape[2:])
    if tuple(label.shape) != classes and label.shape != logits.shape:
        raise ValueError(
            f"label has shape {tuple(label.shape)}, expected {classes} for classes or "
            f"{tuple(logits.shape)} for regions"
        )
