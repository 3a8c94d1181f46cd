"""Cross-entropy, Dice and their mixtures on numbers worked out by hand (methods §0.4 and §2)."""

import pytest
import torch
import torch.nn.functional as F

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.losses.classes import one_hot
from SemiSupSegLib.losses.cross_entropy import (
    balance_weights,
    binary_cross_entropy,
    cross_entropy,
    focal_loss,
)
from SemiSupSegLib.losses.dice import dice_per_class, soft_dice_loss
from SemiSupSegLib.losses.supervised import (
    PROFILES,
    SupervisedLossOptions,
    deep_supervision_weights,
    supervised_loss,
)
from SemiSupSegLib.options import from_json, to_json

CLOSE = {"rtol": 0, "atol": 1e-9}


def volume(values, *leading):
    return torch.tensor(values, dtype=torch.float64).reshape(*leading, 2, 2, 2)


@pytest.fixture
def example_a():
    """Two classes in 2×2×2 voxels: logits and label."""
    foreground = volume([0.9, 0.8, 0.4, 0.3, 0.2, 0.1, 0.1, 0.2], 1, 1)
    logits = torch.cat([1 - foreground, foreground], 1).log()
    return logits, volume([1, 1, 1, 0, 0, 0, 0, 0], 1).long()


@pytest.fixture
def example_b():
    """Two samples, four classes: .7 on the true class, .1 elsewhere."""
    label = volume([[0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 0, 0, 0, 2, 2]], 2).long()
    probabilities = 0.1 + 0.6 * F.one_hot(label, 4).movedim(-1, 1).double()
    return probabilities.log(), label


@pytest.fixture
def example_r():
    """Two overlapping regions."""
    probabilities = torch.stack(
        [
            volume([0.9, 0.9, 0.8, 0.6, 0.4, 0.2, 0.1, 0.1], 1),
            volume([0.7, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1], 1),
        ],
        1,
    )
    label = torch.stack(
        [volume([1, 1, 1, 1, 0, 0, 0, 0], 1), volume([1, 0, 0, 0, 0, 0, 0, 0], 1)], 1
    )
    return probabilities.logit(), label.to(torch.uint8)


def class_dice(logits, label, **options):
    probabilities = logits.softmax(1)
    target = torch.stack([label == index for index in range(logits.shape[1])], 1)
    valid = (label != 255).unsqueeze(1)
    return dice_per_class(probabilities, target, valid, **options)


def close(actual, expected, atol=1e-9):
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def test_example_a_has_the_worked_cross_entropy_and_dice(example_a):
    logits, label = example_a

    close(cross_entropy(logits.log_softmax(1), label), 0.2823097346)
    close(class_dice(logits, label, exponent=2), [0.0681817407, 0.1249997396])
    close(class_dice(logits, label, exponent=1), [0.1799998200, 0.2999995000])
    close(soft_dice_loss(logits.softmax(1), label), 0.0965907401)
    close(soft_dice_loss(logits.softmax(1), label, exponent=1), 0.2399996600)


@pytest.mark.parametrize(
    ("options", "total"),
    [
        (SupervisedLossOptions(), 0.1894502374),
        (SupervisedLossOptions(profile="uamt"), 0.2036547371),
        (SupervisedLossOptions(exponent=1, background=False), 0.2911546173),
        (SupervisedLossOptions(profile="pymic"), (0.2823097346 + 0.2399996600) / 2),
        (SupervisedLossOptions(profile="liu"), 0.2823097346 + 0.2999995000),
        (SupervisedLossOptions(dice_weight=0.0, ce_weight=2.0), 2 * 0.2823097346),
    ],
)
def test_example_a_has_the_worked_total_of_every_profile(example_a, options, total):
    terms = supervised_loss(*example_a, options)

    assert set(terms) == {"cross_entropy", "dice", "total"}
    close(terms["total"], total)


def test_example_a_has_the_worked_weighted_cross_entropy_and_focal_loss(example_a):
    logits, label = example_a
    log_probabilities = logits.log_softmax(1)

    close(cross_entropy(log_probabilities, label, torch.tensor([1.0, 3.0])), 0.3391476767)
    close(focal_loss(log_probabilities, label), 0.0489879313)


def test_ignored_voxels_leave_both_terms(example_a):
    logits, label = example_a
    label = label.clone()
    label.view(-1)[-2:] = 255

    close(cross_entropy(logits.log_softmax(1), label), 0.3216623016)
    close(class_dice(logits, label, exponent=2), [0.1028035462, 0.1157892299])
    close(class_dice(logits, label, exponent=1), [0.2380948602, 0.2631574331])
    close(cross_entropy(logits.log_softmax(1), label, torch.tensor([1.0, 1.0])), 0.3216623016)


def test_example_b_has_the_worked_batch_dice(example_b):
    logits, label = example_b

    close(cross_entropy(logits.log_softmax(1), label), 0.3566749439)
    expected = [0.0666666111, 0.1025637738, 0.0789472386, 0.1025637738]
    close(class_dice(logits, label), expected)
    close(soft_dice_loss(logits.softmax(1), label), 0.0876853493)
    close(soft_dice_loss(logits.softmax(1), label, background=False), 0.0946915954)
    close(soft_dice_loss(logits.softmax(1), label, exponent=1), 0.3388883225)


def test_a_class_absent_from_a_sample_costs_one_unless_it_is_skipped(example_b):
    logits, label = example_b
    probabilities = logits.softmax(1)

    per_sample = class_dice(logits, label, batch=False)

    close(per_sample[1], [0.0624999302, 0.9998750156, 0.0789471087, 0.9998750156])
    close(soft_dice_loss(probabilities, label, batch=False), 0.3071231881)
    skipped = soft_dice_loss(probabilities, label, batch=False, skip_absent=True)
    first = per_sample[0].mean()
    close(skipped, (first + (0.0624999302 + 0.0789471087) / 2) / 2)


def test_a_sample_with_background_only_is_left_out_of_skipping_foreground_dice(example_b):
    logits, label = example_b
    label = label.clone()
    label[1] = 0

    loss = soft_dice_loss(logits.softmax(1), label, background=False, batch=False, skip_absent=True)

    close(loss, class_dice(logits[:1], label[:1])[1:].mean())


def test_example_r_has_the_worked_losses_of_regions(example_r):
    logits, label = example_r

    close(binary_cross_entropy(logits[:, :1], label[:, :1]), 0.2361725516)
    close(binary_cross_entropy(logits[:, 1:], label[:, 1:]), 0.1829120022)
    terms = supervised_loss(logits, label, SupervisedLossOptions(background=False))
    close(terms["cross_entropy"], 0.2095422769)
    close(terms["dice"], 0.1130015350)
    close(dice_per_class(logits.sigmoid(), label == 1), [0.0643273913, 0.1616756786])
    close(dice_per_class(logits.sigmoid(), label == 1, exponent=1), [0.1999997500, 0.4814796982])


def test_ignored_voxels_of_one_region_leave_the_other_alone(example_r):
    logits, label = example_r
    masked = label.clone()
    masked[:, 1] = 255

    close(binary_cross_entropy(logits, masked), 0.2361725516)
    close(soft_dice_loss(logits.sigmoid(), masked), 0.0643273913 / 2)


def test_a_weight_of_nothing_leaves_a_voxel_out_of_every_sum(example_a):
    logits, label = example_a
    weight = torch.ones_like(label, dtype=torch.float64)
    weight.view(-1)[-2:] = 0
    ignoring = label.clone()
    ignoring.view(-1)[-2:] = 255

    probabilities = logits.softmax(1)
    weighted = dice_per_class(probabilities, one_hot(label, 2), weight.unsqueeze(1))
    known = (ignoring != 255).unsqueeze(1)

    close(weighted, dice_per_class(probabilities, one_hot(ignoring, 2), known))


def test_a_class_counts_as_much_as_the_mean_weight_of_its_voxels(example_a):
    logits, label = example_a
    whole = soft_dice_loss(logits.softmax(1), label)

    weighted = soft_dice_loss(logits.softmax(1), label, torch.full_like(label, 0.25, dtype=float))

    close(weighted, 0.25 * float(whole), atol=1e-5)


@pytest.mark.parametrize("profile", list(PROFILES))
def test_a_perfect_prediction_costs_nothing(profile):
    label = torch.randint(0, 3, (2, 3, 4, 5))
    logits = 1e3 * F.one_hot(label, 3).movedim(-1, 1).float()

    terms = supervised_loss(logits, label, SupervisedLossOptions(profile=profile))

    assert all(float(value) <= 1e-6 for value in terms.values())


@pytest.mark.parametrize("profile", list(PROFILES))
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("kind", ["mixed", "background", "ignored"])
def test_loss_and_gradient_stay_finite_for_extreme_logits(profile, batch, kind):
    label = torch.randint(0, 3, (2, 3, 4, 5))
    if kind != "mixed":
        label = torch.full_like(label, {"background": 0, "ignored": 255}[kind])
    logits = (1e4 * torch.randn(2, 3, 3, 4, 5).sign()).requires_grad_()

    total = supervised_loss(logits, label, SupervisedLossOptions(profile=profile, batch=batch))[
        "total"
    ]
    (gradient,) = torch.autograd.grad(total, logits)

    assert torch.isfinite(total)
    assert torch.isfinite(gradient).all()
    if kind == "ignored":
        assert total == 0
        assert (gradient == 0).all()


def test_regions_that_are_all_ignored_cost_exactly_nothing():
    logits = torch.randn(1, 2, 2, 3, 4, requires_grad=True)
    label = torch.full((1, 2, 2, 3, 4), 255, dtype=torch.uint8)

    total = supervised_loss(logits, label, SupervisedLossOptions())["total"]
    (gradient,) = torch.autograd.grad(total, logits)

    assert total == 0
    assert (gradient == 0).all()


def test_cross_entropy_equals_that_of_torch_with_and_without_class_weights():
    logits = torch.randn(2, 4, 3, 4, 5, dtype=torch.float64)
    label = torch.randint(0, 4, (2, 3, 4, 5))
    label[0, 0] = 255
    weights = torch.tensor([0.2, 1.0, 3.0, 0.0], dtype=torch.float64)
    log_probabilities = logits.log_softmax(1)

    close(cross_entropy(log_probabilities, label), F.cross_entropy(logits, label, ignore_index=255))
    close(
        cross_entropy(log_probabilities, label, weights),
        F.cross_entropy(logits, label, weights, ignore_index=255),
    )


def test_half_precision_logits_give_a_float32_loss_and_float64_stays():
    label = torch.randint(0, 2, (1, 2, 3, 4))
    logits = torch.randn(1, 2, 2, 3, 4, dtype=torch.float64)

    def total(values):
        return supervised_loss(values, label, SupervisedLossOptions())["total"]

    assert total(logits.bfloat16()).dtype == torch.float32
    assert total(logits).dtype == torch.float64
    torch.testing.assert_close(total(logits.bfloat16()).double(), total(logits), rtol=2e-2, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(total(logits.float()), total(logits.float()))
        inside = total(logits.float())
    assert torch.equal(inside, total(logits.float()))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_a_label_may_have_any_integer_type(example_a, dtype):
    logits, label = example_a

    close(supervised_loss(logits, label.to(dtype), SupervisedLossOptions())["total"], 0.1894502374)


def test_class_weights_follow_the_inverse_frequency_within_limits():
    voxels = torch.tensor([9_000_000, 10_000, 1_000, 0])

    inverse = balance_weights(voxels, "inverse")

    # Median of the three present classes is 10,000.
    close(inverse, [0.1, 1.0, 10.0, 0.0], atol=1e-6)
    close(balance_weights(voxels, "sqrt"), [0.1**0.5, 1.0, 10**0.5, 0.0], atol=1e-6)
    assert balance_weights(voxels, "none") is None


def test_asking_for_class_weights_without_counting_is_refused(example_a):
    with pytest.raises(ValueError, match="balance_weights"):
        supervised_loss(*example_a, SupervisedLossOptions(class_weights="inverse"))


def test_a_label_of_another_size_is_refused(example_a):
    logits, label = example_a

    with pytest.raises(ValueError, match=r"label has shape \(1, 2, 2, 1\)"):
        supervised_loss(logits, label[..., :1], SupervisedLossOptions())


def test_options_survive_json_and_fill_in_their_profile():
    options = SupervisedLossOptions(profile="liu", exponent=2, batch=False)

    assert from_json(SupervisedLossOptions, to_json(options)) == options
    resolved = options.resolved()
    assert (resolved.exponent, resolved.background) == (2, False)
    assert (resolved.ce_weight, resolved.dice_weight) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"profile": "ssl4miss"}, "must be one of ssl4mis"),
        ({"exponent": 3}, "exponent is 3"),
        ({"dice_weight": -1.0}, "dice_weight is -1.0"),
    ],
)
def test_wrong_options_are_refused(content, message):
    with pytest.raises(UsageError, match=message):
        from_json(SupervisedLossOptions, content)


def test_deep_supervision_halves_the_weight_of_every_coarser_output():
    assert deep_supervision_weights(4) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15])
