"""Which packages the library needs, why, how large they are, and what of them a Python has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package that the library imports; the lowest versions are those of pyproject.toml."""

    name: str
    lowest: str
    """Lowest version."""
    purpose: str
    download_mb: float
    """About, with what it brings along in Slicer's Python."""
    disk_mb: float
    """About, with what it brings along in Slicer's Python."""
    folders: tuple[str, ...]
    """Names under which it is imported."""
    comes_with_slicer: bool = False
    """Slicer and other extensions rely on its version."""
    terminal_only: bool = False
    """Used for output to a terminal, not by Slicer's workers."""

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.name}>={self.lowest}"


PACKAGES = (
    Package(
        name="torch", lowest="2.4", purpose="neural networks", download_mb=250, disk_mb=900,
        folders=("torch", "torchgen", "functorch"),
    ),
    Package(
        name="numpy", lowest="1.26", purpose="arrays", download_mb=17, disk_mb=75,
        folders=("numpy",), comes_with_slicer=True,
    ),
    Package(
        name="scipy", lowest="1.12", purpose="distances and interpolation", download_mb=36,
        disk_mb=146, folders=("scipy",), comes_with_slicer=True,
    ),
    Package(
        name="SimpleITK", lowest="2.3", purpose="image files", download_mb=55, disk_mb=264,
        folders=("SimpleITK",), comes_with_slicer=True,
    ),
    Package(
        name="nibabel", lowest="5.2", purpose="NIfTI headers", download_mb=4, disk_mb=13,
        folders=("nibabel", "nisext"),
    ),
    Package(
        name="pydicom", lowest="2.4", purpose="DICOM headers", download_mb=3, disk_mb=15,
        folders=("pydicom",), comes_with_slicer=True,
    ),
    Package(
        name="safetensors", lowest="0.4", purpose="model files", download_mb=1, disk_mb=2,
        folders=("safetensors",),
    ),
    Package(
        name="psutil", lowest="5.9", purpose="memory and processes", download_mb=1, disk_mb=1,
        folders=("psutil",),
    ),
    Package(
        name="fastjsonschema", lowest="2.19", purpose="checks of files", download_mb=1, disk_mb=1,
        folders=("fastjsonschema",),
    ),
    Package(
        name="matplotlib", lowest="3.8", purpose="figures of the report", download_mb=18,
        disk_mb=75, folders=("matplotlib", "mpl_toolkits", "pylab"),
    ),
    Package(
        name="jinja2", lowest="3.1", purpose="pages of the report", download_mb=1, disk_mb=2,
        folders=("jinja2",),
    ),
    Package(
        name="tqdm", lowest="4.66", purpose="progress in a terminal", download_mb=1, disk_mb=1,
        folders=("tqdm",), terminal_only=True,
    ),
)  # fmt: skip
"""The one list of what an installed SemiSupSeg needs; a test compares it with pyproject.toml."""
CUDA_MB = (3000, 7000)
"""Download and disk of torch with the libraries for NVIDIA GPUs, in MB, about."""
PYTHON = ((3, 10), (3, 14))
"""First and last Python that these versions have been chosen for."""


class PackageStatus(str, Enum):
    """What a Python has of a package."""

    PRESENT = "present"
    MISSING = "missing"
    TOO_OLD = "too old"
    BROKEN = "half installed"


@dataclass(frozen=True, kw_only=True)
class PackageState:
    """A package in a Python."""

    package: Package
    status: PackageStatus
    version: str | None
    """None if it is missing, or if there is no record of its version."""
    location: str | None
    """The folder it lies in."""

    def __str__(self) -> str:
        """Return its row in a list, in words."""
        lowest = self.package.lowest
        if self.status is PackageStatus.PRESENT:
            return f"{self.package.name} {self.version or '(version not recorded)'}"
        if self.status is PackageStatus.TOO_OLD:
            return f"{self.package.name} {self.version}: {lowest} or later is needed"
        if self.status is PackageStatus.BROKEN:
            return f"{self.package.name} {self.version or ''}: only half installed"
        return f"{self.package.name}: missing, {lowest} or later is needed"


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A distribution that a Python has, as its metadata say."""

    name: str
    version: str
    location: str
    """The folder it lies in."""
    is_complete: bool
    """Whether the files are there that its record tells of."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as its driver sees it."""

    name: str
    memory_mb: int
    driver: str


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What `probe.py` found in a Python, without importing any package."""

    python: tuple[int, int, int]
    executable: str
    system: str
    """As `sys.platform`."""
    platform: str
    """As `sysconfig.get_platform()`."""
    libc: tuple[str, str]
    """Name and version, or empty."""
    site_packages: str
    is_writable: bool
    """Whether pip may put packages into `site_packages`."""
    free_mb: int | None
    """On the disk of `site_packages`."""
    temp_free_mb: int | None
    """On the disk of temporary files."""
    packages: str
    """The folder for packages that `site_packages` cannot take."""
    packages_free_mb: int | None
    pip: str | None
    """Its version."""
    installed: Mapping[str, Installed]
    """By normalized name; of two of one name that which is imported."""
    importable: frozenset[str]
    """Those of `PACKAGES` that the interpreter would find, with or without metadata."""
    has_nvidia_driver: bool
    gpus: tuple[Gpu, ...]
    """As `nvidia-smi` lists them."""

    @property
    def has_chooser(self) -> bool:
        """Whether light-the-torch is there, which knows the builds of PyTorch."""
        return "light-the-torch" in self.installed

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Probe:
        """Return what `probe.py` wrote."""
        values = {name: found[name] for name in cls.__dataclass_fields__ if name in found}
        values["python"] = tuple(found["python"])
        values["libc"] = tuple(found["libc"])
        values["importable"] = frozenset(found["importable"])
        values["installed"] = {
            name: Installed(**one) for name, one in dict(found["installed"]).items()
        }
        values["gpus"] = tuple(Gpu(**one) for one in found["gpus"])
        return cls(**values)


def package_states(probe: Probe) -> list[PackageState]:
    """Return what the Python has of each package that Slicer's workers need."""
    return [_state(package, probe) for package in PACKAGES if not package.terminal_only]


def _state(package: Package, probe: Probe) -> PackageState:
    found = probe.installed.get(normalized(package.name))
    if found is None:
        # Slicer 5.10 builds some packages itself and leaves no metadata of them.
        is_there = package.comes_with_slicer and package.name in probe.importable
        status = PackageStatus.PRESENT if is_there else PackageStatus.MISSING
        return PackageState(package=package, status=status, version=None, location=None)
    if not found.is_complete:
        status = PackageStatus.BROKEN
    elif not is_enough(found.version, package.lowest):
        status = PackageStatus.TOO_OLD
    else:
        status = PackageStatus.PRESENT
    return PackageState(
        package=package, status=status, version=found.version, location=found.location
    )


def normalized(name: str) -> str:
    """Return a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_enough(version: str, lowest: str) -> bool:
    """Return whether a version is at least the lowest one; suffixes such as `+cpu` do not count."""
    return _numbers(version) >= _numbers(lowest)


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"[\d.]*", version)
    return tuple(int(part) for part in release[0].split(".") if part) if release else ()
