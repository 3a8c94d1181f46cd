"""What is gained by leaving the least trusted cases or voxels out: risk against coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

NUM_HISTOGRAM_BINS = 1000
POINTS_KEPT = 101
"""Points of a voxel curve that go into a file."""


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """A risk-coverage curve and the areas under it.

    Source: Geifman, Uziel, El-Yaniv, ICLR 2019 (AURC, excess AURC).
    """

    coverage: tuple[float, ...]
    """Share of the most trusted that is kept, rising to 1."""
    risk: tuple[float, ...]
    """Mean risk of what is kept."""
    aurc: float
    """Mean of the curve over all coverages i/n."""
    oracle: float
    """The same in the best possible order."""
    random: float
    """Mean risk: what any order without information gives."""

    @property
    def e_aurc(self) -> float:
        """Excess over the best possible order; 0 is perfect."""
        return self.aurc - self.oracle

    def to_json(self) -> dict[str, float | list[float]]:
        """Return curve and areas as plain values."""
        return {
            "aurc": self.aurc,
            "e_aurc": self.e_aurc,
            "oracle": self.oracle,
            "random": self.random,
            "coverage": list(self.coverage),
            "risk": list(self.risk),
        }


def risk_coverage(
    confidence: Sequence[float], risk: Sequence[float], ids: Sequence[str] | None = None
) -> RiskCoverage:
    """Return the curve over cases, the most trusted first.

    Args:
        confidence: One value a case, higher is better.
        risk: One value a case, for example 1 - Dice.
        ids: Decide among equal confidences, in their order; without them the given order does.

    Raises:
        ValueError: If there is no case or the lengths differ.
    """
    if len(risk) == 0 or len(risk) != len(confidence):
        raise ValueError(f"{len(confidence)} confidences and {len(risk)} risks: need pairs")
    names = [str(index).zfill(12) for index in range(len(risk))] if ids is None else list(ids)
    order = sorted(range(len(risk)), key=lambda index: (-confidence[index], names[index]))
    counts = np.arange(1, len(risk) + 1)
    curve = np.cumsum([risk[index] for index in order]) / counts
    best = np.cumsum(sorted(risk)) / counts
    return RiskCoverage(
        coverage=tuple(float(count / len(risk)) for count in counts),
        risk=tuple(float(value) for value in curve),
        aurc=float(curve.mean()),
        oracle=float(best.mean()),
        random=float(np.mean(risk)),
    )


def confidence_histogram(
    confidence: NDArray[np.floating],
    wrong: NDArray[np.bool_],
    num_bins: int = NUM_HISTOGRAM_BINS,
) -> NDArray[np.int64]:
    """Count voxels and errors by confidence; histograms of several cases can be added.

    Args:
        confidence: 0-1, any shape; higher is surer (1 - uncertainty).
        wrong: Whether the voxel's class is wrong, same shape.
        num_bins: Number of equal bins.

    Returns:
        Shape (2, num_bins): all voxels, wrong voxels; the least sure first.
    """
    # Rounding: 0.3 stored in float32 belongs to the bin that begins at 0.3.
    index = np.floor(np.round(np.asarray(confidence, dtype=np.float64).ravel() * num_bins, 4))
    bins = index.astype(np.int64).clip(0, num_bins - 1)
    errors = bins[np.asarray(wrong, dtype=bool).ravel()]
    return np.stack(
        [np.bincount(bins, minlength=num_bins), np.bincount(errors, minlength=num_bins)]
    )


def voxel_risk_coverage(histogram: NDArray[np.int64]) -> RiskCoverage | None:
    """Return the curve over voxels, risk being the share of wrong ones.

    Voxels of one bin count as in random order among themselves (the exact expectation), so a map
    that is the same everywhere has the risk of no information.

    Args:
        histogram: From `confidence_histogram`, or a sum of such.

    Returns:
        None if there are no voxels.
    """
    counts, errors = (row[::-1].astype(np.float64) for row in histogram)
    filled = counts > 0
    counts, errors = counts[filled], errors[filled]
    if counts.size == 0:
        return None
    ends, end_errors = np.cumsum(counts), np.cumsum(errors)
    starts, start_errors = ends - counts, end_errors - errors
    rates = errors / counts
    # The i-th voxel of the whole has seen start_errors + (i - start) * rate errors.
    harmonics = digamma(ends + 1) - digamma(starts + 1)
    total, wrong = ends[-1], end_errors[-1]
    area = float((rates * counts + (start_errors - starts * rates) * harmonics).sum() / total)
    right = total - wrong
    best = float((wrong - right * (digamma(total + 1) - digamma(right + 1))) / total)
    coverage = np.concatenate([[0.0], ends / total])
    seen = np.concatenate([[0.0], end_errors / total])
    points = np.linspace(0, 1, POINTS_KEPT)[1:]
    return RiskCoverage(
        coverage=tuple(float(value) for value in points),
        risk=tuple(float(value) for value in np.interp(points, coverage, seen) / points),
        aurc=area,
        oracle=best,
        random=float(wrong / total),
    )
