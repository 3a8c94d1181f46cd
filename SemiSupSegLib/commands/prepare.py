"""`prepare`: fill the prepared store before a training or on another machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from SemiSupSegLib.counting import counted
from SemiSupSegLib.workers.processes import command_line

HELP = "Prepare all cases of a folder: orient, crop, resample, normalize."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--cases", type=Path, required=True, metavar="FOLDER", help="cases")
    parser.add_argument("--task", metavar="FILE|brats|brats_msd|binary", help="default: recognised")
    parser.add_argument(
        "--split",
        type=Path,
        metavar="FILE",
        help="labels of train_labelled and validation are prepared, no other label is opened; "
        "without it, all labels are",
    )
    parser.add_argument("--store", type=Path, metavar="DIR", help="where prepared cases are kept")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: all cores")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the preparation, such as spacing=[1,1,1] or n4=true",
    )


def run(arguments: argparse.Namespace) -> int:
    """Prepare and say where and how much."""
    from SemiSupSegLib.cases.case import CaseState, Severity
    from SemiSupSegLib.cases.discovery import discover
    from SemiSupSegLib.cases.inspection import default_cache
    from SemiSupSegLib.cases.split import read_lists, read_split
    from SemiSupSegLib.cases.task import load_task
    from SemiSupSegLib.errors import SemiSupSegError, UsageError
    from SemiSupSegLib.options import with_settings
    from SemiSupSegLib.preparation.options import PreparationOptions, freeze_spacing
    from SemiSupSegLib.preparation.store import default_store, prepare_cases
    from SemiSupSegLib.processes import own_part

    if arguments.workers is not None and arguments.workers < 1:
        raise UsageError(f"--workers is {arguments.workers}, must be 1 or more.")
    settings = {}
    for setting in arguments.set:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting} has no '='. Write --set key=value.")
        settings[key.removeprefix("preparation.")] = value
    options = with_settings(PreparationOptions(), settings, "preparation")
    task = None if arguments.task is None else load_task(arguments.task)
    wanted = None
    if arguments.split is not None:
        lists = read_lists(arguments.split)
        wanted = {*lists["train_labelled"], *lists["validation"]}
    scan = discover(
        arguments.cases,
        task,
        check_content=False,
        cache=default_cache(arguments.cases, arguments.store),
        label_ids=wanted,
    )
    usable = [case for case in scan.cases if case.state is not CaseState.UNUSABLE]
    unusable = {
        case.id: " ".join(one.sentences for one in case.reasons if one.severity is Severity.ERROR)
        for case in scan.cases
        if case.state is CaseState.UNUSABLE
    }
    if not usable:
        raise SemiSupSegError(f"{arguments.cases} has no usable case. Run scan on it to see why.")
    if arguments.split is None:
        labelled = [case for case in usable if case.label is not None]
        with_label = {case.id for case in labelled}
        needed = set()
    else:
        split = read_split(arguments.split, scan.cases)
        labelled = [case for case in usable if case.id in split.train_labelled]
        with_label = {*split.train_labelled, *split.validation}
        needed = {*with_label, *split.train_unlabelled}
    # Of all cases, so that every part has the same spacing.
    frozen = freeze_spacing(scan.task, options, labelled)
    part = own_part()
    if part.size > 1:
        whole = len(usable)
        usable = list(part.of(usable))
        print(f"Process {part.rank} of {part.size}: {len(usable)} of {counted(whole, 'cases')}.")
    if part.rank:
        # The first process tells of them.
        unusable = {}
    store = default_store() if arguments.store is None else arguments.store
    result = prepare_cases(
        usable,
        scan.task,
        frozen,
        store,
        with_label=with_label,
        workers=arguments.workers,
        progress=_show if sys.stderr.isatty() else None,
    )
    for case_id, reason in (*unusable.items(), *result.failed):
        print(f"Left out {case_id}: {reason}")
    spacing = " x ".join(f"{one:g}" for one in frozen.spacing or ())
    total = len(scan.cases) if part.size == 1 else len(usable)
    count = f"{len(result.prepared)} of {counted(total, 'cases are')}"
    print(f"{count} prepared at {spacing} mm in {store}.")
    return 1 if result.failed or needed & unusable.keys() else 0


def goes_on(arguments: argparse.Namespace) -> str:
    """Return how an interrupted preparation goes on."""
    again = command_line(sys.executable, arguments.words)
    return f"What is prepared stays. To go on with the other cases: {again}"


def _show(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\rPrepared {done} of {total}", end=end, file=sys.stderr, flush=True)
