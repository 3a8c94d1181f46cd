"""What to know before an installation: sizes, what stands against it, what one may not expect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from SemiSupSegLib.workers.packages import (
    CUDA_MB,
    PYTHON,
    Package,
    PackageState,
    PackageStatus,
    Probe,
)

LONGEST_WINDOWS_PATH = 80
"""PyTorch's wheels hold paths of more than 160 characters; Windows takes 260 in all."""


def takes_packages(probe: Probe) -> bool:
    """Return whether pip can put packages into the Python's own folder."""
    too_long = probe.system == "win32" and len(probe.site_packages) > LONGEST_WINDOWS_PATH
    return probe.is_writable and not too_long


def sizes(
    packages: Sequence[Package], probe: Probe, chooser: str | None, wheels: Path | str | None
) -> tuple[int, int]:
    """Return MB to download and on the disk."""
    download = sum(one.download_mb for one in packages if one.name != "torch")
    disk = sum(one.disk_mb for one in packages if one.name != "torch")
    for torch in (one for one in packages if one.name == "torch"):
        # pip brings the GPU build on Linux; the chooser decides by the driver.
        on_linux = probe.system.startswith("linux") and probe.platform.endswith("x86_64")
        gpu = probe.has_nvidia_driver and probe.system != "darwin" if chooser else on_linux
        if wheels is not None:
            # The build for GPUs does not come without these.
            gpu = any(Path(wheels).glob("nvidia_*.whl"))
        download += CUDA_MB[0] if gpu else torch.download_mb
        disk += CUDA_MB[1] if gpu else torch.disk_mb
    return round(download), round(disk)


def blockers(
    probe: Probe, states: Sequence[PackageState], is_target: bool, is_wanted: bool
) -> list[str]:
    """Return sentences: why nothing can be installed, and what to do instead."""
    found = []
    if probe.python[:2] < PYTHON[0]:
        found.append(
            f"{probe.executable} is Python {_dotted(probe.python)}; SemiSupSeg needs "
            f"{_dotted(PYTHON[0])} or later. Choose another Python."
        )
    for state in states:
        if state.status is PackageStatus.TOO_OLD:
            found.append(
                f"{state.package.name} {state.version} is installed in {state.location}, and "
                f"{state.package.lowest} or later is needed. Other extensions may rely on it, so "
                "it is left as it is. Choose another Python for the workers in Setup."
            )
    if not is_wanted:
        return found
    if probe.pip is None:
        found.append(
            f"{probe.executable} has no pip. Install it with 'python -m ensurepip', or choose "
            "another Python."
        )
    if not is_target and not probe.is_writable:
        found.append(
            f"{probe.site_packages} cannot be written. Ask whoever keeps that environment, or "
            "choose Slicer's own Python."
        )
    if is_target and probe.system == "win32" and len(probe.packages) > LONGEST_WINDOWS_PATH:
        found.append(
            f"The path {probe.packages} is too long: PyTorch's files would go beyond what Windows "
            "takes. Set the variable SEMISUPSEG_HOME to a short folder, such as C:\\SemiSupSeg."
        )
    return found


def lack_of_room(probe: Probe, is_target: bool, download: int, disk: int) -> list[str]:
    """Return what to say if a disk is too small."""
    # Into a folder of ours pip unpacks beside it; else downloads lie among temporary files.
    here = probe.packages_free_mb if is_target else probe.free_mb
    needed = disk + download if is_target else disk
    found = []
    if here is not None and here < needed:
        place = probe.packages if is_target else probe.site_packages
        found.append(
            f"The disk of {place} has {size_in_words(here)} free, and about "
            f"{size_in_words(needed)} are needed. Make room there."
        )
    elif not is_target and probe.temp_free_mb is not None and probe.temp_free_mb < download:
        found.append(
            f"The disk of temporary files has {size_in_words(probe.temp_free_mb)} free, and about "
            f"{size_in_words(download)} are needed. Make room there."
        )
    return found


def notes(
    probe: Probe,
    wanted: Sequence[PackageState],
    chooser: str | None,
    wheels: Path | str | None,
    is_target: bool,
) -> list[str]:
    """Return sentences that one should read before agreeing."""
    found = []
    if is_target and wanted:
        reason = "its path is too long" if probe.is_writable else "it cannot be written"
        found.append(
            f"The packages do not go into {probe.site_packages}, because {reason}. Only "
            "SemiSupSeg's workers see them."
        )
    broken = [one.package.name for one in wanted if one.status is PackageStatus.BROKEN]
    if broken:
        found.append(f"Only half installed, so installed anew: {', '.join(broken)}.")
    if any(one.package.name == "torch" for one in wanted) and not chooser and wheels is None:
        found += _build_notes(probe)
    if probe.python[:2] > PYTHON[1]:
        found.append(f"Python {_dotted(probe.python)} is newer than what was tested.")
    return found


def _build_notes(probe: Probe) -> list[str]:
    """Return what plain pip brings, which does not look at the driver."""
    extension = "Install Slicer's PyTorch extension first: its chooser takes the build that fits."
    if probe.system.startswith("linux") and not probe.has_nvidia_driver:
        return [
            "No NVIDIA driver was found, but pip brings the build for NVIDIA GPUs with several GB "
            f"of CUDA libraries; it runs on the CPU as well. {extension}"
        ]
    if probe.system == "win32" and probe.has_nvidia_driver:
        return [
            "There is an NVIDIA GPU, but on Windows pip brings a build for the CPU only. "
            f"{extension}"
        ]
    return []


def size_in_words(megabytes: float) -> str:
    """Return MB or GB."""
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
