"""Heads on the coarser levels of a decoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from SemiSupSegLib.networks.convolution import Convolution
from SemiSupSegLib.networks.residual import channel_dropout
from SemiSupSegLib.networks.upsampling import enlarge


class AuxiliaryHeads(nn.Module):
    """A 1³ convolution per coarser level, its logits enlarged to the finest level's size.

    Source: Luo et al. 2021, URPC; there the dropped channels are missing in finer levels, too.

    Args:
        channels: Of the levels but the finest, from fine to coarse.
        num_classes: Classes, background included.
        dropout: Shares of channels dropped before each head, in [0, 1).
    """

    def __init__(self, channels: Sequence[int], num_classes: int, dropout: Sequence[float]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(channel_dropout(rate), Convolution(inputs, num_classes, 1))
            for inputs, rate in zip(channels, dropout, strict=True)
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return class logits (B, K, D, H, W) of each level, all of the finest one's size.

        Args:
            levels: From the second finest on, each half the size of the one before.
        """
        # A 1³ convolution commutes with interpolation, and coarse maps are cheaper to convolve.
        return [
            enlarge(head(values), 2 ** (number + 1))
            for number, (head, values) in enumerate(zip(self.heads, levels, strict=True))
        ]
