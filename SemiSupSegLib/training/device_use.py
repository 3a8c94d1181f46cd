"""How much of its device a run uses, for whoever watches it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import Any

import psutil
import torch

from SemiSupSegLib.counting import counted

_EVERY_SECONDS = 5.0
_NO_WINDOW = 0x08000000
"""Flag of Windows for a process without a console window."""


class DeviceUse:
    """Looks at memory and utilisation of a device, every five seconds at most.

    Args:
        device: Of the run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._looked = -_EVERY_SECONDS
        self._known: dict[str, Any] | None = None
        self._question: subprocess.Popen[bytes] | None = None
        self._gpu_use: float | None = None
        # The first call begins the time over which the next one is a mean.
        self._process.cpu_percent()

    def look(self) -> dict[str, Any]:
        """Return the block `device` of state.json.

        `memory_bytes` is, on a GPU, what all processes use of it; on a CPU, what this process has.
        `utilisation`, 0-1: of a GPU as its driver tells it, of all cores of a CPU by this process;
        None if it is not known.
        """
        if self._known is None or time.monotonic() - self._looked >= _EVERY_SECONDS:
            self._looked = time.monotonic()
            self._known = self._gpu() if self._device.type == "cuda" else self._cpu()
        return self._known

    def _cpu(self) -> dict[str, Any]:
        cores = os.cpu_count() or 1
        share = self._process.cpu_percent() / 100 / cores
        return {
            "name": f"CPU, {counted(cores, 'cores')}",
            "is_gpu": False,
            "memory_bytes": self._process.memory_info().rss,
            "memory_total_bytes": psutil.virtual_memory().total,
            "utilisation": round(min(1.0, share), 3),
        }

    def _gpu(self) -> dict[str, Any]:
        free, total = torch.cuda.mem_get_info(self._device)
        self._ask_driver()
        return {
            "name": torch.cuda.get_device_name(self._device),
            "is_gpu": True,
            "memory_bytes": total - free,
            "memory_total_bytes": total,
            "utilisation": self._gpu_use,
        }

    def _ask_driver(self) -> None:
        """Take the answer of the last question, if it is there, and ask anew; never wait."""
        question = self._question
        if question is not None:
            if question.poll() is None:
                return
            assert question.stdout is not None
            with question.stdout as stream:
                answer = stream.read().decode("utf-8", "replace")
            uuid = str(getattr(torch.cuda.get_device_properties(self._device), "uuid", ""))
            self._gpu_use = utilisation_of(answer, uuid)
        program = shutil.which("nvidia-smi")
        if program is None:
            return
        try:
            self._question = subprocess.Popen(
                [program, "--query-gpu=uuid,utilization.gpu", "--format=csv,noheader,nounits"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                creationflags=_NO_WINDOW if os.name == "nt" else 0,
            )
        except OSError:
            self._question = None


def utilisation_of(answer: str, uuid: str) -> float | None:
    """Return a GPU's utilisation, 0-1, from what nvidia-smi printed, or None.

    Args:
        answer: A line `uuid, percent` for each GPU.
        uuid: Of the wanted one; if it is not known, a single GPU's figure is taken.
    """
    found = {}
    for line in answer.splitlines():
        name, _, percent = (part.strip() for part in line.partition(","))
        if percent.isdigit():
            found[name] = int(percent) / 100
    matching = [share for name, share in found.items() if uuid and name.endswith(uuid)]
    if matching:
        return matching[0]
    return next(iter(found.values())) if len(found) == 1 and not uuid else None
