"""Writes tiny cohorts in every layout that discovery reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

SIZE = (10, 8, 6)
"""x, y, z: all different, so that swapped axes fail."""
SPACING = (1.0, 1.5, 2.5)
ORIGIN = (3.0, -40.0, 12.5)
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
BRATS_2021 = ("t1", "t1ce", "t2", "flair")
BRATS_2023 = ("t1n", "t1c", "t2w", "t2f")


def an_image(seed: int, size: Sequence[int] = SIZE) -> sitk.Image:
    """Return an oblique int16 volume of noise that is like no other seed's."""
    values = np.random.default_rng(seed).integers(-50, 900, size=size[::-1])
    return placed(values.astype(np.int16))


def a_label(values: Sequence[int] = (0, 1, 2, 4), size: Sequence[int] = SIZE) -> sitk.Image:
    """Return a label map on the grid of `an_image` with exactly these values."""
    flat = np.resize(np.asarray(values), np.prod(size))
    return placed(flat.reshape(size[::-1]).astype(np.uint8))


def placed(values: np.ndarray) -> sitk.Image:
    """Return an array (D, H, W) as an image on the common grid."""
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(OBLIQUE)
    return image


def write(path: Path, image: sitk.Image) -> Path:
    """Write an image, making folders as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def write_brats_case(
    folder: Path,
    *,
    seed: int = 0,
    pattern: str = "{case}_{channel}",
    channels: Sequence[str] = BRATS_2021,
    label: str | None = "seg",
    label_values: Sequence[int] = (0, 1, 2, 4),
    suffix: str = ".nii.gz",
    size: Sequence[int] = SIZE,
) -> Path:
    """Write a case folder with four channels and, unless `label` is None, a label."""
    for number, channel in enumerate(channels):
        name = pattern.format(case=folder.name, channel=channel)
        write(folder / f"{name}{suffix}", an_image(100 * seed + number, size))
    if label is not None:
        name = pattern.format(case=folder.name, channel=label)
        write(folder / f"{name}{suffix}", a_label(label_values, size))
    return folder


def write_cohort(root: Path, cases: Mapping[str, bool], **options: Any) -> None:
    """Write a case folder for each id; the value says whether it has a label."""
    label = options.pop("label", "seg")
    for seed, (name, has_label) in enumerate(cases.items(), start=1):
        write_brats_case(root / name, seed=seed, label=label if has_label else None, **options)


def write_dataset_file(root: Path, *, new_style: bool, channels: Sequence[str]) -> None:
    """Write `dataset.json` as the Decathlon or as nnU-Net v2 has it."""
    names = {str(number): name for number, name in enumerate(channels)}
    labels = ["background", "necrosis", "edema", "enhancing"]
    content: dict[str, Any] = (
        {"channel_names": names, "labels": {name: i for i, name in enumerate(labels)}}
        if new_style
        else {"modality": names, "labels": {str(i): name for i, name in enumerate(labels)}}
    )
    (root / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def write_decathlon(root: Path, channels: Sequence[str] = ("FLAIR", "T1w", "t1gd", "T2w")) -> None:
    """Write 4-D images: two for training with labels, one for testing."""
    for seed, (place, name) in enumerate(
        [("imagesTr", "BRATS_001"), ("imagesTr", "BRATS_002"), ("imagesTs", "BRATS_101")]
    ):
        volumes = [an_image(50 * seed + number) for number in range(len(channels))]
        write(root / place / f"{name}.nii.gz", sitk.JoinSeries(volumes))
        if place == "imagesTr":
            write(root / "labelsTr" / f"{name}.nii.gz", a_label((0, 1, 2, 3)))
            # Archives made on a Mac carry these along.
            (root / "labelsTr" / f"._{name}.nii.gz").write_bytes(b"Mac")
    write_dataset_file(root, new_style=False, channels=channels)


def write_nnunet(root: Path, channels: Sequence[str] = ("T1", "T1CE", "T2", "FLAIR")) -> None:
    """Write `_0000` images: two for training with labels, one for testing."""
    for seed, (place, name) in enumerate(
        [("imagesTr", "case_0101"), ("imagesTr", "case_0102"), ("imagesTs", "case_0201")]
    ):
        for number in range(len(channels)):
            write(root / place / f"{name}_{number:04}.nii.gz", an_image(50 * seed + number))
        if place == "imagesTr":
            write(root / "labelsTr" / f"{name}.nii.gz", a_label((0, 1, 2, 3)))
    write_dataset_file(root, new_style=True, channels=channels)


def write_bids(root: Path, *, with_sessions: bool) -> None:
    """Write two subjects with anatomical images; labels of the first in derivatives."""
    sessions = ("ses-1", "ses-2") if with_sessions else ("",)
    suffixes = ("T1w", "ce-gadolinium_T1w", "T2w", "FLAIR")
    for seed, subject in enumerate(("sub-01", "sub-02"), start=1):
        for visit, session in enumerate(sessions):
            prefix = "_".join(part for part in (subject, session) if part)
            for number, suffix in enumerate(suffixes):
                path = root / subject / session / "anat" / f"{prefix}_{suffix}.nii.gz"
                write(path, an_image(100 * seed + 10 * visit + number))
            if subject == "sub-01":
                folder = root / "derivatives" / "labels" / subject / session / "anat"
                write(folder / f"{prefix}_space-T1w_dseg.nii.gz", a_label())
    (root / "dataset_description.json").write_text('{"Name": "two", "BIDSVersion": "1.9.0"}')


def write_dicom_series(
    folder: Path,
    *,
    seed: int,
    description: str,
    series: int = 1,
    patient_id: str = "phantom",
) -> Path:
    """Write a series of oblique slices, stored in an order that is not that of space."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    folder.mkdir(parents=True, exist_ok=True)
    image = an_image(seed)
    values = sitk.GetArrayFromImage(image)
    row, column = OBLIQUE[0::3], OBLIQUE[1::3]
    for number in range(SIZE[2]):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.{seed}.{series}.{number + 1}"
        one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID = MRImageStorage
        one.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID = f"1.2.826.0.1.{seed}"
        one.SeriesInstanceUID = f"1.2.826.0.1.{seed}.{series}"
        one.SeriesDescription = description
        one.Modality = "MR"
        one.PatientName, one.PatientID = "phantom", patient_id
        one.InstanceNumber = number + 1
        one.Rows, one.Columns = SIZE[1], SIZE[0]
        one.PixelSpacing = [SPACING[1], SPACING[0]]
        one.SliceThickness = SPACING[2]
        one.ImageOrientationPatient = [*row, *column]
        one.ImagePositionPatient = list(image.TransformIndexToPhysicalPoint((0, 0, number)))
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 1
        one.PixelData = values[number].tobytes()
        name = f"IM{(number * 5) % SIZE[2]:04}_{series}.dcm"
        pydicom.dcmwrite(folder / name, one, enforce_file_format=True)
    return folder
