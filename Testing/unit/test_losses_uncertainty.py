"""Spread of passes, the log-variance learnt from it, and trust (methods §8.4, §8.5, §8.10)."""

import math

import pytest
import torch

from SemiSupSegLib.losses.trust import (
    image_confidence,
    quantile_thresholds,
    trust_histogram,
    voxel_trust,
)
from SemiSupSegLib.losses.uncertainty import (
    entropy_of,
    entropy_of_logits,
    log_variance_loss,
    log_variance_of,
    log_variance_range,
    log_variance_target,
    most_variance,
    pass_statistics,
    uncertainty_from_log,
    variance_from_log,
)


def two_classes(foreground):
    """Probabilities (2, 1, 1, N) of the foreground probability of N voxels."""
    values = torch.tensor(foreground, dtype=torch.float64).reshape(1, 1, 1, -1)
    return torch.cat([1 - values, values])


@pytest.fixture
def passes():
    """Three passes over five voxels, §8.10."""
    return [
        two_classes([0.02, 0.05, 0.70, 0.95, 0.40]),
        two_classes([0.04, 0.05, 0.50, 0.95, 0.60]),
        two_classes([0.03, 0.05, 0.90, 0.95, 0.80]),
    ]


def close(actual, expected, atol=1e-6):
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual.flatten(), expected.flatten(), rtol=0, atol=atol)


def test_the_worked_passes_have_the_worked_mean_variance_and_target(passes):
    statistics = pass_statistics(iter(passes))

    close(statistics.mean[1], [0.03, 0.05, 0.70, 0.95, 0.60])
    close(statistics.variance, [6.6667e-5, 0, 0.0266667, 0, 0.0266667], atol=5e-8)
    expected = [-8.699515, -9.210340, -3.620598, -9.210340, -3.620598]
    close(log_variance_target(statistics.variance), expected)
    assert statistics.labels is None


def test_a_single_pass_has_no_variance_and_no_pass_is_refused(passes):
    assert (pass_statistics(passes[:1]).variance == 0).all()
    with pytest.raises(ValueError, match="no pass"):
        pass_statistics([])


def test_passes_certain_of_different_classes_have_the_greatest_variance():
    certain = torch.eye(4, dtype=torch.float64).reshape(4, 4, 1, 1, 1)

    statistics = pass_statistics(certain)

    assert statistics.variance.item() == pytest.approx(most_variance(4))
    assert most_variance(2) == 0.25
    assert log_variance_range(2) == pytest.approx((-9.210340, math.log(0.2501)))


def test_uncertainty_is_nothing_at_the_lowest_and_one_at_the_highest_log_variance():
    low, high = log_variance_range(3)
    log_variance = torch.tensor([low - 1, low, (low + high) / 2, high, high + 1])

    close(uncertainty_from_log(log_variance, 3), [0, 0, 0.5, 1, 1])


def test_a_variance_survives_its_logarithm():
    variance = torch.tensor([0.0, 1e-4, 0.1, 0.25], dtype=torch.float64)

    close(variance_from_log(log_variance_target(variance), 2), variance, atol=1e-12)
    close(variance_from_log(torch.tensor([-50.0, 50.0]), 2), [0, 0.25])


def test_log_variance_voxels_below_and_above_the_floor_count_half_each():
    variance = torch.tensor([0.0, 0.0, 0.0, 0.1]).reshape(1, 1, 1, 4)
    target = log_variance_target(variance)
    # SmoothL1 of .5 is .125 on the floor; of 3 it is 2.5 above.
    predicted = (target + torch.tensor([0.5, 0.5, 0.5, 3.0])).unsqueeze(1)

    close(log_variance_loss(predicted, variance), (0.125 + 2.5) / 2)
    everything_but_the_last = torch.tensor([True, True, True, False]).reshape(1, 1, 1, 4)
    close(log_variance_loss(predicted, variance, everything_but_the_last), 0.125)


def test_the_log_variance_loss_of_nothing_is_zero_with_zero_gradient():
    predicted = torch.randn(1, 1, 2, 2, 2, requires_grad=True)
    nothing = torch.zeros(1, 2, 2, 2, dtype=torch.bool)

    loss = log_variance_loss(predicted, torch.rand(1, 2, 2, 2), nothing)
    (gradient,) = torch.autograd.grad(loss, predicted)

    assert loss == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("kind", ["smooth_l1", "nll"])
def test_the_log_variance_loss_is_least_at_the_target(kind):
    variance = torch.tensor([0.0, 0.002, 0.2], dtype=torch.float64).reshape(1, 1, 1, 3)
    predicted = log_variance_target(variance).unsqueeze(1).requires_grad_()

    loss = log_variance_loss(predicted, variance, kind=kind)
    (gradient,) = torch.autograd.grad(loss, predicted)

    close(gradient, torch.zeros(3), atol=1e-12)
    assert log_variance_loss(predicted + 0.1, variance, kind=kind) > loss
    assert log_variance_loss(predicted - 0.1, variance, kind=kind) > loss


def test_a_log_variance_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"expected \(1, 1, 2, 2, 2\)"):
        log_variance_loss(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2))


def test_entropy_of_logits_has_a_finite_gradient_where_the_network_is_certain():
    logits = torch.tensor([200.0, 0.0]).reshape(1, 2, 1, 1, 1).requires_grad_()

    entropy = entropy_of_logits(logits)
    (gradient,) = torch.autograd.grad(entropy.sum(), logits)

    assert entropy.item() == 0
    assert (gradient == 0).all()
    close(entropy_of_logits(torch.zeros(1, 4, 1, 1, 1)), [math.log(4)])


def test_the_entropy_of_one_hot_probabilities_is_zero():
    assert entropy_of(two_classes([0.0, 1.0])).tolist() == [[[0.0, 0.0]]]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("max", [0.97, 0.95, 0.70, 0.95, 0.60]),
        ("max_expvar", [0.969935, 0.95, 0.681580, 0.95, 0.584211]),
        ("prob_var", [0.969224, 0.95, 0.508304, 0.95, 0.435689]),
        ("entropy", [0.805608, 0.713603, 0.118709, 0.713603, 0.029049]),
        ("mi", [1 - 0.001684, 1, 1 - 0.097862, 1, 1 - 0.083008]),
        ("margin", [0.94, 0.90, 0.40, 0.90, 0.20]),
    ],
)
def test_every_kind_of_trust_has_its_worked_values(passes, kind, expected):
    statistics = pass_statistics(passes)

    trust = voxel_trust(
        kind,
        statistics.mean,
        variance=statistics.variance,
        mean_entropy=statistics.mean_entropy,
    )

    close(trust, expected)


def test_trust_by_log_variance_falls_from_the_probability_to_nothing():
    mean = two_classes([0.9, 0.9, 0.5])
    variance = torch.tensor([0.0, 0.01, 0.25], dtype=torch.float64).reshape(1, 1, 3)

    trust = voxel_trust("max_logvar", mean, variance=variance)

    middle = 1 - math.log(0.0101 / 1e-4) / math.log(0.2501 / 1e-4)
    close(trust, [0.9, 0.9 * middle, 0.0])


def test_trust_is_the_same_for_a_batch_and_its_images():
    batch = torch.rand(2, 3, 2, 3, 4).softmax(1)
    variance = torch.rand(2, 2, 3, 4) / 10

    for kind in ("max", "prob_var", "margin", "entropy"):
        together = voxel_trust(kind, batch, variance=variance)
        alone = [voxel_trust(kind, batch[i], variance=variance[i]) for i in range(2)]
        assert torch.equal(together, torch.stack(alone))


def test_trust_that_lacks_what_it_needs_says_so(passes):
    with pytest.raises(ValueError, match="'prob_var' needs variance"):
        voxel_trust("prob_var", passes[0])
    with pytest.raises(ValueError, match="'mi' needs mean_entropy"):
        voxel_trust("mi", passes[0])
    with pytest.raises(ValueError, match="must be one of max, max_expvar"):
        voxel_trust("maximum", passes[0])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mean_all", 0.762644),
        ("mean_fg", 0.631331),
        ("class_mean", 0.631331),
        ("self_dice", 0.844278),
        ("pass_dice", 0.7),
    ],
)
def test_every_image_confidence_has_its_worked_value(passes, kind, expected):
    statistics = pass_statistics(passes, keep_labels=True)
    trust = voxel_trust("prob_var", statistics.mean, variance=statistics.variance)

    confidence = image_confidence(
        kind, statistics.mean, trust=trust, pass_labels=statistics.labels, dilation=0
    )

    assert confidence == pytest.approx(expected, abs=1e-6)


def test_the_surroundings_of_the_foreground_are_a_cube_of_two_voxels():
    mean = torch.zeros(2, 7, 8, 9)
    mean[0] = 1
    mean[:, 3, 3, 3] = torch.tensor([0.0, 1.0])
    trust = torch.zeros(7, 8, 9)
    trust[3, 3, 3] = 1

    assert image_confidence("mean_fg", mean, trust=trust) == pytest.approx(1 / 125)


def test_without_foreground_an_image_gets_nothing_or_the_mean_trust():
    mean = two_classes([0.1, 0.2])
    trust = torch.tensor([[[0.4, 0.6]]])

    assert image_confidence("self_dice", mean, trust=trust) == 0
    lenient = image_confidence("self_dice", mean, trust=trust, always_foreground=False)
    assert lenient == pytest.approx(0.5)


def test_only_usual_classes_are_missed():
    mean = torch.tensor([[0.1, 0.1], [0.8, 0.7], [0.1, 0.2]]).reshape(3, 1, 1, 2)
    expected = 2 * 1.5 / (1.5 + 2)

    assert image_confidence("self_dice", mean) == pytest.approx(expected / 2)
    assert image_confidence("self_dice", mean, usual_classes=[1]) == pytest.approx(expected)


def test_voxels_that_do_not_count_change_no_image_confidence(passes):
    statistics = pass_statistics(passes, keep_labels=True)
    trust = voxel_trust("max", statistics.mean)
    valid = torch.tensor([True, True, True, True, False]).reshape(1, 1, 5)

    for kind in ("mean_all", "mean_fg", "class_mean", "self_dice", "pass_dice"):
        masked = image_confidence(
            kind, statistics.mean, trust=trust, pass_labels=statistics.labels, valid=valid
        )
        cut = image_confidence(
            kind,
            statistics.mean[..., :4],
            trust=trust[..., :4],
            pass_labels=statistics.labels[..., :4],
        )
        assert masked == pytest.approx(cut), kind


def test_an_unknown_image_confidence_is_refused(passes):
    with pytest.raises(ValueError, match="must be one of mean_all"):
        image_confidence("dice", passes[0])
    with pytest.raises(ValueError, match="2 or more passes"):
        image_confidence("pass_dice", passes[0], pass_labels=torch.ones(1, 1, 1, 5))


def test_thresholds_by_class_keep_the_better_voxels_of_every_class():
    trust = torch.cat([torch.arange(100) / 100 + 0.005, torch.arange(10) / 100 + 0.005])
    label = torch.cat([torch.zeros(100), torch.ones(10)]).to(torch.uint8)
    half = trust_histogram(trust[::2], label[::2], 3) + trust_histogram(trust[1::2], label[1::2], 3)

    thresholds = quantile_thresholds(half, 0.3)

    assert torch.equal(half, trust_histogram(trust, label, 3))
    accepted = [int((trust[label == k] >= thresholds[k]).sum()) for k in (0, 1)]
    assert accepted == [70, 7]
    assert thresholds[2] == 0


def test_a_histogram_leaves_ignored_voxels_out_and_keeps_full_trust():
    histogram = trust_histogram(torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0, 0, 255]), 2, 10)

    assert histogram[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert histogram[1].sum() == 0


def test_a_share_makes_a_variance_of_what_two_or_four_classes_can_vary_at_most():
    undecided = torch.zeros(1, 2, 1, 1, 1)
    none = torch.zeros(1, 1, 1, 1, 1)

    # p(1 - p) is 0.25 of each of two even classes, 0.1875 of four.
    close(log_variance_of(undecided, none), [[[[[math.log(0.2501)]]]]])
    close(log_variance_of(undecided, none + math.log(0.5)), [[[[[math.log(0.1251)]]]]])
    close(log_variance_of(undecided.repeat(1, 2, 1, 1, 1), none), [[[[[math.log(0.1876)]]]]])
    # p = 0.8 and 0.2: 0.16.
    close(
        log_variance_of(torch.tensor([math.log(4), 0.0]).reshape(1, 2, 1, 1, 1), none),
        [[[[[math.log(0.1601)]]]]],
    )


def test_where_one_class_is_certain_there_is_no_variance_whatever_the_share():
    certain = torch.tensor([100.0, -100.0]).reshape(1, 2, 1, 1, 1)

    found = log_variance_of(certain, torch.full((1, 1, 1, 1, 1), 5.0))

    close(found, [[[[[math.log(1e-4)]]]]])
    close(variance_from_log(found, 2), [[[[[0.0]]]]], atol=1e-9)


def test_only_the_share_gets_a_gradient_and_half_precision_is_left_for_the_logarithm():
    logits = torch.randn(1, 3, 2, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    share = torch.full((1, 1, 2, 2, 2), -4.0, dtype=torch.bfloat16, requires_grad=True)

    found = log_variance_of(logits, share)
    found.sum().backward()

    assert found.dtype == torch.float32
    assert logits.grad is None
    assert share.grad is not None
    assert (share.grad > 0).all()
