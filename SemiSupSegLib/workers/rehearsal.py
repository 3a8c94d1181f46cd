"""One window of a model, timed, so that its first case can be forecast."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.models.package import read_package
from SemiSupSegLib.models.registry import registered_models
from SemiSupSegLib.resources import ROOT
from SemiSupSegLib.workers.estimates import Window, is_rehearsed, remember_window

_REPEATS = 2
"""The first one warms up, the last one counts."""


def rehearse_models() -> int:
    """Rehearse the models of this user that were not, and the one for made-up cases; say how many.

    A model that cannot be used is passed over: whoever chooses it is told.
    """
    count = 0
    folders = [one.folder for one in registered_models() if one.problem is None]
    for folder in (*folders, ROOT / "Demonstration" / "model"):
        with contextlib.suppress(SemiSupSegError, OSError):
            count += rehearse(folder)
    return count


def rehearse(folder: Path) -> bool:
    """Time one window of a model on the best device, and remember it; False if that was done.

    Args:
        folder: Of the package.

    Raises:
        SemiSupSegError: If the package cannot be used.
    """
    import torch

    from SemiSupSegLib.inference.predictor import Predictor
    from SemiSupSegLib.training.devices import choose_device

    package = read_package(folder)
    if is_rehearsed(package.sha256):
        return False
    device = choose_device("auto")
    predictor = Predictor(package, device=device)
    patches = torch.zeros((1, len(package.task.channels), *predictor.patch_size), device=device)
    seconds = 0.0
    with torch.inference_mode():
        for _ in range(_REPEATS):
            began = time.perf_counter()
            # To the CPU, which waits until a GPU has done it.
            predictor.forward(patches).cpu()
            seconds = time.perf_counter() - began
    spacing = (package.manifest.get("preparation") or {}).get("spacing")
    z, y, x = predictor.patch_size
    window = Window(
        seconds=seconds,
        size=(x, y, z),
        spacing=None if spacing is None else tuple(spacing),
        process_mb=_process_mb(),
    )
    remember_window(package.sha256, ("auto", str(device)), window)
    return True


def _process_mb() -> float:
    import psutil

    return float(psutil.Process().memory_info().rss) / 1e6
