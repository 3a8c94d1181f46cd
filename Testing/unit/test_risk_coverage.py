import numpy as np
import pytest

from SemiSupSegLib.evaluation.risk import (
    confidence_histogram,
    risk_coverage,
    voxel_risk_coverage,
)


def test_curve_over_cases_has_the_values_worked_out_by_hand():
    found = risk_coverage((0.9, 0.8, 0.7, 0.6), (0.1, 0.3, 0.2, 0.4))

    assert found.coverage == (0.25, 0.5, 0.75, 1.0)
    assert found.risk == pytest.approx((0.1, 0.2, 0.2, 0.25))
    assert found.aurc == pytest.approx(0.1875)
    assert found.oracle == pytest.approx(0.175)
    assert found.e_aurc == pytest.approx(0.0125)
    assert found.random == pytest.approx(0.25)


def test_equal_confidences_are_ordered_by_case_id():
    forward = risk_coverage((0.5, 0.5), (0.0, 1.0), ("a", "b"))
    backward = risk_coverage((0.5, 0.5), (0.0, 1.0), ("b", "a"))

    assert forward.risk == (0.0, 0.5)
    assert backward.risk == (1.0, 0.5)


def test_a_curve_needs_a_risk_for_each_confidence():
    with pytest.raises(ValueError, match="2 confidences and 1 risks"):
        risk_coverage((0.5, 0.4), (0.1,))


def test_curve_over_voxels_is_the_curve_over_single_items_when_no_two_share_a_bin():
    generator = np.random.default_rng(2)
    confidence = generator.permutation(np.arange(50) / 50 + 0.01)
    wrong = generator.random(50) < 0.3

    found = voxel_risk_coverage(confidence_histogram(confidence, wrong))
    exact = risk_coverage(confidence.tolist(), wrong.astype(float).tolist())

    assert found.aurc == pytest.approx(exact.aurc)
    assert found.oracle == pytest.approx(exact.oracle)
    assert found.random == pytest.approx(exact.random)
    assert found.risk[-1] == pytest.approx(wrong.mean())


def test_a_map_that_is_the_same_everywhere_has_the_risk_of_no_information():
    wrong = np.arange(40) < 10

    found = voxel_risk_coverage(confidence_histogram(np.full(40, 0.7), wrong))

    assert found.aurc == pytest.approx(0.25)
    assert found.risk == pytest.approx((0.25,) * len(found.risk))


def test_histograms_of_two_cases_add_up_to_the_histogram_of_both():
    confidence = np.linspace(0, 1, 30).reshape(5, 6)
    wrong = confidence < 0.2

    parts = (
        confidence_histogram(confidence[:2], wrong[:2]),
        confidence_histogram(confidence[2:], wrong[2:]),
    )

    np.testing.assert_array_equal(parts[0] + parts[1], confidence_histogram(confidence, wrong))


def test_a_value_stored_as_float32_falls_into_its_own_bin():
    steps = np.arange(1000, dtype=np.float32) / np.float32(1000)

    found = confidence_histogram(steps, np.zeros(1000, dtype=bool))

    assert (found[0] == 1).all()


def test_no_voxels_have_no_curve():
    assert voxel_risk_coverage(np.zeros((2, 1000), dtype=np.int64)) is None
