"""`stage`: the pseudo-labelled cases that a stage of a run learns from, to be looked at."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.commands.json_answer import add_json, write_answer
from SemiSupSegLib.errors import SemiSupSegError, UsageError

if TYPE_CHECKING:
    from SemiSupSegLib.runs.run_folder import RunFolder
    from SemiSupSegLib.runs.stages import ShownCase, ShownStage

HELP = (
    "Show what the stages of a run learn from: of each, the most, the median and the least "
    "confident pseudo-labelled case; while the run goes on, too."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--stage", type=int, metavar="N", help="1, 2, ... (default: list all, write of the newest)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--case", metavar="ID", help="write this case of the stage as a result")
    which.add_argument("--all", action="store_true", help="write all shown cases of the stage")
    which.add_argument(
        "--exclude",
        nargs="+",
        metavar="ID",
        help="leave these cases out from the next stage on",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the results: OUT/<case>/ with the maps of `predict --maps all`, the "
        "pseudo-label that the stage learns from, and trust, the weight of each voxel there",
    )
    parser.add_argument(
        "--cases", type=Path, metavar="FOLDER", help="the run's folder of cases, if it was moved"
    )
    parser.add_argument(
        "--passes",
        type=int,
        metavar="K",
        help="stochastic passes for the uncertainty (default: 1 if the student predicts its own)",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        help="auto, cpu or cuda:N (default: %(default)s, which leaves the GPU to the training)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="T",
        help="of the CPU (default: a quarter of its cores, 1 at least)",
    )
    add_json(parser, "the list")


def run(arguments: argparse.Namespace) -> int:
    """List, write or exclude cases."""
    from SemiSupSegLib.runs.run_folder import RunFolder
    from SemiSupSegLib.runs.stages import shown_stages

    folder = RunFolder(arguments.folder)
    content = folder.read_config()
    if arguments.exclude is not None:
        _exclude(folder, arguments.exclude, content)
        return 0
    stages = shown_stages(folder)
    chosen = _chosen(arguments, stages)
    is_told = write_answer(arguments.json, [one.to_json() for one in chosen])
    if arguments.case is None and not arguments.all:
        if not is_told:
            lines = _report(chosen, content["options"])
            print("\n".join(lines) if chosen else _none(arguments.folder))
        return 0
    if arguments.out is None:
        raise UsageError("Say where the results go with --out.")
    if not chosen:
        raise SemiSupSegError(_none(arguments.folder))
    for line in _written(arguments, folder, chosen[-1]):
        if not is_told:
            print(line, flush=True)
    return 0


def _chosen(arguments: argparse.Namespace, stages: Sequence[ShownStage]) -> Sequence[ShownStage]:
    if arguments.stage is None:
        return stages
    found = [one for one in stages if one.stage == arguments.stage]
    if not found:
        there = ", ".join(str(one.stage) for one in stages) or "none"
        raise UsageError(
            f"{arguments.folder} has no pseudo-labels of stage {arguments.stage} (so far there "
            f"are those of: {there}). Choose one of these, or wait until it begins."
        )
    return found


def _none(folder: Path) -> str:
    return (
        f"{folder} has no pseudo-labels yet: they are made when its first stage begins. A run "
        "without unlabelled cases, or of a method without stages, never has any."
    )


def _written(arguments: argparse.Namespace, folder: RunFolder, stage: ShownStage) -> Iterator[str]:
    """Write the cases that are wanted, and tell of each."""
    cases = [one for one in stage.cases if arguments.all or one.case == arguments.case]
    if not cases:
        names = ", ".join(one.case for one in stage.cases)
        raise UsageError(
            f"{arguments.case} is not kept of stage {stage.stage}, only {names} are. Choose one "
            "of them."
        )
    if arguments.passes is not None and arguments.passes < 1:
        raise UsageError(f"--passes is {arguments.passes}, must be at least 1.")
    threads = max(1, (os.cpu_count() or 1) // 4) if arguments.threads is None else arguments.threads
    if threads < 1:
        raise UsageError(f"--threads is {threads}, must be at least 1.")
    if arguments.out.resolve().is_relative_to(folder.path.resolve()):
        raise UsageError(
            f"{arguments.out} lies in the run folder, which only the run writes to. Choose another "
            "folder for --out."
        )
    import torch

    from SemiSupSegLib.files import make_output_folder
    from SemiSupSegLib.training.devices import choose_device
    from SemiSupSegLib.training.stage_case import StageCases

    make_output_folder(arguments.out)
    torch.set_num_threads(threads)
    device = choose_device(arguments.device)
    writer = StageCases(folder, cases=arguments.cases, device=device, passes=arguments.passes)
    for one in cases:
        yield f"{_words(one)}: {writer.write(stage.stage, one, arguments.out)}"


def _exclude(folder: RunFolder, cases: Sequence[str], content: Mapping[str, Any]) -> None:
    from SemiSupSegLib.runs.control import Control
    from SemiSupSegLib.runs.state import RunState, RunStatus

    known = {*content["split"]["train_unlabelled"], *content.get("partial", ())}
    unknown = sorted(set(cases) - known)
    if unknown:
        raise UsageError(
            f"{folder.path} pseudo-labels no case {', '.join(unknown)}. Its cases are in run.json, "
            "under split: train_unlabelled."
        )
    if RunState.read(folder.state_json).status is RunStatus.FINISHED:
        raise UsageError(
            f"{folder.path} is finished: no stage follows. Train a new run without these cases."
        )
    control = Control(folder.control)
    control.exclude(cases)
    print(
        f"Left out from the next stage on, if there is one: {', '.join(sorted(control.excluded()))}"
    )


def _report(stages: Sequence[ShownStage], options: Mapping[str, Any]) -> list[str]:
    from SemiSupSegLib.runs.stages import why_none_trusted

    lines = []
    for stage in stages:
        share = "" if stage.trusted is None else f": {stage.trusted:.1%} of its voxels trusted"
        lines.append(f"Stage {stage.stage}{share}")
        if stage.trusted is not None:
            why = why_none_trusted(stage.stage, stage.trusted, options)
            lines += [f"  {why}"] if why else []
        lines += [f"  {_words(one)}" for one in stage.cases]
    return lines


def _words(case: ShownCase) -> str:
    accepted = "-" if case.accepted_share is None else f"{case.accepted_share:.1%}"
    rank = case.rank if case.rank == "median" else f"{case.rank} confident"
    return (
        f"{case.case} ({rank}; image confidence {case.image_confidence:.3f}, accepted voxels "
        f"{accepted})"
    )
