"""Saving what a review leaves as a label to train on, with its provenance."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib import __version__
from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.cases.reviewed_label import PROVENANCE_FORMAT
from SemiSupSegLib.cases.reviews import label_stems, provenance_file, reviewed_labels
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import write_json
from SemiSupSegLib.review.change import slices_of
from SemiSupSegLib.review.record import STATUSES, ReviewRecord, hash_of
from SemiSupSegLib.review.result_label import ResultLabel, reviewed_label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_CONFIDENCE = 0.9
"""Voxels of at least this confidence count in a partial label, reviewed or not."""
UNKNOWN_VALUE = 255
"""Written where a partial label does not tell; another one if the task gives this a meaning."""
_ROUNDING = 1e-4
"""Confidence is stored in steps of 1/200, as a product of rounded numbers."""
_SAYS_WHAT_IT_IS = ("confirmed", "fixed", "relabelled")


def save_training_label(
    record: ReviewRecord, *, partial: bool = False, min_confidence: float = MIN_CONFIDENCE
) -> Path:
    """Write the review's label map beside the result, and return the new file.

    It is `<case>_reviewed.nii.gz`, or the next free `<case>_reviewed-<n>.nii.gz`: no file is ever
    replaced. Grid, header and label values are those of the result; provenance stands in the file
    `.json` of the same name.

    Args:
        record: The review.
        partial: Whether only those voxels count that lie in a region confirmed, fixed or
            relabelled, that were drawn, or, outside of all listed regions, that the model is
            confident of. All others are written as unknown.
        min_confidence: What confident means, 0-1. If the case was predicted anew since, its
            confidence is of another label map and no voxel counts for it.

    Raises:
        UsageError: If nothing was reviewed, the case was rejected, `min_confidence` is no
            fraction, or a partial label would say nothing.
        SemiSupSegError: If a file cannot be read or written.
    """
    import numpy as np

    if not 0 <= min_confidence <= 1:
        raise UsageError(f"The confidence is {min_confidence}, must be from 0 to 1.")
    if record.verdict == "rejected":
        raise UsageError(
            f"{record.case} was rejected by {record.reviewer}, so its label map is not saved for "
            "training. Correct it and change the verdict first."
        )
    if record.undoable is None:
        raise UsageError(
            f"Nothing of {record.case} was reviewed by {record.reviewer}: no region is decided, "
            "nothing drawn, no verdict given. Review it first."
        )
    label = reviewed_label(record)
    written = np.asarray(label.task.written_values)
    known: NDArray[np.bool_] | None = None
    uses_confidence = partial and not record.is_of_other_result
    if partial:
        known = _known_voxels(label, record, min_confidence if uses_confidence else None)
        if not known.any():
            raise UsageError(
                f"Nothing of {record.case} is decided yet, so a partial label would say nothing. "
                "Decide a region first."
            )
    unknown = _unknown_value(label.task)
    values = written[label.values]
    if known is not None:
        values[~known] = unknown
    values = values.astype(np.uint8 if values.max() < 256 else np.uint16)
    provenance = _provenance(record, label, min_confidence if uses_confidence else None)
    provenance |= {
        "partial": partial,
        "unknown_value": unknown if partial else None,
        "share_known": 1.0 if known is None else round(float(known.mean()), 6),
    }
    try:
        return _write(record, label, values, provenance)
    except OSError as error:
        raise SemiSupSegError(
            f"The label cannot be saved in {record.folder} ({error.strerror}). Check the folder's "
            "rights and the disk's space."
        ) from error


def _known_voxels(
    label: ResultLabel, record: ReviewRecord, min_confidence: float | None
) -> NDArray[np.bool_]:
    """Return which voxels a partial label tells about, (D, H, W)."""
    import numpy as np

    statuses = record.statuses
    regions = _values(record.regions_file, label.geometry) if record.regions_file.exists() else None
    if regions is None and (statuses or record.listed):
        raise SemiSupSegError(
            f"{record.regions_file} is missing, so nobody can tell which voxels were reviewed. "
            "Restore it, or save the whole label map."
        )
    known = np.zeros(label.values.shape, bool)
    if min_confidence is not None:
        file = record.folder / f"{record.case}_confidence.nii.gz"
        known |= _values(file, label.geometry) >= min_confidence - _ROUNDING
    if regions is not None:
        # What is listed is doubtful for some reason, also where the confidence is high.
        known &= regions == 0
        decided = [region for region, status in statuses.items() if status in _SAYS_WHAT_IT_IS]
        known |= np.isin(regions, decided)
    for change in record.changes:
        known[slices_of(change.box)] |= change.touched()
    return known


def _values(file: Path, geometry: Geometry) -> NDArray[Any]:
    """Return the voxels of a map that belongs to the label map."""
    import SimpleITK as sitk

    from SemiSupSegLib.cases.geometry import geometry_of
    from SemiSupSegLib.cases.reading import read_image

    image = read_image(ImageSource(path=file))
    if not geometry.matches(geometry_of(image)):
        raise SemiSupSegError(
            f"{file} is on another grid than the label map of the review. Begin the review anew, "
            "or save the whole label map."
        )
    return sitk.GetArrayFromImage(image)


def _unknown_value(task: Task) -> int:
    """Return 255, or the next lower value that means nothing to the task."""
    meant = {value for one in task.classes for value in one.values}
    return next(value for value in range(UNKNOWN_VALUE, 0, -1) if value not in meant)


def _provenance(
    record: ReviewRecord, label: ResultLabel, min_confidence: float | None
) -> dict[str, Any]:
    statuses = record.statuses
    ids = [int(one["id"]) for one in record.listed]
    effort = record.effort
    by_status = {
        status: sorted(region for region, one in statuses.items() if one == status)
        for status in STATUSES
    }
    return {
        "format": PROVENANCE_FORMAT,
        "version": 1,
        "case": record.case,
        "saved": datetime.now().astimezone().isoformat(timespec="seconds"),
        "library": __version__,
        "task": label.task.name,
        "model": {"sha256": record.model_sha256, "name": record.model_name},
        "inputs": record.inputs,
        "reviewer": record.reviewer,
        "review": {
            "id": record.id,
            "begun": record.begun,
            "changed": record.changed,
            "of_label_sha256": record.label_sha256,
        },
        "regions": {
            **by_status,
            "undecided": [region for region in ids if region not in statuses],
        },
        "verdict": record.verdict,
        "comment": record.comment,
        "effort": {
            "active_seconds": effort.active_seconds,
            "strokes": effort.strokes,
            "voxels_changed": effort.voxels_changed,
            "accepted_unchanged": effort.accepted_unchanged,
        },
        "min_confidence": min_confidence,
    }


def _write(
    record: ReviewRecord, label: ResultLabel, values: NDArray[Any], provenance: dict[str, Any]
) -> Path:
    from SemiSupSegLib.preparation.restoring import write_volume

    with tempfile.TemporaryDirectory(prefix=".reviewed-", dir=record.folder) as stage:
        made = Path(stage) / "label.nii.gz"
        write_volume(made, values, label.geometry, ImageSource(path=label.file))
        told = Path(stage) / "label.json"
        write_json(told, {**provenance, "label_sha256": hash_of(made)})
        while True:
            path = _next_free(record.folder, record.case)
            # Provenance first: without it a partial label would be taken for a whole one.
            if not _put(told, provenance_file(path)):
                continue
            if _put(made, path):
                return path


def _next_free(folder: Path, case: str) -> Path:
    """Return the name of the next label; what only has a provenance was never finished."""
    # Only under these names is a label found again.
    stems = label_stems(folder)
    stem = case if case in stems else stems[0]
    number = max(reviewed_labels(folder), default=0) + 1
    while True:
        path = folder / f"{stem}_reviewed{'' if number == 1 else f'-{number}'}.nii.gz"
        if not path.exists() and not provenance_file(path).exists():
            return path
        number += 1


def _put(made: Path, path: Path) -> bool:
    """Give a finished file its name; return False if somebody else has just taken it."""
    try:
        os.link(made, path)
    except FileExistsError:
        return False
    except OSError:
        # exFAT and some network shares have no hard links.
        return _copied(made, path)
    return True


def _copied(made: Path, path: Path) -> bool:
    try:
        stream = path.open("xb")
    except FileExistsError:
        return False
    try:
        with stream:
            stream.write(made.read_bytes())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True
