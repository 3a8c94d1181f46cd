"""Dual network: cross supervision weighted by agreement, sure voxels, class prototypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from SemiSupSegLib.losses.entropy_filter import surest_of_each_class
from SemiSupSegLib.losses.prototypes import PrototypeContrast, block_all, block_label
from SemiSupSegLib.losses.pseudo_supervision import (
    hard_label,
    pseudo_supervision,
    weighted_pseudo_supervision,
)
from SemiSupSegLib.losses.reduction import IGNORED
from SemiSupSegLib.losses.schedules import linear_ramp
from SemiSupSegLib.losses.uncertainty import entropy_of_logits
from SemiSupSegLib.methods.joint import JointOptions
from SemiSupSegLib.methods.protocol import (
    Batch,
    Build,
    Clock,
    NetworkOptions,
    ParameterGroup,
    Phase,
)
from SemiSupSegLib.methods.two_networks import Output, TwoNetworks


@dataclass(frozen=True, kw_only=True)
class DualNetworkOptions(JointOptions):
    """Two architectures that teach each other where they agree and are sure."""

    COMMON: ClassVar = JointOptions.COMMON | {"filter_weight", "contrast_weight"}
    """What a person may want to change first."""

    # Group norm works for patches of any size, whatever the first network is.
    second: NetworkOptions = field(
        default_factory=lambda: NetworkOptions(name="unet3d", options={"width": 8, "norm": "group"})
    )
    """The second network."""
    cross_weight: float = 1.0
    """Factor on the cross-entropy with the other's labels, weighted by agreement; 0 or more."""
    divergence_weight: float = 1.0
    """Factor on the divergence from the other's probabilities, 0 or more."""
    filter_weight: float = 1.0
    """Factor on the cross-entropy with those labels of the other that it is surest of; 0 or
    more."""
    contrast_weight: float = 0.1
    """Factor on the comparison of doubtful voxels with the prototypes of classes, 0 or more."""
    kept_share_start: float = 0.2
    """Share of each class's voxels that count as sure at the start, in [0, 1]."""
    kept_share_end: float = 0.8
    """The same at the end; between, it changes in a straight line."""
    temperature: float = 0.1
    """Of the comparison with prototypes: the smaller, the more the nearest one counts; positive."""
    anchors: int = 256
    """Voxels of each patch and class that are compared with prototypes, at most."""
    prototype_decay: float = 0.99
    """Decay of the prototypes' moving means, in [0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cross_weight", "divergence_weight", "filter_weight", "contrast_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0")
        for name in ("kept_share_start", "kept_share_end"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1]")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, must be positive")
        if self.anchors < 1:
            raise ValueError(f"anchors is {self.anchors}, must be at least 1")
        if not 0 <= self.prototype_decay < 1:
            raise ValueError(f"prototype_decay is {self.prototype_decay}, must be in [0, 1)")


class DualNetwork(TwoNetworks):
    """Cross supervision weighted by e^−KL, a filter by entropy, and a contrast with prototypes.

    Source: Lu et al. 2025 (arXiv 2509.13084), as its text has it. In its code the filtered loss and
    the contrast have no gradient, the entropy is taken of logits, which filters nothing, and the
    second network alone learns from the first; here every term learns, both ways, and the
    rectification of labelled voxels that the code takes from MCF is left out.
    """

    _options: DualNetworkOptions

    def __init__(self, options: DualNetworkOptions, build: Build, iterations: int) -> None:
        super().__init__(options, build, iterations)
        self._contrasts: tuple[PrototypeContrast, ...] = ()
        if options.contrast_weight:
            self._contrasts = tuple(
                PrototypeContrast(one.feature_channels, one.num_classes)
                for one in (self._raw, self._second_raw)
            )
        self._seen: list[tuple[Tensor, Tensor]] = []
        """What the prototypes take over after the update."""

    def networks(self) -> Mapping[str, nn.Module]:
        """Return both networks, their moving averages, and their prototypes."""
        names = ("student_contrast", "teacher_contrast")
        return {**super().networks(), **dict(zip(names, self._contrasts, strict=False))}

    def parameter_group(self) -> ParameterGroup:
        """Return the parameters of both networks and of their projections."""
        group = super().parameter_group()
        own = [parameter for one in self._contrasts for parameter in one.parameters()]
        return replace(group, parameters=[*group.parameters, *own])

    def cross_loss(
        self, outputs: tuple[Output, Output], batch: Batch, clock: Clock
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the weighted sum of all terms of both networks, and each term's own sum."""
        options = self._options
        weights = {
            "cross": options.cross_weight,
            "divergence": options.divergence_weight,
            "filtered": options.filter_weight,
            "contrast": options.contrast_weight,
        }
        first = self._learn_from(outputs[0], outputs[1], 0, batch, clock)
        second = self._learn_from(outputs[1], outputs[0], 1, batch, clock)
        terms = {name: value + second[name] for name, value in first.items()}
        # A term of weight 0 takes no part, not even with a gradient of 0.
        loss = sum(
            (weights[name] * value for name, value in terms.items() if weights[name]),
            start=outputs[0].logits.new_zeros((), dtype=torch.float32),
        )
        return loss, terms

    def after_step(self, phase: Phase, clock: Clock) -> None:
        """Move both averages and the prototypes."""
        super().after_step(phase, clock)
        decay = self._options.prototype_decay
        for contrast, (summed, voxels) in zip(self._contrasts, self._seen, strict=False):
            contrast.remember(summed, voxels, decay)
        self._seen = []

    def kept_share(self, clock: Clock) -> float:
        """Return the share of each class's voxels that count as sure."""
        start, end = self._options.kept_share_start, self._options.kept_share_end
        return start + (end - start) * linear_ramp(clock.phase_iteration, self._iterations)

    def _learn_from(
        self, learner: Output, giver: Output, place: int, batch: Batch, clock: Clock
    ) -> dict[str, Tensor]:
        """Return the terms of one network, unweighted; `place` is its own, 0 or 1."""
        known = batch.num_labelled
        theirs, ours = giver.logits[known:].detach(), learner.logits[known:]
        num_classes = ours.shape[1]
        label = hard_label(theirs, batch.valid[known:])
        sure = surest_of_each_class(
            entropy_of_logits(theirs), label, num_classes, self.kept_share(clock)
        )
        weight = self.voxel_weight(label, batch)
        cross, apart = weighted_pseudo_supervision(ours, theirs, label, weight)
        filtered = pseudo_supervision(ours, label.masked_fill(~sure, IGNORED), "ce", weight)
        terms = {"cross": cross, "divergence": apart, "filtered": filtered}
        if self._contrasts:
            terms["contrast"] = self._contrast(learner, place, batch, label, sure)
        return terms

    def _contrast(
        self, learner: Output, place: int, batch: Batch, label: Tensor, sure: Tensor
    ) -> Tensor:
        """Compare labelled and doubtful voxels; labelled and sure ones move the prototypes."""
        contrast, num_classes = self._contrasts[place], learner.logits.shape[1]
        embedded = contrast(learner.features)
        labelled = block_label(batch.labels, num_classes)
        unlabelled, kept = block_label(label, num_classes), block_all(sure)
        doubtful = torch.cat([labelled, unlabelled.masked_fill(kept, IGNORED)])
        certain = torch.cat([labelled, unlabelled.masked_fill(~kept, IGNORED)])
        # The first network's come first; what an update that failed has left is overwritten.
        self._seen = [*self._seen[:place], contrast.sums(embedded, certain)]
        return contrast.contrast(
            embedded,
            doubtful,
            temperature=self._options.temperature,
            most=self._options.anchors,
        )
