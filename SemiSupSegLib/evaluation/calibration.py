"""Whether a confidence of 80 % is right eight times out of ten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from SemiSupSegLib.cases.label_values import UNKNOWN_CLASS
from SemiSupSegLib.evaluation.surfaces import bounding_box, check_grid

NUM_BINS = 15
MARGIN_MM = 5.0
"""Reach of the region of interest around reference and prediction."""
BIN_ROUNDING = 5
"""Decimals kept of confidence x bins: 0.9 in float32 must not fall over the edge of its bin."""


@dataclass(frozen=True, kw_only=True)
class ReliabilityBins:
    """Equal, right-closed bins of confidence; those of several cases can be added."""

    counts: tuple[int, ...]
    """Voxels in each bin."""
    confidence_sums: tuple[float, ...]
    correct_sums: tuple[float, ...]

    def __add__(self, other: ReliabilityBins) -> ReliabilityBins:
        """Return the bins of both sets of voxels together."""
        return ReliabilityBins(
            counts=tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            confidence_sums=tuple(
                a + b for a, b in zip(self.confidence_sums, other.confidence_sums, strict=True)
            ),
            correct_sums=tuple(
                a + b for a, b in zip(self.correct_sums, other.correct_sums, strict=True)
            ),
        )

    @property
    def ece(self) -> float | None:
        """Expected calibration error, 0-1; None without voxels."""
        total = sum(self.counts)
        if total == 0:
            return None
        gaps = zip(self.correct_sums, self.confidence_sums, strict=True)
        return math.fsum(abs(right - sure) for right, sure in gaps) / total

    def to_json(self) -> list[dict[str, float | int | None]]:
        """Return one entry a bin: its edges, count, mean confidence and share of right voxels."""
        num = len(self.counts)
        return [
            {
                "low": index / num,
                "high": (index + 1) / num,
                "count": count,
                "confidence": self.confidence_sums[index] / count if count else None,
                "accuracy": self.correct_sums[index] / count if count else None,
            }
            for index, count in enumerate(self.counts)
        ]


def region_of_interest(
    prediction: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    spacing_mm: Sequence[float],
    *,
    margin_mm: float = MARGIN_MM,
) -> NDArray[np.bool_]:
    """Return where calibration is judged: all voxels within `margin_mm` of either foreground.

    The whole volume would be judged on background, which is easy.

    Args:
        prediction: Class indices, shape (D, H, W).
        reference: The same; voxels of 255, unknown, do not belong to the region.
        spacing_mm: Voxel size along D, H, W.
        margin_mm: Distance between voxel centres that still belongs to the region.

    Returns:
        Boolean mask (D, H, W), empty if both label maps are.
    """
    check_grid(prediction, reference, spacing_mm)
    known = reference != UNKNOWN_CLASS
    foreground = (prediction != 0) | ((reference != 0) & known)
    region = np.zeros(foreground.shape, dtype=bool)
    if not foreground.any():
        return region
    box = tuple(
        slice(max(side.start - reach, 0), side.stop + reach)
        for side, reach in zip(
            bounding_box(foreground),
            (math.ceil(margin_mm / step) for step in spacing_mm),
            strict=True,
        )
    )
    away = distance_transform_edt(~foreground[box], sampling=tuple(spacing_mm))
    # Rounding: 2 x 2.5 mm is within 5 mm.
    region[box] = (away <= margin_mm + 1e-6) & known[box]
    return region


def reliability_bins(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], num_bins: int = NUM_BINS
) -> ReliabilityBins:
    """Sort voxels into equal bins of confidence.

    Args:
        confidence: 0-1, any shape.
        correct: Whether the voxel's class is right, same shape.
        num_bins: Bins (i/n, (i+1)/n]; 0 belongs to the first.

    Raises:
        ValueError: If the shapes differ, or a confidence is not within 0-1.
    """
    sure = np.asarray(confidence, dtype=np.float64).ravel()
    right = np.asarray(correct, dtype=bool).ravel()
    if np.shape(confidence) != np.shape(correct):
        raise ValueError(
            f"confidence has shape {np.shape(confidence)}, correct {np.shape(correct)}"
        )
    _check_range("confidence", sure)
    index = np.ceil(np.round(sure * num_bins, BIN_ROUNDING)).astype(np.int64) - 1
    index = index.clip(0, num_bins - 1)
    counts = np.bincount(index, minlength=num_bins)
    sums = np.bincount(index, weights=sure, minlength=num_bins)
    rights = np.bincount(index, weights=right, minlength=num_bins)
    return ReliabilityBins(
        counts=tuple(int(value) for value in counts),
        confidence_sums=tuple(float(value) for value in sums),
        correct_sums=tuple(float(value) for value in rights),
    )


def expected_calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], num_bins: int = NUM_BINS
) -> float | None:
    """Return Σ (n_b / n) |accuracy_b - mean confidence_b| over equal bins; None without voxels."""
    return reliability_bins(confidence, correct, num_bins).ece


def class_wise_ece(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], num_bins: int = NUM_BINS
) -> tuple[float | None, ...]:
    """Return the calibration error of each foreground class's probability.

    Args:
        probabilities: Per class with background first, shape (K, N), 0-1.
        labels: True class indices, shape (N,).
        num_bins: As in `reliability_bins`.
    """
    return tuple(
        expected_calibration_error(probabilities[index], labels == index, num_bins)
        for index in range(1, len(probabilities))
    )


def top_label_brier(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float | None:
    """Return the mean squared difference of confidence and being right; None without voxels."""
    if np.size(confidence) == 0:
        return None
    difference = np.asarray(confidence, dtype=np.float64) - correct
    return float(np.mean(difference**2))


def brier_score(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float | None:
    """Return the mean over voxels of Σ_k (p_k - y_k)², 0-2; None without voxels.

    Args:
        probabilities: Per class with background first, shape (K, N).
        labels: True class indices, shape (N,).
    """
    if labels.size == 0:
        return None
    values = np.asarray(probabilities, dtype=np.float64)
    # Σ (p - y)² = Σ p² - 2 p_true + 1 needs no one-hot copy.
    true = values[labels, np.arange(labels.size)]
    return float(np.mean((values**2).sum(axis=0) - 2 * true + 1))


def negative_log_likelihood(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], *, floor: float = 1e-6
) -> float | None:
    """Return the mean of -ln p of the true class; None without voxels.

    Args:
        probabilities: Per class with background first, shape (K, N).
        labels: True class indices, shape (N,).
        floor: Smaller probabilities count as this: stored maps have a coarsest step.
    """
    if labels.size == 0:
        return None
    true = np.asarray(probabilities, dtype=np.float64)[labels, np.arange(labels.size)]
    return float(-np.mean(np.log(true.clip(floor, 1))))


def top_label_nll(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], *, floor: float = 1e-6
) -> float | None:
    """Return the mean of -ln of the probability given to being right or wrong, as it was."""
    if np.size(confidence) == 0:
        return None
    sure = np.asarray(confidence, dtype=np.float64)
    return float(-np.mean(np.log(np.where(correct, sure, 1 - sure).clip(floor, 1))))


def _check_range(name: str, values: NDArray[np.float64]) -> None:
    # Written so that NaN fails too.
    if values.size and not (values.min() >= 0 and values.max() <= 1 + 1e-6):
        raise ValueError(f"{name} goes from {values.min()} to {values.max()}, must be within 0-1")
