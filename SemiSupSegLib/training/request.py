"""What a training run is asked for, as it is compared when the same command is given again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from SemiSupSegLib.cases.split import read_lists


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What `train` or `learn` was asked to do."""

    cases: Path
    out: Path
    reviews: Path | None = None
    """Folder of results; its reviewed labels count as labels."""
    former: Path | None = None
    """The finished run that `learn` goes on from."""
    task: str | None = None
    method: str | None = None
    preset: str = "standard"
    split: Path | None = None
    patient: str | None = None
    """A regular expression that finds the patient in a case id."""
    iterations: int | None = None
    seed: int = 0
    device: str = "auto"
    store: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = ()
    """The words of the command, for the record."""

    def to_json(self) -> dict[str, Any]:
        """Return what must be the same when the run is started again.

        Raises:
            UsageError: If the split file is no split.
        """
        split = None
        if self.split is not None:
            split = {name: sorted(ids) for name, ids in read_lists(self.split).items()}
        return {
            "cases": _place(self.cases),
            "reviews": _place(self.reviews),
            "former": _place(self.former),
            "task": self.task,
            "method": self.method,
            "preset": self.preset,
            "split": split,
            "patient": self.patient,
            "iterations": self.iterations,
            "seed": self.seed,
            "device": self.device,
            "settings": dict(sorted(self.settings.items())),
        }


def _place(folder: Path | None) -> dict[str, str] | None:
    """Return a folder as given and resolved; it may move while the run goes on."""
    return None if folder is None else {"given": str(folder), "folder": str(folder.resolve())}
