"""Which device a run uses."""

from __future__ import annotations

import torch

from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import UsageError


def choose_device(wish: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda:N`.

    Raises:
        UsageError: If it does not exist; nothing else is taken silently in its place.
    """
    if wish == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wish)
    except RuntimeError:
        device = torch.device("meta")
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = device.index or 0
        if index < count:
            return torch.device(f"cuda:{index}")
        raise UsageError(
            f"Device {wish}: this computer has {counted(count, 'CUDA devices')} that PyTorch can "
            "use. Choose cpu or auto, or run doctor to see why."
        )
    raise UsageError(f"Device {wish!r} is unknown. It must be auto, cpu or cuda:N.")
