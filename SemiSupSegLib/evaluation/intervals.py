"""How sure a mean over few cases is: bootstrap intervals, and a gain in a plain sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.counting import counted

RESAMPLES = 10_000
MIN_CASES = 6
"""With fewer, even a gain in every case has a chance of more than 5 % (2 x 0.5^5) without cause,
and a bootstrap interval is narrower than it should be: none is given."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over cases with its bootstrap interval."""

    mean: float
    low: float | None
    """None with fewer than `MIN_CASES`."""
    high: float | None
    n: int

    @property
    def is_outside_noise(self) -> bool:
        """Whether there is an interval, and it leaves out 0."""
        if self.low is None or self.high is None:
            return False
        return self.low > 0 or self.high < 0

    def to_json(self) -> dict[str, float | int | None]:
        """Return the interval as plain values."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}


def bootstrap_mean(
    values: Sequence[float], *, level: float = 0.95, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return the mean of one value a case with its percentile bootstrap interval.

    The same values and seed give the same interval; fewer than `MIN_CASES` values give none.

    Args:
        values: One a case (cases are drawn with replacement).
        level: Share of the resampled means within the interval.
        seed: Of the drawing.
        resamples: Number of drawings.

    Raises:
        ValueError: If there are no values or one is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"need at least one value and only finite ones, got {list(values)}")
    mean = float(array.mean())
    if array.size < MIN_CASES:
        return Interval(mean=mean, low=None, high=None, n=array.size)
    tail = 50 * (1 - level)
    low, high = np.percentile(_resampled_means(array, seed, resamples), [tail, 100 - tail])
    return Interval(mean=mean, low=float(low), high=float(high), n=array.size)


def bootstrap_difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the mean of first - second, paired by case, with its interval.

    Raises:
        ValueError: If the lengths differ, or as `bootstrap_mean`.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values: need one of each per case")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return bootstrap_mean(differences.tolist(), level=level, seed=seed, resamples=resamples)


def gain_sentence(
    student: Sequence[float],
    teacher: Sequence[float],
    *,
    figure: str = "Dice",
    names: tuple[str, str] = ("student", "teacher"),
    seed: int = 0,
) -> str:
    """Say whether the student is better than the teacher, and whether that is outside the noise.

    Args:
        student: A figure per case, higher is better.
        teacher: The same cases in the same order.
        figure: What the values are called.
        names: What the two networks are called.
        seed: Of the bootstrap.
    """
    ours, theirs = names
    if len(student) == len(teacher) == 0:
        return f"No case has a {figure} of both, so {ours} and {theirs} cannot be compared."
    gain = bootstrap_difference(student, teacher, seed=seed)
    cases = counted(gain.n, "cases")
    size = f"{abs(gain.mean):.3f}"
    if size == "0.000":
        what = f"the {ours}'s {figure} equals the {theirs}'s to three decimals"
    else:
        word = "higher" if gain.mean > 0 else "lower"
        what = f"the {ours}'s {figure} is {size} {word} than the {theirs}'s"
    if gain.low is None or gain.high is None:
        return f"Over {cases} {what}; fewer than {MIN_CASES} cases cannot tell a gain from noise."
    interval = f"95 % interval of the difference {gain.low:+.3f} to {gain.high:+.3f}"
    if gain.is_outside_noise:
        verdict = f"the {'gain' if gain.mean > 0 else 'loss'} is outside the noise"
    else:
        verdict = "the difference is within the noise"
    return f"Over {cases} {what} ({interval}): {verdict}."


def _resampled_means(values: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    # Row by block, so that thousands of cases do not need gigabytes.
    block = max(1, 1_000_000 // values.size)
    means = []
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        means.append(values[generator.integers(values.size, size=(rows, values.size))].mean(axis=1))
    return np.concatenate(means)
