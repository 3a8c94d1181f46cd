"""The consistency of a decoder's levels, on the worked example (methods §6)."""

import math

import pytest
import torch

from SemiSupSegLib.losses.pyramid import pyramid_consistency

CLOSE = {"rtol": 0, "atol": 2e-7}


def two_classes(*probabilities):
    """Logits (1, 2, 1, 1, N) of N voxels, given the first class's probabilities."""
    values = torch.tensor(probabilities, dtype=torch.float64).reshape(1, 1, 1, 1, -1)
    return torch.cat([values, 1 - values], 1).log()


def everywhere(outputs):
    shape = outputs[0].shape
    return torch.ones((shape[0], *shape[2:]), dtype=torch.bool)


@pytest.fixture
def four_levels():
    return [two_classes(0.9), two_classes(0.8), two_classes(0.6), two_classes(0.5)]


@pytest.fixture
def two_voxels():
    pairs = [(0.9, 0.3), (0.8, 0.5), (0.6, 0.2), (0.5, 0.4)]
    return [two_classes(*pair) for pair in pairs]


def test_the_worked_voxel_has_the_worked_loss_and_disagreement(four_levels):
    found = pyramid_consistency(four_levels, everywhere(four_levels))

    expected = torch.tensor([0.1536636, 0.0281676, 0.0216009, 0.0822829]).double().mean()
    torch.testing.assert_close(found.disagreement, expected, **CLOSE)
    torch.testing.assert_close(found.loss, torch.tensor(0.0964287).double(), **CLOSE)


def test_a_second_voxel_is_weighed_with_the_first(two_voxels):
    found = pyramid_consistency(two_voxels, everywhere(two_voxels))

    torch.testing.assert_close(found.loss, torch.tensor(0.0686030).double(), **CLOSE)


def test_a_voxel_that_does_not_count_changes_nothing(four_levels, two_voxels):
    mask = everywhere(two_voxels)
    mask[..., 1] = False

    found = pyramid_consistency(two_voxels, mask)

    torch.testing.assert_close(found, pyramid_consistency(four_levels, everywhere(four_levels)))


def test_the_divergence_can_begin_with_the_level():
    outputs = [two_classes(0.9), two_classes(0.5)]

    found = pyramid_consistency(outputs, everywhere(outputs), divergence="head_first")

    # With one voxel its weight cancels: what is left is (0.7 − p)² = 0.04 and the divergence.
    first = 0.9 * math.log(0.9 / 0.7) + 0.1 * math.log(0.1 / 0.3)
    second = 0.5 * math.log(0.5 / 0.7) + 0.5 * math.log(0.5 / 0.3)
    assert found.disagreement.item() == pytest.approx((first + second) / 2, abs=1e-9)
    assert found.loss.item() == pytest.approx(0.04 + (first + second) / 2, abs=1e-8)


def test_equal_levels_cost_nothing_and_do_not_move():
    torch.manual_seed(0)
    one = torch.randn(2, 3, 2, 3, 4, dtype=torch.float64)
    outputs = [one.clone().requires_grad_() for _ in range(3)]

    found = pyramid_consistency(outputs, everywhere(outputs))
    found.loss.backward()

    assert abs(found.loss.item()) < 1e-12
    assert all(output.grad.abs().max() < 1e-12 for output in outputs)


def test_the_order_of_levels_voxels_and_classes_makes_no_difference():
    torch.manual_seed(0)
    outputs = [torch.randn(2, 3, 2, 3, 4, dtype=torch.float64) for _ in range(4)]
    mask = torch.rand(2, 2, 3, 4) < 0.7

    found = pyramid_consistency(outputs, mask)

    torch.testing.assert_close(pyramid_consistency(outputs[::-1], mask), found)
    turned = [one.roll(1, 1).flip(0, 4) for one in outputs]
    torch.testing.assert_close(pyramid_consistency(turned, mask.flip(0, 3)), found)
    twice = [torch.cat([one, one]) for one in outputs]
    torch.testing.assert_close(pyramid_consistency(twice, torch.cat([mask, mask])), found)


def slow_version(outputs, mask):
    """Voxel by voxel, level by level."""
    probabilities = [one.softmax(1) for one in outputs]
    mean = sum(probabilities) / len(outputs)
    loss = 0.0
    for level in probabilities:
        terms = []
        for place in mask.nonzero().tolist():
            sample, *where = place
            p = level[(sample, slice(None), *where)].tolist()
            m = mean[(sample, slice(None), *where)].tolist()
            distance = sum(b * (math.log(b) - math.log(a)) for a, b in zip(p, m, strict=True))
            square = sum((a - b) ** 2 for a, b in zip(p, m, strict=True)) / len(p)
            terms.append((distance, square, math.exp(-distance)))
        weight = sum(one[2] for one in terms) / len(terms) + 1e-8
        loss += sum(one[1] * one[2] for one in terms) / len(terms) / weight
        loss += sum(one[0] for one in terms) / len(terms)
    return loss / len(outputs)


def test_it_equals_a_slow_version_with_three_classes():
    torch.manual_seed(3)
    outputs = [2 * torch.randn(2, 3, 2, 2, 3, dtype=torch.float64) for _ in range(3)]
    mask = torch.rand(2, 2, 2, 3) < 0.6

    found = pyramid_consistency(outputs, mask)

    assert found.loss.item() == pytest.approx(slow_version(outputs, mask), abs=1e-12)


def test_a_held_mean_gets_no_gradient(four_levels):
    first, *others = four_levels
    first.requires_grad_()
    others = [one.requires_grad_() for one in others]

    def gradient(detach_mean):
        found = pyramid_consistency(four_levels, everywhere(four_levels), detach_mean=detach_mean)
        return torch.autograd.grad(found.loss, first)[0].flatten()

    # Of Σ_c (p̄ − p)²/2 + KL(p̄‖p) for p = (.9, .1), p̄ = (.7, .3) held, by the logit of class 1:
    # 2·(.9 − .7)·.9·.1 + (.9 − .7), and a quarter of it for four levels.
    expected = (2 * 0.2 * 0.09 + 0.2) / 4
    held = gradient(detach_mean=True)
    torch.testing.assert_close(held, torch.tensor([expected, -expected]).double(), **CLOSE)
    assert (gradient(detach_mean=False) - held).abs().max() > 1e-3


def test_nothing_valid_gives_exactly_nothing(two_voxels):
    outputs = [one.requires_grad_() for one in two_voxels]

    found = pyramid_consistency(outputs, torch.zeros(1, 1, 1, 2, dtype=torch.bool))
    found.loss.backward()

    assert found.loss.item() == 0
    assert found.disagreement.item() == 0
    assert all((one.grad == 0).all() for one in outputs)


@pytest.mark.parametrize("size", [200.0, 1e4])
@pytest.mark.parametrize("divergence", ["mean_first", "head_first"])
def test_certain_levels_that_contradict_each_other_stay_finite(size, divergence):
    outputs = [
        (sign * size * torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1, 1)).requires_grad_()
        for sign in (1, -1)
    ]

    found = pyramid_consistency(outputs, everywhere(outputs), divergence=divergence)
    found.loss.backward()

    assert found.loss.isfinite()
    assert all(one.grad.isfinite().all() for one in outputs)


def test_half_precision_is_computed_in_single():
    torch.manual_seed(1)
    outputs = [torch.randn(1, 2, 2, 3, 4).bfloat16() for _ in range(2)]

    found = pyramid_consistency(outputs, everywhere(outputs))

    assert found.loss.dtype == torch.float32
    single = pyramid_consistency([one.float() for one in outputs], everywhere(outputs))
    assert torch.equal(found.loss, single.loss)


def test_outputs_that_do_not_fit_are_refused(four_levels):
    with pytest.raises(ValueError, match=r"output 1 has shape .*enlarge the logits"):
        pyramid_consistency([four_levels[0], torch.zeros(1, 2, 1, 1, 2)], everywhere(four_levels))
    with pytest.raises(ValueError, match="mask has shape"):
        pyramid_consistency(four_levels, torch.ones(1, 1, 1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="no output"):
        pyramid_consistency([], torch.ones(1, 1, 1, 1, dtype=torch.bool))
