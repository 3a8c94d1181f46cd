"""One telling slice of a validation case, for pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.cases.label_values import UNKNOWN_CLASS
from SemiSupSegLib.files import replacing

MAP_STEPS = 200
"""Maps from 0 to 1 are stored as whole numbers up to this."""


def slice_with_most(*label_maps: NDArray[np.uint8]) -> int:
    """Return the axial slice in which the first label map that is not empty has most voxels.

    Args:
        label_maps: Class indices (D, H, W), 255 where unknown; the reference first.

    Returns:
        Index on axis 0; the middle if all are empty.
    """
    for label in label_maps:
        areas = np.count_nonzero((label > 0) & (label != UNKNOWN_CLASS), axis=(1, 2))
        if areas.any():
            return int(areas.argmax())
    return int(label_maps[0].shape[0] // 2)


def write_slice(
    path: Path,
    index: int,
    *,
    image: NDArray[np.floating],
    labels: Mapping[str, NDArray[np.uint8]],
    maps: Mapping[str, NDArray[np.floating]],
    spacing_mm: tuple[float, float],
) -> None:
    """Write one axial slice of everything as .npz.

    Arrays in the file: `image` float16 (C, H, W), each of `labels` uint8 class indices (H, W), each
    of `maps` uint8 (H, W) in steps of 1/200, `spacing_mm` (row, column), `index`.

    Args:
        path: The file to make; its folder must exist.
        index: On axis 0.
        image: Channels (C, D, H, W).
        labels: By name, (D, H, W).
        maps: By name, 0-1, (D, H, W).
        spacing_mm: Between rows, between columns.
    """
    arrays: dict[str, NDArray[np.generic]] = {
        "image": np.asarray(image[:, index], np.float16),
        "spacing_mm": np.asarray(spacing_mm, np.float32),
        "index": np.asarray(index),
    }
    for name, label in labels.items():
        arrays[name] = np.asarray(label[index], np.uint8)
    for name, values in maps.items():
        steps = np.round(MAP_STEPS * np.clip(values[index], 0, 1))
        arrays[name] = steps.astype(np.uint8)
    with replacing(path) as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # its stub takes keywords for options
