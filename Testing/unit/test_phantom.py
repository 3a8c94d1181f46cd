"""Made-up patients: reproducible, complete, laid out like the real thing."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.phantom.anatomy import brain_depth, tissues
from SemiSupSegLib.phantom.cohort import make_phantom, write_cohort
from SemiSupSegLib.phantom.fields import distance_to_sheets, random_field, smooth_step
from SemiSupSegLib.phantom.scanner import CHANNELS, random_grid
from SemiSupSegLib.phantom.tumour import pushed_aside

SIZE = (26, 30, 22)


@pytest.fixture(scope="module")
def phantoms():
    return [make_phantom(5, number, SIZE) for number in range(6)]


def test_the_same_numbers_make_the_same_patient(phantoms):
    again = make_phantom(5, 2, SIZE)

    np.testing.assert_array_equal(again.label, phantoms[2].label)
    np.testing.assert_array_equal(again.affine, phantoms[2].affine)
    for channel in CHANNELS:
        np.testing.assert_array_equal(again.images[channel], phantoms[2].images[channel])


def test_another_seed_makes_another_patient(phantoms):
    other = make_phantom(6, 2, SIZE)

    assert not np.array_equal(other.affine, phantoms[2].affine)


def test_tumours_lie_in_the_brain_and_every_class_occurs(phantoms):
    for phantom in phantoms:
        brain = phantom.images["t1"] > 0
        assert (phantom.label > 0).any()
        assert not (phantom.label[~brain] > 0).any()
    present = {int(value) for phantom in phantoms for value in np.unique(phantom.label)}
    assert present == {0, 1, 2, 3}


def test_all_channels_show_the_same_brain_and_exactly_zero_outside(phantoms):
    for phantom in phantoms:
        masks = [image > 0 for image in phantom.images.values()]
        for mask in masks[1:]:
            np.testing.assert_array_equal(mask, masks[0])
        assert 0.1 < masks[0].mean() < 0.6


def test_oedema_is_brighter_than_white_matter_on_flair_in_most_patients(phantoms):
    brighter = [
        np.median(phantom.images["flair"][phantom.label == 2])
        > np.median(phantom.images["flair"][(phantom.label == 0) & (phantom.images["flair"] > 0)])
        for phantom in phantoms
        if (phantom.label == 2).any()
    ]

    assert np.mean(brighter) > 0.8


def test_scanners_differ_in_orientation_and_spacing(phantoms):
    orientations = {nib.aff2axcodes(phantom.affine) for phantom in phantoms}
    spacings = {tuple(nib.affines.voxel_sizes(phantom.affine).round(3)) for phantom in phantoms}

    assert len(orientations) > 1
    assert len(spacings) == len(phantoms)


def test_a_grid_is_centred_near_the_brain_whatever_its_orientation():
    for seed in range(10):
        grid = random_grid(SIZE, np.random.default_rng(seed))

        assert sorted(grid.size) == sorted(SIZE)
        assert np.abs(grid.points().mean(axis=1)).max() < 12


def test_tissue_shares_sum_to_one():
    rng = np.random.default_rng(1)
    points = random_grid(SIZE, rng).points()
    depth = brain_depth(points, rng)
    found = tissues(points[:, depth > 0], depth[depth > 0], rng)

    total = found.fluid + found.grey + found.white
    np.testing.assert_allclose(total, 1, atol=1e-5)
    for share in (found.fluid, found.grey, found.white):
        assert share.min() > -1e-5
        assert 0.03 < share.mean() < 0.8


def test_a_random_field_is_one_function_of_space():
    points = np.random.default_rng(0).uniform(-50, 50, (3, 400)).astype(np.float32)

    whole = random_field(points, np.random.default_rng(3), 30.0)
    part = random_field(points[:, 100:200], np.random.default_rng(3), 30.0)

    np.testing.assert_allclose(part, whole[100:200], atol=1e-4)
    assert 0.5 < whole.std() < 1.5


def test_the_distance_to_sheets_grows_with_slope_one_near_them():
    line = np.zeros((3, 20_001), np.float32)
    line[0] = np.linspace(-40, 40, 20_001)
    distance = distance_to_sheets(line, np.random.default_rng(4), 20.0)

    assert distance.min() < 0.01
    near = np.flatnonzero(distance < 0.2)
    # Along a line that meets a sheet at an angle, the distance grows at most as fast as the way.
    steps = np.abs(np.diff(distance))[near[:-1]] / np.diff(line[0])[near[:-1]]
    assert np.median(steps) <= 1.05


@pytest.mark.parametrize(("value", "expected"), [(-1, 0), (0, 0), (1, 0.5), (2, 1), (9, 1)])
def test_a_smooth_step_rises_from_0_to_1(value, expected):
    assert smooth_step(np.array([value], np.float32), 0, 2)[0] == expected
    assert smooth_step(np.array([value], np.float32), 2, 0)[0] == 1 - expected


def test_far_from_the_tumour_nothing_is_pushed():
    points = np.array([[0, 80], [0, 0], [5, 0]], np.float32)

    before = pushed_aside(points, np.zeros((3, 1), np.float32), 10.0)

    assert np.linalg.norm(before[:, 0]) < 5
    np.testing.assert_allclose(before[:, 1], points[:, 1], atol=0.01)


def test_a_cohort_has_labels_only_where_asked_and_the_truth_apart(tmp_path):
    cohort = write_cohort(tmp_path, num_cases=3, num_labelled=1, seed=2, size=SIZE)

    assert cohort.labelled == ("Phantom_0000",)
    assert cohort.unlabelled == ("Phantom_0001", "Phantom_0002")
    files = sorted(file.name for file in cohort.cases.rglob("*.nii.gz"))
    assert [name for name in files if "seg" in name] == ["Phantom_0000_seg.nii.gz"]
    assert len(files) == 3 * 4 + 1
    assert len(list(cohort.truth.iterdir())) == 3
    assert not list(cohort.cases.rglob(".*"))


def test_files_carry_the_affine_and_label_values_of_brats(tmp_path):
    write_cohort(tmp_path, num_cases=1, num_labelled=1, seed=5, size=SIZE, first=2)
    phantom = make_phantom(5, 2, SIZE)
    case = tmp_path / "cases" / "Phantom_0002"

    image = nib.load(case / "Phantom_0002_flair.nii.gz")
    label = nib.load(case / "Phantom_0002_seg.nii.gz")

    np.testing.assert_allclose(image.affine, phantom.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(image.dataobj), phantom.images["flair"])
    np.testing.assert_array_equal(np.asarray(label.dataobj) == 4, phantom.label == 3)


def test_a_cohort_that_is_there_is_left_as_it_is(tmp_path):
    first = write_cohort(tmp_path, num_cases=2, num_labelled=1, seed=2, size=SIZE)
    file = next(first.cases.rglob("*_t1.nii.gz"))
    before = file.stat().st_mtime_ns

    again = write_cohort(tmp_path, num_cases=2, num_labelled=1, seed=2, size=SIZE)

    assert again == first
    assert file.stat().st_mtime_ns == before


def test_another_cohort_is_not_mixed_into_one_that_is_there(tmp_path):
    write_cohort(tmp_path, num_cases=2, num_labelled=1, seed=2, size=SIZE)

    with pytest.raises(UsageError, match="holds another made-up cohort"):
        write_cohort(tmp_path, num_cases=2, num_labelled=1, seed=3, size=SIZE)


def test_more_labels_than_cases_are_refused(tmp_path):
    with pytest.raises(ValueError, match="num_labelled is 3, must be from 0 to 2"):
        write_cohort(tmp_path, num_cases=2, num_labelled=3, seed=0, size=SIZE)
