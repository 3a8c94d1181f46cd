"""High and low confidence terms and refinement on worked numbers (methods §8.7, §8.8, §8.10)."""

import math

import pytest
import torch

from SemiSupSegLib.losses.agreement import js_agreement, refine
from SemiSupSegLib.losses.low_confidence import (
    NEEDS_TEACHER,
    high_confidence_loss,
    low_confidence_loss,
)
from SemiSupSegLib.losses.trust import voxel_trust
from SemiSupSegLib.losses.uncertainty import pass_statistics

MODES = [
    "ignore",
    "subtract",
    "subtract_clipped",
    "subtract_prob",
    "negative",
    "complementary",
    "uniform",
    "soft",
]


def probabilities(foreground):
    """(1, 2, 1, 1, N) of the foreground probability of N voxels."""
    values = torch.tensor(foreground, dtype=torch.float64).reshape(1, 1, 1, 1, -1)
    return torch.cat([1 - values, values], 1)


def row(values, dtype):
    return torch.tensor(values, dtype=dtype).reshape(1, 1, 1, -1)


def close(actual, expected, atol=1e-6):
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual.flatten(), expected.flatten(), rtol=0, atol=atol)


@pytest.fixture
def teacher():
    return probabilities([0.03, 0.05, 0.70, 0.95, 0.60])


@pytest.fixture
def student():
    return probabilities([0.10, 0.20, 0.60, 0.80, 0.30])


@pytest.fixture
def pseudo_label():
    return row([0, 0, 1, 1, 1], torch.uint8)


@pytest.fixture
def low():
    return row([False, False, True, False, True], torch.bool)


@pytest.mark.parametrize(
    ("mode", "student_probability", "value", "gradient"),
    [
        ("ignore", 0.7, 0, (0, 0)),
        ("subtract", 0.7, -0.3567, (0.3, -0.3)),
        ("subtract_clipped", 0.7, -0.3567, (0.3, -0.3)),
        ("subtract_prob", 0.7, -0.3, (0.21, -0.21)),
        ("negative", 0.7, 1.2040, (0.7, -0.7)),
        ("complementary", 0.7, 0.3567, (-0.3, 0.3)),
        ("uniform", 0.7, 0.0872, (0.2, -0.2)),
        ("soft", 0.7, 0.6956, (0.1, -0.1)),
        ("ignore", 0.2, 0, (0, 0)),
        ("subtract", 0.2, -1.6094, (0.8, -0.8)),
        ("subtract_clipped", 0.2, -0.6931, (0, 0)),
        ("subtract_prob", 0.2, -0.8, (0.16, -0.16)),
        ("negative", 0.2, 0.2231, (0.2, -0.2)),
        ("uniform", 0.2, 0.2231, (-0.3, 0.3)),
        ("soft", 0.2, 1.0549, (-0.4, 0.4)),
    ],
)
def test_a_low_mode_has_its_worked_value_and_gradient(mode, student_probability, value, gradient):
    logits = probabilities([1 - student_probability]).log().requires_grad_()
    everywhere = row([True], torch.bool)

    loss = low_confidence_loss(
        logits, row([0], torch.uint8), everywhere, mode, probabilities([0.4]), gate=1.0
    )
    (slope,) = torch.autograd.grad(loss, logits)

    close(loss, value, atol=5e-5)
    close(slope, gradient, atol=1e-9)


def test_the_worked_student_has_the_worked_terms(student, teacher, pseudo_label, low):
    logits = student.log()

    def unscaled(mode, **options):
        return low_confidence_loss(logits, pseudo_label, low, mode, teacher, **options)

    high = high_confidence_loss(logits, pseudo_label, None, ~low)
    close(high, 0.183883)
    close(unscaled("subtract"), -0.857399)
    close(unscaled("subtract_clipped"), -0.601986)
    close(0.5 + high + 0.1 * unscaled("subtract"), 0.598143)
    close(0.5 + high + 0.1 * unscaled("subtract_clipped"), 0.623684)
    close(unscaled("negative"), 0.636483)
    close(unscaled("uniform"), 0.053794)
    close(unscaled("soft"), 0.748759)
    close(unscaled("complementary", gate=1.0), 0.857399)
    close(unscaled("complementary"), 0.0)


def test_a_gradient_step_of_clipped_unlearning_stops_at_chance(pseudo_label):
    logits = torch.full((1, 2, 1, 1, 5), 0.0, requires_grad=True)
    everywhere = torch.ones_like(pseudo_label, dtype=torch.bool)

    loss = low_confidence_loss(logits, pseudo_label, everywhere, "subtract_clipped")
    (slope,) = torch.autograd.grad(loss, logits)

    close(loss, -math.log(2))
    assert (slope == 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_an_image_without_untrusted_voxels_costs_exactly_nothing(mode, teacher, pseudo_label):
    logits = torch.randn(1, 2, 1, 1, 5, dtype=torch.float64, requires_grad=True)
    nowhere = torch.zeros_like(pseudo_label, dtype=torch.bool)

    loss = low_confidence_loss(logits, pseudo_label, nowhere, mode, teacher)
    (slope,) = torch.autograd.grad(loss, logits)

    assert loss == 0
    assert (slope == 0).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [200.0, 1e4])
def test_low_modes_stay_finite_for_extreme_logits(mode, scale, teacher, pseudo_label):
    logits = torch.tensor([[1.0, -1, 1, -1, 0], [-1, 1, -1, 1, 0]]).reshape(1, 2, 1, 1, 5)
    logits = (scale * logits).requires_grad_()
    everywhere = torch.ones_like(pseudo_label, dtype=torch.bool)

    loss = low_confidence_loss(logits, pseudo_label, everywhere, mode, teacher.float(), gate=1.0)
    (slope,) = torch.autograd.grad(loss, logits)

    assert torch.isfinite(loss)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("mode", MODES)
def test_images_count_alike_whatever_their_number_of_untrusted_voxels(mode):
    logits = torch.randn(3, 3, 2, 3, 4, dtype=torch.float64)
    teacher = torch.randn(3, 3, 2, 3, 4, dtype=torch.float64).softmax(1)
    label = teacher.argmax(1)
    mask = torch.zeros(3, 2, 3, 4, dtype=torch.bool)
    mask[0, 0] = True
    mask[1, 0, 0, 0] = True

    def loss(of):
        return low_confidence_loss(logits[of], label[of], mask[of], mode, teacher[of])

    alone = [loss(slice(i, i + 1)) for i in range(3)]

    assert alone[2] == 0
    close(loss(slice(None)), sum(alone) / 3, atol=1e-12)


def test_negative_learning_of_several_classes_is_one_minus_the_probability():
    logits = torch.randn(1, 4, 2, 3, 4, dtype=torch.float64)
    label = torch.randint(0, 4, (1, 2, 3, 4))
    chosen = logits.softmax(1).gather(1, label.unsqueeze(1))
    everywhere = torch.ones_like(label, dtype=torch.bool)

    loss = low_confidence_loss(logits, label, everywhere, "negative")

    close(loss, -(1 - chosen).log().mean(), atol=1e-12)


def test_complementary_pushes_the_least_likely_class_down_where_the_teacher_is_sure():
    logits = torch.zeros(1, 4, 1, 1, 2, dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.6, 0.3], [0.3, 0.3], [0.09, 0.2], [0.01, 0.2]]).view(1, 4, 1, 1, 2)
    label = teacher.argmax(1)

    loss = low_confidence_loss(
        logits, label, torch.ones_like(label, dtype=torch.bool), "complementary", teacher
    )
    (slope,) = torch.autograd.grad(loss, logits)

    close(loss, -math.log(0.75) / 2)
    assert slope[0, 3, 0, 0, 0] > 0
    assert (slope[0, :3, 0, 0, 0] < 0).all()
    assert (slope[..., 1] == 0).all()


@pytest.mark.parametrize("mode", sorted(NEEDS_TEACHER))
def test_a_mode_that_needs_the_teacher_says_so(mode, student, pseudo_label, low):
    with pytest.raises(ValueError, match="needs the teacher"):
        low_confidence_loss(student.log(), pseudo_label, low, mode)


def test_an_unknown_low_mode_is_refused(student, pseudo_label, low):
    with pytest.raises(ValueError, match="must be one of ignore, subtract"):
        low_confidence_loss(student.log(), pseudo_label, low, "substract")


def test_ignored_voxels_take_no_part(student, teacher, pseudo_label, low):
    padded = pseudo_label.clone()
    padded[..., 4] = 255

    high = high_confidence_loss(student.log(), padded, None, torch.ones_like(low))
    soft = low_confidence_loss(student.log(), padded, low, "subtract", teacher)

    close(high, (0.105361 + 0.223144 + 0.510826 + 0.223144) / 4)
    close(soft, -0.510826)


def test_weights_and_smoothing_of_the_high_confidence_loss(student, pseudo_label, low):
    weight = row([1.0, 0.5, 0.3, 1.0, 0.1], torch.float64)

    weighted = high_confidence_loss(student.log(), pseudo_label, weight, ~low)
    smooth = high_confidence_loss(student.log(), pseudo_label, None, ~low, smoothing=0.1)

    close(weighted, (0.105361 + 0.5 * 0.223144 + 0.223144) / 2.5)
    uniform = -student.log().mean(1).flatten()[[0, 1, 3]].mean()
    close(smooth, 0.9 * 0.183883 + 0.1 * uniform)
    with pytest.raises(ValueError, match="smoothing is 1"):
        high_confidence_loss(student.log(), pseudo_label, None, low, smoothing=1)


def test_a_high_confidence_loss_of_nothing_is_zero_with_zero_gradient(pseudo_label):
    logits = torch.randn(1, 2, 1, 1, 5, requires_grad=True)
    nowhere = torch.zeros_like(pseudo_label, dtype=torch.bool)

    loss = high_confidence_loss(logits, pseudo_label, None, nowhere)
    (slope,) = torch.autograd.grad(loss, logits)

    assert loss == 0
    assert (slope == 0).all()


def test_no_unlabelled_image_costs_nothing():
    logits = torch.zeros(0, 2, 2, 3, 4, requires_grad=True)
    label = torch.zeros(0, 2, 3, 4, dtype=torch.uint8)
    mask = torch.zeros(0, 2, 3, 4, dtype=torch.bool)

    assert high_confidence_loss(logits, label, None, mask) == 0
    assert low_confidence_loss(logits, label, mask, "subtract_clipped") == 0


@pytest.mark.parametrize(
    ("first", "second", "agreement"),
    [
        ((0.9, 0.1), (0.6, 0.4), 0.908695),
        ((0.8, 0.15, 0.05), (0.1, 0.85, 0.05), 0.581386),
        ((0.6, 0.4), (0.45, 0.55), 0.983666),
        ((1.0, 0.0), (0.0, 1.0), 0.0),
        ((0.3, 0.7), (0.3, 0.7), 1.0),
    ],
)
def test_agreement_has_its_worked_values(first, second, agreement):
    def voxel(values):
        return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)

    close(js_agreement(voxel(first), voxel(second)), agreement)


def test_the_worked_case_keeps_and_averages_the_worked_voxels(teacher, student):
    passes = [
        probabilities([0.02, 0.05, 0.70, 0.95, 0.40]),
        probabilities([0.04, 0.05, 0.50, 0.95, 0.60]),
        probabilities([0.03, 0.05, 0.90, 0.95, 0.80]),
    ]
    statistics = pass_statistics(passes)
    trust = voxel_trust("prob_var", statistics.mean, variance=statistics.variance)

    refined = refine(teacher, student, trust, 0.7)

    close(refined.agreement, [0.984712, 0.960598, 0.992053, 0.960598, 0.933346])
    assert refined.kept.flatten().tolist() == [True, True, False, True, False]
    assert refined.label.flatten().tolist() == [0, 0, 1, 1, 0]
    close(refined.weight, [1, 1, 0.30, 1, 0.10])
    assert refined.label.dtype == torch.uint8
    assert refined.weight.dtype == torch.float32
    assert refined.high.all()
    assert refined.averaged.flatten().tolist() == [False, False, True, False, True]
    assert not refined.low.any()


def test_ignoring_gives_other_voxels_no_weight(teacher, student):
    trust = row([0.969224, 0.95, 0.508304, 0.95, 0.435689], torch.float64)

    refined = refine(teacher, student, trust, 0.7, mode="ignore")

    assert refined.weight.flatten().tolist() == [1, 1, 0, 1, 0]
    assert refined.label.flatten().tolist() == [0, 0, 1, 1, 1]
    assert refined.low.flatten().tolist() == [False, False, True, False, True]


def test_switched_off_refinement_partitions_by_trust_and_needs_no_student(teacher):
    trust = row([0.969224, 0.95, 0.508304, 0.95, 0.435689], torch.float64)

    refined = refine(teacher, None, trust, 0.7, mode="off")

    assert refined.kept.flatten().tolist() == [True, True, False, True, False]
    assert torch.equal(refined.high, refined.kept)
    assert refined.label.flatten().tolist() == [0, 0, 1, 1, 1]
    assert refined.agreement is None


def test_a_threshold_per_class_is_that_of_the_predicted_class(teacher):
    trust = row([0.9, 0.6, 0.5, 0.9, 0.3], torch.float64)

    refined = refine(teacher, None, trust, torch.tensor([0.8, 0.4]), mode="off")

    assert refined.kept.flatten().tolist() == [True, False, True, True, False]


def test_agreement_alone_does_not_keep_a_voxel_of_two_classes():
    refined = refine(probabilities([0.4]), probabilities([0.55]), row([0.9], torch.float64), 0.5)

    assert refined.agreement.item() > 0.9
    assert not refined.kept.any()


def test_too_little_agreement_keeps_no_voxel_of_one_class():
    arguments = probabilities([0.99]), probabilities([0.60]), row([0.9], torch.float64), 0.5

    assert not refine(*arguments, 0.9).kept.any()
    assert refine(*arguments, 0.7).kept.all()


def test_predicting_again_replaces_what_was_not_kept(teacher, student):
    trust = row([0.969224, 0.95, 0.508304, 0.95, 0.435689], torch.float64)
    second = probabilities([0.9, 0.9, 0.1, 0.1, 0.2])
    second_trust = row([1.0, 1.0, 0.8, 1.0, 0.6], torch.float64)

    refined = refine(
        teacher,
        student,
        trust,
        0.7,
        mode="repredict",
        second_probabilities=second,
        second_trust=second_trust,
    )

    assert refined.label.flatten().tolist() == [0, 0, 0, 1, 0]
    assert refined.weight.flatten().tolist() == [1, 1, 1, 1, 0]


def test_refinement_that_lacks_what_it_needs_says_so(teacher, student):
    trust = row([1.0] * 5, torch.float64)

    with pytest.raises(ValueError, match="needs the student"):
        refine(teacher, None, trust, 0.7)
    with pytest.raises(ValueError, match="needs second_probabilities"):
        refine(teacher, student, trust, 0.7, mode="repredict")
    with pytest.raises(ValueError, match="must be one of average"):
        refine(teacher, student, trust, 0.7, mode="mean")
    with pytest.raises(ValueError, match="shapes differ"):
        js_agreement(teacher, student[..., :4])


def test_importance_is_a_factor_and_not_in_the_denominator(student, pseudo_label, low):
    logits = student.log().requires_grad_()
    high = ~low
    half, none = row([0.5] * 5, torch.float64), row([0.0] * 5, torch.float64)

    whole = high_confidence_loss(logits, pseudo_label, None, high)
    close(whole.detach(), 0.183883)
    halved = high_confidence_loss(logits, pseudo_label, None, high, importance=half)
    close(halved.detach(), 0.183883 / 2)
    doubted = low_confidence_loss(logits, pseudo_label, low, "negative", importance=half)
    plain = low_confidence_loss(logits, pseudo_label, low, "negative")
    close(doubted.detach(), plain.detach() / 2)
    nothing = high_confidence_loss(logits, pseudo_label, None, high, importance=none)
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert nothing.item() == 0
    assert not gradient.any()
