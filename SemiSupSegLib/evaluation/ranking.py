"""Whether a confidence puts the cases in the order of their true quality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

ACCEPTABLE_DICE = 0.7
"""Where good and bad segmentations are parted for `accuracy`, as in the literature."""


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """A rank correlation with its interval; values are None where they do not exist."""

    value: float | None
    """-1 to 1; None if one side is constant or there are fewer than three pairs."""
    low: float | None
    high: float | None
    n: int

    def to_json(self) -> dict[str, float | int | None]:
        """Return the correlation as plain values."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def spearman(
    first: Sequence[float], second: Sequence[float], *, level: float = 0.95
) -> Correlation:
    """Return Spearman's ρ with an interval.

    Source: Bonett and Wright, Psychometrika 2000: Fisher's z with variance (1 + ρ²/2) / (n - 3).
    """
    from scipy.stats import spearmanr

    if not _can_be_ranked(first, second):
        return Correlation(value=None, low=None, high=None, n=len(first))
    value = float(spearmanr(first, second).statistic)
    return _with_interval(value, len(first), (1 + value**2 / 2), 3, level)


def kendall(first: Sequence[float], second: Sequence[float], *, level: float = 0.95) -> Correlation:
    """Return Kendall's τ-b with an interval.

    Source: Fieller, Hartley, Pearson, Biometrika 1957: Fisher's z with variance 0.437 / (n - 4).
    """
    from scipy.stats import kendalltau

    if not _can_be_ranked(first, second):
        return Correlation(value=None, low=None, high=None, n=len(first))
    value = float(kendalltau(first, second).statistic)
    return _with_interval(value, len(first), 0.437, 4, level)


def ranking_quality(
    confidence: Sequence[float], dice: Sequence[float]
) -> dict[str, float | int | None | dict[str, float | int | None]]:
    """Return how well a confidence tells the true Dice of the cases.

    Correlation depends on how far the Dice values spread, so the range stands beside it, with the
    mean absolute error and the share of cases that both put on the same side of 0.7.

    Args:
        confidence: One value a case, 0-1.
        dice: True Dice of the same cases.

    Raises:
        ValueError: If the lengths differ.
    """
    if len(confidence) != len(dice):
        raise ValueError(f"{len(confidence)} confidences and {len(dice)} Dice values: need pairs")
    told, true = np.asarray(confidence, dtype=np.float64), np.asarray(dice, dtype=np.float64)
    some = len(dice) > 0
    agree = (told >= ACCEPTABLE_DICE) == (true >= ACCEPTABLE_DICE)
    return {
        "n": len(dice),
        "spearman": spearman(confidence, dice).to_json(),
        "kendall": kendall(confidence, dice).to_json(),
        "mean_absolute_error": float(np.abs(told - true).mean()) if some else None,
        "accuracy_at_0.7": float(agree.mean()) if some else None,
        "dice_min": float(true.min()) if some else None,
        "dice_max": float(true.max()) if some else None,
    }


def _can_be_ranked(first: Sequence[float], second: Sequence[float]) -> bool:
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values: need pairs")
    # Two pairs always have a correlation of 1 or -1, which tells nothing.
    return len(first) > 2 and len(set(first)) > 1 and len(set(second)) > 1


def _with_interval(value: float, n: int, variance: float, lost: int, level: float) -> Correlation:
    # Rounding may give 1.0000000000000002; at ±1 the method has no interval.
    value = min(max(value, -1.0), 1.0)
    if n <= lost or abs(value) > 1 - 1e-12:
        return Correlation(value=value, low=None, high=None, n=n)
    reach = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(variance / (n - lost))
    centre = math.atanh(value)
    return Correlation(
        value=value, low=math.tanh(centre - reach), high=math.tanh(centre + reach), n=n
    )
