"""What holds for a step of every method, whatever its loss is."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from SemiSupSegLib.losses.adaptive_threshold import ClassThresholds
from SemiSupSegLib.losses.prototypes import PrototypeContrast
from SemiSupSegLib.losses.reduction import IGNORED
from SemiSupSegLib.methods import best, copy_paste, dual_network, unimatch
from SemiSupSegLib.methods.catalogue import METHODS
from SemiSupSegLib.methods.quality_training import QUALITY_PHASE
from SemiSupSegLib.networks.quality import QualityNetwork
from Testing.every_phase import (
    ITERATIONS,
    NUM_CLASSES,
    OPTIONS,
    PHASES,
    MadeUpData,
    batch_of,
    build,
    doubled,
    heads_of,
    num_unlabelled,
    picked,
    stand_of,
)

every_phase = pytest.mark.parametrize("case", PHASES, ids=str)
AVERAGES = ("student", "teacher")
"""Networks that follow others; of them a head learns, in a phase of its own."""
LEARNING_FROM_UNLABELLED = [one for one in PHASES if one.phase in ("joint", "stage_1")]
"""Those with a loss on unlabelled patches."""


@pytest.fixture
def draws_of_a_patch(monkeypatch):
    """Make what is drawn depend on the patch, or on nothing, and not on its place in the batch."""

    def noise(images):
        return torch.sin(40 * images)

    def box(shape, device):
        mask = torch.zeros(shape, dtype=torch.bool, device=device)
        mask[2:12, 4:14, 3:13] = True
        return mask

    def boxes(self, valid):
        return box(valid.shape[1:], valid.device).expand_as(valid)

    def every_other_channel(values, rate):
        return values * (torch.arange(values.shape[1]) % 2).reshape(1, -1, 1, 1, 1)

    monkeypatch.setattr(torch, "randn_like", noise)
    for module in (copy_paste, best):
        monkeypatch.setattr(module, "draw_box", box, raising=False)
    monkeypatch.setattr(unimatch.UniMatch, "draw_boxes", boxes)
    monkeypatch.setattr(unimatch, "F", SimpleNamespace(dropout3d=every_other_channel))


def assert_equal_losses(result, other):
    assert result.terms.keys() == other.terms.keys()
    for name in result.terms:
        torch.testing.assert_close(
            other.terms[name],
            result.terms[name],
            rtol=1e-5,
            atol=1e-9,
            check_dtype=False,
            msg=lambda told, name=name: f"{name}: {told}",
        )
    torch.testing.assert_close(other.total, result.total, rtol=1e-5, atol=1e-9)


def test_the_table_of_phases_has_a_phase_of_each_kind():
    def kind(name):
        return name.rstrip("0123456789")

    for name, entry in METHODS.items():
        options = replace(entry.options(), **OPTIONS.get(name, {}))
        phases = entry.make(options, build, ITERATIONS).phases(MadeUpData())
        assert {kind(one.phase) for one in PHASES if one.method == name} == {
            kind(one.name) for one in phases if one.iterations
        }


# Who learns


@every_phase
def test_who_learns_gets_a_gradient_and_nobody_else_does(case):
    stand = stand_of(case)
    group = stand.phase.group.parameters
    learning = {id(one) for one in group}

    stand.step(batch_of(stand)).total.backward()

    assert len(learning) == len(group)
    networks = stand.method.networks()
    assert learning <= {id(one) for network in networks.values() for one in network.parameters()}
    for name, network in networks.items():
        learns = {key for key, one in network.named_parameters() if id(one) in learning}
        assert bool(learns) == (name in case.learns)
        reached = set()
        for key, one in network.named_parameters():
            if key not in learns:
                assert one.grad is None, f"{name}.{key}"
                continue
            assert one.grad is not None, f"{name}.{key}"
            assert one.grad.isfinite().all(), f"{name}.{key}"
            if one.grad.any():
                reached.add(key.split(".")[0])
        if name in AVERAGES:
            trainable = {key for key, one in network.named_parameters() if one.requires_grad}
            assert trainable == learns
        # Part by part: a layer of one ReLU may be off for every patch.
        assert reached == {key.split(".")[0] for key in learns}


@pytest.mark.parametrize("case", LEARNING_FROM_UNLABELLED, ids=str)
def test_unlabelled_patches_alone_teach_all_that_learns(case):
    stand = stand_of(case)
    batch = batch_of(stand)
    batch = replace(batch, labels=torch.full_like(batch.labels, IGNORED))

    stand.step(batch).total.backward()

    for name in case.learns:
        gradients = [one.grad for one in stand.method.networks()[name].parameters()]
        found = [one for one in gradients if one is not None]
        assert all(one.isfinite().all() for one in found)
        assert any(one.any() for one in found), name


# What makes no difference


@every_phase
def test_the_order_of_patches_makes_no_difference(case, draws_of_a_patch):
    stand = stand_of(case)
    batch = doubled(stand, batch_of(stand, labelled=3, unlabelled=3))
    # Where patches exchange boxes, a patch's partner is the one before it, or the one of the
    # same number of the other kind: all move on by one place, and every pair stays a pair.
    labelled = [2, 0, 1] if case.mixes else [2, 1, 0]
    unlabelled = [2, 0, 1] if case.mixes else [1, 0, 2]
    if stand.phase.name == QUALITY_PHASE:
        labelled, unlabelled = [], [3, 1, 5, 0, 4, 2]

    result = stand.step(batch)
    other = stand.step(
        picked(batch, labelled[: batch.num_labelled], unlabelled[: num_unlabelled(batch)])
    )

    assert_equal_losses(result, other)


@every_phase
def test_every_patch_twice_is_the_same_loss(case, draws_of_a_patch):
    stand = stand_of(case)
    batch = doubled(stand, batch_of(stand))
    labelled, unlabelled = range(batch.num_labelled), range(num_unlabelled(batch))

    result = stand.step(batch)
    # One after the other, not side by side: so partners are the same.
    other = stand.step(picked(batch, [*labelled] * 2, [*unlabelled] * 2))

    assert_equal_losses(result, other)


ORDER = [0, 2, 3, 1]
"""Of the classes in the other network; not its own inverse."""


def relabel(label):
    place = torch.full((256,), IGNORED, dtype=torch.long)
    place[torch.tensor(ORDER)] = torch.arange(NUM_CLASSES)
    return place[label.long()].to(label.dtype)


def relabel_batch(batch, *, masks):
    maps = dict(batch.maps)
    if masks:
        foreground = [place - 1 for place in ORDER[1:]]
        maps = {name: values[:, foreground] for name, values in maps.items()}
        return replace(batch, images=batch.images[:, ORDER], maps=maps)
    if "pseudo_label" in maps:
        maps["pseudo_label"] = relabel(maps["pseudo_label"])
    return replace(batch, labels=relabel(batch.labels), maps=maps)


@torch.no_grad()
def relabel_networks(method):
    """Exchange classes wherever a network, or what stands beside it, tells them apart."""
    for network in method.networks().values():
        for head in heads_of(network):
            head.weight.copy_(head.weight[ORDER])
            head.bias.copy_(head.bias[ORDER])
        for module in network.modules():
            if isinstance(module, ClassThresholds):
                module.confidence.copy_(module.confidence[ORDER])
            elif isinstance(module, PrototypeContrast):
                module.prototypes.copy_(module.prototypes[ORDER])
    if getattr(method, "quality", None) is None:
        return
    judge = method.quality.network
    assert isinstance(judge, QualityNetwork)
    # It sees an image and the masks of the foreground, and judges these.
    judge.levels[0].weight.copy_(judge.levels[0].weight[:, ORDER])
    foreground = [place - 1 for place in ORDER[1:]]
    judge.head[-1].weight.copy_(judge.head[-1].weight[foreground])
    judge.head[-1].bias.copy_(judge.head[-1].bias[foreground])
    method.quality.weights = {
        name: [weights[place] for place in ORDER]
        for name, weights in method.quality.weights.items()
    }


@every_phase
def test_the_order_of_foreground_classes_makes_no_difference(case, draws_of_a_patch, monkeypatch):
    def first_of_block(label, num_classes):
        return label[:, ::2, ::2, ::2]

    # Of equally frequent classes of a block the one of the lowest index counts: somebody must.
    monkeypatch.setattr(dual_network, "block_label", first_of_block)
    stand = stand_of(case)
    batch = doubled(stand, batch_of(stand))

    result = stand.step(batch)
    relabel_networks(stand.method)
    other = stand.step(relabel_batch(batch, masks=stand.phase.name == QUALITY_PHASE))

    assert_equal_losses(result, other)


# Terms of weight 0

WITHOUT = {
    "quality_guided": {"unlabelled_weight": 0.0, "quality_weight": 0.0},
    "curriculum": {"lambda_high": 0.0, "lambda_low": 0.0},
}
"""What leaves the unlabelled patches out; of the others, `unlabelled_weight`."""
ALONE = [
    one
    for one in LEARNING_FROM_UNLABELLED
    if one.method not in ("bcp", "best", "curriculum", "mc_net", "urpc")
]
"""Those whose network learns from labelled patches as in supervised training."""
BESIDE = [one for one in LEARNING_FROM_UNLABELLED if one not in ALONE and one.method != "mc_net"]
"""The others; in MC-Net decoders agree on labelled patches, too (test_method_mc_net.py)."""


def without(case):
    return stand_of(case, dropout=True, **WITHOUT.get(case.method, {"unlabelled_weight": 0.0}))


def gradients_of(stand, batch):
    """Return the gradients of a step, of the network that is exported at the end."""
    stand.step(batch).total.backward()
    parameters = stand.method.networks()["student_raw"].named_parameters()
    return {name: one.grad for name, one in parameters if one.grad is not None}


def are_equal(gradients, others):
    """Return whether two steps are the same to the bit."""
    assert gradients.keys() == others.keys()
    return all(torch.equal(one, others[name]) for name, one in gradients.items())


@pytest.mark.parametrize("case", ALONE, ids=str)
def test_with_weight_zero_a_step_is_that_of_supervised_training_to_the_bit(case):
    (supervised,) = (one for one in PHASES if str(one) == "supervised-supervised")
    # The loss on labels counts as much there as the method has it.
    plain = stand_of(supervised, dropout=True, loss=METHODS[case.method].options().loss)
    weighed = stand_of(case, dropout=True)
    batch = batch_of(weighed)
    if case.method == "unimatch":
        # Its network sees the labelled patches by themselves.
        expected = gradients_of(plain, picked(batch, range(batch.num_labelled), []))
    else:
        # It sees unlabelled patches, too, which draw their share of dropout.
        raw = plain.method._raw
        plain.method._raw = lambda images: raw(images)[: batch.num_labelled]
        plain.method.networks = lambda: {"student_raw": raw}
        expected = gradients_of(plain, batch)

    assert are_equal(gradients_of(without(case), batch), expected)
    assert not are_equal(gradients_of(weighed, batch), expected)


@pytest.mark.parametrize("case", BESIDE, ids=str)
def test_with_weight_zero_a_step_is_that_without_valid_unlabelled_voxels_to_the_bit(case):
    batch = batch_of(stand_of(case))
    valid = batch.valid.clone()
    valid[batch.num_labelled :] = False

    expected = gradients_of(stand_of(case, dropout=True), replace(batch, valid=valid))

    assert are_equal(gradients_of(without(case), batch), expected)
    assert not are_equal(gradients_of(stand_of(case, dropout=True), batch), expected)


@pytest.mark.parametrize(
    ("method", "zero", "absent"),
    [
        ("quality_guided", {"quality_weight": 0.0}, {"least_voxels": 10**6}),
        ("curriculum", {"lambda_low": 0.0}, {"low_mode": "ignore"}),
    ],
    ids=str,
)
def test_a_single_term_of_weight_zero_changes_nothing_to_the_bit(method, zero, absent):
    case = next(one for one in LEARNING_FROM_UNLABELLED if one.method == method)
    batch = batch_of(stand_of(case))

    expected = gradients_of(stand_of(case, **absent), batch)

    assert are_equal(gradients_of(stand_of(case, **zero), batch), expected)
    assert not are_equal(gradients_of(stand_of(case), batch), expected)
