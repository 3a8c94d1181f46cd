"""UniMatch: strong views and disturbed features agree with the sure part of a weak view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.losses.classes import most_likely
from SemiSupSegLib.losses.pseudo_label import pseudo_label_loss
from SemiSupSegLib.methods.copy_paste import draw_cut
from SemiSupSegLib.methods.joint import Joint, JointOptions
from SemiSupSegLib.methods.protocol import Batch, Clock


@dataclass(frozen=True, kw_only=True)
class UniMatchOptions(JointOptions):
    """UniMatch in 3D."""

    unlabelled_weight: float = 1.0
    """Weight of the loss on unlabelled patches; 0 or more."""
    rampup_fraction: float = 0.0
    """Share of the updates over which that weight climbs; as published it does not climb."""
    threshold: float = 0.95
    """Least probability (0-1) of a pseudo-label that counts."""
    cutmix: float = 0.5
    """Probability that a strong view gets a box of another patch's, 0-1."""
    feature_perturbation: float = 0.5
    """Share of the encoder's channels that the disturbed features lack, in [0, 1); 0: no such
    term."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("threshold", "cutmix"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1]")
        if not 0 <= self.feature_perturbation < 1:
            raise ValueError(
                f"feature_perturbation is {self.feature_perturbation}, must be in [0, 1)"
            )


class UniMatch(Joint):
    """¼·s₁ + ¼·s₂ + ½·fp: losses of two strong views and of the weak view's disturbed features.

    Source: Yang et al. 2023 (arXiv 2208.09910) and its code for 2D medical images. Here in 3D:
    pseudo-labels are those of the moving average in eval mode, the loss is cross-entropy and Dice
    on the sure voxels, boxes take 2 to 40 % of a patch, with sides that differ by a factor of 4 at
    most, and channels are dropped where a network's stem ends, not at every level.
    """

    strong_views: ClassVar[Literal[0, 1, 2]] = 2
    predicts_unlabelled: ClassVar[bool] = False
    _options: UniMatchOptions

    def unlabelled_loss(
        self, logits: Tensor, batch: Batch, clock: Clock
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the three terms together, and each by itself."""
        options, known = self._options, batch.num_labelled
        valid = batch.valid[known:]
        assert batch.weak is not None
        assert batch.second is not None
        with torch.no_grad():
            probabilities = self._average(batch.weak).float().softmax(1)
        label, confidence = most_likely(probabilities)
        sure = confidence >= options.threshold
        trust = self.voxel_weight(label, batch)
        weight = sure.float() if trust is None else sure * trust
        views = []
        for view in (batch.images[known:], batch.second):
            box = self.draw_boxes(valid)
            mixed = _pasted(box, view)
            terms = (_pasted(box, label), _pasted(box, weight), _pasted(box, valid))
            views.append(pseudo_label_loss(self._raw(mixed), *terms))
        loss = 0.25 * views[0] + 0.25 * views[1]
        figures = {
            "strong": (views[0] + views[1]) / 2,
            "sure_share": (sure & valid).sum() / valid.sum().clamp(min=1),
        }
        if options.feature_perturbation:
            disturbed = pseudo_label_loss(self.disturbed(batch.weak), label, weight, valid)
            loss = loss + 0.5 * disturbed
            figures["disturbed"] = disturbed
        return loss, figures

    def draw_boxes(self, valid: Tensor) -> Tensor:
        """Return where each patch gets another's voxels, boolean (U, D, H, W)."""
        boxes = torch.zeros_like(valid)
        if len(valid) > 1:
            for patch in boxes:
                if float(torch.rand(())) < self._options.cutmix:
                    patch |= draw_cut(tuple(patch.shape), patch.device)
        return boxes

    def disturbed(self, images: Tensor) -> Tensor:
        """Return the logits of features that lack some channels."""
        stem = self._raw.stem(images)
        rate = self._options.feature_perturbation
        return self._raw.segment(self._raw.body(tuple(F.dropout3d(one, rate) for one in stem)))

    def passes_per_unlabelled(self) -> int:
        """Return those beyond the one with its backward pass: moving average, two more of it."""
        return 1 + 3 + 3 * bool(self._options.feature_perturbation)


def _pasted(box: Tensor, values: Tensor) -> Tensor:
    """Return values (U, …, D, H, W) with those of the patch before in each box."""
    where = box if values.ndim == box.ndim else box[:, None]
    return torch.where(where, values.roll(1, 0), values)
