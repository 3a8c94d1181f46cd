"""CPS and cross teaching: who learns from whom, and what is worked out by hand (methods §7)."""

import math

import pytest
import torch

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.losses.pseudo_supervision import hard_label, pseudo_supervision
from SemiSupSegLib.losses.supervised import supervised_loss
from SemiSupSegLib.methods.cps import CPS, CPSOptions
from SemiSupSegLib.methods.cross_teaching import CrossTeaching, CrossTeachingOptions
from SemiSupSegLib.methods.protocol import Batch, Clock, NetworkOptions, ParameterGroup, Phase
from SemiSupSegLib.methods.supervised import Supervised, SupervisedOptions
from SemiSupSegLib.methods.two_networks import Output
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.networks.unet3d import UNet3D
from SemiSupSegLib.networks.vnet import VNet
from SemiSupSegLib.options import from_json
from SemiSupSegLib.training.trainer import build_optimizer
from Testing.method_steps import a_visible_batch as a_batch

FIRST = [0.9, 0.8, 0.4, 0.3, 0.2, 0.1, 0.1, 0.2]
SECOND = [1.0, 0.6, 0.5, 0.3, 0.2, 0.1, 0.3, 0.0]
NETWORK = NetworkOptions(
    name="vnet", options={"width": 2, "norm": "group", "log_variance_head": True}
)
OTHER = NetworkOptions(name="unet3d", options={"width": 2, "norm": "group"})


@pytest.fixture(autouse=True)
def one_thread():
    """Several processes that wait for each other's threads take fifty times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(name, network=None):
    torch.manual_seed(len(name))
    chosen = network or NETWORK
    return build_network(chosen.name, chosen.options, in_channels=1, num_classes=2)


def cps(**options):
    return CPS(CPSOptions(network=NETWORK, **options), build, 100)


def cross_teaching(**options):
    return CrossTeaching(CrossTeachingOptions(network=NETWORK, second=OTHER, **options), build, 100)


def clock(iteration):
    return Clock(phase_iteration=iteration, iteration=iteration)


def a_phase(method):
    return Phase(name="joint", iterations=100, group=method.parameter_group(), labelled_per_batch=1)


def logits_of(foreground):
    values = torch.tensor(foreground, dtype=torch.float64).reshape(1, 2, 2, 2)
    return torch.stack([1 - values, values], 1).clamp(min=1e-300).log()


def worked_outputs():
    """Logits of methods §2 and §4, behind those of a labelled patch."""
    return tuple(
        Output(features=torch.zeros(2, 1, 2, 2, 2), logits=logits.requires_grad_())
        for logits in (
            torch.cat([torch.full((1, 2, 2, 2, 2), 7.0), logits_of(values)])
            for values in (FIRST, SECOND)
        )
    )


def worked_batch(valid=True):
    return Batch(
        images=torch.zeros(2, 1, 2, 2, 2),
        labels=torch.ones(1, 2, 2, 2, dtype=torch.long),
        valid=torch.full((2, 2, 2, 2), valid),
        maps={},
        case_ids=("a", "b"),
    )


def cross_entropy_by_hand(foreground, label):
    return -sum(math.log(p if y else 1 - p) for p, y in zip(foreground, label, strict=True)) / len(
        label
    )


def test_the_losses_of_both_networks_are_added():
    from_first = [1, 1, 0, 0, 0, 0, 0, 0]
    from_second = [1, 1, 0, 0, 0, 0, 0, 0]

    loss, _ = cps().cross_loss(worked_outputs(), worked_batch(), clock(0))

    of_first = cross_entropy_by_hand(FIRST, from_second)
    assert of_first == pytest.approx(0.2316266, abs=1e-7)
    assert loss.item() == pytest.approx(of_first + cross_entropy_by_hand(SECOND, from_first))


def test_cross_teaching_compares_by_dice():
    first, second = worked_outputs()

    loss, _ = cross_teaching().cross_loss((first, second), worked_batch(), clock(0))

    of_second = pseudo_supervision(logits_of(SECOND), hard_label(logits_of(FIRST), valid()), "dice")
    assert loss.item() == pytest.approx(0.0730396 + of_second.item(), abs=1e-7)


def valid():
    return torch.ones(1, 2, 2, 2, dtype=torch.bool)


@pytest.mark.parametrize("make", [cps, cross_teaching])
def test_swapping_the_networks_swaps_their_losses(make):
    outputs = worked_outputs()

    one, _ = make().cross_loss(outputs, worked_batch(), clock(0))
    other, _ = make().cross_loss(outputs[::-1], worked_batch(), clock(0))

    assert one.item() == pytest.approx(other.item())


@pytest.mark.parametrize(("make", "kind"), [(cps, "ce"), (cross_teaching, "dice")])
def test_a_network_learns_by_its_own_loss_alone_and_on_unlabelled_patches(make, kind):
    first, second = worked_outputs()

    loss, _ = make().cross_loss((first, second), worked_batch(), clock(0))
    found = torch.autograd.grad(loss, (first.logits, second.logits))

    for gradient, own, giver in zip(found, (FIRST, SECOND), (SECOND, FIRST), strict=True):
        logits = logits_of(own).requires_grad_()
        alone = pseudo_supervision(logits, hard_label(logits_of(giver), valid()), kind)
        (expected,) = torch.autograd.grad(alone, logits)
        torch.testing.assert_close(gradient[1:], expected)
        assert not gradient[:1].any()


def test_equal_confident_networks_learn_nothing_from_each_other():
    logits = torch.cat([logits_of(FIRST), 200 * (logits_of(FIRST) > math.log(0.5)) - 100.0])
    output = Output(features=logits, logits=logits.requires_grad_())

    loss, _ = cps().cross_loss((output, output), worked_batch(), clock(0))
    loss.backward()

    assert loss.item() == pytest.approx(0, abs=1e-30)
    assert logits.grad.abs().max() < 1e-30


def test_voxels_of_which_the_other_network_is_not_sure_are_left_out():
    method = cps(min_confidence=0.75)

    loss, _ = method.cross_loss(worked_outputs(), worked_batch(), clock(0))

    # Sure are voxels 0, 4, 5, 7 of the second network, and 0, 1, 4, 5, 6, 7 of the first.
    of_first = -sum(map(math.log, (0.9, 0.8, 0.9, 0.8))) / 4
    of_second = -sum(map(math.log, (1.0, 0.6, 0.8, 0.9, 0.7, 1.0))) / 6
    assert loss.item() == pytest.approx(of_first + of_second)


@pytest.mark.parametrize("make", [cps, cross_teaching])
def test_nothing_valid_is_exactly_zero(make):
    first, second = worked_outputs()

    loss, _ = make().cross_loss((first, second), worked_batch(valid=False), clock(0))
    loss.backward()

    assert loss.item() == 0
    assert not first.logits.grad.any()
    assert not second.logits.grad.any()


@pytest.mark.parametrize("make", [cps, cross_teaching])
def test_both_networks_learn_and_their_averages_do_not(make):
    method = make(unlabelled_weight=1)

    method.step(a_phase(method), a_batch(), clock(99)).total.backward()

    networks = method.networks()
    for name in ("student_raw", "teacher_raw"):
        assert networks[name].segmentation_head.weight.grad.abs().sum() > 0
    for name in ("student", "teacher"):
        assert all(one.grad is None for one in networks[name].parameters())


def test_networks_of_one_architecture_start_from_other_weights():
    networks = cps().networks()

    assert not torch.equal(
        networks["student_raw"].segmentation_head.weight,
        networks["teacher_raw"].segmentation_head.weight,
    )


def test_the_first_network_is_that_of_supervised_training_and_the_second_may_be_another():
    asked = []

    def asking(name, network=None):
        asked.append((name, network))
        return build(name, network)

    options = CrossTeachingOptions(network=NETWORK, second=OTHER)
    networks = CrossTeaching(options, asking, 10).networks()

    assert asked == [("teacher", None), ("second", OTHER)]
    assert isinstance(networks["student"], VNet)
    assert isinstance(networks["teacher"], UNet3D)


def test_the_predictors_are_averages_of_both_networks():
    method = cross_teaching()
    networks, predictors = method.networks(), method.predictors()
    with torch.no_grad():
        for name in ("student_raw", "teacher_raw"):
            networks[name].segmentation_head.weight.add_(1)

    method.after_step(a_phase(method), clock(0))

    assert list(predictors) == ["student", "teacher", "student_raw"]
    for name in ("student", "teacher"):
        assert predictors[name] is networks[name]
        for one, other in zip(
            networks[f"{name}_raw"].parameters(), predictors[name].parameters(), strict=True
        ):
            assert torch.equal(one, other)


def test_what_is_learnt_is_both_networks_without_their_variance_heads():
    method = cps()
    networks = method.networks()
    learning = {id(one) for one in method.parameter_group().parameters}

    for name in ("student_raw", "teacher_raw"):
        heads = {id(one) for one in networks[name].head_parameters()}
        own = {id(one) for one in networks[name].parameters()}
        assert heads
        assert learning & own == own - heads
    assert not learning & {id(one) for one in networks["teacher"].parameters()}


def test_a_step_is_both_supervised_losses_and_the_weighted_cross_loss():
    torch.manual_seed(0)
    method, batch = cps(), a_batch()
    for network in method.networks().values():
        network.eval()

    result = method.step(a_phase(method), batch, clock(50))

    networks = method.networks()
    outputs = [
        Output(features=batch.images, logits=networks[name](batch.images))
        for name in ("student_raw", "teacher_raw")
    ]
    alone = [
        supervised_loss(one.logits[:1], batch.labels, CPSOptions().loss)["total"] for one in outputs
    ]
    cross, _ = method.cross_loss(tuple(outputs), batch, clock(50))
    weight = 0.1 * math.exp(-5 / 4)
    torch.testing.assert_close(result.total, alone[0] + alone[1] + weight * cross)
    torch.testing.assert_close(result.terms["supervised"], alone[0].detach())
    torch.testing.assert_close(result.terms["second_supervised"], alone[1].detach())
    same = outputs[0].logits[1:].argmax(1) == outputs[1].logits[1:].argmax(1)
    assert float(result.terms["agreed_share"]) == pytest.approx(float(same.float().mean()))


def trained(method, batch, steps=3):
    """Return the first network after some updates as the trainer makes them."""
    optimizer = build_optimizer(method.parameter_group())
    for network in ("student_raw", "teacher_raw"):
        if network in method.networks():
            method.networks()[network].train()
    for number in range(steps):
        torch.manual_seed(number)
        result = method.step(None, batch, clock(number))
        optimizer.zero_grad()
        result.total.backward()
        optimizer.step()
    return method.networks()["student_raw"].state_dict()


class Alone(Supervised):
    def parameter_group(self):
        return ParameterGroup(parameters=list(self._raw.parameters()))


@pytest.mark.parametrize("make", [cps, cross_teaching])
def test_without_weight_the_first_network_learns_as_if_it_were_alone_to_the_bit(make):
    labelled = a_batch(labelled=2, unlabelled=0)

    loss = CPSOptions().loss
    alone = trained(Alone(SupervisedOptions(network=NETWORK, loss=loss), build, 100), labelled)
    beside = trained(make(unlabelled_weight=0), labelled)

    assert all(torch.equal(value, beside[name]) for name, value in alone.items())


@pytest.mark.parametrize("make", [cps, cross_teaching])
def test_without_weight_unlabelled_patches_change_nothing_to_the_bit(make):
    batch = a_batch(labelled=2, unlabelled=2)
    others = batch.images.clone()
    others[2:] = torch.randn(2, 1, 16, 16, 16)
    other = Batch(
        images=others, labels=batch.labels, valid=batch.valid, maps={}, case_ids=batch.case_ids
    )

    one = trained(make(unlabelled_weight=0), batch)
    another = trained(make(unlabelled_weight=0), other)
    used = trained(make(unlabelled_weight=1, rampup_fraction=0), other)

    assert all(torch.equal(value, another[name]) for name, value in one.items())
    assert not all(torch.equal(value, used[name]) for name, value in one.items())


def test_a_confidence_outside_its_range_is_refused():
    with pytest.raises(UsageError, match=r"min_confidence is 1\.5, must be in"):
        from_json(CPSOptions, {"min_confidence": 1.5})


def test_a_loss_that_is_not_known_is_refused():
    with pytest.raises(UsageError, match="must be one of ce, dice"):
        from_json(CrossTeachingOptions, {"pseudo_loss": "mse"})
