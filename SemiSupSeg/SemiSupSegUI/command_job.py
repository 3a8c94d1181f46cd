"""A command in a process of its own, and what it had to say when it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.runs.state import RunStatus
from SemiSupSegLib.workers.runner import Job
from SemiSupSegUI import desktop
from SemiSupSegUI.jobs import Jobs, log_tail, new_job_folder
from SemiSupSegUI.message import Message


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    error: str
    """What went wrong, or empty."""
    log: str
    """The last lines that it has printed."""
    answer: Any = None
    """What it has written as JSON, if that was wanted."""

    @property
    def last_line(self) -> str:
        """What it said at last."""
        return (self.log.splitlines() or [""])[-1]


def run_command(
    jobs: Jobs,
    words: Sequence[str],
    on_end: Callable[[Ended], None],
    *,
    wants_answer: bool = False,
) -> Job:
    """Run a command, and tell once how it ended.

    Args:
        jobs: Starts and follows its process.
        words: Of the command.
        on_end: Told once.
        wants_answer: Whether it writes JSON (`--json`), which is read then.

    Raises:
        SemiSupSegError, OSError: If it cannot be started.
    """
    folder = new_job_folder()
    file = folder / "answer.json"

    def changed(job: Job) -> None:
        if not job.is_ended:
            return
        error, answer = "", None
        if job.state.status is not RunStatus.FINISHED:
            error = job.state.error or _("The worker said nothing.")
        elif wants_answer:
            try:
                answer = read_json(file)
            except SemiSupSegError as problem:
                error = str(problem)
        on_end(Ended(error, log_tail(job.folder), answer))

    asked = ("--json", str(file)) if wants_answer else ()
    return jobs.run(folder, [*words, *asked], changed)


def run_and_tell(
    jobs: Jobs,
    message: Message,
    words: Sequence[str],
    on_success: Callable[[Ended], None],
    on_end: Callable[[], None],
) -> Job:
    """Run a command, and say what went wrong if it failed.

    Args:
        jobs: Starts and follows its process.
        message: Where that is said.
        words: Of the command.
        on_success: Told if it went well; an error of it is said, too.
        on_end: Told after that, however it went.

    Raises:
        SemiSupSegError, OSError: If it cannot be started.
    """

    def ended(end: Ended) -> None:
        if end.error:
            message.fail(end.error, end.log)
        else:
            with message.errors_shown():
                on_success(end)
        on_end()

    return run_command(jobs, words, ended)


def open_page(
    jobs: Jobs, message: Message, words: Sequence[str], page: Path, on_end: Callable[[], None]
) -> Job:
    """Let a command write a page, and open it in a browser; else as `run_and_tell`."""

    def written(_end: Ended) -> None:
        message.say(_("The page was written: {page}").format(page=page))
        desktop.show(page)

    return run_and_tell(jobs, message, words, written, on_end)


def open_report(jobs: Jobs, message: Message, run: Path, on_end: Callable[[], None]) -> Job:
    """Write a run's page anew, and open it."""
    return open_page(jobs, message, ["report", str(run)], run / "report.html", on_end)


def goes_on(job: Job | None) -> bool:
    """Return whether a job was started and has not ended."""
    return job is not None and not job.is_ended
