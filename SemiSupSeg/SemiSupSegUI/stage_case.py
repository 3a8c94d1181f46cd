"""A pseudo-labelled case of a running training, made into a result and shown in the scene."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from slicer.i18n import tr as _

from SemiSupSegLib.models.registry import user_data_folder
from SemiSupSegLib.runs.state import RunStatus
from SemiSupSegLib.workers.runner import Job
from SemiSupSegUI.jobs import Jobs, log_tail, new_job_folder
from SemiSupSegUI.message import Message


class StageCase:
    """Lets a worker make the maps of a stage's case, and opens them as Review opens any result.

    One case at a time: another one takes the place of one that is being made.

    Args:
        jobs: Drives the worker.
        message: Where it is said how it went.
        open_case: Opens the result in a folder OUT/<case> (`ReviewSection.open_folder`).
        why_not_open: Returns why it would not be opened, or "" (`ReviewSection.why_not_open`).
        on_change: Told when the work begins and when it ends.
    """

    def __init__(
        self,
        jobs: Jobs,
        message: Message,
        open_case: Callable[[Path], None],
        why_not_open: Callable[[], str],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._jobs, self.message = jobs, message
        self._open_case, self._why_not_open = open_case, why_not_open
        self._on_change = on_change
        self._job: Job | None = None

    @property
    def why_not(self) -> str:
        """Why no case can be opened now, or an empty text."""
        return self._why_not_open()

    @property
    def is_running(self) -> bool:
        """Whether a case is being made."""
        return self._job is not None

    def start(self, run: Path, stage: int, case: str, *, cases: Path | None = None) -> None:
        """Make a result of a shown case, and open it; the training is not disturbed.

        Args:
            run: The run folder.
            stage: 1, 2, ...
            case: One of the three that `stage RUN --stage N` lists.
            cases: The run's folder of cases, if it was moved.
        """
        self.cancel()
        why_not = self._why_not_open()
        if why_not:
            self.message.fail(why_not)
            return
        folder = results_of_stage(run, stage)
        words = ["stage", str(run), "--stage", str(stage), "--case", case]
        words += ["--out", str(folder)]
        words += ["--cases", str(cases)] if cases is not None else []

        def changed(job: Job) -> None:
            if job is self._job and job.is_ended:
                self._job = None
                self._ended(job, folder / case)

        with self.message.errors_shown():
            self._job = self._jobs.run(new_job_folder(), words, changed)
            self.message.mind(
                _("Making the maps of {case}, stage {stage} ...").format(case=case, stage=stage)
            )
        self._on_change()

    def cancel(self) -> None:
        """Make it no more, and open nothing."""
        job, self._job = self._job, None
        if job is not None:
            self._jobs.cancel(job)
            self.message.mind(_("Stopped: no case was opened."))
            self._on_change()

    def _ended(self, job: Job, result: Path) -> None:
        if job.state.status is RunStatus.FINISHED:
            self.message.say(_("{case} is ready, and opened in Review.").format(case=result.name))
            with self.message.errors_shown():
                self._open_case(result)
        else:
            error = job.state.error or _("The worker said nothing.")
            self.message.fail(error, log_tail(job.folder))
        self._on_change()


def results_of_stage(run: Path, stage: int) -> Path:
    """Return the folder for the results of a run's stage: its own, beside those of patients.

    Reviews that somebody begins there stay, as they do anywhere.
    """
    place = hashlib.sha256(os.fsencode(os.path.abspath(run))).hexdigest()[:8]  # noqa: PTH100 - resolve() would follow the user's links
    return user_data_folder() / "stages" / f"{run.name}-{place}" / f"{stage:02d}"
