"""Ramps and rates against their closed forms (methods §0.6)."""

import pytest

from SemiSupSegLib.losses.schedules import (
    consistency_weight,
    cosine_rate,
    linear_ramp,
    polynomial_rate,
    sigmoid_ramp,
    step_rate,
)


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (0, 0.0067379),
        (0.25, 0.0600547),
        (0.5, 0.2865048),
        (0.75, 0.7316156),
        (1, 1.0),
        (2, 1.0),
        (-1, 0.0067379),
    ],
)
def test_the_sigmoid_ramp_has_its_worked_values_and_never_exceeds_one(position, expected):
    assert sigmoid_ramp(position * 40, 40) == pytest.approx(expected, abs=5e-8)


def test_a_ramp_of_no_length_is_full_at_once():
    assert sigmoid_ramp(0, 0) == 1
    assert linear_ramp(0, 0) == 1


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [
        (0, 6.737947e-4),
        (149, 6.737947e-4),
        (150, 7.082524e-4),
        (15_000, 0.02865048),
        (29_999, 0.09998750),
        (30_000, 0.1),
        (99_999, 0.1),
    ],
)
def test_the_consistency_weight_climbs_a_staircase(iteration, expected):
    assert consistency_weight(iteration, 30_000) == pytest.approx(expected, rel=2e-7)


def test_another_length_of_the_phase_keeps_the_shape_of_the_ramp():
    short = consistency_weight(3_000, 6_000)

    assert short == pytest.approx(consistency_weight(15_000, 30_000))
    assert consistency_weight(3_000, 6_000, 1.0, rampup_fraction=0.5) == 1.0


def test_a_quantum_of_one_removes_the_stairs():
    weight = consistency_weight(25, 100, 1.0, rampup_quantum=1)

    assert weight == pytest.approx(0.0600547, abs=5e-8)
    with pytest.raises(ValueError, match="rampup_quantum is 0"):
        consistency_weight(0, 10, rampup_quantum=0)


def test_the_polynomial_rate_starts_full_and_ends_at_nothing():
    assert polynomial_rate(0, 6_000, 0.01) == 0.01
    assert polynomial_rate(3_000, 6_000, 0.01) == pytest.approx(0.01 * 0.5**0.9)
    assert polynomial_rate(6_000, 6_000, 0.01) == 0
    assert polynomial_rate(7_000, 6_000, 0.01) == 0


def test_the_step_rate_falls_at_the_given_updates():
    rates = [step_rate(iteration, 0.01) for iteration in (0, 2_499, 2_500, 5_000)]

    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.0001])


def test_the_cosine_rate_is_half_in_the_middle():
    assert cosine_rate(0, 100, 0.2) == pytest.approx(0.2)
    assert cosine_rate(50, 100, 0.2) == pytest.approx(0.1)
    assert cosine_rate(100, 100, 0.2) == pytest.approx(0)
