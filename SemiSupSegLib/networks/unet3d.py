"""3D U-Net."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from SemiSupSegLib.networks.base import FurtherDecoder, SegmentationNetwork, log_variance_head
from SemiSupSegLib.networks.convolution import Convolution
from SemiSupSegLib.networks.normalization import (
    Normalization,
    normalization,
    shared_statistics,
)
from SemiSupSegLib.networks.upsampling import Resize, Upsampling, double_size

_LEVELS = 5


@dataclass(frozen=True, kw_only=True)
class UNet3DOptions:
    """Size and building blocks of the 3D U-Net."""

    COMMON: ClassVar = frozenset({"width"})
    """What a person may want to change first."""

    width: int = 16
    """Channels of the finest level; each coarser one has twice as many."""
    norm: Literal["group", "instance", "batch"] = "instance"
    """Normalization; the reference code's "batch norm" flag builds instance norm."""
    dropout: float = 0.3
    """Share of values dropped after the bottom, in [0, 1)."""
    dropout_before_head: bool = True
    """Whether values are dropped after the last block too, as the reference code does."""
    log_variance_head: bool = False
    """Whether the network predicts its own log-variance."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width is {self.width}, must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, must be in [0, 1)")


class UNet3D(SegmentationNetwork):
    """U-Net with five resolutions, concatenated skips and trilinear upsampling.

    Source: Çiçek et al. 2016 in the size of HiLab-git/SSL4MIS (feature scale 4), which is also
    the network of Cheng & Song. Convolutions start as Kaiming normal (fan-in, ReLU).
    """

    def __init__(self, options: UNet3DOptions, *, in_channels: int, num_classes: int) -> None:
        channels = [options.width * 2**level for level in range(_LEVELS)]
        super().__init__(
            in_channels=in_channels,
            num_classes=num_classes,
            level_channels=channels[:-1],
            upsampling="trilinear",
            divisor=2 ** (_LEVELS - 1),
            shared_statistics=shared_statistics(options.norm),
        )
        self._options = options
        self.encoder = nn.ModuleList(
            _block(inputs, outputs, options.norm)
            for inputs, outputs in zip([in_channels, *channels[:-1]], channels, strict=True)
        )
        self.decoder = nn.ModuleList(self._decoder_blocks())
        self.shrink = nn.MaxPool3d(2)
        self.bottom_dropout = _dropout(options.dropout)
        self.last_dropout = self._last_dropout()
        self.segmentation_head = Convolution(options.width, num_classes, 1)
        _draw_weights(self)
        if options.log_variance_head:
            self.log_variance_head = log_variance_head(options.width)

    def _stem(self, image: Tensor) -> tuple[Tensor, ...]:
        values = self.encoder[0](image)
        skips = [values]
        for block in self.encoder[1:]:
            values = block(self.shrink(values))
            skips.append(values)
        return tuple(skips)

    def _encode(self, stem: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (*stem[:-1], self.bottom_dropout(stem[-1]))

    def _decode(self, encoded: tuple[Tensor, ...]) -> Iterator[Tensor]:
        *skips, values = encoded
        for block in self.decoder:
            values = block(torch.cat([skips.pop(), double_size(values)], 1))
            yield values if skips else self.last_dropout(values)

    def further_decoder(self, upsampling: Upsampling) -> FurtherDecoder:
        """Return another decoder; transposed convolutions keep the number of channels."""
        levels = [
            _DecoderLevel(_grow(upsampling, 2 * channels), block)
            for channels, block in zip(
                reversed(self.level_channels), self._decoder_blocks(), strict=True
            )
        ]
        head = Convolution(self.feature_channels, self.num_classes, 1)
        decoder = FurtherDecoder(levels, self._last_dropout(), head)
        _draw_weights(decoder)
        return decoder

    def _decoder_blocks(self) -> list[nn.Sequential]:
        """Return blocks from coarse to fine, which take a skip and twice its channels."""
        return [
            _block(3 * channels, channels, self._options.norm)
            for channels in reversed(self.level_channels)
        ]

    def _last_dropout(self) -> nn.Module:
        return _dropout(self._options.dropout if self._options.dropout_before_head else 0.0)


class _DecoderLevel(nn.Module):
    def __init__(self, grow: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.grow = grow
        self.block = block

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        return cast("Tensor", self.block(torch.cat([skip, self.grow(coarse)], 1)))


def _grow(upsampling: Upsampling, channels: int) -> nn.Module:
    if upsampling == "transpose":
        return nn.ConvTranspose3d(channels, channels, 2, stride=2)
    return Resize(upsampling)


def _draw_weights(part: nn.Module) -> None:
    for module in part.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def _block(in_channels: int, out_channels: int, norm: Normalization) -> nn.Sequential:
    return nn.Sequential(
        Convolution(in_channels, out_channels, 3, padding=1),
        normalization(norm, out_channels),
        nn.ReLU(inplace=True),
        Convolution(out_channels, out_channels, 3, padding=1),
        normalization(norm, out_channels),
        nn.ReLU(inplace=True),
    )


def _dropout(probability: float) -> nn.Module:
    return nn.Dropout(probability) if probability > 0 else nn.Identity()
