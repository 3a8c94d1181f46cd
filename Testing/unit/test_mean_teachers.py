"""Mean Teacher and UA-MT: the loss against numbers worked out by hand, and who learns."""

import math

import pytest
import torch

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.losses.consistency import input_noise, squared_difference
from SemiSupSegLib.methods.mean_teacher import MeanTeacher, MeanTeacherOptions
from SemiSupSegLib.methods.protocol import Batch, Clock, NetworkOptions, ParameterGroup, Phase
from SemiSupSegLib.methods.uamt import UAMT, UAMTOptions
from SemiSupSegLib.networks.catalogue import build_network
from Testing.method_steps import a_visible_batch as a_batch

STUDENT = [0.9, 0.8, 0.4, 0.3, 0.2, 0.1, 0.1, 0.2]
TEACHER = [1.0, 0.6, 0.5, 0.3, 0.2, 0.1, 0.3, 0.0]
NETWORK = NetworkOptions(name="transaspp", options={"width": 4, "lite": True})


def build(name, network=None):
    torch.manual_seed(len(name))
    chosen = network or NETWORK
    return build_network(chosen.name, chosen.options, in_channels=1, num_classes=2)


def two_classes(foreground):
    values = torch.tensor(foreground, dtype=torch.float64).reshape(1, 2, 2, 2)
    return torch.stack([1 - values, values], 1)


def clock(iteration):
    return Clock(phase_iteration=iteration, iteration=iteration)


def a_phase(method):
    group = ParameterGroup(parameters=list(method.networks()["student_raw"].parameters()))
    return Phase(name="joint", iterations=100, group=group, labelled_per_batch=1)


def everywhere():
    return torch.ones(1, 2, 2, 2, dtype=torch.bool)


def test_the_squared_difference_is_averaged_over_classes_and_voxels():
    loss = squared_difference(two_classes(STUDENT).log(), two_classes(TEACHER), everywhere())

    # (.1² + .2² + .1² + .2² + .2²) / 8, the same for both classes.
    assert float(loss) == pytest.approx(0.14 / 8)


def test_voxels_outside_the_mask_do_not_count_and_an_empty_mask_is_zero():
    logits = two_classes(STUDENT).log().requires_grad_()
    mask = torch.zeros(1, 2, 2, 2, dtype=torch.bool)

    empty = squared_difference(logits, two_classes(TEACHER), mask)
    empty.backward()
    mask[0, 0, 0, 1] = True
    one = squared_difference(logits, two_classes(TEACHER), mask)

    assert float(empty.detach()) == 0
    assert not logits.grad.any()
    assert one.item() == pytest.approx(0.2**2)


def test_noise_is_cut_off_at_twice_its_deviation():
    torch.manual_seed(0)
    noise = input_noise(torch.zeros(40, 40, 40), 0.1)

    assert float(noise.abs().max()) == pytest.approx(0.2)
    assert float(noise.std()) == pytest.approx(0.0959, abs=0.001)
    assert float((noise.abs() == noise.abs().max()).float().mean()) == pytest.approx(
        0.0455, abs=0.003
    )


def test_equal_networks_without_noise_and_dropout_agree():
    method = MeanTeacher(MeanTeacherOptions(network=NETWORK, noise=0), build, 100)
    batch = a_batch()
    method._raw.eval()
    with torch.no_grad():
        loss, _ = method.unlabelled_loss(method._raw(batch.images[1:]), batch, clock(5))

    assert float(loss) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("method_class", [MeanTeacher, UAMT])
def test_the_network_learns_and_its_teacher_does_not(method_class):
    options = {MeanTeacher: MeanTeacherOptions, UAMT: UAMTOptions}[method_class]
    method = method_class(options(network=NETWORK, unlabelled_weight=1), build, 100)
    batch = a_batch()
    method._raw.train()
    logits = method._raw(batch.images)

    loss, _ = method.unlabelled_loss(logits[1:], batch, clock(99))
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    loss.backward()

    assert gradient[1:].abs().sum() > 0
    assert not gradient[:1].any()
    assert all(one.grad is None for one in method._average.parameters())
    assert method._raw.segmentation_head.weight.grad.abs().sum() > 0


def test_the_first_update_makes_the_teacher_the_student():
    method = MeanTeacher(MeanTeacherOptions(network=NETWORK), build, 100)
    with torch.no_grad():
        for one in method._raw.parameters():
            one.add_(1)

    method.after_step(a_phase(method), clock(0))

    for one, other in zip(method._raw.parameters(), method._average.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_weight_climbs_in_forty_stairs_to_the_end():
    options = MeanTeacherOptions(network=NETWORK)
    method = MeanTeacher(options, build, 6000)

    assert method.weight(clock(0)) == pytest.approx(0.1 * math.exp(-5))
    assert method.weight(clock(149)) == method.weight(clock(0))
    assert method.weight(clock(150)) > method.weight(clock(149))
    assert method.weight(clock(3000)) == pytest.approx(0.1 * math.exp(-5 / 4))
    assert method.weight(clock(6000)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("iteration", "sure", "loss"),
    [
        # H(0) = 0.75 ln 2 = .5199 + a first 0.0017: voxels 0, 4, 5, 7 have less entropy.
        (0, 4, (0.1**2 + 0 + 0 + 0.2**2) / 4),
        # H(T) = ln 2, strictly: all but voxel 2, whose entropy is ln 2.
        (100, 7, (0.1**2 + 0.2**2 + 0 + 0 + 0 + 0.2**2 + 0.2**2) / 7),
    ],
)
def test_doubtful_voxels_are_left_out_by_a_rising_threshold(monkeypatch, iteration, sure, loss):
    method = UAMT(UAMTOptions(network=NETWORK), build, 100)
    teacher = two_classes(TEACHER)
    monkeypatch.setattr(method, "mean_of_passes", lambda images: teacher)
    monkeypatch.setattr(method, "teach", lambda images: teacher)
    batch = Batch(
        images=torch.zeros(1, 1, 2, 2, 2),
        labels=torch.zeros(0, 2, 2, 2, dtype=torch.long),
        valid=everywhere(),
        maps={},
        case_ids=("x",),
    )

    found, figures = method.unlabelled_loss(two_classes(STUDENT).log(), batch, clock(iteration))

    assert float(figures["sure_share"]) == pytest.approx(sure / 8)
    assert float(found) == pytest.approx(loss)


@pytest.mark.parametrize(
    ("classes", "start", "half", "end"),
    [(2, 0.5210280, 0.5695079, 0.6931472), (4, 1.0420560, 1.1390158, 1.3862944)],
)
def test_the_threshold_is_three_quarters_of_the_largest_entropy_and_rises_to_it(
    classes, start, half, end
):
    method = UAMT(UAMTOptions(network=NETWORK), build, 100)

    found = [method.threshold(clock(t), classes) for t in (0, 50, 100)]

    assert found == pytest.approx([start, half, end], abs=1e-6)


def test_passes_are_averaged_and_equal_without_noise_and_dropout():
    without = NetworkOptions(name="transaspp", options={**NETWORK.options, "dropout": 1e-9})
    options = UAMTOptions(network=without, noise=0, passes=3)
    method = UAMT(options, lambda name, network=None: build(name, without), 100)
    images = a_batch().images[1:]

    mean = method.mean_of_passes(images)

    with torch.no_grad():
        single = method._average(images).softmax(1)
    torch.testing.assert_close(mean, single, rtol=1e-4, atol=1e-5)


def test_the_teacher_stays_in_eval_mode():
    method = UAMT(UAMTOptions(network=NETWORK), build, 100)

    method.mean_of_passes(a_batch().images[1:])

    assert not any(module.training for module in method._average.modules())


def test_a_network_without_dropout_is_refused():
    network = NetworkOptions(name="vnet", options={"width": 4, "dropout": False})

    with pytest.raises(UsageError, match="no dropout"):
        UAMT(UAMTOptions(network=network), lambda name, one=None: build(name, network), 10)


@pytest.mark.parametrize("method_class", [MeanTeacher, UAMT])
def test_nothing_valid_is_exactly_zero(method_class):
    options = {MeanTeacher: MeanTeacherOptions, UAMT: UAMTOptions}[method_class]
    method = method_class(options(network=NETWORK), build, 100)
    batch = a_batch()
    batch.valid[1:] = False
    logits = method._raw(batch.images[1:])

    loss, _ = method.unlabelled_loss(logits, batch, clock(50))
    loss.backward()

    assert float(loss.detach()) == 0
    assert all(one.grad is None or not one.grad.any() for one in method._raw.parameters())
