"""What a network learns from another's prediction: numbers of methods §7.1, 7.2, 7.3 and 10.3."""

import math

import pytest
import torch

from SemiSupSegLib.losses.entropy_filter import surest_of_each_class
from SemiSupSegLib.losses.pseudo_supervision import (
    divergence,
    hard_label,
    pseudo_supervision,
    weighted_pseudo_supervision,
)

LEARNER = [0.9, 0.8, 0.4, 0.3, 0.2, 0.1, 0.1, 0.2]
GIVER = [1.0, 0.6, 0.5, 0.3, 0.2, 0.1, 0.3, 0.0]
SOFT_GIVER = [0.99, 0.6, 0.5, 0.3, 0.2, 0.1, 0.3, 0.01]
LABEL = [1, 1, 0, 0, 0, 0, 0, 0]


def logits_of(foreground):
    values = torch.tensor(foreground, dtype=torch.float64).reshape(1, 2, 2, 2)
    return torch.stack([1 - values, values], 1).clamp(min=1e-300).log()


def everywhere(value=True):
    return torch.full((1, 2, 2, 2), value)


def test_a_hard_label_is_the_most_likely_class_and_of_equals_the_lowest():
    label = hard_label(logits_of(GIVER), everywhere())

    assert label.flatten().tolist() == LABEL
    assert label.dtype == torch.uint8


def test_a_hard_label_is_missing_where_nothing_is_valid_or_the_giver_is_not_sure():
    valid = everywhere()
    valid[0, 0, 0, 0] = False

    label = hard_label(logits_of(GIVER), valid, 0.65)

    # Highest probabilities: 1 (not valid), .6, .5, .7, .8, .9, .7, 1.
    assert label.flatten().tolist() == [255, 255, 255, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("ce", 0.2316266), ("dice", 0.0730396), ("ce+dice", (0.2316266 + 0.0730396) / 2)],
)
def test_pseudo_supervision_has_the_worked_value(kind, expected):
    label = hard_label(logits_of(GIVER), everywhere())

    loss = pseudo_supervision(logits_of(LEARNER), label, kind)

    assert float(loss) == pytest.approx(expected, abs=1e-7)


def test_the_divergence_and_its_weight_have_the_worked_values():
    giver = torch.tensor([0.6, 0.4], dtype=torch.float64).log().reshape(1, 2, 1, 1, 1)
    learner = torch.tensor([0.9, 0.1], dtype=torch.float64).log().reshape(1, 2, 1, 1, 1)

    apart = divergence(giver, learner)

    assert apart.item() == pytest.approx(0.311239, abs=1e-6)
    assert math.exp(-apart.item()) == pytest.approx(0.732539, abs=1e-6)


def test_weighted_pseudo_supervision_has_the_worked_values():
    giver = logits_of(SOFT_GIVER)

    entropy, apart = weighted_pseudo_supervision(
        logits_of(LEARNER), giver, hard_label(giver, everywhere())
    )

    assert entropy.item() == pytest.approx(0.2201643, abs=1e-7)
    assert apart.item() == pytest.approx(0.0663826, abs=1e-7)


def test_networks_that_agree_have_no_divergence_and_a_plain_cross_entropy():
    logits = logits_of(SOFT_GIVER)
    label = hard_label(logits, everywhere())

    entropy, apart = weighted_pseudo_supervision(logits, logits, label)

    assert apart.item() == pytest.approx(0, abs=1e-12)
    assert entropy.item() == pytest.approx(pseudo_supervision(logits, label).item())


def test_the_weight_of_a_voxel_has_no_gradient():
    giver, learner = logits_of(SOFT_GIVER), logits_of(LEARNER).requires_grad_()

    entropy, _ = weighted_pseudo_supervision(learner, giver, hard_label(giver, everywhere()))
    (gradient,) = torch.autograd.grad(entropy, learner)

    # d(ω·CE)/dz = ω (p − 1[c = ŷ]) / voxels, with ω from the definition of the divergence.
    for voxel in range(8):
        p, q = LEARNER[voxel], SOFT_GIVER[voxel]
        weight = math.exp(-(q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))))
        expected = weight * (p - LABEL[voxel]) / 8
        assert gradient[0, 1].flatten()[voxel].item() == pytest.approx(expected)


def test_nothing_flows_into_the_network_that_gives_the_label():
    giver, learner = logits_of(SOFT_GIVER).requires_grad_(), logits_of(LEARNER).requires_grad_()
    label = hard_label(giver, everywhere())
    entropy, apart = weighted_pseudo_supervision(learner, giver, label)
    terms = [
        entropy,
        apart,
        *(pseudo_supervision(learner, label, kind) for kind in ("ce", "dice", "ce+dice")),
    ]

    for term in terms:
        theirs, ours = torch.autograd.grad(
            term, (giver, learner), allow_unused=True, retain_graph=True
        )
        assert theirs is None
        assert torch.isfinite(ours).all()
        assert ours.abs().sum() > 0


def test_without_a_label_every_term_is_exactly_zero_with_zero_gradient():
    giver, learner = logits_of(SOFT_GIVER), logits_of(LEARNER).requires_grad_()
    label = hard_label(giver, everywhere(False))
    entropy, apart = weighted_pseudo_supervision(learner, giver, label)
    kinds = ("ce", "dice", "ce+dice")

    for term in (entropy, apart, *(pseudo_supervision(learner, label, one) for one in kinds)):
        (gradient,) = torch.autograd.grad(term, learner, retain_graph=True)
        assert term.item() == 0
        assert not gradient.any()


def test_extreme_logits_give_finite_losses_in_float32_whatever_comes_in():
    giver = torch.full((1, 2, 1, 1, 1), 1e4, dtype=torch.bfloat16)
    giver[:, 1] = -1e4
    learner = (-giver).requires_grad_()

    entropy, apart = weighted_pseudo_supervision(
        learner, giver, hard_label(giver, torch.ones(1, 1, 1, 1, dtype=torch.bool))
    )
    (entropy + apart).backward()

    assert entropy.dtype == apart.dtype == torch.float32
    assert torch.isfinite(entropy + apart)
    assert torch.isfinite(learner.grad).all()


def test_each_class_keeps_its_own_surest_voxels():
    entropy = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.0]).reshape(1, 2, 2, 2)
    label = torch.tensor([0, 0, 0, 0, 1, 1, 1, 255], dtype=torch.uint8).reshape(1, 2, 2, 2)

    kept = surest_of_each_class(entropy, label, 3, 0.5)

    # Medians: .25 of class 0 and .6 of class 1; one limit for both would keep no voxel of class 1.
    assert kept.flatten().tolist() == [True, True, False, False, True, True, False, False]


@pytest.mark.parametrize(("share", "count"), [(0.0, 1), (0.2, 2), (0.8, 6), (1.0, 8)])
def test_a_larger_share_keeps_more(share, count):
    entropy = torch.arange(8.0).reshape(1, 2, 2, 2)
    label = torch.zeros(1, 2, 2, 2, dtype=torch.uint8)

    # The quantile of 0…7 is 7·share.
    assert int(surest_of_each_class(entropy, label, 2, share).sum()) == count


def test_the_limit_of_a_large_class_is_told_from_a_sample(monkeypatch):
    monkeypatch.setattr("SemiSupSegLib.losses.entropy_filter.MOST_SAMPLED", 200)
    entropy = torch.arange(8000.0).reshape(1, 20, 20, 20)
    label = torch.zeros(1, 20, 20, 20, dtype=torch.uint8)

    torch.manual_seed(1)
    first = surest_of_each_class(entropy, label, 2, 0.5)
    torch.manual_seed(1)
    again = surest_of_each_class(entropy, label, 2, 0.5)

    assert torch.equal(first, again)
    assert int(first.sum()) == pytest.approx(4000, abs=1000)
    assert bool(first.flatten()[: int(first.sum())].all())
