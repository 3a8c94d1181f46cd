"""Write a made-up MR study as DICOM: oblique slices, one series a channel, or one enhanced file.

    python Testing/data/make_dicom_phantom.py FOLDER [--enhanced]

Values are random; nothing in it is of a person.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

SHAPE = (6, 10, 8)
"""Slices, rows, columns."""
PIXEL_SPACING = (1.25, 0.75)
"""Between rows, between columns; mm."""
SLICE_DISTANCE = 3.5
ORIGIN = (-31.5, 22.25, 40.0)
_ROOT = "1.2.826.0.1.3680043.8.498"


def axes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the directions of rows, columns and slices: turned about two axes."""
    about_x, about_z = math.radians(20), math.radians(-35)
    turn_x = np.array(
        [
            [1, 0, 0],
            [0, math.cos(about_x), -math.sin(about_x)],
            [0, math.sin(about_x), math.cos(about_x)],
        ]
    )
    turn_z = np.array(
        [
            [math.cos(about_z), -math.sin(about_z), 0],
            [math.sin(about_z), math.cos(about_z), 0],
            [0, 0, 1],
        ]
    )
    turn = turn_z @ turn_x
    return turn[:, 0], turn[:, 1], turn[:, 2]


def position(number: int) -> list[float]:
    """Return where the first voxel of a slice lies, LPS mm."""
    return [float(value) for value in np.array(ORIGIN) + number * SLICE_DISTANCE * axes()[2]]


def voxels(seed: int) -> np.ndarray:
    """Return the intensities (slices, rows, columns)."""
    return np.random.default_rng(seed).integers(1, 1000, SHAPE).astype(np.int16)


def write_series(folder: Path, *, seed: int = 1, series: int = 1, description: str = "t1") -> Path:
    """Write one file a slice; names do not follow the slices' order."""
    folder.mkdir(parents=True, exist_ok=True)
    values = voxels(seed)
    for number in range(SHAPE[0]):
        one = _start(MRImageStorage, seed, series, number + 1, description)
        row, column, _ = axes()
        one.PixelSpacing = list(PIXEL_SPACING)
        one.SliceThickness = SLICE_DISTANCE
        one.ImageOrientationPatient = [float(value) for value in (*row, *column)]
        one.ImagePositionPatient = position(number)
        one.PixelData = values[number].tobytes()
        name = f"IM{(number * 5) % (SHAPE[0] + 1):03}.dcm"
        pydicom.dcmwrite(folder / name, one, enforce_file_format=True)
    return folder


def write_enhanced(folder: Path, *, seed: int = 1, description: str = "t1") -> Path:
    """Write one file with all slices as its frames, the last slice first."""
    folder.mkdir(parents=True, exist_ok=True)
    values = voxels(seed)
    one = _start(EnhancedMRImageStorage, seed, 1, 1, description)
    one.NumberOfFrames = SHAPE[0]
    row, column, _ = axes()
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = [float(value) for value in (*row, *column)]
    measures.PixelSpacing, measures.SliceThickness = list(PIXEL_SPACING), SLICE_DISTANCE
    shared = Dataset()
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    one.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for number in reversed(range(SHAPE[0])):
        place, content, frame = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = position(number)
        content.StackID, content.InStackPositionNumber = "1", SHAPE[0] - number
        frame.PlanePositionSequence = Sequence([place])
        frame.FrameContentSequence = Sequence([content])
        frames.append(frame)
    one.PerFrameFunctionalGroupsSequence = Sequence(frames)
    one.PixelData = np.ascontiguousarray(values[::-1]).tobytes()
    pydicom.dcmwrite(folder / "IM000.dcm", one, enforce_file_format=True)
    return folder


def _start(kind: str, seed: int, series: int, instance: int, description: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = f"{_ROOT}.{seed}.{series}.{instance}"
    one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    one.SOPClassUID, one.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    one.StudyInstanceUID, one.SeriesInstanceUID = f"{_ROOT}.9", f"{_ROOT}.9.{series}"
    one.FrameOfReferenceUID, one.PositionReferenceIndicator = f"{_ROOT}.9.0", ""
    one.Modality, one.SeriesDescription, one.SeriesNumber = "MR", description, series
    one.PatientName, one.PatientID = "Phantom^Made up", "phantom"
    one.PatientBirthDate = one.PatientSex = one.AccessionNumber = one.StudyID = ""
    one.StudyDate, one.StudyTime, one.ReferringPhysicianName = "20200101", "120000", ""
    one.InstanceNumber = instance
    one.Rows, one.Columns = SHAPE[1:]
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelRepresentation = 15, 1
    return one


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--enhanced", action="store_true", help="one file of many frames")
    arguments = parser.parse_args()
    if arguments.enhanced:
        write_enhanced(arguments.folder)
    else:
        for number, name in enumerate(("t1", "t1ce", "t2", "flair"), start=1):
            write_series(arguments.folder / name, seed=number, series=number, description=name)
    print(arguments.folder)
