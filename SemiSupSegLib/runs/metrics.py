"""metrics.csv: one row for each logged figure, appended."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import replacing
from SemiSupSegLib.runs.lines import append_lines, cut_torn_end

MetricKind = Literal["step", "validation"]

COLUMNS = ("iteration", "phase", "kind", "network", "name", "value", "seconds")


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One figure at one time."""

    iteration: int
    """Optimizer updates done, over all phases."""
    phase: str
    kind: MetricKind
    network: str
    """Empty for figures of a step."""
    name: str
    value: float
    seconds: float
    """Of computing since the run's start."""


class MetricsLog:
    """Appends figures to a file; the one writer of it (see `Lock`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_repaired = False

    def append(
        self,
        values: Mapping[str, float],
        *,
        iteration: int,
        phase: str,
        kind: MetricKind,
        seconds: float,
        network: str = "",
    ) -> None:
        """Append one row for each of `values` (by name)."""
        rows = [
            MetricRow(
                iteration=iteration,
                phase=phase,
                kind=kind,
                network=network,
                name=name,
                value=float(value),
                seconds=float(seconds),
            )
            for name, value in values.items()
        ]
        text = "".join(_line(row) for row in rows)
        if not self._is_repaired and self.path.exists():
            cut_torn_end(self.path, _is_whole)
        self._is_repaired = True
        append_lines(self.path, text.encode(), header=f"{','.join(COLUMNS)}\n".encode())

    def sync(self) -> None:
        """Return when all rows are on the disk; call it before a checkpoint counts as written."""
        if self.path.exists():
            with self.path.open("rb+") as stream:
                os.fsync(stream.fileno())

    def truncate_after(self, iteration: int) -> None:
        """Drop rows later than `iteration`, and a torn last line: the run goes on from there."""
        if not self.path.exists():
            return
        cut_torn_end(self.path, _is_whole)
        rows = read_metrics(self.path)
        with replacing(self.path, "w") as stream:
            stream.write(",".join(COLUMNS) + "\n")
            stream.writelines(_line(row) for row in rows if row.iteration <= iteration)


def read_metrics(path: Path) -> list[MetricRow]:
    """Return all rows of a file, without the last line if it is not complete.

    Raises:
        SemiSupSegError: If the file is missing, or a complete line is not a row.
    """
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise SemiSupSegError(f"{path} cannot be read ({error}). Check the folder.") from error
    complete = text[: text.rfind("\n") + 1].replace("\r\n", "\n").split("\n")[:-1]
    if not complete:
        return []
    if complete[0] != ",".join(COLUMNS):
        raise SemiSupSegError(
            f"{path} is not a table of metrics (its first line should be "
            f"'{','.join(COLUMNS)}'). Choose another file."
        )
    rows = []
    for number, line in enumerate(complete[1:], start=2):
        row = parse_row(line)
        if row is None:
            raise SemiSupSegError(
                f"{path} is damaged at line {number}. Remove that line, or restore the file."
            )
        rows.append(row)
    return rows


def _is_whole(line: bytes) -> bool:
    return b"\0" not in line and line.count(b",") == len(COLUMNS) - 1


def _line(row: MetricRow) -> str:
    words = (row.phase, row.kind, row.network, row.name)
    if any(character in word for word in words for character in ',"\r\n'):
        raise ValueError(f"{words} may not hold commas, quotes or line ends")
    # repr: the shortest text that gives the same number back.
    return f"{row.iteration},{','.join(words)},{row.value!r},{row.seconds!r}\n"


def parse_row(line: str) -> MetricRow | None:
    """Return the row in a line, None if there is none."""
    try:
        iteration, phase, kind, network, name, value, seconds = line.split(",")
        if kind not in get_args(MetricKind) or not math.isfinite(float(seconds)):
            return None
        return MetricRow(
            iteration=int(iteration),
            phase=phase,
            kind="step" if kind == "step" else "validation",
            network=network,
            name=name,
            value=float(value),
            seconds=float(seconds),
        )
    except ValueError:
        return None
