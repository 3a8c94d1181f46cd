"""Registered models: packages copied into the user's data folder, found by name."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.models.package import (
    ModelPackage,
    new_folder,
    read_manifest,
    read_package,
    write_copy,
)
from SemiSupSegLib.resources import check_format

HOME_VARIABLE = "SEMISUPSEG_HOME"
"""Names the folder of the user's models and settings, before the system's place for it."""
_FORBIDDEN_ON_WINDOWS = (
    {"con", "prn", "aux", "nul"}
    | {f"com{number}" for number in range(1, 10)}
    | {f"lpt{number}" for number in range(1, 10)}
)


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """A model in one of the model folders."""

    name: str
    folder: Path
    is_default: bool
    is_read_only: bool
    """In a shared folder (`SEMISUPSEG_MODELS`): it can be used but not changed."""
    manifest: dict[str, Any] | None
    """None if it cannot be used."""
    problem: str | None = None
    """Why it cannot be used."""

    @property
    def size_bytes(self) -> int:
        """Size of its files."""
        return sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())


def user_data_folder() -> Path:
    """Return where models and settings of this user are kept; it need not exist yet.

    `SEMISUPSEG_HOME`, else the place that the system has for it.
    """
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "SemiSupSeg"


def models_folder() -> Path:
    """Return the folder of this user's own models."""
    return user_data_folder() / "models"


def registered_models() -> list[RegisteredModel]:
    """Return all models by name, own ones before shared ones of the same name.

    Only manifests are read here; weights are checked when a model is used.
    """
    default = default_model()
    found: dict[str, RegisteredModel] = {}
    own = models_folder()
    shared = os.environ.get("SEMISUPSEG_MODELS", "").split(os.pathsep)
    for parent in (own, *(Path(folder) for folder in shared if folder)):
        for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
            if not folder.is_dir() or folder.name.startswith(".") or folder.name in found:
                continue
            manifest, problem = None, None
            try:
                manifest = read_manifest(folder)
            except SemiSupSegError as error:
                problem = str(error)
            found[folder.name] = RegisteredModel(
                name=folder.name,
                folder=folder,
                is_default=folder.name == default,
                is_read_only=parent != own,
                manifest=manifest,
                problem=problem,
            )
    return sorted(found.values(), key=lambda model: model.name.casefold())


def find_model(name: str) -> RegisteredModel:
    """Return the registered model `name`.

    Raises:
        UsageError: If there is none of that name.
    """
    models = {model.name: model for model in registered_models()}
    if name not in models:
        raise UsageError(
            f"There is no model '{name}'. Registered: {', '.join(models) if models else 'none'}."
        )
    return models[name]


def resolve_model(name_or_path: str | Path) -> Path:
    """Return the path that `--model` means: what lies there, else a registered model's folder.

    Raises:
        UsageError: If a bare name, without a folder, is neither.
    """
    path = Path(name_or_path)
    is_bare = len(path.parts) == 1 and path.suffix != ".zip"
    return find_model(str(name_or_path)).folder if is_bare and not path.exists() else path


def register(
    source: Path, name: str | None = None, *, may_be_default: bool = True
) -> RegisteredModel:
    """Check a package, zip or run folder, and copy it to the user's models.

    The first model becomes the default, if it may.

    Args:
        source: Stays as it is.
        name: Under which it is found; None: the name in its manifest, with a number if that is
            taken: students of one task and method have the same.
        may_be_default: Whether nobody need ask for that.

    Raises:
        UsageError: If the name is taken or cannot be a folder's name.
        SemiSupSegError: If the package is refused.
    """
    package = read_package(source)
    if name is None:
        chosen = _free_name(_usable_name(package.name))
    else:
        chosen = _usable_name(name)
        _refuse_taken(chosen)
    is_first = not registered_models()
    _make_private_folder()
    with new_folder(models_folder() / chosen) as temporary:
        write_copy(package, temporary)
    if is_first and may_be_default:
        set_default(chosen)
    return find_model(chosen)


def load_model(name_or_path: str | Path) -> ModelPackage:
    """Return the checked package of a path or a registered model's name."""
    return read_package(resolve_model(name_or_path))


def default_model() -> str | None:
    """Return the name of the model that is chosen when nothing is said, if there is one."""
    path = models_folder() / "registry.json"
    if not path.exists():
        return None
    content = read_json(path)
    check_format(content, "registry", path)
    name = content["default"]
    return name if isinstance(name, str) else None


def set_default(name: str) -> None:
    """Choose the model that is used when nothing is said."""
    model = find_model(name)
    if model.problem is not None:
        raise UsageError(f"{name} cannot be the default: {model.problem}")
    _write_default(name)


def rename(name: str, new_name: str) -> RegisteredModel:
    """Give a model another name; the package, and so its hash in results, stays the same."""
    model = _own_model(name)
    chosen = _usable_name(new_name)
    if chosen.casefold() != name.casefold():
        _refuse_taken(chosen)
    model.folder.rename(model.folder.with_name(chosen))
    if model.is_default:
        _write_default(chosen)
    return find_model(chosen)


def delete(name: str) -> None:
    """Remove a model from the user's models.

    Raises:
        UsageError: If it is the default while there are others, or belongs to a shared folder.
    """
    model = _own_model(name)
    if model.is_default and len(registered_models()) > 1:
        raise UsageError(f"{name} is the default model. Choose another default first.")
    # Out of the list at once, even if removing its files takes long or is interrupted.
    aside = model.folder.with_name(f".{name}.deleted.part")
    shutil.rmtree(aside, ignore_errors=True)
    model.folder.rename(aside)
    if model.is_default:
        _write_default(None)
    shutil.rmtree(aside)


def _own_model(name: str) -> RegisteredModel:
    model = find_model(name)
    if model.is_read_only:
        raise UsageError(
            f"{name} lies in a shared folder ({model.folder.parent}) and cannot be changed here."
        )
    return model


def _write_default(name: str | None) -> None:
    _make_private_folder()
    write_json(
        models_folder() / "registry.json",
        {"format": "semisupseg-registry", "version": 1, "default": name},
    )


def _make_private_folder() -> None:
    for folder in (user_data_folder(), models_folder()):
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700)


def _refuse_taken(name: str) -> None:
    taken = {model.name.casefold(): model.name for model in registered_models()}
    if name.casefold() in taken:
        raise UsageError(f"There is a model '{taken[name.casefold()]}' already. Give another name.")


def _free_name(name: str) -> str:
    taken = {model.name.casefold() for model in registered_models()}
    number, free = 1, name
    while free.casefold() in taken:
        number += 1
        free = f"{name} {number}"
    return free


def _usable_name(name: str) -> str:
    """Return `name` in the form used on disk, if it can be a folder's name on every system."""
    text = unicodedata.normalize("NFC", name).strip()
    is_plain = all(letter.isalnum() or letter in " ._+-()" for letter in text)
    if (
        not is_plain
        or not text
        or not text[0].isalnum()
        or text.endswith(".")
        or text.casefold() == "registry.json"
        or len(text.encode()) > 100
        or text.split(".")[0].strip().casefold() in _FORBIDDEN_ON_WINDOWS
    ):
        raise UsageError(
            f"'{name}' cannot be a model's name. Use letters, digits, spaces and . _ + - ( ), "
            "beginning with a letter or digit, at most 100."
        )
    return text
