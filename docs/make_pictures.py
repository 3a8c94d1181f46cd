"""Make the pictures of docs/pictures from a finished demo.

    python docs/make_pictures.py out/demo

No picture in README and docs is drawn by hand; the demo's seed is fixed, so they can be made again.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.cases.discovery import discover  # noqa: E402 (after the path is set)
from SemiSupSegLib.cases.task import Task, task_from_json  # noqa: E402
from SemiSupSegLib.files import read_json  # noqa: E402
from SemiSupSegLib.options import from_json  # noqa: E402
from SemiSupSegLib.preparation.options import PreparationOptions  # noqa: E402
from SemiSupSegLib.preparation.prepare import prepare_case  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"


def main() -> None:
    """Write docs/pictures/demo.png and docs/pictures/curriculum.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder that 'demo' wrote to")
    demo: Path = parser.parse_args().demo
    PICTURES.mkdir(exist_ok=True)
    shutil.copyfile(demo / "overview.png", PICTURES / "demo.png")
    draw_curriculum(demo / "run", demo / "cohort" / "cases", PICTURES / "curriculum.png")


def draw_curriculum(run: Path, cases: Path, picture: Path) -> None:
    """Draw ranked cases with pseudo-labels and weights, and how the student grows past the teacher.

    Args:
        run: The run folder.
        cases: Folder of its cases.
        picture: Written.
    """
    content = read_json(run / "run.json")
    task = task_from_json(content["task"])
    options = from_json(PreparationOptions, content["config"]["preparation"])
    ranking = read_ranking(run)
    chosen = [ranking[0], ranking[len(ranking) // 2], ranking[-1]]
    scan = discover(cases, task, check_content=False, label_ids=())
    by_id = {case.id: case for case in scan.cases}
    figure = Figure(figsize=(10.5, 6.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    grid = left.subplots(3, 3)
    for axes_row, (case_id, rank, confidence) in zip(grid, chosen, strict=True):
        prepared = prepare_case(by_id[case_id], task, options)
        image = np.asarray(prepared.image()[-1], np.float32)
        mask = np.asarray(prepared.mask()) > 0
        shown = np.load(run / "stages" / f"{last_stage(run):02d}" / "shown" / f"{case_id}.npz")
        coded = np.stack([shown["pseudo_label"], shown["weight"]])
        index = int((coded[0] > 0).sum(axis=(1, 2)).argmax())
        show_case(axes_row, image[index], mask[index], coded[:, index], task)
        axes_row[0].set_ylabel(f"rank {rank} of {len(ranking)}\nconfidence {confidence:.2f}")
    for axes, title in zip(
        grid[0], ("Image, no label", "Pseudo-label", "Weight in the loss"), strict=True
    ):
        axes.set_title(title, fontsize=10)
    left.legend(
        handles=[Patch(color=f"#{bytes(one.color).hex()}", label=one.name) for one in task.classes],
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    upper, lower = right.subplots(2, 1, height_ratios=(1, 1.6))
    draw_stages(upper, run)
    draw_dice(lower, run)
    figure.savefig(picture, dpi=90)


def read_ranking(run: Path) -> list[tuple[str, int, float]]:
    """Return case, rank and image confidence, the most trusted case first."""
    with (run / "stages" / "01" / "ranking.csv").open(encoding="utf-8") as stream:
        return [
            (row["case"], int(row["rank"]), float(row["image_confidence"]))
            for row in csv.DictReader(stream)
        ]


def last_stage(run: Path) -> int:
    """Return the number of the last stage."""
    return max(int(folder.name) for folder in (run / "stages").iterdir() if folder.name.isdigit())


def show_case(
    axes_row: Any,
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    coded: NDArray[np.uint8],
    task: Task,
) -> None:
    """Draw one slice: image, image with pseudo-label, weight."""
    low, high = np.percentile(image[mask], [1, 99.5])
    gray = np.clip((image - low) / (high - low), 0, 1) * mask
    picture = np.repeat(gray[..., None], 3, axis=-1)
    for number, one in enumerate(task.classes, start=1):
        own = coded[0] == number
        picture[own] = 0.5 * picture[own] + 0.5 * np.array(one.color) / 255
    axes_row[0].imshow(gray, cmap="gray")
    axes_row[1].imshow(picture)
    weight = np.where(mask, coded[1] / 255, np.nan)
    shown = axes_row[2].imshow(weight, cmap="cividis", vmin=0, vmax=1)
    axes_row[2].figure.colorbar(shown, ax=axes_row[2], shrink=0.8)
    for axes in axes_row:
        axes.set_xticks([])
        axes.set_yticks([])


def draw_stages(axes: Any, run: Path) -> None:
    """Draw how many cases each stage uses."""
    counts = [
        read_json(run / "stages" / f"{stage:02d}" / "summary.json")["num_cases"]
        for stage in range(1, last_stage(run) + 1)
    ]
    bars = axes.bar(range(1, len(counts) + 1), counts, color="#56789a")
    axes.bar_label(bars)
    axes.set(xlabel="stage", ylabel="pseudo-labelled cases", ylim=(0, 1.2 * max(counts)))
    axes.spines[["top", "right"]].set_visible(False)


def draw_dice(axes: Any, run: Path) -> None:
    """Draw the Dice on the validation cases after each stage, the teacher's as a line."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    with (run / "metrics.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["kind"] == "validation" and row["name"] == "dice.mean":
                values[row["network"]][row["phase"]] = float(row["value"])
    stages = range(1, last_stage(run) + 1)
    axes.axhline(values["teacher"]["teacher"], color="#c05020", linestyle="--", label="teacher")
    axes.plot(stages, [values["student"][f"stage_{n}"] for n in stages], "o-", label="student")
    axes.set(xlabel="after stage", ylabel="mean Dice on validation")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
