"""What a run's stages learn from: the pseudo-labelled cases kept for a person to look at."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.run_folder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Rank = Literal["most", "median", "least"]
_SHOWN_AS_NONE = 0.005
"""Smaller shares are 0 % where whole percent are shown."""


@dataclass(frozen=True, kw_only=True)
class ShownCase:
    """A pseudo-labelled case of a stage that can be looked at."""

    case: str
    rank: Rank
    """How confident, among the stage's cases."""
    image_confidence: float
    accepted_share: float | None
    """Of the voxels with a pseudo-label, those that the stage trusts; None: not known."""


@dataclass(frozen=True, kw_only=True)
class ShownStage:
    """A stage whose pseudo-labels exist."""

    stage: int
    """1, 2, ..."""
    cases: tuple[ShownCase, ...]
    """The most confident one, the median, the least confident; fewer of a stage with fewer."""
    trusted: float | None
    """Share of the voxels of all its cases, 0-1; None: not known yet."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "stage": self.stage,
            "trusted": self.trusted,
            "cases": [vars(one) for one in self.cases],
        }


def shown_stages(run: RunFolder) -> list[ShownStage]:
    """Return the stages of a run whose pseudo-labels exist, the first one first.

    Raises:
        SemiSupSegError: If a stage's ranking is damaged.
    """
    if not run.stages.is_dir():
        return []
    folders = sorted(one for one in run.stages.iterdir() if one.name.isdigit())
    stages = [
        ShownStage(stage=int(one.name), cases=tuple(_cases(one)), trusted=_trusted(one))
        for one in folders
    ]
    return [one for one in stages if one.cases]


def why_none_trusted(stage: int, share: float, options: Mapping[str, Any]) -> str:
    """Return what it means that a stage trusts none of its voxels, and why that can be.

    Args:
        stage: 1, 2, ...
        share: Of its voxels that are trusted, 0-1.
        options: The method's, as run.json has them.

    Returns:
        Sentences; empty if it trusts more than would be shown as 0 %.
    """
    if share >= _SHOWN_AS_NONE:
        return ""
    least = options.get("pseudo_labels", {}).get("threshold")
    limit = "what is asked for" if least is None else f"the least trust of {least:g}"
    key = "" if least is None else " (pseudo_labels.threshold)"
    return (
        f"Stage {stage} trusts 0 % of its voxels: almost nowhere does the teacher's probability, "
        f"lowered where it is unsure, reach {limit}. So the student follows the labelled cases "
        "alone in this stage. That is usual after few updates, when the teacher or its measure of "
        f"doubt has hardly learnt; more updates help, or a lower least trust{key}."
    )


def exclusions(run: RunFolder) -> dict[str, int | None]:
    """Return the cases that somebody left out, with the first stage without them.

    None: no stage followed any more, and the case was learnt from. A case that no stage would have
    had is not told. In the order of stages, then of names.

    Raises:
        SemiSupSegError: If a wish or a stage's list of cases is damaged.
    """
    found: dict[str, int | None] = {}
    stages = sorted(run.stages.glob("[0-9]*/cases.json")) if run.stages.is_dir() else []
    learnt_from: list[str] = []
    for file in stages:
        content = read_json(file)
        learnt_from = content["cases"]
        for case in sorted(content["excluded"]):
            found.setdefault(case, int(file.parent.name))
    late = Control(run.control).excluded().intersection(learnt_from)
    return {**found, **dict.fromkeys(sorted(late))}


def exclusions_in_words(excluded: Mapping[str, int | None]) -> str:
    """Return the answer of `exclusions` in sentences; empty if nothing was left out."""
    by_stage: dict[int | None, list[str]] = {}
    for case, stage in excluded.items():
        by_stage.setdefault(stage, []).append(case)
    return " ".join(
        f"Left out by hand from stage {stage} on: {', '.join(cases)}."
        if stage is not None
        else (
            "Left out by hand when no stage followed any more, so learnt from: "
            f"{', '.join(cases)}. To train without, start a new run without them."
        )
        for stage, cases in by_stage.items()
    )


def pseudo_label_of(
    run: RunFolder, stage: int, case: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return pseudo-label and weight of a shown case, as the stage learns from them.

    Returns:
        Class indices (255: none, the label is known there) and weights (255: full), (D, H, W) of
        the prepared grid.

    Raises:
        SemiSupSegError: If the file is missing or damaged.
    """
    import numpy as np

    file = _file(run.stage(stage), case)
    try:
        with np.load(file, allow_pickle=False) as content:
            return content["pseudo_label"], content["weight"]
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise SemiSupSegError(
            f"{file} cannot be read ({error}). `stage {run.path}` lists the cases that are kept."
        ) from error


def _cases(folder: Path) -> Iterator[ShownCase]:
    # Written after the cases that are shown: who finds it finds them.
    ranking = folder / "ranking.csv"
    if not ranking.is_file():
        return
    try:
        with ranking.open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if _file(folder, row["case"]).is_file()]
        rows.sort(key=lambda row: (-float(row["image_confidence"]), row["case"]))
        for row, rank in zip(rows, _ranks(len(rows)), strict=True):
            yield ShownCase(
                case=row["case"],
                rank=rank,
                image_confidence=float(row["image_confidence"]),
                accepted_share=_accepted(row),
            )
    except (KeyError, TypeError, ValueError) as error:
        raise SemiSupSegError(
            f"{ranking} is damaged ({error!r}), so the cases of this stage cannot be listed. "
            "Delete the file: the run goes on without it."
        ) from error


def _trusted(folder: Path) -> float | None:
    # Written last: a stage that can be looked at may not have it yet.
    summary = folder / "summary.json"
    return float(read_json(summary)["high_share"]) if summary.is_file() else None


def _ranks(count: int) -> tuple[Rank, ...]:
    names: tuple[Rank, ...] = ("most", "median", "least")
    return {0: (), 1: names[:1], 2: ("most", "least"), 3: names}[count]


def _accepted(row: Mapping[str, str]) -> float | None:
    if not row["kept_share"]:
        return None
    return round(float(row["kept_share"]) + float(row["averaged_share"]), 5)


def _file(stage: Path, case: str) -> Path:
    return stage / "shown" / f"{case}.npz"
