"""A folder of made-up patients, laid out like BraTS 2021, with the truth kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.files import read_json, replacing_path, write_json
from SemiSupSegLib.phantom.anatomy import brain_depth, tissues
from SemiSupSegLib.phantom.fields import displaced
from SemiSupSegLib.phantom.scanner import CHANNELS, acquire, random_grid, scan
from SemiSupSegLib.phantom.tumour import grow_tumour, place_tumour, pushed_aside

SIZE = (64, 72, 56)
"""Voxels left-right, posterior-anterior, inferior-superior: 2.2 to 2.5 mm."""
LABEL_VALUES = np.array([0, 1, 2, 4], np.uint8)
"""As BraTS until 2021 writes necrosis, oedema and enhancing tumour."""


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """One made-up patient."""

    images: dict[str, NDArray[np.int16]]
    """By channel; 0 outside the brain."""
    label: NDArray[np.uint8]
    """Class indices."""
    affine: NDArray[np.float64]
    """From voxel index to R, A, S in mm."""


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Where a made-up cohort lies."""

    cases: Path
    """Folder to train on; only some cases have a label file."""
    truth: Path
    """`<case>_seg.nii.gz` of every case, also of those without a label in `cases`."""
    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...]


def make_phantom(seed: int, number: int, size: tuple[int, int, int] = SIZE) -> Phantom:
    """Return patient `number` of the cohort `seed`; the same numbers give the same patient.

    Args:
        seed: Of the cohort.
        number: Of the patient in it.
        size: Voxels left-right, posterior-anterior, inferior-superior.
    """
    rng = np.random.default_rng([seed, number])
    grid = random_grid(size, rng)
    everywhere = grid.points()
    centre, radius = place_tumour(rng)
    before = displaced(pushed_aside(everywhere, centre, radius), rng, 90.0, 2.0)
    depth = brain_depth(before, rng)
    # Three voxels of four lie outside the brain; nothing more is worked out for them.
    inside = depth > 0
    points = everywhere[:, inside]
    healthy = tissues(before[:, inside], depth[inside], rng)
    tumour = grow_tumour(points, healthy, centre, radius, rng)
    ideal = scan(points, healthy, tumour, rng)
    mask = inside.reshape(grid.size)
    images = {name: acquire(ideal[name], mask, points, rng) for name in CHANNELS}
    label = np.zeros(grid.size, np.uint8)
    label[mask] = tumour.label
    affine = grid.affine.copy()
    # Scanners put their origin somewhere else than the middle of the brain.
    affine[:3, 3] += rng.normal(0, 15, 3)
    return Phantom(images=images, label=label, affine=affine)


def write_cohort(
    folder: Path,
    num_cases: int,
    num_labelled: int,
    seed: int,
    size: tuple[int, int, int] = SIZE,
    first: int = 0,
) -> Cohort:
    """Write made-up cases to `folder`/cases and all reference labels to `folder`/truth.

    A cohort that is there already, whole and made from the same numbers, is left as it is.

    Args:
        folder: Made if missing.
        num_cases: How many cases.
        num_labelled: How many of them, the first ones, get a label file.
        seed: The same seed makes the same cases.
        size: Voxels left-right, posterior-anterior, inferior-superior.
        first: Number of the first patient; another one gives other patients of the cohort.

    Raises:
        ValueError: If more cases shall be labelled than there are.
        UsageError: If the folder holds a cohort made from other numbers.
    """
    if not 0 <= num_labelled <= num_cases:
        raise ValueError(f"num_labelled is {num_labelled}, must be from 0 to {num_cases}")
    names = [f"Phantom_{number:04d}" for number in range(first, first + num_cases)]
    cohort = Cohort(
        cases=folder / "cases",
        truth=folder / "truth",
        labelled=tuple(names[:num_labelled]),
        unlabelled=tuple(names[num_labelled:]),
    )
    made_of = {"seed": seed, "size": list(size), "labelled": num_labelled, "cases": names}
    record = folder / "cohort.json"
    if record.is_file():
        if read_json(record) == made_of:
            return cohort
        raise UsageError(
            f"{folder} holds another made-up cohort already; mixed, patients would be too. "
            "Choose another folder, or remove this one."
        )
    cohort.truth.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start=first):
        phantom = make_phantom(seed, number, size)
        case = cohort.cases / name
        case.mkdir(parents=True, exist_ok=True)
        for channel, image in phantom.images.items():
            _write(case / f"{name}_{channel}.nii.gz", image, phantom.affine)
        label = LABEL_VALUES[phantom.label]
        _write(cohort.truth / f"{name}_seg.nii.gz", label, phantom.affine)
        if name in cohort.labelled:
            _write(case / f"{name}_seg.nii.gz", label, phantom.affine)
    write_json(record, made_of)
    return cohort


def _write(
    path: Path, values: NDArray[np.int16] | NDArray[np.uint8], affine: NDArray[np.float64]
) -> None:
    import nibabel as nib

    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    with replacing_path(path) as temporary:
        nib.save(image, temporary)
