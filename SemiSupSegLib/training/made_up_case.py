"""A prepared case of given arrays, on a plain grid: for measuring what a run costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.preparation.prepare import PreparedCase


def made_up_case(
    name: str, image: NDArray[np.floating], label: NDArray[np.integer]
) -> PreparedCase:
    """Return the case, with voxels of 1 mm, all of them in the mask.

    Args:
        name: Of case and patient.
        image: (C, D, H, W).
        label: Class indices, (D, H, W).
    """
    depth, height, width = label.shape
    grid = Geometry(
        size=(width, height, depth),
        spacing=(1.0, 1.0, 1.0),
        origin=(0.0, 0.0, 0.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )
    return PreparedCase(
        id=name,
        patient=name,
        original=grid,
        grid=grid,
        image_hash="",
        reference=ImageSource(path=Path(name)),
        arrays={
            "image": image.astype(np.float16),
            "mask": np.ones(label.shape, np.uint8),
            "label": label.astype(np.uint8),
        },
    )
