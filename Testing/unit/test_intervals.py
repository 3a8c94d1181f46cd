import numpy as np
import pytest

from SemiSupSegLib.evaluation.intervals import (
    bootstrap_difference,
    bootstrap_mean,
    gain_sentence,
)

TEACHER = [0.70, 0.75, 0.64, 0.81, 0.77, 0.69, 0.72, 0.80]


def test_interval_is_close_to_the_one_of_the_normal_distribution_for_many_cases():
    values = np.random.default_rng(1).normal(0.8, 0.1, size=400)

    found = bootstrap_mean(values)

    reach = 1.96 * values.std(ddof=1) / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - reach, abs=0.001)
    assert found.high == pytest.approx(values.mean() + reach, abs=0.001)


def test_fewer_than_six_values_have_no_interval():
    found = bootstrap_mean([0.1, 0.2, 0.3, 0.4, 0.5])

    assert found.mean == pytest.approx(0.3)
    assert (found.low, found.high) == (None, None)
    assert not found.is_outside_noise
    assert bootstrap_mean([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).low is not None


def test_the_same_seed_gives_the_same_interval():
    assert bootstrap_mean(TEACHER, seed=3) == bootstrap_mean(TEACHER, seed=3)
    assert bootstrap_mean(TEACHER, seed=3) != bootstrap_mean(TEACHER, seed=4)


def test_one_value_has_no_interval():
    assert bootstrap_mean([0.5]).to_json() == {"mean": 0.5, "low": None, "high": None, "n": 1}


def test_pairing_removes_what_cases_have_in_common():
    better = [value + 0.02 for value in TEACHER]

    found = bootstrap_difference(better, TEACHER)

    assert (found.mean, found.low, found.high) == pytest.approx((0.02, 0.02, 0.02))
    assert found.is_outside_noise


@pytest.mark.parametrize("bad", [[], [0.5, float("nan")]])
def test_values_that_have_no_mean_are_refused(bad):
    with pytest.raises(ValueError, match="at least one value and only finite ones"):
        bootstrap_mean(bad)


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="one of each per case"):
        bootstrap_difference([0.5], TEACHER)


def test_a_gain_in_every_case_is_outside_the_noise():
    gains = [0.03, 0.01, 0.05, 0.02, 0.04, 0.03, 0.02, 0.04]
    student = [value + gain for value, gain in zip(TEACHER, gains, strict=True)]

    found = gain_sentence(student, TEACHER)

    assert found.startswith("Over 8 cases the student's Dice is 0.030 higher than the teacher's")
    assert found.endswith("the gain is outside the noise.")


def test_a_loss_is_called_a_loss():
    student = [value - 0.05 for value in TEACHER]

    assert gain_sentence(student, TEACHER) == (
        "Over 8 cases the student's Dice is 0.050 lower than the teacher's (95 % interval of the "
        "difference -0.050 to -0.050): the loss is outside the noise."
    )


def test_gains_and_losses_that_balance_are_within_the_noise():
    changes = [0.03, -0.03, 0.05, -0.04, 0.04, -0.03, 0.02, -0.02]
    student = [value + change for value, change in zip(TEACHER, changes, strict=True)]

    assert gain_sentence(student, TEACHER).endswith("the difference is within the noise.")


def test_few_cases_cannot_tell_a_gain_from_noise():
    few = gain_sentence([0.9] * 5, TEACHER[:5])

    assert few.endswith("fewer than 6 cases cannot tell a gain from noise.")
    assert gain_sentence([0.9], [0.8]) == (
        "Over 1 case the student's Dice is 0.100 higher than the teacher's; "
        "fewer than 6 cases cannot tell a gain from noise."
    )


def test_no_case_and_no_difference_are_said_so():
    assert "cannot be compared" in gain_sentence([], [])
    assert "equals the teacher's to three decimals" in gain_sentence(TEACHER, TEACHER)
