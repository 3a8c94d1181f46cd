"""URPC in single steps: what the levels learn, and what is exported (methods §6)."""

from dataclasses import replace

import pytest
import torch

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.losses.supervised import supervised_loss
from SemiSupSegLib.methods.protocol import Clock
from SemiSupSegLib.methods.supervised import Supervised, SupervisedOptions
from SemiSupSegLib.methods.urpc import URPC, URPCOptions
from SemiSupSegLib.networks.catalogue import build_network
from Testing.method_steps import (
    ALL_LEVELS,
    TINY,
    a_batch,
    are_equal,
    build_of,
    further_loss_of,
    learning,
    the_phase_of,
    weights_after,
)

START = Clock(phase_iteration=0, iteration=0)


def urpc(build=None, **changes):
    return URPC(URPCOptions(**changes), build or build_of(ALL_LEVELS), 10)


class WithoutConsistency(URPC):
    def further_loss(self, outputs, batch, clock):
        return outputs[0].new_zeros(()), {}


@pytest.mark.parametrize(
    ("channels", "classes", "expected"), [(1, 2, 5_884_504), (4, 4, 5_886_288)]
)
def test_u_net_with_three_further_heads_has_the_published_number_of_parameters(
    channels, classes, expected
):
    def build(name, network=None):
        return build_network("unet3d", {}, in_channels=channels, num_classes=classes)

    parameters = the_phase_of(urpc(build)).group.parameters

    assert sum(one.numel() for one in parameters) == expected


@pytest.mark.parametrize(
    ("name", "options"), [("transaspp", ALL_LEVELS), ("unet3d", {"width": 2, "norm": "group"}),
                          ("vnet", {"width": 2, "norm": "group"})],
)  # fmt: skip
def test_every_network_predicts_at_four_levels_the_finest_being_its_own(name, options):
    method = urpc(build_of(options, name, num_classes=3))
    for network in method.networks().values():
        network.eval()
    images = a_batch().images

    with torch.no_grad():
        outputs = method.outputs(images)

        assert [tuple(one.shape) for one in outputs] == [(4, 3, 16, 16, 16)] * 4
        assert torch.equal(outputs[0], method.networks()["student_raw"](images))


def test_the_coarsest_level_is_enlarged_from_its_own_few_voxels():
    method = urpc()

    outputs = method.outputs(a_batch().images)

    def bends(logits):
        return int((logits.diff(n=2, dim=2).abs().amax((0, 1, 3, 4)) > 1e-5).sum())

    # 16 voxels from 2: level, a ramp, level; two bends, which four second differences see.
    assert bends(outputs[3]) == 4
    assert bends(outputs[0]) == 14


def test_more_levels_than_the_network_has_are_refused():
    with pytest.raises(UsageError, match=r"this network has 3\. Set levels=3"):
        urpc(build_of(TINY))


@pytest.mark.parametrize("levels", [1, 5])
def test_fewer_than_two_levels_and_more_than_four_are_refused(levels):
    with pytest.raises(ValueError, match=f"levels is {levels}, must be 2 to 4"):
        URPCOptions(levels=levels)


def test_three_levels_are_learnt_where_the_network_has_no_more():
    method = urpc(build_of(TINY), levels=3)

    assert len(method.outputs(a_batch().images)) == 3


def test_the_supervised_loss_is_the_mean_over_levels():
    method, batch = urpc(unlabelled_weight=0.0), a_batch()
    torch.manual_seed(0)
    result = method.step(the_phase_of(method), batch, START)

    torch.manual_seed(0)
    outputs = method.outputs(batch.images)
    options = URPCOptions().loss
    losses = [supervised_loss(one[:2], batch.labels, options) for one in outputs]
    for name in ("cross_entropy", "dice", "total"):
        mean = sum(one[name].item() for one in losses) / 4
        term = "supervised" if name == "total" else name
        assert result.terms[term].item() == pytest.approx(mean, rel=1e-6)
    assert result.terms["unlabelled"] > 0
    assert result.terms["disagreement"] > 0


def test_consistency_reaches_all_levels_but_neither_average_nor_log_variance_nor_labelled_logits():
    method = urpc()
    networks = method.networks()

    loss, outputs, _ = further_loss_of(method, a_batch())

    parts = learning(networks["student_raw"], loss)
    assert parts >= {"encoder", "decoder", "segmentation_head"}
    assert "log_variance_head" not in parts
    assert not any(one.requires_grad for one in networks["student"].parameters())
    own = torch.autograd.grad(loss, list(networks["heads"].parameters()), retain_graph=True)
    assert len(own) == 6
    assert all(one.any() and one.isfinite().all() for one in own[::2])
    for gradient in torch.autograd.grad(loss, outputs):
        assert (gradient[:2] == 0).all()
        assert gradient[2:].any()


def test_all_that_learns_is_in_one_group_and_only_once():
    method = urpc()
    group = {id(one) for one in the_phase_of(method).group.parameters}
    networks = method.networks()

    learnt = [*networks["student_raw"].parameters(), *networks["heads"].parameters()]
    head = {id(one) for one in networks["student_raw"].head_parameters()}
    assert group == {id(one) for one in learnt} - head
    assert len(the_phase_of(method).group.parameters) == len(group)


def test_with_weight_zero_the_weights_are_those_without_consistency_to_the_bit():
    weights = weights_after(urpc(unlabelled_weight=0.0), a_batch())

    expected = weights_after(WithoutConsistency(URPCOptions(), build_of(ALL_LEVELS), 10), a_batch())
    other = weights_after(urpc(unlabelled_weight=1.0), a_batch())
    assert weights.keys() == {"student_raw", "student", "heads"}
    for name, values in weights.items():
        assert are_equal(values, expected[name])
        assert not are_equal(values, other[name])


def test_nothing_valid_without_labels_gives_exactly_nothing():
    batch = a_batch()
    valid = batch.valid.clone()
    valid[2:] = False

    loss, outputs, figures = further_loss_of(urpc(), replace(batch, valid=valid))

    assert loss.item() == 0
    assert figures["disagreement"].item() == 0
    assert all((one == 0).all() for one in torch.autograd.grad(loss, outputs))


def test_heads_drop_channels_only_if_asked_to():
    options = {**ALL_LEVELS, "dropout": 0}
    images = a_batch().images

    def passes(method):
        torch.manual_seed(0)
        return method.outputs(images), method.outputs(images)

    for first, other in zip(*passes(urpc(build_of(options), head_dropout=False)), strict=True):
        assert torch.equal(first, other)
    first, other = passes(urpc(build_of(options)))
    assert [torch.equal(*pair) for pair in zip(first, other, strict=True)] == [
        True, False, False, False,
    ]  # fmt: skip


def test_the_exported_student_is_a_network_without_heads_that_starts_as_in_supervised_training():
    method = urpc()
    supervised = Supervised(SupervisedOptions(), build_of(ALL_LEVELS), 10)

    for name, network in method.predictors().items():
        expected = supervised.predictors()[name].state_dict()
        assert are_equal(network.state_dict(), expected)
