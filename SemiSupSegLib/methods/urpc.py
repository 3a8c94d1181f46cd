"""URPC: the predictions of a decoder's levels agree, less where they differ much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.losses.pyramid import pyramid_consistency
from SemiSupSegLib.methods.joint import Joint, JointOptions
from SemiSupSegLib.methods.protocol import Batch, Build, Clock, ParameterGroup
from SemiSupSegLib.networks.auxiliary_heads import AuxiliaryHeads

_DROPOUT = (0.2, 0.3, 0.5)
"""Shares of channels that the heads of coarser levels drop, from fine to coarse."""


@dataclass(frozen=True, kw_only=True)
class URPCOptions(JointOptions):
    """Uncertainty-rectified pyramid consistency."""

    levels: int = 4
    """Levels of the decoder with a prediction, the finest included, 2 to 4."""
    head_dropout: bool = True
    """Whether the heads of coarser levels drop channels: 0.2, 0.3, 0.5 from fine to coarse."""
    kl: Literal["mean_first", "head_first"] = "mean_first"
    """Divergence of a level from the mean: KL(mean‖level), as in the reference code, or
    KL(level‖mean)."""
    detach_mean: bool = False
    """Whether the mean gets no gradient."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.levels <= 1 + len(_DROPOUT):
            raise ValueError(f"levels is {self.levels}, must be 2 to {1 + len(_DROPOUT)}")


class URPC(Joint):
    """A prediction at each level of the decoder; all are held to their mean on unlabelled patches.

    The supervised loss is the mean over levels. The finest level's prediction, the network's own,
    is what is judged and exported; the heads of the others belong to training alone.

    Source: Luo et al. 2021 (arXiv 2012.07042) as SSL4MIS has it in 3D; the loss is
    `pyramid_consistency`. There dropout lies between the decoder's levels; here the decoder is
    the network's own, and only the further heads drop channels.
    """

    _options: URPCOptions

    def __init__(self, options: URPCOptions, build: Build, iterations: int) -> None:
        super().__init__(options, build, iterations)
        channels = self._raw.level_channels
        if len(channels) < options.levels:
            raise UsageError(
                f"urpc compares the predictions of {options.levels} levels of the decoder, but "
                f"this network has {len(channels)}. Set levels={len(channels)}, or choose a "
                "network with more."
            )
        # Their weights are the next draws after the network's, which the run's seed decides.
        further = options.levels - 1
        self._heads = AuxiliaryHeads(
            channels[1 : options.levels],
            self._raw.num_classes,
            _DROPOUT[:further] if options.head_dropout else [0.0] * further,
        )

    def networks(self) -> Mapping[str, nn.Module]:
        """Return the network, its moving average, and the heads of the coarser levels."""
        return {**super().networks(), "heads": self._heads}

    def parameter_group(self) -> ParameterGroup:
        """Return what is learnt: the network and the heads."""
        group = super().parameter_group()
        return replace(group, parameters=[*group.parameters, *self._heads.parameters()])

    def outputs(self, images: Tensor) -> Sequence[Tensor]:
        """Return logits (B, K, D, H, W) of the levels, from fine to coarse."""
        finest, *coarser = self._raw.levels(self._raw.stem(images))
        return [
            self._raw.segment(finest),
            *self._heads(coarser[: self._options.levels - 1]),
        ]

    def further_loss(
        self, outputs: Sequence[Tensor], batch: Batch, clock: Clock
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the consistency on unlabelled patches, and the levels' mean divergence."""
        known = batch.num_labelled
        found = pyramid_consistency(
            [logits[known:] for logits in outputs],
            batch.valid[known:],
            divergence=self._options.kl,
            detach_mean=self._options.detach_mean,
            weight=self.voxel_weight(outputs[0][known:], batch),
        )
        return found.loss, {"disagreement": found.disagreement}
