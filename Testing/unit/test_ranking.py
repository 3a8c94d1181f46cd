import math

import numpy as np
import pytest

from SemiSupSegLib.evaluation.ranking import kendall, ranking_quality, spearman


def test_rank_correlations_have_the_values_worked_out_by_hand():
    first, second = (1, 2, 3, 4, 5), (2, 1, 4, 3, 5)

    # Four ranks are off by 1: 1 - 6 * 4 / (5 * 24). Two of ten pairs are in the other order.
    assert spearman(first, second).value == pytest.approx(0.8)
    assert kendall(first, second).value == pytest.approx(0.6)


def test_interval_of_spearman_is_the_one_of_bonett_and_wright():
    first, second = (1, 2, 3, 4, 5), (2, 1, 4, 3, 5)

    found = spearman(first, second)

    reach = 1.959964 * math.sqrt((1 + 0.32) / 2)
    assert found.low == pytest.approx(math.tanh(math.atanh(0.8) - reach), abs=1e-6)
    assert found.high == pytest.approx(math.tanh(math.atanh(0.8) + reach), abs=1e-6)


def test_interval_of_kendall_is_the_one_of_fieller():
    found = kendall((1, 2, 3, 4, 5), (2, 1, 4, 3, 5))

    reach = 1.959964 * math.sqrt(0.437)
    assert found.low == pytest.approx(math.tanh(math.atanh(0.6) - reach), abs=1e-6)
    assert found.high == pytest.approx(math.tanh(math.atanh(0.6) + reach), abs=1e-6)


def test_intervals_narrow_with_more_cases():
    generator = np.random.default_rng(0)
    noise = generator.normal(size=200)
    values = generator.normal(size=200) + noise

    few, many = spearman(values[:20], noise[:20]), spearman(values, noise)

    assert many.high - many.low < few.high - few.low


def test_constant_values_have_no_correlation():
    found = spearman((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))

    assert found.to_json() == {"value": None, "low": None, "high": None, "n": 3}
    assert kendall((0.1,), (0.2,)).value is None


def test_two_pairs_are_always_in_order_and_tell_nothing():
    assert spearman((0.1, 0.2), (0.5, 0.9)).value is None
    assert kendall((0.1, 0.2), (0.5, 0.9)).value is None


def test_a_perfect_order_has_no_interval():
    found = spearman((1, 2, 3, 4, 5), (1, 2, 3, 4, 5))

    assert found.value == pytest.approx(1)
    assert found.low is None


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 and 1 values: need pairs"):
        spearman((1, 2), (1,))


def test_ranking_quality_tells_error_and_range_beside_the_correlation():
    found = ranking_quality((0.9, 0.6, 0.8, 0.5), (0.8, 0.5, 0.6, 0.3))

    assert found["n"] == 4
    assert found["spearman"]["value"] == pytest.approx(1)
    assert found["mean_absolute_error"] == pytest.approx((0.1 + 0.1 + 0.2 + 0.2) / 4)
    # 0.7 parts them: only the third is told good and is not.
    assert found["accuracy_at_0.7"] == 0.75
    assert (found["dice_min"], found["dice_max"]) == (0.3, 0.8)


def test_ranking_quality_of_no_cases_is_null():
    assert ranking_quality((), ())["mean_absolute_error"] is None
