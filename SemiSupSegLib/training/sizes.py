"""How large cases are once they are prepared, told without preparing them all."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from SemiSupSegLib.cases.case import Case, ImageSource
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.cases.inspection import ScanCache, inspect
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.preparation.options import PreparationOptions
from SemiSupSegLib.preparation.prepare import hash_images, prepare_images, reference_of
from SemiSupSegLib.preparation.store import stored_grid, usable_processors

_TRIED = 2
"""Cases that are prepared to see how much of a scan is kept, and how long it takes."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Cases as they will be."""

    grids: Mapping[str, Geometry]
    """Of every case; those that are not in the store are guessed from their headers and the
    share of a scan that is kept in others. Where a guessed grid lies is not told."""
    missing: frozenset[str]
    """Cases that are still to be prepared."""
    seconds: float
    """That their preparation will take; without N4."""

    @property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """D, H, W by case."""
        return {case_id: grid.shape for case_id, grid in self.grids.items()}


def forecast_sizes(
    cases: Sequence[Case], task: Task, options: PreparationOptions, store: Path, cache: Path
) -> Sizes:
    """Look the cases up in the store, and tell the others from their headers.

    Args:
        cases: Scanned before, so that the cache knows their files.
        task: Names channels.
        options: Frozen options.
        store: Of prepared cases.
        cache: Of the scan.

    Raises:
        SemiSupSegError: If a file cannot be read, or one that is tried cannot be prepared.
    """
    known = ScanCache(cache)

    def sha256_of(source: ImageSource) -> str:
        whole = replace(source, component=None)
        return inspect(whole, known, content=True, values=False)[0].sha256

    grids: dict[str, Geometry] = {}
    whole: dict[str, Geometry] = {}
    missing = []
    for case in cases:
        source = replace(reference_of(case, task), component=None)
        facts, _ = inspect(source, known, content=False, values=False)
        whole[case.id] = _oriented(facts.header.geometry)
        stored = stored_grid(hash_images(case, task, sha256_of), options, store)
        if stored is None:
            missing.append(case)
        else:
            grids[case.id] = stored
    seconds = 0.0
    if missing:
        tried, each = _try_some(missing, task, options)
        seconds = each * math.ceil(len(missing) / usable_processors())
        shares = _kept_shares({**grids, **tried}, whole)
        for case in missing:
            grids[case.id] = tried.get(case.id) or _guessed(whole[case.id], options, shares)
    return Sizes(grids=grids, missing=frozenset(case.id for case in missing), seconds=seconds)


def store_bytes(sizes: Sizes, task: Task, labelled: Collection[str]) -> int:
    """Return what the missing cases will take in the store: image, mask and, if opened, label."""
    return sum(
        math.prod(sizes.grids[case_id].shape)
        * (2 * len(task.channels) + 1 + (case_id in set(labelled)))
        for case_id in sizes.missing
    )


def _try_some(
    cases: Sequence[Case], task: Task, options: PreparationOptions
) -> tuple[dict[str, Geometry], float]:
    """Prepare a few cases in memory; return their grids and the seconds of one."""
    chosen = {case.id: case for case in cases[:: max(1, math.ceil(len(cases) / _TRIED))]}
    began = time.monotonic()
    found = {
        case_id: prepare_images(case, task, replace(options, n4=False)).grid
        for case_id, case in chosen.items()
    }
    return found, (time.monotonic() - began) / len(chosen)


def _oriented(grid: Geometry) -> Geometry:
    """Return a grid's size and spacing along left, posterior, superior."""
    order = [
        max(range(3), key=lambda axis: abs(grid.direction[3 * along + axis])) for along in range(3)
    ]
    x, y, z = order if set(order) == {0, 1, 2} else (0, 1, 2)
    return replace(
        grid,
        size=(grid.size[x], grid.size[y], grid.size[z]),
        spacing=(grid.spacing[x], grid.spacing[y], grid.spacing[z]),
    )


def _kept_shares(
    prepared: Mapping[str, Geometry], whole: Mapping[str, Geometry]
) -> tuple[float, ...]:
    """Return the median share of a scan's extent that is kept, for each axis."""
    return tuple(
        statistics.median(
            _extent(grid, axis) / _extent(whole[case_id], axis)
            for case_id, grid in prepared.items()
        )
        for axis in range(3)
    )


def _extent(grid: Geometry, axis: int) -> float:
    return grid.size[axis] * grid.spacing[axis]


def _guessed(whole: Geometry, options: PreparationOptions, shares: Sequence[float]) -> Geometry:
    assert options.spacing is not None, "options are frozen"
    spacing = [
        old if abs(new / old - 1) <= options.resample_tolerance else new
        for old, new in zip(whole.spacing, options.spacing, strict=True)
    ]
    size = [
        max(1, math.ceil(_extent(whole, axis) * shares[axis] / spacing[axis] - 1e-6))
        for axis in range(3)
    ]
    return replace(
        whole, size=(size[0], size[1], size[2]), spacing=(spacing[0], spacing[1], spacing[2])
    )
