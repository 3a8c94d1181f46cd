"""Processes of workers: in groups of their own, so that they can be ended with all they started."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from SemiSupSegLib.workers.environment import packages_folder

LIBRARY = Path(__file__).resolve().parents[1]
_REAP_SECONDS = 1.0
_LOG_LINES = 5
ERROR = "Error: "
"""Begins the line in which a command says why it failed."""
_NO_WINDOW, _NEW_GROUP = 0x08000000, 0x00000200
"""Flags of Windows for a process without a console window, and in a group of its own."""


def start_worker(
    python: str,
    words: Sequence[str],
    log: Path,
    *,
    script: str = "__main__.py",
    has_life_line: bool = True,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a file of the library by its path.

    Args:
        python: The interpreter.
        words: Its arguments.
        log: What it prints is appended here.
        script: The file, from the library's folder.
        has_life_line: Whether its standard input is a pipe, which ends with this process; else it
            has none and lives on.
        environment: Default this process's.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    own_group: dict[str, Any] = (
        {"creationflags": _NO_WINDOW | _NEW_GROUP}
        if os.name == "nt"
        else {"start_new_session": True}
    )
    with log.open("ab") as output:
        return subprocess.Popen(
            [python, str(LIBRARY / script), *words],
            stdin=subprocess.PIPE if has_life_line else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            **own_group,
        )


def command_line(python: str, words: Sequence[str], *, packages: Path | None = None) -> str:
    """Return the command that does the same on a terminal of this system.

    Args:
        python: The interpreter.
        words: Of the command.
        packages: Folder of packages that a terminal's Python would not find; by default the one
            that this process was given.
    """
    whole = [python, str(LIBRARY / "__main__.py"), *words]
    if packages is None and str(packages_folder()) in _python_path():
        packages = packages_folder()
    if os.name == "nt":
        # For the command prompt.
        before = "" if packages is None else f'set "PYTHONPATH={packages}" && '
        return before + subprocess.list2cmdline(whole)
    before = "" if packages is None else f"env PYTHONPATH={shlex.quote(str(packages))} "
    return before + shlex.join(whole)


def _python_path() -> list[str]:
    return os.environ.get("PYTHONPATH", "").split(os.pathsep)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process of `start_worker` with all that it started, and reap it."""
    if os.name == "nt":
        _taskkill(process.pid)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    # One that waits for a dead share cannot be killed; whoever kills it must not wait, too.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_REAP_SECONDS)
    close_input(process)


def kill_foreign(pid: int) -> None:
    """Kill a process that somebody else started.

    Raises:
        PermissionError: If it belongs to another user.
    """
    if os.name == "nt":
        _taskkill(pid)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def close_input(process: subprocess.Popen[bytes]) -> None:
    """End the life line of a process."""
    if process.stdin is not None:
        # What it never read may still be in the buffer.
        with contextlib.suppress(OSError):
            process.stdin.close()


def why_ended(logs: Sequence[Path], code: int, *, offset: int = 0) -> str:
    """Return why a process ended that left no other word, from what it has printed.

    Args:
        logs: Files of what it printed.
        code: Its exit code.
        offset: Bytes of the logs that are of earlier processes.
    """
    last = [line for log in logs for line in _last_lines(log, offset)]
    reasons = [line.removeprefix(ERROR) for line in last if line.startswith(ERROR)]
    if reasons:
        return reasons[-1]
    message = (
        f"The worker ended without a word (code {code}), most often for want of memory. "
        "Close other programs and try again."
    )
    return message + (f" The last it said: {' / '.join(last)}" if last else "")


def _last_lines(log: Path, offset: int) -> list[str]:
    try:
        text = log.read_bytes()[offset:].decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()][-_LOG_LINES:]


def _taskkill(pid: int) -> None:
    subprocess.run(
        ["taskkill", "/PID", str(pid), "/T", "/F"],
        capture_output=True,
        check=False,
        creationflags=_NO_WINDOW,
    )
