"""Stitching the outputs of overlapping windows into one volume."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SemiSupSegLib.errors import StoppedError

Weighting = Literal["gaussian", "uniform"]
Box = tuple[slice, slice, slice]

GAUSSIAN_SIGMA = 0.125
"""Standard deviation of the Gaussian weights, as a fraction of the patch's side."""


@dataclass(frozen=True, kw_only=True)
class Slab:
    """Finished slices of a stitched volume."""

    start: int
    """First slice on the D axis."""
    values: Tensor
    """float32, shape (R, n, H, W), on the computing device."""


def sliding_window(
    image: NDArray[np.generic] | Tensor,
    forward: Callable[[Tensor], Tensor],
    *,
    patch_size: tuple[int, int, int],
    overlap: float = 0.5,
    batch_size: int = 1,
    device: torch.device,
    weighting: Weighting = "gaussian",
    box: Box | None = None,
    should_stop: Callable[[], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the weighted mean of the outputs of overlapping windows, float32 (R, D, H, W), on CPU.

    Args:
        image: Shape (C, D, H, W); any real type. A volume smaller than the patch is padded
            with 0 on both sides, and the result is cut back.
        forward: Maps a batch of patches, float32 (B, C, *patch_size) on `device`, to
            (B, R, *patch_size); called without gradients.
        patch_size: Side lengths of a window in voxels, D, H, W.
        overlap: Fraction of a side that neighbouring windows share at least, in [0, 1).
        batch_size: Most windows in one call of `forward`.
        device: Where the windows are computed and summed.
        weighting: `gaussian` trusts the centre of a window more than its border.
        box: Only this part is computed; the result is 0 elsewhere.
        should_stop: Asked before every batch.
        progress: Told (windows done, windows in all) after every batch.

    Raises:
        StoppedError: When `should_stop` says so.
        ValueError: If shapes or `overlap` make no sense.
    """
    result: Tensor | None = None
    depth, height, width = _spatial(image)
    region = box or (slice(0, depth), slice(0, height), slice(0, width))
    first = region[0].indices(depth)[0]
    for slab in sliding_slabs(
        image,
        forward,
        patch_size=patch_size,
        overlap=overlap,
        batch_size=batch_size,
        device=device,
        weighting=weighting,
        box=box,
        should_stop=should_stop,
        progress=progress,
    ):
        if result is None:
            result = torch.zeros(slab.values.shape[0], depth, height, width)
        rows = slice(first + slab.start, first + slab.start + slab.values.shape[1])
        result[:, rows, region[1], region[2]] = slab.values.cpu()
    assert result is not None, "a volume has at least one window"
    return result


def sliding_slabs(
    image: NDArray[np.generic] | Tensor,
    forward: Callable[[Tensor], Tensor],
    *,
    patch_size: tuple[int, int, int],
    overlap: float = 0.5,
    batch_size: int = 1,
    device: torch.device,
    weighting: Weighting = "gaussian",
    box: Box | None = None,
    should_stop: Callable[[], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Slab]:
    """Yield the stitched volume from the first slice to the last, each slice once it is final.

    Only one patch's depth of sums is held, whatever the number of outputs. The windows form a
    grid and their weights are products of one weight per axis; so these are divided by their
    sums beforehand, axis by axis, and no volume of weights is needed.

    Arguments and errors are those of `sliding_window`; slabs count slices from the box's start.
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap}, must be in [0, 1)")
    if batch_size < 1 or min(patch_size) < 1:
        raise ValueError(f"batch_size is {batch_size}, patch_size {patch_size}; must be positive")
    _spatial(image)
    part = image if box is None else image[(slice(None), *box)]
    source = torch.as_tensor(np.asarray(part)) if not isinstance(part, Tensor) else part
    shape = _spatial(source)
    if min(shape) < 1:
        raise ValueError(f"the image has the shape {tuple(image.shape)} with box {box}: no voxels")
    source, before = _padded(source, patch_size)
    if device.type != "cpu":
        source = source.to(device)
    sides = [
        _Side.of(length, patch, overlap, weighting)
        for length, patch in zip(source.shape[1:], patch_size, strict=True)
    ]
    cut = (slice(before[1], before[1] + shape[1]), slice(before[2], before[2] + shape[2]))
    total = math.prod(len(side.starts) for side in sides)
    done = 0
    sums: Tensor | None = None
    starts = [*sides[0].starts, int(source.shape[1])]
    columns = list(itertools.product(range(len(sides[1].starts)), range(len(sides[2].starts))))
    for row, (start, following) in enumerate(itertools.pairwise(starts)):
        for some in _batches(columns, batch_size):
            if should_stop is not None and should_stop():
                raise StoppedError(f"Stopped after {done} of {total} windows.")
            corners = [(start, sides[1].starts[j], sides[2].starts[k]) for j, k in some]
            patches = torch.stack([_window(source, at, patch_size) for at in corners])
            with torch.inference_mode():
                outputs = forward(patches.to(device, torch.float32))
            if outputs.shape[0] != len(some) or tuple(outputs.shape[2:]) != patch_size:
                raise ValueError(
                    f"forward gave the shape {tuple(outputs.shape)} for {len(some)} windows "
                    f"of {patch_size}"
                )
            if sums is None:
                sums = _zeros(outputs.shape[1], patch_size[0], source, device)
            for output, (j, k), (_, y, x) in zip(outputs, some, corners, strict=True):
                weight = _outer(sides[0].weights[row], sides[1].weights[j], sides[2].weights[k])
                place = sums[:, :, y : y + patch_size[1], x : x + patch_size[2]]
                place.addcmul_(output.float(), weight.to(device))
            done += len(some)
            if progress is not None:
                progress(done, total)
        assert sums is not None
        finished = following - start
        # Padded slices at either end are left out.
        low, high = max(start, before[0]), min(following, before[0] + shape[0])
        if high > low:
            yield Slab(
                start=low - before[0],
                values=sums[:, low - start : high - start, cut[0], cut[1]].clone(),
            )
        kept = patch_size[0] - finished
        if kept > 0:
            sums[:, :kept] = sums[:, finished:].clone()
        sums[:, max(kept, 0) :] = 0


def count_windows(
    shape: Sequence[int], patch_size: tuple[int, int, int], overlap: float = 0.5
) -> int:
    """Return how many windows `sliding_window` computes for a volume of shape D, H, W."""
    return math.prod(
        len(_starts(max(length, patch), patch, overlap))
        for length, patch in zip(shape, patch_size, strict=True)
    )


@dataclass(frozen=True)
class _Side:
    starts: list[int]
    weights: list[Tensor]
    """One vector per start; at every voxel they add up to 1."""

    @classmethod
    def of(cls, length: int, patch: int, overlap: float, weighting: Weighting) -> _Side:
        starts = _starts(length, patch, overlap)
        one = np.ones(patch)
        if weighting == "gaussian":
            distance = (np.arange(patch) - (patch - 1) / 2) / (GAUSSIAN_SIGMA * patch)
            one = np.exp(-0.5 * distance**2)
        total = np.zeros(length)
        for start in starts:
            total[start : start + patch] += one
        return cls(
            starts,
            [torch.from_numpy(one / total[start : start + patch]).float() for start in starts],
        )


def _starts(length: int, patch: int, overlap: float) -> list[int]:
    """Return evenly spread starts, no further apart than `overlap` allows."""
    stride = max(1, round(patch * (1 - overlap)))
    steps = math.ceil((length - patch) / stride)
    if steps == 0:
        return [0]
    return [round(step * (length - patch) / steps) for step in range(steps + 1)]


def _spatial(image: NDArray[np.generic] | Tensor) -> tuple[int, int, int]:
    if len(image.shape) != 4:
        raise ValueError(f"image has the shape {tuple(image.shape)}, expected (C, D, H, W)")
    return int(image.shape[1]), int(image.shape[2]), int(image.shape[3])


def _padded(source: Tensor, patch_size: tuple[int, int, int]) -> tuple[Tensor, list[int]]:
    sides = zip(patch_size, source.shape[1:], strict=True)
    missing = [max(0, patch - int(length)) for patch, length in sides]
    before = [one // 2 for one in missing]
    if any(missing):
        pads = [
            side
            for one, low in zip(missing[::-1], before[::-1], strict=True)
            for side in (low, one - low)
        ]
        source = torch.nn.functional.pad(source, pads)
    return source, before


def _window(source: Tensor, start: tuple[int, int, int], patch: tuple[int, int, int]) -> Tensor:
    z, y, x = start
    return source[:, z : z + patch[0], y : y + patch[1], x : x + patch[2]]


def _batches(items: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _zeros(outputs: int, depth: int, source: Tensor, device: torch.device) -> Tensor:
    return torch.zeros(outputs, depth, source.shape[2], source.shape[3], device=device)


def _outer(along_d: Tensor, along_h: Tensor, along_w: Tensor) -> Tensor:
    return along_d[:, None, None] * along_h[None, :, None] * along_w[None, None, :]
