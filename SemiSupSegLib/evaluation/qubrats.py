"""The QU-BraTS score: does filtering uncertain voxels remove errors, and only errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_THRESHOLDS = 41
"""Every 2.5 from 0 to 100."""
EPSILON = float(np.finfo(np.float32).eps)
"""Added to the denominators of FTP and FTN, as the challenge's script does."""


@dataclass(frozen=True, kw_only=True)
class FilteringCurves:
    """Curves over the threshold of uncertainty, and the areas under them (0-1).

    Source: Mehta et al., MELBA 2022:026 (QU-BraTS).
    """

    thresholds: tuple[float, ...]
    """Rising from 0 to 100; voxels with more uncertainty are filtered out."""
    dice: tuple[float, ...]
    """Dice of the voxels that are kept; 1 if neither label map has one."""
    ftp: tuple[float, ...]
    """Share of the true positives that is filtered out."""
    ftn: tuple[float, ...]
    """Share of the brain's true negatives that is filtered out."""
    auc_dice: float
    auc_ftp: float
    auc_ftn: float

    @property
    def score(self) -> float:
        """Mean of Dice area, 1 - FTP area, 1 - FTN area.

        A map of zeros has (Dice + 2) / 3: a map is of use if it has more.
        """
        return (self.auc_dice + (1 - self.auc_ftp) + (1 - self.auc_ftn)) / 3


def filtering_curves(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    uncertainty: NDArray[np.floating],
    brain: NDArray[np.bool_],
    *,
    num_thresholds: int = NUM_THRESHOLDS,
) -> FilteringCurves:
    """Filter one region's voxels by their uncertainty at every threshold.

    Args:
        prediction: Mask of the region, any shape.
        reference: The same for the reference label.
        uncertainty: 0-100, same shape; a voxel is kept if it is not above the threshold.
        brain: Where true negatives count, same shape.
        num_thresholds: Equally spaced from 0 to 100.

    Raises:
        ValueError: If shapes differ or an uncertainty is not within 0-100.

    Source: Mehta et al., MELBA 2022:026; their script stops at the three areas.
    """
    if not prediction.shape == reference.shape == uncertainty.shape == brain.shape:
        raise ValueError(
            f"shapes differ: prediction {prediction.shape}, reference {reference.shape}, "
            f"uncertainty {uncertainty.shape}, brain {brain.shape}"
        )
    lowest, highest = float(uncertainty.min()), float(uncertainty.max())
    # Written so that NaN fails too.
    if not (lowest >= 0 and highest <= 100.001):
        raise ValueError(f"uncertainty goes from {lowest} to {highest}, must be within 0-100")
    thresholds = np.linspace(0, 100, num_thresholds)
    kinds = {
        "tp": prediction & reference,
        "fp": prediction & ~reference,
        "fn": ~prediction & reference,
        "tn": brain & ~prediction & ~reference,
    }
    kept = {name: _kept_voxels(uncertainty[mask], num_thresholds) for name, mask in kinds.items()}
    wrong = kept["fp"] + kept["fn"]
    voxels = 2 * kept["tp"] + wrong
    dice = np.where(voxels > 0, 2 * kept["tp"] / np.maximum(voxels, 1), 1.0)
    ftp, ftn = ((kept[name][-1] - kept[name]) / (kept[name][-1] + EPSILON) for name in ("tp", "tn"))
    areas = [
        float(curve[1:].sum() + curve[:-1].sum()) / 2 / (num_thresholds - 1)
        for curve in (dice, ftp, ftn)
    ]
    return FilteringCurves(
        thresholds=tuple(float(value) for value in thresholds),
        dice=tuple(float(value) for value in dice),
        ftp=tuple(float(value) for value in ftp),
        ftn=tuple(float(value) for value in ftn),
        auc_dice=areas[0],
        auc_ftp=areas[1],
        auc_ftn=areas[2],
    )


def entropy_uncertainty(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 100 H(p) / ln 2 of a region's probability: our normalisation, 0-100."""
    p = np.asarray(probability, dtype=np.float64).clip(0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return np.nan_to_num(entropy, nan=0.0).clip(0, 1) * 100


def _kept_voxels(uncertainty: NDArray[np.floating], num_thresholds: int) -> NDArray[np.int64]:
    """Number of voxels not above each threshold."""
    step = 100 / (num_thresholds - 1)
    # Rounding: 0.3 x 100 in float32 is not above 30.
    first = np.ceil(np.round(uncertainty.astype(np.float64) / step, 4)).astype(np.int64)
    counts = np.bincount(first.clip(0, num_thresholds - 1), minlength=num_thresholds)
    return np.cumsum(counts)
