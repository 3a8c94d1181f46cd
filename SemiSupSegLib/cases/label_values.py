"""The values in a label map, and whether a task knows them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.image_error import ImageFileError
from SemiSupSegLib.cases.task import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNKNOWN_CLASS = 255
"""In a label map of class indices: nobody has said what this voxel is."""
_MAX_NAMED_VALUES = 10


def distinct_values(values: NDArray[Any]) -> list[float]:
    """Return the values that occur, ascending; the first thousand if there are more."""
    import numpy as np

    if values.dtype.kind == "f" and np.all(np.abs(values) < 1 << 15):
        whole = values.astype(np.int32)
        values = whole if np.array_equal(whole, values) else values
    if values.dtype.kind in "iu" and values.size:
        low, high = int(values.min()), int(values.max())
        if high - low < 1 << 16:
            # Counting is much faster than the sort inside np.unique.
            counts = np.bincount((values.ravel().astype(np.int64) - low), minlength=1)
            return [float(value) for value in (np.flatnonzero(counts)[:1000] + low)]
    return [float(value) for value in np.unique(values)[:1000]]


def check_label_values(
    values: Iterable[float], task: Task, path: Path, unknown: int | None = None
) -> None:
    """Check that a label map has no other values than the task's, 0 and `unknown`.

    Raises:
        ImageFileError: With code `unknown_label_value` (or `not_finite`), naming the values.
    """
    known = {0, *(value for one in task.classes for value in one.values)}
    strange = [value for value in values if value not in known and value != unknown]
    if not strange:
        return
    if not all(math.isfinite(value) for value in strange):
        raise ImageFileError(
            "not_finite",
            path,
            f"the label file {path.name} has voxels that are not numbers",
            "Export the segmentation again",
        )
    named = ", ".join(_written(value) for value in strange[:_MAX_NAMED_VALUES])
    more = " and more" if len(strange) > _MAX_NAMED_VALUES else ""
    meaning = "; ".join(
        f"{one.name} = {' or '.join(str(value) for value in one.values)}" for one in task.classes
    )
    raise ImageFileError(
        "unknown_label_value",
        path,
        f"the label file {path.name} has the values {named}{more}, which task '{task.name}' does "
        f"not know ({meaning})",
        "Correct the label map, or give a task file that lists these values",
    )


def _written(value: float) -> str:
    """Return a value so that 1.000001 does not look like 1."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))
