#!/usr/bin/env python3
"""Set up and run SemiSupSeg on a bare machine: Python 3.10 or later is all it needs.

    python3 run.py demo                 the main job on made-up cases
    python3 run.py test                 the tests
    python3 run.py doctor               what is installed, which devices work
    python3 run.py COMMAND ...          scan, train, predict, evaluate, review, learn, models, ...
    python3 run.py --cpu COMMAND ...    use a CPU build of PyTorch (--gpu: one for NVIDIA GPUs)

The first call makes `.venv` beside this file and installs the exact versions of requirements.txt;
`test` installs those of requirements-test.txt too (`setup` does nothing but that).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent
OLDEST_PYTHON = (3, 10)
TORCH_CHOOSER = "light-the-torch==0.8.1"
"""Knows where each build of PyTorch is kept, which pip does not."""

if TYPE_CHECKING:
    # Not while running: an older Python must get as far as the sentence about its age.
    Runner = Callable[..., int]
    """Runs `(words, env=None, cwd=None, quiet=False)` and returns the exit code."""


class SetupError(Exception):
    """Setting up failed; the message says what to do."""


@dataclass(frozen=True)
class Machine:
    """What decides how to install: facts about this machine, so that tests can make up others."""

    platform: str
    """As `sys.platform`."""
    python: tuple[int, int]
    has_venv: bool
    """Whether the `venv` and `ensurepip` modules are there (Debian packs them apart)."""
    nvidia_driver: bool


def this_machine() -> Machine:
    """Look at the machine this runs on; nothing is started."""
    driver = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()
    modules = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
    return Machine(sys.platform, sys.version_info[:2], modules, bool(driver))


def run_command(
    words: Sequence[str],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    quiet: bool = False,
) -> int:
    """Run a program and return its exit code; `quiet` hides what it says."""
    silence = subprocess.DEVNULL if quiet else None
    return subprocess.call(list(words), env=env, cwd=cwd, stdout=silence, stderr=silence)


def main(
    words: Sequence[str],
    *,
    root: Path = ROOT,
    machine: Machine | None = None,
    run: Runner = run_command,
    hand_over: Runner | None = None,
) -> int:
    """Install what is missing, then run the command.

    Args:
        words: The command line after `run.py`.
        root: The checkout.
        machine: Facts about the machine; looked up if not given.
        run: Starts the programs of the installation.
        hand_over: Starts the command itself; by default it takes this process's place.
    """
    machine = this_machine() if machine is None else machine
    hand_over = _hand_over(machine.platform) if hand_over is None else hand_over
    words = list(words)
    asked = None
    while words and words[0] in ("--cpu", "--gpu"):
        asked = words.pop(0)[2:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0 if words else 2
    try:
        python = install(root, machine, asked, run, with_tests=words[0] in ("test", "setup"))
    except SetupError as error:
        print(f"\nSetting up failed: {error}", file=sys.stderr)
        return 1
    if words[0] == "setup":
        print(f"Ready: {python}")
        return 0
    command, cwd = command_line(words, python, root)
    # The library is found wherever the user stands, so that relative paths stay theirs.
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    if words[0] == "test":
        # As many processes as cores run at once; more threads in each only get in the way.
        environment.setdefault("OMP_NUM_THREADS", "1")
    return hand_over(command, env=environment, cwd=cwd)


def command_line(words: Sequence[str], python: Path, root: Path) -> tuple[list[str], Path | None]:
    """Return what to start for `words` and in which folder (None: where the user stands)."""
    if words[0] == "test":
        return [str(python), "-m", "pytest", "-n", "auto", *words[1:]], root
    return [str(python), "-m", "SemiSupSegLib", *words], None


# --- installing ------------------------------------------------------------------------------


def install(
    root: Path, machine: Machine, asked: str | None, run: Runner, *, with_tests: bool = False
) -> Path:
    """Bring `.venv` to what requirements.txt says and return its Python.

    A stamp file, written last and removed first, says what the folder holds: an installation
    that was interrupted has none and is done again.

    Args:
        root: The checkout.
        machine: Facts about the machine.
        asked: Build of PyTorch: `cpu`, `gpu`, or None to keep or choose.
        run: Starts programs.
        with_tests: Whether requirements-test.txt is wanted too: the stand-in for Slicer alone is
            larger than all that a user needs.

    Raises:
        SetupError: With a sentence for the user.
    """
    folder = root / ".venv"
    stamp_file = folder / "semisupseg-stamp.json"
    python = venv_python(folder, machine.platform)
    requirements, tests = root / "requirements.txt", root / "requirements-test.txt"
    stamp = _read_stamp(stamp_file)
    build = asked or stamp.get("build") or ("gpu" if machine.nvidia_driver else "cpu")
    # An environment that another Python made stays, as long as it works.
    own = ".".join(map(str, machine.python))
    made_by = stamp.get("python", own)
    healthy = python.exists() and run([str(python), "-c", _check(made_by)], quiet=True) == 0
    wanted = {
        "requirements": hashlib.sha256(requirements.read_bytes()).hexdigest(),
        "python": made_by if healthy else own,
        "build": build,
    }
    if with_tests:
        wanted["tests"] = hashlib.sha256(tests.read_bytes()).hexdigest()
    elif healthy and "tests" in stamp:
        # They were installed before and stay, whether or not they are the newest.
        wanted["tests"] = stamp["tests"]
    if stamp == wanted and healthy:
        return python
    _check_machine(machine)
    stamp_file.unlink(missing_ok=True)
    if not healthy:
        print(f"Making {folder}", flush=True)
        if run([sys.executable, "-m", "venv", "--clear", str(folder)]) != 0:
            raise SetupError(
                f"the virtual environment {folder} could not be made (see above). Check that the "
                "folder can be written and the disk has room, remove .venv, and try again."
            )
    files = [requirements, tests] if with_tests else [requirements]
    names = " and ".join(file.name for file in files)
    print(f"Installing the packages of {names} (once; some minutes)", flush=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    torch = torch_pin(requirements.read_text(encoding="utf-8"))
    _install_torch(torch, build, machine, pip, run)
    if run([*pip, "install", *(word for file in files for word in ("-r", str(file)))]) != 0:
        raise SetupError(
            f"pip could not install {names} (see above). Check the network or the package index "
            "that pip is configured with, and run the same command again: it goes on."
        )
    # Written beside and renamed, so that a stamp is there in whole or not at all.
    part = stamp_file.with_suffix(".part")
    part.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    part.replace(stamp_file)
    return python


def venv_python(folder: Path, platform: str) -> Path:
    """Return where a virtual environment keeps its Python."""
    return folder / ("Scripts/python.exe" if platform == "win32" else "bin/python")


def torch_pin(requirements: str) -> str:
    """Return the version of torch that the requirements ask for.

    Raises:
        SetupError: If they do not pin it.
    """
    found = re.search(r"^torch==([\w.]+)", requirements, flags=re.MULTILINE)
    if found is None:
        raise SetupError("requirements.txt has no line 'torch==VERSION'. Restore the file.")
    return found[1]


def _install_torch(
    version: str, build: str, machine: Machine, pip: Sequence[str], run: Runner
) -> None:
    """Install the build of PyTorch that fits, where the plain package is another one.

    The plain package, which pip installs with the rest, is made for NVIDIA GPUs on Linux
    (gigabytes), for the CPU on Windows, and is the only one for a Mac.
    """
    if machine.platform == "darwin":
        return
    right = (
        "import sys, torch; sys.exit("
        f"torch.__version__.split('+')[0] != {version!r} "
        f"or (torch.version.cuda is None) != {build == 'cpu'})"
    )
    if run([pip[0], "-c", right], quiet=True) == 0:
        return
    # pip takes the same version of another build for the right one; so nothing stays.
    run([*pip, "uninstall", "--yes", "torch"], quiet=True)
    if (build == "gpu") == machine.platform.startswith("linux"):
        return
    print(f"Installing PyTorch {version} for the {build.upper()}", flush=True)
    if build == "cpu" and run([*pip, "install", f"torch=={version}+cpu"], quiet=True) == 0:
        return
    chooser = [pip[0], "-m", "light_the_torch", "install"]
    backend = ["--pytorch-computation-backend=cpu"] if build == "cpu" else []
    if (
        run([*pip, "install", TORCH_CHOOSER], quiet=True) == 0
        and run([*chooser, *backend, f"torch=={version}"]) == 0
    ):
        return
    if build == "cpu":
        print(
            "No CPU build of PyTorch was found, so the usual one is installed: it brings the GPU "
            "libraries, several gigabytes, and runs on the CPU as well.",
            flush=True,
        )
    else:
        print(
            "No GPU build of PyTorch was found, so the usual one is installed: it runs on the "
            "CPU only.",
            flush=True,
        )


def _check(version: str) -> str:
    """Return a program that succeeds in a working environment of that Python version."""
    return f"import sys, pip; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"


def _check_machine(machine: Machine) -> None:
    if machine.python < OLDEST_PYTHON:
        raise SetupError(
            f"this is Python {machine.python[0]}.{machine.python[1]}; SemiSupSeg needs 3.10 or "
            "later. Start run.py with a newer one, for example: python3.12 run.py demo"
        )
    if not machine.has_venv:
        raise SetupError(
            "this Python cannot make virtual environments: its venv and ensurepip modules are "
            "missing. Debian and Ubuntu pack them apart; install them with\n"
            f"    sudo apt install python{machine.python[0]}.{machine.python[1]}-venv\n"
            "and run the same command again."
        )


def _read_stamp(file: Path) -> dict[str, str]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _hand_over(platform: str) -> Runner:
    """Return what starts the command: where the system can, it takes this process's place.

    Then a signal or a kill reaches the command itself. Windows starts a second process instead
    of replacing the first, and the terminal would not wait for it.
    """
    if platform == "win32":
        return run_command

    def replace(
        words: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        quiet: bool = False,
    ) -> int:
        if cwd is not None:
            os.chdir(cwd)
        sys.stdout.flush()
        os.execve(words[0], list(words), dict(env or os.environ))

    return replace


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
