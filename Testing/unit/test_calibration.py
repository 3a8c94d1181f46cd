"""Temperature, monotone map, and the error that they mend."""

import math

import numpy as np
import pytest
import torch

from SemiSupSegLib.inference.calibration import (
    Calibration,
    CalibrationSample,
    TemperatureSampler,
    calibratable_trust,
    calibration_from_json,
    expected_calibration_error,
    fit_calibration,
    fit_map,
    fit_temperature,
    region_of_interest,
    uncalibrated,
)


def an_overconfident_case(seed, shape=(12, 14, 10)):
    """Logits say 98 %, and the label agrees with four voxels of five around a ball."""
    draw = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    ball = ((z - 6) ** 2 + (y - 7) ** 2 + (x - 5) ** 2) < 12
    wrong = draw.random(shape) < 0.2
    label = (ball ^ wrong).astype(np.uint8)
    logits = torch.zeros(2, *shape)
    logits[1] = torch.from_numpy(np.where(ball, 4.0, -4.0))
    return CalibrationSample(logits=logits, label=label, spacing=(1.0, 1.0, 1.0))


def test_a_margin_of_four_with_three_quarters_right_asks_for_a_temperature_of_3_641():
    logits = torch.tensor([[4.0, 0.0]]).repeat(400, 1)
    labels = torch.tensor([0, 0, 0, 1]).repeat(100)

    assert fit_temperature(logits, labels) == pytest.approx(4 / math.log(3), abs=1e-4)


def test_a_model_that_is_always_right_gets_a_low_but_usable_temperature():
    logits = torch.tensor([[4.0, 0.0]]).repeat(10, 1)

    assert 0.1 <= fit_temperature(logits, torch.zeros(10)) < 0.3


def test_a_model_that_is_always_wrong_gets_the_highest_temperature():
    logits = torch.tensor([[4.0, 0.0]]).repeat(10, 1)

    assert fit_temperature(logits, torch.ones(10)) == pytest.approx(10, abs=0.5)


def test_half_of_the_sampled_voxels_lie_near_a_boundary():
    # One boundary between planes 4 and 5 of 40: 8 planes are within 3 voxels of its two sides.
    label = np.zeros((40, 5, 6), np.uint8)
    label[5:] = 1
    logits = torch.arange(40.0)[None, :, None, None].expand(2, 40, 5, 6)
    sampler = TemperatureSampler(1, limit=200)

    sampler.add(logits, label)

    planes = sampler._logits[0][:, 0]
    assert len(planes) == 200
    assert int(((planes >= 1) & (planes <= 8)).sum()) == 100


def test_unknown_voxels_are_never_sampled():
    label = np.full((4, 5, 6), 255, np.uint8)
    label[0] = 1
    sampler = TemperatureSampler(1)

    sampler.add(torch.zeros(2, 4, 5, 6), label)

    assert sampler._labels[0].tolist() == [1] * 30


def test_a_sampler_without_voxels_leaves_the_logits_alone():
    assert TemperatureSampler(3).fit() == 1


def test_the_map_pools_neighbours_that_contradict_the_order():
    # Two bins of 20: trust 0.2 right 15 times, trust 0.8 right 5 times; pooled 20.95 / 42.
    trust = np.repeat([0.2, 0.8], 20)
    correct = np.array([True] * 15 + [False] * 5 + [True] * 5 + [False] * 15)

    knots, accuracy = fit_map(trust, correct)

    assert knots == pytest.approx((0.2, 0.8))
    assert accuracy == pytest.approx((0.5, 0.5))


def test_the_map_keeps_an_increasing_relation():
    # Half a voxel more on either side: 5.5 / 21 and 18.5 / 21.
    trust = np.repeat([0.2, 0.8], 20)
    correct = np.array([True] * 5 + [False] * 15 + [True] * 18 + [False] * 2)

    assert fit_map(trust, correct)[1] == pytest.approx((5.5 / 21, 18.5 / 21))


def test_the_map_does_not_depend_on_the_order_of_voxels_with_equal_trust():
    trust = np.full(1000, 0.9)
    correct = np.arange(1000) >= 300

    knots, accuracy = fit_map(trust, correct)

    assert knots == pytest.approx((0.9,))
    assert accuracy == pytest.approx((700.5 / 1001,))


def test_confidence_is_linear_between_knots_and_constant_beyond():
    calibration = Calibration(trust=(0.2, 0.6, 0.8), accuracy=(0.1, 0.5, 0.9))

    found = calibration.confidence(torch.tensor([0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 1.0]))

    assert found.tolist() == pytest.approx([0.1, 0.1, 0.3, 0.5, 0.7, 0.9, 0.9])


def test_a_map_of_one_knot_is_constant():
    calibration = Calibration(trust=(0.4,), accuracy=(0.7,))

    assert calibration.confidence(torch.tensor([[0.1, 0.9]])).tolist() == [
        [pytest.approx(0.7), pytest.approx(0.7)]
    ]


def test_the_calibration_error_is_the_one_calculated_by_hand():
    confidence = np.array([0.95, 0.9, 0.85, 0.8, 0.65, 0.6, 0.55, 0.52], np.float32)
    correct = np.array([1, 1, 1, 0, 1, 0, 1, 0], bool)

    assert expected_calibration_error(confidence, correct, bins=10) == pytest.approx(0.265)


def test_trust_falls_with_variance_as_in_the_worked_example():
    # Methods 8.10, K = 2.
    foreground = torch.tensor([0.03, 0.05, 0.70, 0.95, 0.60])
    probabilities = torch.stack([1 - foreground, foreground])[:, None, None]
    variance = torch.tensor([6.6667e-5, 0, 0.0266667, 0, 0.0266667])[None, None]

    found = calibratable_trust(probabilities, variance)

    assert found.flatten().tolist() == pytest.approx(
        [0.969224, 0.95, 0.508304, 0.95, 0.435689], abs=1e-5
    )


def test_trust_without_variance_is_the_highest_probability():
    probabilities = torch.tensor([[0.97, 0.4], [0.03, 0.6]])[:, None, None]

    assert calibratable_trust(probabilities, None).flatten().tolist() == pytest.approx([0.97, 0.6])


def test_the_region_reaches_5_mm_in_every_direction():
    label = np.zeros((9, 16, 9), np.uint8)
    label[4, 8, 4] = 1

    region = region_of_interest(label, np.zeros_like(label), (2.5, 1.0, 4.0))

    assert np.flatnonzero(region[:, 8, 4]).tolist() == [2, 3, 4, 5, 6]
    assert np.flatnonzero(region[4, :, 4]).tolist() == list(range(3, 14))
    assert np.flatnonzero(region[4, 8, :]).tolist() == [3, 4, 5]


def test_the_region_holds_the_prediction_too_and_may_be_empty():
    nothing = np.zeros((5, 6, 7), np.uint8)
    prediction = nothing.copy()
    prediction[0, 0, 0] = 1

    assert region_of_interest(nothing, prediction, (10.0, 10.0, 10.0)).sum() == 1
    assert not region_of_interest(nothing, nothing, (1.0, 1.0, 1.0)).any()


def test_calibration_mends_an_overconfident_model():
    cases = [an_overconfident_case(seed) for seed in range(4)]

    calibration = fit_calibration(iter(cases), num_cases=4, num_classes=2)

    # 80 % right at a margin of 4: T = 4 / ln 4.
    assert calibration.temperature == pytest.approx(4 / math.log(4), rel=0.1)
    assert calibration.num_cases == 4
    assert calibration.ece_before == pytest.approx(0.2, abs=0.04)
    assert calibration.ece_after < 0.05
    assert calibration.confidence(torch.tensor([0.8])).item() == pytest.approx(0.8, abs=0.03)


def test_the_teacher_gets_its_own_temperature():
    case = an_overconfident_case(0)
    sample = CalibrationSample(
        logits=case.logits,
        teacher_logits=case.logits / 2,
        label=case.label,
        spacing=case.spacing,
    )

    calibration = fit_calibration([sample], num_cases=1, num_classes=2)

    assert calibration.teacher_temperature == pytest.approx(calibration.temperature / 2, rel=0.01)


def test_one_case_gives_no_figure_for_afterwards():
    calibration = fit_calibration([an_overconfident_case(0)], num_cases=1, num_classes=2)

    assert calibration.ece_after is None


def test_without_cases_nothing_is_changed():
    assert fit_calibration([], num_cases=0, num_classes=3) == uncalibrated(3)


def test_a_case_without_any_foreground_does_not_spoil_the_fit():
    shape = (6, 7, 8)
    empty = CalibrationSample(
        logits=torch.stack([torch.ones(shape), torch.zeros(shape)]),
        label=np.zeros(shape, np.uint8),
        spacing=(1.0, 1.0, 1.0),
    )

    calibration = fit_calibration(
        [empty, *(an_overconfident_case(seed) for seed in range(2))], num_cases=3, num_classes=2
    )

    assert calibration.num_cases == 3
    assert math.isfinite(calibration.ece_after)


def test_a_label_of_another_shape_is_refused():
    sample = CalibrationSample(
        logits=torch.zeros(2, 3, 4, 5), label=np.zeros((5, 4, 3), np.uint8), spacing=(1.0, 1.0, 1.0)
    )

    with pytest.raises(ValueError, match=r"logits have the shape \(3, 4, 5\), the label \(5, 4, 3"):
        fit_calibration([sample], num_cases=1, num_classes=2)


def test_a_calibration_survives_the_manifest():
    calibration = fit_calibration(
        [an_overconfident_case(seed) for seed in range(2)], num_cases=2, num_classes=2
    )

    assert calibration_from_json(calibration.to_json(), 2) == calibration


def test_an_empty_manifest_entry_means_uncalibrated():
    assert calibration_from_json({}, 4) == uncalibrated(4)


def test_a_decreasing_map_is_refused():
    with pytest.raises(ValueError, match="accuracy must not decrease"):
        Calibration(trust=(0.1, 0.9), accuracy=(0.8, 0.2))
