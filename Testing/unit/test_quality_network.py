"""The network that estimates Dice: its shape, what it learns, what its estimates are worth."""

import numpy as np
import pytest
import torch

from SemiSupSegLib.methods.quality_options import QualityOptions
from SemiSupSegLib.methods.quality_training import estimation_loss
from SemiSupSegLib.networks.quality import QualityNetwork, QualityNetworkOptions
from SemiSupSegLib.quality.estimates import case_weights, estimates_of, seen_of
from SemiSupSegLib.quality.worth import Use, figures_of, looks_at_image, use_of_image


def a_network(width=4, side=16, in_channels=2, num_classes=4):
    torch.manual_seed(0)
    options = QualityNetworkOptions(width=width, side=side)
    return QualityNetwork(options, in_channels=in_channels, num_classes=num_classes)


def test_each_class_but_background_has_an_estimate_between_0_and_1():
    network = a_network()

    estimates = network(100 * torch.randn(3, 5, 16, 32, 16))

    assert estimates.shape == (3, 3)
    assert bool(((estimates >= 0) & (estimates <= 1)).all())
    assert estimates.dtype == torch.float32


def test_judging_leaves_the_statistics_of_learning_alone():
    network = a_network().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    network(5 + torch.randn(4, 5, 16, 16, 16))

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_an_estimate_does_not_depend_on_the_batch():
    network = a_network().eval()
    seen = torch.randn(3, 5, 16, 16, 16)

    torch.testing.assert_close(network(seen)[1], network(seen[1:2])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 4, 16, 16, 16), "expected \\(B, 5"), ((1, 5, 16, 24, 16), "multiple of 16")],
)
def test_an_input_that_does_not_fit_is_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        a_network()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("changes", "message"), [({"width": 0}, "width is 0"), ({"side": 24}, "side is 24")]
)
def test_options_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        QualityNetworkOptions(**changes)
    with pytest.raises(ValueError, match=message):
        QualityOptions(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"floor": 1.0}, "floor is 1.0"),
        ({"power": 0.0}, "power is 0.0"),
        ({"refresh": -1}, "refresh is -1"),
        ({"weak_share": 0.6, "network_share": 0.4}, "leaves no updates"),
        ({"weak_masks": 1.1}, "weak_masks is 1.1"),
        ({"folds": 1}, "folds is 1"),
        ({"batch": 1}, "batch is 1"),
    ],
)
def test_quality_options_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        QualityOptions(**changes)


def test_the_loss_counts_judged_classes_only():
    estimated = torch.tensor([[0.85, 0.3], [0.5, 0.9]], requires_grad=True)
    dice = torch.tensor([[0.8, 1.0], [0.2, 1.0]])
    weight = torch.tensor([[2.0, 0.0], [1.0, 0.0]])

    loss, error = estimation_loss(estimated, dice, weight)

    # Below β = 0.1 ½·0.05²/0.1 = 0.0125, twice; above 0.3 − 0.05 = 0.25; two are judged.
    assert loss.item() == pytest.approx((2 * 0.0125 + 0.25) / 2)
    assert float(error) == pytest.approx((0.05 + 0.3) / 2)
    (gradient,) = torch.autograd.grad(loss, estimated)
    assert gradient[:, 1].tolist() == [0, 0]


def test_nothing_to_judge_gives_a_loss_of_0_with_zero_gradient():
    estimated = torch.rand(2, 3, requires_grad=True)

    loss, error = estimation_loss(estimated, torch.ones(2, 3), torch.zeros(2, 3))
    (gradient,) = torch.autograd.grad(loss, estimated)

    assert loss.item() == error.item() == 0
    assert not gradient.any()


def test_it_learns_how_far_a_mask_fits_the_image():
    network = a_network(width=8, in_channels=1, num_classes=2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    draw = torch.Generator().manual_seed(0)

    def batch(count):
        """The image shows a block; the mask is that block moved by some rows."""
        seen, dice = torch.zeros(count, 2, 16, 16, 16), torch.zeros(count, 1)
        for number in range(count):
            moved = int(torch.randint(0, 5, (), generator=draw))
            seen[number, 0, 4:12, 4:8, 4:12] = 1
            seen[number, 1, 4:12, 4 + moved : 8 + moved, 4:12] = 1
            dice[number] = (4 - moved) / 4
        return seen + 0.1 * torch.randn(seen.shape, generator=draw), dice

    for number in range(60):
        # Falling: at a constant rate the last updates' luck decides.
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - number / 60)
        seen, dice = batch(8)
        loss, _ = estimation_loss(network(seen), dice, torch.ones_like(dice))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    seen, dice = batch(32)
    with torch.no_grad():
        found = network(seen)

    figures = figures_of(found[:, 0].tolist(), dice[:, 0].tolist())
    assert figures["pearson"] > 0.9
    assert figures["mae"] < 0.12


def test_a_whole_case_is_judged_through_its_box():
    network = a_network(in_channels=1, num_classes=3).eval()
    image = np.random.default_rng(0).normal(size=(1, 30, 40, 20)).astype(np.float16)
    masks = torch.zeros((2, 30, 40, 20), dtype=torch.bool)
    masks[0, 10:14, 20:25, 8:12] = True

    seen = seen_of(image, masks, (2.0, 1.0, 4.0), network.options.side)
    estimates = estimates_of(network, seen)

    assert seen.shape == (3, 16, 16, 16)
    with torch.no_grad():
        assert estimates == network(seen[None])[0].tolist()


def test_weights_rise_from_the_floor_and_background_has_the_least():
    # ((q − 0.5)/0.5)²: 0.25, 1, 0.
    assert case_weights([0.75, 1.0, None], 0.5, 2) == [0.25, 0.25, 1.0, 0.0]
    assert case_weights([0.75, 1.0, 0.4], 0.5, 2)[0] == 0
    assert case_weights([None] * 3, 0.5, 2) == [0, 0, 0, 0]
    assert case_weights([0.5], 0.5, 2) == [0, 0]
    assert case_weights([0.8], 0.0, 1) == [0.8, 0.8]


def test_figures_are_those_of_the_worked_example():
    figures = figures_of([0.9, 0.8, 0.85, 0.6], [0.92, 0.70, 0.88, 0.75])

    assert figures["n"] == 4
    assert figures["pearson"] == pytest.approx(0.6467, abs=5e-5)
    assert figures["mae"] == pytest.approx(0.075)
    assert figures["kendall"] == pytest.approx(2 / 3)
    assert figures["spearman"] == pytest.approx(0.8)
    assert figures["bias"] == pytest.approx(-0.025)


def test_figures_that_do_not_exist_are_none():
    assert figures_of([], []) == dict.fromkeys(
        ("pearson", "spearman", "kendall", "mae", "bias")
    ) | {"n": 0}
    assert figures_of([0.5, 0.5, 0.5], [0.1, 0.2, 0.3])["pearson"] is None
    with pytest.raises(ValueError, match="1 estimates and 2 Dice"):
        figures_of([0.5], [0.1, 0.2])


@pytest.mark.parametrize(
    ("mae", "pearson", "expected"),
    [
        (0.131, 0.79, Use.IMAGE),
        (0.129, 0.5, Use.ORDER),
        (0.2, 0.85, Use.SHAPE),
        (0.1, 0.9, Use.SHAPE),
        (0.2, None, Use.IMAGE),
    ],
)
def test_without_the_image_estimates_must_be_worse_by_a_third_and_a_tenth(mae, pearson, expected):
    own = {"mae": 0.1, "pearson": 0.9}
    worse = {"mae": 0.3, "pearson": 0.1}
    controls = [worse, {"mae": mae, "pearson": pearson}]

    assert use_of_image(own, controls) is expected
    assert looks_at_image(own, controls) is (expected is Use.IMAGE)
    assert looks_at_image({"mae": 0.1, "pearson": None}, [worse]) is None
    assert looks_at_image(own, []) is None
    assert use_of_image(own, []) is Use.UNKNOWN
