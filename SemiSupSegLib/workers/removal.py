"""Taking a package out of a folder, also one that pip cannot uninstall since it has no record."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Collection
from importlib import metadata
from pathlib import Path

from SemiSupSegLib.workers.packages import PACKAGES, normalized


def remove_package(name: str, folder: Path) -> None:
    """Remove what a folder has of a package: files of its record, its metadata, and remnants.

    Remnants are the folders that it is imported from, if they are known, and those that pip
    renames before it removes them (`~orch`). Nothing outside of the folder is touched.

    Raises:
        OSError: If a file cannot be removed.
    """
    known = [one.folders for one in PACKAGES if normalized(one.name) == normalized(name)]
    for one in metadata.distributions(path=[str(folder)]):
        if _is(one, name):
            _remove_recorded(one, folder)
    names = {normalized(name), *(normalized(top) for tops in known for top in tops)}
    for entry in list(folder.iterdir()):
        stem = entry.name.split("-")[0] if entry.name.endswith(".dist-info") else entry.name
        renamed = stem.startswith("~") and any(
            normalized(stem[1:]) == one[1:] for one in names if len(one) > 1
        )
        is_metadata = entry.name.endswith(".dist-info") and normalized(stem) == normalized(name)
        if renamed or is_metadata or any(entry.name in tops for tops in known):
            _remove(entry)


def remove_duplicates(folder: Path, elsewhere: Collection[str]) -> list[str]:
    """Remove from a folder the packages that are installed elsewhere, and return their names.

    `pip install --target` brings them along, in the same version because of the constraints.

    Args:
        folder: The target.
        elsewhere: Normalized names.
    """
    found = {
        normalized(one.metadata["Name"])
        for one in metadata.distributions(path=[str(folder)])
        if one.metadata and one.metadata["Name"]
    }
    both = sorted(found & set(elsewhere))
    for name in both:
        for one in metadata.distributions(path=[str(folder)]):
            if _is(one, name):
                _remove_recorded(one, folder)
    return both


def _is(one: metadata.Distribution, name: str) -> bool:
    own = one.metadata["Name"] if one.metadata else None
    return bool(own) and normalized(str(own)) == normalized(name)


def _remove_recorded(one: metadata.Distribution, folder: Path) -> None:
    root = os.path.normpath(folder.absolute())
    files = [row[0] for row in csv.reader((one.read_text("RECORD") or "").splitlines()) if row]
    parents: set[Path] = set()
    for file in files:
        path = Path(os.path.normpath(os.path.join(root, file)))  # noqa: PTH118 (no links followed)
        # Scripts lie outside; so might anything in a forged record.
        if Path(root) in path.parents:
            path.unlink(missing_ok=True)
            parents.update(parent for parent in path.parents if Path(root) in parent.parents)
    for parent in sorted(parents, key=lambda one: len(one.parts), reverse=True):
        if parent.is_dir() and not any(_contents(parent)):
            _remove(parent)


def _contents(folder: Path) -> list[Path]:
    """Return what lies in a folder, other than byte code."""
    return [one for one in folder.iterdir() if one.name != "__pycache__"]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
