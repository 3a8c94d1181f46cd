"""Learning from what another network says: hard labels, and how far two predictions are apart."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.losses.classes import most_likely
from SemiSupSegLib.losses.cross_entropy import log_probability_of
from SemiSupSegLib.losses.dice import soft_dice_loss
from SemiSupSegLib.losses.reduction import IGNORED, at_least_float32, masked_mean

PseudoLoss = Literal["ce", "dice", "ce+dice"]


@torch.no_grad()
def hard_label(logits: Tensor, valid: Tensor, min_confidence: float | None = None) -> Tensor:
    """Return the most likely class of each voxel, without gradient.

    Args:
        logits: Of the network that gives the label, (B, K, D, H, W).
        valid: Voxels that count, boolean (B, D, H, W).
        min_confidence: Voxels whose highest probability is lower have no label; None: all have.

    Returns:
        uint8, (B, D, H, W), 255 where there is no label; of equals the lowest index.
    """
    probabilities = F.softmax(at_least_float32(logits), 1)
    label, confidence = most_likely(probabilities)
    counted = valid if min_confidence is None else valid & (confidence >= min_confidence)
    return label.masked_fill_(~counted, IGNORED)


def pseudo_supervision(
    logits: Tensor, label: Tensor, kind: PseudoLoss = "ce", weight: Tensor | None = None
) -> Tensor:
    """Return how far predictions are from the labels that another network gave.

    Source: Chen et al. 2021 (cross-entropy) and Luo et al. 2022 (Dice) as SSL4MIS has them; the
    Dice is that of its supervised loss, with squares and background.

    Args:
        logits: Of the network that learns, (B, K, D, H, W).
        label: Of `hard_label`, (B, D, H, W).
        kind: "ce+dice" is the mean of both.
        weight: Of each voxel, (B, D, H, W), 0-1: factor on its cross-entropy, and in Dice on its
            prediction and label. None is 1 everywhere.

    Returns:
        Scalar; exactly 0 with zero gradient if no voxel has a label.
    """
    log_probabilities = F.log_softmax(at_least_float32(logits), 1)
    entropy = masked_mean(-log_probability_of(log_probabilities, label), label != IGNORED, weight)
    if kind == "ce":
        return entropy
    dice = soft_dice_loss(log_probabilities.exp(), label, weight)
    return dice if kind == "dice" else 0.5 * (entropy + dice)


def divergence(giver: Tensor, learner: Tensor) -> Tensor:
    """Return KL(q‖p) = Σ q (ln q − ln p) per voxel, (B, D, H, W), in nats.

    Args:
        giver: Logits of q, (B, K, D, H, W); get no gradient.
        learner: Logits of p, of the same shape.
    """
    log_giver = F.log_softmax(at_least_float32(giver.detach()), 1)
    log_learner = F.log_softmax(at_least_float32(learner), 1)
    return (log_giver.exp() * (log_giver - log_learner)).sum(1)


def weighted_pseudo_supervision(
    learner: Tensor, giver: Tensor, label: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean of e^−KL·CE with the giver's hard labels, and the mean of KL(q‖p) itself.

    Source: Lu et al. 2025 (arXiv 2509.13084) and its code, in which the gradient also flows through
    the weight e^−KL, so that raising the divergence lowers the loss; here it is a constant.

    Args:
        learner: Logits of the network that learns, (B, K, D, H, W).
        giver: Those of the other, of the same shape; get no gradient.
        label: Of the giver, from `hard_label`, (B, D, H, W).
        weight: Of each voxel's value, (B, D, H, W); absolute: the mean is still that of as many
            voxels. None is 1 everywhere.

    Returns:
        Two scalars; exactly 0 with zero gradient if no voxel has a label.
    """
    counted = label != IGNORED
    apart = divergence(giver, learner)
    entropy = -log_probability_of(F.log_softmax(at_least_float32(learner), 1), label)
    agreed = (-apart.detach()).exp() * entropy
    return masked_mean(agreed, counted, weight), masked_mean(apart, counted, weight)
