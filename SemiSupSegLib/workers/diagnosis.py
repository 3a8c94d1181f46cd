"""What `doctor --json` found, in words for a panel and as text for a bug report."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from SemiSupSegLib.workers.packages import Probe, package_states

_BYTES_OF_GIBIBYTE = 2**30
_REINSTALL = "Press 'Install PyTorch again' in Setup."
_EXTENSION = (
    "Install Slicer's PyTorch extension, which chooses the build by the driver, and press 'Install "
    "PyTorch again' in Setup."
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One sentence about the installation."""

    level: Literal["good", "note", "problem"]
    """With a problem workers do not run, or not on that device."""
    text: str


def findings(found: Mapping[str, Any]) -> list[Finding]:
    """Return what the worker's self-test found, the GPUs first.

    Args:
        found: Content that `doctor --json` wrote.
    """
    sentences = [*_gpu_findings(found), *_package_findings(found)]
    memory = found["memory"]
    if memory["total_bytes"]:
        total, free = (_gigabytes(memory[name]) for name in ("total_bytes", "available_bytes"))
        text = f"{found['cores']} processor cores, {total} of memory, {free} free."
        sentences.append(Finding(level="good", text=text))
    for name, one in found["folders"].items():
        if name == "user_data" and one["free_bytes"] is not None:
            text = f"{_gigabytes(one['free_bytes'])} free for models and results."
            sentences.append(Finding(level="good", text=text))
    return sentences


def why_no_gpu(found: Mapping[str, Any]) -> str | None:
    """Return why PyTorch has no GPU although there is an NVIDIA driver, or None."""
    devices, torch = found["devices"], found["torch"]
    if not devices or not found["nvidia_driver"] or _gpus(devices) or torch is None:
        return None
    if torch["cuda"] is None:
        return (
            f"There is an NVIDIA driver, but the installed PyTorch {torch['version']} is a build "
            "for the CPU only."
        )
    return (
        f"There is an NVIDIA driver, but PyTorch {torch['version']} for CUDA {torch['cuda']} "
        "cannot use it: the driver is too old, or no GPU is free for this user."
    )


def is_built_for(capability: Sequence[int], arch_list: Sequence[str]) -> bool:
    """Return whether a build of PyTorch runs on a GPU.

    Binary code runs on the same major and the same or a later minor version (`sm_86`: 8.6, 8.9);
    the intermediate code of `compute_90` on everything from 9.0 on.

    Args:
        capability: Of the GPU, major and minor.
        arch_list: As `torch.cuda.get_arch_list()`; empty if it is not known.
    """
    if not arch_list:
        return True
    own = tuple(capability)
    for arch in arch_list:
        parts = re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", arch)
        if parts is None:
            continue
        built = (int(parts[2]), int(parts[3]))
        if built <= own and (parts[1] == "compute" or built[0] == own[0]):
            return True
    return False


def diagnostics(
    found: Mapping[str, Any] | None,
    *,
    probe: Probe | None = None,
    extra: Mapping[str, object] | None = None,
    home: Path | None = None,
    user: str | None = None,
) -> str:
    """Return text to copy into a bug report: versions, devices, packages, sentences.

    It holds no case, and of paths only those of the installation, without the user's name: the
    home folder is `~`, and where the name stands elsewhere it is `<user>`.

    Args:
        found: Content that `doctor --json` wrote; None if the worker could not tell, or was not
            asked.
        probe: What the workers' Python has; told if the worker has said nothing.
        extra: Further lines, for instance Slicer's version.
        home: By default this user's.
        user: By default this user's name.
    """
    lines = [f"{name}: {value}" for name, value in (extra or {}).items()]
    if found is not None:
        lines += [f"{one.level}: {one.text}" for one in findings(found)]
        lines += ["", json.dumps(_technical(found), indent=1, ensure_ascii=False)]
    elif probe is not None:
        lines += ["The self-test was not run.", *_probed(probe)]
    else:
        lines.append("The worker could not examine the installation.")
    return without_user("\n".join(lines), home=home, user=user) + "\n"


def _probed(probe: Probe) -> list[str]:
    gpus = [f"{one.name}, {one.memory_mb} MB, driver {one.driver}" for one in probe.gpus]
    driver = "found, but it lists no GPU" if probe.has_nvidia_driver else "none found"
    access = "" if probe.is_writable else " (not writable)"
    return [
        f"Python: {'.'.join(map(str, probe.python))}, {probe.platform}, {probe.executable}",
        f"pip: {probe.pip or 'none'}, into {probe.site_packages}{access}",
        *([f"GPU: {one}" for one in gpus] or [f"NVIDIA driver: {driver}"]),
        *map(str, package_states(probe)),
    ]


def without_user(text: str, *, home: Path | None = None, user: str | None = None) -> str:
    """Return a text with `~` for the home folder and `<user>` for the user's name in paths."""
    home = Path.home() if home is None else home
    user = _user() if user is None else user
    in_json = json.dumps(str(home), ensure_ascii=False)[1:-1]
    for form in {str(home), home.as_posix(), in_json}:
        if len(form) > 1:
            text = re.sub(re.escape(form) + r"(?=[\\/\s\"',;:)]|$)", "~", text, flags=re.IGNORECASE)
    if user:
        text = re.sub(rf"(?<=[\\/]){re.escape(user)}(?=[\\/\s\"',;:)]|$)", "<user>", text)
    return text


def _technical(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a report, without sizes of folders that hold patients' data."""
    names = ("semisupseg", "python", "system", "torch", "devices", "nvidia_driver", "cores")
    kept = {name: found[name] for name in (*names, "memory", "problems", "notes") if name in found}
    return {**kept, "packages": {name: one["version"] for name, one in found["packages"].items()}}


def _gpu_findings(found: Mapping[str, Any]) -> list[Finding]:
    devices = found["devices"]
    sentences = [_gpu_finding(one, found["torch"]) for one in _gpus(devices)]
    if sentences or not devices:
        return sentences
    reason = why_no_gpu(found)
    if reason is not None:
        remedy = (
            _EXTENSION
            if found["torch"]["cuda"] is None
            else ("Update the driver, or check the variable CUDA_VISIBLE_DEVICES.")
        )
        sentences.append(Finding(level="problem", text=f"{reason} {remedy}"))
    else:
        text = "No NVIDIA GPU was found: segmenting works, training is possible but slow."
        sentences.append(Finding(level="note", text=text))
    cpu = devices[0]
    level: Literal["good", "problem"] = "good" if cpu["ok"] else "problem"
    sentences.append(Finding(level=level, text=f"CPU: {_test(cpu)}."))
    return sentences


def _gpu_finding(one: Mapping[str, Any], torch: Mapping[str, Any] | None) -> Finding:
    title = f"GPU {one['name'].partition(':')[2]}: {one['title']}"
    if one["memory_bytes"]:
        title += f", {round(one['memory_bytes'] / _BYTES_OF_GIBIBYTE)} GB"
    if one["ok"]:
        return Finding(level="good", text=f"{title}, {_test(one)}.")
    capability = one.get("capability")
    if torch and capability and not is_built_for(capability, torch["arch_list"]):
        text = (
            f"{title}: this GPU has compute capability {'.'.join(map(str, capability))}, for which "
            f"PyTorch {torch['version']} was not built. {_REINSTALL} If that changes nothing, the "
            "driver is too old for a build that fits, or the GPU is too old."
        )
    else:
        text = f"{title}: {_test(one)}. Update the driver, or choose the CPU."
    return Finding(level="problem", text=text)


def _package_findings(found: Mapping[str, Any]) -> list[Finding]:
    missing = [
        f"{name} {one['needed']} or later (here: {one['version'] or 'none'})"
        for name, one in found["packages"].items()
        if not one["ok"] and not one.get("terminal_only")
    ]
    if missing:
        text = f"Missing or too old: {', '.join(missing)}. Press Install in Setup."
        return [Finding(level="problem", text=text)]
    if found["torch"] is None:
        text = f"PyTorch is installed but cannot be loaded ({found['torch_error']}). {_REINSTALL}"
        return [Finding(level="problem", text=f"{text} Or choose another Python for the workers.")]
    text = f"All packages are there; PyTorch {found['torch']['version']}."
    return [Finding(level="good", text=text)]


def _test(one: Mapping[str, Any]) -> str:
    if not one["ok"]:
        return str(one["message"])
    duration = one["milliseconds"]
    return f"ran a convolution in {duration:.0f} ms" if duration >= 1 else "ran a convolution"


def _gpus(devices: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [one for one in devices if one["name"].startswith("cuda")]


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.0f} GB" if num_bytes >= 1e10 else f"{num_bytes / 1e9:.1f} GB"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
