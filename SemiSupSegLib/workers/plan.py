"""The plan of an installation: what would be installed where, how large it is, what stands against.

Nothing is done here. `install.py` carries a plan out, after a person has agreed to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from SemiSupSegLib.workers.obstacles import (
    blockers,
    lack_of_room,
    notes,
    size_in_words,
    sizes,
    takes_packages,
)
from SemiSupSegLib.workers.packages import (
    PackageState,
    PackageStatus,
    Probe,
    package_states,
)


@dataclass(frozen=True, kw_only=True)
class InstallPlan:
    """What an installation would do; it survives JSON, so that a job can carry it out."""

    install: tuple[str, ...]
    """Requirements for pip, torch first."""
    remove: tuple[str, ...]
    """Names of packages that are half installed, or to be replaced on request."""
    place: str
    """The folder that the packages go to."""
    is_target: bool
    """Whether that is a folder of our own, on the workers' path only."""
    wheels: str | None
    """The only source, if given: a folder of wheels."""
    chooser: Literal["use", "install first"] | None
    """Whether light-the-torch chooses the build of PyTorch."""
    download_mb: int
    """About."""
    disk_mb: int
    """About, when installed."""
    free_mb: int | None
    """On the disk of `place`."""
    blockers: tuple[str, ...]
    """Sentences: why it cannot be done, and what to do instead."""
    notes: tuple[str, ...]
    """Sentences that one should read before agreeing."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the packages in `install`."""
        return tuple(_name(one) for one in self.install)

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to install."""
        return bool(self.install)

    @property
    def is_possible(self) -> bool:
        """Whether nothing stands against it."""
        return self.is_needed and not self.blockers

    def to_json(self) -> dict[str, Any]:
        """Return it for a job's request."""
        return {"format": "semisupseg-install-request", "version": 1, **asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> InstallPlan:
        """Return the plan in a job's request."""
        values = {name: content[name] for name in cls.__dataclass_fields__}
        for name in ("install", "remove", "blockers", "notes"):
            values[name] = tuple(values[name])
        return cls(**values)

    def in_words(self) -> list[str]:
        """Return what would happen, as sentences for the question before it happens."""
        if not self.is_needed:
            return ["Everything that is needed is installed.", *self.blockers]
        source = (
            f"the wheels in {self.wheels}" if self.wheels else "the package index that pip uses"
        )
        size = f"{size_in_words(self.download_mb)} to download, " if not self.wheels else ""
        free = "" if self.free_mb is None else f", {size_in_words(self.free_mb)} free"
        lines = [
            f"To be installed from {source}: {', '.join(self.install)}.",
            f"Into: {self.place}",
            f"About {size}{size_in_words(self.disk_mb)} on the disk{free}.",
            "No other installed package is changed.",
        ]
        if self.remove:
            lines.append(f"Removed first: {', '.join(self.remove)}.")
        return [*lines, *self.notes, *self.blockers]


def make_plan(
    probe: Probe,
    *,
    is_own_python: bool,
    wheels: Path | str | None = None,
    has_pytorch_extension: bool = False,
    replace_torch: bool = False,
) -> InstallPlan:
    """Return what has to be installed into a Python so that workers run there.

    Args:
        probe: What the Python has.
        is_own_python: Whether it is Slicer's; packages for another one go into its own folder only.
        wheels: Folder that is the only source.
        has_pytorch_extension: Whether Slicer's PyTorch extension is installed; its chooser is
            then installed first, if it is not there yet.
        replace_torch: Whether to install torch anew, for instance for another build.
    """
    states = package_states(probe)
    wanted = [
        state
        for state in states
        if state.status in (PackageStatus.MISSING, PackageStatus.BROKEN)
        or (replace_torch and state.package.name == "torch")
    ]
    is_target = is_own_python and not takes_packages(probe)
    chooser: Literal["use", "install first"] | None = None
    if wheels is None and any(state.package.name == "torch" for state in wanted):
        chooser = "use" if probe.has_chooser else "install first" if has_pytorch_extension else None
    download, disk = sizes([state.package for state in wanted], probe, chooser, wheels)
    place = probe.packages if is_target else probe.site_packages
    return InstallPlan(
        install=tuple(state.package.requirement for state in wanted),
        remove=tuple(
            state.package.name
            for state in wanted
            if state.status is not PackageStatus.MISSING and _may_remove(state, probe)
        ),
        place=place,
        is_target=is_target,
        wheels=None if wheels is None else str(wheels),
        chooser=chooser,
        download_mb=download,
        disk_mb=disk,
        free_mb=probe.packages_free_mb if is_target else probe.free_mb,
        blockers=tuple(
            blockers(probe, states, is_target, bool(wanted))
            + (lack_of_room(probe, is_target, download, disk) if wanted else [])
        ),
        notes=tuple(notes(probe, wanted, chooser, wheels, is_target)),
    )


def _may_remove(state: PackageState, probe: Probe) -> bool:
    """Return whether it lies where something may be removed."""
    if state.location is None:
        return False
    in_packages = Path(state.location) == Path(probe.packages)
    return in_packages or (probe.is_writable and Path(state.location) == Path(probe.site_packages))


def _name(requirement: str) -> str:
    return re.split(r"[<>=!~ \[;]", requirement, maxsplit=1)[0]
