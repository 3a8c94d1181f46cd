"""ResNet34 encoder with the decoder of V-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from torch import Tensor, nn

from SemiSupSegLib.networks.base import log_variance_head
from SemiSupSegLib.networks.normalization import (
    Normalization,
    normalization,
    shared_statistics,
)
from SemiSupSegLib.networks.vnet import LEVELS, VNetDecoding

_BLOCKS = (3, 4, 6, 3)


@dataclass(frozen=True, kw_only=True)
class ResNet34Options:
    """Size and building blocks of the ResNet34 encoder with V-Net's decoder."""

    COMMON: ClassVar = frozenset({"width"})
    """What a person may want to change first."""

    width: int = 16
    """Channels of the finest level; each coarser one has twice as many."""
    norm: Literal["group", "instance", "batch"] = "instance"
    """Normalization; the papers use "batch", whose statistics are noisy for batches of 2 + 2."""
    dropout: bool = True
    """Whether half of the channels are dropped before the head."""
    log_variance_head: bool = False
    """Whether the network predicts its own log-variance."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width is {self.width}, must be 1 or more")


class ResNet34(VNetDecoding):
    """34 layers of residual blocks down, V-Net's added skips up.

    Source: He et al. 2016 in the form of Wang et al. 2023 (MCF): the first convolution keeps the
    resolution, and there is no pooling, so that every level has a skip. There the encoder takes one
    channel whatever is asked for and always has batch norm; here both options hold.
    """

    def __init__(self, options: ResNet34Options, *, in_channels: int, num_classes: int) -> None:
        super().__init__(
            in_channels=in_channels,
            num_classes=num_classes,
            level_channels=[options.width * 2**level for level in range(LEVELS - 1)],
            upsampling="transpose",
            divisor=2 ** (LEVELS - 1),
            shared_statistics=shared_statistics(options.norm),
        )
        norm = options.norm
        self.entrance = nn.Sequential(
            nn.Conv3d(in_channels, options.width, 7, padding=3, bias=False),
            _normalization(norm, options.width),
            nn.ReLU(inplace=True),
        )
        self.encoder = nn.ModuleList()
        for level, blocks in enumerate(_BLOCKS, start=1):
            channels = options.width * 2**level
            self.encoder.append(
                nn.Sequential(
                    _BasicBlock(channels // 2, channels, norm),
                    *(_BasicBlock(channels, channels, norm) for _ in range(blocks - 1)),
                )
            )
        self._add_decoder(options.width, norm, dropout=options.dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if options.log_variance_head:
            self.log_variance_head = log_variance_head(options.width)

    def _stem(self, image: Tensor) -> tuple[Tensor, ...]:
        values = self.entrance(image)
        skips = [values]
        for stage in self.encoder:
            values = stage(values)
            skips.append(values)
        return tuple(skips)


class _BasicBlock(nn.Module):
    """Two convolutions beside a shortcut; it halves the resolution where the channels grow."""

    def __init__(self, in_channels: int, out_channels: int, norm: Normalization) -> None:
        super().__init__()
        stride = 1 if in_channels == out_channels else 2
        self.convolutions = nn.Sequential(
            nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
            _normalization(norm, out_channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False),
            _normalization(norm, out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, stride=stride, bias=False),
                _normalization(norm, out_channels),
            )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, values: Tensor) -> Tensor:
        return cast("Tensor", self.activation(self.convolutions(values) + self.shortcut(values)))


def _normalization(norm: Normalization, channels: int) -> nn.Module:
    return normalization(norm, channels, groups=16)
