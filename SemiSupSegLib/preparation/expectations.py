"""Are the images what the task expects: the brain alone, and all channels at one place?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from SemiSupSegLib.cases.task import Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST_BRAIN_ML = 2300
"""Brains are smaller; heads have twice as much."""
LEAST_OVERLAP = 0.8
"""Dice of what is not 0 in two channels of one extracted brain."""


def unmet_expectations(
    task: Task, channels: Mapping[str, NDArray[np.generic]], voxel_ml: float, *, has_mask: bool
) -> list[str]:
    """Return a sentence, with its remedy, for each expectation that the images do not meet.

    Nothing is refused: the check looks at what is 0 only, and may be wrong.

    Args:
        task: Says what it expects.
        channels: By name, (D, H, W), all on one grid.
        voxel_ml: Volume of a voxel, mL.
        has_mask: Whether a brain mask was given, so that the images need not be cut out.
    """
    import numpy as np

    if has_mask:
        return []
    inside = {name: values != 0 for name, values in channels.items()}
    volumes = {name: float(np.count_nonzero(one)) * voxel_ml for name, one in inside.items()}
    whole = [name for name, volume in volumes.items() if volume > LARGEST_BRAIN_ML]
    if task.expects.get("brain_extracted") and whole:
        return [
            f"Task {task.name} expects the brain alone, all else 0, but {volumes[whole[0]]:,.0f} "
            f"mL of {whole[0]} are not 0, and no brain has more than {LARGEST_BRAIN_ML:,} mL. "
            "Extract the brain first, for instance with HD-BET or SynthStrip."
        ]
    if not task.expects.get("coregistered") or whole:
        return []
    first, *others = inside
    overlaps = {name: _dice(inside[first], inside[name]) for name in others}
    name = min(overlaps, key=overlaps.__getitem__, default=None)
    if name is None or overlaps[name] >= LEAST_OVERLAP:
        return []
    return [
        f"Task {task.name} expects channels that are registered to each other, but what is not 0 "
        f"in {first} and in {name} overlaps by a Dice of {overlaps[name]:.2f} only. Register "
        f"{name} to {first} first."
    ]


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    import numpy as np

    total = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * int(np.count_nonzero(one & other)) / total if total else 1.0
