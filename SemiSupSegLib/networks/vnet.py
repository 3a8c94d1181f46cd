"""V-Net."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor, nn

from SemiSupSegLib.networks.base import SegmentationNetwork, log_variance_head
from SemiSupSegLib.networks.normalization import (
    Normalization,
    normalization,
    shared_statistics,
)

_ENCODER_UNITS = (1, 2, 3, 3, 3)
_DECODER_UNITS = (3, 3, 2, 1)
LEVELS = len(_ENCODER_UNITS)
"""Resolutions, each half of the one before."""


@dataclass(frozen=True, kw_only=True)
class VNetOptions:
    """Size and building blocks of V-Net."""

    COMMON: ClassVar = frozenset({"width"})
    """What a person may want to change first."""

    width: int = 16
    """Channels of the finest level; each coarser one has twice as many."""
    norm: Normalization = "instance"
    """Normalization; the papers use "batch", whose statistics are noisy for batches of 2 + 2."""
    dropout: bool = True
    """Whether half of the channels are dropped at the bottom and before the head."""
    log_variance_head: bool = False
    """Whether the network predicts its own log-variance."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width is {self.width}, must be 1 or more")


class VNet(SegmentationNetwork):
    """V-Net with added skips, as the semi-supervised literature uses it.

    Source: Milletari et al. 2016 through Yu et al. 2019 (UA-MT). Despite the name there are no
    residual connections inside the blocks.
    """

    def __init__(self, options: VNetOptions, *, in_channels: int, num_classes: int) -> None:
        super().__init__(
            in_channels=in_channels,
            num_classes=num_classes,
            feature_channels=options.width,
            divisor=16,
            shared_statistics=shared_statistics(options.norm),
        )
        norm = options.norm
        channels = [options.width * 2**level for level in range(LEVELS)]
        self.encoder = nn.ModuleList()
        self.shrink = nn.ModuleList()
        for level, units in enumerate(_ENCODER_UNITS):
            inputs = in_channels if level == 0 else channels[level]
            self.encoder.append(_units(inputs, channels[level], units, norm))
            if level > 0:
                down = nn.Conv3d(channels[level - 1], channels[level], 2, stride=2)
                self.shrink.append(_activated(down, norm))
        self.grow, self.decoder = decoder(options.width, norm)
        self.dropout: nn.Module = nn.Dropout3d(0.5) if options.dropout else nn.Identity()
        self.segmentation_head = nn.Conv3d(options.width, num_classes, 1)
        if options.log_variance_head:
            self.log_variance_head = log_variance_head(options.width)

    def _stem(self, image: Tensor) -> tuple[Tensor, ...]:
        values = self.encoder[0](image)
        skips = [values]
        for shrink, block in zip(self.shrink, self.encoder[1:], strict=True):
            values = block(shrink(values))
            skips.append(values)
        return tuple(skips)

    def body(self, stem: tuple[Tensor, ...]) -> Tensor:
        """Return the last feature map of all levels of the encoder."""
        skips = list(stem)
        values = self.dropout(skips.pop())
        return cast("Tensor", self.dropout(decode(values, skips, self.grow, self.decoder)))


def decoder(width: int, norm: Normalization) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Return what doubles the resolution, and the units after it, from coarse to fine.

    Args:
        width: Channels of the finest level.
        norm: Normalization.
    """
    grow, blocks = nn.ModuleList(), nn.ModuleList()
    for units, level in zip(_DECODER_UNITS, (3, 2, 1, 0), strict=True):
        channels = width * 2**level
        up = nn.ConvTranspose3d(2 * channels, channels, 2, stride=2)
        grow.append(_activated(up, norm))
        blocks.append(_units(channels, channels, units, norm))
    return grow, blocks


def decode(
    values: Tensor, skips: Sequence[Tensor], grow: Iterable[nn.Module], blocks: Iterable[nn.Module]
) -> Tensor:
    """Return the finest feature map, (B, width, D, H, W), with the skips added on the way.

    Args:
        values: Of the coarsest level.
        skips: Maps of the other levels, from fine to coarse.
        grow: Of `decoder`.
        blocks: Of `decoder`.
    """
    for up, block, skip in zip(grow, blocks, reversed(skips), strict=True):
        values = block(up(values) + skip)
    return values


def _units(in_channels: int, out_channels: int, count: int, norm: Normalization) -> nn.Sequential:
    return nn.Sequential(
        *(
            _activated(
                nn.Conv3d(out_channels if i else in_channels, out_channels, 3, padding=1), norm
            )
            for i in range(count)
        )
    )


def _activated(convolution: nn.Conv3d | nn.ConvTranspose3d, norm: Normalization) -> nn.Sequential:
    channels = convolution.out_channels
    return nn.Sequential(
        convolution, normalization(norm, channels, groups=16), nn.ReLU(inplace=True)
    )
