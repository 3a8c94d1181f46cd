"""`demo`: the whole road, from a folder of cases to pictures and figures, in minutes."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.workers.processes import command_line

HELP = "Show the main job: on made-up brains, or on a folder of your own cases."

SEED = 2026
SETTINGS = {
    # Few updates: the student starts from the teacher, and its moving average is short.
    "student_init": "teacher",
    "ema": "0.98",
    "pseudo_labels.passes": "2",
    "training.prediction_overlap": "0.25",
    "training.validate_every": "120",
}
"""On top of the preset `fast_check`."""


MOST_ROWS = 4
"""Cases in the picture; more are too small to see on a screen."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much the demo does."""

    num_labelled: int
    num_validation: int
    num_unlabelled: int
    num_new: int
    """Cases that nothing was trained or chosen on."""
    iterations: int
    voxels: tuple[int, int, int]


FULL = Size(
    num_labelled=4,
    num_validation=5,
    num_unlabelled=18,
    num_new=6,
    iterations=480,
    voxels=(64, 72, 56),
)
QUICK = Size(
    num_labelled=2,
    num_validation=2,
    num_unlabelled=4,
    num_new=2,
    iterations=40,
    voxels=(40, 44, 36),
)


@dataclass(frozen=True, kw_only=True)
class Material:
    """What the demo works on."""

    training: Path
    """Folder of cases to train on."""
    split: Path | None
    task: str | None
    judged: Path
    """Folder that holds the cases below and their reference labels."""
    judged_ids: tuple[str, ...]
    what: str
    """The judged cases in words."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="FOLDER",
        help="your own cases, some of them labelled (default: made-up brains)",
    )
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="default: %(default)s")
    parser.add_argument("--task", help="with FOLDER: brats, brats_msd, binary or a task file")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N (default: auto)")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--iterations", type=int, help="optimizer updates (default: the demo's)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a minute or two; shows that it runs, not that it works",
    )


def run(arguments: argparse.Namespace) -> int:
    """Make or find cases, train, predict, evaluate, and say where the pictures are."""
    from SemiSupSegLib.files import make_output_folder, write_json

    start = time.perf_counter()
    out: Path = arguments.out
    size = QUICK if arguments.quick else FULL
    make_output_folder(out)
    if arguments.folder is None:
        if arguments.task is not None:
            raise UsageError("--task goes with a FOLDER; the made-up cases have theirs.")
        material = _made_up(out, size, arguments.seed)
    else:
        material = _own(arguments.folder, out, arguments.task, arguments.seed)
    run_folder = out / "run"
    words = ["--cases", str(material.training), "--out", str(run_folder)]
    if material.split is not None:
        words += ["--split", str(material.split)]
    if material.task is not None:
        words += ["--task", material.task]
    iterations = size.iterations if arguments.iterations is None else arguments.iterations
    words += ["--preset", "fast_check", "--iterations", str(iterations)]
    words += ["--seed", str(arguments.seed), "--device", arguments.device]
    words += ["--set", *(f"{key}={value}" for key, value in SETTINGS.items())]
    _call("train", words)
    results = out / "results"
    _predict(material, run_folder, results, arguments.device)
    evaluation = out / "evaluation.json"
    words = ["--predictions", str(results), "--cases", str(material.judged)]
    words += ["--network", "teacher", "--json", str(evaluation)]
    _call("evaluate", [*words, *([] if material.task is None else ["--task", material.task])])
    summary = _summary(evaluation)
    picture = out / "overview.png"
    _draw(material, results, summary, picture)
    summary["seconds"] = round(time.perf_counter() - start, 1)
    summary["files"] = {
        "picture": picture.name,
        "report": "run/report.html",
        "results": "results",
        "evaluation": evaluation.name,
    }
    write_json(out / "summary.json", summary)
    print("\n".join(["", *_closing_lines(summary, material, out)]))
    return 0


def goes_on(arguments: argparse.Namespace) -> str:
    """Return how an interrupted demo goes on."""
    again = command_line(sys.executable, arguments.words)
    return f"Nothing that was learnt is lost. To go on: {again}"


def _made_up(out: Path, size: Size, seed: int) -> Material:
    from SemiSupSegLib.cases.split import Split, write_split
    from SemiSupSegLib.phantom.cohort import write_cohort

    with_label = size.num_labelled + size.num_validation
    num_cases = with_label + size.num_unlabelled
    print(
        f"Making up {num_cases + size.num_new} brains with tumours: {size.num_labelled} labelled "
        f"and {size.num_unlabelled} unlabelled ones to train on, {size.num_validation} for "
        f"validation, {size.num_new} new ones to judge the result by.",
        flush=True,
    )
    known = write_cohort(out / "cohort", num_cases, with_label, seed, size.voxels)
    new = write_cohort(out / "new", size.num_new, 0, seed, size.voxels, first=num_cases)
    split = out / "split.json"
    write_split(
        split,
        Split(
            train_labelled=known.labelled[: size.num_labelled],
            train_unlabelled=known.unlabelled,
            validation=known.labelled[size.num_labelled :],
        ),
    )
    return Material(
        training=known.cases,
        split=split,
        task="brats",
        judged=out / "new",
        judged_ids=new.unlabelled,
        what=f"{size.num_new} new made-up cases",
    )


def _own(folder: Path, out: Path, task: str | None, seed: int) -> Material:
    """Divide the user's cases; the validation cases are also those that are shown."""
    from SemiSupSegLib.cases.discovery import discover
    from SemiSupSegLib.cases.split import default_split, left_out, write_split
    from SemiSupSegLib.cases.task import load_task

    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder. Check the path.")
    # Checked as `train` does, which refuses a split that names an unusable case.
    scan = discover(folder, None if task is None else load_task(task))
    split = default_split(scan.cases, seed)
    if not split.train_labelled or not split.validation:
        raise SemiSupSegError(
            f"Of the labelled cases in {folder}, {len(split.train_labelled)} can be trained on and "
            f"{len(split.validation)} judged by; one of each is needed, of different patients. "
            f"'scan {folder}' tells what is there."
        )
    file = out / "split.json"
    write_split(file, split)
    print(
        f"{folder}: {len(split.train_labelled)} labelled and "
        f"{counted(len(split.train_unlabelled), 'unlabelled cases')} to train on, "
        f"{len(split.validation)} for validation (also shown).",
        left_out(split, scan.cases),
        flush=True,
    )
    return Material(
        training=folder,
        split=file,
        task=task,
        judged=folder,
        judged_ids=split.validation,
        what=counted(len(split.validation), "validation cases"),
    )


def _call(command: str, words: list[str]) -> None:
    """Run another command in this process, after showing it."""
    print(f"\n> {command} {shlex.join(words)}", flush=True)
    module = importlib.import_module(f"SemiSupSegLib.commands.{command}")
    parser = argparse.ArgumentParser(prog=command)
    module.add_arguments(parser)
    arguments = parser.parse_args(words)
    arguments.words = [command, *words]
    code: int = module.run(arguments)
    if code != 0:
        raise SemiSupSegError(f"The demo ends here: '{command}' failed; see above.")


def _predict(material: Material, model: Path, results: Path, device: str) -> None:
    """Predict the judged cases only; a user's folder may hold thousands of others."""
    from SemiSupSegLib.cases.discovery import discover
    from SemiSupSegLib.inference.predictor import Predictor
    from SemiSupSegLib.inference.writing import write_result
    from SemiSupSegLib.models.package import read_package
    from SemiSupSegLib.options import from_json
    from SemiSupSegLib.preparation.options import PreparationOptions
    from SemiSupSegLib.preparation.prepare import prepare_case
    from SemiSupSegLib.training.devices import choose_device

    print(f"\nPredicting {material.what}", flush=True)
    package = read_package(model)
    options = from_json(PreparationOptions, package.manifest["preparation"])
    predictor = Predictor(package, device=choose_device(device))
    scan = discover(material.judged, package.task, check_content=False, label_ids=())
    results.mkdir(parents=True, exist_ok=True)
    for case in scan.cases:
        if case.id not in material.judged_ids:
            continue
        prepared = prepare_case(case, package.task, options)
        folder = write_result(
            results,
            case.id,
            predictor.predict(prepared, maps="all"),
            package.task,
            original=prepared.original,
            like=prepared.reference,
            model_sha256=package.sha256,
            model_name=package.name,
            inputs=case.channels,
            warnings=prepared.warnings,
        )
        print(f"  {case.id}: {folder}", flush=True)


def _summary(evaluation: Path) -> dict[str, Any]:
    """Return what the last lines tell, from the figures that `evaluate` wrote."""
    from SemiSupSegLib.files import read_json

    content = read_json(evaluation)
    summary: dict[str, Any] = {
        "task": content["task"],
        "num_cases": content["num_cases"],
        "dice": {"student": _dice(content)},
        "mean_dice": {"student": content["headline"]["dice"]["mean"]},
        "mean_over": content["headline"]["targets"],
        "case_dice": {"student": _case_dice(content)},
    }
    teacher = content.get("teacher")
    if teacher is not None:
        summary["dice"]["teacher"] = _dice(teacher)
        summary["mean_dice"]["teacher"] = teacher["headline"]["dice"]["mean"]
        summary["case_dice"]["teacher"] = _case_dice(teacher)
        summary["gain"] = content["gain"]["headline"]["sentence"]
    return summary


def _dice(content: Mapping[str, Any]) -> dict[str, float]:
    return {name: one["dice"]["mean"] for name, one in content["summary"].items()}


def _case_dice(content: Mapping[str, Any]) -> dict[str, float]:
    targets = content["headline"]["targets"]
    return {
        case: sum(figures[name]["dice"] for name in targets) / len(targets)
        for case, figures in content.get("cases", {}).items()
    }


def _draw(material: Material, results: Path, summary: Mapping[str, Any], picture: Path) -> None:
    from SemiSupSegLib.cases.discovery import discover
    from SemiSupSegLib.cases.task import load_task
    from SemiSupSegLib.report.overview import overview_row, write_overview

    task = None if material.task is None else load_task(material.task)
    scan = discover(material.judged, task, check_content=False, label_ids=material.judged_ids)
    rows = [
        overview_row(case, results / case.id, scan.task, _row_title(case.id, summary))
        for case in scan.cases
        if (results / case.id / "case.json").is_file()
    ]
    write_overview(picture, rows[:MOST_ROWS], scan.task)


def _row_title(case: str, summary: Mapping[str, Any]) -> str:
    told = [
        f"{network} {values[case]:.2f}"
        for network, values in summary["case_dice"].items()
        if case in values
    ]
    return f"{case}\nDice: {', '.join(told)}" if told else case


def _closing_lines(summary: Mapping[str, Any], material: Material, out: Path) -> list[str]:
    targets = list(summary["dice"]["student"])
    lines = [f"Dice with the truth, mean of {material.what}:"]
    lines.append(" " * 10 + "".join(f"{name:>12}" for name in [*targets, "mean"]))
    for network in ("teacher", "student"):
        if network in summary["dice"]:
            values = [summary["dice"][network][name] for name in targets]
            cells = "".join(f"{value:12.3f}" for value in [*values, summary["mean_dice"][network]])
            lines.append(f"{network:<10}{cells}")
    lines.append(f"(mean: of {', '.join(summary['mean_over'])})")
    if "gain" in summary:
        lines.append(summary["gain"])
    return [
        *lines,
        "",
        f"Took {summary['seconds'] / 60:.1f} minutes.",
        f"Pictures: {out / 'overview.png'}",
        f"Report:   {out / 'run' / 'report.html'}",
        f"Results:  {out / 'results'}",
    ]
