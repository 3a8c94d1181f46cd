"""`predict`: label maps, doubt and figures for cases, with a trained model."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from SemiSupSegLib.cases.case import Case, Reason, Severity
from SemiSupSegLib.cases.discovery import discover
from SemiSupSegLib.cases.patients import is_timepoint
from SemiSupSegLib.cases.task import Task, load_task
from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError, StoppedError, UsageError
from SemiSupSegLib.files import make_output_folder
from SemiSupSegLib.models.package import ModelPackage
from SemiSupSegLib.models.registry import default_model, load_model
from SemiSupSegLib.options import from_json
from SemiSupSegLib.preparation.options import PreparationOptions
from SemiSupSegLib.preparation.prepare import PreparedCase, prepare_case
from SemiSupSegLib.processes import local_rank, own_part
from SemiSupSegLib.workers.processes import command_line

if TYPE_CHECKING:
    import torch

    from SemiSupSegLib.inference.maps import Maps
    from SemiSupSegLib.inference.predictor import Predictor

logger = logging.getLogger(__name__)

HELP = "Segment cases with a model: label, uncertainty, confidence, agreement, figures."

MISSING = "--missing"

_ABOUT_LABELS = frozenset({"doubled_label", "label_meaning"})
"""Findings that do not matter here: no label is read."""
_SAID_BY_PREPARATION = frozenset({"missing_optional_channel", "grid_repaired"})
"""Findings that the warnings of preparation tell as well."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--model",
        help="model package (folder or zip), run folder or name of a registered model (default: "
        "the one chosen with 'models default')",
    )
    cases = parser.add_mutually_exclusive_group(required=True)
    cases.add_argument("--cases", type=Path, metavar="FOLDER", help="folder with many cases")
    cases.add_argument("--case", type=Path, metavar="DIR", help="folder of one case")
    parser.add_argument("--out", type=Path, required=True, help="results go to OUT/<case>/")
    parser.add_argument(
        MISSING,
        action="store_true",
        help="leave out cases whose result of this model and of the same images is in OUT already",
    )
    parser.add_argument(
        "--task", help="task file or name to find the cases with (default: the model's)"
    )
    parser.add_argument(
        "--passes",
        type=int,
        metavar="K",
        help="stochastic passes for the uncertainty (default: 1 if the network predicts its own)",
    )
    parser.add_argument(
        "--maps",
        choices=("standard", "all"),
        default="standard",
        help="all: also sure, possible, second class and comparison",
    )
    parser.add_argument(
        "--probabilities", action="store_true", help="also write a probability map per class"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N (default: auto)")
    parser.add_argument(
        "--overlap", type=float, default=0.5, help="of neighbouring windows, 0 to 0.9"
    )


def run(arguments: argparse.Namespace) -> int:
    """Predict every case; one that fails is reported, and the others go on."""
    if not 0 <= arguments.overlap <= 0.9:
        raise UsageError(f"--overlap is {arguments.overlap}, must be from 0 to 0.9.")
    if arguments.passes is not None and arguments.passes < 1:
        raise UsageError(f"--passes is {arguments.passes}, must be at least 1.")
    package = _package(arguments.model)
    task = package.task if arguments.task is None else _checked_task(arguments.task, package)
    options = from_json(
        PreparationOptions, package.manifest["preparation"], "the model's preparation"
    )
    part = own_part()
    usable, failed = _cases(arguments, task)
    if part.size > 1:
        whole = len(usable)
        usable, failed = list(part.of(usable)), list(part.of(failed))
        print(f"Process {part.rank} of {part.size}: {len(usable)} of {counted(whole, 'cases')}.")
    for case_id, reason in failed:
        print(f"{case_id}: not predicted. {reason}", file=sys.stderr)
    _print_warnings(usable)
    _refuse_own_folders(usable, arguments.out)
    make_output_folder(arguments.out)
    usable = _still_to_do(usable, package, arguments)
    num_predicted = 0
    predictor: Predictor | None = None
    ahead = _prepared_ahead(usable, task, options)
    for number, (case, preparation) in enumerate(ahead, start=1):
        if predictor is None:
            # PyTorch is loaded here, while the first case is read in another thread.
            predictor = _predictor(arguments, package)
        start = time.perf_counter()
        try:
            folder, maps = _predict(case, preparation.result(), predictor, package, arguments)
        except (StoppedError, UsageError):
            raise
        except Exception as error:  # The boundary of a case: the others must go on.
            if not isinstance(error, SemiSupSegError | OSError):
                logger.exception("Case %s failed unexpectedly", case.id)
            failed.append((case.id, str(error)))
            print(f"{case.id}: not predicted. {error}", file=sys.stderr)
            continue
        num_predicted += 1
        duration_s = time.perf_counter() - start
        count = f"[{number} of {len(usable)}]"
        print(f"{count} {case.id}: {_found(maps, task)}; {duration_s:.1f} s, {folder}")
        # It would stay until the next case is done.
        del maps
    print(f"{num_predicted} predicted, {len(failed)} failed.")
    if failed:
        others = f" The others lie in {arguments.out}." if num_predicted else ""
        print(
            f"Not predicted: {', '.join(case_id for case_id, _ in failed)}. Why is told in a line "
            f"of each.{others}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def goes_on(arguments: argparse.Namespace) -> str:
    """Return how interrupted predictions go on."""
    stays = "The results that are written stay."
    if own_part().size > 1:
        return f"{stays} The same command goes on with the other cases if {MISSING} is added."
    words = [*arguments.words, *([] if arguments.missing else [MISSING])]
    return f"{stays} To go on with the other cases: {command_line(sys.executable, words)}"


def _refuse_own_folders(cases: Sequence[Case], out: Path) -> None:
    """Refuse to write results among images: no scan would look for cases there any more.

    Raises:
        UsageError: If a case's images lie where its result would.
    """
    for case in cases:
        target = (out / case.id).resolve()
        if any(one.path.resolve().is_relative_to(target) for one in case.channels.values()):
            raise UsageError(
                f"The result of {case.id} would be written among its images, to {out / case.id}, "
                "and a folder with a result is not searched for cases. Choose another folder "
                "for the results."
            )


def _still_to_do(
    cases: list[Case], package: ModelPackage, arguments: argparse.Namespace
) -> list[Case]:
    """Return the cases to predict, and say which have a result already."""
    from SemiSupSegLib.inference.writing import has_result

    def is_done(case: Case) -> bool:
        images = case.channels if arguments.missing else None
        return has_result(arguments.out, case.id, package.sha256, images)

    missing = [case for case in cases if not is_done(case)]
    if len(missing) == len(cases):
        return cases
    have = "has" if len(cases) == 1 else "have"
    there = (
        f"{len(cases) - len(missing)} of {counted(len(cases), 'cases')} {have} a result of this "
        "model already"
    )
    if arguments.missing:
        print(f"{there}; they are left out.")
        return missing
    print(f"{there}, which is replaced; with {MISSING} they are left out.")
    return cases


def _package(model: str | None) -> ModelPackage:
    chosen = default_model() if model is None else model
    if chosen is None:
        raise UsageError(
            "No model is registered as the default. Say which one with --model, or register one: "
            "models import FILE."
        )
    return load_model(chosen)


def _predictor(arguments: argparse.Namespace, package: ModelPackage) -> Predictor:
    from SemiSupSegLib.inference.predictor import Predictor

    device = _device(arguments.device)
    print(f"Model {package.name} ({package.sha256[:12]}) on {device}.")
    return Predictor(package, device=device, overlap=arguments.overlap, passes=arguments.passes)


def _predict(
    case: Case,
    prepared: PreparedCase,
    predictor: Predictor,
    package: ModelPackage,
    arguments: argparse.Namespace,
) -> tuple[Path, Maps]:
    from SemiSupSegLib.inference.writing import write_result

    maps = predictor.predict(prepared, maps=arguments.maps, probabilities=arguments.probabilities)
    for warning in prepared.warnings:
        logger.warning("%s: %s", prepared.id, warning)
    if maps.likeness.reasons:
        reasons = " ".join(maps.likeness.reasons)
        logger.warning("%s may be unlike the training data. %s", prepared.id, reasons)
    folder = write_result(
        arguments.out,
        prepared.id,
        maps,
        package.task,
        original=prepared.original,
        like=prepared.reference,
        model_sha256=package.sha256,
        model_name=package.name,
        inputs=case.channels,
        warnings=(*dict.fromkeys(one.sentences for one in _warnings(case)), *prepared.warnings),
    )
    return folder, maps


def _found(maps: Maps, task: Task) -> str:
    """Return in words how large everything is, and how many regions should be looked at."""
    volumes = [
        f"{name} {maps.figures.volumes_ml[name]['value']:.1f} mL" for name in task.headline_targets
    ]
    words = ", ".join(volumes)
    if maps.regions is not None:
        count = len(maps.regions.regions)
        words += f", {counted(count, 'regions')} to review"
    return words


def _device(name: str) -> torch.device:
    """Return the device of that name; what is not there is refused, never replaced.

    Raises:
        UsageError: If there is no such device here.
    """
    import torch

    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        # Processes of one host that see the same GPUs take one each.
        return torch.device(f"cuda:{local_rank() % torch.cuda.device_count()}")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"There is no device '{name}'. Use auto, cpu or cuda:N.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"This machine has {counted(torch.cuda.device_count(), 'CUDA devices')}, so '{name}' "
            "is not there. Use --device auto or cpu; `doctor` tells more."
        )
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"Device '{name}' is not supported. Use auto, cpu or cuda:N.")
    return device


def _checked_task(name_or_file: str, package: ModelPackage) -> Task:
    task = load_task(name_or_file)
    own = [channel.name for channel in package.task.channels]
    if [channel.name for channel in task.channels] != own:
        raise UsageError(
            f"Task {name_or_file} has other channels than the model, which needs "
            f"{', '.join(own)}. Leave out --task, or choose another model."
        )
    return task


def _cases(arguments: argparse.Namespace, task: Task) -> tuple[list[Case], list[tuple[str, str]]]:
    """Return the usable cases, and id and reason of the others."""
    folder: Path = arguments.cases or arguments.case
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder. Check the path.")
    # No label is needed, so none is opened.
    found = list(discover(folder, task, check_content=False, label_ids=()).cases)
    if arguments.case is not None:
        # Where no image is named as the model's channels, a label beside it is told apart from it.
        found = [one for one in found if not _is_label_alone(one)] or found
    if arguments.case is not None and len(found) != 1:
        raise UsageError(
            f"{folder} holds {len(found)} cases, expected one. Give the case's own folder, or "
            "use --cases for a folder of cases."
        )
    if arguments.case is not None and all(
        one.path.parent.resolve() == folder.resolve() for one in found[0].channels.values()
    ):
        # Among other cases a single file lends its name; here the folder is the case. A visit is
        # one of a patient's, and of many patients'.
        own = folder.resolve()
        name = f"{own.parent.name}_{own.name}" if is_timepoint(own.name) else own.name
        found = [replace(found[0], id=name)]
    if not found:
        raise SemiSupSegError(
            f"No case with the channels {', '.join(one.name for one in task.channels)} was found "
            f"in {folder}. `scan {folder}` tells what is there."
        )
    usable, failed = [], []
    for case in found:
        errors = [one for one in _about_images(case) if one.severity is Severity.ERROR]
        if errors:
            failed.append((case.id, " ".join(one.sentences for one in errors)))
        else:
            usable.append(case)
    return usable, failed


def _is_label_alone(case: Case) -> bool:
    return any(one.code == "label_without_image" for one in case.reasons)


def _about_images(case: Case) -> list[Reason]:
    return [one for one in case.reasons if one.code not in _ABOUT_LABELS]


def _warnings(case: Case) -> list[Reason]:
    return [
        one
        for one in _about_images(case)
        if one.severity is Severity.WARNING and one.code not in _SAID_BY_PREPARATION
    ]


def _print_warnings(cases: Sequence[Case]) -> None:
    """Print a line for each kind of warning, with the number of cases and one of them."""
    found: dict[str, dict[str, Reason]] = defaultdict(dict)
    for case in cases:
        for reason in _warnings(case):
            found[reason.code].setdefault(case.id, reason)
    for by_case in found.values():
        case_id, reason = next(iter(by_case.items()))
        count = counted(len(by_case), "cases")
        print(f"Warning, {count}, such as {case_id}: {reason.sentences}", file=sys.stderr)


def _prepared_ahead(
    cases: Sequence[Case], task: Task, options: PreparationOptions
) -> Iterator[tuple[Case, Future[PreparedCase]]]:
    """Yield each case with its preparation; the next one is prepared meanwhile.

    At most one case waits, so that memory does not grow with their number.
    """
    with ThreadPoolExecutor(1) as pool:
        following: Future[PreparedCase] | None = None
        for index, case in enumerate(cases):
            current = following or pool.submit(prepare_case, case, task, options)
            following = None
            if index + 1 < len(cases):
                following = pool.submit(prepare_case, cases[index + 1], task, options)
            yield case, current
