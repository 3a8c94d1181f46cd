"""A training run is a folder: where its files are, and run.json, which is written once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.resources import check_format


@dataclass(frozen=True)
class RunFolder:
    """Paths in a run folder; making one of these touches nothing on disk."""

    path: Path

    @property
    def run_json(self) -> Path:
        """What the run was started with."""
        return self.path / "run.json"

    @property
    def state_json(self) -> Path:
        """Where it stands."""
        return self.path / "state.json"

    @property
    def events_file(self) -> Path:
        """Everything worth telling, in order."""
        return self.path / "events.jsonl"

    @property
    def metrics_file(self) -> Path:
        """A row for each logged figure."""
        return self.path / "metrics.csv"

    @property
    def lock_file(self) -> Path:
        """Who runs it."""
        return self.path / "lock"

    @property
    def control(self) -> Path:
        """Folder of wishes to the run: pause, stop, exclude.json."""
        return self.path / "control"

    @property
    def checkpoints(self) -> Path:
        """Folder of what is needed to go on."""
        return self.path / "checkpoints"

    @property
    def stages(self) -> Path:
        """Folder with one folder a stage."""
        return self.path / "stages"

    @property
    def scratch(self) -> Path:
        """Folder of large work files of the method, which go when the run is finished."""
        return self.checkpoints / "scratch"

    @property
    def validation(self) -> Path:
        """Folder of the figures and predictions of the validation cases."""
        return self.path / "validation"

    @property
    def models(self) -> Path:
        """Folder of the model packages `teacher` and `student`."""
        return self.path / "models"

    @property
    def before(self) -> Path:
        """The model package that the run goes on from, if it does."""
        return self.models / "before"

    @property
    def report(self) -> Path:
        """The report, one HTML page."""
        return self.path / "report.html"

    def stage(self, number: int) -> Path:
        """Return the folder of stage `number` (1, 2, ...)."""
        return self.stages / f"{number:02d}"

    def is_run(self) -> bool:
        """Return whether a run was started here."""
        return self.run_json.is_file()

    def refuse_foreign(self) -> None:
        """Refuse a folder that is not new, not empty, and no run's.

        Raises:
            UsageError: If it is a file, or holds other people's files.
        """
        foreign = [] if self.is_run() else self._foreign_entries()
        if foreign:
            raise UsageError(
                f"{self.path} is not a run folder and not empty (it holds {foreign[0]}). "
                "Choose a new or empty folder."
            )

    def create(self, config: Mapping[str, Any]) -> None:
        """Make the folder and freeze `config` as its run.json.

        `format`, `version` and `created` (now, UTC) are added where they are missing.

        Raises:
            UsageError: If the folder has a run already, or holds other people's files.
            SemiSupSegError: If the configuration does not follow the schema.
        """
        if self.is_run():
            raise UsageError(f"{self.path} already holds a run. Choose another folder.")
        self.refuse_foreign()
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        content = {"format": "semisupseg-run", "version": 1, "created": created, **config}
        # Tuples become lists: what is checked is what will be read back.
        content = json.loads(json.dumps(content, allow_nan=False))
        _check_config(content, self.run_json)
        self.path.mkdir(parents=True, exist_ok=True)
        for folder in (self.control, self.checkpoints, self.stages, self.models):
            folder.mkdir(exist_ok=True)
        write_json(self.run_json, content)

    def read_config(self) -> dict[str, Any]:
        """Return the content of run.json.

        Raises:
            SemiSupSegError: If the folder is no run, or run.json is damaged or newer.
        """
        if not self.is_run():
            raise SemiSupSegError(
                f"{self.path} is not a run folder (it has no run.json). Give the folder that "
                "`train --out` made."
            )
        config: dict[str, Any] = read_json(self.run_json)
        _check_config(config, self.run_json)
        return config

    def _foreign_entries(self) -> list[str]:
        # What a start that was killed before run.json was written may have left.
        own = {"lock", "control", "checkpoints", "stages", "models", "events.jsonl", "state.json"}
        own.add("worker.log")  # what a run prints that a panel has started
        if not self.path.exists():
            return []
        if not self.path.is_dir():
            raise UsageError(f"{self.path} is a file. Choose a new or empty folder.")
        return sorted(
            entry.name
            for entry in self.path.iterdir()
            if entry.name not in own and not entry.name.startswith(".")
        )


def _check_config(config: Any, source: Path) -> None:
    check_format(config, "run", source)
    check_format(config["task"], "task", f"The task in {source}")
    used: dict[str, str] = {}
    for name in ("train_labelled", "train_unlabelled", "validation"):
        for case in config["split"][name]:
            if case in used:
                raise SemiSupSegError(
                    f"{source} is damaged: case {case} is in {used[case]} and in {name}. "
                    "Restore the file or start a new run."
                )
            used[case] = name
