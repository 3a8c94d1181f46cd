"""The worker of this Slicer: which Python it runs in, and in what environment."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import slicer

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.models.registry import HOME_VARIABLE, user_data_folder
from SemiSupSegLib.workers.environment import (
    VARIABLE,
    WorkerPython,
    choose_python,
    packages_folder,
)
from SemiSupSegLib.workers.processes import command_line
from SemiSupSegLib.workers.runner import JobRunner

_SETTING = "SemiSupSeg/WorkerPython"


def python_setting() -> str:
    """Return the Python that the user has chosen for workers; empty: Slicer's own."""
    return str(slicer.app.userSettings().value(_SETTING, "") or "")


def choose_worker_python(path: str) -> None:
    """Remember the Python for workers; empty: Slicer's own."""
    slicer.app.userSettings().setValue(_SETTING, path)


def worker_python() -> WorkerPython:
    """Return the Python that workers use.

    Raises:
        SemiSupSegError: If the variable or the setting names none.
    """
    # In Slicer this is PythonSlicer, not the application.
    return choose_python(sys.executable, setting=python_setting())


def origin_in_words() -> str:
    """Return which Python the workers use and who has chosen it."""
    try:
        python = worker_python()
    except SemiSupSegError as error:
        return str(error)
    if python.is_own:
        return "Slicer's own"
    who = VARIABLE if python.chosen_by == "variable" else "chosen in Setup"
    return f"{python.path} ({who})"


def why_no_worker() -> str:
    """Return why there is no Python for workers, or an empty text."""
    try:
        worker_python()
    except SemiSupSegError as error:
        return str(error)
    return ""


def terminal_command(words: Sequence[str]) -> str:
    """Return the command line that does what a worker does with these words."""
    try:
        python = worker_python()
    except SemiSupSegError:
        return command_line("python3", words)
    # Workers have it on their path; a terminal does not.
    packages = packages_folder()
    is_needed = python.is_own and packages.is_dir()
    return command_line(str(python.path), words, packages=packages if is_needed else None)


def new_runner(kind: type[JobRunner] = JobRunner) -> JobRunner:
    """Return a runner of workers that start as they would outside Slicer."""
    try:
        python: WorkerPython | str = worker_python()
    except SemiSupSegError:
        # The panel opens all the same, and Setup says what is wrong with the choice.
        python = sys.executable
    # Window and workers read the same models, wherever the variable was set.
    environment = {**slicer.util.startupEnvironment(), HOME_VARIABLE: str(user_data_folder())}
    return kind(python, user_data_folder() / "logs", environment=environment)
