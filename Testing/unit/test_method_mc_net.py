"""MC-Net+ in single steps: what the decoders learn, and what is exported (methods §12)."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from SemiSupSegLib.losses.mutual import mutual_consistency
from SemiSupSegLib.losses.supervised import supervised_loss
from SemiSupSegLib.methods.mc_net import MCNet, MCNetOptions
from SemiSupSegLib.methods.protocol import Clock
from SemiSupSegLib.methods.supervised import Supervised, SupervisedOptions
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.networks.upsampling import Resize
from Testing.method_steps import (
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


def mc_net(build=None, **changes):
    return MCNet(MCNetOptions(**changes), build or build_of(), 10)


class WithoutConsistency(MCNet):
    def further_loss(self, outputs, batch, clock):
        return outputs[0].new_zeros(()), {}


@pytest.mark.parametrize(("decoders", "millions"), [(2, 12.35), (3, 15.25)])
def test_v_net_with_further_decoders_has_the_published_number_of_parameters(decoders, millions):
    def build(name, network=None):
        return build_network("vnet", {"norm": "batch"}, in_channels=1, num_classes=2)

    parameters = the_phase_of(mc_net(build, decoders=decoders)).group.parameters

    assert round(sum(one.numel() for one in parameters) / 1e6, 2) == millions


def ways_of_growing(decoder):
    ways = {one.kind for one in decoder.modules() if isinstance(one, Resize)}
    if any(isinstance(one, nn.ConvTranspose3d) for one in decoder.modules()):
        ways.add("transpose")
    return ways


@pytest.mark.parametrize(
    ("name", "options", "others"),
    [
        ("transaspp", TINY, ["transpose", "nearest"]),
        ("transaspp", {**TINY, "up": "transpose"}, ["trilinear", "nearest"]),
        ("vnet", {"width": 2, "norm": "group"}, ["trilinear", "nearest"]),
        ("unet3d", {"width": 2, "norm": "group"}, ["transpose", "nearest"]),
    ],
)
def test_the_decoders_of_every_network_grow_maps_in_three_ways(name, options, others):
    method = mc_net(build_of(options, name, num_classes=3))
    networks = method.networks()
    for network in networks.values():
        network.eval()
    images = a_batch().images

    assert [ways_of_growing(one) for one in networks["decoders"]] == [{one} for one in others]
    with torch.no_grad():
        outputs = method.outputs(images)
        assert [tuple(one.shape) for one in outputs] == [(4, 3, 16, 16, 16)] * 3
        assert torch.equal(outputs[0], networks["student_raw"](images))
        assert not torch.equal(outputs[0], outputs[1])
        assert not torch.equal(outputs[1], outputs[2])


def test_two_decoders_are_mc_net():
    method = mc_net(decoders=2)

    assert len(method.outputs(a_batch().images)) == 2
    assert the_phase_of(method).passes_per_patch == 6
    assert the_phase_of(mc_net()).passes_per_patch == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoders": 4}, "decoders is 4, must be 2 or 3"),
        ({"temperature": 0.0}, r"temperature is 0.0, must be positive"),
        ({"unlabelled_weight": -1.0}, "unlabelled_weight is -1.0"),
    ],
)
def test_wrong_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MCNetOptions(**changes)


def test_the_supervised_loss_is_the_mean_over_decoders():
    method, batch = mc_net(), a_batch()
    torch.manual_seed(0)
    result = method.step(the_phase_of(method), batch, START)

    torch.manual_seed(0)
    outputs = method.outputs(batch.images)
    options = MCNetOptions().loss
    losses = [supervised_loss(one[:2], batch.labels, options)["total"] for one in outputs]
    mean = sum(one.item() for one in losses) / 3
    assert result.terms["supervised"].item() == pytest.approx(mean, rel=1e-6)
    # The weight climbs to 1 over 4 of the 10 updates, and starts at exp(−5).
    weighted = result.terms["unlabelled"].item() * 0.0067379
    assert result.total.item() == pytest.approx(mean + weighted, rel=1e-5)
    after = Clock(phase_iteration=4, iteration=4)
    assert method.weight(after) == 1


def test_consistency_reaches_all_decoders_on_all_patches_but_not_the_log_variance_or_the_average():
    method = mc_net()
    networks = method.networks()

    loss, outputs, _ = further_loss_of(method, a_batch())

    parts = learning(networks["student_raw"], loss)
    assert parts >= {"encoder", "pyramid", "transformer", "decoder", "segmentation_head"}
    assert "log_variance_head" not in parts
    assert not any(one.requires_grad for one in networks["student"].parameters())
    assert learning(networks["decoders"], loss) == {"0", "1"}
    for gradient in torch.autograd.grad(loss, outputs):
        assert all(one.any() for one in gradient)


@pytest.mark.parametrize("detach_sharp", [True, False])
def test_sharpening_is_as_the_options_say(detach_sharp):
    torch.manual_seed(0)
    outputs = [torch.randn(4, 2, 16, 16, 16, requires_grad=True) for _ in range(2)]
    batch = a_batch()
    method = mc_net(decoders=2, temperature=0.4, detach_sharp=detach_sharp)

    loss, _ = method.further_loss(outputs, batch, START)

    expected = mutual_consistency(outputs, batch.valid, temperature=0.4, detach_sharp=detach_sharp)
    other = mutual_consistency(outputs, batch.valid, temperature=0.4, detach_sharp=not detach_sharp)
    (own, theirs, not_theirs) = (
        torch.autograd.grad(one, outputs[0])[0] for one in (loss, expected, other)
    )
    assert torch.equal(loss, expected)
    assert torch.equal(own, theirs)
    assert not torch.allclose(own, not_theirs)


def test_with_weight_zero_the_weights_are_those_without_consistency_to_the_bit():
    weights = weights_after(mc_net(unlabelled_weight=0.0), a_batch())

    expected = weights_after(WithoutConsistency(MCNetOptions(), build_of(), 10), a_batch())
    other = weights_after(mc_net(unlabelled_weight=1.0), a_batch())
    assert weights.keys() == {"student_raw", "student", "decoders"}
    for name, values in weights.items():
        assert are_equal(values, expected[name])
        assert not are_equal(values, other[name])


def test_nothing_valid_gives_exactly_nothing():
    batch = a_batch()

    loss, outputs, _ = further_loss_of(
        mc_net(), replace(batch, valid=torch.zeros_like(batch.valid))
    )

    assert loss.item() == 0
    assert all((one == 0).all() for one in torch.autograd.grad(loss, outputs))


def test_all_that_learns_is_in_one_group_and_only_once():
    method = mc_net()
    parameters = the_phase_of(method).group.parameters
    networks = method.networks()

    learnt = [*networks["student_raw"].parameters(), *networks["decoders"].parameters()]
    head = {id(one) for one in networks["student_raw"].head_parameters()}
    assert {id(one) for one in parameters} == {id(one) for one in learnt} - head
    assert len(parameters) == len({id(one) for one in parameters})


def test_the_exported_student_has_one_decoder_and_starts_as_in_supervised_training():
    method = mc_net()
    supervised = Supervised(SupervisedOptions(), build_of(), 10)

    for name, network in method.predictors().items():
        expected = supervised.predictors()[name].state_dict()
        assert are_equal(network.state_dict(), expected)
