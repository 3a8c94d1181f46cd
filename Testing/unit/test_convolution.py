"""A convolution that goes through another memory format says the same."""

import pytest
import torch
from torch import nn

from SemiSupSegLib.networks.convolution import Convolution


@pytest.mark.parametrize("channels", [1, 4, 8, 16])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 1},
        {"kernel_size": 1, "bias": False},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 1, "padding": 1},
    ],
)
def test_values_gradients_and_memory_format_are_those_of_a_plain_convolution(
    channels, memory, options
):
    torch.manual_seed(0)
    quick = Convolution(channels, 8, **options)
    plain = nn.Conv3d(channels, 8, **options)
    plain.load_state_dict(quick.state_dict())
    image = torch.randn(2, channels, 6, 7, 8).contiguous(memory_format=memory)
    weight = torch.randn(plain(image).shape)

    results = []
    for convolution in (quick, plain):
        own = image.clone(memory_format=torch.preserve_format).requires_grad_()
        values = convolution(own)
        (values * weight).sum().backward()
        results.append([values, own.grad, *(one.grad for one in convolution.parameters())])

    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert results[0][0].stride() == results[1][0].stride()


def test_one_voxel_kernels_are_matrix_products(monkeypatch):
    def never(self, values):
        raise AssertionError("went through the convolution")

    monkeypatch.setattr(nn.Conv3d, "forward", never)
    mixed = Convolution(3, 2, 1)(torch.randn(1, 3, 4, 5, 6))

    assert mixed.shape == (1, 2, 4, 5, 6)


def test_few_channels_are_convolved_in_channels_last_memory(monkeypatch):
    seen = []
    forward = nn.Conv3d.forward

    def remember(self, values):
        seen.append(values.is_contiguous(memory_format=torch.channels_last_3d))
        return forward(self, values)

    monkeypatch.setattr(nn.Conv3d, "forward", remember)
    for inputs, outputs in ((8, 16), (16, 8), (16, 16)):
        Convolution(inputs, outputs, 3, padding=1)(torch.randn(1, inputs, 4, 5, 6))

    assert seen == [True, True, False]
