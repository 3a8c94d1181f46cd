"""What estimates of Dice are worth: how near the true Dice, and how much nearer than guesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import numpy as np

from SemiSupSegLib.evaluation.ranking import kendall, spearman

LEAST_RISE = 0.3
"""By which share the error must grow when the image is taken away, else masks alone were judged."""
LEAST_FALL = 0.1
"""By how much the correlation must fall then."""

Figures = Mapping[str, float | int | None]


class Use(Enum):
    """What estimates do with the image, told by what happens to them without it."""

    IMAGE = "image"
    """Error and correlation get worse by enough: they judge how a mask fits the image."""
    ORDER = "order"
    """The correlation does, the error does not: which mask is better is told by the image, the
    values are not."""
    SHAPE = "shape"
    """They are hardly worse: a shape prior, which judges the mask alone."""
    UNKNOWN = "unknown"
    """There are too few masks to tell."""


def figures_of(estimated: Sequence[float], true: Sequence[float]) -> dict[str, float | int | None]:
    """Return how well estimates tell the true Dice.

    Args:
        estimated: One value a mask.
        true: Dice of the same masks.

    Returns:
        `n`, `pearson`, `spearman`, `kendall` (None where they do not exist), `mae` and `bias`
        (estimated minus true), None without masks.
    """
    if len(estimated) != len(true):
        raise ValueError(f"{len(estimated)} estimates and {len(true)} Dice values: need pairs")
    said, real = np.asarray(estimated, np.float64), np.asarray(true, np.float64)
    varies = len(said) > 2 and np.ptp(said) > 0 and np.ptp(real) > 0
    return {
        "n": len(said),
        "pearson": float(np.corrcoef(said, real)[0, 1]) if varies else None,
        "spearman": spearman(estimated, true).value,
        "kendall": kendall(estimated, true).value,
        "mae": float(np.abs(said - real).mean()) if len(said) else None,
        "bias": float((said - real).mean()) if len(said) else None,
    }


def use_of_image(own: Figures, controls: Sequence[Figures]) -> Use:
    """Return what estimates do with the image.

    Args:
        own: `figures_of` the estimates.
        controls: The same with the image replaced, in one way each; all must be worse.
    """
    if not controls or own["pearson"] is None or own["mae"] is None:
        return Use.UNKNOWN
    mae, pearson = float(own["mae"]), float(own["pearson"])
    if not all((one["pearson"] or 0) <= pearson - LEAST_FALL for one in controls):
        return Use.SHAPE
    is_nearer = all(float(one["mae"] or 0) >= (1 + LEAST_RISE) * mae for one in controls)
    return Use.IMAGE if is_nearer else Use.ORDER


def looks_at_image(own: Figures, controls: Sequence[Figures]) -> bool | None:
    """Return whether estimates are worse by enough, in both, without the image than with it.

    Args:
        own: `figures_of` the estimates.
        controls: The same with the image replaced, in one way each; all must be worse.

    Returns:
        None if there are too few masks to tell.
    """
    use = use_of_image(own, controls)
    return None if use is Use.UNKNOWN else use is Use.IMAGE
