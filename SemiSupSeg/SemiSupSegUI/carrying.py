"""Bringing what was decided on this machine to the results' folders, by workers.

A folder may be on a share that does not answer. The window only looks at files of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import qt
from slicer.i18n import tr as _

from SemiSupSegLib.errors import SemiSupSegError, in_sentences
from SemiSupSegLib.review.outbox import Outbox, outboxes
from SemiSupSegUI.command_job import Ended, run_command
from SemiSupSegUI.jobs import Jobs

_SOON_MS = 300
_RETRY_MS = 10_000
_SILENCE_MS = 20_000


class Carrying:
    """Lets a worker at a time carry each outbox, until all is in the result's folder.

    Args:
        jobs: Runs the workers.
        on_change: Told when something was carried, or cannot be.
        on_trouble: Told why something waits, and what to do.
        on_aside: Told the outbox and the file to which decisions went, because somebody else had
            gone on with the review.
    """

    def __init__(
        self,
        jobs: Jobs,
        on_change: Callable[[], None],
        on_trouble: Callable[[str], None],
        on_aside: Callable[[Outbox, Path], None],
    ) -> None:
        self._jobs = jobs
        self._on_change, self._on_trouble, self._on_aside = on_change, on_trouble, on_aside
        self._wanted: dict[Path, Outbox] = {}
        """To be carried, by folder."""
        self._under_way: dict[Path, object] = {}
        self._told: set[Path] = set()
        """Those whose trouble was told."""
        self._timer = self._single_shot(_SOON_MS, self._start)
        self._silence = self._single_shot(_SILENCE_MS, self._tell_silence)

    def soon(self, box: Outbox) -> None:
        """Carry an outbox in a moment, with all that is decided until then."""
        self._wanted[box.path] = box
        # Not put off by the next decision.
        if not self._timer.active or self._timer.interval != _SOON_MS:
            self._timer.start(_SOON_MS)

    def restore(self) -> None:
        """Carry what waits since an earlier session."""
        for box in outboxes():
            if box.is_waiting:
                self.soon(box)

    def is_waiting(self, box: Outbox) -> bool:
        """Return whether something is not in the result's folder yet."""
        return box.path in self._wanted or box.path in self._under_way

    def close(self) -> None:
        """The panel goes; what waits is carried the next time."""
        self._timer.stop()
        self._silence.stop()
        self._wanted, self._under_way = {}, {}

    def _single_shot(self, milliseconds: int, slot: Callable[[], None]):
        timer = qt.QTimer()
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        assert timer.connect("timeout()", slot)
        return timer

    def _start(self) -> None:
        for path, box in list(self._wanted.items()):
            if path not in self._under_way:
                del self._wanted[path]
                self._carry(box)

    def _carry(self, box: Outbox) -> None:
        job = None

        def ended(end: Ended) -> None:
            if self._under_way.get(box.path) is not job:
                return
            del self._under_way[box.path]
            if not self._under_way:
                self._silence.stop()
            self._jobs.do(_remove(job.folder.path), lambda error: None)
            if end.error:
                self._wait(box, end.error)
            else:
                self._done(box, end.answer)
            self._on_change()

        try:
            words = ["review", "carry", "--outbox", str(box.path)]
            job = self._under_way[box.path] = run_command(
                self._jobs, words, ended, wants_answer=True
            )
            self._silence.start()
        except (SemiSupSegError, OSError) as error:
            why = _(
                "{why} What you decided is kept on this machine, and is added to {folder} as soon "
                "as that works."
            ).format(why=in_sentences(error), folder=box.folder)
            self._wait(box, why)

    def _done(self, box: Outbox, answer: dict) -> None:
        self._told.discard(box.path)
        for one in answer["carried"]:
            if one["is_aside"]:
                self._wanted.pop(box.path, None)
                self._on_aside(box, Path(one["target"]))
                return
        if box.path in self._wanted:
            self._timer.start(_SOON_MS)

    def _wait(self, box: Outbox, why: str) -> None:
        self._wanted[box.path] = box
        if not self._timer.active:
            self._timer.start(_RETRY_MS)
        # Once: it is tried again and again.
        if box.path not in self._told:
            self._told.add(box.path)
            self._on_trouble(why)

    def _tell_silence(self) -> None:
        for path in list(self._under_way):
            folder = next((one.folder for one in outboxes() if one.path == path), path)
            self._on_trouble(
                _(
                    "{folder} has not answered for 20 s. What you decide is kept on this machine "
                    "and is added there as soon as it answers."
                ).format(folder=folder)
            )


def _remove(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder, ignore_errors=True)
    yield
