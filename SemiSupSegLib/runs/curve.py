"""A figure over the updates of a long run in few points, its extremes kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[int, float]
_MOST = 199
"""Stretches that are remembered, two points each."""


class Curve:
    """Takes points one by one, in the order of the updates, and gives back as many as fit.

    It remembers the lowest and the highest point of each of at most 199 stretches of equally many
    points, which grow with the run.
    """

    def __init__(self) -> None:
        self._stretches: list[tuple[Point, Point]] = []
        self._each = 1
        """Points of a stretch."""
        self._filled = 0
        """Points of the last one."""
        self._newest: Point | None = None

    def add(self, iteration: int, value: float) -> None:
        """Take a point; one that is not finite is passed over."""
        if not math.isfinite(value):
            return
        point = self._newest = (iteration, value)
        if self._stretches and self._filled < self._each:
            self._stretches[-1] = _joined(self._stretches[-1], (point, point))
            self._filled += 1
            return
        self._stretches.append((point, point))
        self._filled = 1
        if len(self._stretches) > _MOST:
            if len(self._stretches) % 2 == 0:
                self._filled += self._each
            self._stretches = _halved(self._stretches)
            self._each *= 2

    def points(self, most: int = 2 * _MOST + 1) -> list[list[float]]:
        """Return at most `most` (3 or more) pairs [updates, value], the newest among them."""
        if self._newest is None:
            return []
        stretches = self._stretches
        while 2 * len(stretches) + 1 > most and len(stretches) > 1:
            stretches = _halved(stretches)
        found = {point for stretch in stretches for point in stretch} | {self._newest}
        return [[iteration, float(f"{value:.5g}")] for iteration, value in sorted(found)]


def _halved(stretches: Sequence[tuple[Point, Point]]) -> list[tuple[Point, Point]]:
    """Join each two neighbours; an odd last one stays alone."""
    pairs = [stretches[place : place + 2] for place in range(0, len(stretches), 2)]
    return [_joined(pair[0], pair[-1]) for pair in pairs]


def _joined(first: tuple[Point, Point], second: tuple[Point, Point]) -> tuple[Point, Point]:
    return (
        min(first[0], second[0], key=_value),
        max(first[1], second[1], key=_value),
    )


def _value(point: Point) -> float:
    return point[1]
