"""view.json: what a window shows of a run, in one small local file that a watcher keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json, replacing

MOST_BYTES = 60_000
"""Of view.json: reading it must not hold up a window."""
_POINTS = (400, 250, 160, 100, 60, 40, 25, 12, 6, 3)
"""Points of a curve, tried until the file is small enough."""
_NAMES = {
    "": "",
    "teacher": "Teacher",
    "distil": "Teacher's uncertainty",
    "supervised": "Supervised training",
    "finish": "Student on labelled cases",
    "student_distil": "Student's uncertainty",
    "corrections": "Learning from corrections",
    "end": "Judging the models",
}
"""Phases in words."""
ENDED = ("stopped", "failed", "finished", "dead", "missing")
"""Statuses in which nobody works on the run."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run as its watcher last saw it; absent values are those of a run that has not begun."""

    heard: float | None = None
    """When this was written, seconds since 1970."""
    status: str = "waiting"
    """`waiting` (nothing told yet), `running`, `paused`, `stopped`, `failed`, `finished`, `dead`
    (the process is gone without a word), `foreign-host-silent` (so is, perhaps, one elsewhere) or
    `missing` (the folder is not there, or holds no run).
    """
    is_locked_by: str | None = None
    """A living process that works on the run and that this watcher did not start, in words."""
    phase: str = ""
    phase_title: str = ""
    """In words: `Stage 3 of 6: pseudo-labelling, case 12 of 60`."""
    stage: int | None = None
    num_stages: int = 0
    iteration: int = 0
    """Optimizer updates done, over all phases."""
    iterations: int = 0
    planned: int = 0
    """Work of all phases: forward passes over one patch, a backward pass counted as two."""
    finished: int = 0
    """Work done."""
    seconds_left: float | None = None
    error: str | None = None
    """What happened and what to mend, if it did not end well."""
    what_to_do: str = ""
    """How the run goes on."""
    refused: str = ""
    """Why the last wish could not be met."""
    losses: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    """By term, pairs [updates, value]: at most 400, with the extremes."""
    figures: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    """Learning `rate` and `high_share` of trusted voxels, as the losses."""
    dice: Mapping[str, Mapping[str, Sequence[Sequence[float]]]] = field(default_factory=dict)
    """On the validation cases, by network (`student`, `teacher`) and class, region or `mean`."""
    stage_marks: Sequence[Mapping[str, Any]] = ()
    """Where phases began: `stage` (None of a phase that is none), `name`, `title`, `iteration`."""
    stages: Sequence[Mapping[str, Any]] = ()
    """`stage`, `cases`, `shares` (of voxels: `accepted`, `ignored`, `unlearned`; together 1),
    `by_class` (the same by class), `histogram` (`all`, `stage`: cases in 20 bins of image
    confidence 0-1), `shown` (`case`, `rank` most, median or least confident,
    `image_confidence`), `note` (what a share of 0 means and why it can be; else empty)."""
    image_confidence: Mapping[str, float] = field(default_factory=dict)
    """By case, if there are at most 200."""
    image_confidence_histogram: Sequence[int] = ()
    """Scored cases in 20 bins, 0-1."""
    excluded: Sequence[str] = ()
    """Cases left out from the next stage on; the first 200."""
    warnings: Sequence[str] = ()
    """The last ten."""
    device: Mapping[str, Any] | None = None
    """`name`, `is_gpu`, `memory_bytes`, `memory_total_bytes`, `utilisation` (0-1 or None)."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """`method`, `preset`, `iterations`, `seed`, `device`, `cases` (their folder), and the numbers
    `labelled`, `unlabelled`, `validation`."""
    command: Sequence[str] = ()
    """Words that start or resume the run from anywhere."""
    report: bool = False
    """Whether report.html is there."""
    models: Mapping[str, Any] = field(default_factory=dict)
    """Of a finished run, by network: `folder` (None: not exported) and `dice` (`mean`, `sd`, `n`
    by class, region)."""
    before_after: Mapping[str, Any] | None = None
    """Of a run that learnt from corrections: `targets` and `sentence`."""

    @classmethod
    def read(cls, path: Path) -> RunView:
        """Return the view in a file.

        Raises:
            SemiSupSegError: If it is missing or damaged.
        """
        content = read_json(path)
        if not isinstance(content, dict):
            raise SemiSupSegError(f"{path} is no view of a run. Follow the run anew.")
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in content.items() if name in known})


def write_view(path: Path, content: Mapping[str, Any]) -> None:
    """Replace the file at `path`."""
    with replacing(path, "w") as stream:
        stream.write(_text({"format": "semisupseg-run-view", "version": 1, **content}))


def fitted(
    content: Mapping[str, Any], curves: Callable[[int], Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a view of at most 60,000 bytes, its curves in as many points as that allows.

    Args:
        content: All but the curves.
        curves: Returns `losses`, `figures` and `dice` with at most the given points a curve.
    """
    whole: dict[str, Any] = dict(content)
    for most in _POINTS:
        whole = {**content, **curves(most)}
        if _size(whole) <= MOST_BYTES:
            return whole
    # Many classes in many stages: the overall shares must do.
    whole["stages"] = [{**one, "by_class": {}} for one in whole["stages"]]
    whole["dice"] = {
        network: {name: one for name, one in by_target.items() if name == "mean"}
        for network, by_target in whole["dice"].items()
    }
    return whole


def title_of(phase: str, stage: int | None, num_stages: int) -> str:
    """Return a phase of state.json in words.

    Args:
        phase: `stage_3: pseudo-labelling, case 12 of 60`.
        stage: 3.
        num_stages: 6.
    """
    name, _, doing = phase.partition(": ")
    if stage is not None:
        title = f"Stage {stage} of {num_stages}" if num_stages else f"Stage {stage}"
    elif name in _NAMES:
        title = _NAMES[name]
    elif phase and not doing and " " in name:
        # Work before the first phase.
        return name[:1].upper() + name[1:]
    else:
        title = name.replace("_", " ").capitalize()
    return f"{title}: {doing}" if doing else title


def _size(content: Mapping[str, Any]) -> int:
    return len(_text(content).encode()) + 100


def _text(content: Mapping[str, Any]) -> str:
    # Without spaces: most of it is numbers.
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
