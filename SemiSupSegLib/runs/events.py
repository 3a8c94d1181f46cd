"""events.jsonl: everything worth telling about a run or job, one JSON object a line."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.runs.lines import append_lines, cut_torn_end


class EventKind(str, Enum):
    """What an event tells; its further values are free."""

    STARTED = "started"
    PLANNED = "planned"
    PREPARED = "prepared"
    PHASE_STARTED = "phase_started"
    PHASE_FINISHED = "phase_finished"
    STEP = "step"
    VALIDATION = "validation"
    CASE_SCORED = "case_scored"
    STAGE_RANKED = "stage_ranked"
    BEFORE_AFTER = "before_after"
    STAGE_FINISHED = "stage_finished"
    QUALITY_ESTIMATED = "quality_estimated"
    QUALITY_JUDGED = "quality_judged"
    TEACHER_REFRESHED = "teacher_refreshed"
    CHECKPOINT = "checkpoint"
    PAUSED = "paused"
    STOPPED = "stopped"
    RESUMED = "resumed"
    BATCH_REDUCED = "batch_reduced"
    RATE_HALVED = "rate_halved"
    MAPS_READY = "maps_ready"
    RESULT_WRITTEN = "result_written"
    WARNING = "warning"
    ERROR = "error"
    FINISHED = "finished"


class EventLog:
    """Appends events to a file; the one writer of it (see `Lock`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_repaired = False

    def append(self, kind: EventKind, **values: Any) -> None:
        """Append `{t, kind, **values}` as one line and hand it to the operating system.

        A number that is not finite is written as text ("nan", "inf"), since JSON has none.
        All kinds but `STEP` are on the disk when this returns.
        """
        if "t" in values:
            raise ValueError("an event's time is set by the log; 't' cannot be given")
        event = {"t": round(time.time(), 3), "kind": EventKind(kind).value, **_plain(values)}
        line = json.dumps(event, ensure_ascii=True, allow_nan=False)
        if not self._is_repaired and self.path.exists():
            cut_torn_end(self.path, lambda former: parse_event(former) is not None)
        self._is_repaired = True
        append_lines(self.path, line.encode() + b"\n", sync=kind is not EventKind.STEP)


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return all events of a file, without the last line if it is not complete.

    Kinds are text: a file of a newer version may have some that `EventKind` lacks.

    Raises:
        SemiSupSegError: If a complete line is not an event.
    """
    return read_new_events(path, 0)[0]


def read_new_events(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return the events after byte `offset`, and where to read on next time.

    A file that does not exist yet has no events.

    Raises:
        SemiSupSegError: If a complete line is not an event.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read()
    except FileNotFoundError:
        return [], offset
    except OSError as error:
        raise SemiSupSegError(f"{path} cannot be read ({error}). Check the folder.") from error
    complete = data[: data.rfind(b"\n") + 1]
    events = []
    for number, line in enumerate(complete.split(b"\n")[:-1], start=1):
        event = parse_event(line)
        if event is None:
            raise SemiSupSegError(
                f"{path} is damaged or not a list of events (line {number} after byte {offset}). "
                "The run can go on without it: rename the file."
            )
        events.append(event)
    return events, offset + len(complete)


def parse_event(line: bytes) -> dict[str, Any] | None:
    """Return the event in a line, None if there is none."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("kind"), str):
        return None
    return event if isinstance(event.get("t"), int | float) else None


def _plain(value: Any) -> Any:
    """Return `value` as JSON has it; numbers of NumPy and the like through their `item`."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "item"):
        return _plain(value.item())
    raise TypeError(f"{value!r} cannot be part of an event")
