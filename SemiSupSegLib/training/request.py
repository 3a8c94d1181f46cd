"""What a training run is asked for, as it is compared when the same command is given again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from SemiSupSegLib.cases.split import read_lists
from SemiSupSegLib.runs.run_folder import RunFolder


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
    frozen: Mapping[str, Any] | None = None
    """What the run was started with, if it only goes on (`resumed`)."""

    def to_json(self) -> dict[str, Any]:
        """Return what must be the same when the run is started again.

        Raises:
            UsageError: If the split file is no split.
        """
        if self.frozen is not None:
            return dict(self.frozen)
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


def resumed(run: Path, *, cases: Path | None = None, store: Path | None = None) -> TrainRequest:
    """Return the request of a run that was started, so that it goes on as it began.

    Args:
        run: The run folder.
        cases: Its folder of cases, if that has moved.
        store: Of prepared cases, if it is not where it was.

    Raises:
        SemiSupSegError: If the folder holds no run.
    """
    frozen = RunFolder(run).read_config()["request"]
    reviews, former = frozen["reviews"], frozen["former"]
    return TrainRequest(
        cases=cases or Path(frozen["cases"]["folder"]),
        out=run,
        reviews=None if reviews is None else Path(reviews["folder"]),
        former=None if former is None else Path(former["folder"]),
        task=frozen["task"],
        method=frozen["method"],
        preset=frozen["preset"],
        iterations=frozen["iterations"],
        seed=frozen["seed"],
        device=frozen["device"],
        store=store,
        settings=frozen["settings"],
        frozen=frozen,
    )


def _place(folder: Path | None) -> dict[str, str] | None:
    """Return a folder as given and resolved; it may move while the run goes on."""
    return None if folder is None else {"given": str(folder), "folder": str(folder.resolve())}
