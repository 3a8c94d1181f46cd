"""Architectures: sizes, shapes, options, and what the log-variance head may touch."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.inference.stochastic import dropout_logits
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.networks.upsampling import double_size, enlarge, repeat_voxels

TINY = {"width": 4, "lite": True, "levels": 4}


def count(name, options, in_channels=1, num_classes=2):
    network = build_network(name, options, in_channels=in_channels, num_classes=num_classes)
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "options", "channels", "expected"),
    [
        ("transaspp", {}, (1, 2), 6_851_623),
        ("transaspp", {"width": 32}, (1, 2), 16_791_415),
        ("transaspp", {"levels": 4}, (1, 2), 1_710_934),
        ("transaspp", {"lite": True}, (1, 2), 3_905_366),
        ("transaspp", {"width": 8}, (1, 2), 1_717_375),
        ("transaspp", {"width": 8, "lite": True}, (1, 2), 980_438),
        ("transaspp", {}, (4, 4), 6_853_001),
        ("transaspp", {"width": 32}, (4, 4), 16_794_169),
        ("vnet", {"norm": "batch"}, (1, 2), 9_448_866),
        ("vnet", {"norm": "instance"}, (1, 2), 9_443_266),
        ("vnet", {"norm": "none"}, (1, 2), 9_443_266),
        ("vnet", {"norm": "batch"}, (4, 4), 9_450_196),
        ("vnet", {"norm": "batch"}, (4, 3), 9_450_179),
        ("unet3d", {}, (1, 2), 5_884_050),
        ("unet3d", {}, (4, 4), 5_885_380),
        ("unet3d", {"norm": "batch"}, (1, 2), 5_886_994),
        ("unet3d", {"norm": "batch"}, (4, 4), 5_888_324),
        ("resnet34", {"norm": "batch"}, (1, 2), 17_930_354),
        ("resnet34", {"norm": "batch"}, (4, 4), 17_946_852),
        ("resnet34", {"norm": "group"}, (1, 2), 17_930_354),
    ],
)
def test_a_network_has_the_published_number_of_parameters(name, options, channels, expected):
    assert count(name, options, *channels) == expected


def test_v_net_with_batch_norm_has_the_published_number_of_buffer_values():
    network = build_network("vnet", {"norm": "batch"}, in_channels=1, num_classes=2)

    assert sum(buffer.numel() for buffer in network.buffers()) == 5_629


def test_the_parts_of_the_default_network_have_the_designed_sizes():
    network = build_network("transaspp", {}, in_channels=1, num_classes=2)

    def sizes(modules):
        return [sum(p.numel() for p in module.parameters()) for module in modules]

    assert sizes(network.encoder) == [7_604, 42_468, 169_416, 676_752, 2_705_184]
    assert sizes([network.pyramid, network.transformer]) == [1_442_880, 534_272]
    assert sizes(network.decoder) == [955_409, 239_113, 59_909, 15_109]
    assert sizes([network.segmentation_head, network.log_variance_head]) == [34, 3_473]


def test_encoder_and_decoder_of_the_residual_network_have_the_published_sizes():
    network = build_network("resnet34", {"norm": "batch"}, in_channels=1, num_classes=2)

    def size(*modules):
        return sum(p.numel() for module in modules for p in module.parameters())

    assert size(network.entrance, network.encoder) == 15_858_384
    assert size(network.grow, network.decoder, network.segmentation_head) == 2_071_970
    assert [len(stage) for stage in network.encoder] == [3, 4, 6, 3]


def test_stochastic_passes_of_the_residual_network_share_its_encoder():
    network = build_network("resnet34", {"width": 2}, in_channels=1, num_classes=2)
    image = torch.randn(1, 1, 16, 16, 32)

    stem = network.stem(image)

    assert [tuple(one.shape[1:3]) for one in stem] == [(2, 16), (4, 8), (8, 4), (16, 2), (32, 1)]
    torch.testing.assert_close(network.eval().body(stem), network.features(image))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("transaspp", {"width": 4, "lite": True}),
        ("transaspp", {"width": 4}),
        ("transaspp", {"width": 4, "down": "conv", "up": "transpose", "depth": 2}),
        ("transaspp", {"width": 4, "norm": "instance", "depth": 0, "aspp_rates": [1, 2]}),
        ("transaspp", {"width": 4, "norm": "batch", "dropout": 0}),
        ("vnet", {"width": 4, "log_variance_head": True}),
        ("vnet", {"width": 4, "norm": "group", "log_variance_head": True}),
        ("unet3d", {"width": 4, "log_variance_head": True}),
        ("unet3d", {"width": 4, "norm": "group", "log_variance_head": True}),
        ("resnet34", {"width": 4, "log_variance_head": True}),
        ("resnet34", {"width": 4, "norm": "group", "log_variance_head": True}),
    ],
)
def test_maps_have_the_size_of_an_image_with_three_different_sides(name, options):
    network = build_network(name, options, in_channels=2, num_classes=3)
    image = torch.randn(1, 2, 16, 32, 48)

    features = network.features(image)

    assert features.shape == (1, network.feature_channels, 16, 32, 48)
    assert network.segment(features).shape == (1, 3, 16, 32, 48)
    assert network.log_variance(features, network.segment(features)).shape == (1, 1, 16, 32, 48)


@pytest.mark.parametrize("name", ["transaspp", "vnet", "unet3d", "resnet34"])
def test_every_parameter_gets_a_finite_gradient_from_its_own_output(name):
    network = build_network(
        name, {"width": 4, "log_variance_head": True}, in_channels=1, num_classes=2
    )
    # The head starts at a constant: its first layer learns only after the first update.
    nn.init.normal_(network.log_variance_head[-1].weight)
    features = network.features(torch.randn(2, 1, 16, 16, 32))

    logits = network.segment(features)
    (logits.square().mean() + network.log_variance(features, logits).mean()).backward()

    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name


def test_the_log_variance_head_starts_at_a_share_and_sends_no_gradient_into_the_body():
    network = build_network("transaspp", TINY, in_channels=1, num_classes=2)
    features = network.features(torch.randn(1, 1, 16, 16, 16))
    logits = network.segment(features)

    log_variance = network.log_variance(features, logits)
    log_variance.sum().backward()

    # Of two classes, the mean of p(1 - p) is p(1 - p) of either.
    probability = logits.detach().softmax(1)[:, :1]
    most = probability * (1 - probability)
    torch.testing.assert_close(log_variance, (most * math.exp(-4) + 1e-4).log())
    heads = set(network.head_parameters())
    assert len(heads) == 4
    assert all(
        (parameter.grad is not None) == (parameter in heads) for parameter in network.parameters()
    )


def test_learning_the_head_leaves_the_segmentation_bitwise_unchanged():
    network = build_network("transaspp", TINY, in_channels=1, num_classes=2).eval()
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        before = network(image)
    optimizer = torch.optim.AdamW(network.head_parameters(), lr=0.1)

    def log_variance():
        features = network.features(image)
        return network.log_variance(features, network.segment(features))

    first = log_variance().detach()
    for _ in range(2):
        optimizer.zero_grad()
        (log_variance() + 7).square().mean().backward()
        optimizer.step()

    with torch.no_grad():
        assert torch.equal(network(image), before)
        assert not torch.equal(log_variance(), first)


def test_a_network_without_a_head_says_how_to_get_one():
    network = build_network("vnet", {"width": 4}, in_channels=1, num_classes=2)

    assert not network.has_log_variance
    assert list(network.head_parameters()) == []
    with pytest.raises(ValueError, match="log_variance_head=true"):
        network.log_variance(torch.zeros(1, 4, 16, 16, 32), torch.zeros(1, 2, 16, 16, 32))


@pytest.mark.parametrize("options", [{}, {"levels": 4}])
def test_without_dropout_training_and_evaluation_agree(options):
    network = build_network(
        "transaspp", {"width": 4, "dropout": 0, **options}, in_channels=1, num_classes=2
    )
    image = torch.randn(1, 1, 16, 16, 32)

    assert not [m for m in network.modules() if isinstance(m, nn.Dropout | nn.Dropout3d)]
    torch.testing.assert_close(network.train()(image), network.eval()(image))


def test_dropout_rates_grow_towards_the_bottom_and_are_scaled():
    network = build_network("transaspp", {"width": 4}, in_channels=1, num_classes=2)
    halved = build_network("transaspp", {"width": 4, "dropout": 0.5}, in_channels=1, num_classes=2)

    def rates(network):
        return [m.p for m in network.modules() if isinstance(m, nn.Dropout | nn.Dropout3d)]

    assert rates(network) == pytest.approx([0.1, 0.2, 0.3, 0.1, 0.1, 0.2, 0.1])
    assert rates(halved) == pytest.approx([0.05, 0.1, 0.15, 0.05, 0.05, 0.1, 0.05])


def test_the_default_network_runs_on_the_smallest_patch_in_training():
    network = build_network("transaspp", {"width": 4}, in_channels=1, num_classes=2).train()

    assert torch.isfinite(network(torch.randn(1, 1, 16, 16, 16))).all()


@pytest.mark.parametrize(
    ("name", "options", "shape", "message"),
    [
        ("transaspp", TINY, (1, 1, 16, 12, 16), r"16 x 12 x 16 voxels.*multiple of 8"),
        ("unet3d", {"width": 4}, (1, 1, 24, 32, 32), "multiple of 16"),
        ("vnet", {"width": 4}, (1, 1, 16, 16, 16), "one voxel at the coarsest level"),
        ("unet3d", {"width": 4, "norm": "batch"}, (1, 1, 16, 16, 16), "one voxel"),
        ("transaspp", TINY, (1, 2, 16, 16, 16), r"expected \(B, 1, D, H, W\)"),
        ("transaspp", TINY, (1, 16, 16, 16), r"expected \(B, 1, D, H, W\)"),
    ],
)
def test_an_image_that_does_not_fit_is_refused_with_a_reason(name, options, shape, message):
    network = build_network(name, options, in_channels=1, num_classes=2)

    with pytest.raises(ValueError, match=message):
        network(torch.zeros(shape))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("transasp", {}, "Did you mean 'transaspp'.*transaspp, vnet, unet3d"),
        ("vnet", {"widht": 8}, "Did you mean 'width'"),
        ("transaspp", {"levels": 3}, "levels is 3, must be 5 or 4"),
        ("transaspp", {"width": 6}, "multiple of 4"),
        ("transaspp", {"norm": "layer"}, "must be one of group, instance, batch"),
        ("transaspp", {"dropout": -1}, r"must be in \[0, 3\]"),
        ("transaspp", {"aspp_rates": [0]}, "dilations of 1 or more"),
        ("transaspp", {"depth": -1}, "0 or more"),
        ("unet3d", {"dropout": 1.0}, r"must be in \[0, 1\)"),
    ],
)
def test_a_wrong_name_or_option_is_answered_with_what_is_right(name, options, message):
    with pytest.raises(UsageError, match=message):
        build_network(name, options, in_channels=1, num_classes=2)


def test_fewer_than_two_classes_are_refused():
    with pytest.raises(ValueError, match="num_classes is 1"):
        build_network("vnet", {"width": 4}, in_channels=1, num_classes=1)


def test_the_same_seed_gives_the_same_weights():
    def build():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            return build_network("transaspp", TINY, in_channels=1, num_classes=2).state_dict()

    first, second = build(), build()

    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("sides", [(2, 3, 5), (1, 1, 4), (1, 1, 1)])
def test_doubling_the_size_equals_the_interpolation_of_torch(sides):
    values = torch.randn(2, 3, *sides, dtype=torch.float64, requires_grad=True)
    reference = F.interpolate(values, scale_factor=2.0, mode="trilinear")
    pull = torch.randn_like(reference)

    doubled = double_size(values)

    torch.testing.assert_close(doubled, reference)
    gradients = [torch.autograd.grad(result, values, pull)[0] for result in (doubled, reference)]
    torch.testing.assert_close(*gradients)


def test_doubling_runs_in_half_precision():
    values = torch.randn(1, 2, 2, 3, 4)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        doubled = double_size(values)

    torch.testing.assert_close(doubled.float(), double_size(values), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("name", "options", "maps"),
    [
        ("transaspp", {"width": 4, "lite": True}, 2),
        ("transaspp", {"width": 4, "lite": True, "levels": 4}, 1),
        ("transaspp", {"width": 4, "lite": True, "dropout": 0}, 5),
        ("vnet", {"width": 4}, 5),
        ("unet3d", {"width": 4}, 5),
    ],
)
def test_passes_from_one_stem_are_what_whole_passes_would_be(name, options, maps):
    network = build_network(name, options, in_channels=2, num_classes=3).eval()
    image = torch.randn(2, 2, 32, 16, 16)
    with torch.no_grad():
        stem = network.stem(image)
        before = [one.clone() for one in stem]
        torch.manual_seed(5)
        passes = list(dropout_logits(network, stem, 3))
        torch.manual_seed(5)
        network.train()
        whole = [network(image) for _ in range(3)]

    assert len(stem) == maps
    assert all(torch.equal(one, was) for one, was in zip(stem, before, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(passes, whole, strict=True))
    assert torch.equal(passes[0], passes[1]) == (options.get("dropout") == 0)


NETWORK_OF_EACH_KIND = [
    ("transaspp", {"width": 4}, 4),
    ("transaspp", {"width": 4, "lite": True, "levels": 4, "up": "transpose"}, 3),
    ("vnet", {"width": 4}, 4),
    ("unet3d", {"width": 4}, 4),
]


@pytest.mark.parametrize(("name", "options", "count"), NETWORK_OF_EACH_KIND)
def test_the_decoders_maps_go_from_fine_to_coarse_and_the_finest_is_what_the_head_gets(
    name, options, count
):
    network = build_network(name, options, in_channels=1, num_classes=2).eval()
    image = torch.randn(1, 1, 16, 32, 48)

    levels = network.levels(network.stem(image))

    assert [tuple(one.shape[1:]) for one in levels] == [
        (4 * 2**level, 16 // 2**level, 32 // 2**level, 48 // 2**level) for level in range(count)
    ]
    assert network.level_channels == tuple(one.shape[1] for one in levels)
    assert torch.equal(levels[0], network.features(image))


@pytest.mark.parametrize("upsampling", ["transpose", "trilinear", "nearest"])
@pytest.mark.parametrize(("name", "options", "count"), NETWORK_OF_EACH_KIND)
def test_a_further_decoder_makes_logits_of_the_same_encoder_with_weights_of_its_own(
    name, options, count, upsampling
):
    network = build_network(name, options, in_channels=1, num_classes=3)
    decoder = network.further_decoder(upsampling)
    encoded = network.encode(network.stem(torch.randn(1, 1, 16, 32, 48)))

    logits = decoder(encoded)
    logits.square().mean().backward()

    assert logits.shape == (1, 3, 16, 32, 48)
    assert all(one.grad is not None and one.grad.isfinite().all() for one in decoder.parameters())
    learning = {
        key.split(".")[0] for key, one in network.named_parameters() if one.grad is not None
    }
    assert learning <= {"encoder", "shrink", "pyramid", "transformer"}
    assert "encoder" in learning
    grown = any(isinstance(one, nn.ConvTranspose3d) for one in decoder.modules())
    assert grown == (upsampling == "transpose")


@pytest.mark.parametrize(("name", "options", "count"), NETWORK_OF_EACH_KIND)
def test_a_further_decoder_with_the_networks_own_weights_says_the_same(name, options, count):
    network = build_network(name, options, in_channels=1, num_classes=2).eval()
    decoder = network.further_decoder(network.upsampling).eval()
    image = torch.randn(1, 1, 16, 32, 32)
    # Both list their weights from coarse to fine, each level's in the order of use.
    if name == "transaspp":
        own = list(network.decoder.parameters())
    elif name == "vnet":
        parts = zip(network.grow, network.decoder, strict=True)
        own = [one for grow, block in parts for one in (*grow.parameters(), *block.parameters())]
    else:
        own = list(network.decoder.parameters())
    own += list(network.segmentation_head.parameters())
    with torch.no_grad():
        for theirs, ours in zip(decoder.parameters(), own, strict=True):
            theirs.copy_(ours)

        assert torch.equal(decoder(network.encode(network.stem(image))), network(image))


@pytest.mark.parametrize("factor", [1, 4, 8])
def test_enlarging_equals_the_interpolation_of_torch(factor):
    values = torch.randn(1, 2, 2, 3, 1, dtype=torch.float64)

    enlarged = enlarge(values, factor)

    expected = F.interpolate(values, scale_factor=float(factor), mode="trilinear")
    torch.testing.assert_close(enlarged, expected)


def test_repeating_voxels_equals_the_nearest_neighbours_of_torch():
    values = torch.randn(2, 3, 2, 3, 5, requires_grad=True)
    expected = F.interpolate(values, scale_factor=2.0, mode="nearest")
    pull = torch.randn_like(expected)

    repeated = repeat_voxels(values)

    assert torch.equal(repeated, expected)
    gradients = [torch.autograd.grad(result, values, pull)[0] for result in (repeated, expected)]
    torch.testing.assert_close(*gradients)
