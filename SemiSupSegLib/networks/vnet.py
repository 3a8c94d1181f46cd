"""V-Net."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor, nn

from SemiSupSegLib.networks.base import FurtherDecoder, SegmentationNetwork, log_variance_head
from SemiSupSegLib.networks.convolution import Convolution
from SemiSupSegLib.networks.normalization import (
    Normalization,
    normalization,
    shared_statistics,
)
from SemiSupSegLib.networks.upsampling import Resize, Upsampling

_ENCODER_UNITS = (1, 2, 3, 3, 3)
_DECODER_UNITS = (3, 3, 2, 1)
LEVELS = len(_ENCODER_UNITS)
"""Resolutions of V-Net and of what decodes as it does."""


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


class VNetDecoding(SegmentationNetwork):
    """What networks share that decode as V-Net does, whatever their encoder.

    A subclass calls `_add_decoder` once its encoder is there, and gives the encoder's maps, from
    fine to coarse, as its stem or from `_encode`.
    """

    def _add_decoder(self, width: int, norm: Normalization, *, dropout: bool) -> None:
        """Add decoder, dropout and segmentation head."""
        self._width, self._norm, self._has_dropout = width, norm, dropout
        self.grow = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for part in self._decoder_levels("transpose"):
            self.grow.append(part.grow)
            self.decoder.append(part.block)
        self.dropout = self._dropout()
        self.segmentation_head = Convolution(width, self.num_classes, 1)

    def _encode(self, stem: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return stem

    def _decode(self, encoded: tuple[Tensor, ...]) -> Iterator[Tensor]:
        *skips, values = encoded
        for grow, block in zip(self.grow, self.decoder, strict=True):
            values = block(grow(values) + skips.pop())
            yield values if skips else self.dropout(values)

    def further_decoder(self, upsampling: Upsampling) -> FurtherDecoder:
        """Return another decoder; one that resizes convolves (3³) what it has resized.

        Source: Wu et al. 2022 (MC-Net+), whose trilinear upsampling aligns the corners; ours
        does not.
        """
        return FurtherDecoder(
            self._decoder_levels(upsampling),
            self._dropout(),
            Convolution(self.feature_channels, self.num_classes, 1),
        )

    def _dropout(self) -> nn.Module:
        return nn.Dropout3d(0.5) if self._has_dropout else nn.Identity()

    def _decoder_levels(self, upsampling: Upsampling) -> list[_DecoderLevel]:
        levels = []
        for units, level in zip(_DECODER_UNITS, (3, 2, 1, 0), strict=True):
            channels = self._width * 2**level
            grow = _grow(upsampling, 2 * channels, channels, self._norm)
            levels.append(_DecoderLevel(grow, _units(channels, channels, units, self._norm)))
        return levels


class VNet(VNetDecoding):
    """V-Net with added skips, as the semi-supervised literature uses it.

    Source: Milletari et al. 2016 through Yu et al. 2019 (UA-MT). Despite the name there are no
    residual connections inside the blocks.
    """

    def __init__(self, options: VNetOptions, *, in_channels: int, num_classes: int) -> None:
        channels = [options.width * 2**level for level in range(LEVELS)]
        super().__init__(
            in_channels=in_channels,
            num_classes=num_classes,
            level_channels=channels[:-1],
            upsampling="transpose",
            divisor=2 ** (LEVELS - 1),
            shared_statistics=shared_statistics(options.norm),
        )
        norm = options.norm
        self.encoder = nn.ModuleList()
        self.shrink = nn.ModuleList()
        for level, units in enumerate(_ENCODER_UNITS):
            inputs = in_channels if level == 0 else channels[level]
            self.encoder.append(_units(inputs, channels[level], units, norm))
            if level > 0:
                down = nn.Conv3d(channels[level - 1], channels[level], 2, stride=2)
                self.shrink.append(_activated(down, norm))
        self._add_decoder(options.width, norm, dropout=options.dropout)
        if options.log_variance_head:
            self.log_variance_head = log_variance_head(options.width)

    def _stem(self, image: Tensor) -> tuple[Tensor, ...]:
        values = self.encoder[0](image)
        skips = [values]
        for shrink, block in zip(self.shrink, self.encoder[1:], strict=True):
            values = block(shrink(values))
            skips.append(values)
        return tuple(skips)

    def _encode(self, stem: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (*stem[:-1], self.dropout(stem[-1]))


class _DecoderLevel(nn.Module):
    def __init__(self, grow: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.grow = grow
        self.block = block

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        return cast("Tensor", self.block(self.grow(coarse) + skip))


def _grow(
    upsampling: Upsampling, in_channels: int, out_channels: int, norm: Normalization
) -> nn.Sequential:
    if upsampling == "transpose":
        return _activated(nn.ConvTranspose3d(in_channels, out_channels, 2, stride=2), norm)
    convolution = Convolution(in_channels, out_channels, 3, padding=1)
    return nn.Sequential(Resize(upsampling), *_activated(convolution, norm))


def _units(in_channels: int, out_channels: int, count: int, norm: Normalization) -> nn.Sequential:
    return nn.Sequential(
        *(
            _activated(
                Convolution(out_channels if i else in_channels, out_channels, 3, padding=1), norm
            )
            for i in range(count)
        )
    )


def _activated(convolution: nn.Conv3d | nn.ConvTranspose3d, norm: Normalization) -> nn.Sequential:
    channels = convolution.out_channels
    return nn.Sequential(
        convolution, normalization(norm, channels, groups=16), nn.ReLU(inplace=True)
    )
