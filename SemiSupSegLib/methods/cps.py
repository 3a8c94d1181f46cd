"""CPS: two networks of the same architecture, each learning from the other's hard labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from SemiSupSegLib.losses.pseudo_supervision import PseudoLoss, hard_label, pseudo_supervision
from SemiSupSegLib.methods.joint import JointOptions
from SemiSupSegLib.methods.protocol import Batch, Clock
from SemiSupSegLib.methods.two_networks import Output, TwoNetworks


@dataclass(frozen=True, kw_only=True)
class CPSOptions(JointOptions):
    """Cross pseudo supervision."""

    min_confidence: float | None = None
    """Lowest probability of a class that the other network learns, in [0, 1]; null: all voxels are
    learnt from, as published."""
    pseudo_loss: PseudoLoss = "ce"
    """How far predictions are from the other network's labels: cross-entropy, Dice, or the mean of
    both."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_confidence is not None and not 0 <= self.min_confidence <= 1:
            raise ValueError(f"min_confidence is {self.min_confidence}, must be in [0, 1]")


class CPS(TwoNetworks):
    """Each network is held to the other's most likely classes, as both predict them in training.

    Source: Chen et al. 2021 (arXiv 2106.01226) as SSL4MIS has it in 3D, on unlabelled patches
    alone. There the initialisations differ in kind, Kaiming and Xavier; here in what is drawn.
    """

    _options: CPSOptions

    def cross_loss(
        self, outputs: tuple[Output, Output], batch: Batch, clock: Clock
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the sum of both networks' losses on unlabelled patches."""
        known, options = batch.num_labelled, self._options
        first, second = (one.logits[known:] for one in outputs)
        valid = batch.valid[known:]
        from_second = hard_label(second, valid, options.min_confidence)
        from_first = hard_label(first, valid, options.min_confidence)
        loss = first.new_zeros((), dtype=torch.float32)
        for logits, label in ((first, from_second), (second, from_first)):
            weight = self.voxel_weight(label, batch)
            loss = loss + pseudo_supervision(logits, label, options.pseudo_loss, weight)
        return loss, {}
