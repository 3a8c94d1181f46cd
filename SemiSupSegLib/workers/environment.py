"""Which Python the workers use, and the environment variables they get."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.models.registry import user_data_folder

VARIABLE = "SEMISUPSEG_PYTHON"
"""Names the workers' Python, before any setting."""
_ALWAYS = {"PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
_NOT_FOR_ANOTHER = ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "PYTHONEXECUTABLE")
_PLACES = ("bin/python3", "bin/python", "Scripts/python.exe", "python.exe")
"""Where an environment's folder keeps its Python."""


@dataclass(frozen=True, kw_only=True)
class WorkerPython:
    """The interpreter that runs the workers."""

    path: Path
    chosen_by: Literal["variable", "setting", "default"]

    @property
    def is_own(self) -> bool:
        """Whether it is Slicer's, and not another environment's."""
        return self.chosen_by == "default"


def choose_python(
    default: Path | str,
    *,
    setting: Path | str | None = None,
    environment: Mapping[str, str] | None = None,
) -> WorkerPython:
    """Return the workers' Python: the variable `SEMISUPSEG_PYTHON`, else the setting, else default.

    Variable and setting may name the interpreter or the folder of an environment.

    Args:
        default: Slicer's own Python (`PythonSlicer`).
        setting: What the user has chosen; None or "" for nothing.
        environment: Where the variable is looked up; by default this process's.

    Raises:
        SemiSupSegError: If what is named is not there or cannot be started.
    """
    variable = (os.environ if environment is None else environment).get(VARIABLE, "").strip()
    if variable:
        path = _interpreter(variable, f"The variable {VARIABLE}", "Correct or remove it")
        return _named(path, "variable", default)
    if setting is not None and str(setting).strip():
        remedy = "Choose another one in Setup, or Slicer's own"
        path = _interpreter(str(setting).strip(), "The setting for the workers' Python", remedy)
        return _named(path, "setting", default)
    if not str(default):
        raise SemiSupSegError("Slicer names no Python of its own. Install Slicer again.")
    path = _interpreter(str(default), "Slicer", "Install Slicer again")
    return WorkerPython(path=path, chosen_by="default")


def packages_folder(version: tuple[int, int] = sys.version_info[:2]) -> Path:
    """Return where packages for Slicer's Python go if its own folder cannot take them.

    On the workers' path only, so that Slicer and other extensions never see them. Each Python
    version has its own, because compiled packages fit one only.
    """
    return user_data_folder() / "packages" / f"python{version[0]}.{version[1]}"


def worker_environment(
    startup: Mapping[str, str],
    python: WorkerPython | None = None,
    *,
    packages: Path | None = None,
) -> dict[str, str]:
    """Return the environment variables of workers.

    Slicer's own Python finds `packages` first. Another environment's Python finds what it has
    itself: neither Python's variables nor paths into Slicer's folder reach it.

    Args:
        startup: As it was before Slicer's launcher (`slicer.util.startupEnvironment()`); in a
            terminal `os.environ`.
        python: The workers' Python; by default Slicer's own.
        packages: By default `packages_folder()`; it need not exist.
    """
    if python is None or python.is_own:
        place = str(packages_folder() if packages is None else packages)
        former = [one for one in startup.get("PYTHONPATH", "").split(os.pathsep) if one]
        path = os.pathsep.join([place, *(one for one in former if one != place)])
        return {**startup, **_ALWAYS, "PYTHONPATH": path}
    return {**_without_slicer(startup), **_ALWAYS}


def _named(
    path: Path, chosen_by: Literal["variable", "setting"], default: Path | str
) -> WorkerPython:
    # A virtual environment's Python is a link to another one, so only the name tells.
    same = os.path.normcase(path) == os.path.normcase(default)
    return WorkerPython(path=path, chosen_by="default" if same else chosen_by)


def _interpreter(name: str, who: str, remedy: str) -> Path:
    try:
        return _looked_up(Path(name).expanduser(), who, remedy)
    except (OSError, RuntimeError) as error:
        # A folder that this user may not enter; a user ("~name") that there is not.
        raise SemiSupSegError(
            f"{who} names the Python {name}, which cannot be looked at ({error}). {remedy}."
        ) from error


def _looked_up(path: Path, who: str, remedy: str) -> Path:
    if path.is_dir():
        found = [path / place for place in _PLACES if (path / place).is_file()]
        if not found:
            raise SemiSupSegError(
                f"{who} names the folder {path}, which holds no Python. {remedy}."
            )
        path = found[0]
    if not path.is_file():
        raise SemiSupSegError(f"{who} names the Python {path}, which does not exist. {remedy}.")
    if not os.access(path, os.X_OK):
        raise SemiSupSegError(f"{who} names {path}, which cannot be started. {remedy}.")
    # Absolute, but not resolved: a virtual environment is found by where its link lies.
    return path.absolute()


def _without_slicer(startup: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those for Slicer's Python and without paths into Slicer."""
    slicer = startup.get("SLICER_HOME")
    kept = {}
    for name, value in startup.items():
        parts = value.split(os.pathsep)
        others = [part for part in parts if not (slicer and part and _lies_in(part, slicer))]
        if name not in _NOT_FOR_ANOTHER and others:
            kept[name] = os.pathsep.join(others)
    return kept


def _lies_in(path: str, folder: str) -> bool:
    inner, outer = (os.path.normcase(os.path.normpath(one)) for one in (path, folder))
    return inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep)
