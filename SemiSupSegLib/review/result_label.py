"""The label map of a result as it was predicted, or as a review leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.cases.task import Task, task_from_json
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.review.record import ReviewRecord, hash_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ResultLabel:
    """A label map on the case's original grid, and what it came from."""

    case: str
    values: NDArray[np.uint8] = field(repr=False)
    """Class indices, (D, H, W)."""
    geometry: Geometry
    file: Path
    """The NIfTI file whose header belongs to it."""
    task: Task
    model_sha256: str
    model_name: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each channel."""
    record: ReviewRecord | None = None
    """The review that made it; None: it is as predicted."""


def predicted_label(folder: Path, task: Task | None = None) -> ResultLabel:
    """Return the label map that `predict` wrote.

    Args:
        folder: The result folder, OUT/<case>.
        task: The model's; None: the one that `case.json` holds.

    Raises:
        UsageError: If neither tells the task.
        SemiSupSegError: If the folder is no result, or the label map cannot be read.
    """
    content = read_json(folder / "case.json")
    check_format(content, "case-result", folder / "case.json")
    if task is None and "task" in content:
        task = task_from_json(content["task"], folder / "case.json")
    if task is None:
        raise UsageError(
            f"{folder / 'case.json'} does not tell what its label values mean: it was written by "
            "an older SemiSupSeg. Say the model's task with --task."
        )
    file = folder / f"{content['case']}_label.nii.gz"
    values, geometry = _read(file, task)
    return ResultLabel(
        case=content["case"],
        values=values,
        geometry=geometry,
        file=file,
        task=task,
        model_sha256=content["model_sha256"],
        model_name=content.get("model_name", ""),
        inputs=content["inputs"],
    )


def reviewed_label(record: ReviewRecord) -> ResultLabel:
    """Return the label map that a review leaves.

    Raises:
        SemiSupSegError: As `base_label`, and if a change in the record is damaged.
    """
    base = base_label(record)
    return replace(base, values=record.label(base.values), record=record)


def base_label(record: ReviewRecord) -> ResultLabel:
    """Return the label map that a review began with.

    Raises:
        SemiSupSegError: If the label map that the review began with is missing, was changed since,
            or does not fit the record.
    """
    file = record.label_file
    try:
        is_the_same = hash_of(file) == record.label_sha256
    except OSError as error:
        raise SemiSupSegError(
            f"{file}, with which the review began, cannot be read ({error.strerror}). Restore it "
            "from a backup, or begin the review anew."
        ) from error
    if not is_the_same:
        raise SemiSupSegError(
            f"{file} was changed since the review began, so its decisions do not fit it any more. "
            "Restore it from a backup, or begin the review anew."
        )
    values, geometry = _read(file, record.task)
    return ResultLabel(
        case=record.case,
        values=values,
        geometry=geometry,
        file=file,
        task=record.task,
        model_sha256=record.model_sha256,
        model_name=record.model_name,
        inputs=record.inputs,
    )


def _read(file: Path, task: Task) -> tuple[NDArray[np.uint8], Geometry]:
    import SimpleITK as sitk

    from SemiSupSegLib.cases.geometry import geometry_of
    from SemiSupSegLib.cases.reading import read_label

    image = read_label(ImageSource(path=file), task)
    return sitk.GetArrayFromImage(image), geometry_of(image)
