import math

import numpy as np
import pytest

from SemiSupSegLib.evaluation.calibration import (
    brier_score,
    class_wise_ece,
    expected_calibration_error,
    negative_log_likelihood,
    region_of_interest,
    reliability_bins,
    top_label_brier,
    top_label_nll,
)

CONFIDENCE = (0.95, 0.9, 0.85, 0.8, 0.65, 0.6, 0.55, 0.52)
CORRECT = np.array([1, 1, 1, 0, 1, 0, 1, 0], dtype=bool)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_calibration_error_has_the_value_worked_out_by_hand(kind):
    confidence = np.array(CONFIDENCE, dtype=kind)

    assert expected_calibration_error(confidence, CORRECT, 10) == pytest.approx(0.265)
    assert top_label_brier(confidence, CORRECT) == pytest.approx(0.2038, abs=5e-5)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(kind):
    edges = np.arange(1, 11).astype(kind) / kind(10)

    assert reliability_bins(edges, np.ones(10, dtype=bool), 10).counts == (1,) * 10


def test_confidence_0_is_in_the_first_bin_and_1_in_the_last():
    found = reliability_bins(np.array([0.0, 1.0]), np.array([False, True]))

    assert found.counts == (1, *(0,) * 13, 1)
    assert found.ece == 0


def test_bins_of_two_cases_add_up_to_the_bins_of_both():
    confidence = np.array(CONFIDENCE)

    parts = [reliability_bins(confidence[half], CORRECT[half]) for half in (slice(3), slice(3, 8))]

    both, whole = parts[0] + parts[1], reliability_bins(confidence, CORRECT)
    assert both.counts == whole.counts
    assert both.ece == pytest.approx(whole.ece)


def test_bins_are_listed_with_edges_mean_confidence_and_accuracy():
    found = reliability_bins(np.array(CONFIDENCE), CORRECT, 10).to_json()

    assert len(found) == 10
    assert found[5] == {
        "low": 0.5,
        "high": 0.6,
        "count": 3,
        "confidence": pytest.approx(1.67 / 3),
        "accuracy": pytest.approx(1 / 3),
    }
    assert found[0] == {"low": 0.0, "high": 0.1, "count": 0, "confidence": None, "accuracy": None}


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_a_confidence_outside_0_to_1_is_refused(bad):
    with pytest.raises(ValueError, match="must be within 0-1"):
        reliability_bins(np.array([0.5, bad]), np.array([True, True]))


def test_without_voxels_there_is_no_calibration_error():
    nothing, none = np.array([]), np.array([], dtype=bool)

    assert expected_calibration_error(nothing, none) is None
    assert top_label_brier(nothing, none) is None
    assert top_label_nll(nothing, none) is None


def test_class_wise_error_judges_each_foreground_probability():
    probabilities = np.array([[0.5, 0.1], [0.3, 0.1], [0.2, 0.8]])
    labels = np.array([1, 2])

    found = class_wise_ece(probabilities, labels, 10)

    # Class 1: 0.3 but true, 0.1 and false; class 2: 0.2 and false, 0.8 and true.
    assert found == (pytest.approx((0.7 + 0.1) / 2), pytest.approx((0.2 + 0.2) / 2))


def test_brier_score_and_log_likelihood_have_the_values_worked_out_by_hand():
    probabilities = np.array([[0.5, 0.1], [0.3, 0.1], [0.2, 0.8]])
    labels = np.array([1, 2])

    brier = ((0.25 + 0.49 + 0.04) + (0.01 + 0.01 + 0.04)) / 2
    assert brier_score(probabilities, labels) == pytest.approx(brier)
    likelihood = negative_log_likelihood(probabilities, labels)
    assert likelihood == pytest.approx(-(math.log(0.3) + math.log(0.8)) / 2)


def test_log_likelihood_of_an_impossible_event_is_finite():
    assert negative_log_likelihood(
        np.array([[1.0], [0.0]]), np.array([1]), floor=0.01
    ) == pytest.approx(-math.log(0.01))


def test_temperature_that_makes_a_margin_of_4_right_in_three_of_four_is_found_by_the_likelihood():
    correct = np.array([True, True, True, False])

    def likelihood(temperature):
        confidence = np.full(4, 1 / (1 + math.exp(-4 / temperature)))
        return top_label_nll(confidence, correct)

    best = 4 / math.log(3)
    assert best == pytest.approx(3.6410, abs=5e-5)
    assert likelihood(best) < min(likelihood(best * 0.99), likelihood(best * 1.01))
    assert expected_calibration_error(
        np.full(4, 1 / (1 + math.exp(-4 / best))), correct
    ) == pytest.approx(0)


def test_region_of_interest_reaches_5_mm_around_both_label_maps():
    prediction, reference = np.zeros((2, 7, 16, 20), dtype=np.uint8)
    prediction[3, 8, 4] = 1
    reference[3, 8, 6] = 2

    region = region_of_interest(prediction, reference, (2.5, 1.0, 2.0))

    assert np.flatnonzero(region[:, 8, 4]).tolist() == [1, 2, 3, 4, 5]
    assert np.flatnonzero(region[3, :, 4]).tolist() == list(range(3, 14))
    assert np.flatnonzero(region[3, 8]).tolist() == list(range(2, 9))
    assert not region[1, 9, 4]


def test_region_of_interest_of_two_empty_label_maps_is_empty():
    nothing = np.zeros((4, 5, 6), dtype=np.uint8)

    assert not region_of_interest(nothing, nothing, (1, 1, 1)).any()
