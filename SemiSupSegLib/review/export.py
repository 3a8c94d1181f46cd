"""Giving a label map to other programs: NIfTI, `.seg.nrrd` and DICOM SEG."""

from __future__ import annotations

from pathlib import Path

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import make_folder_of
from SemiSupSegLib.review.dicom_seg import find_source, write_dicom_seg
from SemiSupSegLib.review.result_label import ResultLabel
from SemiSupSegLib.review.seg_nrrd import write_seg_nrrd

SUFFIXES = {"nifti": ".nii.gz", "seg.nrrd": ".seg.nrrd", "dicom-seg": ".dcm"}
"""Formats and how their files end."""
_STATUS = {"accepted": "completed", "corrected": "completed", "rejected": "flagged"}
"""How Slicer marks the segments of a case with a verdict."""


def export_label(
    label: ResultLabel,
    path: Path,
    format_name: str,
    *,
    dicom: Path | None = None,
    source: ImageSource | None = None,
) -> None:
    """Write a label map on its original grid; a file of this name is replaced.

    Args:
        label: As predicted or as reviewed.
        path: The file.
        format_name: One of `SUFFIXES`.
        dicom: For DICOM SEG, a folder below which the series lies that was segmented.
        source: For DICOM SEG, the series itself, where it is known.

    Raises:
        UsageError: If the format is unknown, or a DICOM SEG has no series to refer to.
        SemiSupSegError: If the file cannot be written, or the label map does not fit the series.
    """
    if format_name not in SUFFIXES:
        raise UsageError(f"There is no format '{format_name}'; there are: {', '.join(SUFFIXES)}.")
    make_folder_of(path)
    try:
        if format_name == "nifti":
            _write_nifti(path, label)
        elif format_name == "seg.nrrd":
            verdict = label.record.verdict if label.record else None
            status = _STATUS.get(verdict or "", "inprogress")
            write_seg_nrrd(path, label.values, label.geometry, label.task, status=status)
        else:
            if source is None:
                source = _source(label, dicom)
            write_dicom_seg(path, label, source)
    except OSError as error:
        raise SemiSupSegError(
            f"{path} cannot be written ({error.strerror}). Check the folder's rights and the "
            "disk's space."
        ) from error


def _source(label: ResultLabel, dicom: Path | None) -> ImageSource:
    if dicom is None:
        raise UsageError(
            "A DICOM SEG refers to the DICOM images that were segmented, and these are not known: "
            "the images were other files, or have moved. Say in which folder they are with "
            "--dicom, or export as NIfTI or .seg.nrrd."
        )
    return find_source(dicom, label.inputs)


def _write_nifti(path: Path, label: ResultLabel) -> None:
    import numpy as np

    from SemiSupSegLib.preparation.restoring import write_volume

    written = np.asarray(label.task.written_values)
    kind = np.uint8 if written.max() < 256 else np.uint16
    values = written.astype(kind)[label.values]
    write_volume(path, values, label.geometry, ImageSource(path=label.file))
