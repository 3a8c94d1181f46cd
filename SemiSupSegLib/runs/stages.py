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

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"stage": self.stage, "cases": [vars(one) for one in self.cases]}


def shown_stages(run: RunFolder) -> list[ShownStage]:
    """Return the stages of a run whose pseudo-labels exist, the first one first.

    Raises:
        SemiSupSegError: If a stage's ranking is damaged.
    """
    if not run.stages.is_dir():
        return []
    folders = sorted(one for one in run.stages.iterdir() if one.name.isdigit())
    stages = [ShownStage(stage=int(one.name), cases=tuple(_cases(one))) for one in folders]
    return [one for one in stages if one.cases]


def excluded_too_late(run: RunFolder) -> list[str]:
    """Return the cases that somebody left out after the last stage that there was had begun.

    Raises:
        SemiSupSegError: If a wish or a stage's list of cases is damaged.
    """
    stages = sorted(run.stages.glob("*/cases.json")) if run.stages.is_dir() else []
    if not stages:
        return []
    return sorted(Control(run.control).excluded().intersection(read_json(stages[-1])["cases"]))


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
            f"{file} cannot be read ({error}). `stage --run {run.path}` lists the cases that are "
            "kept."
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


def _ranks(count: int) -> tuple[Rank, ...]:
    names: tuple[Rank, ...] = ("most", "median", "least")
    return {0: (), 1: names[:1], 2: ("most", "least"), 3: names}[count]


def _accepted(row: Mapping[str, str]) -> float | None:
    if not row["kept_share"]:
        return None
    return round(float(row["kept_share"]) + float(row["averaged_share"]), 5)


def _file(stage: Path, case: str) -> Path:
    return stage / "shown" / f"{case}.npz"
