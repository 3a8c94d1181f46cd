"""Opening a result for review: its maps and images uncompressed, and the reviewer's record begun.

The window reads what this writes into a job folder, as it reads what the predict worker hands over.

result.json      the maps, as of a predict job
review.json      who reviews which folder, and the images
maps/*.npy       label (as the review leaves it so far), regions, and the other maps
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.task import Task, task_from_json
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.review.outbox import carry, carry_all, copy_to_outbox, forget_old
from SemiSupSegLib.review.record import ReviewRecord, has_review
from SemiSupSegLib.review.result_label import reviewed_label
from SemiSupSegLib.review.results import (
    find_again,
    mend_regions,
    read_regions,
    refuse_other_folder,
    replace_regions,
)
from SemiSupSegLib.workers.job import JobFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REVIEW_JSON = "review.json"
_SCALARS = ("uncertainty", "confidence", "agreement", "trust")
_BITS = ("sure", "possible", "comparison")


def open_review(
    folder: Path,
    reviewer: str,
    job: JobFolder,
    *,
    sensitivity: float | None = None,
    is_anew: bool = False,
    has_scene: bool = False,
) -> None:
    """Begin a review of a result, or go on with it, and hand over what the window needs.

    Args:
        folder: OUT/<case>.
        reviewer: Alias.
        job: Gets `result.json`, `review.json` and the maps.
        sensitivity: Position of the slider; other regions are listed than so far only as long as
            nothing is decided. None: as they are.
        is_anew: Move the reviewer's former review aside, and begin.
        has_scene: Whether images and maps of doubt are in the scene already.

    Raises:
        UsageError: If other regions are asked for although some are decided.
        SemiSupSegError: If the folder holds no result, or a file is missing or damaged.
    """
    import numpy as np

    refuse_other_folder(folder)
    content = read_json(folder / "case.json")
    if "task" not in content:
        raise SemiSupSegError(
            f"{folder} is no result of a case that can be reviewed. Predict the case again."
        )
    confidence = folder / f"{content['case']}_confidence.nii.gz"
    if not confidence.is_file():
        raise SemiSupSegError(
            f"{confidence} is missing, without which nothing is known of doubt. Restore it, or "
            "predict the case again."
        )
    # What was decided here and is not there yet belongs to what is opened.
    aside = [one.target.name for one in carry_all(folder) if one.is_aside]
    record = _record(folder, reviewer, content, sensitivity, is_anew)
    box = copy_to_outbox(record)
    if box.is_waiting:
        # An older copy of the folder: the window would list decisions that the label map lacks.
        carry(box)
        record = ReviewRecord.open(folder, reviewer)
    forget_old()
    label = reviewed_label(record)
    job.maps.mkdir(parents=True, exist_ok=True)
    maps = {"label": label.values, "regions": _values(record.regions_file)}
    if not has_scene:
        maps |= _maps(folder, str(content["case"]), record.task)
    images = {} if has_scene else _images(folder, content)
    missing = [] if has_scene else [name for name in content["inputs"] if name not in images]
    written = {}
    for name, values in maps.items():
        if values.shape != label.values.shape:
            raise SemiSupSegError(
                f"The map {name} in {folder} lies on another grid than the label map. Predict the "
                "case again."
            )
        np.save(job.maps / f"{name}.npy", np.ascontiguousarray(values))
        written[name] = f"maps/{name}.npy"
    for channel, (values, _) in images.items():
        np.save(job.maps / f"image_{channel}.npy", np.ascontiguousarray(values))
    write_json(
        job.path / REVIEW_JSON,
        {
            "format": "semisupseg-review-opened",
            "version": 1,
            "folder": str(folder.absolute()),
            "reviewer": reviewer,
            "outbox": str(box.path),
            "aside": aside,
            "task": record.task.to_json(),
            "images": {
                channel: {"file": f"maps/image_{channel}.npy", "grid": grid}
                for channel, (_, grid) in images.items()
            },
            "missing_images": missing,
            "inputs_sha256": _hash_of_all(content["inputs"]),
            "is_of_other_result": record.is_of_other_result,
            # Of the review: another reviewer may have listed other regions since.
            "sensitivity": record.sensitivity,
        },
    )
    write_json(
        job.result_json,
        {
            "format": "semisupseg-job-result",
            "version": 1,
            "case": content["case"],
            "model": {"name": record.model_name, "sha256": record.model_sha256},
            "grid": label.geometry.to_json(),
            "maps": written,
            "volumes_ml": content["volumes_ml"],
            "confidence": content.get("confidence", {}),
            "teacher_student_dice": content.get("teacher_student_dice", {}),
            "estimated_dice": content.get("estimated_dice", {}),
            "review_regions": [one.to_json() for one in record.regions],
            "warnings": content["warnings"],
        },
    )


def _record(
    folder: Path,
    reviewer: str,
    content: Mapping[str, Any],
    sensitivity: float | None,
    is_anew: bool,
) -> ReviewRecord:
    is_begun = has_review(folder, reviewer)
    if is_begun and not is_anew:
        record = ReviewRecord.open(folder, reviewer)
        if sensitivity is None:
            return record
        if record.undoable is not None:
            raise UsageError(
                f"{reviewer} has decided something about {record.case} already. Begin the review "
                "anew to list other regions."
            )
    if sensitivity is not None:
        found, listed = find_again(folder, sensitivity)
        replace_regions(folder, found, listed)
    else:
        mend_regions(folder)
    content = read_json(folder / "case.json")
    case = str(content["case"])
    from SemiSupSegLib.cases.geometry import geometry_of
    from SemiSupSegLib.cases.reading import read_label

    # All of both is read: a review would keep its copies of a damaged file for good.
    regions_file = folder / f"{case}_regions.nii.gz"
    regions = _values(regions_file)
    label_file = folder / f"{case}_label.nii.gz"
    task = task_from_json(content["task"], folder / "case.json")
    shape = geometry_of(read_label(ImageSource(path=label_file), task)).shape
    if regions.shape != shape:
        raise SemiSupSegError(
            f"{regions_file} lies on another grid than the label map. Predict the case again."
        )
    return ReviewRecord.begin_anew(
        folder,
        reviewer,
        case=case,
        task=task,
        shape=shape,
        label_file=label_file,
        regions=read_regions(folder).regions,
        regions_file=regions_file,
        model_sha256=content["model_sha256"],
        model_name=content.get("model_name", ""),
        inputs=content["inputs"],
        review=content["review"],
    )


def _maps(folder: Path, case: str, task: Task) -> dict[str, NDArray[Any]]:
    """Return the maps that are there: class indices, bits, values 0-1."""
    import numpy as np
    import SimpleITK as sitk

    from SemiSupSegLib.cases.reading import read_label
    from SemiSupSegLib.workers.serve import STEPS, distance_mm

    found: dict[str, NDArray[Any]] = {}
    teacher = folder / f"{case}_pseudolabel.nii.gz"
    if teacher.is_file():
        found["pseudo_label"] = sitk.GetArrayFromImage(read_label(ImageSource(path=teacher), task))
    for name in _SCALARS:
        file = folder / f"{case}_{name}.nii.gz"
        if file.is_file():
            found[name] = (np.rint(_values(file) * STEPS) / STEPS).astype(np.float32)
    for name in _BITS:
        file = folder / f"{case}_{name}.nii.gz"
        if file.is_file():
            # NIfTI keeps them as it likes; they are whole numbers.
            values = _values(file)
            found[name] = values.astype(np.uint8 if values.max(initial=0) < 256 else np.int32)
    predicted = read_label(ImageSource(path=folder / f"{case}_label.nii.gz"), task)
    values = sitk.GetArrayViewFromImage(predicted)
    x, y, z = predicted.GetSpacing()
    found["distance"] = distance_mm(values, (x, y, z))
    return found


def _images(
    folder: Path, content: Mapping[str, Any]
) -> dict[str, tuple[NDArray[Any], dict[str, Any]]]:
    """Return voxels and grid of the channels that are where they were when they were predicted."""
    import SimpleITK as sitk

    from SemiSupSegLib.cases.geometry import geometry_of
    from SemiSupSegLib.cases.reading import content_hash, read_image

    found = {}
    for channel, told in content.get("images", {}).items():
        source = ImageSource(
            # Not resolved: a link in between would lead elsewhere.
            path=Path(os.path.normpath(folder.absolute() / told["path"])),
            component=told.get("component"),
            series=told.get("series"),
        )
        # Another image at the same place would mislead.
        if source.path.exists() and content_hash(source) == content["inputs"].get(channel):
            image = read_image(source)
            found[channel] = (
                sitk.GetArrayFromImage(image),
                geometry_of(image).to_json(),
            )
    return found


def _hash_of_all(inputs: Mapping[str, str]) -> str:
    """Return one hash of all images that a case was predicted from.

    Case ids are not enough to know a case by: two folders of results may both have a p1.
    """
    lines = "".join(f"{name} {sha256}\n" for name, sha256 in sorted(inputs.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _values(file: Path) -> NDArray[np.generic]:
    import SimpleITK as sitk

    from SemiSupSegLib.cases.reading import read_image

    if not file.is_file():
        raise SemiSupSegError(f"{file} is missing. Predict the case again, or begin anew.")
    values: NDArray[np.generic] = sitk.GetArrayFromImage(read_image(ImageSource(path=file)))
    return values
