"""Entropy minimisation, on worked numbers and in single steps (methods §5)."""

import math
from dataclasses import replace

import pytest
import torch

from SemiSupSegLib.methods.entropy import Entropy, EntropyOptions
from SemiSupSegLib.methods.protocol import Clock
from SemiSupSegLib.methods.supervised import SupervisedOptions
from Testing.method_steps import (
    TINY,
    SupervisedBesideUnlabelled,
    a_batch,
    are_equal,
    build_of,
    further_loss_of,
    learning,
    the_phase_of,
    weights_after,
)

START = Clock(phase_iteration=0, iteration=0)


def entropy_method(options=TINY, num_classes=2, **changes):
    return Entropy(EntropyOptions(**changes), build_of(options, num_classes=num_classes), 10)


def loss_of(logits, labelled=0, valid=None, **changes):
    """The loss and its figures, given logits (B, K, D, H, W)."""
    shape = (len(logits), *logits.shape[2:])
    batch = replace(
        a_batch(labelled, len(logits) - labelled),
        labels=torch.zeros(labelled, *shape[1:], dtype=torch.int64),
        valid=torch.ones(shape, dtype=torch.bool) if valid is None else valid,
    )
    method = entropy_method(num_classes=logits.shape[1], **changes)
    return method.further_loss([logits], batch, START)


@pytest.fixture
def worked_logits():
    """Example A of methods §2: two classes in 2×2×2 voxels."""
    foreground = torch.tensor([0.9, 0.8, 0.4, 0.3, 0.2, 0.1, 0.1, 0.2], dtype=torch.float64)
    foreground = foreground.reshape(1, 1, 2, 2, 2)
    return torch.cat([1 - foreground, foreground], 1).log()


def test_the_worked_example_has_the_worked_loss_and_a_quarter_of_foreground(worked_logits):
    loss, figures = loss_of(worked_logits)

    assert loss.item() == pytest.approx(0.6781266, abs=1e-7)
    assert figures["foreground_share"].item() == 2 / 8


@pytest.mark.parametrize("num_classes", [2, 3, 4])
def test_the_loss_is_one_where_nothing_is_known_and_zero_where_all_is_certain(num_classes):
    uniform = torch.full((1, num_classes, 2, 3, 4), 5.0)
    certain = torch.zeros(1, num_classes, 2, 3, 4)
    certain[:, 1] = 200.0
    certain.requires_grad_()

    assert loss_of(uniform)[0].item() == pytest.approx(1, abs=1e-6)
    loss, figures = loss_of(certain)
    loss.backward()
    assert loss.item() == 0
    assert (certain.grad == 0).all()
    assert figures["foreground_share"].item() == 1


def test_a_small_step_downhill_makes_predictions_more_certain(worked_logits):
    logits = worked_logits.requires_grad_()

    loss_of(logits)[0].backward()

    certain = (logits - 0.1 * logits.grad).softmax(1).amax(1)
    assert (certain > logits.softmax(1).amax(1)).all()


def test_the_order_of_classes_makes_no_difference():
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 2, 3, 4, dtype=torch.float64)

    torch.testing.assert_close(loss_of(logits)[0], loss_of(logits.roll(1, 1))[0])


def test_labelled_patches_count_only_if_asked_to(worked_logits):
    uniform = torch.zeros_like(worked_logits)
    logits = torch.cat([uniform, worked_logits])

    assert loss_of(logits, labelled=1)[0].item() == pytest.approx(0.6781266, abs=1e-7)
    mean = (1 + 0.6781266) / 2
    assert loss_of(logits, labelled=1, on="all")[0].item() == pytest.approx(mean, abs=1e-7)


def test_padding_does_not_count(worked_logits):
    valid = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    valid[0, 0, 0, 0] = True

    loss, figures = loss_of(worked_logits, valid=valid)

    expected = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)
    assert loss.item() == pytest.approx(expected, abs=1e-9)
    assert figures["foreground_share"].item() == 1


def test_nothing_valid_gives_exactly_nothing(worked_logits):
    logits = worked_logits.requires_grad_()

    loss, figures = loss_of(logits, valid=torch.zeros(1, 2, 2, 2, dtype=torch.bool))
    loss.backward()

    assert loss.item() == 0
    assert (logits.grad == 0).all()
    assert figures["foreground_share"].item() == 0


def test_the_loss_reaches_the_network_but_neither_average_nor_log_variance_nor_labelled_logits():
    method = entropy_method()
    networks = method.networks()

    loss, (logits,), _ = further_loss_of(method, a_batch())

    parts = learning(networks["student_raw"], loss)
    assert parts >= {"encoder", "decoder", "segmentation_head"}
    assert "log_variance_head" not in parts
    assert not any(one.requires_grad for one in networks["student"].parameters())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[:2] == 0).all()
    assert gradient[2:].any()


def test_labels_count_as_the_mean_of_both_losses():
    # Beside which the papers' weight of the other loss is meant.
    method = entropy_method()
    terms = method.step(the_phase_of(method), a_batch(), START).terms

    mean = (terms["cross_entropy"].item() + terms["dice"].item()) / 2
    assert terms["supervised"].item() == pytest.approx(mean)


def test_with_weight_zero_the_network_learns_what_supervised_training_teaches_it():
    batch = a_batch()
    supervised = SupervisedBesideUnlabelled(
        SupervisedOptions(loss=EntropyOptions().loss), build_of(), 10
    )

    weights = weights_after(entropy_method(unlabelled_weight=0.0), batch)

    expected = weights_after(supervised, batch)
    other = weights_after(entropy_method(unlabelled_weight=1.0), batch)
    for name, values in weights.items():
        assert are_equal(values, expected[name])
        assert not are_equal(values, other[name])
