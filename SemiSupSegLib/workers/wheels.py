"""The command that fills a folder of wheels elsewhere, for a machine without internet."""

from __future__ import annotations

import platform
from pathlib import PurePath

from SemiSupSegLib.workers.packages import PACKAGES, Probe, normalized

_GLIBC = (39, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)
"""Minor versions of glibc 2 that wheels are built for."""
_SHARED = {
    "contourpy", "cycler", "filelock", "fonttools", "fsspec", "jinja2", "kiwisolver", "markupsafe",
    "mpmath", "networkx", "numpy", "packaging", "pillow", "pyparsing", "python-dateutil",
    "setuptools", "six", "sympy", "typing-extensions",
}  # fmt: skip
"""What our packages bring along: taken in the versions that are installed here."""


def fill_command(probe: Probe, folder: str = "wheels") -> list[str]:
    """Return the command, in list form, that downloads all wheels that a Python needs.

    It is for another machine of the same kind of system, with internet and the same version of
    Python. Packages that are installed here are asked for in exactly their version, so that the
    folder holds nothing that would have to change them.

    Args:
        probe: The Python that the wheels are for.
        folder: Where they go, on that machine.
    """
    version = f"{probe.python[0]}.{probe.python[1]}"
    needed = [one for one in PACKAGES if not one.terminal_only]
    words = ["python", "-m", "pip", "download", "--dest", folder, "--only-binary", ":all:"]
    words += ["--implementation", "cp", "--python-version", version]
    for one in (f"cp{version.replace('.', '')}", "abi3", "none"):
        words += ["--abi", one]
    for one in platforms(probe):
        words += ["--platform", one]
    for package in needed:
        if not package.comes_with_slicer:
            words.append(package.requirement)
    ours = {normalized(one.name) for one in needed if not one.comes_with_slicer}
    pins = sorted((_SHARED - ours) & set(probe.installed))
    return words + [f"{name}=={probe.installed[name].version}" for name in pins]


def in_words(probe: Probe) -> list[str]:
    """Return the lines that `doctor --wheels` prints."""
    system = {"linux": "Linux", "win32": "Windows", "darwin": "macOS"}
    name = system.get(probe.system, probe.system)
    version = f"{probe.python[0]}.{probe.python[1]}"
    lines = [
        # pip decides by the Python that runs it what a package brings along.
        f"For Python {version} on {probe.platform}. On a {name} machine with internet and Python "
        f"{version}:",
        "",
        "  " + " ".join(_quoted(word) for word in fill_command(probe)),
        "",
        "Then carry the folder 'wheels' here, choose it in Setup as Wheel folder, and install.",
    ]
    if probe.system == "win32":
        lines.append(
            "The command takes PyTorch for the CPU. For an NVIDIA GPU install light-the-torch "
            "there and write 'light_the_torch' instead of 'pip'."
        )
    elif probe.system.startswith("linux"):
        lines.append(
            "The command takes PyTorch for NVIDIA GPUs, several GB. For the CPU only, install "
            "light-the-torch there, write 'light_the_torch' instead of 'pip', and add "
            "--pytorch-computation-backend=cpu."
        )
    return lines


def platforms(probe: Probe) -> list[str]:
    """Return the platform tags of wheels that run there, the newest first."""
    if probe.system.startswith("linux"):
        machine = probe.platform.split("-")[-1]
        name, version = probe.libc
        parts = version.split(".")
        newest = int(parts[1]) if name == "glibc" and len(parts) > 1 else 28
        tags = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC if minor <= newest]
        # pip knows the still older names by this one.
        return [*tags, f"manylinux2014_{machine}", f"linux_{machine}"]
    if probe.system == "darwin":
        # The probe's platform is what Python was built for; this machine may be newer.
        release = platform.mac_ver()[0].split(".")[0]
        machine = probe.platform.split("-")[-1]
        machine = platform.machine() if machine == "universal2" else machine
        return [f"macosx_{major}_0_{machine}" for major in range(int(release or 11), 10, -1)]
    return [probe.platform.replace("-", "_").replace(".", "_")]


def _quoted(word: str) -> str:
    special = any(sign in word for sign in "<>= &|;()") or word != PurePath(word).as_posix()
    return f'"{word}"' if special else word
