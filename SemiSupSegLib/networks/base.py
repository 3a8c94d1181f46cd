"""What every segmentation network here can do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

from torch import Tensor, nn

from SemiSupSegLib.losses.uncertainty import log_variance_of
from SemiSupSegLib.networks.convolution import Convolution
from SemiSupSegLib.networks.upsampling import Upsampling


class SegmentationNetwork(nn.Module):
    """A network that makes class logits and, if it has the head, a log-variance per voxel.

    An image passes `stem`, `encode` and `decode`, then a head. A subclass sets
    `segmentation_head` and, if asked to, `log_variance_head`, and implements `_encode`, `_decode`,
    `further_decoder` and, if part of the encoder comes before any dropout, `_stem`. Weights are
    drawn from torch's global generator: seed it before construction.

    Attributes:
        in_channels: Channels of the image.
        num_classes: Classes of the logits, background included.
        level_channels: Channels of `levels`, from fine to coarse.
        feature_channels: Channels of `features`, the finest level.
        upsampling: How the decoder doubles the size of a map.
        divisor: Every side of the image must be a multiple of it.
        has_log_variance: Whether `log_variance` works.
    """

    segmentation_head: nn.Module
    log_variance_head: nn.Module | None

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        level_channels: Sequence[int],
        upsampling: Upsampling,
        divisor: int,
        shared_statistics: str | None = None,
    ) -> None:
        """Remember the sizes.

        Args:
            in_channels: Channels of the image.
            num_classes: Classes, background included.
            level_channels: Channels of the decoder's maps, from fine to coarse.
            upsampling: How the decoder doubles the size of a map.
            divisor: Stride of the coarsest level, voxels.
            shared_statistics: "sample" if the coarsest level is normalised over its voxels
                (instance norm), "batch" if over batch and voxels (batch norm): one voxel has no
                spread, so such inputs are refused. None if any size works (group norm).
        """
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"in_channels is {in_channels}, must be at least 1")
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}, must be at least 2 (with background)")
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.level_channels = tuple(level_channels)
        self.feature_channels = self.level_channels[0]
        self.upsampling = upsampling
        self.divisor = divisor
        self._shared_statistics = shared_statistics
        self.log_variance_head = None

    @property
    def has_log_variance(self) -> bool:
        """Whether the network has a log-variance head."""
        return self.log_variance_head is not None

    @property
    def is_head_taught(self) -> bool:
        """Whether the log-variance head has learnt: before its first update it is a constant."""
        if not isinstance(self.log_variance_head, nn.Sequential):
            return False
        last = self.log_variance_head[-1].weight
        return isinstance(last, Tensor) and bool(last.any())

    def features(self, image: Tensor) -> Tensor:
        """Return the last feature map (B, F, D, H, W) of an image (B, C, D, H, W).

        Raises:
            ValueError: If the image does not fit the network.
        """
        return self.body(self.stem(image))

    def stem(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return what comes before any dropout, the same for all stochastic passes of an image.

        Args:
            image: (B, C, D, H, W).

        Returns:
            Whatever this network's `encode` goes on from.

        Raises:
            ValueError: If the image does not fit the network.
        """
        self._check(image)
        return self._stem(image)

    def body(self, stem: tuple[Tensor, ...]) -> Tensor:
        """Return the last feature map (B, F, D, H, W) of a `stem`, which stays as it is."""
        # Of the coarser maps none is kept longer than the next one needs it.
        for values in self._decode(self.encode(stem)):
            finest = values
        return finest

    def encode(self, stem: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return what decoders go on from: the encoder's maps from fine to coarse.

        Args:
            stem: Of an image; stays as it is.
        """
        return self._encode(stem)

    def decode(self, encoded: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the decoder's maps of what `encode` gave, from fine to coarse.

        The first is what `body` returns, (B, F, D, H, W); each further one has `level_channels`
        channels and half the sides of the one before.
        """
        return tuple(self._decode(encoded))[::-1]

    def levels(self, stem: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the decoder's maps of a `stem`, as `decode` does."""
        return self.decode(self.encode(stem))

    def further_decoder(self, upsampling: Upsampling) -> FurtherDecoder:
        """Return another decoder of this architecture, with weights and a head of its own.

        Args:
            upsampling: How it doubles the size of a map.
        """
        raise NotImplementedError

    def segment(self, features: Tensor) -> Tensor:
        """Return class logits (B, K, D, H, W) of `features` (B, F, D, H, W)."""
        return cast("Tensor", self.segmentation_head(features))

    def log_variance(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return the log-variance (B, 1, D, H, W), float32.

        Args:
            features: (B, F, D, H, W); get no gradient.
            logits: What `segment` makes of them, (B, K, D, H, W); get none either.

        Raises:
            ValueError: If the network was built without this head.
        """
        if self.log_variance_head is None:
            raise ValueError(
                f"{type(self).__name__} was built without a log-variance head; build it with "
                "the option log_variance_head=true, or take the uncertainty from several passes"
            )
        return log_variance_of(logits, self.log_variance_head(features.detach()))

    def forward(self, image: Tensor) -> Tensor:
        """Return class logits (B, K, D, H, W) of an image (B, C, D, H, W)."""
        return self.segment(self.features(image))

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the log-variance head only; none if there is no head."""
        if self.log_variance_head is not None:
            yield from self.log_variance_head.parameters()

    def check_patch(self, sides: tuple[int, ...], batch_size: int) -> None:
        """Refuse patches that the network cannot take.

        Args:
            sides: D, H, W in voxels.
            batch_size: Patches at a time.

        Raises:
            ValueError: If a side is no multiple of `divisor`, or too little is left to normalise.
        """
        if any(side < self.divisor or side % self.divisor for side in sides):
            raise ValueError(
                f"patch is {_times(sides)} voxels, but every side must be a multiple of "
                f"{self.divisor}; choose another patch size or a network with fewer levels"
            )
        coarse = math.prod(side // self.divisor for side in sides)
        alone = self._shared_statistics == "sample" or (
            self._shared_statistics == "batch" and self.training and batch_size == 1
        )
        if coarse == 1 and alone:
            raise ValueError(
                f"patch is {_times(sides)} voxels, which leaves one voxel at the coarsest level, "
                "and this normalization needs more; choose a larger patch or norm=group"
            )

    def _stem(self, image: Tensor) -> tuple[Tensor, ...]:
        return (image,)

    def _encode(self, stem: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def _decode(self, encoded: tuple[Tensor, ...]) -> Iterator[Tensor]:
        """Yield the decoder's maps from coarse to fine."""
        raise NotImplementedError

    def _check(self, image: Tensor) -> None:
        if image.ndim != 5 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"image has shape {tuple(image.shape)}, expected (B, {self.in_channels}, D, H, W)"
            )
        self.check_patch(tuple(image.shape[2:]), image.shape[0])


class FurtherDecoder(nn.Module):
    """A decoder beside a network's own, with its own head: two views of one encoder.

    Args:
        levels: From coarse to fine; each takes the coarser map and the encoder's of its size.
        dropout: Before the head.
        head: Makes class logits.
    """

    def __init__(self, levels: Sequence[nn.Module], dropout: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.dropout = dropout
        self.head = head

    def forward(self, encoded: tuple[Tensor, ...]) -> Tensor:
        """Return class logits (B, K, D, H, W) of what the network's `encode` gave."""
        *skips, values = encoded
        for level in self.levels:
            values = level(values, skips.pop())
        return cast("Tensor", self.head(self.dropout(values)))


def log_variance_head(in_channels: int) -> nn.Sequential:
    """Return a head (B, F, D, H, W) → (B, 1, D, H, W) that starts at the constant −4.

    It says which share of p·(1 − p) the variance is, as a logarithm.
    """
    inner = max(in_channels // 2, 1)
    last = Convolution(inner, 1, 1)
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.constant_(last.bias, -4.0)
    return nn.Sequential(Convolution(in_channels, inner, 3, padding=1), nn.ReLU(inplace=True), last)


def _times(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))
