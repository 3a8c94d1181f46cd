"""Which images lie below a folder: image files and DICOM series, nothing opened but DICOM."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.names import stem_of
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import read_json

MAX_DEPTH = 12
"""Folders deeper than this below the scanned one are not looked into."""
RESULT_FILES = ("case.json", "run.json", "manifest.json")
"""A folder with one of these in our own format holds results; they are not cases."""
_OWN_FORMAT = re.compile(rb'"format"\s*:\s*"semisupseg-')
_FORMAT_BYTES = 1024
"""Our files begin with their format."""


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """An image file or DICOM series, and where it was found."""

    source: ImageSource
    folders: tuple[str, ...]
    """Names of the folders between the scanned folder and the image."""
    stem: str
    """Name without suffix; the series folder's name for DICOM."""
    description: str = ""
    """The DICOM series description."""
    patient_id: str = field(default="", repr=False)
    """The DICOM PatientID. It may be personal: to compare, not to show."""

    @property
    def is_dicom(self) -> bool:
        """Whether the image is a DICOM series."""
        return self.source.series is not None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All that was found below a folder."""

    root: Path
    images: tuple[FoundImage, ...]
    folders: tuple[tuple[str, ...], ...]
    """Every folder that was looked into."""
    result_folders: tuple[tuple[str, ...], ...] = ()
    """Folders of our own results, which were not."""
    dataset_files: Mapping[tuple[str, ...], Mapping[str, Any]] = field(default_factory=dict)
    """Content of each `dataset.json`, by its folder."""


def list_images(root: Path) -> Listing:
    """Return the images below `root`, in a stable order.

    Raises:
        UsageError: If `root` is not a folder that can be read.
    """
    root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow the user's links
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder. Give the folder that holds the cases.")
    images: list[FoundImage] = []
    folders: list[tuple[str, ...]] = []
    result_folders: list[tuple[str, ...]] = []
    dataset_files: dict[tuple[str, ...], Mapping[str, Any]] = {}
    seen = {root.resolve()}
    waiting: list[tuple[Path, tuple[str, ...]]] = [(root, ())]
    while waiting:
        folder, parts = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if not parts:
                raise UsageError(f"{root} cannot be read ({error.strerror}).") from error
            folders.append(parts)
            continue
        names = {entry.name for entry in entries}
        if parts and any(_is_own(folder / name) for name in RESULT_FILES if name in names):
            result_folders.append(parts)
            continue
        folders.append(parts)
        loose: list[Path] = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = folder / entry.name
            if entry.is_dir():
                if len(parts) < MAX_DEPTH and _is_new(path, entry.is_symlink(), seen):
                    waiting.append((path, (*parts, entry.name)))
                continue
            stem = stem_of(entry.name)
            if stem is not None:
                images.append(FoundImage(source=ImageSource(path=path), folders=parts, stem=stem))
            elif _may_be_dicom(entry.name):
                loose.append(path)
        if "dataset.json" in names:
            content = _dataset_file(folder / "dataset.json")
            if content is not None:
                dataset_files[parts] = content
        images += _dicom_images(folder, parts, loose)
    return Listing(
        root=root,
        images=tuple(sorted(images, key=lambda one: (one.folders, one.stem, str(one.source)))),
        folders=tuple(sorted(folders)),
        result_folders=tuple(sorted(result_folders)),
        dataset_files=dataset_files,
    )


def _is_own(path: Path) -> bool:
    """Return whether a JSON file is one of ours; other programs use the same names."""
    try:
        with path.open("rb") as stream:
            return bool(_OWN_FORMAT.search(stream.read(_FORMAT_BYTES)))
    except OSError:
        return False


def _is_new(path: Path, is_link: bool, seen: set[Path]) -> bool:
    """Return whether a folder was not seen yet; only links can lead back to one."""
    if not is_link:
        return True
    real = path.resolve()
    if real in seen or any(real in parent.parents for parent in seen):
        return False
    seen.add(real)
    return True


def _may_be_dicom(name: str) -> bool:
    if name.upper() == "DICOMDIR":
        return False
    _, dot, suffix = name.rpartition(".")
    return not dot or suffix.lower() in ("dcm", "ima", "dicom") or suffix.isdigit()


def _dicom_images(folder: Path, parts: tuple[str, ...], paths: list[Path]) -> list[FoundImage]:
    if not paths or not any(_has_dicom_mark(path) for path in paths[:3]):
        return []
    from SemiSupSegLib.cases.dicom import list_series

    try:
        series = list_series(folder)
    except SemiSupSegError:
        return []
    name = parts[-1] if parts else folder.name
    several = len(series) > 1
    return [
        FoundImage(
            source=ImageSource(path=folder, series=one.uid),
            folders=parts if several else parts[:-1],
            stem=(one.description or one.uid) if several else name,
            description=re.sub(r"\s+", " ", one.description),
            patient_id=one.patient_id,
        )
        for one in series
    ]


def _has_dicom_mark(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _dataset_file(path: Path) -> Mapping[str, Any] | None:
    try:
        content = read_json(path)
    except SemiSupSegError:
        return None
    return content if isinstance(content, dict) else None
