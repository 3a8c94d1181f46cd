"""Where teacher and student agree, and what becomes of a pseudo-label where they do not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from SemiSupSegLib.losses.classes import CLASS_AXIS, most_likely
from SemiSupSegLib.losses.reduction import at_least_float32

RefineMode = Literal["average", "ignore", "repredict", "off"]

LEAST_WEIGHT = 0.05
"""Voxels of smaller weight are treated as untrusted."""


@dataclass(frozen=True, kw_only=True)
class Refined:
    """A pseudo-label after teacher and student were compared; all maps (…, D, H, W)."""

    label: Tensor
    """Class indices, uint8."""
    weight: Tensor
    """ω, float32, in [0, 1]; 1 where kept."""
    kept: Tensor
    """Boolean: the teacher's class stands."""
    agreement: Tensor | None
    """A, float32, in [0, 1]; None if there was no student."""

    @property
    def high(self) -> Tensor:
        """Voxels to learn from, boolean."""
        return self.kept | (self.weight >= LEAST_WEIGHT)

    @property
    def low(self) -> Tensor:
        """The other voxels, boolean."""
        return ~self.high

    @property
    def averaged(self) -> Tensor:
        """Voxels to learn from whose label is not the teacher's alone, boolean."""
        return self.high & ~self.kept


@torch.no_grad()
def js_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Return A = 1 − Jensen–Shannon divergence (base 2) per voxel.

    1 for equal distributions, 0 for certain of different classes. It says little about the
    class: (.6, .4) and (.45, .55) agree by .98.

    Args:
        first: Probabilities, (…, K, D, H, W).
        second: Of the same shape.

    Returns:
        (…, D, H, W), in [0, 1].
    """
    if first.shape != second.shape:
        raise ValueError(f"shapes differ: {tuple(first.shape)} and {tuple(second.shape)}")
    divergence: Tensor | None = None
    # H(Q) − ½H(P) − ½H(S), a class at a time: no division, and few maps in memory.
    for one, other in zip(first.unbind(CLASS_AXIS), second.unbind(CLASS_AXIS), strict=True):
        one, other = at_least_float32(one), at_least_float32(other)
        middle = (one + other) / 2
        part = (torch.xlogy(one, one) + torch.xlogy(other, other)) / 2
        part -= torch.xlogy(middle, middle)
        divergence = part if divergence is None else divergence.add_(part)
    assert divergence is not None
    return divergence.div_(-math.log(2)).add_(1).clamp_(0, 1)


@torch.no_grad()
def refine(
    teacher_probabilities: Tensor,
    student_probabilities: Tensor | None,
    trust_teacher: Tensor,
    threshold: float | Tensor,
    agreement_threshold: float = 0.9,
    mode: RefineMode = "average",
    *,
    trust_student: Tensor | None = None,
    second_probabilities: Tensor | None = None,
    second_trust: Tensor | None = None,
) -> Refined:
    """Return the pseudo-label of the next stage.

    The teacher's class is kept where the student's is the same, A reaches its threshold and
    both are trusted. Elsewhere "average" takes the class of the mean of both, with weight
    ω = (K·max − 1)/(K − 1); "ignore" gives weight 0; "repredict" takes a more careful second
    prediction of the teacher where that is trusted, else weight 0. "off" keeps the teacher's
    class where the teacher is trusted and does not ask the student.

    Args:
        teacher_probabilities: (…, K, D, H, W).
        student_probabilities: Of the same shape; may be None for "off".
        trust_teacher: c_T, (…, D, H, W).
        threshold: τ for both, one number or one per class, (K,).
        agreement_threshold: Least A of a kept voxel.
        mode: One of these.
        trust_student: c_S; default the student's highest probability.
        second_probabilities: For "repredict".
        second_trust: For "repredict".

    Raises:
        ValueError: For an unknown mode, or if what it needs is missing.
    """
    if mode not in get_args(RefineMode):
        raise ValueError(f"mode is {mode!r}, must be one of {', '.join(get_args(RefineMode))}")
    teacher = at_least_float32(teacher_probabilities)
    label = most_likely(teacher)[0]
    kept = trust_teacher >= _at(threshold, label)
    agreement = None
    if student_probabilities is not None:
        agreement = js_agreement(teacher_probabilities, student_probabilities)
    if mode == "off":
        return Refined(label=label, weight=_weight(kept), kept=kept, agreement=agreement)

    if student_probabilities is None or agreement is None:
        raise ValueError(f"mode '{mode}' needs the student's probabilities")
    student = at_least_float32(student_probabilities)
    student_label, student_highest = most_likely(student)
    if trust_student is None:
        trust_student = student_highest
    kept &= student_label == label
    kept &= agreement >= agreement_threshold
    kept &= trust_student >= _at(threshold, label)
    weight = _weight(kept)
    if mode == "average":
        num_classes = teacher.shape[CLASS_AXIS]
        mean_label, mean_highest = most_likely((teacher + student) / 2)
        averaged = ((num_classes * mean_highest - 1) / (num_classes - 1)).clamp(0, 1)
        label = torch.where(kept, label, mean_label)
        weight = torch.where(kept, weight, averaged.float())
    elif mode == "repredict":
        if second_probabilities is None or second_trust is None:
            raise ValueError("mode 'repredict' needs second_probabilities and second_trust")
        second_label = most_likely(at_least_float32(second_probabilities))[0]
        label = torch.where(kept, label, second_label)
        weight = _weight(kept | (second_trust >= _at(threshold, second_label)))
    return Refined(label=label, weight=weight, kept=kept, agreement=agreement)


def _at(threshold: float | Tensor, label: Tensor) -> float | Tensor:
    """Return the threshold of each voxel's class."""
    return threshold[label.int()] if isinstance(threshold, Tensor) else threshold


def _weight(mask: Tensor) -> Tensor:
    return mask.float()
