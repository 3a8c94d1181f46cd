"""`doctor`: what is installed, which devices really compute, how much room there is."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from SemiSupSegLib.commands.json_answer import add_json, write_answer
from SemiSupSegLib.workers.diagnosis import why_no_gpu
from SemiSupSegLib.workers.packages import PACKAGES, PYTHON, Package, is_enough
from SemiSupSegLib.workers.rehearsal import rehearse_models

HELP = "Check the installation: versions, devices, memory, disk; a real convolution on each device."

CONV_CHANNELS = 8
CONV_SIDE = 32
REPEATS = 5
TOLERANCE = 3e-3
"""Relative; NVIDIA GPUs multiply in TF32, which keeps ten bits."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_json(parser, "what was found")
    parser.add_argument(
        "--wheels",
        action="store_true",
        help="print the command that fills a folder of wheels on a machine with internet, to "
        "install from it where there is none",
    )


def run(arguments: argparse.Namespace) -> int:
    """Look and tell; 1 if something is missing without which nothing works."""
    if arguments.wheels:
        print("\n".join(_wheels()))
        return 0
    found = examine()
    if found["ok"]:
        rehearse_models()
    if not write_answer(arguments.json, found):
        print("\n".join(in_words(found)))
    return 0 if found["ok"] else 1


def examine() -> dict[str, Any]:
    """Return everything that `doctor --json` prints."""
    from SemiSupSegLib import __version__

    packages = _packages()
    torch, torch_error = _torch() if packages["torch"]["ok"] else (None, None)
    devices = [] if torch is None else _devices()
    problems = _problems(packages, devices, torch_error)
    found = {
        "format": "semisupseg-doctor",
        "version": 1,
        "ok": not problems,
        "problems": problems,
        "notes": [],
        "semisupseg": __version__,
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "system": {"name": platform.platform(), "machine": platform.machine()},
        "packages": packages,
        "torch": torch,
        "torch_error": torch_error,
        "devices": devices,
        "nvidia_driver": _has_nvidia_driver(),
        "cores": _cores(),
        "memory": _memory(),
        "folders": _folders(),
    }
    return {**found, "notes": _notes(found)}


def in_words(found: dict[str, Any]) -> list[str]:
    """Return the findings as lines for a terminal."""
    python, memory = found["python"], found["memory"]
    lines = [
        f"SemiSupSeg {found['semisupseg']}, Python {python['version']}, {found['system']['name']}",
        f"Python: {python['executable']}",
        "",
        "Packages",
    ]
    for name, one in found["packages"].items():
        state = "ok" if one["ok"] else f"needed: {one['needed']} or later"
        lines.append(f"  {name:<15} {one['version'] or 'missing':<14} {state}")
    lines += ["", "Devices"]
    for one in found["devices"]:
        room = f", {_size(one['memory_bytes'])}" if one["memory_bytes"] else ""
        lines.append(f"  {one['name']}: {one['title']}{room}; {one['message']}")
    lines += ["", f"Cores: {found['cores']}"]
    if memory["total_bytes"]:
        available = _size(memory["available_bytes"])
        lines.append(f"Memory: {_size(memory['total_bytes'])}, {available} free")
    for title, one in found["folders"].items():
        free = "unknown" if one["free_bytes"] is None else _size(one["free_bytes"])
        lines.append(
            f"{title.replace('_', ' ').capitalize()}: {one['path']} "
            f"({_size(one['size_bytes'])} used, {free} free on the disk)"
        )
    lines += [""] + [f"Note: {note}" for note in found["notes"]]
    lines += [f"Problem: {problem}" for problem in found["problems"]]
    return [*lines, "All is well." if found["ok"] else "SemiSupSeg cannot work like this."]


def _packages() -> dict[str, dict[str, Any]]:
    return {package.name: _package(package) for package in PACKAGES}


def _package(package: Package) -> dict[str, Any]:
    version: str | None
    try:
        version = metadata.version(package.name)
        ok = is_enough(version, package.lowest)
    except metadata.PackageNotFoundError:
        version = None
        # Slicer 5.10 builds some packages itself and leaves no metadata of them.
        ok = package.comes_with_slicer and importlib.util.find_spec(package.name) is not None
    return {
        "version": version,
        "needed": package.lowest,
        "ok": ok,
        "terminal_only": package.terminal_only,
    }


def _torch() -> tuple[dict[str, Any] | None, str | None]:
    """Return what build of PyTorch there is, or why it cannot be loaded."""
    try:
        import torch
    except Exception as error:  # A damaged installation fails in any way.
        return None, f"{type(error).__name__}: {error}"
    found = {
        "version": str(torch.__version__),
        "cuda": torch.version.cuda,
        "arch_list": torch.cuda.get_arch_list(),
    }
    return found, None


def _wheels() -> list[str]:
    from SemiSupSegLib.workers import probe, wheels
    from SemiSupSegLib.workers.environment import packages_folder
    from SemiSupSegLib.workers.packages import Probe

    return wheels.in_words(Probe.from_json(probe.look(str(packages_folder()))))


def _devices() -> list[dict[str, Any]]:
    import torch

    devices = [_tried("cpu", platform.processor() or platform.machine(), None)]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        one = _tried(f"cuda:{index}", properties.name, properties.total_memory)
        devices.append({**one, "capability": [properties.major, properties.minor]})
    return devices


def _tried(name: str, title: str, memory_bytes: int | None) -> dict[str, Any]:
    try:
        milliseconds, error = convolution(name)
    except RuntimeError as reason:
        ok, milliseconds, message = False, None, f"the test convolution failed: {reason}"
    else:
        ok = error < TOLERANCE
        message = (
            f"ran a 3-D convolution in {milliseconds:.1f} ms, result right"
            if ok
            else f"a 3-D convolution gave a wrong result (relative error {error:.1e})"
        )
    return {
        "name": name,
        "title": title,
        "memory_bytes": memory_bytes,
        "ok": ok,
        "milliseconds": None if milliseconds is None else round(milliseconds, 3),
        "message": message,
    }


def convolution(device: str) -> tuple[float, float]:
    """Run a 3-D convolution on a device and check it against shifted sums in float64.

    Returns:
        Median duration in ms, and the largest error relative to the largest value.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, CONV_CHANNELS, CONV_SIDE, CONV_SIDE, CONV_SIDE), generator=generator)
    kernel = torch.rand((CONV_CHANNELS, CONV_CHANNELS, 3, 3, 3), generator=generator)
    there, weights = image.to(device), kernel.to(device)
    durations = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        # Bringing the answer back waits for the device, so the clock sees the whole work.
        answer = torch.nn.functional.conv3d(there, weights).cpu()
        durations.append(1000 * (time.perf_counter() - start))
    inner = CONV_SIDE - 2
    expected = torch.zeros((1, CONV_CHANNELS, inner, inner, inner), dtype=torch.float64)
    for offset in torch.cartesian_prod(*[torch.arange(3)] * 3).tolist():
        z, y, x = offset
        part = image[:, :, z : z + inner, y : y + inner, x : x + inner].double()
        expected += torch.einsum("bczyx,kc->bkzyx", part, kernel[:, :, z, y, x].double())
    error = ((answer.double() - expected).abs().max() / expected.abs().max()).item()
    # The first call prepares the device.
    return sorted(durations[1:])[REPEATS // 2], error


def _problems(
    packages: dict[str, Any], devices: list[dict[str, Any]], torch_error: str | None
) -> list[str]:
    problems = []
    if sys.version_info[:2] < PYTHON[0]:
        problems.append(f"Python {platform.python_version()} is too old; 3.10 or later is needed.")
    missing = [
        f"{name} {one['needed']} or later (here: {one['version'] or 'none'})"
        for name, one in packages.items()
        if not one["ok"] and not (one["terminal_only"] and not sys.stderr.isatty())
    ]
    if missing:
        problems.append(
            f"These packages are missing or too old: {', '.join(missing)}. "
            "'python3 run.py setup' installs them."
        )
    if torch_error is not None:
        problems.append(
            f"PyTorch is installed but cannot be loaded ({torch_error}). Install it again, or use "
            "another Python."
        )
    problems += [f"{one['name']}: {one['message']}." for one in devices if not one["ok"]]
    return problems


def _notes(found: dict[str, Any]) -> list[str]:
    notes = []
    if sys.version_info[:2] > PYTHON[1]:
        notes.append(f"Python {platform.python_version()} is newer than what was tested.")
    reason = why_no_gpu(found)
    if reason is not None:
        remedy = "'python3 run.py --gpu doctor' installs the build for NVIDIA GPUs."
        notes.append(f"{reason} {remedy}" if found["torch"]["cuda"] is None else reason)
    return notes


def _has_nvidia_driver() -> bool:
    return bool(shutil.which("nvidia-smi")) or Path("/proc/driver/nvidia/version").exists()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> dict[str, int | None]:
    try:
        import psutil
    except ImportError:
        return {"total_bytes": None, "available_bytes": None}
    memory = psutil.virtual_memory()
    return {"total_bytes": int(memory.total), "available_bytes": int(memory.available)}


def _folders() -> dict[str, dict[str, Any]]:
    from SemiSupSegLib.models.registry import user_data_folder
    from SemiSupSegLib.resources import ROOT

    folders = {"user_data": user_data_folder(), "resources": ROOT}
    try:
        from SemiSupSegLib.preparation.store import default_store
    except ImportError:  # numpy is missing, which stands among the problems.
        pass
    else:
        folders = {"prepared_store": default_store(), **folders}
    return {name: _folder(path) for name, path in folders.items()}


def _folder(path: Path) -> dict[str, Any]:
    existing = next((one for one in (path, *path.parents) if one.exists()), None)
    try:
        free = None if existing is None else shutil.disk_usage(existing).free
    except OSError:
        free = None
    return {
        "path": str(path),
        "exists": path.is_dir(),
        "size_bytes": _size_of(path),
        "free_bytes": free,
    }


def _size_of(folder: Path) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += (Path(place) / name).lstat().st_size
            except OSError:  # Removed meanwhile by another process.
                continue
    return total


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"
