"""The dual network: each term alone reaches what it should, both ways (methods §10.3, §15)."""

import pytest
import torch

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.methods.dual_network import DualNetwork, DualNetworkOptions
from SemiSupSegLib.methods.protocol import Clock, NetworkOptions, Phase
from SemiSupSegLib.methods.two_networks import Output
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.options import from_json
from Testing.method_steps import a_visible_batch as a_batch

NETWORK = NetworkOptions(name="vnet", options={"width": 2, "norm": "group", "dropout": False})
OTHER = NetworkOptions(name="unet3d", options={"width": 4, "norm": "group", "dropout": 0.0})
TERMS = ("cross", "divergence", "filtered", "contrast")
WEIGHTS = ("cross_weight", "divergence_weight", "filter_weight", "contrast_weight")


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
    return build_network(chosen.name, chosen.options, in_channels=1, num_classes=3)


def dual_network(**options):
    return DualNetwork(DualNetworkOptions(network=NETWORK, second=OTHER, **options), build, 100)


def only(weight):
    """A method of which one term alone has a weight, after an update that made prototypes."""
    chosen = {**dict.fromkeys(WEIGHTS, 0.0), weight: 1.0}
    method = dual_network(**chosen, unlabelled_weight=1, rampup_fraction=0)
    method.step(a_phase(method), a_batch(), clock(0))
    method.after_step(a_phase(method), clock(0))
    return method


def clock(iteration):
    return Clock(phase_iteration=iteration, iteration=iteration)


def a_phase(method):
    return Phase(name="joint", iterations=100, group=method.parameter_group(), labelled_per_batch=1)


def outputs_of(method, batch):
    """What both networks make of the patches, cut off from them."""
    networks = method.networks()
    found = []
    for name in ("student_raw", "teacher_raw"):
        with torch.no_grad():
            features = networks[name].features(batch.images)
            logits = networks[name].segment(features)
        found.append(
            Output(features=features.requires_grad_(), logits=logits.detach().requires_grad_())
        )
    return tuple(found)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_each_term_alone_teaches_both_networks(weight):
    method, batch = only(weight), a_batch()
    networks = method.networks()

    outputs = [
        Output(features=features, logits=one.segment(features))
        for one in (networks["student_raw"], networks["teacher_raw"])
        for features in [one.features(batch.images)]
    ]
    loss, _ = method.cross_loss(tuple(outputs), batch, clock(50))
    loss.backward()

    assert loss.item() > 0
    for name in ("student_raw", "teacher_raw"):
        gradients = {key: one.grad for key, one in networks[name].named_parameters()}
        assert all(one is None or torch.isfinite(one).all() for one in gradients.values())
        first = next(iter(gradients.values()))
        assert first is not None
        assert first.abs().sum() > 0
        # The contrast looks at features: the head of the classes is behind them.
        head = gradients["segmentation_head.weight"]
        assert (head is None) == (weight == "contrast_weight")
        assert all(one.grad is None for one in networks[name[:-4]].parameters())


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_term_of_one_network_does_not_flow_into_the_other(weight):
    method, batch = only(weight), a_batch()
    first, second = outputs_of(method, batch)
    name = TERMS[WEIGHTS.index(weight)]

    for place, (learner, giver) in enumerate([(first, second), (second, first)]):
        term = method._learn_from(learner, giver, place, batch, clock(50))[name]
        inputs = (learner.features, learner.logits, giver.features, giver.logits)
        features, logits, *theirs = torch.autograd.grad(term, inputs, allow_unused=True)
        ours = features if name == "contrast" else logits
        assert ours.abs().sum() > 0
        assert theirs == [None, None]
        if name != "contrast":
            # Of unlabelled patches alone; the contrast compares labelled ones, too.
            assert not ours[: batch.num_labelled].any()


def test_swapping_the_networks_swaps_their_terms():
    method, batch = dual_network(contrast_weight=0), a_batch()
    first, second = outputs_of(method, batch)

    ways = []
    for learner, giver in [(first, second), (second, first)]:
        ways.append(method._learn_from(learner, giver, 0, batch, clock(50)))
    _, terms = method.cross_loss((first, second), batch, clock(50))
    _, swapped = method.cross_loss((second, first), batch, clock(50))

    for name in TERMS[:3]:
        torch.testing.assert_close(terms[name], swapped[name])
        torch.testing.assert_close(terms[name], ways[0][name] + ways[1][name])
        assert float(ways[0][name].detach()) != float(ways[1][name].detach())


def test_the_weights_add_the_terms_up():
    method = dual_network(cross_weight=2, divergence_weight=3, filter_weight=5, contrast_weight=7)
    batch = a_batch()
    method.step(a_phase(method), batch, clock(0))
    method.after_step(a_phase(method), clock(0))

    loss, terms = method.cross_loss(outputs_of(method, batch), batch, clock(50))

    assert list(terms) == list(TERMS)
    assert all(float(one.detach()) > 0 for one in terms.values())
    expected = sum(
        factor * float(terms[name].detach())
        for name, factor in zip(TERMS, (2, 3, 5, 7), strict=True)
    )
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_without_contrast_there_are_no_prototypes():
    method = dual_network(contrast_weight=0)

    _, terms = method.cross_loss(outputs_of(method, a_batch()), a_batch(), clock(50))

    assert list(terms) == list(TERMS[:3])
    assert list(method.networks()) == ["student_raw", "student", "teacher_raw", "teacher"]


def test_the_share_of_sure_voxels_climbs_in_a_straight_line():
    method = dual_network()

    shares = [method.kept_share(clock(t)) for t in (0, 25, 50, 100)]

    assert shares == pytest.approx([0.2, 0.35, 0.5, 0.8])


def test_the_filter_learns_more_voxels_at_the_end():
    method, batch = dual_network(), a_batch()
    first, second = outputs_of(method, batch)
    with torch.no_grad():
        # Without two voxels of the same entropy.
        second.logits.normal_()

    counts = []
    for t in (0, 100):
        term = method._learn_from(first, second, 0, batch, clock(t))["filtered"]
        (gradient,) = torch.autograd.grad(term, first.logits)
        counts.append(int((gradient.abs().sum(1) > 0).sum()))

    voxels = 2 * 16**3
    assert counts == [
        pytest.approx(0.2 * voxels, abs=5),
        pytest.approx(0.8 * voxels, abs=5),
    ]


def test_a_network_sure_of_one_class_still_lets_the_rare_class_through():
    method, batch = dual_network(), a_batch()
    first, second = outputs_of(method, batch)
    with torch.no_grad():
        second.logits[:] = torch.tensor([9.0, 0.0, 0.0]).reshape(1, 3, 1, 1, 1)
        # Ten voxels of class 2, all of them more doubtful than any voxel of class 0.
        for place in range(10):
            second.logits[1, :, 0, 0, place] = torch.tensor([0.0, 0.0, 1.0 + place / 10])

    term = method._learn_from(first, second, 0, batch, clock(50))["filtered"]
    (gradient,) = torch.autograd.grad(term, first.logits)

    learnt = gradient[1, :, 0, 0, :10].abs().sum(0) > 0
    assert learnt.tolist() == [False] * 5 + [True] * 5


def test_the_prototypes_move_after_the_update_and_not_before():
    method, batch = dual_network(), a_batch()
    contrasts = [method.networks()[f"{name}_contrast"] for name in ("student", "teacher")]

    method.step(a_phase(method), batch, clock(0))
    seen = [one.seen.clone() for one in contrasts]
    method.after_step(a_phase(method), clock(0))

    for before, contrast in zip(seen, contrasts, strict=True):
        assert not before.any()
        present = torch.bincount(batch.labels.flatten(), minlength=3) > 0
        assert (contrast.seen | ~present).all()
        lengths = contrast.prototypes.norm(dim=1)
        torch.testing.assert_close(lengths, contrast.seen.float())


def test_a_step_that_failed_moves_no_prototype_twice():
    method, batch = dual_network(), a_batch()
    once = dual_network()
    for one in (method, once):
        torch.manual_seed(0)
        one.step(a_phase(one), batch, clock(0))

    torch.manual_seed(0)
    method.step(a_phase(method), batch, clock(0))
    for one in (method, once):
        one.after_step(a_phase(one), clock(0))

    for name in ("student_contrast", "teacher_contrast"):
        torch.testing.assert_close(
            method.networks()[name].state_dict(), once.networks()[name].state_dict()
        )


def test_nothing_valid_is_exactly_zero():
    method, batch = dual_network(), a_batch()
    batch.valid[1:] = False
    batch.labels[:] = 255
    first, second = outputs_of(method, batch)

    loss, _ = method.cross_loss((first, second), batch, clock(50))
    loss.backward()
    method.after_step(a_phase(method), clock(50))

    assert loss.item() == 0
    for one in (first.logits, second.logits, first.features, second.features):
        assert one.grad is None or not one.grad.any()
    assert not method.networks()["student_contrast"].seen.any()


def test_projections_learn_and_prototypes_are_no_parameters():
    method = dual_network()
    networks = method.networks()
    learning = {id(one) for one in method.parameter_group().parameters}

    for name in ("student_contrast", "teacher_contrast"):
        assert {id(one) for one in networks[name].parameters()} <= learning
        assert set(networks[name].state_dict()) >= {"prototypes", "seen"}


def test_both_steps_draw_the_same_anchors_from_the_same_seed():
    method, batch = dual_network(), a_batch()
    method.step(a_phase(method), batch, clock(0))
    method.after_step(a_phase(method), clock(0))

    totals = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        totals.append(float(method.step(a_phase(method), batch, clock(50)).terms["contrast"]))

    assert totals[0] == totals[1]
    assert totals[0] != totals[2]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"filter_weight": -1}, "filter_weight is -1.0, must be at least 0"),
        ({"kept_share_end": 1.5}, "kept_share_end is 1.5, must be in"),
        ({"temperature": 0}, "temperature is 0.0, must be positive"),
        ({"anchors": 0}, "anchors is 0, must be at least 1"),
        ({"prototype_decay": 1}, "prototype_decay is 1.0, must be in"),
        ({"ema": 1}, "ema is 1.0, must be in"),
    ],
)
def test_options_out_of_range_are_refused(options, told):
    with pytest.raises(UsageError, match=told):
        from_json(DualNetworkOptions, options)
