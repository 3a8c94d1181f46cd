"""MC-Net+: decoders that differ in how they grow maps agree with each other's sharpened selves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor, nn

from SemiSupSegLib.losses.mutual import mutual_consistency
from SemiSupSegLib.methods.joint import Joint, JointOptions
from SemiSupSegLib.methods.protocol import Batch, Build, Clock, ParameterGroup
from SemiSupSegLib.networks.upsampling import Upsampling


@dataclass(frozen=True, kw_only=True)
class MCNetOptions(JointOptions):
    """Mutual consistency of several decoders."""

    unlabelled_weight: float = 1.0
    """Weight of the consistency, once its ramp is over; 0 or more."""
    rampup_fraction: float = 0.4
    """Share of the updates over which that weight climbs, as published: 6,000 of 15,000."""
    decoders: int = 3
    """Decoders, the network's own included: 3 as in MC-Net+, 2 as in MC-Net."""
    temperature: float = 0.1
    """What logits are divided by to sharpen a prediction, above 0."""
    detach_sharp: bool = True
    """Whether a sharpened prediction gets no gradient; in the reference code it does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoders not in (2, 3):
            raise ValueError(f"decoders is {self.decoders}, must be 2 or 3")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, must be positive")


class MCNet(Joint):
    """One encoder, several decoders; each agrees with the others' sharpened predictions.

    The further decoders are of the network's own architecture and grow maps in the ways that it
    does not: by transposed convolution, trilinear, nearest neighbour. The supervised loss is the
    mean over decoders, the consistency a sum over pairs, on labelled patches, too. What is judged
    and exported is the network with its own decoder, not the mean of the decoders.

    Source: Wu et al. 2022 (arXiv 2109.09960) and ycwu1997/MC-Net. There the supervised loss is
    half the sum of the decoders' Dice losses, and gradients enter the sharpened side.
    """

    _options: MCNetOptions

    def __init__(self, options: MCNetOptions, build: Build, iterations: int) -> None:
        super().__init__(options, build, iterations)
        others = [one for one in get_args(Upsampling) if one != self._raw.upsampling]
        # Their weights are the next draws after the network's, which the run's seed decides.
        self._decoders = nn.ModuleList(
            self._raw.further_decoder(one) for one in others[: options.decoders - 1]
        )

    def networks(self) -> Mapping[str, nn.Module]:
        """Return the network, its moving average, and the further decoders."""
        return {**super().networks(), "decoders": self._decoders}

    def parameter_group(self) -> ParameterGroup:
        """Return what is learnt: the network and the further decoders."""
        group = super().parameter_group()
        return replace(group, parameters=[*group.parameters, *self._decoders.parameters()])

    def outputs(self, images: Tensor) -> Sequence[Tensor]:
        """Return logits (B, K, D, H, W) of the decoders, the network's own first."""
        encoded = self._raw.encode(self._raw.stem(images))
        own = self._raw.segment(self._raw.decode(encoded)[0])
        return [own, *(decoder(encoded) for decoder in self._decoders)]

    def further_loss(
        self, outputs: Sequence[Tensor], batch: Batch, clock: Clock
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the consistency on all patches."""
        known = batch.num_labelled
        weight = self.voxel_weight(outputs[0][known:], batch)
        if weight is not None:
            labelled = weight.new_ones(known, *weight.shape[1:])
            weight = torch.cat([labelled, weight])
        loss = mutual_consistency(
            outputs,
            batch.valid,
            temperature=self._options.temperature,
            detach_sharp=self._options.detach_sharp,
            weight=weight,
        )
        return loss, {}

    def passes_per_patch(self) -> int:
        """Return those of a network for each decoder, which takes most of the time."""
        return super().passes_per_patch() * self._options.decoders
