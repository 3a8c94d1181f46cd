"""Residual block with squeeze-and-excitation."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from SemiSupSegLib.networks.convolution import Convolution
from SemiSupSegLib.networks.normalization import Normalization, normalization


class SqueezeExcitation(nn.Module):
    """Weights channels by what they hold on average.

    Source: Hu et al. 2018, Squeeze-and-Excitation Networks; here with at least 4 inner channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 8, 4)
        self.weights = nn.Sequential(
            nn.Linear(channels, inner),
            nn.ReLU(inplace=True),
            nn.Linear(inner, channels),
            nn.Sigmoid(),
        )

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` (B, C, D, H, W), each channel times a weight in (0, 1)."""
        weights = self.weights(values.mean((2, 3, 4)))
        return values * weights[:, :, None, None, None]


class ResidualBlock(nn.Module):
    """Two convolutions (one if `lite`), squeeze-and-excitation, a shortcut, channel dropout."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: Normalization,
        dropout: float,
        lite: bool,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            Convolution(in_channels, out_channels, 3, padding=1, bias=False),
            normalization(norm, out_channels),
        ]
        if not lite:
            layers += [
                nn.ReLU(inplace=True),
                Convolution(out_channels, out_channels, 3, padding=1, bias=False),
                normalization(norm, out_channels),
            ]
        self.convolutions = nn.Sequential(*layers, SqueezeExcitation(out_channels))
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                Convolution(in_channels, out_channels, 1, bias=False),
                normalization(norm, out_channels),
            )
        self.activation = nn.ReLU(inplace=True)
        self.dropout = channel_dropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        """Return a map (B, out_channels, D, H, W)."""
        result = self.activation(self.convolutions(values) + self.shortcut(values))
        return cast("Tensor", self.dropout(result))


def channel_dropout(probability: float) -> nn.Module:
    """Return a layer that drops whole channels; one that draws nothing for probability 0."""
    return nn.Dropout3d(probability) if probability > 0 else nn.Identity()
