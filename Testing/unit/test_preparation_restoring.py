"""Results back on the scan's own grid, and the files they become."""

import dataclasses
import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.preparation.nifti import CHUNK_BYTES
from SemiSupSegLib.preparation.placement import find_placement
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.preparation.resampling import grid_with_spacing, resample_labels, with_geometry
from SemiSupSegLib.preparation.restoring import restore, restore_labels, write_volume

UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
SCAN = Geometry(size=(4, 5, 6), spacing=(1.0, 2.0, 3.0), origin=(10, 20, 30), direction=UPRIGHT)


def prepared_on(grid: Geometry, original: Geometry = SCAN) -> PreparedCase:
    return PreparedCase(
        id="ann",
        patient="ann",
        original=original,
        grid=grid,
        image_hash="",
        reference=ImageSource(path=Path("ann.nrrd")),
    )


def box(start: tuple[int, int, int], size: tuple[int, int, int]) -> Geometry:
    origin = tuple(
        begin + index * step
        for begin, index, step in zip(SCAN.origin, start, SCAN.spacing, strict=True)
    )
    return dataclasses.replace(SCAN, size=size, origin=origin)


def test_maps_of_a_box_return_to_their_place_with_the_given_values_around():
    values = np.arange(2 * 2 * 3 * 2, dtype=np.float32).reshape(2, 2, 3, 2)

    restored = restore(values, prepared_on(box((1, 2, 3), (2, 3, 2))), outside=[1.0, -7.0])

    assert restored.shape == (2, 6, 5, 4)
    np.testing.assert_array_equal(restored[:, 3:5, 2:5, 1:3], values)
    assert restored[0, 0, 0, 0] == 1
    assert restored[1, 5, 4, 3] == -7
    assert (restored == 1).sum() == 120 - 12 + 1
    assert (restored == -7).sum() == 120 - 12


def test_turned_axes_return_to_their_place():
    # Grid x runs along scan z, grid y against scan y, grid z against scan x.
    grid = Geometry(
        size=(6, 5, 4),
        spacing=(3.0, 2.0, 1.0),
        origin=(13, 28, 30),
        direction=(0.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0, 0.0, 0.0),
    )
    label = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)

    restored = restore_labels(label, prepared_on(grid))

    np.testing.assert_array_equal(restored, label.transpose(2, 1, 0)[:, ::-1, ::-1])


def test_grids_with_other_voxels_have_no_placement():
    shifted = dataclasses.replace(SCAN, origin=(10.5, 20, 30))
    larger = dataclasses.replace(SCAN, size=(5, 5, 6))
    turned = dataclasses.replace(SCAN, direction=(0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0))

    assert find_placement(SCAN, SCAN) is not None
    for other in (shifted, larger, turned):
        assert find_placement(other, SCAN) is None


def test_other_spacing_is_interpolated_linearly_and_the_outside_filled():
    # Half the spacing along x over scan voxels 1 and 2 only: centres at 10.75, 11.25, 11.75, 12.25.
    grid = dataclasses.replace(box((1, 0, 0), (4, 5, 6)), spacing=(0.5, 2.0, 3.0))
    grid = dataclasses.replace(grid, origin=(10.75, 20, 30))
    values = np.broadcast_to(np.array([0.75, 1.25, 1.75, 2.25], np.float32), (1, 6, 5, 4))

    restored = restore(np.array(values), prepared_on(grid), outside=[9.0])

    # Blur before coarsening is symmetric, so a ramp keeps its middle.
    np.testing.assert_allclose(restored[0, 2, 2], [9, 1.04, 1.96, 9], atol=0.05)


def test_a_label_resampled_class_by_class_keeps_straight_surfaces():
    # Surfaces between voxels 2 and 3, 5 and 6 of 8; each voxel becomes two.
    label = np.zeros((2, 3, 8), np.uint8)
    label[:, :, 3:6], label[:, :, 6:] = 1, 2
    image = sitk.GetImageFromArray(label)
    grid = grid_with_spacing(
        Geometry(size=(8, 3, 2), spacing=(1, 1, 1), origin=(0, 0, 0), direction=UPRIGHT),
        (0.5, 1, 1),
        0.01,
    )

    fine = sitk.GetArrayFromImage(resample_labels(image, grid))

    assert grid.size == (16, 3, 2)
    assert fine[0, 0].tolist() == [0] * 6 + [1] * 6 + [2] * 4


def test_wrong_shapes_are_refused():
    prepared = prepared_on(box((1, 2, 3), (2, 3, 2)))

    with pytest.raises(ValueError, match="prepared grid has"):
        restore_labels(np.zeros((2, 2, 3), np.uint8), prepared)
    with pytest.raises(ValueError, match="1 maps and 2 values"):
        restore(np.zeros((1, 2, 3, 2), np.float32), prepared, outside=[0, 0])


def test_label_maps_are_written_as_they_are(tmp_path):
    label = np.arange(120, dtype=np.uint8).reshape(6, 5, 4)

    write_volume(tmp_path / "label.nii.gz", label, SCAN)

    image = nibabel.load(tmp_path / "label.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(image.dataobj), label.transpose(2, 1, 0))
    np.testing.assert_array_equal(
        image.affine, [[-1, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]
    )


def test_itk_reads_the_same_grid_and_voxels(tmp_path):
    label = np.arange(120, dtype=np.uint8).reshape(6, 5, 4)

    write_volume(tmp_path / "label.nii", label, SCAN)

    image = sitk.ReadImage(str(tmp_path / "label.nii"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), label)
    assert image.GetOrigin() == SCAN.origin
    assert image.GetSpacing() == SCAN.spacing
    assert image.GetDirection() == SCAN.direction


def test_maps_are_stored_in_steps_of_a_two_hundredth(tmp_path):
    values = np.linspace(0, 1, 120, dtype=np.float32).reshape(6, 5, 4)

    write_volume(tmp_path / "map.nii.gz", values, SCAN)

    image = nibabel.load(tmp_path / "map.nii.gz")
    assert image.dataobj.slope == pytest.approx(0.005)
    assert image.get_data_dtype() == np.uint8
    assert image.dataobj.get_unscaled().max() == 200
    np.testing.assert_allclose(image.get_fdata(), values.T, atol=0.0026)


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_maps_beyond_0_to_1_are_refused(tmp_path, value):
    values = np.full((6, 5, 4), 0.5)
    values[1, 2, 3] = value

    with pytest.raises(ValueError, match="map reaches from"):
        write_volume(tmp_path / "map.nii.gz", values, SCAN)
    assert list(tmp_path.iterdir()) == []


def test_booleans_become_0_and_1(tmp_path):
    mask = np.zeros((6, 5, 4), bool)
    mask[1, 2, 3] = True

    write_volume(tmp_path / "mask.nii", mask, SCAN)

    assert np.argwhere(np.asarray(nibabel.load(tmp_path / "mask.nii").dataobj)).tolist() == [
        [3, 2, 1]
    ]


def test_affine_fields_of_a_nifti_input_are_copied_to_the_bit(tmp_path):
    sform = np.array([[0, -1.7, 0.1, 3.3], [1.1, 0, 0.2, -7.7], [0, 0.1, 2.9, 1e-3], [0, 0, 0, 1]])
    source = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), sform)
    source.set_qform(np.diag([-1.2, 1.3, 1.4, 1.0]), code=2)
    source.header["sform_code"] = 4
    path = tmp_path / "input.nii.gz"
    nibabel.save(source, path)

    write_volume(
        tmp_path / "out.nii.gz", np.zeros((6, 5, 4), np.uint8), SCAN, ImageSource(path=path)
    )

    expected, found = nibabel.load(path).header, nibabel.load(tmp_path / "out.nii.gz").header
    for name in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b"):
        np.testing.assert_array_equal(found[name], expected[name])
    np.testing.assert_array_equal(found["pixdim"][:4], expected["pixdim"][:4])


def test_a_volume_of_many_chunks_is_one_valid_gzip_member(tmp_path):
    size = (70, 130, 190)
    geometry = dataclasses.replace(SCAN, size=size)
    array = np.random.default_rng(0).integers(0, 4, size[::-1]).astype(np.uint8)
    assert array.size > CHUNK_BYTES

    write_volume(tmp_path / "large.nii.gz", array, geometry)

    stored = (tmp_path / "large.nii.gz").read_bytes()
    assert gzip.decompress(stored)[352:] == array.tobytes()
    write_volume(tmp_path / "again.nii.gz", array, geometry)
    assert (tmp_path / "again.nii.gz").read_bytes() == stored


def test_other_suffixes_and_missing_folders_are_refused(tmp_path):
    label = np.zeros((6, 5, 4), np.uint8)

    with pytest.raises(SemiSupSegError, match=r"must end in \.nii or \.nii\.gz"):
        write_volume(tmp_path / "label.png", label, SCAN)
    with pytest.raises(SemiSupSegError, match="cannot be written"):
        write_volume(tmp_path / "no folder" / "label.nii", label, SCAN)


def test_an_array_of_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the grid has"):
        write_volume(tmp_path / "label.nii", np.zeros((4, 5, 6), np.uint8), SCAN)


def test_images_keep_their_grid_when_made_from_arrays():
    image = with_geometry(np.zeros((6, 5, 4), np.uint8), SCAN)

    assert image.GetSize() == (4, 5, 6)
    assert image.GetSpacing() == (1.0, 2.0, 3.0)
