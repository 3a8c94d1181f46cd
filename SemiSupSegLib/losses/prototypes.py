"""Directions that stand for classes in the space of features, and voxels compared with them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from SemiSupSegLib.losses.classes import most_likely, one_hot
from SemiSupSegLib.losses.reduction import IGNORED, at_least_float32, masked_mean, over_batch

_HIDDEN, _EMBEDDED = 64, 32
_NEVER = -1e4
"""Similarity with a class that was never seen: its share of the softmax is exactly 0."""


class PrototypeContrast(nn.Module):
    """A projection of features, and a prototype of each class: the moving mean of what it projects.

    Both are saved with the networks. A class without a voxel so far has no prototype.

    Source: Lu et al. 2025 (arXiv 2509.13084). Its code computes the contrast without gradient, and
    draws prototypes of different classes together; here voxels are drawn to their own.

    Args:
        feature_channels: Of the network's last feature map.
        num_classes: K.
    """

    prototypes: Tensor
    seen: Tensor

    def __init__(self, feature_channels: int, num_classes: int) -> None:
        super().__init__()
        self.projection = nn.Sequential(
            nn.Conv3d(feature_channels, _HIDDEN, 1),
            nn.ReLU(inplace=True),
            nn.Conv3d(_HIDDEN, _EMBEDDED, 1),
        )
        self.register_buffer("prototypes", torch.zeros(num_classes, _EMBEDDED))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.bool))

    def forward(self, features: Tensor) -> Tensor:
        """Return directions (B, 32, D/2, H/2, W/2), of length 1, of features (B, F, D, H, W)."""
        projected = self.projection(F.avg_pool3d(features, 2))
        return F.normalize(at_least_float32(projected), dim=1)

    def contrast(self, embedded: Tensor, label: Tensor, *, temperature: float, most: int) -> Tensor:
        """Return the mean of −ln softmax_k(f·g_k/τ) at the label, over voxels that are drawn.

        Args:
            embedded: Of `forward`, (B, 32, d, h, w).
            label: Classes that voxels are drawn to, 255 for those that are left out, (B, d, h, w).
            temperature: τ.
            most: Voxels drawn of each image and class, at most. Draws are PyTorch's.

        Returns:
            Scalar; exactly 0 with zero gradient if there is no voxel whose class has a prototype.
        """
        num_classes = len(self.seen)
        own = one_hot(label, num_classes).flatten(2)
        keys = torch.rand(label.shape, device=label.device).flatten(1).unsqueeze(1)
        # No loop over images and classes, each of which would hold up a GPU.
        drawn, places = torch.where(own, keys, -1.0).topk(min(most, own.shape[2]), 2)
        target = torch.arange(num_classes, device=label.device).repeat_interleave(drawn.shape[2])
        at = places.flatten(1).unsqueeze(1).expand(-1, embedded.shape[1], -1)
        anchors = embedded.flatten(2).gather(2, at)
        with torch.autocast(embedded.device.type, enabled=False):
            cosines = torch.einsum("bcn,kc->bkn", anchors, self.prototypes.to(anchors))
        similarity = (cosines / temperature).masked_fill(~self.seen[None, :, None], _NEVER)
        index = target.expand(len(label), 1, -1)
        losses = -F.log_softmax(similarity, 1).gather(1, index).squeeze(1)
        return masked_mean(losses, (drawn >= 0).flatten(1) & self.seen[target])

    @torch.no_grad()
    def sums(self, embedded: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `remember` takes: sums of directions (K, 32) and voxels (K,) by class.

        Args:
            embedded: Of `forward`, (B, 32, d, h, w).
            label: Classes, 255 for voxels that are left out, (B, d, h, w).
        """
        own = one_hot(label, len(self.seen)).to(embedded.dtype)
        with torch.autocast(embedded.device.type, enabled=False):
            summed = torch.einsum("bcdhw,bkdhw->kc", embedded, own)
        summed, voxels = over_batch(summed, own.sum((0, 2, 3, 4)))
        return summed, voxels

    @torch.no_grad()
    def remember(self, summed: Tensor, voxels: Tensor, decay: float) -> None:
        """Move the prototypes of the classes that were seen: g ← norm(decay·g + (1 − decay)·mean).

        The first mean of a class is its prototype.
        """
        mean = summed / voxels.clamp(min=1).unsqueeze(1)
        former = torch.where(self.seen.unsqueeze(1), self.prototypes, mean)
        moved = F.normalize(former.lerp(mean, 1 - decay), dim=1)
        present = voxels > 0
        self.prototypes.copy_(torch.where(present.unsqueeze(1), moved, self.prototypes))
        self.seen.logical_or_(present)


@torch.no_grad()
def block_label(label: Tensor, num_classes: int) -> Tensor:
    """Return the most frequent class of each block of 2³ voxels, uint8, (B, D/2, H/2, W/2).

    255 where a voxel of the block has no label; of equally frequent classes the lowest index.

    Args:
        label: Class indices or 255, (B, D, H, W), sides even.
        num_classes: K.
    """
    shares = F.avg_pool3d(one_hot(label, num_classes).float(), 2)
    # Eighths add up exactly.
    return most_likely(shares)[0].masked_fill_(shares.sum(1) < 1, IGNORED)


@torch.no_grad()
def block_all(mask: Tensor) -> Tensor:
    """Return the blocks of 2³ voxels that a mask (B, D, H, W) holds wholly."""
    return F.avg_pool3d(mask.float(), 2) == 1
