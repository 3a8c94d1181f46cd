"""How sure a pseudo-label must be, by class: as sure as the network usually is of that class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from SemiSupSegLib.losses.reduction import over_batch

LEAST_VOXELS = 32
"""Of a class, in a batch; fewer say nothing of it."""


class ClassThresholds(nn.Module):
    """τ_k = clip(ceiling·r_k / max_j r_j, lowest, highest), r_k the mean confidence of class k.

    FlexMatch and FreeMatch (arXiv 2110.08263, 2205.07246) lower a class's threshold where it is
    predicted rarely. In a segmentation a rare class is small, not hard: here it is the confidence
    where the class is predicted that counts.

    The running means are a buffer: checkpoints hold them.

    Args:
        num_classes: K, background included.
        ceiling: τ of the class that is predicted most surely.
        lowest: Least τ of any class.
        highest: Largest.
        decay: Of the running means, per update.
    """

    confidence: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        ceiling: float = 0.95,
        lowest: float = 0.6,
        highest: float = 0.95,
        decay: float = 0.99,
    ) -> None:
        super().__init__()
        self.register_buffer("confidence", torch.ones(num_classes))
        self._ceiling, self._lowest, self._highest = ceiling, lowest, highest
        self._decay = decay

    @torch.no_grad()
    def sums(self, label: Tensor, confidence: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of a batch's confidence by class, and its voxels, (K,) each.

        Args:
            label: Predicted classes (B, D, H, W).
            confidence: Probability of that class, float32, the same shape.
            valid: Voxels that count, boolean, the same shape.
        """
        chosen, counted = label.flatten().long(), valid.flatten().float()
        nothing = torch.zeros_like(self.confidence)
        sums = nothing.index_add(0, chosen, confidence.flatten().float() * counted)
        sums, sizes = over_batch(sums, nothing.index_add(0, chosen, counted))
        return sums, sizes

    @torch.no_grad()
    def update(self, sums: Tensor, sizes: Tensor) -> None:
        """Move the running means towards a batch's `sums`; a class with under 32 voxels stays."""
        found = sums / sizes.clamp(min=1)
        moved = torch.lerp(found, self.confidence, self._decay)
        self.confidence.copy_(torch.where(sizes >= LEAST_VOXELS, moved, self.confidence))

    def thresholds(self) -> Tensor:
        """Return τ of each class, (K,)."""
        relative = self.confidence / self.confidence.max()
        return (self._ceiling * relative).clamp(self._lowest, self._highest)
