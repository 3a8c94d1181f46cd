"""Quality-guided learning: a network that judges masks weighs pseudo-labels and improves masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.losses.classes import one_hot
from SemiSupSegLib.losses.cross_entropy import log_probability_of
from SemiSupSegLib.losses.dice import dice_per_class
from SemiSupSegLib.losses.reduction import at_least_float32, masked_mean, over_batch
from SemiSupSegLib.losses.schedules import linear_ramp
from SemiSupSegLib.methods.joint import Joint, JointOptions
from SemiSupSegLib.methods.protocol import Batch, Build, Clock, Phase, TrainingData
from SemiSupSegLib.methods.quality_options import QualityOptions
from SemiSupSegLib.networks.quality import QualityNetwork
from SemiSupSegLib.quality.crops import foreground_of, view_of


@dataclass(frozen=True, kw_only=True)
class QualityGuidedOptions(JointOptions):
    """Pseudo-labels weighed by estimated quality, and quality-aware regularisation."""

    COMMON: ClassVar = JointOptions.COMMON | {"quality_weight"}
    """What a person may want to change first."""

    unlabelled_weight: float = 0.25
    """Weight of the loss on pseudo-labels, once its ramp is over; 0 or more."""
    warmup_fraction: float = 0.075
    """Share of the updates without that loss, 0-1."""
    rampup_fraction: float = 0.15
    """Share of the updates over which its weight climbs afterwards, 0-1."""
    quality_weight: float = 0.01
    """Weight of the regularisation, once its ramp is over; 0 or more."""
    quality_warmup: float = 0.15
    """Share of the updates without it, 0-1."""
    quality_rampup: float = 0.2
    """Share of the updates over which its weight climbs afterwards, 0-1."""
    least_voxels: int = 50
    """Foreground voxels of a patch from which on it is regularised, 1 or more."""
    stop_gap: float | None = None
    """Regularisation rests while the mean estimate on unlabelled cases is above the mean Dice on
    validation cases by more than this: the network has then learnt to please the one that judges.
    Validation figures so have a small say; null: never rests."""
    quality: QualityOptions = field(default_factory=lambda: QualityOptions(reweight=True))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("warmup_fraction", "quality_warmup", "quality_rampup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1]")
        if self.quality_weight < 0:
            raise ValueError(f"quality_weight is {self.quality_weight}, must be at least 0")
        if self.least_voxels < 1:
            raise ValueError(f"least_voxels is {self.least_voxels}, must be at least 1")
        if self.stop_gap is not None and self.stop_gap < 0:
            raise ValueError(f"stop_gap is {self.stop_gap}, must be at least 0 or null")


class QualityGuided(Joint):
    """The moving average's pseudo-labels weighed by case and class, and L_q = 1 − mean_k g_k(x, p).

    Source: Abhishek & Hamarneh 2026 (arXiv 2606.01753) and sfu-mial/QG-SSL, in 2D and of one class.
    There weights are divided by their sum, the judge has seen hard masks only, and the image is
    judged as a whole. Here weights are absolute, it has seen soft masks, and it judges the
    surroundings of what a patch shows; classes that the patch does not show are left out, since an
    estimate of them means nothing.
    """

    _options: QualityGuidedOptions

    def __init__(self, options: QualityGuidedOptions, build: Build, iterations: int) -> None:
        super().__init__(options, build, iterations)
        self._data: TrainingData | None = None

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Return the one phase."""
        self._data = data
        return super().phases(data)

    def weight(self, clock: Clock) -> float:
        """Return 1: the two terms have weights of their own, which climb without stairs."""
        return 1.0

    def unlabelled_loss(
        self, logits: Tensor, batch: Batch, clock: Clock
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return λ·L_pseudo + λ_q·L_q, and both without their weights."""
        options, known = self._options, batch.num_labelled
        with torch.no_grad():
            label = self._average(batch.images[known:]).argmax(1)
        pseudo = self.pseudo_label_loss(logits, label, batch)
        total = pseudo * _climbing(
            self._share(clock),
            options.unlabelled_weight,
            options.warmup_fraction,
            options.rampup_fraction,
        )
        figures = {"pseudo_label": pseudo}
        weight = _climbing(
            self._share(clock),
            options.quality_weight,
            options.quality_warmup,
            options.quality_rampup,
        )
        if weight and not self._rests():
            regularisation = self.regularisation(logits, batch)
            total = total + weight * regularisation
            figures["quality"] = regularisation
        return total, figures

    def pseudo_label_loss(self, logits: Tensor, label: Tensor, batch: Batch) -> Tensor:
        """Return ½·CE + ½·Dice with pseudo-labels, each voxel and class by its case's weight.

        Args:
            logits: Of the unlabelled patches, (U, K, D, H, W).
            label: Pseudo-labels, (U, D, H, W).
            batch: All patches.
        """
        valid = batch.valid[batch.num_labelled :]
        log_probabilities = F.log_softmax(at_least_float32(logits), 1)
        values = -log_probability_of(log_probabilities, label)
        weight = self.voxel_weight(label, batch)
        entropy = masked_mean(values if weight is None else values * weight, valid)
        target = one_hot(label, logits.shape[1])
        losses = dice_per_class(
            log_probabilities.exp()[:, 1:],
            target[:, 1:],
            valid[:, None],
            exponent=1,
            batch=False,
        )
        # In a crop without the class its Dice is 0 for any prediction.
        present = (target & valid[:, None])[:, 1:].flatten(2).any(2)
        shares = present.to(losses.dtype)
        if self.quality is not None and self.quality.weighs:
            shares = shares * self.quality.weights_of(batch)[:, 1:].to(losses.dtype)
        dice = (losses * shares).sum(1) / present.sum(1).clamp(min=1)
        return 0.5 * entropy + 0.5 * dice.mean()

    def regularisation(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return 1 − mean_k g_k(x, p_S), the mean over patches with enough foreground, or 0.

        The gradient goes through the masks, not into the weights of the network that judges.
        """
        assert self.quality is not None
        assert self._data is not None
        known, network = batch.num_labelled, self.quality.network
        probabilities = F.softmax(at_least_float32(logits), 1)
        probabilities = probabilities * batch.valid[known:, None]
        images = at_least_float32(batch.images[known:])
        terms = [
            1 - own
            for place, case_id in enumerate(batch.case_ids[known:])
            if (
                own := self._estimate(
                    network,
                    images[place],
                    probabilities[place, 1:],
                    self._data.spacing(case_id),
                )
            )
            is not None
        ]
        # The sum of nothing is 0 and still belongs to the graph.
        summed = torch.stack(terms).sum() if terms else logits[:0].float().sum()
        summed, count = over_batch(summed, summed.new_tensor(len(terms)))
        return summed / count.clamp(min=1)

    def _estimate(
        self, network: QualityNetwork, image: Tensor, masks: Tensor, spacing: Sequence[float]
    ) -> Tensor | None:
        """Return the mean estimate of the classes that soft masks show; None if that is little."""
        foreground = foreground_of(masks)
        if int(foreground.sum()) < self._options.least_voxels:
            return None
        # Of foreground the likeliest class.
        highest = masks.detach().argmax(0)
        shown = [
            index for index in range(len(masks)) if bool((foreground & (highest == index)).any())
        ]
        seen = view_of(image, masks, spacing, network.options.side)
        with torch.autocast(seen.device.type, enabled=False):
            estimates = network(seen[None])[0]
        return estimates[shown].mean()

    def passes_per_unlabelled(self) -> int:
        """Return the one of the teacher."""
        return 1

    def _rests(self) -> bool:
        """Return whether the estimates on unlabelled cases are too good to be true."""
        gap, quality = self._options.stop_gap, self.quality
        if gap is None or quality is None or quality.validation_dice is None:
            return False
        return quality.mean_estimate > quality.validation_dice + gap

    def _share(self, clock: Clock) -> float:
        return clock.phase_iteration / self._iterations


def _climbing(share: float, highest: float, warmup: float, rampup: float) -> float:
    """Return a weight that is 0 at first and then climbs evenly; all but itself by the run."""
    if share < warmup:
        return 0.0
    return highest * linear_ramp(share - warmup, rampup)
