"""Curves of long runs in few points."""

import math

from hypothesis import given
from hypothesis.strategies import floats, integers, lists

from SemiSupSegLib.runs.curve import Curve


def curve_of(values) -> Curve:
    curve = Curve()
    for number, value in enumerate(values):
        curve.add(10 * number, value)
    return curve


def test_a_short_curve_is_kept_as_it_is():
    assert curve_of([3.0, 1.0, 2.0]).points() == [[0, 3.0], [10, 1.0], [20, 2.0]]


def test_values_that_are_not_finite_are_passed_over():
    assert curve_of([1.0, math.nan, math.inf, 2.0]).points() == [[0, 1.0], [30, 2.0]]


def test_a_curve_without_points_has_none():
    assert Curve().points() == []


@given(
    values=lists(integers(-1000, 1000).map(float), min_size=1, max_size=1500),
    most=integers(3, 399),
)
def test_few_points_hold_the_extremes_and_the_newest_in_order(values, most):
    points = curve_of(values).points(most)

    assert len(points) <= most
    assert points == sorted(points)
    assert points[-1] == [10 * (len(values) - 1), values[-1]]
    found = [value for _, value in points]
    assert (min(found), max(found)) == (min(values), max(values))
    assert all(values[int(iteration) // 10] == value for iteration, value in points)


@given(lists(floats(-1e6, 1e6), max_size=2000))
def test_a_long_curve_has_at_most_400_points(values):
    assert len(curve_of(values).points()) <= 400
