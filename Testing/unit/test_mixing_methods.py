"""BCP, UniMatch and our own method: boxes, thresholds, weights, by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from SemiSupSegLib.losses.adaptive_threshold import ClassThresholds
from SemiSupSegLib.losses.dice import soft_dice_loss
from SemiSupSegLib.losses.pseudo_label import pseudo_label_loss
from SemiSupSegLib.methods.bcp import BCP, BCPOptions
from SemiSupSegLib.methods.best import Best, BestOptions
from SemiSupSegLib.methods.copy_paste import draw_cut
from SemiSupSegLib.methods.protocol import Clock, NetworkOptions, ParameterGroup, Phase
from SemiSupSegLib.methods.unimatch import UniMatch, UniMatchOptions
from SemiSupSegLib.networks.catalogue import build_network
from Testing.method_steps import a_visible_batch

NETWORK = NetworkOptions(name="transaspp", options={"width": 4, "lite": True})
SIDE = 16


def build(name, network=None):
    torch.manual_seed(len(name))
    chosen = network or NETWORK
    return build_network(chosen.name, chosen.options, in_channels=1, num_classes=3)


def a_batch():
    return a_visible_batch(2, 2, 3, with_views=True)


def clock(iteration=0):
    return Clock(phase_iteration=iteration, iteration=iteration)


def phase_of(method, name, **changes):
    group = ParameterGroup(parameters=list(method.networks()["student_raw"].parameters()))
    return Phase(name=name, iterations=100, group=group, labelled_per_batch=2, **changes)


@given(st.integers(0, 1000), st.tuples(*[st.integers(8, 24)] * 3))
def test_a_cut_is_a_box_of_two_to_forty_percent(seed, shape):
    torch.manual_seed(seed)
    mask = draw_cut(shape, torch.device("cpu")).numpy()

    found = np.argwhere(mask)
    sides = found.max(0) - found.min(0) + 1
    assert mask.sum() == np.prod(sides)
    # Sides are whole voxels, and none is longer than the patch.
    assert 0 < mask.mean() < 0.55


def test_thresholds_follow_how_surely_a_class_is_predicted():
    thresholds = ClassThresholds(3, ceiling=0.9, lowest=0.5, highest=0.9, decay=0.5)
    label = torch.tensor([0] * 40 + [1] * 40 + [2] * 31).reshape(1, 1, 1, -1)
    confidence = torch.tensor([1.0] * 40 + [0.6] * 40 + [0.1] * 31).reshape(1, 1, 1, -1)

    everywhere = torch.ones_like(label, dtype=torch.bool)
    thresholds.update(*thresholds.sums(label, confidence, everywhere))

    # r: 1, ½·1 + ½·.6 = .8, and 31 voxels of class 2 say nothing.
    torch.testing.assert_close(thresholds.confidence, torch.tensor([1.0, 0.8, 1.0]))
    torch.testing.assert_close(thresholds.thresholds(), torch.tensor([0.9, 0.72, 0.9]))


def test_no_threshold_leaves_its_limits():
    thresholds = ClassThresholds(2, ceiling=0.95, lowest=0.6, highest=0.9)
    thresholds.confidence.copy_(torch.tensor([1.0, 0.2]))

    torch.testing.assert_close(thresholds.thresholds(), torch.tensor([0.9, 0.6]))


def test_voxels_that_are_not_valid_move_no_threshold():
    thresholds = ClassThresholds(2)
    label = torch.zeros(1, 4, 4, 4, dtype=torch.long)

    nowhere = torch.zeros_like(label).bool()
    thresholds.update(*thresholds.sums(label, torch.full((1, 4, 4, 4), 0.3), nowhere))

    torch.testing.assert_close(thresholds.confidence, torch.ones(2))


def two_voxels(*foreground):
    values = torch.tensor(foreground, dtype=torch.float64).reshape(1, 1, 1, -1)
    return torch.stack([1 - values, values], 1).log()


def shaped(values, kind=torch.float64):
    return torch.tensor(values, dtype=kind).reshape(1, 1, 1, -1)


def test_the_pseudo_label_loss_is_divided_by_how_many_voxels_there_are():
    logits = two_voxels(0.8, 0.4)
    everywhere = torch.ones(1, 1, 1, 2, dtype=torch.bool)

    loss = pseudo_label_loss(
        logits,
        shaped([1, 1], torch.long),
        shaped([1.0, 0.25]),
        everywhere,
        with_dice=False,
    )

    assert float(loss) == pytest.approx((-math.log(0.8) - 0.25 * math.log(0.4)) / 2 / 2)


def test_its_dice_has_the_weight_once_in_each_sum_and_counts_by_it():
    logits = two_voxels(0.8, 0.4)
    everywhere = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    label, weight = shaped([1, 1], torch.long), shaped([1.0, 0.25])

    both = pseudo_label_loss(logits, label, weight, everywhere)
    entropy = pseudo_label_loss(logits, label, weight, everywhere, with_dice=False)

    shared, sizes = 0.8 + 0.25 * 0.4, (0.8 + 0.25 * 0.4) + (1 + 0.25)
    mean_weight = (1 + 0.25) / 2
    assert float(both - entropy) == pytest.approx(
        0.5 * mean_weight * (1 - (2 * shared + 1e-5) / (sizes + 1e-5)), abs=1e-6
    )


@pytest.mark.parametrize("exponent", [1, 2])
def test_no_foreground_voxel_is_unlearnt_however_little_it_weighs(exponent):
    torch.manual_seed(1)
    probability = torch.rand(1, 1, 4, 4, 4, dtype=torch.float64).requires_grad_()
    label = torch.ones(1, 4, 4, 4, dtype=torch.long)
    weight = torch.rand(1, 4, 4, 4, dtype=torch.float64)

    loss = soft_dice_loss(
        torch.cat([1 - probability, probability], 1),
        label,
        weight,
        exponent=exponent,
        background=False,
    )
    (gradient,) = torch.autograd.grad(loss, probability)

    if exponent == 1:
        assert (gradient <= 0).all()
    assert float(gradient.sum()) < 0


def test_a_doubtful_voxel_is_held_to_the_probabilities():
    logits = two_voxels(0.8, 0.4)
    everywhere = torch.ones(1, 1, 1, 2, dtype=torch.bool)

    loss = pseudo_label_loss(
        logits,
        shaped([1, 1], torch.long),
        shaped([1.0, 0.3]),
        everywhere,
        soft_target=two_voxels(0.9, 0.6).exp(),
        is_soft=shaped([False, True], torch.bool),
        with_dice=False,
    )

    soft = -(0.6 * math.log(0.4) + 0.4 * math.log(0.6))
    assert float(loss) == pytest.approx((-math.log(0.8) + 0.3 * soft) / 2 / 2)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_nothing_valid_or_trusted_is_exactly_zero(weight):
    logits = two_voxels(0.8, 0.4).requires_grad_()
    valid = torch.full((1, 1, 1, 2), weight == 0.0)

    loss = pseudo_label_loss(logits, shaped([1, 1], torch.long), shaped([weight] * 2), valid)
    loss.backward()

    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def test_bcp_pre_trains_on_labelled_patches_and_goes_on_with_its_schedule():
    method = BCP(BCPOptions(network=NETWORK, pretrain_share=0.25), build, 100)

    first, second = method.phases(FakeData())

    assert (first.iterations, second.iterations) == (25, 75)
    assert (first.unlabelled_per_batch, second.unlabelled_per_batch) == (0, 2)
    assert second.continues
    assert (second.group.schedule_start, second.group.schedule_length) == (25, 100)


@pytest.mark.parametrize("name", ["bcp", "unimatch", "best", "best apart"])
def test_the_network_learns_from_unlabelled_patches_and_what_labels_does_not(name):
    method, step = a_step_of(name)
    with_unlabelled = step(a_batch())
    gradient = gradients(method, with_unlabelled.total)

    assert math.isfinite(with_unlabelled.total.item())
    assert gradient > 0
    for network in (method._average, *([method._teacher] if "best" in name else [])):
        assert all(one.grad is None for one in network.parameters())


@pytest.mark.parametrize("name", ["bcp", "unimatch", "best", "best apart"])
def test_without_valid_unlabelled_voxels_only_labels_count(name):
    _, step = a_step_of(name)
    batch = a_batch()
    batch.valid[2:] = False

    result = step(batch)

    pseudo = result.terms["high" if "best" in name else "unlabelled"]
    assert float(pseudo) == 0
    assert result.total.item() == pytest.approx(float(result.terms["supervised"]))


@pytest.mark.parametrize(("name", "is_equal"), [("best", False), ("best apart", True)])
def test_without_copy_paste_patches_teach_our_method_as_they_are(name, is_equal):
    method, step = a_step_of(name)
    method._raw.eval()
    batch = a_batch()

    def supervised(seed):
        # Of the boxes, if there are any.
        torch.manual_seed(seed)
        return float(step(batch).terms["supervised"].detach())

    assert (supervised(0) == supervised(1)) == is_equal


def test_the_teacher_of_our_method_is_the_average_until_the_stages_begin():
    method = Best(BestOptions(network=NETWORK), build, 100)
    teacher, *_ = method.phases(FakeData())

    def moved(phase):
        with torch.no_grad():
            for one in method._raw.parameters():
                one.add_(1)
        method.after_step(phase, clock())
        both = (method._teacher.state_dict(), method._average.state_dict())
        return all(torch.equal(one, both[1][name]) for name, one in both[0].items())

    assert moved(teacher)
    assert moved(teacher)
    assert not moved(phase_of(method, "stage_1", stage=1))


def test_the_updates_of_our_method_are_shared_out_and_one_schedule_falls_over_them():
    method = Best(BestOptions(network=NETWORK), build, 1000)

    phases = method.phases(FakeData())

    names = ["teacher", "stage_1", "stage_2", "stage_3", "stage_4", "student_distil"]
    assert [one.name for one in phases] == names
    assert sum(one.iterations for one in phases) == 1000
    assert phases[0].iterations == 300
    assert [one.group.schedule_start for one in phases[:3]] == [0, 300, 463]
    assert {one.group.schedule_length for one in phases[:5]} == {950}
    assert [one.continues for one in phases] == [False, True, True, True, True, False]


class FakeData:
    unlabelled = ("a", "b", "c")
    validation = ("d",)
    labelled = ("e", "f")

    def tell(self, kind, **values):
        raise AssertionError(kind)

    def count_windows(self, case_ids):
        return len(tuple(case_ids))


def a_step_of(name):
    if name == "bcp":
        method = BCP(BCPOptions(network=NETWORK), build, 100)
        phase = phase_of(method, "joint")
    elif name == "unimatch":
        method = UniMatch(UniMatchOptions(network=NETWORK, threshold=0.1), build, 100)
        phase = phase_of(method, "joint")
    else:
        options = BestOptions(network=NETWORK, copy_paste=float(name == "best"))
        method = Best(options, build, 100)
        phase = phase_of(method, "stage_2", stage=2)
    return method, lambda batch: method.step(phase, batch, clock(50))


def gradients(method, total):
    total.backward()
    return float(
        sum(one.grad.abs().sum() for one in method._raw.parameters() if one.grad is not None)
    )
