"""From probabilities to class indices and back."""

from __future__ import annotations

import torch
from torch import Tensor

CLASS_AXIS = -4
"""Where the classes stand in (B, K, D, H, W) and in (K, D, H, W)."""


def one_hot(label: Tensor, num_classes: int) -> Tensor:
    """Return booleans (B, K, D, H, W) of a label map (B, D, H, W); all false where ignored."""
    classes = torch.arange(num_classes, dtype=label.dtype, device=label.device)
    return label.unsqueeze(1) == classes.view(1, -1, 1, 1, 1)


def most_likely(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return the most likely class, uint8, and its probability; of equals the lowest index.

    Args:
        probabilities: (…, K, D, H, W); logits do as well.

    Returns:
        Two tensors (…, D, H, W). No int64 map is made, which would need twice the memory of
        the result's probabilities.
    """
    first, *others = probabilities.unbind(CLASS_AXIS)
    highest = first.clone()
    label = torch.zeros_like(first, dtype=torch.uint8)
    for index, candidate in enumerate(others, start=1):
        label.masked_fill_(candidate > highest, index)
        torch.maximum(highest, candidate, out=highest)
    return label, highest
