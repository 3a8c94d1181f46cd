"""Carrying out an installation plan as a job: `python install.py JOB`, by this file's path.

It needs pip and the standard library, nothing else. The plan is `JOB/request.json`; afterwards
`JOB/result.json` tells what is there now, and `JOB/worker.log` what pip said.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

if not __package__:
    # Beside this file lie modules that must not be found under their names.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from SemiSupSegLib.errors import SemiSupSegError, StoppedError
from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.runs.events import EventKind
from SemiSupSegLib.runs.state import RunStatus
from SemiSupSegLib.workers.job import JobFolder, JobRecord
from SemiSupSegLib.workers.packages import PackageStatus, Probe, normalized, package_states
from SemiSupSegLib.workers.pip_commands import constraints, pip_commands
from SemiSupSegLib.workers.pip_output import failure_in_words, phase_in, progress_in
from SemiSupSegLib.workers.plan import InstallPlan
from SemiSupSegLib.workers.removal import remove_duplicates, remove_package

STOPPED = 3
"""Exit code of an installation that somebody stopped."""
_POLL_SECONDS = 0.1
_RAW_PROGRESS = (24, 1)
"""The first pip that tells its progress line by line."""
_NO_WINDOW = 0x08000000
_FOREIGN = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV")


def main(words: list[str]) -> int:
    """Install what the job in a folder asks for, and say there how it went."""
    job = JobFolder(Path(words[0]))
    record = JobRecord(job)
    record.tell(EventKind.STARTED)
    try:
        plan = InstallPlan.from_json(read_json(job.request_json))
        result = _Installation(plan, job, record, _stop_wish(job, sys.stdin)).carry_out()
    except StoppedError as stop:
        record.tell(EventKind.STOPPED)
        record.write(RunStatus.STOPPED, error=str(stop))
        return STOPPED
    except (SemiSupSegError, OSError) as error:
        record.tell(EventKind.ERROR, message=str(error))
        record.write(RunStatus.FAILED, error=str(error))
        return 1
    write_json(job.result_json, result)
    record.tell(EventKind.FINISHED)
    record.write(RunStatus.FINISHED)
    return 0


def _stop_wish(job: JobFolder, life_line: IO[str]) -> Callable[[], bool]:
    """Return a question: whether a stop file is there, or whoever waits for the job is gone."""
    is_alone = threading.Event()

    def listen() -> None:
        life_line.read()
        is_alone.set()

    threading.Thread(target=listen, daemon=True, name="life line").start()
    return lambda: is_alone.is_set() or job.control.is_stop_wanted


class _Installation:
    def __init__(
        self,
        plan: InstallPlan,
        job: JobFolder,
        record: JobRecord,
        is_stop_wanted: Callable[[], bool],
    ) -> None:
        self._plan = plan
        self._job = job
        self._record = record
        self._is_stop_wanted = is_stop_wanted
        self._place = Path(plan.place)
        self._temporary = self._place.parent / f"{self._place.name}.part"

    def carry_out(self) -> dict[str, Any]:
        """Remove, install, check; return what the result tells."""
        wheels = self._plan.wheels
        if wheels is not None and not any(Path(wheels).glob("*.whl")):
            raise SemiSupSegError(
                f"The folder {wheels} holds no wheels. Choose one that the command printed by "
                "'doctor --wheels' has filled."
            )
        self._record.enter("looking at what is installed")
        before = self._probe("before")
        if self._plan.remove:
            self._record.enter(f"removing {', '.join(self._plan.remove)}")
            self._remove(before)
        kept = self._job.path / "constraints.txt"
        wanted = {normalized(name) for name in self._plan.names}
        kept.write_text(constraints(before, wanted), encoding="utf-8")
        commands = pip_commands(self._plan, sys.executable, kept)
        try:
            if self._plan.is_target:
                shutil.rmtree(self._temporary, ignore_errors=True)
                self._temporary.mkdir(parents=True)
                self._place.mkdir(parents=True, exist_ok=True)
            for number, words in enumerate(commands, start=1):
                what = f"{self._title(words)} ({number} of {len(commands)})"
                self._run(f"installing {what}", words, before)
                if self._plan.is_target:
                    elsewhere = {
                        name
                        for name, one in before.installed.items()
                        if one.is_complete and Path(one.location) != self._place
                    }
                    remove_duplicates(self._place, elsewhere - wanted)
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)
        self._record.enter("checking what was installed")
        return self._checked(before, self._probe("after"))

    def _title(self, words: tuple[str, ...]) -> str:
        names = [
            name
            for name, requirement in zip(self._plan.names, self._plan.install, strict=True)
            if requirement in words
        ]
        if not names:
            return "the chooser of PyTorch's build"
        return names[0] if len(names) == 1 else f"{len(names)} packages"

    def _probe(self, name: str) -> Probe:
        """Look from a new process, which sees what the former ones have changed."""
        folder = self._job.path / name
        folder.mkdir()
        script = Path(__file__).with_name("probe.py")
        words = [sys.executable, str(script), str(folder), self._plan.place]
        answer = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            creationflags=_NO_WINDOW if os.name == "nt" else 0,
        )
        if answer.returncode != 0:
            said = answer.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing"]
            raise SemiSupSegError(
                f"{sys.executable} cannot tell which packages it has ({said[-1]}). Choose another "
                "Python in Setup."
            )
        return Probe.from_json(read_json(folder / "result.json"))

    def _remove(self, before: Probe) -> None:
        for name in self._plan.remove:
            found = before.installed.get(normalized(name))
            if found is None:
                continue
            folder = Path(found.location)
            try:
                remove_package(name, folder)
            except OSError as error:
                raise SemiSupSegError(
                    f"{name} in {folder} cannot be removed ({error.strerror}). Close other Slicer "
                    "windows and programs that use it, and press Install again."
                ) from error

    def _run(self, phase: str, words: tuple[str, ...], before: Probe) -> None:
        """Run pip to its end, or until that is not wanted any more.

        Raises:
            StoppedError: If somebody stopped it.
            SemiSupSegError: If pip failed, with the reason.
        """
        self._record.enter(phase)
        raw = before.pip is not None and _two_numbers(before.pip) >= _RAW_PROGRESS
        words = (*words, "--progress-bar", "raw" if raw else "off")
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment(),
            encoding="utf-8",
            errors="replace",
            creationflags=_NO_WINDOW if os.name == "nt" else 0,
        )
        assert process.stdout is not None
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
        reader.start()
        output = []
        try:
            while (line := self._next(lines)) is not None:
                output.append(self._understood(line, phase))
        except BaseException:
            process.kill()
            raise
        finally:
            code = process.wait()
            reader.join()
            process.stdout.close()
        if code != 0:
            python = f"Python {before.python[0]}.{before.python[1]} on {before.platform}"
            raise SemiSupSegError(
                failure_in_words(
                    "".join(output), place=self._plan.place, wheels=self._plan.wheels, python=python
                )
            )

    def _next(self, lines: queue.Queue[str | None]) -> str | None:
        while not self._is_stop_wanted():
            try:
                return lines.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
        raise StoppedError("Stopped. What is half installed is mended by the next Install.")

    def _understood(self, line: str, phase: str) -> str:
        progress = progress_in(line)
        if progress is not None:
            self._record.advance(progress.finished, progress.planned)
            return ""
        sys.stdout.write(line)
        sys.stdout.flush()
        detail = phase_in(line)
        if detail is not None:
            self._record.enter(f"{phase}: {detail}")
        return line

    def _environment(self) -> dict[str, str]:
        """Return the variables for pip, which settings of the user's must not lead elsewhere."""
        kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        if self._plan.wheels is not None:
            # The folder is the only source, so no configured one counts.
            kept = {name: value for name, value in kept.items() if not name.startswith("PIP_")}
            kept["PIP_CONFIG_FILE"] = os.devnull
        if self._plan.is_target:
            # pip unpacks there before it moves: on the disk that has been found large enough.
            kept.update(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self._temporary)))
        return {
            **kept,
            "PIP_USER": "0",
            "PIP_REQUIRE_VIRTUALENV": "0",
            "PIP_NO_INPUT": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def _checked(self, before: Probe, after: Probe) -> dict[str, Any]:
        wrong = [
            str(state)
            for state in package_states(after)
            if state.package.requirement in self._plan.install
            and state.status is not PackageStatus.PRESENT
        ]
        if wrong:
            raise SemiSupSegError(
                f"pip ended well, but {after.executable} does not find all of it: "
                f"{'; '.join(wrong)}. Press Install again, or choose another Python in Setup."
            )
        changed = {
            name: [one.version, after.installed[name].version]
            for name, one in before.installed.items()
            if name in after.installed and after.installed[name].version != one.version
        }
        return {
            "format": "semisupseg-install-result",
            "version": 1,
            "installed": {
                one.name: one.version
                for name, one in sorted(after.installed.items())
                if name not in before.installed or name in changed
            },
            "changed": changed,
        }


def _two_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _read(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
