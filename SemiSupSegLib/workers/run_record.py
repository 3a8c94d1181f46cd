"""What the files of a run folder say together: config, state, history, results."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.models.package import read_manifest
from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.stages import why_none_trusted
from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.workers.run_history import MOST_CASES, RunHistory, histogram
from SemiSupSegLib.workers.run_view import title_of

_LONGEST = 2000


class RunRecord:
    """Reads a run folder again and again, and of long files what is new.

    Args:
        path: The run folder.
    """

    def __init__(self, path: Path) -> None:
        self.run = RunFolder(path)
        self.history = RunHistory(self.run)
        self.state: RunState | None = None
        """None while there is none."""
        self.command: tuple[str, ...] = ()
        """Words that start or resume it from anywhere."""
        self.request: Mapping[str, Any] | None = None
        """What run.json says that was asked for, with the method and the split that it has."""
        self.problem: str | None = None
        """Why run.json cannot be used."""
        self._config: Mapping[str, Any] | None = None
        self._config_stamp: tuple[int, int] | None = None
        self._models: dict[str, Any] = {}

    def read(self) -> bool:
        """Take in what has changed; return whether the run has told anything new.

        Raises:
            OSError: If the folder does not answer, or a file in it cannot be read.
        """
        # A folder that is not there is a share that was taken away.
        if not self.run.path.is_dir():
            raise FileNotFoundError(2, "The run folder is not there", str(self.run.path))
        self._read_config()
        self._read_state()
        return self.history.read()

    @property
    def num_processes(self) -> int:
        """How many processes the run has, by torchrun if it is more than one."""
        return int((self._config or {}).get("processes", 1))

    def content(self) -> dict[str, Any]:
        """Return all of a view that the files tell, but for the curves."""
        history, state = self.history, self.state or RunState()
        config = self._config or {}
        name = state.phase.partition(": ")[0]
        by_name = {one["name"]: one for one in history.phases}
        stage = by_name.get(name, {}).get("stage")
        stages = [one["stage"] for one in history.phases if one["stage"] is not None]
        confidence = history.image_confidence
        return {
            "phase": state.phase,
            "phase_title": title_of(state.phase, stage, len(stages)),
            "stage": stage,
            "num_stages": len(stages),
            "iteration": state.iteration,
            "iterations": sum(one["iterations"] for one in history.phases)
            or config.get("iterations", 0),
            "planned": state.planned,
            "finished": state.finished,
            "seconds_left": state.seconds_left,
            "stage_marks": self._marks(by_name, len(stages)),
            "stages": [self._stage(one) for _, one in sorted(history.stages.items())],
            "image_confidence": confidence if len(confidence) <= MOST_CASES else {},
            "image_confidence_histogram": histogram(list(confidence.values())),
            "excluded": self._excluded(),
            "warnings": list(history.warnings),
            "device": None if state.device is None else dict(state.device),
            "config": self._summary(),
            "command": list(self.command),
            "report": self.run.report.is_file(),
            "models": self._model_figures(state),
            "before_after": history.before_after,
        }

    def curves(self, most: int) -> dict[str, Any]:
        """Return the curves of a view.

        Args:
            most: Points of a curve.
        """
        history = self.history
        return {
            "losses": {name: one.points(most) for name, one in history.losses.items()},
            "figures": {name: one.points(most) for name, one in history.figures.items()},
            "dice": {
                network: {target: one.points(most) for target, one in by_target.items()}
                for network, by_target in history.dice.items()
                if by_target
            },
        }

    def _read_config(self) -> None:
        try:
            found = self.run.run_json.stat()
        except FileNotFoundError:
            return
        stamp = (found.st_mtime_ns, found.st_size)
        if stamp == self._config_stamp:
            return
        try:
            self._config = self.run.read_config()
        except SemiSupSegError as error:
            self.problem = str(error)
            return
        self.problem = None
        self._config_stamp = stamp
        self.command = ("train", "--resume", str(self.run.path.absolute()))
        self.request = {
            **self._config.get("request", {}),
            "method": self._config["method"],
            "split": self._config["split"],
        }

    def _read_state(self) -> None:
        # Half written it never is, but Windows lets nobody read it while it is being replaced.
        with contextlib.suppress(SemiSupSegError):
            self.state = RunState.read(self.run.state_json)

    def _marks(self, by_name: Mapping[str, Any], num_stages: int) -> list[dict[str, Any]]:
        marks = []
        for name, iteration in self.history.starts.items():
            stage = by_name.get(name, {}).get("stage")
            title = title_of(name, stage, num_stages)
            marks.append({"stage": stage, "name": name, "title": title, "iteration": iteration})
        return marks

    def _stage(self, told: Mapping[str, Any]) -> dict[str, Any]:
        options = (self._config or {}).get("options", {})
        # With every other mode the student is pushed away from what a voxel is not.
        is_ignored = not options.get("lambda_low", 0) or options.get("low_mode") == "ignore"
        return {
            **{name: told[name] for name in ("stage", "cases", "histogram", "shown")},
            "shares": _shares(told["trusted"], is_ignored),
            "by_class": {name: _shares(one, is_ignored) for name, one in told["by_class"].items()},
            "note": why_none_trusted(told["stage"], told["trusted"], options),
        }

    def _excluded(self) -> list[str]:
        try:
            return sorted(Control(self.run.control).excluded())[:MOST_CASES]
        except SemiSupSegError:
            return []

    def _summary(self) -> dict[str, Any]:
        if self._config is None:
            return {}
        config, split = self._config, self._config["split"]
        return {
            **{name: config[name] for name in ("method", "preset", "iterations", "seed", "device")},
            "cases": config.get("request", {}).get("cases", {}).get("folder", ""),
            "labelled": len(split["train_labelled"]),
            "unlabelled": len(split["train_unlabelled"]),
            "validation": len(split["validation"]),
        }

    def _model_figures(self, state: RunState) -> dict[str, Any]:
        if state.status is not RunStatus.FINISHED:
            self._models = {}
        elif not self._models:
            with contextlib.suppress(SemiSupSegError):
                student = read_manifest(self.run.models / "student")
                self._models = {
                    network: {"folder": self._exported(network), "dice": _dice(figures)}
                    for network, figures in student["validation"].items()
                }
                self._models.setdefault(
                    "student", {"folder": self._exported("student"), "dice": {}}
                )
        return self._models

    def _exported(self, network: str) -> str | None:
        folder = self.run.models / network
        return str(folder) if (folder / "manifest.json").is_file() else None


def short(text: str | None) -> str | None:
    """Return a message without what no panel shows."""
    return text if text is None or len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _shares(trusted: float, is_ignored: bool) -> dict[str, float]:
    doubted = round(1 - trusted, 4)
    return {
        "accepted": trusted,
        "ignored": doubted if is_ignored else 0.0,
        "unlearned": 0.0 if is_ignored else doubted,
    }


def _dice(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {target: one["dice"] for target, one in figures.items() if "dice" in one}
