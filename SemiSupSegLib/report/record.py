"""What a run folder tells, read for the report; what is not there yet is empty."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SemiSupSegLib.cases.task import Task, task_from_json
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.runs.events import read_events
from SemiSupSegLib.runs.metrics import MetricRow, read_metrics
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState, RunStatus

_PART = r"[^\s/\\:;,'\"()<>]"
_PATH = re.compile(
    # Folders may have spaces in their names; of the last part only what comes before one is known
    # to belong to it.
    rf"(?<![\w/\\.])(?:[A-Za-z]:)?[/\\]{{1,2}}(?:{_PART}(?:[ ]*{_PART})*[/\\])+({_PART}+)"
)


@dataclass(frozen=True, kw_only=True)
class RankedCase:
    """An unlabelled case in the order of a stage."""

    image_confidence: float
    selected: bool
    shares: tuple[float, float, float] | None
    """Voxels kept, averaged with the student, of low confidence; None if not selected."""
    foreground_share: float | None
    """Of the pseudo-label's voxels; None if not selected."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the curriculum."""

    number: int
    summary: Mapping[str, Any]
    ranking: tuple[RankedCase, ...]

    @property
    def chosen(self) -> list[float]:
        """Image confidence of the stage's cases."""
        return [case.image_confidence for case in self.ranking if case.selected]

    @property
    def mean_shares(self) -> tuple[float, float, float] | None:
        """Voxels kept, averaged, of low confidence: mean over the stage's cases."""
        known = [case.shares for case in self.ranking if case.shares is not None]
        if not known:
            return None
        kept, averaged, low = (sum(column) / len(known) for column in zip(*known, strict=True))
        return kept, averaged, low


@dataclass(frozen=True, kw_only=True)
class PhaseSpan:
    """Where a phase lies in the run."""

    name: str
    start: int
    """Updates done when it began."""
    end: int
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything the report is made of."""

    run: RunFolder
    config: Mapping[str, Any]
    task: Task
    status: RunStatus
    error: str | None
    metrics: Sequence[MetricRow]
    events: Sequence[Mapping[str, Any]]
    stages: Sequence[Stage]
    validation: Mapping[str, Any] | None
    """Content of validation/cases.json, None before the run's end."""
    quality: Mapping[str, Any] | None = None
    """Content of validation/quality.json, None without a quality network."""

    @property
    def networks(self) -> tuple[str, ...]:
        """Networks judged on the validation cases."""
        for by_network in (self.validation or {}).get("cases", {}).values():
            return tuple(by_network)
        return ()

    @property
    def goes_on(self) -> bool:
        """Whether the run went on from another one's student, to learn from corrections."""
        return bool(self.config.get("former"))

    @property
    def has_teacher(self) -> bool:
        """Whether the method trains a teacher."""
        if self.goes_on:
            return False
        return any(row.network == "teacher" for row in self.metrics) or "teacher" in self.networks

    @property
    def learns_beside(self) -> bool:
        """Whether the teacher is a second network that learns beside the student, from the same."""
        phases = {
            name: {row.phase for row in self.metrics if row.network == name}
            for name in ("student", "teacher")
        }
        # In a phase of its own a teacher learns from labelled cases alone.
        is_alone = "teacher" in phases["teacher"]
        return not self.goes_on and not is_alone and bool(phases["student"] & phases["teacher"])

    def absence(self, what: str) -> str:
        """Say that something judged at the run's end is not there, and why."""
        if not self.config["split"]["validation"]:
            return f"{what}: this run has no validation cases."
        if self.status is RunStatus.FINISHED:
            return f"{what}: not written by this run."
        return f"{what}: judged when the run is finished."

    def phases(self) -> list[PhaseSpan]:
        """Return the phases in their order, those with at least one update."""
        starts: dict[str, int] = {}
        ends: dict[str, int] = {}
        seconds: dict[str, float] = {}
        for event in self.events:
            name = event.get("phase")
            if event["kind"] == "phase_started" and isinstance(name, str):
                starts.setdefault(name, int(event["iteration"]))
            elif event["kind"] == "phase_finished" and isinstance(name, str):
                ends[name] = int(event["iteration"])
                seconds[name] = float(event.get("seconds", 0))
        for row in self.metrics:
            starts.setdefault(row.phase, max(0, row.iteration - 1))
            if row.phase not in ends or ends[row.phase] < row.iteration:
                ends[row.phase] = row.iteration
        spans = [
            PhaseSpan(name=name, start=start, end=ends.get(name, start), seconds=seconds.get(name))
            for name, start in starts.items()
        ]
        return sorted(spans, key=lambda span: span.start)

    def series(
        self, name: str, *, network: str = "", phases: Sequence[str] | None = None
    ) -> list[tuple[int, float]]:
        """Return (updates, value) of a figure in order; a later row replaces an equal one."""
        kind = "validation" if network else "step"
        found = {
            row.iteration: row.value
            for row in self.metrics
            if row.kind == kind
            and row.network == network
            and row.name == name
            and (phases is None or row.phase in phases)
        }
        return sorted(found.items())

    def figures(self, network: str, target: str, metric: str) -> dict[str, float]:
        """Return a metric by validation case; cases without a value are left out."""
        found = {}
        for case, by_network in (self.validation or {}).get("cases", {}).items():
            value = by_network.get(network, {}).get(target, {}).get(metric)
            if isinstance(value, int | float):
                found[case] = float(value)
        return found

    def mean_dice(self, network: str) -> dict[str, float]:
        """Return the mean Dice over the headline targets by validation case."""
        by_target = [self.figures(network, name, "dice") for name in self.task.headline_targets]
        cases = [case for case in by_target[0] if all(case in one for one in by_target)]
        return {case: sum(one[case] for one in by_target) / len(by_target) for case in cases}


def read_record(folder: Path) -> RunRecord:
    """Return what the run in `folder` tells so far.

    Raises:
        SemiSupSegError: If the folder is no run, or a file in it is damaged.
    """
    run = RunFolder(folder)
    config = run.read_config()
    state = RunState.read(run.state_json) if run.state_json.is_file() else RunState()
    found: dict[str, Any] = {}
    for name, kind in (("cases.json", "validation"), ("quality.json", "quality")):
        file = run.validation / name
        if file.is_file():
            found[kind] = read_json(file)
            check_format(found[kind], kind, file)
    return RunRecord(
        run=run,
        config=config,
        task=task_from_json(config["task"], run.run_json),
        status=state.status,
        error=state.error,
        metrics=read_metrics(run.metrics_file) if run.metrics_file.is_file() else [],
        events=read_events(run.events_file),
        stages=_read_stages(run),
        validation=found.get("validation"),
        quality=found.get("quality"),
    )


def without_folders(text: str) -> str:
    """Return `text` with every absolute path cut down to its last part."""
    return _PATH.sub(r"\1", text)


def _read_stages(run: RunFolder) -> list[Stage]:
    stages: list[Stage] = []
    if not run.stages.is_dir():
        return stages
    for folder in sorted(run.stages.iterdir()):
        summary, ranking = folder / "summary.json", folder / "ranking.csv"
        if folder.name.isdigit() and summary.is_file():
            stages.append(
                Stage(
                    number=int(folder.name),
                    summary=read_json(summary),
                    ranking=_read_ranking(ranking) if ranking.is_file() else (),
                )
            )
    return stages


def _read_ranking(path: Path) -> tuple[RankedCase, ...]:
    with path.open(encoding="utf-8", newline="") as stream:
        try:
            return tuple(_ranked(row) for row in csv.DictReader(stream))
        except (KeyError, TypeError, ValueError) as error:
            raise SemiSupSegError(
                f"{path} is damaged ({error}). Delete the file; the report does without it."
            ) from error


def _ranked(row: Mapping[str, str]) -> RankedCase:
    texts = [row[name] for name in ("kept_share", "averaged_share", "low_share")]
    kept, averaged, low = (float(text) if text else 0.0 for text in texts)
    return RankedCase(
        image_confidence=float(row["image_confidence"]),
        selected=row["selected"] == "1",
        shares=(kept, averaged, low) if all(texts) else None,
        foreground_share=float(row["foreground_share"]) if row["foreground_share"] else None,
    )
