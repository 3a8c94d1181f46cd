"""What pip prints, understood: where it is, and in words why it failed."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DOWNLOADING = re.compile(r"\s*Downloading (?:\S*/)?([\w.+-]+\.whl)(?: \((.+)\))?\s*")
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_KILOBYTE = 1000


@dataclass(frozen=True)
class PipProgress:
    """How far a download is, in kB."""

    finished: int
    planned: int


def progress_in(line: str) -> PipProgress | None:
    """Return the progress in a line of `pip --progress-bar raw`, or None if it tells of none."""
    found = _PROGRESS.fullmatch(line.strip())
    if found is None:
        return None
    return PipProgress(int(found[1]) // _KILOBYTE, int(found[2]) // _KILOBYTE)


def phase_in(line: str) -> str | None:
    """Return in words what pip begins in a line, or None if it begins nothing."""
    if line.startswith("Installing collected packages"):
        return "copying the files"
    found = _DOWNLOADING.fullmatch(line.rstrip("\n"))
    if found is None:
        return None
    package = found[1].split("-")[0]
    return f"downloading {package}, {found[2]}" if found[2] else f"downloading {package}"


def failure_in_words(output: str, *, place: str, wheels: str | None, python: str) -> str:
    """Return why pip failed and what to do.

    Args:
        output: All that it printed.
        place: The folder that the packages go to.
        wheels: The folder that was the only source, if so.
        python: Version and platform, for instance "Python 3.12 on win-amd64".
    """
    for pattern, sentence in _CAUSES:
        if re.search(pattern, output, flags=re.IGNORECASE):
            return sentence.format(place=place)
    conflict = _conflict(output)
    if conflict is not None:
        remedy = "Choose another Python in Setup"
        if wheels is not None:
            remedy += (
                f", or fill {wheels} anew with the command that 'doctor --wheels' prints on this "
                "machine: it asks for what fits"
            )
        return (
            f"The packages do not fit together: {conflict}. It stays as it is, because other "
            f"extensions may rely on it. {remedy}."
        )
    damaged = _damaged_wheel(output)
    if damaged:
        return (
            f"The wheel {damaged} is damaged. Remove it and copy or download it again, then press "
            "Install once more."
        )
    return _nothing_found(output, wheels, python) or _last_error(output)


_CAUSES = (
    (
        r"No space left on device|Errno 28\b|not enough space|Errno 122\b|Disk quota",
        "The disk is full. Make room on the disk of {place} and on that of temporary files, and "
        "press Install again.",
    ),
    (
        r"WinError 206|File name too long|Errno 36\b|enable long paths|Long Path support",
        "The path {place} is too long for the files of a package. Install Slicer into a folder "
        "with a short path, or set SEMISUPSEG_HOME to a short folder.",
    ),
    (
        r"WinError 32\b|used by another process",
        "A file in {place} is in use. Close other Slicer windows and programs that use this "
        "Python, and press Install again.",
    ),
    (
        r"Permission denied|Errno 13\b|WinError 5\b|Access is denied|Read-only file system",
        "{place} cannot be written. Choose another Python in Setup, or ask whoever keeps this "
        "installation for the right to write there.",
    ),
    (
        r"externally-managed-environment",
        "The system keeps the packages of this Python itself. Choose another Python in Setup.",
    ),
    (
        r"No module named pip\b",
        "This Python has no pip. Install it with 'python -m ensurepip', or choose another Python.",
    ),
)
_NETWORK = (
    r"NewConnectionError|ConnectTimeout|Connection\w*Error|Max retries exceeded|ProxyError|"
    r"name resolution|getaddrinfo|ReadTimeout|timed out|CERTIFICATE_VERIFY_FAILED|SSLError"
)


def _conflict(output: str) -> str | None:
    """Return which installed version pip would have to change, and for what."""
    kept = re.search(r"\(constraint\) ([^\s=]+)==(\S+)", output)
    if kept is None:
        found = "ResolutionImpossible" in output
        return "an installed package is of another version than is needed" if found else None
    asking = re.findall(r"^\s+(\S+ \S+) depends on (.+)$", output, flags=re.MULTILINE)
    needs = [f"{one} needs {what}" for one, what in asking if what.startswith(kept[1])]
    return ", ".join([*needs, f"and {kept[1]} {kept[2]} is installed"])


def _damaged_wheel(output: str) -> str | None:
    """Return the name of a wheel that cannot be read, "" being no name."""
    signs = r"is invalid|invalid wheel|not a zip file|BadZipFile|DO NOT MATCH THE HASHES|Bad CRC|"
    if not re.search(signs + r"zlib\.error|Error -3 while decompressing|Bad magic", output):
        return None
    names = re.findall(r"[\w.+-]+\.whl", output)
    return names[-1] if names else "that pip read last"


def _nothing_found(output: str, wheels: str | None, python: str) -> str | None:
    found = re.search(r"No matching distribution found for (\S+)", output)
    if wheels is not None and found:
        return (
            f"The folder {wheels} has no wheel of {found[1]} for {python}. Fill it with the "
            "command that 'doctor --wheels' prints on this machine, and press Install again."
        )
    if re.search(_NETWORK, output, flags=re.IGNORECASE):
        return (
            "The package index cannot be reached. Check the network and the proxy, and press "
            "Install again; without internet, install from a folder of wheels."
        )
    if found:
        return (
            f"The package index has no wheel of {found[1]} for {python} that fits what is "
            "installed. Choose another Python in Setup, or install from a folder of wheels."
        )
    return None


def _last_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    said = (errors or lines or ["nothing"])[-1]
    return f"pip failed. The last it said: {said}"
