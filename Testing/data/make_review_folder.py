"""A small folder of results to review: label maps, maps of doubt, regions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.cases.task import Task, load_task
from SemiSupSegLib.review.record import ReviewRecord
from Testing.data.plain_nifti import write_plain_nifti

SHAPE = (6, 10, 8)
MODEL = "ab" * 32
STEPS = 200
"""Of a map from 0 to 1, as it is stored."""
_TURN = math.radians(25)
GRID = Geometry(
    size=(8, 10, 6),
    spacing=(0.75, 1.25, 3.5),
    origin=(-31.5, 22.25, 40.0),
    direction=(
        *(math.cos(_TURN), -math.sin(_TURN), 0.0),
        *(math.sin(_TURN), math.cos(_TURN), 0.0),
        *(0.0, 0.0, 1.0),
    ),
)
"""Three different sizes and spacings, oblique."""
VOXEL_MM3 = 0.75 * 1.25 * 3.5
BOXES = (
    ((1, 3), (2, 5), (1, 4)),
    ((3, 5), (6, 9), (4, 7)),
    ((0, 1), (0, 2), (0, 2)),
)
"""Where the regions 1, 2, 3 lie: of necrosis, edema and background."""
ERRORS = (40.0, 25.0, 5.0)
"""Their expected errors, mm³."""


def the_task() -> Task:
    """Return the task of every case here: BraTS, whose third class is written as 4."""
    return load_task("brats")


def the_label() -> np.ndarray:
    """Return class indices: two blocks that the first two regions lie in, and an enhancing row."""
    label = np.zeros(SHAPE, np.uint8)
    label[1:4, 2:6, 1:5] = 1
    label[3:6, 6:9, 4:8] = 2
    label[5, 0, :] = 3
    return label


def _ras(voxel: Sequence[int]) -> list[float]:
    """Return where a voxel's centre lies, in RAS, mm."""
    left, posterior, superior, _one = GRID.index_to_lps() @ [*reversed(voxel), 1]
    return [-float(left), -float(posterior), float(superior)]


def the_regions() -> list[dict[str, object]]:
    """Return the regions as they stand in `case.json`."""
    classes = (("necrosis", "edema"), ("edema", "background"), ("background", "edema"))
    return [
        {
            "id": number,
            "class": first,
            "second_class": second,
            "box": [list(ends) for ends in box],
            "peak_ras": _ras([start for start, _stop in box]),
            "peak_voxel": [ends[0] for ends in box],
            "volume_mm3": math.prod(stop - start for start, stop in box) * VOXEL_MM3,
            "expected_error_mm3": error,
            "mean_doubt": 0.5,
            "peak_doubt": 0.9,
            "agreement": 0.25,
            "reason": f"The teacher says {second}, the student {first}.",
        }
        for number, ((first, second), box, error) in enumerate(
            zip(classes, BOXES, ERRORS, strict=True), start=1
        )
    ]


def the_region_map() -> np.ndarray:
    """Return the regions' ids."""
    found = np.zeros(SHAPE, np.uint16)
    for number, box in enumerate(BOXES, start=1):
        found[tuple(slice(*ends) for ends in box)] = number
    return found


def the_confidence() -> np.ndarray:
    """Return 0.95 in the first three slices and 0.5 in the others."""
    found = np.full(SHAPE, 0.5, np.float32)
    found[:3] = 0.95
    return found


def make_result(
    out: Path,
    case: str = "p1",
    *,
    label: np.ndarray | None = None,
    inputs: dict[str, str] | None = None,
    regions: Sequence[dict[str, object]] | None = None,
    scale: float = 1.0,
) -> Path:
    """Write OUT/<case> as `predict` does, and return it.

    Args:
        out: The folder of results.
        case: Its id.
        label: Class indices instead of `the_label`.
        inputs: SHA-256 of the channels.
        regions: Instead of `the_regions`.
        scale: Of the expected errors.
    """
    folder = out / case
    folder.mkdir(parents=True, exist_ok=True)
    listed = [
        {**one, "expected_error_mm3": one["expected_error_mm3"] * scale}
        for one in (the_regions() if regions is None else regions)
    ]
    values = np.asarray(the_task().written_values, np.uint8)
    write_plain_nifti(
        folder / f"{case}_label.nii.gz", values[the_label() if label is None else label], GRID
    )
    write_plain_nifti(folder / f"{case}_regions.nii.gz", the_region_map(), GRID)
    steps = np.rint(the_confidence() * STEPS).astype(np.uint8)
    write_plain_nifti(folder / f"{case}_confidence.nii.gz", steps, GRID, slope=1 / STEPS)
    content = {
        "format": "semisupseg-case-result",
        "version": 1,
        "case": case,
        "model_sha256": MODEL,
        "model_name": "a model",
        "inputs": {"t1": "cd" * 32} if inputs is None else inputs,
        "volumes_ml": {},
        "warnings": [],
        "review_regions": listed,
        "review": {"expected_error_mm3": 80.0 * scale, "thresholds": {}, "fitted": False},
    }
    (folder / "case.json").write_text(json.dumps(content))
    return folder


def begin(folder: Path, reviewer: str = "ann", *, anew: bool = False) -> ReviewRecord:
    """Begin a review of a result."""
    content = json.loads((folder / "case.json").read_text())
    start = ReviewRecord.begin_anew if anew else ReviewRecord.begin
    return start(
        folder,
        reviewer,
        case=content["case"],
        task=the_task(),
        shape=SHAPE,
        label_file=folder / f"{content['case']}_label.nii.gz",
        regions=content["review_regions"],
        regions_file=folder / f"{content['case']}_regions.nii.gz",
        model_sha256=content["model_sha256"],
        model_name="a model",
        inputs=content["inputs"],
        review=content["review"],
    )
