"""Thresholds of review regions that suit a model, found on its validation cases.

How much doubt a wrong voxel has differs from model to model, and so does how much doubt means
where nothing was found nearby. The thresholds are the highest, and so the least to look at, with
which the worst five regions hold more than half of what is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.review.doubt import distance_to, fade
from SemiSupSegLib.review.regions import RegionOptions, find_regions, options_from_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOP = 5
"""Regions that the thresholds are fitted for."""
TARGET_SHARE = 0.55
"""Of the wrong voxels, to be inside them on average; a little above the half that is promised."""
GROW = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
"""Thresholds that are tried."""
SEED_ABOVE = 0.1
"""How far `seed` lies above `grow`."""
FADES = ((5.0, 15.0), (5.0, 30.0), (0.0, 5.0), (0.0, 10.0), (0.0, 15.0), (0.0, 30.0))
"""`near_mm` and `reach_mm` that are tried."""
FADE_VOXELS = 50_000
"""Of a case, at even distances, that the fading is fitted on."""
MOST_CASES = 20
"""More cases would change the thresholds little and keep the maps of all in memory."""
FOLDS = 5
UNKNOWN = 255
"""Reference label of voxels that nobody has judged."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReviewSample:
    """The maps of a validation case, and its label; arrays (D, H, W)."""

    label: NDArray[np.uint8]
    """The student's class indices."""
    reference: NDArray[np.uint8]
    """True class indices; 255 where nothing is known."""
    confidence: NDArray[np.floating[Any]]
    second: NDArray[np.uint8] | None
    pseudo_label: NDArray[np.uint8] | None
    geometry: Geometry
    class_names: tuple[str, ...]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Where the label is known to be wrong."""
        is_wrong: NDArray[np.bool_] = (self.label != self.reference) & (self.reference != UNKNOWN)
        return is_wrong


@dataclass(frozen=True, kw_only=True)
class TopRegions:
    """What the worst regions hold, means over the cases that have wrong voxels."""

    error_share: float
    """Of the wrong voxels, 0-1."""
    volume_to_error: float
    """Their volume, in volumes of what is wrong in the case."""


@dataclass(frozen=True, kw_only=True)
class ReviewThresholds:
    """Fitted options; the manifest keeps them as `review`."""

    options: RegionOptions
    fitted_on: int
    """Validation cases; 0: the options are the defaults."""
    top: TopRegions | None = None
    """Of the worst five regions, each case judged by options fitted without it; None if there
    were too few cases."""

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's `review`; empty if nothing was fitted."""
        if not self.fitted_on:
            return {}
        return {
            "thresholds": self.options.to_json(),
            "fitted_on": self.fitted_on,
            "top5": None if self.top is None else dataclasses.asdict(self.top),
        }


def thresholds_from_json(content: Mapping[str, Any] | None) -> ReviewThresholds:
    """Return the thresholds of a manifest; an empty one has the defaults.

    Raises:
        UsageError: For an unknown threshold or a value out of range.
    """
    if not content:
        return ReviewThresholds(options=RegionOptions(), fitted_on=0)
    top = content.get("top5")
    return ReviewThresholds(
        options=options_from_json(content["thresholds"], "the model's review thresholds"),
        fitted_on=int(content["fitted_on"]),
        top=None if top is None else TopRegions(**top),
    )


def chosen_cases(case_ids: Sequence[str], most: int = MOST_CASES) -> list[str]:
    """Return the cases to fit on: all, or so many at even distances."""
    if len(case_ids) <= most:
        return list(case_ids)
    return [case_ids[number * len(case_ids) // most] for number in range(most)]


def fit_thresholds(
    samples: Sequence[ReviewSample], *, progress: Callable[[], None] = lambda: None
) -> ReviewThresholds:
    """Return thresholds for a model, and what they bring to cases that they were not fitted on.

    Args:
        samples: Validation cases; those without a wrong voxel say nothing.
        progress: Called after each search for regions.
    """
    useful = [sample for sample in samples if sample.wrong.any()]
    if not useful:
        return ReviewThresholds(options=RegionOptions(), fitted_on=0)
    held_out: list[TopRegions] = []
    for others, own in _folds(useful):
        options = fitted_options(others, progress)
        for sample in own:
            held_out.append(top_regions(sample, options))
            progress()
    return ReviewThresholds(
        options=fitted_options(useful, progress),
        fitted_on=len(useful),
        top=_mean(held_out) if held_out else None,
    )


def top_regions(sample: ReviewSample, options: RegionOptions, top: int = TOP) -> TopRegions:
    """Return what the worst regions of a case hold of its wrong voxels."""
    import numpy as np

    found = find_regions(
        label=sample.label,
        confidence=sample.confidence,
        second=sample.second,
        pseudo_label=sample.pseudo_label,
        geometry=sample.geometry,
        class_names=sample.class_names,
        options=options,
        tells_why=False,
    )
    inside = (found.map > 0) & (found.map <= top)
    wrong = sample.wrong
    total = int(np.count_nonzero(wrong))
    return TopRegions(
        error_share=int(np.count_nonzero(wrong & inside)) / total,
        volume_to_error=int(np.count_nonzero(inside)) / total,
    )


def fitted_options(
    samples: Sequence[ReviewSample], progress: Callable[[], None] = lambda: None
) -> RegionOptions:
    """Return the options that suit these cases best; each has a wrong voxel."""
    base = _faded(samples)

    def share(number: int) -> float:
        tops = []
        for sample in samples:
            tops.append(top_regions(sample, _with_grow(base, GROW[number])))
            progress()
        return _mean(tops).error_share

    # The share falls as the threshold rises; half of what is left is ruled out each time.
    low, high = 0, len(GROW)
    while high - low > 1:
        middle = (low + high) // 2
        if share(middle) >= TARGET_SHARE:
            low = middle
        else:
            high = middle
    return _with_grow(base, GROW[low])


def _with_grow(options: RegionOptions, grow: float) -> RegionOptions:
    return dataclasses.replace(options, grow=grow, seed=round(grow + SEED_ABOVE, 6))


def _faded(samples: Sequence[ReviewSample]) -> RegionOptions:
    """Return options whose doubt, fading with the distance, fits best to what is wrong."""
    import numpy as np

    told = [_beyond(sample) for sample in samples]
    distance, doubt, wrong = (np.concatenate([one[part] for one in told]) for part in range(3))
    best, least = RegionOptions(), np.inf
    if doubt.sum() < 1:
        return best
    for near, reach in FADES:
        far = distance > reach
        expected = float(doubt[far].sum())
        # What is left far away is what was borne out there. Without far voxels nothing is known.
        left = min(1.0, float(wrong[far].sum()) / expected) if expected >= 1 else best.far
        options = dataclasses.replace(
            RegionOptions(), near_mm=near, reach_mm=reach, far=round(left, 4)
        )
        chance = np.clip(doubt * fade(distance, options), 1e-4, 1 - 1e-4)
        loss = -float(np.mean(np.log(np.where(wrong, chance, 1 - chance))))
        if loss < least - 1e-9:
            best, least = options, loss
    return best


def _beyond(
    sample: ReviewSample,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Return distance, doubt and whether wrong, of voxels outside what was found."""
    import numpy as np

    found = sample.label > 0
    if sample.pseudo_label is not None:
        found |= sample.pseudo_label > 0
    distance = distance_to(found, sample.geometry.spacing[::-1], max(reach for _, reach in FADES))
    doubt = np.subtract(1, sample.confidence, dtype=np.float32)
    chosen = ~found & (sample.reference != UNKNOWN) & (doubt > 0)
    step = max(1, int(np.count_nonzero(chosen)) // FADE_VOXELS)
    return distance[chosen][::step], doubt[chosen][::step], sample.wrong[chosen][::step]


def _folds(
    samples: Sequence[ReviewSample],
) -> Iterator[tuple[list[ReviewSample], list[ReviewSample]]]:
    if len(samples) < 2:
        return
    folds = min(FOLDS, len(samples))
    for fold in range(folds):
        others = [one for number, one in enumerate(samples) if number % folds != fold]
        yield others, list(samples[fold::folds])


def _mean(tops: Sequence[TopRegions]) -> TopRegions:
    return TopRegions(
        error_share=sum(one.error_share for one in tops) / len(tops),
        volume_to_error=sum(one.volume_to_error for one in tops) / len(tops),
    )
