"""What a Python has, found by metadata only: run by that Python, by the path of this file.

It needs the standard library, nothing of SemiSupSeg and no recent Python, so that it can also say
of an interpreter why it will not do. As a job: `python probe.py JOB PACKAGES` writes
`JOB/result.json` and `JOB/state.json`.
"""

from __future__ import annotations

import csv
import importlib.machinery
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

_NAMES = ("torch", "numpy", "scipy", "SimpleITK", "pydicom")
_NOT_IMPORTED = {"", ".", "..", "__pycache__", "bin", "Scripts", "share", "include", "man"}
_MEGABYTE = 1e6
_SMI_SECONDS = 10
_NO_WINDOW = 0x08000000


def look(packages: str) -> dict[str, Any]:
    """Return what `SemiSupSegLib.workers.packages.Probe` holds.

    Args:
        packages: The folder for packages that this Python's own folder cannot take.
    """
    # Without links, so that folders can be compared.
    site_packages = os.path.realpath(sysconfig.get_path("purelib"))
    packages = os.path.realpath(packages)
    installed = _installed()
    return {
        "python": list(sys.version_info[:3]),
        "executable": sys.executable,
        "system": sys.platform,
        "platform": sysconfig.get_platform(),
        "libc": list(platform.libc_ver()),
        "site_packages": site_packages,
        "is_writable": not _is_managed() and _can_write(site_packages),
        "free_mb": _free_mb(site_packages),
        "temp_free_mb": _free_mb(tempfile.gettempdir()),
        "packages": packages,
        "packages_free_mb": _free_mb(packages),
        "pip": installed["pip"]["version"] if "pip" in installed else None,
        "installed": installed,
        "importable": [
            name for name in _NAMES if importlib.machinery.PathFinder.find_spec(name) is not None
        ],
        "has_nvidia_driver": bool(shutil.which("nvidia-smi"))
        or Path("/proc/driver/nvidia/version").exists(),
        "gpus": _gpus(),
    }


def _installed() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in metadata.distributions():
        # A damaged one may have no name at all.
        name = one.metadata["Name"] if one.metadata else None
        if not name:
            continue
        key = re.sub(r"[-_.]+", "-", name).lower()
        # Of two, the one that comes first on the path is imported.
        if key not in found:
            found[key] = {
                "name": name,
                "version": one.version or "",
                "location": os.path.realpath(str(one.locate_file(""))),
                "is_complete": _is_complete(one),
            }
    return found


def _is_complete(one: metadata.Distribution) -> bool:
    """Return whether everything that is imported is there, as far as the record tells of it."""
    # Not `one.files`, which leaves out what is missing from Python 3.12 on.
    record = one.read_text("RECORD")
    if record is None:
        # pip writes it last. Other installers (Debian's) take it away and leave their name.
        is_from_wheel = one.read_text("WHEEL") is not None
        return not (is_from_wheel and (one.read_text("INSTALLER") or "pip").strip() == "pip")
    files = {row[0].replace("\\", "/") for row in csv.reader(record.splitlines()) if row}
    tops = {file.split("/")[0] for file in files} - _NOT_IMPORTED
    tops = {top for top in tops if not top.endswith((".dist-info", ".data"))}
    starts = {f"{top}/__init__.py" for top in tops} & files
    return all(Path(str(one.locate_file(name))).exists() for name in tops | starts)


def _is_managed() -> bool:
    """Return whether the system keeps this Python's packages itself (PEP 668)."""
    is_virtual = sys.prefix != sys.base_prefix
    return not is_virtual and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists()


def _can_write(folder: str) -> bool:
    # Rights alone do not tell on Windows and on read-only disks.
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _free_mb(folder: str) -> int | None:
    existing = next((one for one in (Path(folder), *Path(folder).parents) if one.exists()), None)
    try:
        return None if existing is None else int(shutil.disk_usage(existing).free / _MEGABYTE)
    except OSError:
        return None


def _gpus() -> list[dict[str, Any]]:
    if not shutil.which("nvidia-smi"):
        return []
    query = "--query-gpu=name,memory.total,driver_version"
    try:
        answer = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SMI_SECONDS,
            check=True,
            creationflags=_NO_WINDOW if os.name == "nt" else 0,
        ).stdout.decode("utf-8", "replace")
    except (OSError, subprocess.SubprocessError):
        return []
    return gpus_listed(answer)


def gpus_listed(answer: str) -> list[dict[str, Any]]:
    """Return name, memory (MB) and driver of each GPU in what `nvidia-smi` printed."""
    found = []
    for line in answer.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[1].isdigit():
            megabytes = round(int(parts[1]) * 2**20 / _MEGABYTE)
            found.append({"name": parts[0], "memory_mb": megabytes, "driver": parts[2]})
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2), encoding="utf-8")
    part.replace(path)


def main(words: list[str]) -> int:
    """Look, and write the answer into the job's folder."""
    folder = Path(words[0])
    _write(folder / "result.json", look(words[1]))
    state = {"format": "semisupseg-state", "version": 1, "status": "finished", "phase": ""}
    _write(folder / "state.json", {**state, "iteration": 0, "planned": 0, "finished": 0})
    return 0


if __name__ == "__main__":
    # Beside this file lie modules that nothing else must find under their names.
    if sys.path and Path(sys.path[0]) == Path(__file__).parent:
        del sys.path[0]
    sys.exit(main(sys.argv[1:]))
