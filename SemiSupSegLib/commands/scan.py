"""`scan`: find the cases of a folder and say what each can be used for."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

from SemiSupSegLib.cases.case import Case, CaseState
from SemiSupSegLib.cases.discovery import ScanResult, discover
from SemiSupSegLib.cases.inspection import default_cache
from SemiSupSegLib.cases.scan_lines import ScanLines
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.commands.json_answer import add_json, prepare_json, write_answer
from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import make_folder_of

HELP = "Find the cases of a folder, whatever its layout, and say what is wrong with them."

PATIENT_HELP = (
    "regular expression that finds the patient in a case id: its first group, or all it matches "
    "(default: told from folders and names)"
)

_MAX_CASES_SHOWN = 40
_MAX_FOLDERS_SHOWN = 3
_PLAIN_LINE_EVERY_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder and the options."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the cases are")
    parser.add_argument(
        "--task",
        help="a task file, 'brats', 'brats_msd' or 'binary' (default: recognised from the files)",
    )
    add_json(parser, "the list of cases")
    parser.add_argument(
        "--lines",
        type=Path,
        metavar="FILE",
        help="write each case to this file as soon as it was found and again when it was checked",
    )
    parser.add_argument("--patient", metavar="PATTERN", help=PATIENT_HELP)
    parser.add_argument(
        "--headers-only", action="store_true", help="skip the check of the images' content"
    )
    parser.add_argument(
        "--reviews",
        type=Path,
        metavar="OUT",
        help="a folder of results; its reviewed labels take the place of labels",
    )
    parser.add_argument(
        "--store",
        type=Path,
        metavar="DIR",
        help="where to remember what was found (default: SEMISUPSEG_STORE, else your cache)",
    )
    parser.add_argument("--workers", type=_count, help="threads (default: one a core)")


def run(arguments: argparse.Namespace) -> int:
    """Scan, print a summary, write the JSON."""
    folder = arguments.folder
    task = load_task(arguments.task) if arguments.task else None
    prepare_json(arguments.json)
    if arguments.lines is not None:
        make_folder_of(arguments.lines)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(_Progress())
        lines = None
        if arguments.lines is not None:
            lines = stack.enter_context(ScanLines(arguments.lines))
        result = discover(
            folder,
            task,
            check_content=not arguments.headers_only,
            workers=arguments.workers,
            cache=default_cache(folder, arguments.store),
            reviews=arguments.reviews,
            patient=arguments.patient,
            lines=lines,
            progress=progress,
        )
        if lines is not None:
            lines.end(result.seconds, result.counts)
    if not write_answer(arguments.json, result.to_json()):
        _print_summary(result, arguments.headers_only)
    if not result.cases:
        raise SemiSupSegError(
            f"{folder} holds no images. Looked for .nii, .nii.gz, .nrrd, .mha, .mhd and DICOM "
            "series, also in its sub-folders. Check the path."
        )
    return 0


def _print_summary(result: ScanResult, headers_only: bool) -> None:
    shown = [case for case in result.cases if case.reasons]
    # What cannot be used comes first: the list may be cut.
    shown.sort(key=lambda case: case.state is not CaseState.UNUSABLE)
    for case in shown[:_MAX_CASES_SHOWN]:
        _print_case(case)
    if len(shown) > _MAX_CASES_SHOWN:
        more = counted(len(shown) - _MAX_CASES_SHOWN, "more cases")
        print(f"... and {more} with findings (see --json)")
    counts = ", ".join(f"{count} {state}" for state, count in result.counts.items() if count)
    patients = len({case.patient for case in result.cases})
    of = f" of {counted(patients, 'patients')}" if patients < len(result.cases) else ""
    print(
        f"{counted(len(result.cases), 'cases')}{of} ({counts or 'none'}), task {result.task.name}, "
        f"layout {result.layout or 'unknown'}"
    )
    if result.result_folders:
        count = len(result.result_folders)
        print(
            f"Skipped {counted(count, 'folders')} with results of SemiSupSeg "
            f"({', '.join(str(one) for one in result.result_folders[:_MAX_FOLDERS_SHOWN])}"
            f"{', ...' if count > _MAX_FOLDERS_SHOWN else ''})"
        )
    rate = len(result.cases) / max(result.seconds, 1e-9)
    line = f"{result.seconds:.1f} s, {rate:.1f} cases/s"
    if result.bytes_read:
        line += f", {result.bytes_read / 1e6 / result.seconds:.1f} MB/s"
    if headers_only:
        line += "; headers only, content not checked"
    elif not result.bytes_read and result.cases:
        line += "; nothing has changed since the last check"
    print(line)


def _print_case(case: Case) -> None:
    print(f"{case.id}: {case.state.value}")
    for reason in case.reasons:
        print(f"  {reason.severity.value}: {reason.message}. {reason.remedy}.")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of threads, which starts at 1")
    return value


class _Progress:
    """Shows cases done: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._bar: _Bar | None = None
        self._start = self._last = time.monotonic()

    def __enter__(self) -> Callable[[int, int], None]:
        return self._show

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = _Bar(total)
            self._bar.move_to(done)
            return
        now = time.monotonic()
        if now - self._last >= _PLAIN_LINE_EVERY_S:
            self._last = now
            rate = done / (now - self._start)
            print(
                f"checked {done} of {counted(total, 'cases')}, {rate:.1f} cases/s", file=sys.stderr
            )


class _Bar:
    """A progress bar of cases."""

    def __init__(self, total: int):
        from tqdm import tqdm

        self._bar = tqdm(total=total, unit="case", leave=False)

    def move_to(self, done: int) -> None:
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()
