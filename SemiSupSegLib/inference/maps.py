"""What the maps of a prediction mean, and the figures that go with them (docs/adr/0003)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.review.fitting import ReviewThresholds
from SemiSupSegLib.review.regions import FoundRegions

SURE = 0.9
"""A voxel surely belongs to what has at least this calibrated probability."""
POSSIBLE = 0.1
"""A voxel possibly belongs to what has at least this calibrated probability."""
MOST_BITS = 31
"""Classes that `sure` and `possible` can hold: their bits are those of an int32."""
OUTSIDE = {"confidence": 1.0, "uncertainty": 0.0, "agreement": 1.0, "trust": 1.0}
"""Outside the mask (the brain, say) all is background, whatever the network makes of it."""


class Comparison(IntEnum):
    """Values of the comparison map."""

    NEITHER = 0
    SAME_CLASS = 1
    TEACHER_ONLY = 2
    STUDENT_ONLY = 3
    DIFFERENT_CLASSES = 4


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Numbers of one prediction, by class and region; what cannot be said is None."""

    volumes_ml: Mapping[str, Mapping[str, float]]
    """`value` of the label map; `low` and `high` from the voxels that are sure and possible."""
    confidence: Mapping[str, float | None]
    """Expected Dice under the probabilities, for each class and, under `image`, their mean."""
    teacher_student_dice: Mapping[str, float | None]
    """Empty without a teacher; None where neither finds anything."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Whether a case is like those that the model was trained on."""

    is_judged: bool = False
    """Whether there were enough validation cases to compare its scores with."""
    reasons: tuple[str, ...] = ()
    """Sentences on why it may be unlike them."""

    def to_json(self) -> dict[str, object]:
        """Return it as plain values."""
        return {"judged": self.is_judged, "reasons": list(self.reasons)}


@dataclass(frozen=True, kw_only=True)
class Maps:
    """A prediction on the case's original grid; arrays (D, H, W), None where not made."""

    label: NDArray[np.uint8]
    """The student's class indices."""
    confidence: NDArray[np.float32]
    """Calibrated probability that the label is right, 0-1."""
    uncertainty: NDArray[np.float32] | None = None
    """Spread of the student, 0-1."""
    pseudo_label: NDArray[np.uint8] | None = None
    """The teacher's class indices."""
    agreement: NDArray[np.float32] | None = None
    """1 - Jensen-Shannon divergence of teacher and student, 0-1."""
    second: NDArray[np.uint8] | None = None
    """The student's second most likely class index; always there."""
    sure: NDArray[np.integer[Any]] | None = None
    """Bit k - 1: class k has a calibrated probability of at least 0.9."""
    possible: NDArray[np.integer[Any]] | None = None
    """Bit k - 1: class k has a calibrated probability of at least 0.1."""
    comparison: NDArray[np.uint8] | None = None
    """Values of `Comparison`."""
    trust: NDArray[np.float32] | None = None
    """Weight, 0-1, that a stage of training gives the pseudo-label; None outside training."""
    probabilities: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """The student's, by class name, temperature-scaled."""
    estimated_dice: Mapping[str, float | None] = field(default_factory=dict)
    """What a quality network thinks of the label, by class; None of a class that it lacks. Empty
    without such a network."""
    figures: Figures
    likeness: Likeness = Likeness()
    regions: FoundRegions | None = None
    """Where a person should look first."""
    review: ReviewThresholds | None = None
    """What `regions` were found with."""
    warnings: tuple[str, ...] = ()


class Decision:
    """Takes class probabilities one after another and keeps what the maps need of them.

    So the probabilities of all classes need not exist at once.

    Args:
        task: Classes and regions.
        details: Whether `sure` and `possible` are wanted.
        second: Whether `second` is wanted.
        intervals: Whether sure and possible voxels are counted.
    """

    def __init__(
        self,
        task: Task,
        *,
        details: bool = False,
        second: bool = False,
        intervals: bool = True,
    ) -> None:
        self._has_second = second
        self._targets = task.targets if intervals else {}
        self._last = {name: max(classes) for name, classes in self._targets.items()}
        self._sums: dict[str, Tensor] = {}
        self._best: Tensor
        self._second_best: Tensor
        self._num_classes = task.num_classes
        self._added = 0
        self.label: Tensor
        """uint8, the most likely class; the lowest of equals."""
        self.second: Tensor
        """uint8, the second most likely class."""
        self.has_bits = details and task.num_classes - 1 <= MOST_BITS
        """Whether `sure` and `possible` are made."""
        self.sure: Tensor
        self.possible: Tensor
        self.probability_sums = np.zeros(task.num_classes)
        self.num_sure = dict.fromkeys(self._targets, 0)
        self.num_possible = dict.fromkeys(self._targets, 0)

    def add(self, probability: Tensor) -> None:
        """Take the probability of the next class, background first, any shape, float32."""
        index = self._added
        if index == 0:
            self._begin(probability)
        else:
            self._compare(probability, index)
        self.probability_sums[index] = float(probability.sum(dtype=torch.float64))
        if self.has_bits and index > 0:
            bit = 1 << (index - 1)
            self.sure += (probability >= SURE).to(self.sure.dtype) * bit
            self.possible += (probability >= POSSIBLE).to(self.possible.dtype) * bit
        self._count(probability, index)
        self._added += 1

    def hit_sums(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return, per class, how many voxels have it as label, and their summed probability."""
        flat = self.label.flatten().int()
        counts = torch.bincount(flat, minlength=self._num_classes)
        sums = torch.bincount(flat, self._best.flatten().double(), minlength=self._num_classes)
        return counts.cpu().numpy(), sums.cpu().numpy()

    def _begin(self, probability: Tensor) -> None:
        self._best = probability.clone()
        self.label = torch.zeros_like(probability, dtype=torch.uint8)
        if self._has_second:
            self._second_best = torch.full_like(probability, -1)
            self.second = torch.zeros_like(self.label)
        if self.has_bits:
            kind = torch.uint8 if self._num_classes <= 9 else torch.int32
            self.sure = torch.zeros_like(probability, dtype=kind)
            self.possible = torch.zeros_like(probability, dtype=kind)

    def _compare(self, probability: Tensor, index: int) -> None:
        better = probability > self._best
        if self._has_second:
            runner_up = ~better & (probability > self._second_best)
            self.second.masked_fill_(runner_up, index)
            self.second = torch.where(better, self.label, self.second)
            kept = torch.maximum(self._second_best, torch.minimum(probability, self._best))
            self._second_best = kept
        self.label.masked_fill_(better, index)
        self._best = torch.maximum(self._best, probability)

    def _count(self, probability: Tensor, index: int) -> None:
        for name, classes in self._targets.items():
            if index not in classes:
                continue
            total = probability
            if len(classes) > 1:
                total = self._sums[name] + probability if name in self._sums else probability
                self._sums[name] = total
            if index == self._last[name]:
                self._sums.pop(name, None)
                self.num_sure[name] += int(torch.count_nonzero(total >= SURE))
                self.num_possible[name] += int(torch.count_nonzero(total >= POSSIBLE))


class FigureSums:
    """Adds up what decisions found, slab by slab.

    Args:
        task: Classes and regions.
    """

    def __init__(self, task: Task) -> None:
        size = task.num_classes
        self._task = task
        self._labelled = np.zeros(size)
        self._hits = np.zeros(size)
        self._probabilities = np.zeros(size)
        self._pairs = np.zeros((size, size), np.int64)
        self._has_teacher = False
        self._sure = dict.fromkeys(task.targets, 0)
        self._possible = dict.fromkeys(task.targets, 0)

    def add(self, student: Decision, teacher_label: Tensor | None) -> None:
        """Add a finished decision and the teacher's label of the same voxels."""
        counts, hits = student.hit_sums()
        self._labelled += counts
        self._hits += hits
        self._probabilities += student.probability_sums
        for name in self._task.targets:
            self._sure[name] += student.num_sure[name]
            self._possible[name] += student.num_possible[name]
        if teacher_label is not None:
            self._has_teacher = True
            size = len(counts)
            both = teacher_label.flatten().int() * size + student.label.flatten().int()
            pairs = torch.bincount(both, minlength=size * size)
            self._pairs += pairs.reshape(size, size).cpu().numpy()

    def result(self, voxel_volume_mm3: float) -> Figures:
        """Return the figures of everything added."""
        ml = voxel_volume_mm3 / 1000
        volumes = {}
        dice: dict[str, float | None] = {}
        for name, classes in self._task.targets.items():
            value = float(self._labelled[list(classes)].sum())
            volumes[name] = {
                "value": value * ml,
                # With more than ten classes the most likely one may have less than 0.1.
                "low": min(self._sure[name], value) * ml,
                "high": max(self._possible[name], value) * ml,
            }
            if self._has_teacher:
                dice[name] = self._dice(list(classes))
        return Figures(volumes_ml=volumes, confidence=self._confidence(), teacher_student_dice=dice)

    def _dice(self, classes: list[int]) -> float | None:
        both = self._pairs[np.ix_(classes, classes)].sum()
        total = self._pairs[classes].sum() + self._pairs[:, classes].sum()
        return float(2 * both / total) if total else None

    def _confidence(self) -> dict[str, float | None]:
        """Return `self_dice` by class; one that was not found counts 0 in the mean."""
        found: dict[str, float | None] = {}
        for index, one in enumerate(self._task.classes, start=1):
            together = self._probabilities[index] + self._labelled[index]
            expected = float(2 * self._hits[index] / together) if together else 0.0
            found[one.name] = min(expected, 1.0) if self._labelled[index] else None
        known = [value or 0.0 for value in found.values()]
        return {"image": float(np.mean(known)), **found}


@torch.inference_mode()
def set_background(probabilities: Tensor, outside: Tensor) -> None:
    """Change probabilities (K, ...) in place: where `outside` is true, all is background."""
    probabilities.masked_fill_(outside, 0)
    probabilities[0].masked_fill_(outside, 1)


def compare(student: NDArray[np.uint8], teacher: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the comparison map of two label maps of class indices."""
    by_student = student > 0
    by_teacher = teacher > 0
    result = np.full(student.shape, Comparison.NEITHER, np.uint8)
    result[by_teacher & ~by_student] = Comparison.TEACHER_ONLY
    result[by_student & ~by_teacher] = Comparison.STUDENT_ONLY
    both = by_student & by_teacher
    result[both & (student == teacher)] = Comparison.SAME_CLASS
    result[both & (student != teacher)] = Comparison.DIFFERENT_CLASSES
    return result


def with_pseudo_label(maps: Maps, pseudo_label: NDArray[np.uint8], task: Task) -> Maps:
    """Return the maps with another pseudo-label, and what compares the student with it.

    Agreement stays: it is of the networks' probabilities.

    Args:
        maps: On the original grid.
        pseudo_label: Class indices on the same grid, (D, H, W).
        task: Classes and regions.
    """
    dice: dict[str, float | None] = {}
    for name, classes in task.targets.items():
        by_teacher, by_student = (np.isin(one, list(classes)) for one in (pseudo_label, maps.label))
        total = int(by_teacher.sum()) + int(by_student.sum())
        dice[name] = 2 * int((by_teacher & by_student).sum()) / total if total else None
    return replace(
        maps,
        pseudo_label=pseudo_label,
        comparison=compare(maps.label, pseudo_label),
        figures=replace(maps.figures, teacher_student_dice=dice),
    )
