"""Images and label maps come as they are on disk, in LPS."""

import hashlib

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import geometry_of
from SemiSupSegLib.cases.image_error import ImageFileError
from SemiSupSegLib.cases.listing import list_images
from SemiSupSegLib.cases.reading import content_hash, read_header, read_image, read_label
from SemiSupSegLib.cases.task import load_task
from Testing.data.folder_layouts import SIZE, a_label, an_image, write, write_dicom_series

OBLIQUE_RAS = np.array(
    [[-1.2, 0.9, 0, 7], [0.9, 1.2, 0, -5], [0, 0, 3, 40], [0, 0, 0, 1]], dtype=np.float64
)


def write_nifti(path, values, affine=OBLIQUE_RAS, slope=None, intercept=None):
    image = nibabel.Nifti1Image(values, affine)
    if slope is not None:
        image.header.set_slope_inter(slope, intercept)
    nibabel.save(image, path)
    return ImageSource(path=path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_every_format_gives_voxels_type_and_place(tmp_path, suffix):
    image = an_image(5)
    source = ImageSource(path=write(tmp_path / f"a{suffix}", image))

    read = read_image(source)

    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(image))
    assert read.GetPixelID() == image.GetPixelID()
    assert geometry_of(read).corner_shift_voxels(geometry_of(image)) < 1e-5
    assert read_header(source).geometry.matches(geometry_of(image))


def test_a_dicom_series_is_put_in_the_order_of_space(tmp_path):
    write_dicom_series(tmp_path / "t1", seed=5, description="T1")
    (found,) = list_images(tmp_path).images

    read = read_image(found.source)

    expected = an_image(5)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(expected))
    assert geometry_of(read).corner_shift_voxels(geometry_of(expected)) < 1e-4
    assert read_header(found.source).geometry == geometry_of(read)


def test_the_scale_of_a_nifti_header_is_applied(tmp_path):
    stored = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    source = write_nifti(tmp_path / "a.nii.gz", stored, slope=0.5, intercept=-3.0)
    stored_again = np.asarray(nibabel.load(source.path).dataobj.get_unscaled())

    read = sitk.GetArrayFromImage(read_image(source))

    assert read.dtype == np.float32
    np.testing.assert_allclose(read, stored_again.T * 0.5 - 3.0)


def test_ras_of_the_file_becomes_lps(tmp_path):
    source = write_nifti(tmp_path / "a.nii", np.zeros((2, 3, 4), dtype=np.int16))

    read = read_image(source)

    # Voxel (1, 2, 3) lies at RAS (-1.2 + 1.8 + 7, 0.9 + 2.4 - 5, 9 + 40).
    assert read.TransformIndexToPhysicalPoint((1, 2, 3)) == pytest.approx((-7.6, 1.7, 49.0))
    assert read.GetSpacing() == pytest.approx((1.5, 1.5, 3.0))


def test_big_endian_files_are_read(tmp_path):
    values = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    image = nibabel.Nifti1Image(values, OBLIQUE_RAS, nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "a.nii.gz")

    read = read_image(ImageSource(path=tmp_path / "a.nii.gz"))

    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), values.T)


def test_nifti_2_is_read(tmp_path):
    values = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    nibabel.save(nibabel.Nifti2Image(values, OBLIQUE_RAS), tmp_path / "a.nii.gz")

    read = read_image(ImageSource(path=tmp_path / "a.nii.gz"))

    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), values.T)


def test_one_volume_of_a_4d_file_is_chosen_by_its_number(tmp_path):
    volumes = [an_image(seed) for seed in (1, 2, 3)]
    path = write(tmp_path / "a.nii.gz", sitk.JoinSeries(volumes))

    read = read_image(ImageSource(path=path, component=2))

    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(volumes[2]))
    with pytest.raises(ImageFileError, match="holds 3 volumes where one is expected"):
        read_image(ImageSource(path=path))
    with pytest.raises(ImageFileError, match="holds 3 volumes, number 3 is missing"):
        read_image(ImageSource(path=path, component=3))


def test_one_component_of_a_vector_nrrd_is_chosen_by_its_number(tmp_path):
    volumes = [an_image(seed) for seed in (1, 2, 3, 4)]
    path = write(tmp_path / "a.nrrd", sitk.Compose(volumes))

    read = read_image(ImageSource(path=path, component=1))

    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(volumes[1]))


def test_a_truncated_nifti_is_refused_where_itk_fills_up_with_zeros(tmp_path):
    path = write(tmp_path / "a.nii", an_image(1))
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(ImageFileError, match=r"a\.nii is truncated.*Copy or download it again"):
        read_image(ImageSource(path=path))


def test_a_file_that_is_only_named_as_compressed_is_told_how_to_be_called(tmp_path):
    plain = write(tmp_path / "a.nii", an_image(1))
    path = plain.rename(tmp_path / "a.nii.gz")

    told = r"a\.nii\.gz is not compressed, though its name ends with \.gz\. Rename it to a\.nii\."
    for read in (read_header, read_image):
        with pytest.raises(ImageFileError, match=told):
            read(ImageSource(path=path))


def test_cosines_that_are_off_by_rounding_are_made_a_rotation(tmp_path):
    # A grid for which ITK gives up ("only supports orthonormal direction cosines").
    affine = OBLIQUE_RAS.copy()
    affine[0, 1] += 2e-3
    source = write_nifti(tmp_path / "a.nii", np.zeros(SIZE, dtype=np.int16), affine)

    direction = np.reshape(read_image(source).GetDirection(), (3, 3))

    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)


def test_sheared_voxels_are_refused(tmp_path):
    affine = OBLIQUE_RAS.copy()
    affine[0, 2] += 1.0
    source = write_nifti(tmp_path / "a.nii", np.zeros(SIZE, dtype=np.int16), affine)

    with pytest.raises(ImageFileError, match=r"sheared voxels.*Resample it"):
        read_header(source)


def test_a_header_without_position_keeps_its_voxel_sizes_and_says_so(tmp_path):
    source = write_nifti(tmp_path / "a.nii", np.zeros(SIZE, dtype=np.int16))
    content = bytearray(source.path.read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    source.path.write_bytes(bytes(content))

    header = read_header(source)

    assert header.note == "missing_geometry"
    assert header.geometry.spacing == pytest.approx((1.5, 1.5, 3.0))


def test_two_positions_in_one_header_are_said(tmp_path):
    image = nibabel.Nifti1Image(np.zeros(SIZE, dtype=np.int16), OBLIQUE_RAS)
    image.set_sform(OBLIQUE_RAS, 1)
    other = OBLIQUE_RAS.copy()
    other[0, 3] += 20
    image.set_qform(other, 1)
    nibabel.save(image, tmp_path / "a.nii")

    header = read_header(ImageSource(path=tmp_path / "a.nii"))

    assert header.note == "ambiguous_geometry"
    assert header.geometry.origin == pytest.approx((-7, 5, 40))


def test_colours_are_refused(tmp_path):
    values = np.zeros((2, 3, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")

    with pytest.raises(ImageFileError, match="holds colours or complex numbers"):
        read_header(ImageSource(path=tmp_path / "a.nii"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageFileError, match=r"gone\.nii\.gz cannot be opened"):
        read_image(ImageSource(path=tmp_path / "gone.nii.gz"))


@pytest.mark.parametrize("pixel_type", [sitk.sitkUInt8, sitk.sitkInt64, sitk.sitkFloat32])
@pytest.mark.parametrize("enhancing", [3, 4])
def test_label_values_become_class_indices(tmp_path, pixel_type, enhancing):
    label = sitk.Cast(a_label((0, 1, 2, enhancing)), pixel_type)
    path = write(tmp_path / "seg.nii.gz", label)

    read = read_label(ImageSource(path=path), load_task("brats"))

    values = sitk.GetArrayFromImage(read)
    assert values.dtype == np.uint8
    assert values.ravel()[:4].tolist() == [0, 1, 2, 3]


def test_an_unknown_label_value_is_refused(tmp_path):
    path = write(tmp_path / "seg.nii.gz", a_label((0, 1, 5)))

    with pytest.raises(ImageFileError, match=r"seg\.nii\.gz has the values 5, which task 'brats'"):
        read_label(ImageSource(path=path), load_task("brats"))


def test_many_unknown_values_are_not_all_listed(tmp_path):
    path = write(tmp_path / "seg.nii.gz", a_label(range(200)))

    with pytest.raises(ImageFileError, match=r"5, 6, 7, 8, 9, 10, 11, 12, 13, 14 and more"):
        read_label(ImageSource(path=path), load_task("brats"))


def test_the_content_hash_is_that_of_the_bytes(tmp_path):
    path = write(tmp_path / "a.nii.gz", an_image(1))

    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert content_hash(ImageSource(path=path)) == expected


def test_the_content_hash_of_a_detached_header_covers_its_data(tmp_path):
    path = write(tmp_path / "a.mhd", an_image(1))
    before = content_hash(ImageSource(path=path))
    write(tmp_path / "a.mhd", an_image(2))

    assert content_hash(ImageSource(path=path)) != before


def test_a_header_whose_data_file_is_missing_names_that_file(tmp_path):
    path = write(tmp_path / "a.mhd", an_image(1))
    (tmp_path / "a.raw").unlink()

    with pytest.raises(ImageFileError, match=r"a\.mhd names a\.raw .* not there"):
        read_image(ImageSource(path=path))
