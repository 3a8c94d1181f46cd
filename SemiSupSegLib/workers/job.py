"""A job is a folder: the request in it, and what its worker writes there.

request.json     what is wanted of the predict worker
state.json       how far the work is (runs/state.py)
events.jsonl     what happened (runs/events.py)
control/stop     the wish to end
maps/*.npy       the maps, uncompressed, to be shown at once
result.json      which maps there are, on which grid, and the case's figures
worker.log       what the worker printed
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.events import EventKind, EventLog
from SemiSupSegLib.runs.state import RunState, RunStatus

_WRITE_SECONDS = 0.1


@dataclass(frozen=True)
class JobFolder:
    """The files of a job."""

    path: Path

    @property
    def request_json(self) -> Path:
        """What is wanted."""
        return self.path / "request.json"

    @property
    def state_json(self) -> Path:
        """How far the work is."""
        return self.path / "state.json"

    @property
    def events_file(self) -> Path:
        """What happened."""
        return self.path / "events.jsonl"

    @property
    def result_json(self) -> Path:
        """What came of it."""
        return self.path / "result.json"

    @property
    def maps(self) -> Path:
        """Uncompressed maps."""
        return self.path / "maps"

    @property
    def log_file(self) -> Path:
        """What the worker printed."""
        return self.path / "worker.log"

    @property
    def control(self) -> Control:
        """The wishes."""
        return Control(self.path / "control")


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """What the predict worker is asked for."""

    case: str
    """Names the result's folder and files."""
    model: str
    """A package, a run folder or a registered name."""
    channels: Mapping[str, ImageSource]
    """By channel name."""
    results: Path
    """Where `<case>/` with the compressed result goes."""
    device: str = "auto"
    overlap: float = 0.5
    passes: int | None = None
    maps: Literal["standard", "all"] = "all"
    probabilities: bool = False
    mask: Path | None = None
    """An image that is not 0 where intensities count."""

    def write(self, job: JobFolder) -> None:
        """Write `request.json`; the job's folder is made."""
        job.path.mkdir(parents=True, exist_ok=True)
        write_json(
            job.request_json,
            {
                "format": "semisupseg-predict-request",
                "version": 1,
                "case": self.case,
                "model": self.model,
                "channels": {
                    name: {
                        "path": str(source.path),
                        "component": source.component,
                        "series": source.series,
                    }
                    for name, source in self.channels.items()
                },
                "results": str(self.results),
                "device": self.device,
                "overlap": self.overlap,
                "passes": self.passes,
                "maps": self.maps,
                "probabilities": self.probabilities,
                "mask": None if self.mask is None else str(self.mask),
            },
        )

    @classmethod
    def read(cls, job: JobFolder) -> PredictRequest:
        """Return the request of a job.

        Raises:
            SemiSupSegError: If it is missing, damaged, something else, or newer.
        """
        content = read_json(job.request_json)
        check_format(content, "predict-request", job.request_json)
        channels = {
            name: ImageSource(
                path=Path(one["path"]), component=one["component"], series=one["series"]
            )
            for name, one in content["channels"].items()
        }
        mask = content["mask"]
        return cls(
            case=content["case"],
            model=content["model"],
            channels=channels,
            results=Path(content["results"]),
            device=content["device"],
            overlap=content["overlap"],
            passes=content["passes"],
            maps=content["maps"],
            probabilities=content["probabilities"],
            mask=None if mask is None else Path(mask),
        )


@dataclass
class JobRecord:
    """Keeps `state.json` and `events.jsonl` of a job; the worker's side.

    Args:
        job: Its folder.
    """

    job: JobFolder
    _began: float = field(default_factory=time.monotonic)
    _written: float = 0.0
    _phase: str = ""
    _finished: int = 0
    _planned: int = 0

    def enter(self, phase: str) -> None:
        """Say in words what is done now."""
        self._phase, self._finished, self._planned = phase, 0, 0
        self._began = time.monotonic()
        self.write(RunStatus.RUNNING)

    def advance(self, finished: int, planned: int) -> None:
        """Say how far the phase is."""
        self._finished, self._planned = finished, planned
        if time.monotonic() - self._written > _WRITE_SECONDS:
            self.write(RunStatus.RUNNING)

    def tell(self, kind: EventKind, **values: Any) -> None:
        """Append an event."""
        EventLog(self.job.events_file).append(kind, **values)

    def write(self, status: RunStatus, error: str | None = None) -> None:
        """Replace `state.json`."""
        self._written = time.monotonic()
        left = None
        if self._finished:
            spent = self._written - self._began
            left = round(spent / self._finished * (self._planned - self._finished), 1)
        RunState(
            status=status,
            phase=self._phase,
            planned=self._planned,
            finished=self._finished,
            seconds_left=left,
            pid=os.getpid(),
            host=platform.node(),
            heartbeat=time.time(),
            error=error,
        ).write(self.job.state_json)
