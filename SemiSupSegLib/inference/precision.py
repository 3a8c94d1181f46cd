"""In which number format networks compute."""

from __future__ import annotations

import torch

_FIRST_WITH_BFLOAT16 = 8
"""Compute capability from which CUDA's convolutions take bfloat16; older GPUs emulate it slowly,
and PyTorch calls that supported, too."""


def automatic_precision(device: torch.device) -> torch.dtype | None:
    """Return bfloat16 for a device that is fast with it, None (float32) for others."""
    if device.type != "cuda":
        return None
    major, _ = torch.cuda.get_device_capability(device)
    return torch.bfloat16 if major >= _FIRST_WITH_BFLOAT16 else None


def automatic_autocast(device: torch.device) -> torch.autocast:
    """Return the context in which networks predict, here and in every result."""
    dtype = automatic_precision(device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
