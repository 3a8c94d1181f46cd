"""Bring the left atrium at full resolution, 80 + 20 scans, into a folder of cases with its splits.

    git clone https://github.com/yulequan/UA-MT
    pip install h5py
    python Testing/benchmarks/la_full_cases.py UA-MT ../shared/data/la_full

The clone holds the files that most papers use (Yu et al. 2019, MICCAI; the scans: Xiong et al.
2020, MedIA). Its terms name no licence: use them for research, cite both, pass nothing on.
`split_8.json` and `split_16.json` are the published protocol: the first 8 or 16 scans of its
training list are labelled, the others not, and the 20 of its test list are judged, once, with the
last checkpoint; nothing may be chosen by them.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.files import write_json  # noqa: E402 (after the path is set)

SCANS = Path("data") / "2018LA_Seg_Training Set"
SPACING = 0.625
"""Millimetres on every axis (the challenge's data page); the files do not say."""
LABELLED = (8, 16)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clone", type=Path, help="of yulequan/UA-MT")
    parser.add_argument("out", type=Path, help="folder to make")
    arguments = parser.parse_args()
    if find_spec("h5py") is None:
        print("The scans are HDF5 files: `pip install h5py` first.")
        return 1
    if not (arguments.clone / SCANS).is_dir():
        print(f"{arguments.clone} has no folder '{SCANS}': give a clone of yulequan/UA-MT.")
        return 1
    lists = {
        name: names_in(arguments.clone / "data" / f"{name}.list") for name in ("train", "test")
    }
    for number, name in enumerate([*lists["train"], *lists["test"]], start=1):
        convert(arguments.clone / SCANS / name / "mri_norm2.h5", arguments.out / "cases" / name)
        print(f"\r{number} scans", end="", flush=True)
    print()
    for labelled in LABELLED:
        split = {
            "train_labelled": lists["train"][:labelled],
            "train_unlabelled": lists["train"][labelled:],
            "validation": lists["test"],
        }
        write_json(arguments.out / f"split_{labelled}.json", split)
    return 0


def names_in(file: Path) -> list[str]:
    """Return the names of a list, one a line."""
    return file.read_text(encoding="utf-8").split()


def convert(file: Path, case: Path) -> None:
    """Write a scan and its label as NIfTI; the axes stay in their order."""
    import h5py

    with h5py.File(file) as content:
        image = np.asarray(content["image"], dtype=np.float32)
        label = np.asarray(content["label"], dtype=np.uint8)
    case.mkdir(parents=True, exist_ok=True)
    # The first axis runs to the patient's left, the second to the back.
    affine = np.diag([-SPACING, -SPACING, SPACING, 1.0])
    for name, values in (("mri", image), ("seg", label)):
        nibabel.save(nibabel.Nifti1Image(values, affine), case / f"{name}.nii.gz")


if __name__ == "__main__":
    sys.exit(main())
