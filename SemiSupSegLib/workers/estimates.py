"""How long a prediction will take and how much memory: as the latest of its kind did here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.models.registry import user_data_folder
from SemiSupSegLib.resources import check_format


@dataclass(frozen=True)
class Estimate:
    """What a prediction is expected to need."""

    seconds: float
    """From the worker's start of the job to the saved result."""
    peak_mb: float
    """Of the worker's memory, not the GPU's."""


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
    measured = _read().get(kind.key)
    if measured is None:
        return None
    return Estimate(measured["seconds_per_megavoxel"] * num_voxels / 1e6, measured["peak_mb"])


def remember(kind: Kind, num_voxels: int, seconds: float, peak_mb: float) -> None:
    """Note how long a prediction took; a former one of its kind is replaced."""
    measured = _read()
    measured[kind.key] = {
        "seconds_per_megavoxel": round(seconds / max(num_voxels, 1) * 1e6, 4),
        "peak_mb": round(peak_mb, 1),
    }
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(file, {"format": "semisupseg-timings", "version": 1, "measured": measured})


def _read() -> dict[str, dict[str, float]]:
    file = _file()
    if not file.is_file():
        return {}
    try:
        content = read_json(file)
        check_format(content, "timings", file)
    except SemiSupSegError:
        # Only a convenience: what cannot be read is measured anew.
        return {}
    measured: dict[str, dict[str, float]] = content["measured"]
    return measured


def _file() -> Path:
    return user_data_folder() / "timings.json"
