"""One case from files to arrays, on volumes that can be checked by hand."""

import dataclasses
import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SemiSupSegLib.cases.case import Case, CaseState, ImageSource
from SemiSupSegLib.cases.discovery import discover
from SemiSupSegLib.cases.geometry import Geometry, geometry_of
from SemiSupSegLib.cases.task import Channel, Class, Task
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.options import from_json, to_json
from SemiSupSegLib.preparation.intensities import correct_bias_field, normalize, to_float16
from SemiSupSegLib.preparation.masking import bounding_box, nonzero_mask
from SemiSupSegLib.preparation.options import PreparationOptions, freeze_spacing
from SemiSupSegLib.preparation.prepare import prepare_case

UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
WORKED = PreparationOptions(spacing=(1, 2, 3), mask="nonzero", upper_quantile=0.95)


def make_task(**changes: object) -> Task:
    task = Task(
        name="two",
        title="Two classes",
        channels=(Channel(name="t1"), Channel(name="t2", required=False)),
        classes=(
            Class(name="core", values=(1,), color=(255, 0, 0)),
            Class(name="rim", values=(4, 3), color=(0, 255, 0)),
        ),
        mask="nonzero",
    )
    return dataclasses.replace(task, **changes)


def write_image(path: Path, array: np.ndarray, **geometry: object) -> ImageSource:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.get("spacing", (1.0, 2.0, 3.0)))
    image.SetOrigin(geometry.get("origin", (10.0, 20.0, 30.0)))
    image.SetDirection(geometry.get("direction", UPRIGHT))
    sitk.WriteImage(image, str(path))
    return ImageSource(path=path)


def make_case(label: ImageSource | None = None, **channels: ImageSource) -> Case:
    state = CaseState.UNLABELLED if label is None else CaseState.LABELLED
    return Case(id="ann", patient="ann", state=state, channels=channels, label=label)


@pytest.fixture
def worked_array() -> np.ndarray:
    array = np.zeros((6, 6, 6), np.int16)
    array[1:5, 2:6, 1:4] = np.arange(1, 49).reshape(4, 4, 3)
    array[4, 5, 3] = 1000
    return array


@pytest.fixture
def worked_case(tmp_path: Path, worked_array: np.ndarray) -> Case:
    return make_case(t1=write_image(tmp_path / "t1.nrrd", worked_array))


def test_the_worked_example_gives_the_published_numbers(worked_case, worked_array):
    prepared = prepare_case(worked_case, make_task(), WORKED)

    assert prepared.grid == Geometry(
        size=(3, 4, 4), spacing=(1, 2, 3), origin=(11, 24, 33), direction=UPRIGHT
    )
    assert prepared.original.size == (6, 6, 6)
    image = prepared.image()
    assert (image.dtype, image.shape) == (np.float16, (2, 4, 4, 3))
    assert prepared.mask().all()
    np.testing.assert_allclose(image[0, 0, 0, 0], -1.706921, atol=1e-3)
    np.testing.assert_allclose(image[0, -1, -1, -1], 1.547915, atol=1e-3)
    exact = normalize(worked_array, worked_array > 0, WORKED)[1:5, 2:6, 1:4]
    np.testing.assert_allclose(exact[0, 0, 0], -1.706921, atol=1e-6)
    np.testing.assert_allclose(exact[-1, -1, -1], 1.547915, atol=1e-6)


def test_z_scoring_before_clipping_leaves_the_published_variance(worked_array):
    options = dataclasses.replace(WORKED, order="zscore_first")

    values = normalize(worked_array, worked_array > 0, options)

    assert values[worked_array > 0].std() == pytest.approx(0.098, abs=5e-4)


def test_without_quantiles_the_mask_has_mean_zero_and_population_deviation_one(worked_array):
    options = PreparationOptions(mask="nonzero", upper_quantile=None)

    inside = normalize(worked_array, worked_array > 0, options)[worked_array > 0]

    assert inside.mean() == pytest.approx(0, abs=1e-6)
    assert inside.std(ddof=0) == pytest.approx(1, abs=1e-6)


def test_a_lower_quantile_raises_the_darkest_voxels():
    values = np.arange(11.0).reshape(1, 1, 11)
    options = PreparationOptions(lower_quantile=0.2, upper_quantile=None)

    result = normalize(values, np.ones(values.shape, bool), options)

    assert result[0, 0, 0] == result[0, 0, 2] < result[0, 0, 3]


def test_quantiles_over_the_box_count_the_zeros_too():
    values = np.array([0.0] * 6 + [1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 10)
    # Quantile 5/9 of the ten values is 0; of the four it would lie above 2.
    options = PreparationOptions(upper_quantile=5 / 9, clip_over="box")

    result = normalize(values, values > 0, options)

    assert (result == 0).all()


def test_a_kept_background_is_z_scored_like_the_rest(worked_array):
    options = dataclasses.replace(WORKED, background="keep")

    values = normalize(worked_array, worked_array > 0, options)

    assert values[0, 0, 0] == pytest.approx(-24.415625 / 13.718051, abs=1e-6)


def test_a_constant_channel_becomes_zero():
    values = np.full((2, 3, 4), 7, np.uint8)

    result = normalize(values, np.ones(values.shape, bool), PreparationOptions())

    assert (result == 0).all()


def test_values_beyond_float16_are_cut_and_logged(caplog):
    with caplog.at_level(logging.WARNING):
        result = to_float16(np.array([1.0, 1e6, -1e9], np.float32), "Case ann: t1")

    np.testing.assert_array_equal(result, np.array([1, 6e4, -6e4], np.float16))
    assert "Case ann: t1 has values beyond" in caplog.text


def test_the_mask_is_the_union_of_the_channels():
    one, two = np.zeros((2, 3, 4), np.int16), np.zeros((2, 3, 4), np.float32)
    one[0, 0, 0], two[1, 2, 3] = 5, -0.5

    mask = nonzero_mask([sitk.GetImageFromArray(one), sitk.GetImageFromArray(two)])

    assert np.argwhere(mask).tolist() == [[0, 0, 0], [1, 2, 3]]


def test_the_largest_component_drops_specks_and_holes_are_filled():
    array = np.zeros((7, 8, 9), np.uint8)
    array[1:6, 1:6, 1:6] = 1
    array[3, 3, 3] = 0
    array[6, 7, 8] = 1

    mask = nonzero_mask([sitk.GetImageFromArray(array)], largest_component=True, fill_holes=True)

    assert mask.sum() == 125
    assert mask[3, 3, 3]


def test_the_box_has_the_last_planes_and_a_margin_stops_at_the_edge():
    mask = np.zeros((6, 7, 8), bool)
    mask[1:5, 2:6, 1:4] = True

    assert bounding_box(mask) == ((1, 2, 1), (3, 4, 4))
    assert bounding_box(mask, margin_voxels=2) == ((0, 0, 0), (6, 7, 6))
    assert bounding_box(np.zeros((2, 2, 2), bool)) is None


def test_an_all_mask_keeps_zeros_and_is_not_cropped(worked_case, worked_array):
    prepared = prepare_case(worked_case, make_task(), dataclasses.replace(WORKED, mask="all"))

    assert prepared.shape == (6, 6, 6)
    assert prepared.mask().all()
    assert (prepared.image()[0][worked_array == 0] < 0).all()


def test_a_given_mask_replaces_the_options_mask(tmp_path, worked_case):
    array = np.zeros((6, 6, 6), np.uint8)
    array[2:4, 3:6, 1:3] = 1
    given = write_image(tmp_path / "brain.nrrd", array)

    prepared = prepare_case(worked_case, make_task(), WORKED, mask=given)

    assert prepared.shape == (2, 3, 2)


def test_axes_are_turned_to_left_posterior_superior(tmp_path):
    array = np.random.default_rng(0).integers(1, 100, (4, 5, 6)).astype(np.int16)
    # x runs to the right, y up, z to the back.
    direction = (-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0)
    source = write_image(tmp_path / "t1.nrrd", array, direction=direction)
    options = PreparationOptions(spacing=(1, 3, 2), mask="nonzero", upper_quantile=None)

    prepared = prepare_case(make_case(t1=source), make_task(), options)

    assert prepared.grid.direction == pytest.approx(UPRIGHT)
    assert prepared.grid.spacing == (1, 3, 2)
    assert prepared.grid.origin == (10 - 5, 20, 30)
    turned = array.transpose(1, 0, 2)[:, :, ::-1].astype(float)
    expected = (turned - array.mean()) / array.std()
    np.testing.assert_allclose(prepared.image()[0], expected, atol=2e-3)


def test_labels_become_class_indices_in_the_box(tmp_path, worked_case, worked_array):
    label = np.zeros((6, 6, 6), np.uint8)
    label[1, 2, 1], label[4, 5, 3], label[2, 3, 2] = 1, 4, 3
    source = write_image(tmp_path / "seg.nrrd", label)
    case = dataclasses.replace(worked_case, label=source)

    prepared = prepare_case(case, make_task(), WORKED, with_label=True)

    assert prepared.label().dtype == np.uint8
    assert np.argwhere(prepared.label() == 1).tolist() == [[0, 0, 0]]
    assert np.argwhere(prepared.label() == 2).tolist() == [[1, 1, 1], [3, 3, 2]]
    assert prepared.warnings == ("Channel t2 is missing and filled with 0.",)


def test_labelled_voxels_outside_the_box_are_counted(tmp_path, worked_case):
    label = np.zeros((6, 6, 6), np.uint8)
    label[0, 0, 0:2] = 1
    case = dataclasses.replace(worked_case, label=write_image(tmp_path / "seg.nrrd", label))

    prepared = prepare_case(case, make_task(), WORKED, with_label=True)

    assert "2 labelled voxels lie outside" in prepared.warnings[-1]


def test_an_unwanted_label_is_not_opened(tmp_path, worked_case):
    case = dataclasses.replace(worked_case, label=ImageSource(path=tmp_path / "no such file.nrrd"))

    prepared = prepare_case(case, make_task(), WORKED)

    assert not prepared.has_label
    with pytest.raises(SemiSupSegError, match="ann was prepared without its label"):
        prepared.label()


def test_a_missing_optional_channel_is_zero_and_said_so(worked_case):
    prepared = prepare_case(worked_case, make_task(), WORKED)

    assert (prepared.image()[1] == 0).all()
    assert prepared.warnings == ("Channel t2 is missing and filled with 0.",)


def test_a_missing_required_channel_is_an_error(worked_case):
    task = make_task(channels=(Channel(name="t1"), Channel(name="flair")))

    with pytest.raises(SemiSupSegError, match="has no flair"):
        prepare_case(worked_case, task, WORKED)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, r"^Case ann: dark\.nrrd \(channel t2\) is empty: every voxel is 0\. Export"),
        (7, r"^Case ann: dark\.nrrd \(channel t2\) has 7 in every voxel\. Export"),
    ],
)
def test_a_channel_that_is_the_same_everywhere_is_named(tmp_path, worked_array, value, message):
    case = make_case(
        t1=write_image(tmp_path / "t1.nrrd", worked_array),
        t2=write_image(tmp_path / "dark.nrrd", np.full_like(worked_array, value)),
    )

    with pytest.raises(SemiSupSegError, match=message):
        prepare_case(case, make_task(), WORKED)


def test_an_empty_mask_is_named(tmp_path, worked_case, worked_array):
    mask = write_image(tmp_path / "mask.nrrd", np.zeros_like(worked_array))

    with pytest.raises(SemiSupSegError, match=r"mask\.nrrd is 0 everywhere"):
        prepare_case(worked_case, make_task(), WORKED, mask=mask)


def test_a_voxel_that_is_no_number_is_an_error(tmp_path, worked_array):
    array = worked_array.astype(np.float32)
    array[2, 3, 2] = np.nan
    case = make_case(t1=write_image(tmp_path / "t1.nrrd", array))

    with pytest.raises(SemiSupSegError, match="not numbers"):
        prepare_case(case, make_task(), WORKED)


def test_a_channel_on_another_grid_is_resampled_to_the_first(tmp_path):
    # A ramp along x is the same function of place on every grid.
    first = np.tile(np.arange(1.0, 13), (4, 5, 1)).astype(np.float32)
    fine = np.tile(1 + np.arange(24) / 2, (4, 5, 1)).astype(np.float32)
    case = make_case(
        t1=write_image(tmp_path / "t1.nrrd", first),
        t2=write_image(tmp_path / "t2.nrrd", fine, spacing=(0.5, 2.0, 3.0)),
    )
    options = dataclasses.replace(WORKED, upper_quantile=None)

    prepared = prepare_case(case, make_task(), options)

    # Blurring touches the ramp's ends only.
    inner = np.s_[:, :, 2:-2]
    one, two = prepared.image()[0][inner], prepared.image()[1][inner]
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.99999
    assert "t2.nrrd lies on another grid than the first channel" in prepared.warnings[0]


def test_grids_that_differ_by_rounding_are_one(tmp_path, worked_array):
    case = make_case(
        t1=write_image(tmp_path / "t1.nrrd", worked_array),
        t2=write_image(tmp_path / "t2.nrrd", worked_array, origin=(10.01, 20.0, 30.0)),
    )

    prepared = prepare_case(case, make_task(), WORKED)

    assert prepared.warnings == ()
    np.testing.assert_array_equal(prepared.image()[0], prepared.image()[1])


def test_a_channel_elsewhere_in_space_is_an_error(tmp_path, worked_array):
    case = make_case(
        t1=write_image(tmp_path / "t1.nrrd", worked_array),
        t2=write_image(tmp_path / "t2.nrrd", worked_array, origin=(500.0, 20.0, 30.0)),
    )

    with pytest.raises(SemiSupSegError, match=r"t2\.nrrd lies elsewhere .* share 0% of"):
        prepare_case(case, make_task(), WORKED)


@pytest.mark.parametrize(
    ("size", "shift_mm", "is_usable"),
    [
        # Size (z, y, x) of t2; t1 has 6 x 6 x 20 voxels, 20 mm along x.
        ((6, 6, 1), 9.0, True),  # a slice inside: all of the smaller one is shared
        ((6, 6, 20), 14.0, True),  # 6 of 20 mm are shared
        ((6, 6, 20), 16.0, False),  # 4 of 20 mm
        ((6, 6, 4), -4.0, False),  # a slab beside it
    ],
)
def test_preparation_and_scan_refuse_the_same_fields_of_view(tmp_path, size, shift_mm, is_usable):
    rng = np.random.default_rng(5)
    first = rng.integers(1, 900, (6, 6, 20)).astype(np.int16)
    second = rng.integers(1, 900, size).astype(np.int16)
    folder = tmp_path / "cases" / "ann"
    folder.mkdir(parents=True)
    write_image(folder / "t1.nrrd", first)
    write_image(folder / "t2.nrrd", second, origin=(10 + shift_mm, 20.0, 30.0))

    scan = discover(tmp_path / "cases", make_task(), cache=tmp_path / "scan.jsonl")

    (case,) = scan.cases
    assert (case.state is not CaseState.UNUSABLE) == is_usable
    if is_usable:
        assert prepare_case(case, make_task(), WORKED).warnings
    else:
        with pytest.raises(SemiSupSegError, match="lies elsewhere than the first channel"):
            prepare_case(case, make_task(), WORKED)


def test_a_label_cut_to_its_object_is_put_in_place(tmp_path, worked_case):
    label = np.full((2, 1, 2), 4, np.uint8)
    source = write_image(tmp_path / "seg.nrrd", label, origin=(11.0, 26.0, 36.0))
    case = dataclasses.replace(worked_case, label=source)

    prepared = prepare_case(case, make_task(), WORKED, with_label=True)

    expected = np.zeros((4, 4, 3), np.uint8)
    expected[1:3, 1:2, 0:2] = 2
    np.testing.assert_array_equal(prepared.label(), expected)


def test_resampling_keeps_the_rim_of_the_brain_bright(tmp_path):
    array = np.zeros((12, 14, 16), np.float32)
    array[2:10, 3:11, 4:12] = 100
    array[4, 5, 6] = 110
    source = write_image(tmp_path / "t1.nrrd", array, spacing=(1.0, 1.0, 1.0))
    options = PreparationOptions(spacing=(0.8, 1.3, 1.0), mask="nonzero", upper_quantile=None)

    prepared = prepare_case(make_case(t1=source), make_task(), options)

    assert prepared.grid.spacing == (0.8, 1.3, 1.0)
    inside = prepared.image()[0][prepared.mask() == 1].astype(float)
    # A rim mixed with the zeros around it would lie tens of deviations below the rest.
    assert inside.min() > -0.5


def test_a_voxel_size_that_is_not_in_mm_is_guessed_at(tmp_path):
    array = np.zeros((9, 9, 9), np.float32)
    array[3:6, 3:6, 3:6] = np.arange(1, 28).reshape(3, 3, 3)
    case = make_case(
        t1=write_image(tmp_path / "t1.nrrd", array, spacing=(0.001, 0.001, 0.001)),
        t2=write_image(tmp_path / "t2.nrrd", array, spacing=(0.001, 0.001, 0.001)),
    )

    with pytest.raises(SemiSupSegError, match=r"measures 0\.003 x 0\.003 x 0\.003 mm.*in mm\?"):
        prepare_case(case, make_task(), dataclasses.replace(WORKED, spacing=(1.0, 1.0, 1.0)))


def test_axes_within_the_tolerance_keep_their_spacing(tmp_path, worked_case):
    options = dataclasses.replace(WORKED, spacing=(1.009, 2.0, 1.5))

    prepared = prepare_case(worked_case, make_task(), options)

    assert prepared.grid.spacing == (1.0, 2.0, 1.5)
    assert prepared.grid.size == (3, 4, 8)


def test_the_frozen_spacing_is_the_median_in_the_common_frame(tmp_path):
    array = np.ones((4, 5, 6), np.uint8)
    swapped = (0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0)
    spacings = [((1.0, 2.0, 3.0), UPRIGHT), ((5.0, 2.0, 1.5), swapped), ((9.0, 9.0, 9.0), UPRIGHT)]
    cases = [
        make_case(
            t1=write_image(tmp_path / f"{number}.nrrd", array, spacing=spacing, direction=direction)
        )
        for number, (spacing, direction) in enumerate(spacings)
    ]

    frozen = freeze_spacing(make_task(), PreparationOptions(), cases)

    assert frozen.spacing == (1.5, 2.0, 5.0)
    assert frozen.mask == "nonzero"
    assert frozen.is_frozen


def test_the_tasks_spacing_needs_no_cases():
    frozen = freeze_spacing(make_task(spacing=(1.0, 1.0, 2.0)), PreparationOptions(), [])

    assert frozen.spacing == (1.0, 1.0, 2.0)


def test_a_spacing_from_no_cases_is_an_error():
    with pytest.raises(SemiSupSegError, match="no labelled case to take it from"):
        freeze_spacing(make_task(), PreparationOptions(), [])


def test_options_that_are_not_frozen_are_refused(worked_case):
    with pytest.raises(ValueError, match="not frozen"):
        prepare_case(worked_case, make_task(), PreparationOptions())


def test_options_survive_json():
    options = PreparationOptions(spacing=(1.0, 2.0, 3.0), mask="all", upper_quantile=None, n4=True)

    assert from_json(PreparationOptions, to_json(options)) == options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacing": [1, 0, 1]}, "three positive numbers"),
        ({"upper_quantile": 1.5}, "0 <= lower < upper <= 1"),
        ({"margin_voxels": -1}, "margin_voxels is -1"),
        ({"clip_over": "brain"}, "must be one of mask, box"),
        ({"upper_quantil": 0.9}, "Did you mean 'upper_quantile'"),
    ],
)
def test_wrong_options_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        from_json(PreparationOptions, changes, "preparation")


def test_bias_field_correction_evens_out_slow_brightness_changes():
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (16, 20, 24)), indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.9
    array = np.where(inside, 100 * np.exp(0.4 * x + 0.2 * y), 0).astype(np.float32)
    image = sitk.GetImageFromArray(array)
    mask = sitk.GetImageFromArray(inside.astype(np.uint8))

    corrected = sitk.GetArrayFromImage(correct_bias_field(image, mask, 2, "t1"))

    assert geometry_of(image).shape == corrected.shape
    variation = corrected[inside].std() / corrected[inside].mean()
    assert variation < 0.2 * array[inside].std() / array[inside].mean()


def test_bias_field_correction_refuses_negative_intensities():
    image = sitk.GetImageFromArray(np.linspace(-1, 1, 480).reshape(6, 8, 10).astype(np.float32))

    with pytest.raises(SemiSupSegError, match="t1 has negative intensities"):
        correct_bias_field(image, image > -2, 1, "t1")


def test_a_scaled_nifti_file_is_read_as_its_real_values(tmp_path):
    stored = np.arange(120, dtype=np.uint8).reshape(6, 5, 4)
    image = nibabel.Nifti1Image(stored, np.diag([-1.0, -2.0, 3.0, 1.0]))
    image.header.set_slope_inter(0.5, -10)
    path = tmp_path / "t1.nii.gz"
    nibabel.save(image, path)
    options = PreparationOptions(spacing=(1, 2, 3), mask="nonzero", upper_quantile=None)

    prepared = prepare_case(make_case(t1=ImageSource(path=path)), make_task(), options)

    # The stored value 20 stands for 0, which is background here.
    assert prepared.mask().sum() == 119
    assert (
        prepared.image_hash
        == prepare_case(make_case(t1=ImageSource(path=path)), make_task(), options).image_hash
    )
