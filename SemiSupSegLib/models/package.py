"""A model package: manifest, weights and card in a folder or a zip, trusted only after checks.

Weights are safetensors, which hold numbers and no code. Every file's hash stands in the manifest,
the manifest's own too, so a changed byte anywhere is found.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.task import Task, task_from_json
from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import replacing, write_json
from SemiSupSegLib.models import archive
from SemiSupSegLib.resources import check_format

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MANIFEST = "manifest.json"
CARD = "card.md"
WEIGHT_FILES = {
    "student": "weights.safetensors",
    "teacher": "teacher.safetensors",
    "quality": "quality.safetensors",
}
"""File of each network that a package may hold; a student is always there."""

MAX_BYTES = {
    MANIFEST: 16 * 2**20,
    CARD: 2**20,
    **dict.fromkeys(WEIGHT_FILES.values(), 4 * 2**30),
}
"""Every file that a package may hold, with its largest size in bytes."""

_LEFT_BY_FILE_BROWSERS = {".DS_Store", "Thumbs.db", "desktop.ini"}
_ABANDONED_AFTER_S = 3600.0


class PackageError(SemiSupSegError):
    """A model package that is refused."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelPackage:
    """A package whose files were all checked."""

    folder: Path
    """Where its files are; for a zip a temporary folder that lives as long as this object."""
    source: Path
    """What it was read from, for messages."""
    manifest: Mapping[str, Any]
    sha256: str
    """Hash of manifest.json, and through it of everything: the model's identity in results."""
    task: Task

    @property
    def name(self) -> str:
        """Name given by whoever trained it."""
        return str(self.manifest["name"])

    @property
    def size_bytes(self) -> int:
        """Size of all its files."""
        return sum((self.folder / name).stat().st_size for name in self.manifest["files"])

    def has(self, network: str) -> bool:
        """Return whether it holds weights of `student`, `teacher` or `quality`."""
        return WEIGHT_FILES[network] in self.manifest["files"]

    def network(self, role: str = "student") -> dict[str, Any]:
        """Return architecture, channels, classes and patch of `student` or `teacher`.

        The manifest names the teacher's architecture only where it is another than the student's.
        """
        other = self.manifest.get("teacher_network") if role == "teacher" else None
        return {**self.manifest["network"], **(other or {})}

    def weights(self, network: str = "student") -> dict[str, NDArray[np.generic]]:
        """Return the arrays of one network by parameter name.

        Raises:
            PackageError: If the package lacks the network, or the file has changed since the check.
        """
        if not self.has(network):
            raise PackageError(f"{self.source} holds no {network}. Choose another model.")
        import safetensors
        import safetensors.numpy

        name = WEIGHT_FILES[network]
        # Hashed and parsed from the same bytes: nobody can exchange the file in between.
        data = (self.folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != self.manifest["files"][name]:
            raise _changed(self.source, name)
        try:
            return dict(safetensors.numpy.load(data))
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise _unreadable_weights(self.source, name, error) from error

    def card(self) -> str:
        """Return the model card, Markdown."""
        return (self.folder / CARD).read_text(encoding="utf-8")


def write_package(
    folder: Path,
    *,
    manifest: Mapping[str, Any],
    weights: Mapping[str, Mapping[str, NDArray[np.generic]]],
    card: str,
) -> ModelPackage:
    """Write a model package; a package that is at `folder` already is replaced.

    Args:
        folder: Appears only when it is complete.
        manifest: Without `format`, `version` and `files`, which are added.
        weights: Arrays by network (`student`, `teacher`, `quality`) and parameter name.
        card: Markdown; what the model is for, what it was trained on, how good it is.

    Returns:
        The package as read back.

    Raises:
        ValueError: If `weights` lacks a student or names an unknown network.
        SemiSupSegError: If the manifest does not follow the schema.
    """
    import numpy as np
    import safetensors.numpy

    if "student" not in weights or not set(weights) <= set(WEIGHT_FILES):
        raise ValueError(
            f"weights are of {sorted(weights)}, must be of student and perhaps teacher, quality"
        )
    with new_folder(folder) as temporary:
        files = {}
        for network, arrays in sorted(weights.items()):
            name = WEIGHT_FILES[network]
            # Not ascontiguousarray, which would turn a counter of shape () into shape (1,).
            plain = {key: np.asarray(value, order="C") for key, value in arrays.items()}
            safetensors.numpy.save_file(plain, temporary / name)
            _sync(temporary / name)
            files[name] = _sha256(temporary / name)
        with replacing(temporary / CARD, "w") as stream:
            stream.write(card)
        files[CARD] = _sha256(temporary / CARD)
        content = {
            "format": "semisupseg-model",
            "version": 1,
            **{key: value for key, value in manifest.items() if key != "files"},
            "files": files,
        }
        files[MANIFEST] = _manifest_sha256(content)
        write_json(temporary / MANIFEST, content)
        _checked(temporary, folder)
    return read_package(folder)


def read_package(path: Path) -> ModelPackage:
    """Return the package at `path` after checking all of it.

    Args:
        path: A package folder, a zip of one, or a run folder (its student).

    Raises:
        PackageError: If it is damaged, changed, foreign, too large, or holds anything else.
        SemiSupSegError: If there is nothing, or it was written by a newer version.
    """
    if path.is_file():
        folder = Path(tempfile.mkdtemp(prefix="semisupseg-model-"))
        try:
            archive.extract(path, folder, MAX_BYTES)
            package = _checked(folder, path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        # Removed with the package, or when the process ends.
        weakref.finalize(package, shutil.rmtree, folder, True)
        return package
    try:
        return _checked(package_folder(path), path)
    except OSError as error:
        raise PackageError(f"{path} cannot be read ({error}). Check the folder.") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a package folder, checked, without looking at the weights.

    Raises:
        PackageError: If it is damaged, changed, or foreign.
        SemiSupSegError: If it was written by a newer version.
    """
    return _manifest(package_folder(path), path)


def verify_files(path: Path) -> dict[str, Any]:
    """Return the manifest after comparing every file with its hash, without opening weights.

    It needs no package but Python's own, so Slicer's window can ask.

    Raises:
        PackageError: If a file is missing or has changed.
        SemiSupSegError: If there is no package, or it was written by a newer version.
    """
    folder = package_folder(path)
    manifest = _manifest(folder, path)
    for name, digest in manifest["files"].items():
        if not (folder / name).is_file():
            raise PackageError(f"{path} is incomplete: {name} is missing. Get it again.")
        if name != MANIFEST and _sha256(folder / name) != digest:
            raise _changed(path, name)
    return manifest


def identity(folder: Path) -> str:
    """Return the hash that stands for a package in results, unchecked, from its manifest alone."""
    return _sha256(package_folder(folder) / MANIFEST)


def export_package(package: ModelPackage, path: Path) -> None:
    """Write a package as one zip file; the same package gives the same bytes."""
    with replacing(path) as stream:
        archive.pack(stream, [package.folder / name for name in sorted(package.manifest["files"])])


def write_copy(package: ModelPackage, folder: Path) -> None:
    """Copy a package's files into `folder`, checking them anew on the way.

    Raises:
        PackageError: If a file has changed since the package was read.
    """
    for name in package.manifest["files"]:
        shutil.copyfile(package.folder / name, folder / name)
        _sync(folder / name)
    if _checked(folder, package.source).sha256 != package.sha256:
        raise _changed(package.source, MANIFEST)


def package_folder(path: Path) -> Path:
    """Return the package folder that `path` means: itself, or the student of a run folder."""
    if (path / MANIFEST).is_file():
        return path
    if (path / "run.json").is_file():
        student = path / "models" / "student"
        if (student / MANIFEST).is_file():
            return student
        raise PackageError(
            f"The run {path} has no finished student yet. Let it finish, or choose another model."
        )
    if not path.exists():
        raise PackageError(f"There is no model at {path}. Check the path.")
    raise PackageError(
        f"{path} is neither a model package (it has no {MANIFEST}) nor a run folder. "
        "Choose another folder."
    )


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `final` when the block ends well."""
    final.parent.mkdir(parents=True, exist_ok=True)
    for left in final.parent.glob(f".{final.name}.*.part"):
        # Of a process that was killed here; a living one is younger.
        if time.time() - left.stat().st_mtime > _ABANDONED_AFTER_S:
            shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent))
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        if final.exists():
            former = temporary.with_suffix(".former.part")
            final.rename(former)
            temporary.rename(final)
            shutil.rmtree(former)
        else:
            temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _checked(folder: Path, source: Path) -> ModelPackage:
    """Return the package in `folder` after every check; messages name `source`."""
    for entry in sorted(folder.iterdir()):
        if entry.name not in _LEFT_BY_FILE_BROWSERS:
            _refuse_irregular(entry, source)
    present = {entry.name for entry in folder.iterdir()} - _LEFT_BY_FILE_BROWSERS
    if MANIFEST not in present:
        raise PackageError(f"{source} is no model package: {MANIFEST} is missing. Get it again.")
    manifest = _manifest(folder, source)
    missing = sorted(set(manifest["files"]) - present)
    if missing:
        raise PackageError(f"{source} is incomplete: {missing[0]} is missing. Get it again.")
    extra = sorted(present - set(manifest["files"]))
    if extra:
        raise PackageError(
            f"{source} holds {extra[0]}, which its manifest does not list. Get the model again."
        )
    for name, digest in manifest["files"].items():
        if name != MANIFEST and _sha256(folder / name) != digest:
            raise _changed(source, name)
    for name in WEIGHT_FILES.values():
        if name in present:
            _refuse_foreign_weights(folder / name, source)
    task = task_from_json(manifest["task"], f"The task of the model {source}")
    network = manifest["network"]
    if network["num_classes"] != task.num_classes or network["in_channels"] != len(task.channels):
        raise PackageError(
            f"{source} contradicts itself: its network has "
            f"{counted(network['in_channels'], 'channels')} and {network['num_classes']} classes, "
            f"its task {len(task.channels)} and {task.num_classes}. Get the model again."
        )
    return ModelPackage(
        folder=folder,
        source=source,
        manifest=manifest,
        sha256=_sha256(folder / MANIFEST),
        task=task,
    )


def _manifest(folder: Path, path: Path) -> dict[str, Any]:
    """Return the checked manifest in `folder`; messages name `path`."""
    _refuse_irregular(folder / MANIFEST, path)
    try:
        data = (folder / MANIFEST).read_bytes()
        content: dict[str, Any] = json.loads(data, parse_constant=_refuse_constant)
        check_format(content, "model", f"{path}: {MANIFEST}")
        # Byte for byte as we write it, so that not even white space or a doubled key can differ.
        is_unchanged = data == _as_written(content)
    except (ValueError, RecursionError, OSError):
        raise PackageError(
            f"{path}: {MANIFEST} cannot be read as JSON, it is damaged or incomplete. "
            "Get the model again."
        ) from None
    if not is_unchanged or content["files"][MANIFEST] != _manifest_sha256(content):
        raise _changed(path, MANIFEST)
    return content


def _refuse_irregular(entry: Path, source: Path) -> None:
    """Refuse a file by name, kind or size, before anything of it is read."""
    if entry.name not in MAX_BYTES:
        raise PackageError(
            f"{source} holds {entry.name}, which does not belong into a model package (only "
            f"{', '.join(MAX_BYTES)} do). Nothing of it was read; get the model again."
        )
    found = entry.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise PackageError(
            f"{source}: {entry.name} is a link or not a plain file, which a model package may not "
            "hold. Nothing of it was read; get the model again."
        )
    if found.st_size > MAX_BYTES[entry.name]:
        raise PackageError(
            f"{source}: {entry.name} has {found.st_size:,} bytes, more than the "
            f"{MAX_BYTES[entry.name]:,} allowed. Get the model again."
        )


def _refuse_foreign_weights(path: Path, source: Path) -> None:
    import safetensors

    try:
        # The package's stub has no types for it.
        with safetensors.safe_open(path, "numpy") as content:  # type: ignore[no-untyped-call]
            if not list(content.keys()):
                raise ValueError("no arrays in it")
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _unreadable_weights(source, path.name, error) from error


def _unreadable_weights(source: Path, name: str, error: Exception) -> PackageError:
    return PackageError(
        f"{source}: {name} is not a readable safetensors file ({error}). Other kinds of weights "
        "can run code and are never loaded; get the model again."
    )


def _changed(source: Path, name: str) -> PackageError:
    return PackageError(
        f"{source}: {name} is damaged or was changed after the model was written (its hash does "
        "not match). Get the model again."
    )


def _manifest_sha256(content: Mapping[str, Any]) -> str:
    """Return the hash of a manifest without the entry that holds this hash."""
    files = {name: digest for name, digest in content["files"].items() if name != MANIFEST}
    text = json.dumps({**content, "files": files}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _as_written(content: Mapping[str, Any]) -> bytes:
    """Return what `write_json` makes of `content`."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", errors="replace")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
