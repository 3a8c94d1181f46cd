"""How much two label maps overlap: voxel counts, Dice, IoU, relative volume difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.cases.label_values import UNKNOWN_CLASS
from SemiSupSegLib.cases.task import Task


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Voxel counts of one target, and what follows from them."""

    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def predicted(self) -> int:
        """Voxels of the prediction."""
        return self.true_positives + self.false_positives

    @property
    def referenced(self) -> int:
        """Voxels of the reference label."""
        return self.true_positives + self.false_negatives

    @property
    def empty(self) -> str | None:
        """`both_empty`, `one_empty`, or None if both have voxels."""
        if self.predicted and self.referenced:
            return None
        return "one_empty" if self.predicted or self.referenced else "both_empty"

    @property
    def dice(self) -> float:
        """Dice, 0-1; 1 if both are empty."""
        total = self.predicted + self.referenced
        return 2 * self.true_positives / total if total else 1.0

    @property
    def iou(self) -> float:
        """Intersection over union (Jaccard), 0-1; 1 if both are empty."""
        union = self.true_positives + self.false_positives + self.false_negatives
        return self.true_positives / union if union else 1.0

    @property
    def ravd(self) -> float | None:
        """Relative absolute volume difference |V - V_ref| / V_ref.

        0 if both are empty; None if only the reference is, for then it has no value.
        """
        if self.referenced:
            return abs(self.predicted - self.referenced) / self.referenced
        return None if self.predicted else 0.0


def confusion_matrix(
    prediction: NDArray[np.uint8], reference: NDArray[np.uint8], num_classes: int
) -> NDArray[np.int64]:
    """Count the voxels of every pair of classes; rows are the prediction, columns the reference.

    Args:
        prediction: Class indices, shape (D, H, W).
        reference: The same for the reference label; voxels of 255, unknown, are not counted.
        num_classes: Number of classes with background.

    Raises:
        ValueError: If the shapes differ, or a class index is not below `num_classes`.
    """
    if prediction.shape != reference.shape:
        raise ValueError(
            f"prediction has shape {prediction.shape}, reference {reference.shape}: "
            "they must lie on one grid"
        )
    # Almost every voxel is background in both: counting the others alone is several times faster.
    either = np.flatnonzero(prediction.ravel() | reference.ravel())
    known = either[reference.ravel()[either] != UNKNOWN_CLASS]
    said, true = prediction.ravel()[known], reference.ravel()[known]
    for name, array in (("prediction", prediction), ("reference", true)):
        if array.size and int(array.max()) >= num_classes:
            raise ValueError(
                f"{name} has class index {int(array.max())}, the task has 0 to {num_classes - 1}"
            )
    counts = np.bincount(said.astype(np.int64) * num_classes + true, minlength=num_classes**2)
    counts[0] = prediction.size - either.size
    return counts.reshape(num_classes, num_classes)


def overlap_of(confusion: NDArray[np.int64], classes: Sequence[int]) -> Overlap:
    """Return the overlap of the union of `classes` from a `confusion_matrix`."""
    chosen = list(classes)
    inside = int(confusion[np.ix_(chosen, chosen)].sum())
    return Overlap(
        true_positives=inside,
        false_positives=int(confusion[chosen].sum()) - inside,
        false_negatives=int(confusion[:, chosen].sum()) - inside,
    )


def dice_of_targets(
    prediction: NDArray[np.uint8], reference: NDArray[np.uint8], task: Task
) -> dict[str, float]:
    """Return the Dice of every class and region over the known voxels; 1 if both are empty."""
    confusion = confusion_matrix(prediction, reference, task.num_classes)
    return {name: overlap_of(confusion, classes).dice for name, classes in task.targets.items()}


def overlap_of_masks(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> Overlap:
    """Return the overlap of two boolean masks of one shape."""
    confusion = confusion_matrix(prediction.astype(np.uint8), reference.astype(np.uint8), 2)
    return overlap_of(confusion, (1,))
