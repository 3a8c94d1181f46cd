"""Cross teaching: CPS of two architectures that see differently, with a Dice loss."""

from __future__ import annotations

from dataclasses import dataclass, field

from SemiSupSegLib.losses.pseudo_supervision import PseudoLoss
from SemiSupSegLib.methods.cps import CPS, CPSOptions
from SemiSupSegLib.methods.protocol import NetworkOptions


@dataclass(frozen=True, kw_only=True)
class CrossTeachingOptions(CPSOptions):
    """Cross teaching between two architectures."""

    # Group norm works for patches of any size, whatever the first network is.
    second: NetworkOptions = field(
        default_factory=lambda: NetworkOptions(name="unet3d", options={"width": 8, "norm": "group"})
    )
    """The second network; it should see otherwise than the first: without attention, or with."""
    pseudo_loss: PseudoLoss = "dice"
    """How far predictions are from the other network's labels: Dice, cross-entropy, or the mean of
    both."""


class CrossTeaching(CPS):
    """Each network is held to the other's most likely classes by Dice, background included.

    Source: Luo et al. 2022 (arXiv 2112.04894), in 2D between a U-Net and a Swin U-Net pretrained on
    photographs; here in 3D, from random weights. The first network is the one that is exported.
    """

    _options: CrossTeachingOptions
