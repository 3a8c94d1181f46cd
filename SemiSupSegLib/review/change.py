"""A change of a label map: which voxels became what, in a form that fits in a line of text."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open voxel indices ((z0, z1), (y0, y1), (x0, x1))."""

_LEVEL = 1
"""Of zlib. Label maps are mostly runs of one value: higher levels save little and take longer."""


@dataclass(frozen=True)
class Change:
    """Class indices of a box before and after somebody drew in it.

    A voxel whose two values are alike was not touched: applying or reverting a change leaves it
    as it is, so that a change can be taken back although others overlap its box.
    """

    box: Box
    before: str
    """uint8 class indices of the box in C order (z, y, x), zlib, base64."""
    after: str
    num_voxels: int
    """Number of voxels that differ."""

    @classmethod
    def between(
        cls, before: NDArray[Any], after: NDArray[Any], box: Box | None = None
    ) -> Change | None:
        """Return what turns one label map into another; None if they are equal.

        The change's box is the smallest that holds every voxel that differs.

        Args:
            before: Class indices 0-255, of the whole label map (D, H, W) or of the box alone.
            after: The same shape.
            box: Where to look for differences; None: the arrays are whole label maps, and
                everywhere in them.

        Raises:
            ValueError: If the shapes differ or do not hold the box.
        """
        import numpy as np

        if before.shape != after.shape or before.ndim != 3:
            raise ValueError(f"label maps have the shapes {before.shape} and {after.shape}")
        depth, height, width = before.shape
        whole: Box = ((0, depth), (0, height), (0, width))
        if box is None:
            box = whole
        elif before.shape != shape_of(box):
            if not lies_inside(box, before.shape):
                raise ValueError(f"box {box} does not lie in label maps of shape {before.shape}")
            before, after = before[slices_of(box)], after[slices_of(box)]
        differs = np.not_equal(before, after)
        inner = _smallest_box(differs)
        if inner is None:
            return None
        part = slices_of(inner)
        (z, _), (y, _), (x, _) = box
        found: Box = (
            (z + inner[0][0], z + inner[0][1]),
            (y + inner[1][0], y + inner[1][1]),
            (x + inner[2][0], x + inner[2][1]),
        )
        return cls(
            found,
            _packed(before[part]),
            _packed(after[part]),
            int(np.count_nonzero(differs[part])),
        )

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the box's class indices before and after, read-only.

        Raises:
            ValueError: If the data are damaged.
        """
        shape = shape_of(self.box)
        return _unpacked(self.before, shape), _unpacked(self.after, shape)

    def apply(self, label: NDArray[Any]) -> None:
        """Write the new class of every voxel that differs into a whole label map (D, H, W)."""
        before, after = self.arrays()
        self._write(label, after, before != after)

    def revert(self, label: NDArray[Any]) -> None:
        """Write the former class of every voxel that differs into a whole label map (D, H, W)."""
        before, after = self.arrays()
        self._write(label, before, before != after)

    def touched(self) -> NDArray[np.bool_]:
        """Return which voxels of the box differ."""
        before, after = self.arrays()
        found: NDArray[np.bool_] = before != after
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the change as it stands in a line of a record."""
        return {
            "box": [list(ends) for ends in self.box],
            "before": self.before,
            "after": self.after,
            "voxels": self.num_voxels,
        }

    def _write(
        self, label: NDArray[Any], values: NDArray[np.uint8], where: NDArray[np.bool_]
    ) -> None:
        import numpy as np

        if not lies_inside(self.box, label.shape):
            raise ValueError(f"box {self.box} does not lie in a label map of shape {label.shape}")
        np.copyto(label[slices_of(self.box)], values, where=where, casting="unsafe")


def change_from_json(content: Mapping[str, Any], shape: tuple[int, ...]) -> Change:
    """Return the change that `Change.to_json` gave, for a label map of the given shape.

    The voxels are not unpacked.

    Raises:
        ValueError: If it is none, or its box leaves the label map.
    """
    try:
        ends = [(int(start), int(stop)) for start, stop in content["box"]]
        before, after = content["before"], content["after"]
        number = content.get("voxels", 0)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("a change lacks its box or its voxels") from error
    if not (isinstance(before, str) and isinstance(after, str) and isinstance(number, int)):
        raise ValueError("the voxels of a change are no text")
    if len(ends) != 3 or not lies_inside((ends[0], ends[1], ends[2]), shape):
        raise ValueError(f"a change lies outside the label map ({ends} in {shape})")
    return Change((ends[0], ends[1], ends[2]), before, after, number)


def shape_of(box: Box) -> tuple[int, int, int]:
    """Return the number of voxels of a box along z, y, x."""
    (z0, z1), (y0, y1), (x0, x1) = box
    return (z1 - z0, y1 - y0, x1 - x0)


def slices_of(box: Box) -> tuple[slice, slice, slice]:
    """Return the box as an index of an array (D, H, W)."""
    (z0, z1), (y0, y1), (x0, x1) = box
    return (slice(z0, z1), slice(y0, y1), slice(x0, x1))


def lies_inside(box: Box, shape: tuple[int, ...]) -> bool:
    """Return whether a box holds voxels and none outside an array of the given shape."""
    return len(shape) == 3 and all(
        0 <= start < stop <= length for (start, stop), length in zip(box, shape, strict=True)
    )


def _smallest_box(mask: NDArray[np.bool_]) -> Box | None:
    import numpy as np

    # Along the last axis first: the rest is then small.
    rows: NDArray[np.bool_] = np.logical_or.reduce(mask, axis=2)
    along_z, along_y = np.flatnonzero(rows.any(axis=1)), np.flatnonzero(rows.any(axis=0))
    if not along_z.size:
        return None
    z, y = ((int(found[0]), int(found[-1]) + 1) for found in (along_z, along_y))
    along_x = np.flatnonzero(mask[slice(*z), slice(*y)].any(axis=(0, 1)))
    return z, y, (int(along_x[0]), int(along_x[-1]) + 1)


def _packed(values: NDArray[Any]) -> str:
    import numpy as np

    data = np.ascontiguousarray(values, dtype=np.uint8)
    return base64.b64encode(zlib.compress(data.data, _LEVEL)).decode("ascii")


def _unpacked(text: str, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    import numpy as np

    expected = math.prod(shape)
    unpacker = zlib.decompressobj()
    try:
        # Never more than the box needs: a damaged file must not fill the memory.
        data = unpacker.decompress(base64.b64decode(text, validate=True), expected + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ValueError(f"the voxels of a change do not unpack ({error})") from error
    if len(data) != expected:
        raise ValueError(f"a change holds {len(data)} voxels or more, its box {expected}")
    return np.frombuffer(data, np.uint8).reshape(shape)
