"""Colours of the maps, the same in the report and in Slicer."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from SemiSupSegLib import resources

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@cache
def color_map(name: str) -> NDArray[np.uint8]:
    """Return the colours of a map for 256 even steps from 0 to 1, (256, 3).

    Args:
        name: `uncertainty`, `confidence`, `agreement` or `trust`.
    """
    import numpy as np

    return np.array(resources.color_map(name)["colors"], np.uint8)


def color_map_meaning(name: str) -> tuple[str, str]:
    """Return in words what 0 and what 1 mean on the map `name`."""
    meaning = resources.color_map(name)["meaning"]
    return meaning["0"], meaning["1"]


def comparison_colors() -> dict[int, tuple[str, tuple[int, int, int]]]:
    """Return name and colour for each value of a comparison of two label maps."""
    return {
        one["value"]: (one["name"], tuple(one["color"]))
        for one in resources.color_map("comparison")["entries"]
    }
