"""What becomes a review region: thresholds on the doubt, and sizes in mm."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from SemiSupSegLib.options import from_json

SLIDER_LOGITS = 4.0
"""How far the slider moves a threshold from one end to the other, in logits."""
NEUTRAL = 0.5
"""Position of the slider that leaves the thresholds as they were fitted."""


@dataclass(frozen=True, kw_only=True)
class RegionOptions:
    """How doubt becomes regions; doubt is the probability that a voxel's label is wrong."""

    seed: float = 0.4
    """A region has a voxel of at least this doubt."""
    grow: float = 0.3
    """A region's voxels have at least this doubt."""
    near_mm: float = 0.0
    """So near to what student or teacher found, doubt holds as it is."""
    reach_mm: float = 15.0
    """From `near_mm` to here doubt fades; in mm from what student or teacher found."""
    far: float = 0.1
    """What is left of the doubt beyond `reach_mm`, 0-1."""
    merge_mm: float = 2.0
    """Parts of one pair of classes that lie closer are one region."""
    min_volume_mm3: float = 30.0
    """Smaller regions are dust: they join a region that they touch, or are left out."""
    min_share: float = 0.05
    """A region with less than this share of all expected error in regions joins one it touches."""
    max_share: float = 0.25
    """A region with more than this share of all expected error in regions is divided ..."""
    max_volume_mm3: float = 2000.0
    """... if it is also larger than this."""
    max_regions: int = 20
    """The worst so many are listed."""

    def __post_init__(self) -> None:
        for name in ("seed", "grow"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must lie between 0 and 1")
        if self.seed < self.grow:
            raise ValueError(f"seed is {self.seed}, must be at least grow, {self.grow}")
        if not 0 <= self.far <= 1:
            raise ValueError(f"far is {self.far}, must be from 0 to 1")
        if not 0 < self.max_share <= 1:
            raise ValueError(f"max_share is {self.max_share}, must be above 0 and at most 1")
        if not 0 <= self.min_share <= self.max_share:
            raise ValueError(
                f"min_share is {self.min_share}, must be from 0 to max_share, {self.max_share}"
            )
        if not 0 <= self.near_mm <= self.reach_mm:
            raise ValueError(
                f"near_mm is {self.near_mm}, must be from 0 to reach_mm, {self.reach_mm}"
            )
        for name in ("merge_mm", "min_volume_mm3", "max_volume_mm3"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, must not be negative")
        if not 1 <= self.max_regions < 2**16:
            raise ValueError(f"max_regions is {self.max_regions}, must be from 1 to 65535")

    def with_sensitivity(self, sensitivity: float) -> RegionOptions:
        """Return options for a position of the slider.

        Args:
            sensitivity: 0-1. 0.5 changes nothing; more lists more: lower thresholds, smaller
                regions, and a longer list.

        Raises:
            ValueError: If it lies outside.
        """
        if not 0 <= sensitivity <= 1:
            raise ValueError(f"sensitivity is {sensitivity}, must be from 0 to 1")
        if sensitivity == NEUTRAL:
            return self
        shift = SLIDER_LOGITS * (sensitivity - NEUTRAL)
        return dataclasses.replace(
            self,
            seed=_shifted(self.seed, shift),
            grow=_shifted(self.grow, shift),
            far=_shifted(self.far, -shift) if 0 < self.far < 1 else self.far,
            min_volume_mm3=self.min_volume_mm3 * math.exp(-shift),
            max_regions=min(max(1, round(self.max_regions * math.exp(shift))), 2**16 - 1),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the options as plain values."""
        return dataclasses.asdict(self)


def options_from_json(
    content: Mapping[str, Any], where: str = "review thresholds"
) -> RegionOptions:
    """Return the options that `RegionOptions.to_json` gave; what is missing has its default.

    Raises:
        UsageError: For an unknown key, a wrong type or a value out of range.
    """
    return from_json(RegionOptions, content, where)


def _shifted(probability: float, logits: float) -> float:
    """Return a probability after its odds were divided by e^logits."""
    return 1 / (1 + (1 / probability - 1) * math.exp(logits))
