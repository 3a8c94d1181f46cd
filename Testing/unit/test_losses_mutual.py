"""The consistency of several decoders, on numbers worked out by hand (methods §12)."""

from itertools import permutations

import pytest
import torch

from SemiSupSegLib.losses.mutual import mutual_consistency


def two_classes(probability):
    """Logits (1, 2, 1, 1, 1) with this probability of the foreground."""
    foreground = torch.tensor(probability, dtype=torch.float64)
    return torch.stack([1 - foreground, foreground]).log().reshape(1, 2, 1, 1, 1)


def everywhere(outputs):
    shape = outputs[0].shape
    return torch.ones((shape[0], *shape[2:]), dtype=torch.bool)


def test_two_decoders_are_compared_in_both_directions():
    outputs = [two_classes(0.6), two_classes(0.5)]

    loss = mutual_consistency(outputs, everywhere(outputs))

    # Sharpened by T = 0.1, .6 becomes .982954 and .5 stays.
    assert loss.item() == pytest.approx((0.6 - 0.5) ** 2 + (0.5 - 0.982954) ** 2, abs=1e-6)


def test_the_pairs_of_three_decoders_add_up():
    torch.manual_seed(0)
    outputs = [torch.randn(2, 3, 2, 3, 4, dtype=torch.float64) for _ in range(3)]
    mask = torch.rand(2, 2, 3, 4) < 0.6
    temperature = 0.5

    loss = mutual_consistency(outputs, mask, temperature=temperature)

    expected = 0.0
    for one, other in permutations(outputs, 2):
        prediction, powers = one.softmax(1), other.softmax(1) ** (1 / temperature)
        sharp = powers / powers.sum(1, keepdim=True)
        squares = (prediction - sharp).square().mean(1)
        expected += squares[mask].mean().item()
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_decoders_that_are_certain_of_the_same_cost_nothing():
    outputs = [1e4 * torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1, 1)] * 3

    assert mutual_consistency(outputs, everywhere(outputs)).item() == 0


def gradients(detach_sharp):
    """With respect to the logits of the foreground of .6, beside .5, and of .5."""
    outputs = [two_classes(0.6).requires_grad_(), two_classes(0.5).requires_grad_()]
    loss = mutual_consistency(outputs, everywhere(outputs), detach_sharp=detach_sharp)
    return [one.flatten()[1].item() for one in torch.autograd.grad(loss, outputs)]


def test_only_the_side_that_is_not_sharpened_learns():
    first, second = gradients(detach_sharp=True)

    # 2·(p − s)·p·(1 − p)
    assert first == pytest.approx(2 * (0.6 - 0.5) * 0.24, abs=1e-6)
    assert second == pytest.approx(2 * (0.5 - 0.982954) * 0.25, abs=1e-6)


def test_as_in_the_reference_code_the_sharpened_side_learns_too():
    first, second = gradients(detach_sharp=False)

    # A sharpened prediction moves by s·(1 − s)/T.
    by_sharp = 2 * (0.982954 - 0.5) * 0.982954 * 0.017046 / 0.1
    assert first == pytest.approx(0.048 + by_sharp, abs=1e-5)
    assert second == pytest.approx(-0.241477 + 2 * (0.5 - 0.6) * 0.25 / 0.1, abs=1e-5)


def test_the_order_of_decoders_samples_and_classes_makes_no_difference():
    torch.manual_seed(0)
    outputs = [torch.randn(2, 3, 2, 3, 4, dtype=torch.float64) for _ in range(3)]
    mask = torch.rand(2, 2, 3, 4) < 0.7
    loss = mutual_consistency(outputs, mask)

    turned = [one.roll(1, 1).flip(0) for one in outputs[::-1]]
    twice = [torch.cat([one, one]) for one in outputs]

    torch.testing.assert_close(mutual_consistency(turned, mask.flip(0)), loss)
    torch.testing.assert_close(mutual_consistency(twice, torch.cat([mask, mask])), loss)


def test_nothing_valid_gives_exactly_nothing():
    outputs = [torch.randn(1, 2, 1, 2, 3).requires_grad_() for _ in range(2)]

    loss = mutual_consistency(outputs, torch.zeros(1, 1, 2, 3, dtype=torch.bool))
    loss.backward()

    assert loss.item() == 0
    assert all((one.grad == 0).all() for one in outputs)


@pytest.mark.parametrize("detach_sharp", [True, False])
def test_extreme_logits_in_half_precision_stay_finite(detach_sharp):
    pattern = torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1, 1)
    outputs = [(sign * 3e4 * pattern).half().requires_grad_() for sign in (1, -1)]

    loss = mutual_consistency(outputs, everywhere(outputs), detach_sharp=detach_sharp)
    loss.backward()

    # Both directions of a full contradiction cost (1 − 0)².
    assert loss.dtype == torch.float32
    assert loss.item() == 2
    assert all(one.grad.isfinite().all() for one in outputs)


def test_what_cannot_be_compared_is_refused():
    one = torch.zeros(1, 2, 1, 1, 1)

    with pytest.raises(ValueError, match="there are 1 outputs"):
        mutual_consistency([one], everywhere([one]))
    with pytest.raises(ValueError, match="temperature is 0"):
        mutual_consistency([one, one], everywhere([one]), temperature=0)
