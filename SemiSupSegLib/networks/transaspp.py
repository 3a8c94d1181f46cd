"""TransASPP-UNet-3D: residual U-Net with an atrous pyramid and a transformer at its bottom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from SemiSupSegLib.networks.aspp import AtrousPyramid
from SemiSupSegLib.networks.attention import AttentionGate, TransformerBlock
from SemiSupSegLib.networks.base import FurtherDecoder, SegmentationNetwork, log_variance_head
from SemiSupSegLib.networks.convolution import Convolution
from SemiSupSegLib.networks.normalization import (
    Normalization,
    normalization,
    shared_statistics,
)
from SemiSupSegLib.networks.residual import ResidualBlock
from SemiSupSegLib.networks.upsampling import Resize, Upsampling

Down = Literal["maxpool", "conv"]
Up = Literal["trilinear", "transpose"]

MOST_CHANNELS = 320
"""No level has more channels than this."""

_DROPOUT = {5: (0.0, 0.0, 0.1, 0.2, 0.3), 4: (0.0, 0.1, 0.2, 0.3)}


@dataclass(frozen=True, kw_only=True)
class TransASPPOptions:
    """Size and building blocks of TransASPP-UNet-3D."""

    COMMON: ClassVar = frozenset({"width"})
    """What a person may want to change first."""

    width: int = 16
    """Channels of the finest level; each coarser one has twice as many, up to 320."""
    lite: bool = False
    """One convolution per block and no attention gate at the finest level: half the time."""
    levels: int = 5
    """Resolutions, 5 (sides divisible by 16) or 4 (sides divisible by 8)."""
    norm: Literal["group", "instance", "batch"] = "group"
    """Normalization; group norm suits batches of 2 + 2."""
    down: Down = "maxpool"
    """How maps shrink; "conv" has a deterministic backward pass on CUDA."""
    up: Up = "trilinear"
    """How maps grow; "transpose" has a deterministic backward pass on CUDA."""
    dropout: float = 1.0
    """Factor on all dropout rates (at most 0.3), in [0, 3]; 0 switches them off."""
    depth: int = 1
    """Transformer blocks, 0 or more."""
    aspp_rates: tuple[int, ...] = (1, 2, 3)
    """Dilations of the atrous pyramid, in voxels of the coarsest level."""
    log_variance_head: bool = True
    """Whether the network predicts its own log-variance."""

    def __post_init__(self) -> None:
        if self.width < 4 or self.width % 4:
            raise ValueError(f"width is {self.width}, must be a positive multiple of 4")
        if self.levels not in _DROPOUT:
            raise ValueError(f"levels is {self.levels}, must be 5 or 4")
        if not 0 <= self.dropout <= 3:
            raise ValueError(f"dropout is {self.dropout}, must be in [0, 3]")
        if self.depth < 0:
            raise ValueError(f"depth is {self.depth}, must be 0 or more")
        if not self.aspp_rates or min(self.aspp_rates) < 1:
            raise ValueError(f"aspp_rates is {self.aspp_rates}, must be dilations of 1 or more")


class TransASPPUNet(SegmentationNetwork):
    """TransASPP-UNet-3D.

    Source: Liu, Ding, Zhang 2026 (arXiv 2602.08797) name the components (residual and
    squeeze-and-excitation blocks, attention gates, atrous pyramid, transformer, additive skips);
    sizes, order and rates are ours.
    """

    def __init__(self, options: TransASPPOptions, *, in_channels: int, num_classes: int) -> None:
        channels = [min(options.width * 2**i, MOST_CHANNELS) for i in range(options.levels)]
        super().__init__(
            in_channels=in_channels,
            num_classes=num_classes,
            level_channels=channels[:-1],
            upsampling=options.up,
            divisor=2 ** (options.levels - 1),
            shared_statistics=shared_statistics(options.norm),
        )
        self._options = options
        self._channels = channels
        rates = [rate * options.dropout for rate in _DROPOUT[options.levels]]
        self._stem_levels = next((i for i, rate in enumerate(rates) if rate), options.levels)
        norm: Normalization = options.norm

        self.encoder = nn.ModuleList()
        self.shrink = nn.ModuleList()
        for level, inputs in enumerate([in_channels, *channels[:-1]]):
            if level > 0:
                self.shrink.append(_shrink(options.down, inputs))
            self.encoder.append(self._block(inputs, level, rates[level]))

        bottom = channels[-1]
        self.pyramid = AtrousPyramid(
            bottom, rates=options.aspp_rates, norm=norm, dropout=0.1 * options.dropout
        )
        self.transformer = nn.Sequential(
            *(TransformerBlock(bottom, dropout=0.1 * options.dropout) for _ in range(options.depth))
        )

        self.decoder = nn.ModuleList(self._decoder_levels(options.up))
        self.segmentation_head = Convolution(options.width, num_classes, 1)
        if options.log_variance_head:
            self.log_variance_head = log_variance_head(options.width)

    def _stem(self, image: Tensor) -> tuple[Tensor, ...]:
        skips = [self.encoder[0](image)]
        self._go_down(skips, self._stem_levels)
        return tuple(skips)

    def _encode(self, stem: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        skips = list(stem)
        self._go_down(skips, len(self.encoder))
        return (*skips[:-1], self.transformer(self.pyramid(skips[-1])))

    def _decode(self, encoded: tuple[Tensor, ...]) -> Iterator[Tensor]:
        *skips, values = encoded
        for level in self.decoder:
            values = level(values, skips.pop())
            yield values

    def further_decoder(self, upsampling: Upsampling) -> FurtherDecoder:
        """Return another decoder; one that resizes convolves (1³) before it resizes."""
        head = Convolution(self.feature_channels, self.num_classes, 1)
        return FurtherDecoder(self._decoder_levels(upsampling), nn.Identity(), head)

    def _go_down(self, skips: list[Tensor], levels: int) -> None:
        """Add the next coarser levels until there are `levels`."""
        for level in range(len(skips), levels):
            skips.append(self.encoder[level](self.shrink[level - 1](skips[-1])))

    def _decoder_levels(self, upsampling: Upsampling) -> list[_DecoderLevel]:
        """Return new levels from coarse to fine."""
        options, channels = self._options, self._channels
        # Mirrored from the encoder for 5 levels; for 4 the rates of the three coarsest levels.
        rates = [rate * options.dropout for rate in (0.2, 0.1, 0.0, 0.0)]
        return [
            _DecoderLevel(
                _grow(upsampling, channels[level + 1], channels[level]),
                self._block(channels[level], level, rates[position]),
                channels[level],
                norm=options.norm,
                gated=level > 0 or not options.lite,
            )
            for position, level in enumerate(reversed(range(options.levels - 1)))
        ]

    def _block(self, inputs: int, level: int, rate: float) -> ResidualBlock:
        options = self._options
        return ResidualBlock(
            inputs, self._channels[level], norm=options.norm, dropout=rate, lite=options.lite
        )


class _DecoderLevel(nn.Module):
    def __init__(
        self,
        grow: nn.Module,
        block: ResidualBlock,
        channels: int,
        *,
        norm: Normalization,
        gated: bool,
    ) -> None:
        super().__init__()
        self.grow = grow
        self.gate = AttentionGate(channels) if gated else None
        self.skip = Convolution(channels, channels, 1, bias=False)
        self.norm = normalization(norm, channels)
        self.block = block

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        values = self.grow(coarse)
        if self.gate is not None:
            skip = self.gate(skip, values)
        fused = F.relu(self.norm(values + self.skip(skip)), inplace=True)
        return cast("Tensor", self.block(fused))


class _ResizingGrow(nn.Module):
    """A 1³ convolution, then twice the size: they commute, and this order is 8 times cheaper."""

    def __init__(
        self, in_channels: int, out_channels: int, kind: Literal["trilinear", "nearest"]
    ) -> None:
        super().__init__()
        self.convolution = Convolution(in_channels, out_channels, 1, bias=False)
        self.resize = Resize(kind)

    def forward(self, values: Tensor) -> Tensor:
        return cast("Tensor", self.resize(self.convolution(values)))


def _shrink(kind: Down, channels: int) -> nn.Module:
    if kind == "conv":
        return nn.Conv3d(channels, channels, 2, stride=2, bias=False)
    return nn.MaxPool3d(2)


def _grow(kind: Upsampling, in_channels: int, out_channels: int) -> nn.Module:
    if kind == "transpose":
        return nn.ConvTranspose3d(in_channels, out_channels, 2, stride=2, bias=False)
    return _ResizingGrow(in_channels, out_channels, kind)
