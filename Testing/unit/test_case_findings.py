"""What can be wrong with a case, one by one."""

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SemiSupSegLib.cases.case import Case, Reason
from SemiSupSegLib.cases.discovery import discover
from SemiSupSegLib.cases.task import load_task
from Testing.data.folder_layouts import (
    SIZE,
    a_label,
    an_image,
    placed,
    write,
    write_bids,
    write_brats_case,
    write_cohort,
    write_dataset_file,
    write_decathlon,
    write_dicom_series,
    write_nnunet,
)


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_STORE", str(tmp_path / "store"))


@pytest.fixture
def cohort(tmp_path) -> Path:
    folder = tmp_path / "cohort"
    folder.mkdir()
    return folder


@pytest.fixture
def a_case(cohort) -> Path:
    """A labelled case without fault; the tests break it."""
    return write_brats_case(cohort / "p1", seed=1)


def scanned(folder: Path, **options) -> Case:
    (case,) = discover(folder.parent, load_task("brats"), **options).cases
    return case


def finding(case: Case) -> Reason:
    (reason,) = case.reasons
    return reason


def test_a_case_without_fault_has_no_findings(a_case):
    case = scanned(a_case)

    assert (case.state.value, case.reasons) == ("labelled", ())


def test_a_missing_channel_makes_a_case_unusable_and_says_what_to_add(a_case):
    (a_case / "p1_flair.nii.gz").unlink()

    case = scanned(a_case)

    assert case.state.value == "unusable"
    assert finding(case).code == "missing_channel"
    assert finding(case).message == "no file is named as channel flair"
    assert (
        finding(case).remedy == "Add a file whose name ends with flair (or t2f, fla, flr, t2flair)"
    )


def test_a_missing_numbered_channel_is_advised_by_its_number(cohort):
    write_nnunet(cohort)
    (cohort / "imagesTr" / "case_0101_0002.nii.gz").unlink()
    (cohort / "imagesTr" / "case_0102_0000.nii.gz").unlink()

    cases = {case.id: case for case in discover(cohort, load_task("brats")).cases}

    assert sorted(cases) == ["case_0101", "case_0102", "case_0201"]
    assert finding(cases["case_0101"]).message == "no file is named as channel t2"
    assert finding(cases["case_0101"]).remedy == "Add case_0101_0002.nii.gz"
    assert finding(cases["case_0102"]).remedy == "Add case_0102_0000.nii.gz"


def test_a_channel_that_the_dataset_file_does_not_number_gets_the_next_number(cohort):
    write_nnunet(cohort, channels=("T1", "T1CE", "FLAIR"))

    case, *_ = discover(cohort, load_task("brats")).cases

    assert finding(case).remedy == (
        "Add case_0101_0003.nii.gz, and name number 3 in the dataset.json ('channel_names')"
    )


def test_too_few_volumes_are_told_with_the_number_of_the_missing_one(cohort):
    write_decathlon(cohort)
    file = cohort / "imagesTr" / "BRATS_001.nii.gz"
    write(file, sitk.JoinSeries([an_image(number) for number in range(3)]))

    case, *_ = discover(cohort, load_task("brats")).cases

    assert finding(case).message == "none of the 3 volumes of BRATS_001.nii.gz is channel t2"
    assert finding(case).remedy == (
        "Add it as number 3 (from 0), as the dataset.json has it, to BRATS_001.nii.gz"
    )


@pytest.mark.parametrize(
    ("lost", "channel"), [("T2w", "t2"), ("ce-gadolinium_T1w", "t1ce"), ("FLAIR", "flair")]
)
def test_a_channel_missing_in_a_bids_tree_is_advised_by_its_name_there(cohort, lost, channel):
    write_bids(cohort, with_sessions=True)
    name = f"sub-02_ses-1_{lost}.nii.gz"
    (cohort / "sub-02" / "ses-1" / "anat" / name).unlink()

    cases = {case.id: case for case in discover(cohort, load_task("brats")).cases}

    reason = finding(cases["sub-02_ses-1"])
    assert (reason.message, reason.remedy) == (
        f"no file is named as channel {channel}",
        f"Add {name}",
    )


def test_a_channel_missing_among_suffixed_names_is_advised_with_the_suffix(cohort):
    for number, channel in enumerate(("t1", "t1c", "fla")):
        write(cohort / "P1" / f"P1_{channel}_bet.nii.gz", an_image(number))

    assert finding(scanned(cohort / "P1")).remedy == (
        "Add a file named as the others are: P1_t2_bet.nii.gz"
    )


def test_a_missing_dicom_series_is_advised_as_a_series(cohort):
    for number, name in enumerate(("AX T1", "AX T1 POST", "AX FLAIR")):
        write_dicom_series(cohort / "P1" / f"s{number}", seed=number, description=name)

    assert finding(scanned(cohort / "P1")).remedy == (
        "Add a DICOM series whose folder or description ends with t2 (or t2w)"
    )


def test_a_missing_optional_channel_is_a_warning(a_case, tmp_path):
    (a_case / "p1_flair.nii.gz").unlink()
    content = load_task("brats").to_json()
    content["channels"][3]["required"] = False
    (tmp_path / "task.json").write_text(json.dumps(content))

    (case,) = discover(a_case.parent, load_task(tmp_path / "task.json")).cases

    assert case.state.value == "labelled"
    assert finding(case).code == "missing_optional_channel"
    assert "flair" not in case.channels


@pytest.mark.parametrize("name", ["p1_t1n.nii.gz", "p1_t1.nrrd", "t1.nii.gz"])
def test_a_doubled_channel_makes_a_case_unusable(a_case, name):
    write(a_case / name, an_image(77))

    case = scanned(a_case)

    assert case.state.value == "unusable"
    assert finding(case).code == "doubled_channel"
    assert name in finding(case).message
    assert "p1_t1.nii.gz" in finding(case).message


def test_doubled_dicom_series_of_one_folder_are_told_apart_by_their_description(cohort):
    for number, name in enumerate(("AX T1", "SAG T1", "T2")):
        write_dicom_series(cohort / "P1", seed=number, description=name, series=number + 1)

    reasons = {one.code: one.message for one in scanned(cohort / "P1").reasons}

    assert reasons["doubled_channel"] == "2 images fit channel t1: P1 (AX T1), P1 (SAG T1)"


def test_two_label_files_make_a_case_unusable(a_case):
    write(a_case / "p1_label.nii.gz", a_label())

    assert finding(scanned(a_case)).code == "doubled_label"


def test_a_mask_beside_a_label_is_not_used_and_this_is_said(a_case):
    write(a_case / "p1_mask.nii.gz", a_label((0, 1)))

    case = scanned(a_case)

    assert case.state.value == "labelled"
    assert finding(case).code == "unused_file"
    assert "p1_mask.nii.gz" in finding(case).message


def test_a_brain_mask_is_not_a_label(a_case):
    (a_case / "p1_seg.nii.gz").unlink()
    write(a_case / "p1_brain_mask.nii.gz", a_label((0, 1)))

    assert scanned(a_case).state.value == "unlabelled"


def test_an_unknown_label_value_is_named_with_what_the_task_knows(a_case):
    write(a_case / "p1_seg.nii.gz", a_label((0, 1, 2, 4, 7, 9)))

    case = scanned(a_case)

    assert case.state.value == "unusable"
    assert finding(case).code == "unknown_label_value"
    assert "the values 7, 9, which task 'brats' does not know" in finding(case).message
    assert "enhancing = 4 or 3" in finding(case).message


def test_a_label_value_beside_a_known_one_is_written_with_all_its_digits(a_case):
    values = sitk.GetArrayFromImage(a_label((0, 1, 2, 4))).astype(np.float64)
    values[values == 1] = 1.000001
    write(a_case / "p1_seg.nii.gz", placed(values))

    assert "the values 1.000001, which task" in finding(scanned(a_case)).message


def test_a_label_map_with_fractions_is_refused(a_case):
    values = sitk.GetArrayFromImage(a_label()).astype(np.float32)
    values[0, 0, 0] = 1.5
    write(a_case / "p1_seg.nii.gz", placed(values))

    assert "the values 1.5," in finding(scanned(a_case)).message


def test_a_label_map_stored_as_floats_is_fine(a_case):
    write(a_case / "p1_seg.nii.gz", sitk.Cast(a_label(), sitk.sitkFloat64))

    assert scanned(a_case).state.value == "labelled"


def test_an_empty_label_is_a_warning(a_case):
    write(a_case / "p1_seg.nii.gz", a_label((0,)))

    case = scanned(a_case)

    assert (case.state.value, finding(case).code) == ("labelled", "empty_label")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_numbers_are_counted(a_case, bad):
    values = sitk.GetArrayFromImage(an_image(3)).astype(np.float32)
    values[1, 2, 3] = values[0, 0, 0] = bad
    write(a_case / "p1_t2.nii.gz", placed(values))

    case = scanned(a_case)

    assert case.state.value == "unusable"
    assert finding(case).code == "not_finite"
    assert "has 2 voxels that are not numbers" in finding(case).message


@pytest.mark.parametrize(("value", "code"), [(0, "empty_image"), (12, "constant_image")])
def test_an_image_of_one_value_is_an_error(a_case, value, code):
    values = np.full(SIZE[::-1], value, dtype=np.int16)
    write(a_case / "p1_t2.nii.gz", placed(values))

    case = scanned(a_case)

    assert (case.state.value, finding(case).code) == ("unusable", code)


@pytest.mark.parametrize(
    ("values", "is_suspicious"),
    [
        ([0, 1], True),
        ([0, 255], True),
        ([0.0, 1.0, 2.0, 4.0], True),
        (list(range(16)), True),
        (list(range(17)), False),
        ([0, 0.5], False),
        ([-1, 1], False),
        ([0, 1000], False),
    ],
)
def test_an_image_with_a_label_maps_values_is_warned_of(a_case, values, is_suspicious):
    image = np.resize(np.asarray(values), SIZE[::-1])
    kind = np.float32 if image.dtype.kind == "f" else np.int16
    write(a_case / "p1_t2.nii.gz", placed(image.astype(kind)))

    case = scanned(a_case)

    assert case.state.value == "labelled"
    assert [one.code for one in case.reasons] == ["looks_like_labels"] * is_suspicious
    assert not is_suspicious or f"only {len(values)} different values" in finding(case).message


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("stem", ["p1_t2", "p1_seg"])
def test_a_truncated_file_is_never_taken_for_a_whole_one(a_case, stem, suffix):
    image = a_label() if stem == "p1_seg" else an_image(8)
    (a_case / f"{stem}.nii.gz").unlink()
    path = write(a_case / f"{stem}{suffix}", image)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 40])

    case = scanned(a_case)

    assert case.state.value == "unusable"
    assert finding(case).code == "unreadable"
    assert f"{stem}{suffix}" in finding(case).message
    assert finding(case).file == str(path)


def test_a_flipped_bit_in_a_compressed_file_is_noticed(a_case):
    path = a_case / "p1_t2.nii.gz"
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the checksum that ends the file
    path.write_bytes(bytes(content))

    assert finding(scanned(a_case)).code == "unreadable"


@pytest.mark.parametrize("content", [b"", b"hello", bytes(600), gzip.compress(b"hello", mtime=0)])
def test_a_file_that_is_no_image_is_found_by_its_header(a_case, content):
    (a_case / "p1_t2.nii.gz").write_bytes(content)

    case = scanned(a_case, check_content=False)

    assert (case.state.value, finding(case).code) == ("unusable", "unreadable")


def test_a_truncated_uncompressed_file_is_found_by_its_header(a_case):
    (a_case / "p1_t2.nii.gz").unlink()
    path = write(a_case / "p1_t2.nii", an_image(4))
    path.write_bytes(path.read_bytes()[:900])

    case = scanned(a_case, check_content=False)

    # Header 352 bytes, 10 x 8 x 6 voxels of 2 bytes.
    assert "is truncated: 900 of 1312 bytes are there" in finding(case).message


def test_headers_alone_do_not_look_at_voxels(a_case):
    write(a_case / "p1_t2.nii.gz", placed(np.zeros(SIZE[::-1], dtype=np.int16)))

    assert scanned(a_case, check_content=False).state.value == "labelled"


def test_an_empty_folder_beside_cases_has_one_finding(a_case):
    (a_case.parent / "left").mkdir()

    empty, _ = discover(a_case.parent).cases

    assert (empty.id, empty.state.value) == ("left", "unusable")
    assert finding(empty).code == "no_image"
    assert finding(empty).message == "the folder left holds no image"


def test_a_link_that_cannot_be_followed_is_noted_and_the_scan_goes_on(a_case):
    (a_case.parent / "p2").symlink_to("p2")
    (a_case / "p1_t2.nii.gz").unlink()
    (a_case / "p1_t2.nii.gz").symlink_to("p1_t2.nii.gz")

    whole, link = discover(a_case.parent).cases

    assert (link.id, link.state.value) == ("p2", "unusable")
    assert finding(link).code == "unreadable"
    assert finding(link).message.startswith("the link p2 cannot be followed (")
    assert finding(whole).message.startswith("p1_t2.nii.gz cannot be")


def test_a_label_without_an_image_is_unusable(a_case):
    for path in a_case.glob("*_[tf]*"):
        path.unlink()

    case = scanned(a_case)

    assert (case.state.value, finding(case).code) == ("unusable", "label_without_image")


def test_one_scan_under_two_names_is_a_warning_on_both(cohort):
    write_brats_case(cohort / "p1", seed=1, label=None)
    write_brats_case(cohort / "p2", seed=2, label=None)
    # The same voxels, packed differently: the bytes of the files differ.
    write(cohort / "p2" / "p2_t2.nrrd", sitk.ReadImage(str(cohort / "p1" / "p1_t2.nii.gz")))
    (cohort / "p2" / "p2_t2.nii.gz").unlink()

    first, second = discover(cohort).cases

    assert (first.state.value, second.state.value) == ("unlabelled", "unlabelled")
    assert finding(first).code == finding(second).code == "duplicate_content"
    assert finding(first).message == "the image of channel t2 is also in p2"
    assert finding(second).message == "the image of channel t2 is also in p1"
    assert (first.twins, second.twins) == (("p2",), ("p1",))


def test_a_whole_case_under_two_names_names_all_its_channels(cohort):
    for case in ("p1", "p2"):
        write_brats_case(cohort / case, seed=1, label=None)

    first, _ = discover(cohort).cases

    assert finding(first).message == (
        "the images of all channels (t1, t1ce, t2, flair) are also in p2"
    )


@pytest.mark.parametrize("kind", ["int32", "float32", "float64", "scaled uint16"])
def test_one_scan_saved_with_two_data_types_is_a_warning_on_both(cohort, kind):
    write_brats_case(cohort / "p1", seed=1, label=None)
    write_brats_case(cohort / "p2", seed=2, label=None)
    values = sitk.GetArrayFromImage(an_image(100))  # p1's t1
    path = cohort / "p2" / "p2_t1.nii.gz"
    if kind == "scaled uint16":
        image = nibabel.Nifti1Image((values.T + 50).astype(np.uint16), np.eye(4))
        image.header.set_slope_inter(1, -50)
        nibabel.save(image, path)
    else:
        write(path, placed(values.astype(kind)))

    first, second = discover(cohort, load_task("brats")).cases

    assert (first.twins, second.twins) == (("p2",), ("p1",))


def test_scans_that_differ_by_fractions_or_beyond_int16_are_no_twins(cohort):
    values = sitk.GetArrayFromImage(an_image(1)).astype(np.float32)
    values[0, 0, 0] = 1.0
    for number, first_voxel in enumerate((1.0, 1.25, 65537.0)):
        values[0, 0, 0] = first_voxel
        write(cohort / f"p{number}" / "mri.nii.gz", placed(values))

    assert [case.twins for case in discover(cohort).cases] == [(), (), ()]


def test_one_image_in_two_channels_is_a_warning(a_case):
    (a_case / "p1_t1ce.nii.gz").write_bytes((a_case / "p1_t1.nii.gz").read_bytes())

    case = scanned(a_case)

    assert case.state.value == "labelled"
    assert finding(case).message == "channels t1, t1ce hold the same image"


def moved(image: sitk.Image, x_mm: float) -> sitk.Image:
    x, y, z = image.GetOrigin()
    image.SetOrigin((x + x_mm, y, z))
    return image


def test_grids_that_differ_by_rounding_are_one_grid(a_case):
    write(a_case / "p1_t2.nii.gz", moved(an_image(4), 0.04))

    assert scanned(a_case).reasons == ()


def test_a_shifted_channel_is_repaired_with_a_warning_that_says_by_how_much(a_case):
    write(a_case / "p1_t2.nii.gz", moved(an_image(4), 2.0))

    case = scanned(a_case)

    assert case.state.value == "labelled"
    assert finding(case).code == "grid_repaired"
    assert finding(case).message.startswith("p1_t2.nii.gz is shifted by 2.00 mm against channel t1")
    # 2 mm along x are (1.6, -0.8) voxels of this oblique grid: 0.8 * 2 / 1 and -0.6 * 2 / 1.5.
    assert "corners up to 1.79 voxels, 2.00 mm apart" in finding(case).message
    assert "is resampled to it by linear interpolation" in finding(case).message


def test_a_label_on_a_finer_grid_is_repaired_class_by_class(a_case):
    label = sitk.Expand(a_label(), (2, 2, 2), sitk.sitkNearestNeighbor)
    write(a_case / "p1_seg.nii.gz", label)

    case = scanned(a_case)

    assert case.state.value == "labelled"
    assert finding(case).code == "grid_repaired"
    assert "resampled to it by linear interpolation of each class" in finding(case).message
    assert "corners up to 0.00 voxels, 0.00 mm apart" in finding(case).message


def test_a_flipped_storage_order_is_no_shift(a_case):
    write(a_case / "p1_t2.nii.gz", sitk.Flip(an_image(4), (True, False, True)))

    message = finding(scanned(a_case)).message
    assert "stores its axes in another order or sense than channel t1" in message
    assert "0.00 mm apart" in message


def test_a_turned_image_is_said_to_be_turned(a_case):
    image = an_image(4)
    image.SetDirection((1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    write(a_case / "p1_t2.nii.gz", image)

    assert "is turned against channel t1" in finding(scanned(a_case)).message


def test_a_slab_inside_the_first_channel_is_filled_up_and_this_is_said(a_case):
    write(a_case / "p1_t2.nii.gz", an_image(4)[:, :, 2:4])

    case = scanned(a_case)

    assert (case.state.value, finding(case).code) == ("labelled", "grid_repaired")
    assert "has another grid (10x8x2 voxels of 1x1.5x2.5 mm, not 10x8x6" in finding(case).message
    # 2 of 6 slices.
    assert "it covers 33% of it, the rest becomes 0" in finding(case).message


@pytest.mark.parametrize("name", ["p1_t2.nii.gz", "p1_seg.nii.gz"])
def test_fields_of_view_that_hardly_overlap_are_an_error(a_case, name):
    image = a_label() if "seg" in name else an_image(4)
    write(a_case / name, moved(image, 60.0))

    case = scanned(a_case)

    assert (case.state.value, finding(case).code) == ("unusable", "grid_mismatch")
    assert "share 0% of the smaller one" in finding(case).message


def test_a_small_label_inside_the_image_is_not_elsewhere(a_case):
    write(a_case / "p1_seg.nii.gz", a_label()[4:6, 3:5, 2:4])

    assert finding(scanned(a_case)).code == "grid_repaired"


def test_a_slice_is_not_a_volume(a_case):
    write(a_case / "p1_t2.nii.gz", an_image(4)[:, :, 2])

    assert finding(scanned(a_case)).code == "wrong_dimensions"


def test_axes_that_lie_in_one_plane_are_no_grid(cohort):
    (cohort / "p1.nrrd").write_bytes(
        b"NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\n"
        b"space directions: (1,0,0) (1,0,0) (0,0,1)\nspace origin: (0,0,0)\nencoding: raw\n\n"
        + bytes(range(64))
    )

    (case,) = discover(cohort).cases

    assert (case.state.value, finding(case).code) == ("unusable", "flat_grid")
    assert "lie in one plane" in finding(case).message


def test_several_volumes_that_nothing_tells_apart_are_an_error(cohort):
    write(cohort / "p1.nii.gz", sitk.JoinSeries([an_image(1), an_image(2)]))

    (case,) = discover(cohort).cases

    assert finding(case).code == "wrong_dimensions"
    assert "holds 2 volumes" in finding(case).message


@pytest.fixture
def decathlon(cohort):
    write_decathlon(cohort)
    write_dataset_file(cohort, new_style=False, channels=("FLAIR", "T1w", "t1gd", "T2w"))
    content = json.loads((cohort / "dataset.json").read_text())
    names = ("background", "edema", "non-enhancing tumor", "enhancing tumour")
    content["labels"] = {str(value): name for value, name in enumerate(names)}
    (cohort / "dataset.json").write_text(json.dumps(content))
    return cohort


def test_label_values_that_mean_something_else_in_the_data_set_are_said(decathlon):
    case = discover(decathlon, load_task("brats")).cases[0]

    assert case.state.value == "labelled"
    assert finding(case).code == "label_meaning"
    assert "dataset.json says 1 is edema" in finding(case).message


def test_label_values_of_the_decathlon_are_recognised(decathlon):
    found = discover(decathlon)

    assert found.task.name == "brats_msd"
    assert not found.cases[0].reasons
    assert found.task.written_values == (0, 2, 1, 3)  # background, necrosis, edema, enhancing


@pytest.fixture
def regions(cohort):
    """An nnU-Net folder whose labels are regions, as nnU-Net writes it for BraTS 2021."""
    write_nnunet(cohort)
    content = json.loads((cohort / "dataset.json").read_text())
    content["labels"] = {
        "background": 0,
        "whole tumor": [1, 2, 3],
        "tumor core": [2, 3],
        "enhancing tumor": [3],
    }
    (cohort / "dataset.json").write_text(json.dumps(content))
    return cohort


def test_label_values_of_regions_are_recognised(regions):
    found = discover(regions)

    assert found.task.name == "brats_msd"
    assert not any(case.reasons for case in found.cases)


def test_label_values_of_regions_that_mean_something_else_are_said(regions):
    case = discover(regions, load_task("brats")).cases[0]

    assert finding(case).code == "label_meaning"
    assert "dataset.json says 1 is edema, 2 is necrosis, but task 'brats'" in finding(case).message


def test_label_names_that_cannot_be_compared_are_said_of_labelled_cases(cohort):
    write_nnunet(cohort)
    content = json.loads((cohort / "dataset.json").read_text())
    content["labels"] = {"background": 0, "liver": 1, "vessel": 2, "tumour": 3}
    (cohort / "dataset.json").write_text(json.dumps(content))

    labelled, _, unlabelled = discover(cohort).cases

    assert "none of these names is one of task 'brats'" in finding(labelled).message
    assert unlabelled.reasons == ()


def test_a_dicom_series_with_a_missing_slice_is_not_a_volume(cohort):
    folder = write_dicom_series(cohort / "P1", seed=1, description="LGE")
    (folder / "IM0004_1.dcm").unlink()

    (case,) = discover(cohort).cases

    assert (case.state.value, finding(case).code) == ("unusable", "unreadable")
    assert "uneven slice distances (2.50 to 5.00 mm)" in finding(case).message


@pytest.mark.parametrize("kept", [60, 200, -40])
def test_a_damaged_slice_makes_a_dicom_series_unusable(cohort, kept):
    folder = write_dicom_series(cohort / "P1", seed=1, description="LGE")
    path = folder / "IM0001_1.dcm"  # the last slice in space: no gap gives it away
    path.write_bytes(path.read_bytes()[:kept])

    (case,) = discover(cohort).cases

    assert (case.state.value, finding(case).code) == ("unusable", "unreadable")


def test_a_damaged_slice_in_the_middle_is_said_beside_the_gap_it_leaves(cohort):
    folder = write_dicom_series(cohort / "P1", seed=1, description="LGE")
    path = folder / "IM0003_1.dcm"
    path.write_bytes(path.read_bytes()[:-40])

    (case,) = discover(cohort).cases

    assert case.state.value == "unusable"
    assert "1 damaged file beside it" in finding(case).message
    assert "uneven slice distances" in finding(case).message


def test_labels_of_other_cases_are_never_opened(cohort):
    write_cohort(cohort, {"p1": True, "p2": True})
    # Whoever opened this one would call it unreadable.
    (cohort / "p2" / "p2_seg.nii.gz").write_bytes(b"not for your eyes")

    opened = discover(cohort, label_ids={"p1"}).cases[1]
    refused = discover(cohort).cases[1]

    assert (opened.state.value, opened.reasons) == ("labelled", ())
    assert opened.label is not None
    assert refused.state.value == "unusable"


def test_a_label_may_be_allowed_by_its_patient(cohort):
    write_brats_case(cohort / "BraTS-GLI-00003-000", label_values=(0, 9))

    (case,) = discover(cohort, label_ids={"BraTS-GLI-00003"}).cases

    assert finding(case).code == "unknown_label_value"


def test_a_case_named_as_its_patient_does_not_open_the_labels_of_the_patients_visits(cohort):
    write_cohort(cohort, {"anna": True})
    write_cohort(cohort / "anna_visits", {"anna_visit2": True}, label_values=(0, 9))

    cases = discover(cohort, load_task("brats"), label_ids={"anna"}).cases

    assert [(one.patient, one.state.value) for one in cases] == [("anna", "labelled")] * 2


def test_a_reviewed_label_takes_the_place_of_the_first(cohort, tmp_path):
    write_cohort(cohort, {"p1": True, "p2": False, "p3": False})
    reviewed = write(tmp_path / "out" / "p2" / "p2_reviewed.nii.gz", a_label())

    cases = discover(cohort, reviews=tmp_path / "out").cases

    assert [case.state.value for case in cases] == ["labelled", "reviewed", "unlabelled"]
    assert cases[1].label is not None
    assert cases[1].label.path == reviewed


def test_a_broken_reviewed_label_makes_the_case_unusable(cohort, tmp_path):
    write_cohort(cohort, {"p1": True})
    write(tmp_path / "out" / "p1" / "p1_reviewed.nii.gz", a_label((0, 8)))

    (case,) = discover(cohort, reviews=tmp_path / "out").cases

    assert (case.state.value, finding(case).code) == ("unusable", "unknown_label_value")


def test_a_review_follows_its_images_when_the_case_is_renamed(cohort, tmp_path):
    from SemiSupSegLib.cases.reading import content_hash

    write_cohort(cohort, {"new-name": False, "other": False})
    write(tmp_path / "out" / "old" / "old_reviewed.nii.gz", a_label())
    channels = discover(cohort).cases[0].channels
    inputs = {name: content_hash(source) for name, source in channels.items()}
    (tmp_path / "out" / "old" / "case.json").write_text(json.dumps({"inputs": inputs}))

    cases = discover(cohort, reviews=tmp_path / "out").cases

    assert [case.state.value for case in cases] == ["reviewed", "unlabelled"]


def test_a_review_of_other_images_is_not_joined_by_name_alone(cohort, tmp_path):
    write_cohort(cohort, {"p1": False})
    write(tmp_path / "out" / "p1" / "p1_reviewed.nii.gz", a_label())
    (tmp_path / "out" / "p1" / "case.json").write_text('{"inputs": {"t1": "0000"}}')

    (case,) = discover(cohort, reviews=tmp_path / "out").cases

    assert case.state.value == "unlabelled"
