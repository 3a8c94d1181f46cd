"""state.json: where a run or job stands now, replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.resources import check_format


class RunStatus(str, Enum):
    """What a run or job is doing."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Where a run or job stands; change it with `dataclasses.replace`."""

    status: RunStatus = RunStatus.WAITING
    phase: str = ""
    """Name of the phase, as in the method's plan; during work on cases also what is done to which,
    for instance `stage_1: pseudo-labelling, case 12 of 60`."""
    iteration: int = 0
    """Optimizer updates done, over all phases."""
    planned: int = 0
    """Work of all phases: forward passes over one patch, a backward pass counted as two."""
    finished: int = 0
    """Work done."""
    seconds_left: float | None = None
    """Expected from the time that the session's work since its first update took; None before."""
    pid: int | None = None
    host: str = ""
    heartbeat: float | None = None
    """When the process last said that it lives, seconds since 1970."""
    error: str | None = None
    """The message a person should read, if it failed."""
    device: Mapping[str, Any] | None = None
    """What a run uses of its device: `name`, `is_gpu`, `memory_bytes`, `memory_total_bytes`,
    `utilisation` (0-1, None if not known); None of jobs."""

    def write(self, path: Path) -> None:
        """Replace the file at `path` by this state."""
        write_json(path, {"format": "semisupseg-state", "version": 1, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> RunState:
        """Return the state in the file at `path`.

        Raises:
            SemiSupSegError: If it is missing, damaged, something else, or newer.
        """
        content = read_json(path)
        check_format(content, "state", path)
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in content.items() if key in known}
        return cls(**{**values, "status": RunStatus(values["status"])})
