"""Which images lie below a folder: image files and DICOM series, nothing opened but DICOM."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.names import composed, stem_of
from SemiSupSegLib.errors import SemiSupSegError, UsageError

Place = tuple[str, ...]
"""Names of folders, from below the scanned one down; a case's or link's place ends with its own."""

MAX_DEPTH = 12
"""Folders deeper than this below the scanned one are not looked into."""
RESULT_FILES = ("case.json", "run.json", "manifest.json")
"""A folder with one of these in our own format holds results; they are not cases."""
_OWN_FORMAT = re.compile(rb'"format"\s*:\s*"semisupseg-')
_FORMAT_BYTES = 1024
"""Our files begin with their format."""
_OF_THE_SYSTEM = frozenset(
    (
        *("__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "lost+found"),
        *("system volume information", "thumbs.db", "desktop.ini", "__pycache__"),
    )
)
"""What programs leave behind, in lower case; often nobody may read it, and no case is in it."""
_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
_MAX_NAMED_PROBLEMS = 5


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """An image file or DICOM series, and where it was found."""

    source: ImageSource
    folders: Place
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

    @property
    def title(self) -> str:
        """Its name for a person; DICOM series in one folder differ in their description."""
        name = self.source.path.name
        return f"{name} ({self.description})" if self.description else name


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All that was found below a folder."""

    root: Path
    images: tuple[FoundImage, ...]
    folders: tuple[Place, ...]
    """Every folder that was looked into."""
    used_otherwise: frozenset[Place] = frozenset()
    """Those that hold, or have further below, files that are neither images nor named as DICOM."""
    result_folders: tuple[Place, ...] = ()
    """Folders of our own results, which were not."""
    broken_links: Mapping[Place, str] = field(default_factory=dict)
    """Links that cannot be followed, each with the reason."""
    dataset_files: Mapping[Place, Mapping[str, Any]] = field(default_factory=dict)
    """Content of each `dataset.json`, by its folder."""


def list_images(root: Path) -> Listing:
    """Return the images below `root`, in a stable order.

    Raises:
        UsageError: If `root` is not a folder that can be read.
        SemiSupSegError: If a folder or `dataset.json` below it cannot be read, naming them all:
            without it, labels would be missing or channels be guessed.
    """
    root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow the user's links
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder. Give the folder that holds the cases.")
    search = _Search(root)
    search.run()
    if search.problems:
        more = len(search.problems) - _MAX_NAMED_PROBLEMS
        raise SemiSupSegError(
            " ".join(search.problems[:_MAX_NAMED_PROBLEMS])
            + (f" And {more} more." if more > 0 else "")
        )
    return Listing(
        root=root,
        images=tuple(
            sorted(search.images, key=lambda one: (one.folders, one.stem, str(one.source)))
        ),
        folders=tuple(sorted(search.folders)),
        used_otherwise=frozenset(search.used_otherwise),
        result_folders=tuple(sorted(search.result_folders)),
        broken_links=search.broken_links,
        dataset_files=search.dataset_files,
    )


class _Search:
    """Looks into all folders below one, and keeps what was found and what could not be read."""

    def __init__(self, root: Path):
        self._root = root
        self._seen = {root.resolve()}
        self._waiting: list[tuple[Path, Place]] = [(root, ())]
        self.images: list[FoundImage] = []
        self.folders: list[Place] = []
        self.used_otherwise: set[Place] = set()
        self.result_folders: list[Place] = []
        self.broken_links: dict[Place, str] = {}
        self.dataset_files: dict[Place, Mapping[str, Any]] = {}
        self.problems: list[str] = []

    def run(self) -> None:
        """Look into every folder."""
        while self._waiting:
            folder, place = self._waiting.pop()
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                if not place:
                    raise UsageError(f"{folder} cannot be read ({error.strerror}).") from error
                self.problems.append(
                    f"The folder {folder} cannot be read ({error.strerror}), so the images and "
                    "labels in it would be missing. Change its rights, or move it out of "
                    f"{self._root}."
                )
                continue
            self._look_into(folder, place, [one for one in entries if not _is_passed_over(one)])

    def _look_into(self, folder: Path, place: Place, entries: Sequence[os.DirEntry[str]]) -> None:
        names = {entry.name for entry in entries}
        if place and any(_is_own(folder / name) for name in RESULT_FILES if name in names):
            self.result_folders.append(place)
            return
        self.folders.append(place)
        loose: list[Path] = []
        for entry in entries:
            path = folder / entry.name
            name = composed(entry.name)
            stem = stem_of(name)
            fault = ""
            try:
                is_folder = entry.is_dir()
            except OSError as error:
                is_folder, fault = False, error.strerror or str(error)
            if is_folder:
                if len(place) < MAX_DEPTH and _is_new(path, entry.is_symlink(), self._seen):
                    self._waiting.append((path, (*place, name)))
                else:
                    self._note_other_use(place)
            elif stem is not None:
                self.images.append(
                    FoundImage(source=ImageSource(path=path), folders=place, stem=stem)
                )
            elif fault:
                self.broken_links[(*place, name)] = fault
            else:
                if _may_be_dicom(name):
                    loose.append(path)
                if not name.lower().endswith(_DICOM_SUFFIXES):
                    self._note_other_use(place)
        if "dataset.json" in names:
            self._read_dataset_file(folder / "dataset.json", place)
        if any(_has_dicom_mark(path) for path in loose):
            self._add_series(folder, place)

    def _note_other_use(self, place: Place) -> None:
        self.used_otherwise.update(place[:end] for end in range(1, len(place) + 1))

    def _add_series(self, folder: Path, place: Place) -> None:
        from SemiSupSegLib.cases.dicom import list_series

        try:
            series = list_series(folder)
        except SemiSupSegError as error:
            self.problems.append(str(error))
            return
        several = len(series) > 1
        self.images += [
            FoundImage(
                source=ImageSource(path=folder, series=one.uid),
                folders=place if several else place[:-1],
                stem=composed((one.description or one.uid) if several else folder.name),
                description=re.sub(r"\s+", " ", one.description),
                patient_id=one.patient_id,
            )
            for one in series
        ]

    def _read_dataset_file(self, path: Path, place: Place) -> None:
        try:
            # From bytes, so that a byte order mark of any UTF is understood; Windows writes one.
            content = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            self.problems.append(
                f"{path} cannot be read as JSON ({error}), so what it says of channels and classes "
                "would have to be guessed. Correct it, or remove it if it is of other images."
            )
            return
        if isinstance(content, dict):
            self.dataset_files[place] = content


def _is_passed_over(entry: os.DirEntry[str]) -> bool:
    return entry.name.startswith(".") or entry.name.lower() in _OF_THE_SYSTEM


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
    return not dot or suffix.isdigit() or name.lower().endswith(_DICOM_SUFFIXES)


def _has_dicom_mark(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False
