"""What a run has told so far, read as it grows: curves, stages, cases and warnings."""

from __future__ import annotations

import contextlib
import csv
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from SemiSupSegLib.runs.curve import Curve
from SemiSupSegLib.runs.events import EventKind, parse_event
from SemiSupSegLib.runs.lines import NewLines
from SemiSupSegLib.runs.metrics import MetricRow, parse_row
from SemiSupSegLib.runs.run_folder import RunFolder

BINS = 20
"""Equal bins of image confidence, 0 to 1."""
MOST_CASES = 200
"""Image confidence is told case by case for no more cases."""
_WARNINGS, _LONGEST = 10, 400
_SHOWN = {1: ("most",), 2: ("most", "least"), 3: ("most", "median", "least")}
_NETWORKS = ("student", "teacher")
_FIGURES = ("rate", "high_share")
"""Logged with the losses, and none."""


class RunHistory:
    """Events and figures of a run; a file that a resumed run has cut back is read anew.

    Args:
        run: Its folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._metrics = NewLines(run.metrics_file)
        self._events = NewLines(run.events_file)
        self._forget_metrics()
        self._forget_events()

    def _forget_metrics(self) -> None:
        self.losses: dict[str, Curve] = {}
        """By term."""
        self.figures: dict[str, Curve] = {}
        """What else is logged with each step: `rate`, `high_share`."""
        self.dice: dict[str, dict[str, Curve]] = {name: {} for name in _NETWORKS}
        """On the validation cases, by network and by class, region or `mean`."""

    def _forget_events(self) -> None:
        self.phases: list[dict[str, Any]] = []
        """The plan: `name`, `stage`, `iterations`."""
        self.starts: dict[str, int] = {}
        """Updates done when a phase began."""
        self.image_confidence: dict[str, float] = {}
        self.stages: dict[int, dict[str, Any]] = {}
        """What became of each stage's pseudo-labels."""
        self.warnings: deque[str] = deque(maxlen=_WARNINGS)
        self.checkpoint: int | None = None
        """Updates at the last checkpoint."""
        self.before_after: dict[str, Any] | None = None
        """How a run that learnt from corrections compares with the former one."""

    def read(self) -> bool:
        """Take in what is new; return whether there was anything.

        Raises:
            OSError: If a file cannot be read.
        """
        lines, is_other = self._metrics.read()
        has_news = is_other or bool(lines)
        if is_other:
            self._forget_metrics()
        for line in lines:
            row = parse_row(line.decode("utf-8", errors="replace"))
            # The heading is none, nor is what a power cut has left.
            if row is not None:
                self._take_row(row)
        lines, is_other = self._events.read()
        if is_other:
            self._forget_events()
        try:
            for event in map(parse_event, lines):
                if event is not None:
                    # An event of another version may lack something.
                    with contextlib.suppress(KeyError, TypeError, ValueError):
                        self._take_event(event)
        except OSError:
            # A file beside them could not be read: none of them is lost.
            self._events = NewLines(self._run.events_file)
            self._forget_events()
            raise
        return has_news or is_other or bool(lines)

    def _take_row(self, row: MetricRow) -> None:
        if row.kind == "step":
            kind = self.figures if row.name in _FIGURES else self.losses
            kind.setdefault(row.name, Curve()).add(row.iteration, row.value)
        elif row.network in self.dice and row.name.startswith("dice."):
            target = row.name.removeprefix("dice.")
            self.dice[row.network].setdefault(target, Curve()).add(row.iteration, row.value)

    def _take_event(self, event: Mapping[str, Any]) -> None:
        kind = event["kind"]
        if kind == EventKind.PLANNED:
            self.phases = [
                {name: one[name] for name in ("name", "stage", "iterations")}
                for one in event["phases"]
            ]
        elif kind == EventKind.PHASE_STARTED:
            self.starts[event["phase"]] = int(event["iteration"])
        elif kind == EventKind.CASE_SCORED:
            self.image_confidence[event["case"]] = float(event["image_confidence"])
        elif kind == EventKind.STAGE_RANKED:
            self.stages[int(event["stage"])] = self._stage(event)
        elif kind == EventKind.CHECKPOINT:
            self.checkpoint = int(event["iteration"])
        elif kind == EventKind.BEFORE_AFTER:
            self.before_after = {
                "targets": event.get("targets", {}),
                "sentence": event["sentence"],
            }
        elif kind == EventKind.WARNING:
            self.warnings.append(str(event["message"])[:_LONGEST])
        elif kind == EventKind.RATE_HALVED:
            self.warnings.append(
                f"Training diverged at update {event['iteration']} ({event['message']}) and went "
                f"on from update {event['back_to']} with half the learning rate."[:_LONGEST]
            )
        elif kind == EventKind.BATCH_REDUCED:
            self.warnings.append(
                f"The device ran out of memory: half the {event['what']} since update "
                f"{event['iteration']}."
            )

    def _stage(self, event: Mapping[str, Any]) -> dict[str, Any]:
        number = int(event["stage"])
        ranking = self._ranking(number)
        chosen = {case: value for case, (value, is_chosen) in ranking.items() if is_chosen}
        return {
            "stage": number,
            "cases": int(event["num_cases"]),
            "trusted": round(float(event["high_share"]), 4),
            "by_class": {
                name: round(one["high"] / (one["high"] + one["low"]), 4)
                for name, one in event["class_shares"].items()
                if one["high"] + one["low"] > 0
            },
            "histogram": {
                "all": histogram([value for value, _ in ranking.values()]),
                "stage": histogram(list(chosen.values())),
            },
            "shown": self._shown(number, chosen),
        }

    def _ranking(self, stage: int) -> dict[str, tuple[float, bool]]:
        """Return image confidence by case, and whether the stage has it."""
        try:
            with (self._run.stage(stage) / "ranking.csv").open(
                encoding="utf-8", newline=""
            ) as stream:
                return {
                    row["case"]: (float(row["image_confidence"]), row["selected"] == "1")
                    for row in csv.DictReader(stream)
                }
        except (FileNotFoundError, KeyError, ValueError):
            return {}

    def _shown(self, stage: int, chosen: Mapping[str, float]) -> list[dict[str, Any]]:
        """Return the cases whose pseudo-labels are kept to be looked at, most trusted first."""
        files = (self._run.stage(stage) / "shown").glob("*.npz")
        cases = [file.name.removesuffix(".npz") for file in files]
        known = sorted((one for one in cases if one in chosen), key=lambda one: -chosen[one])
        ranks = _SHOWN.get(len(known), ())
        return [
            {"case": case, "rank": rank, "image_confidence": round(chosen[case], 4)}
            for case, rank in zip(known, ranks, strict=False)
        ]


def histogram(values: Sequence[float]) -> list[int]:
    """Return how many of the values, 0 to 1, lie in each of the bins."""
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, max(0, int(value * BINS)))] += 1
    return counts
