"""Atrous spatial pyramid pooling."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from SemiSupSegLib.networks.convolution import Convolution
from SemiSupSegLib.networks.normalization import Normalization, normalization
from SemiSupSegLib.networks.residual import channel_dropout


class AtrousPyramid(nn.Module):
    """Parallel convolutions of growing reach and the mean of the whole map, joined.

    Source: Chen et al. 2017, Rethinking Atrous Convolution. The rates are small because the
    map is: on 6³ voxels the usual 6, 12, 18 would reach little but padding.
    """

    def __init__(
        self, channels: int, *, rates: tuple[int, ...], norm: Normalization, dropout: float
    ) -> None:
        super().__init__()
        inner = max(channels // 4, 1)
        self.branches = nn.ModuleList([_branch(Convolution(channels, inner, 1, bias=False), norm)])
        for rate in rates:
            convolution = nn.Conv3d(channels, inner, 3, padding=rate, dilation=rate, bias=False)
            self.branches.append(_branch(convolution, norm))
        self.overall = nn.Linear(channels, inner)
        self.join = nn.Sequential(
            Convolution((len(rates) + 2) * inner, channels, 1, bias=False),
            normalization(norm, channels),
            nn.ReLU(inplace=True),
            channel_dropout(dropout),
        )

    def forward(self, values: Tensor) -> Tensor:
        """Return a map of the same shape (B, C, D, H, W)."""
        overall = F.relu(self.overall(values.mean((2, 3, 4))))[:, :, None, None, None]
        parts = [branch(values) for branch in self.branches]
        parts.append(overall.expand(-1, -1, *values.shape[2:]))
        return cast("Tensor", self.join(torch.cat(parts, 1)))


def _branch(convolution: nn.Conv3d, norm: Normalization) -> nn.Sequential:
    channels = convolution.out_channels
    return nn.Sequential(convolution, normalization(norm, channels), nn.ReLU(inplace=True))
