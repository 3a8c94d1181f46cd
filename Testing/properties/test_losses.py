"""Laws that losses, trust and refinement obey whatever the numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from SemiSupSegLib.losses.agreement import js_agreement, refine
from SemiSupSegLib.losses.classes import most_likely, one_hot
from SemiSupSegLib.losses.ema import update_teacher
from SemiSupSegLib.losses.low_confidence import high_confidence_loss, low_confidence_loss
from SemiSupSegLib.losses.reduction import masked_mean
from SemiSupSegLib.losses.schedules import consistency_weight, polynomial_rate, sigmoid_ramp
from SemiSupSegLib.losses.supervised import PROFILES, SupervisedLossOptions, supervised_loss
from SemiSupSegLib.losses.trust import image_confidence, voxel_trust
from SemiSupSegLib.losses.uncertainty import most_variance, pass_statistics

lawful = settings(deadline=None, derandomize=True, max_examples=25)
seeds = st.integers(0, 2**31)
classes = st.integers(2, 5)
profiles = st.sampled_from(sorted(PROFILES))


def draw(seed, num_classes, batch=2, scale=3.0):
    """Logits (B, K, 3, 4, 5) and a label with every class and some ignored voxels."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(
        batch, num_classes, 3, 4, 5, generator=generator, dtype=torch.float64
    )
    label = torch.randint(0, num_classes, (batch, 3, 4, 5), generator=generator)
    label[torch.rand(label.shape, generator=generator) < 0.1] = 255
    return logits, label


@lawful
@given(seed=seeds, num_classes=classes, profile=profiles)
def test_the_order_of_samples_changes_no_loss(seed, num_classes, profile):
    logits, label = draw(seed, num_classes, batch=3)
    options = SupervisedLossOptions(profile=profile)

    loss = supervised_loss(logits, label, options)["total"]
    turned = supervised_loss(logits.flip(0), label.flip(0), options)["total"]

    torch.testing.assert_close(turned, loss)


@lawful
@given(seed=seeds, num_classes=classes, profile=profiles, batch=st.booleans())
def test_every_sample_twice_changes_no_loss(seed, num_classes, profile, batch):
    logits, label = draw(seed, num_classes)
    options = SupervisedLossOptions(profile=profile, batch=batch)

    loss = supervised_loss(logits, label, options)["total"]
    twice = supervised_loss(logits.repeat(2, 1, 1, 1, 1), label.repeat(2, 1, 1, 1), options)

    torch.testing.assert_close(twice["total"], loss, rtol=1e-5, atol=1e-5)


@lawful
@given(seed=seeds, profile=profiles)
def test_other_names_of_foreground_classes_change_no_loss(seed, profile):
    logits, label = draw(seed, 4)
    order = torch.tensor([0, 3, 1, 2])
    renamed = label.clone()
    for new, old in enumerate(order.tolist()):
        renamed[label == old] = new
    options = SupervisedLossOptions(profile=profile)

    loss = supervised_loss(logits, label, options)["total"]

    torch.testing.assert_close(supervised_loss(logits[:, order], renamed, options)["total"], loss)


@lawful
@given(seed=seeds, num_classes=classes)
def test_what_stands_at_ignored_voxels_changes_no_loss(seed, num_classes):
    logits, label = draw(seed, num_classes)
    changed = torch.where((label == 255).unsqueeze(1), -5 * logits, logits)

    loss = supervised_loss(logits, label, SupervisedLossOptions())["total"]

    assert torch.equal(supervised_loss(changed, label, SupervisedLossOptions())["total"], loss)


@lawful
@given(seed=seeds, num_classes=classes)
def test_agreement_is_symmetric_within_bounds_and_one_with_itself(seed, num_classes):
    first = draw(seed, num_classes)[0].softmax(1)
    second = draw(seed + 1, num_classes)[0].softmax(1)

    agreement = js_agreement(first, second)

    torch.testing.assert_close(js_agreement(second, first), agreement)
    assert bool(((agreement >= 0) & (agreement <= 1)).all())
    assert bool((js_agreement(first.float(), first.float()) == 1).all())


@lawful
@given(seed=seeds, num_classes=classes, low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_higher_threshold_never_keeps_more_voxels(seed, num_classes, low, high):
    low, high = min(low, high), max(low, high)
    teacher, student = (draw(seed + i, num_classes)[0].softmax(1) for i in range(2))
    trust = voxel_trust("max", teacher)

    for mode in ("off", "average", "ignore"):
        fewer = refine(teacher, student, trust, high, mode=mode).kept
        more = refine(teacher, student, trust, low, mode=mode).kept
        assert not (fewer & ~more).any()


@lawful
@given(seed=seeds, num_classes=classes)
def test_refined_weights_are_a_share_and_one_where_kept(seed, num_classes):
    teacher, student = (draw(seed + i, num_classes)[0].softmax(1) for i in range(2))

    refined = refine(teacher, student, voxel_trust("max", teacher), 0.6, 0.5)

    assert bool(((refined.weight >= 0) & (refined.weight <= 1)).all())
    assert bool((refined.weight[refined.kept] == 1).all())
    assert bool((refined.high ^ refined.low).all())


@lawful
@given(seed=seeds, num_classes=classes, passes=st.integers(1, 6))
def test_variance_and_every_trust_stay_within_bounds(seed, num_classes, passes):
    probabilities = [draw(seed + i, num_classes, scale=30)[0][0].softmax(0) for i in range(passes)]
    statistics = pass_statistics(probabilities, keep_labels=True)

    stacked = torch.stack(probabilities)
    torch.testing.assert_close(statistics.mean, stacked.mean(0))
    torch.testing.assert_close(
        statistics.variance, stacked.var(0, unbiased=False).mean(0), rtol=1e-5, atol=1e-9
    )
    assert float(statistics.variance.max()) <= most_variance(num_classes) + 1e-12
    for kind in ("max", "max_expvar", "prob_var", "max_logvar", "entropy", "mi", "margin"):
        trust = voxel_trust(
            kind,
            statistics.mean,
            variance=statistics.variance,
            mean_entropy=statistics.mean_entropy,
        )
        assert bool(((trust >= 0) & (trust <= 1)).all()), kind
    trust = voxel_trust("max", statistics.mean)
    for kind in ("mean_all", "mean_fg", "class_mean", "self_dice"):
        assert 0 <= image_confidence(kind, statistics.mean, trust=trust) <= 1


@lawful
@given(seed=seeds, num_classes=classes)
def test_clipped_unlearning_is_bounded_and_never_more_than_verbatim(seed, num_classes):
    logits, label = draw(seed, num_classes)
    everywhere = torch.ones_like(label, dtype=torch.bool)

    clipped = low_confidence_loss(logits, label, everywhere, "subtract_clipped")

    assert -math.log(num_classes) <= float(clipped) <= 0
    assert clipped >= low_confidence_loss(logits, label, everywhere, "subtract")


@lawful
@given(seed=seeds, num_classes=classes, factor=st.floats(0.1, 10))
def test_a_common_factor_of_the_weights_changes_no_high_confidence_loss(seed, num_classes, factor):
    logits, label = draw(seed, num_classes)
    weight = torch.rand(label.shape, generator=torch.Generator().manual_seed(seed)).double()
    high = weight > 0.3

    loss = high_confidence_loss(logits, label, weight, high)

    torch.testing.assert_close(high_confidence_loss(logits, label, factor * weight, high), loss)


@lawful
@given(seed=seeds, num_classes=classes)
def test_most_likely_classes_are_those_of_argmax_and_one_hot_gives_them_back(seed, num_classes):
    logits = draw(seed, num_classes)[0].round()

    label, highest = most_likely(logits)

    assert torch.equal(label.long(), logits.argmax(1))
    assert torch.equal(highest, logits.amax(1))
    assert torch.equal(one_hot(label, num_classes).long().argmax(1), label.long())


@lawful
@given(seed=seeds, decay=st.floats(0, 1), iteration=st.integers(0, 10_000))
def test_a_moving_average_stays_between_teacher_and_student(seed, decay, iteration):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.nn.Linear(3, 3) for _ in range(2))
    for module in (student, teacher):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, generator=generator)
    before = teacher.weight.detach().clone()

    update_teacher(teacher, student, iteration, decay)

    low = torch.minimum(before, student.weight) - 1e-6
    high = torch.maximum(before, student.weight) + 1e-6
    assert bool(((teacher.weight >= low) & (teacher.weight <= high)).all())


def test_a_decay_of_one_keeps_the_teacher():
    student, teacher = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    before = teacher.weight.detach().clone()

    # Far beyond the warm-up 1 − 1/(t + 1), which is 1 in float32.
    update_teacher(teacher, student, 10**12, 1.0)

    torch.testing.assert_close(teacher.weight.detach(), before, rtol=0, atol=1e-6)


@lawful
@given(length=st.integers(1, 50_000), first=st.integers(0, 60_000), second=st.integers(0, 60_000))
def test_ramps_never_fall_and_rates_never_rise(length, first, second):
    first, second = min(first, second), max(first, second)

    assert sigmoid_ramp(first, length) <= sigmoid_ramp(second, length) <= 1
    assert consistency_weight(first, length) <= consistency_weight(second, length) <= 0.1
    assert polynomial_rate(first, length, 0.01) >= polynomial_rate(second, length, 0.01) >= 0


@lawful
@given(seed=seeds)
def test_a_masked_mean_is_the_mean_of_the_chosen_values(seed):
    values = draw(seed, 2)[0]
    mask = values > 0
    unchosen_is_infinite = torch.where(mask, values, math.inf)

    torch.testing.assert_close(masked_mean(unchosen_is_infinite, mask), values[mask].mean())
    with pytest.raises(ValueError, match="mask has shape"):
        masked_mean(values, mask[:1])
