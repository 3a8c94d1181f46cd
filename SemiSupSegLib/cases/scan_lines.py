"""What a scan has found so far, a line of JSON a fact, for a table that fills while it goes on.

First a line of the scan, then one of each case by its files' names alone, then one of each case
again in the order in which they were checked, at last the scan's end. A case may come once more
with what only all cases together tell (its review, a copy of it); its last line counts. A reader
leaves a last line without an end for later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from SemiSupSegLib.cases.case import Case, CaseState
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.cases.group import Group
from SemiSupSegLib.cases.task import Task


class ScanLines:
    """Writes the lines of one scan.

    Args:
        path: The file, begun anew.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")

    def __enter__(self) -> ScanLines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def begin(self, task: Task, layout: str, groups: Sequence[Group]) -> None:
        """Tell which cases there are, before any was opened."""
        self._write(kind="scan", task=task.to_json(), layout=layout, total=len(groups))
        for group in groups:
            self._write(**_by_names(group, task), flush=False)
        self._stream.flush()

    def checked(self, case: Case, geometry: Geometry | None) -> None:
        """Tell what a check has found of a case; its grid is None if no image can be opened."""
        self._write(
            **_row(case.id, case.patient, case.state, list(case.channels)),
            size=None if geometry is None else list(geometry.size),
            spacing=None if geometry is None else [round(side, 6) for side in geometry.spacing],
            is_checked=True,
            reasons=[{**asdict(one), "severity": one.severity.value} for one in case.reasons],
        )

    def end(self, seconds: float, counts: Mapping[str, int]) -> None:
        """Tell that this was all."""
        self._write(kind="end", seconds=round(seconds, 3), counts=dict(counts))

    def _write(self, *, flush: bool = True, **content: Any) -> None:
        self._stream.write(json.dumps(content, ensure_ascii=False) + "\n")
        if flush:
            self._stream.flush()


def _by_names(group: Group, task: Task) -> dict[str, Any]:
    named = {piece.channel for piece in group.images}
    return {
        **_row(
            group.id,
            group.patient,
            CaseState.LABELLED if group.labels else CaseState.UNLABELLED,
            [channel.name for channel in task.channels if channel.name in named],
        ),
        "size": None,
        "spacing": None,
        "is_checked": False,
        "reasons": [],
    }


def _row(case_id: str, patient: str, state: CaseState, channels: Sequence[str]) -> dict[str, Any]:
    return {
        "kind": "case",
        "id": case_id,
        "patient": patient,
        "state": state.value,
        "channels": list(channels),
    }
