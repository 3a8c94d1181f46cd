"""A command as a job: its state in a folder, a stop file, and a life line."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from SemiSupSegLib.errors import in_sentences
from SemiSupSegLib.runs.events import EventKind
from SemiSupSegLib.runs.state import RunStatus
from SemiSupSegLib.workers.job import JobFolder, JobRecord

STOPPED = 3
"""Exit code of a command that somebody stopped."""
_POLL_SECONDS = 0.2


def run_as_job(folder: Path, command: Callable[[], int], life_line: IO[str]) -> int:
    """Do a command, and say in its folder how it went.

    A stop file or the end of the life line ends the process at once: commands write files so that
    this harms nothing.

    Args:
        folder: Of the job.
        command: Returns an exit code.
        life_line: Held open by whoever waits for the job.

    Returns:
        The command's exit code.
    """
    job = JobFolder(folder)
    record = JobRecord(job)
    record.tell(EventKind.STARTED)
    record.enter("working")

    # Whoever takes it says how the job ended; the process may live a moment longer.
    end = threading.Lock()

    def stop() -> None:
        if not end.acquire(blocking=False):
            return
        record.tell(EventKind.STOPPED)
        record.write(RunStatus.STOPPED, error="Stopped.")
        os._exit(STOPPED)

    def listen() -> None:
        life_line.read()
        stop()

    def look() -> None:
        while not job.control.is_stop_wanted:
            time.sleep(_POLL_SECONDS)
        stop()

    for watch in (listen, look):
        threading.Thread(target=watch, daemon=True, name=f"watch {watch.__name__}").start()
    try:
        code = command()
    except BaseException as error:
        end.acquire()
        said = in_sentences(error) or str(error) or type(error).__name__
        record.write(RunStatus.FAILED, error=said)
        raise
    if code == STOPPED:
        stop()
    end.acquire()
    if code == 0:
        record.tell(EventKind.FINISHED)
        record.write(RunStatus.FINISHED)
    else:
        # What went wrong is the last that the command has said.
        record.tell(EventKind.ERROR, code=code)
        record.write(RunStatus.FAILED, error=_last_words(job.log_file))
    return code


def _last_words(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    said = [line for line in lines if line.strip()]
    errors = [line.removeprefix("Error: ") for line in said if line.startswith("Error: ")]
    return (errors or said or ["It failed without a word."])[-1]
