"""How long a prediction or a training run will take and how much memory.

A prediction as the latest of its kind did here; before the first one, at most what so many windows
take as one that was tried. A run as a short trial of one with its network, patch and batch tells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.models.registry import user_data_folder
from SemiSupSegLib.resources import check_format

_BYTES_A_VOXEL = 70
"""Images and maps of a case in the worker's memory; 1.03 GiB for a whole brain with four channels
(Testing/benchmarks/predict_speed.py), of which the process itself has 0.45."""


@dataclass(frozen=True)
class Estimate:
    """What a prediction is expected to need."""

    seconds: float
    """From the worker's start of the job to the saved result."""
    peak_mb: float
    """Of the worker's memory, not the GPU's."""
    is_bound: bool = False
    """Whether no case was measured yet: it may well be less, since windows without brain are
    left out."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """What one window of a model took."""

    seconds: float
    size: tuple[int, int, int]
    """Voxels x, y, z."""
    spacing: tuple[float, float, float] | None
    """To which cases are resampled, x, y, z in mm; None: they keep theirs."""
    process_mb: float
    """Memory of the process with the model loaded."""

    def bound(
        self,
        size: tuple[int, int, int],
        spacing: tuple[float, float, float],
        overlap: float,
        passes: int,
    ) -> Estimate:
        """Return what a case needs at most.

        Args:
            size: Its voxels x, y, z.
            spacing: Its voxels' sides, mm.
            overlap: Of neighbouring windows.
            passes: Of the student.
        """
        target = self.spacing or spacing
        lengths = [
            max(1, round(count * own / other))
            for count, own, other in zip(size, spacing, target, strict=True)
        ]
        windows = math.prod(
            _num_starts(length, patch, overlap)
            for length, patch in zip(lengths, self.size, strict=True)
        )
        seconds = windows * self.seconds * passes
        memory = self.process_mb + math.prod(size) * _BYTES_A_VOXEL / 1e6
        return Estimate(seconds, memory, is_bound=True)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Predictions that take alike long for alike many voxels."""

    model: str
    """Hash of the package."""
    device: str
    """As asked for: auto, cpu, cuda:0."""
    overlap: float
    passes: int | None
    probabilities: bool = False

    @property
    def key(self) -> str:
        """Name of the kind in the file."""
        return (
            f"{self.model}/{self.device}/{self.overlap:g}/{self.passes or 1}/{self.probabilities}"
        )


def expected(kind: Kind, num_voxels: int) -> Estimate | None:
    """Return what a prediction on a grid of so many voxels needs; None if none was measured yet."""
    measured = _content().get("measured", {}).get(kind.key)
    if measured is None:
        return None
    return Estimate(measured["seconds_per_megavoxel"] * num_voxels / 1e6, measured["peak_mb"])


def bound(
    kind: Kind, size: tuple[int, int, int], spacing: tuple[float, float, float]
) -> Estimate | None:
    """Return what a case needs at most; None if no window of the model was tried here.

    Args:
        kind: Of the prediction.
        size: Voxels x, y, z.
        spacing: Sides of a voxel, mm.
    """
    told = _content().get("windows", {}).get(f"{kind.model}/{kind.device}")
    if told is None:
        return None
    window = Window(
        seconds=told["seconds"],
        size=tuple(told["size"]),
        spacing=None if told["spacing"] is None else tuple(told["spacing"]),
        process_mb=told["process_mb"],
    )
    return window.bound(size, spacing, kind.overlap, kind.passes or 1)


def is_rehearsed(model: str) -> bool:
    """Return whether a window of the model was tried on the best device."""
    return f"{model}/auto" in _content().get("windows", {})


def remember_window(model: str, devices: Sequence[str], window: Window) -> None:
    """Note what one window took.

    Args:
        model: Hash of the package.
        devices: Names that stand for the device it ran on.
        window: What it took.
    """
    told = {
        "seconds": round(window.seconds, 5),
        "size": list(window.size),
        "spacing": None if window.spacing is None else list(window.spacing),
        "process_mb": round(window.process_mb, 1),
    }
    content = _content()
    windows = {**content.get("windows", {}), **{f"{model}/{one}": told for one in devices}}
    _write({**content, "windows": windows})


def remember(kind: Kind, num_voxels: int, seconds: float, peak_mb: float) -> None:
    """Note how long a prediction took; a former one of its kind is replaced."""
    content = _content()
    told = {
        "seconds_per_megavoxel": round(seconds / max(num_voxels, 1) * 1e6, 4),
        "peak_mb": round(peak_mb, 1),
    }
    _write({**content, "measured": {**content.get("measured", {}), kind.key: told}})


class MeasuredRuns:
    """What short trials of training runs have measured here, by what they depend on."""

    def get(self, key: str) -> Mapping[str, Any] | None:
        """Return what was put under a key; None if nothing was."""
        found: Mapping[str, Any] | None = _content().get("runs", {}).get(key)
        return found

    def put(self, key: str, told: Mapping[str, Any]) -> None:
        """Remember something."""
        content = _content()
        _write({**content, "runs": {**content.get("runs", {}), key: dict(told)}})


def _num_starts(length: int, patch: int, overlap: float) -> int:
    """Return how many windows stand along an axis; inference/sliding_window.py places them."""
    stride = max(1, round(patch * (1 - overlap)))
    return math.ceil((max(length, patch) - patch) / stride) + 1


def _write(content: Mapping[str, Any]) -> None:
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    told = {"format": "semisupseg-timings", "version": 1, "measured": {}, **content}
    write_json(file, told)


def _content() -> dict[str, Any]:
    file = _file()
    if not file.is_file():
        return {}
    try:
        content = read_json(file)
        check_format(content, "timings", file)
    except SemiSupSegError:
        # Only a convenience: what cannot be read is measured anew.
        return {}
    return dict(content)


def _file() -> Path:
    return user_data_folder() / "timings.json"
