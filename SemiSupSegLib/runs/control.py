"""control/: what somebody wants of a running run; a wish is a file, so anything can make one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from SemiSupSegLib.files import read_json, replacing, write_json
from SemiSupSegLib.resources import check_format


@dataclass(frozen=True)
class Control:
    """The wishes in one control folder."""

    folder: Path

    @property
    def is_pause_wanted(self) -> bool:
        """Whether the run should free the device and wait until the file `pause` is gone."""
        return (self.folder / "pause").exists()

    @property
    def is_stop_wanted(self) -> bool:
        """Whether the run should write a checkpoint and end (exit code 3)."""
        return (self.folder / "stop").exists()

    def excluded(self) -> frozenset[str]:
        """Return the ids of cases to be left out from now on.

        Raises:
            SemiSupSegError: If exclude.json is damaged, something else, or newer.
        """
        path = self.folder / "exclude.json"
        if not path.exists():
            return frozenset()
        content = read_json(path)
        check_format(content, "exclude", path)
        return frozenset(content["cases"])

    def want_pause(self) -> None:
        """Ask the run to pause."""
        self._make("pause")

    def want_stop(self) -> None:
        """Ask the run to stop."""
        self._make("stop")

    def end_pause(self) -> None:
        """Let a paused run go on."""
        (self.folder / "pause").unlink(missing_ok=True)

    def clear(self) -> None:
        """Take back pause and stop: a run that is started again should not stop at once."""
        for name in ("pause", "stop"):
            (self.folder / name).unlink(missing_ok=True)

    def exclude(self, cases: Iterable[str]) -> None:
        """Ask the run to leave out `cases`, besides those that are left out already."""
        wanted = sorted(self.excluded() | set(cases))
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(
            self.folder / "exclude.json",
            {"format": "semisupseg-exclude", "version": 1, "cases": wanted},
        )

    def _make(self, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / name):
            pass
