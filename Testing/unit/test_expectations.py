"""Images that are not what a task expects are recognised before a network sees them."""

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSupSegLib.cases.case import Case, CaseState, ImageSource
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.preparation.expectations import unmet_expectations
from SemiSupSegLib.preparation.options import PreparationOptions
from SemiSupSegLib.preparation.prepare import prepare_case

BRATS = load_task("brats")
CHANNELS = ("t1", "t1ce", "t2", "flair")
VOXEL_ML = 0.064
"""Of 4 mm."""


def a_ball(radius, shift=0):
    """A ball in 64 voxels of 4 mm: 80 mm have 2,145 mL, 100 mm 4,189 mL."""
    grid = np.stack(np.meshgrid(*[np.arange(64)] * 3, indexing="ij"), -1) * 4.0
    return (np.linalg.norm(grid - (128 + shift, 128, 128), axis=-1) <= radius).astype(np.float32)


def found(channels, task=BRATS, has_mask=False):
    return unmet_expectations(task, channels, VOXEL_ML, has_mask=has_mask)


def test_brains_at_one_place_are_as_expected():
    assert found(dict.fromkeys(CHANNELS, a_ball(80))) == []


def test_a_head_is_no_brain_unless_a_mask_is_given():
    channels = {**dict.fromkeys(CHANNELS, a_ball(80)), "t2": a_ball(100)}

    (sentence,) = found(channels)

    assert "of t2 are not 0" in sentence
    assert "Extract the brain first" in sentence
    assert found(channels, has_mask=True) == []


@pytest.mark.parametrize(("shift", "is_told"), [(12, False), (40, True)])
def test_channels_at_different_places_are_told(shift, is_told):
    """Two balls of 75 mm, 12 mm apart, have a Dice of 0.88, 40 mm apart of 0.61."""
    channels = {**dict.fromkeys(CHANNELS, a_ball(75)), "flair": a_ball(75, shift)}

    sentences = found(channels)

    assert len(sentences) == is_told
    assert all("t1 and in flair" in one and "Register flair to t1" in one for one in sentences)


def test_a_task_that_expects_nothing_hears_nothing():
    assert found({"mri": a_ball(100)}, load_task("binary")) == []


def test_it_is_a_warning_of_the_prepared_case(tmp_path):
    sources = {}
    for name in CHANNELS:
        image = sitk.GetImageFromArray(a_ball(110) * np.linspace(1, 2, 64, dtype=np.float32))
        image.SetSpacing((4.0, 4.0, 4.0))
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
        sources[name] = ImageSource(path=tmp_path / f"{name}.nii.gz")
    case = Case(id="c", patient="c", state=CaseState.UNLABELLED, channels=sources)
    options = PreparationOptions(spacing=(4.0, 4.0, 4.0), mask="nonzero")

    prepared = prepare_case(case, BRATS, options)

    assert ["expects the brain alone" in one for one in prepared.warnings] == [True]
