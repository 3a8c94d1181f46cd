"""Every layout is found, without being told which it is."""

import json
import unicodedata
from pathlib import Path

import pytest

from SemiSupSegLib.cases.case import Case
from SemiSupSegLib.cases.discovery import ScanResult, discover
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.errors import UsageError
from Testing.data.folder_layouts import (
    BRATS_2021,
    BRATS_2023,
    a_label,
    an_image,
    write,
    write_bids,
    write_brats_case,
    write_cohort,
    write_decathlon,
    write_dicom_series,
    write_nnunet,
)


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_STORE", str(tmp_path / "store"))


@pytest.fixture
def cohort(tmp_path) -> Path:
    folder = tmp_path / "cohort with spaces ü"
    folder.mkdir()
    return folder


def states(result: ScanResult) -> dict[str, str]:
    return {case.id: case.state.value for case in result.cases}


def files(case: Case) -> dict[str, str]:
    return {name: source.path.name for name, source in case.channels.items()}


def codes(result: ScanResult) -> list[str]:
    return [reason.code for case in result.cases for reason in case.reasons]


@pytest.mark.parametrize(
    ("pattern", "channels"),
    [
        ("{case}_{channel}", BRATS_2021),
        ("{case}-{channel}", BRATS_2023),
        ("{channel}", BRATS_2021),
        ("{case}_{channel}_bet", ("t1", "t1c", "t2", "fla")),
        ("{channel}_{case}", BRATS_2021),
        ("{case}.{channel}", ("T1", "T1Gd", "T2", "T2_FLAIR")),
        ("{channel}_to_atlas", ("T1", "T1post", "T2", "FLAIR")),
    ],
)
def test_case_folders_are_found_however_the_channels_are_spelt(cohort, pattern, channels):
    write_cohort(cohort, {"Case-01": True, "Case-02": False}, pattern=pattern, channels=channels)

    result = discover(cohort)

    assert (result.task.name, result.layout) == ("brats", "case_folders")
    assert states(result) == {"Case-01": "labelled", "Case-02": "unlabelled"}
    for case in result.cases:
        expected = [pattern.format(case=case.id, channel=name) + ".nii.gz" for name in channels]
        assert files(case) == dict(zip(("t1", "t1ce", "t2", "flair"), expected, strict=True))
    assert codes(result) == []


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_every_image_format_is_read(cohort, suffix):
    write_cohort(cohort, {"a": True, "b": False}, suffix=suffix)

    result = discover(cohort)

    assert states(result) == {"a": "labelled", "b": "unlabelled"}
    assert codes(result) == []


def test_brats_2023_time_points_belong_to_one_patient(cohort):
    write_cohort(
        cohort,
        {"BraTS-GLI-00001-000": True, "BraTS-GLI-00001-001": False, "BraTS-GLI-00002-000": True},
        pattern="{case}-{channel}",
        channels=BRATS_2023,
        label_values=(0, 1, 2, 3),
    )

    result = discover(cohort)

    assert [case.patient for case in result.cases] == [
        "BraTS-GLI-00001",
        "BraTS-GLI-00001",
        "BraTS-GLI-00002",
    ]


def test_one_image_and_one_label_in_a_case_folder_are_the_binary_task(cohort):
    for number in (1, 2):
        write(cohort / f"L{number}" / "mri.nii.gz", an_image(number))
    write(cohort / "L1" / "seg.nii.gz", a_label((0, 1)))

    result = discover(cohort)

    assert result.task.name == "binary"
    assert states(result) == {"L1": "labelled", "L2": "unlabelled"}
    assert files(result.cases[0]) == {"image": "mri.nii.gz"}


def test_a_decathlon_folder_gives_the_volumes_of_its_files_by_name(cohort):
    write_decathlon(cohort)

    result = discover(cohort)

    assert (result.task.name, result.layout) == ("brats", "msd")
    assert states(result) == {
        "BRATS_001": "labelled",
        "BRATS_002": "labelled",
        "BRATS_101": "unlabelled",
    }
    components = {name: one.component for name, one in result.cases[0].channels.items()}
    assert components == {"t1": 1, "t1ce": 2, "t2": 3, "flair": 0}
    assert codes(result) == []


def test_a_decathlon_folder_of_single_volumes_is_found(cohort):
    for number in (3, 4):
        write(cohort / "imagesTr" / f"la_{number:03}.nii.gz", an_image(number))
        write(cohort / "labelsTr" / f"la_{number:03}.nii.gz", a_label((0, 1)))
    (cohort / "dataset.json").write_text('{"modality": {"0": "MRI"}, "labels": {"1": "atrium"}}')

    result = discover(cohort)

    assert (result.task.name, result.layout) == ("binary", "msd")
    assert states(result) == {"la_003": "labelled", "la_004": "labelled"}


def test_an_nnunet_folder_gives_its_numbered_channels_by_name(cohort):
    write_nnunet(cohort, channels=("FLAIR", "T1", "T1CE", "T2"))

    result = discover(cohort)

    assert (result.task.name, result.layout) == ("brats", "nnunet")
    assert states(result) == {
        "case_0101": "labelled",
        "case_0102": "labelled",
        "case_0201": "unlabelled",
    }
    assert files(result.cases[0])["flair"] == "case_0101_0000.nii.gz"
    assert files(result.cases[0])["t2"] == "case_0101_0003.nii.gz"
    assert codes(result) == []


@pytest.mark.parametrize("task", [None, "brats"])
def test_four_numbered_channels_without_names_take_the_order_of_brats_and_say_so(cohort, task):
    write_nnunet(cohort)
    (cohort / "dataset.json").unlink()

    result = discover(cohort, task and load_task(task))

    assert result.task.name == "brats"
    assert files(result.cases[0])["t1ce"] == "case_0101_0001.nii.gz"
    assert codes(result) == ["assumed_channel_order"] * len(result.cases)
    assert states(result)["case_0101"] == "labelled"


def test_other_numbers_of_unnamed_channels_are_refused_with_what_to_do(cohort):
    write_nnunet(cohort, channels=("A", "B"))
    (cohort / "dataset.json").unlink()

    result = discover(cohort)

    assert (result.task.name, set(states(result).values())) == ("binary", {"unusable"})
    assert "label_without_image" not in codes(result)
    (reason,) = result.cases[2].reasons
    assert "2 images are numbered (_0000, ...), and nothing says which is which" in reason.message
    assert "Name them in a dataset.json" in reason.remedy


def test_numbered_channels_with_other_names_are_not_taken_for_brats(cohort):
    write_nnunet(cohort, channels=("CT", "PET", "ADC", "DWI"))

    assert discover(cohort).task.name == "binary"


def test_case_numbers_that_look_like_channel_numbers_stay_case_numbers(cohort):
    for number in range(3):
        write(cohort / "imagesTr" / f"scan_{number:04}.nii.gz", an_image(number))
        write(cohort / "labelsTr" / f"scan_{number:04}.nii.gz", a_label((0, 1)))

    result = discover(cohort)

    assert states(result) == dict.fromkeys(("scan_0000", "scan_0001", "scan_0002"), "labelled")


@pytest.mark.parametrize("with_sessions", [False, True])
def test_a_bids_tree_is_found_with_its_derived_labels(cohort, with_sessions):
    write_bids(cohort, with_sessions=with_sessions)

    result = discover(cohort)

    assert (result.task.name, result.layout) == ("brats", "bids")
    ends = ("_ses-1", "_ses-2") if with_sessions else ("",)
    assert states(result) == {
        **{f"sub-01{end}": "labelled" for end in ends},
        **{f"sub-02{end}": "unlabelled" for end in ends},
    }
    assert {case.patient for case in result.cases} == {"sub-01", "sub-02"}
    assert files(result.cases[0])["t1ce"].endswith("ce-gadolinium_T1w.nii.gz")
    assert codes(result) == []


def test_preprocessed_images_and_brain_masks_of_a_bids_tree_are_not_channels(cohort):
    write_bids(cohort, with_sessions=False)
    derived = cohort / "derivatives" / "prep" / "sub-02" / "anat"
    write(derived / "sub-02_desc-preproc_T1w.nii.gz", an_image(5))
    write(derived / "sub-02_desc-brain_mask.nii.gz", a_label((0, 1)))

    assert states(discover(cohort)) == {"sub-01": "labelled", "sub-02": "unlabelled"}


@pytest.mark.parametrize("label", ["p1.nii.gz", "p1_seg.nii.gz", "p1/seg.nii.gz", "p1/p1.nii.gz"])
@pytest.mark.parametrize("image", ["{case}_{channel}", "{case}/{channel}", "{case}/x_{channel}"])
def test_labels_in_a_separate_folder_find_their_images(cohort, image, label):
    for seed, case in enumerate(("p1", "p2")):
        for number, channel in enumerate(BRATS_2021):
            name = image.format(case=case, channel=channel)
            write(cohort / "images" / f"{name}.nii.gz", an_image(10 * seed + number))
    write(cohort / "labels" / label, a_label())

    result = discover(cohort)

    assert result.layout == "separate_labels"
    assert states(result) == {"p1": "labelled", "p2": "unlabelled"}
    assert codes(result) == []


@pytest.mark.parametrize(
    "folder",
    ["manual_labels", "label_maps", "labels_nii", "lesions", "lbl", "T2_manual_seg", "images_segm"],
)
def test_a_folder_of_labels_may_have_a_compound_name(cohort, folder):
    for seed, case in enumerate(("p1", "p2")):
        write(cohort / "images" / f"{case}.nii.gz", an_image(seed))
    write(cohort / folder / "p1.nii.gz", a_label((0, 1)))

    assert states(discover(cohort, load_task("binary"))) == {"p1": "labelled", "p2": "unlabelled"}


@pytest.mark.parametrize(
    "names",
    [
        ("Möller", "Müller"),
        ("李明", "王伟"),
        ("Иванов", "Петров"),
        ("कि", "की"),
        ("A 1", "A-1", "A_1"),
        ("😀", "😁"),
    ],
)
@pytest.mark.parametrize("layout", ["folders", "flat", "two folders"])
def test_patients_whose_names_differ_are_different_cases(cohort, names, layout):
    image = {"folders": "{}/t2", "flat": "{}", "two folders": "images/{}"}[layout]
    label = {"folders": "{}/seg", "flat": "{}_seg", "two folders": "labels/{}"}[layout]
    for seed, name in enumerate(names):
        write(cohort / f"{image.format(name)}.nii.gz", an_image(seed))
    write(cohort / f"{label.format(names[0])}.nii.gz", a_label((0, 1)))

    result = discover(cohort, load_task("binary"))

    expected = dict.fromkeys(names[1:], "unlabelled")
    assert states(result) == {**expected, names[0]: "labelled"}
    assert {case.patient for case in result.cases} == set(names)
    assert codes(result) == []


def test_a_label_of_another_patient_is_not_joined_to_an_image(cohort):
    for number, name in enumerate(("Müller", "Bach")):
        write(cohort / "images" / f"{name}.nii.gz", an_image(number))
    for name in ("Möller", "Bach"):
        write(cohort / "labels" / f"{name}.nii.gz", a_label((0, 1)))

    result = discover(cohort)

    assert states(result) == {"Bach": "labelled", "Müller": "unlabelled", "Möller": "unusable"}
    assert codes(result) == ["label_without_image"]


def test_a_name_is_one_name_however_its_letters_are_composed(cohort):
    write(cohort / "images" / "Müller.nii.gz", an_image(1))
    write(cohort / "images" / "Bach.nii.gz", an_image(2))
    # As macOS writes it.
    write(cohort / "labels" / f"{unicodedata.normalize('NFD', 'Müller')}.nii.gz", a_label((0, 1)))

    assert states(discover(cohort)) == {"Bach": "unlabelled", "Müller": "labelled"}


def test_channels_in_folders_of_their_own_are_joined_however_the_name_is_separated(cohort):
    for number, channel in enumerate(BRATS_2021):
        for case in ("1", "2"):
            name = f"p_{case}" if number % 2 else f"P-{case}"
            write(cohort / channel / f"{name}.nii.gz", an_image(10 * number + int(case)))

    assert set(states(discover(cohort)).values()) == {"unlabelled"}
    assert len(discover(cohort).cases) == 2


@pytest.mark.parametrize("place", ["images/{}_{}", "{}_{}/scan", "{}/{}/scan"])
@pytest.mark.parametrize(
    "visits", [("T0", "T1"), ("20200101", "2021-02-01"), ("day3", "week12"), ("scan1", "scan2")]
)
def test_visits_are_one_patients_wherever_they_are_named(cohort, place, visits):
    for seed, (patient, visit) in enumerate((one, two) for one in ("P1", "P2") for two in visits):
        write(cohort / f"{place.format(patient, visit)}.nii.gz", an_image(seed))

    result = discover(cohort)

    assert result.task.name == "binary"
    assert {case.id: case.patient for case in result.cases} == {
        f"{patient}_{visit}": patient for patient in ("P1", "P2") for visit in visits
    }


@pytest.mark.parametrize("pattern", ["{case}_{channel}", "{channel}"])
def test_folders_called_t1_and_t2_that_hold_all_channels_are_visits(cohort, pattern):
    for patient in ("P1", "P2"):
        write_cohort(cohort / patient, {"T1": True, "T2": False}, pattern=pattern)

    result = discover(cohort)

    assert result.task.name == "brats"
    assert {case.id: (case.patient, case.state.value) for case in result.cases} == {
        "P1_T1": ("P1", "labelled"),
        "P1_T2": ("P1", "unlabelled"),
        "P2_T1": ("P2", "labelled"),
        "P2_T2": ("P2", "unlabelled"),
    }


def test_folders_of_contrasts_may_hold_a_related_one(cohort):
    for number, name in enumerate(("T1/t1", "T1/t1ce", "T2/t2", "T2/flair")):
        write(cohort / "P1" / f"{name}.nii.gz", an_image(number))
        write(cohort / "P2" / f"{name}.nii.gz", an_image(10 + number))

    assert states(discover(cohort)) == {"P1": "unlabelled", "P2": "unlabelled"}


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("imagesTr/img{}", "labelsTr/label{}"),
        ("img{}", "label{}"),
        ("Pancreas-CT/PANCREAS_{}", "TCIA_pancreas_labels-02-05-2017/label{}"),
        ("hippocampus{}", "mask{}"),
        ("scans/P{}", "drawn by AB/P{}_seg"),
    ],
)
def test_numbered_labels_belong_to_the_images_of_their_numbers(cohort, image, label):
    for number in range(1, 4):
        write(cohort / f"{image.format(f'000{number}')}.nii.gz", an_image(number))
    for number in (1, 2):
        write(cohort / f"{label.format(f'000{number}')}.nii.gz", a_label((0, 1)))

    result = discover(cohort)

    case_id = image.split("/")[-1]
    assert {case.id: case.label and case.label.path.name for case in result.cases} == {
        case_id.format("0001"): label.split("/")[-1].format("0001") + ".nii.gz",
        case_id.format("0002"): label.split("/")[-1].format("0002") + ".nii.gz",
        case_id.format("0003"): None,
    }
    assert codes(result) == []


def test_a_numbered_mask_of_the_brain_is_no_label(cohort):
    for number in (1, 2):
        write(cohort / f"P{number}.nii.gz", an_image(number))
        write(cohort / f"brainmask{number}.nii.gz", a_label((0, 1)))

    assert "labelled" not in states(discover(cohort)).values()


def test_a_numbered_label_that_fits_two_images_is_given_to_neither(cohort):
    for seed, site in enumerate(("siteA", "siteB")):
        write(cohort / f"{site}_001.nii.gz", an_image(seed))
    write(cohort / "labels" / "label001.nii.gz", a_label((0, 1)))

    assert states(discover(cohort)) == {
        "001": "unusable",
        "siteA_001": "unlabelled",
        "siteB_001": "unlabelled",
    }


def test_t1_and_t2_with_a_label_each_are_visits_where_the_task_has_one_channel(cohort):
    for seed, name in enumerate(("P1_T1", "P1_T2", "P2_T1")):
        write(cohort / "images" / f"{name}.nii.gz", an_image(seed))
        write(cohort / "labels" / f"{name}.nii.gz", a_label((0, 1)))

    result = discover(cohort, load_task("binary"))

    assert states(result) == dict.fromkeys(("P1_T1", "P1_T2", "P2_T1"), "labelled")
    assert [case.patient for case in result.cases] == ["P1", "P1", "P2"]


def test_a_folder_named_after_a_finding_may_hold_patients_who_have_it(cohort):
    for seed, case in enumerate(("lesions/p1", "lesions/p2", "controls/p3", "controls/p4")):
        write(cohort / f"{case}.nii.gz", an_image(seed))

    assert set(states(discover(cohort, load_task("binary"))).values()) == {"unlabelled"}


def test_a_folder_of_brain_masks_is_passed_over(cohort):
    for folder in ("images", "brain_masks"):
        for seed, case in enumerate(("p1", "p2")):
            write(cohort / folder / f"{case}.nii.gz", an_image(seed))

    result = discover(cohort, load_task("binary"))

    assert states(result) == {"p1": "unlabelled", "p2": "unlabelled"}


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("imagesTr/la_001_0000", "labelsTr/la_001"),
        ("imagesTr/la_001", "labelsTr/la_001"),
        ("images/la_001", "labels/la_001"),
    ],
)
def test_a_set_of_one_case_is_named_as_it_will_be_beside_others(cohort, image, label):
    write(cohort / "Dataset001_x" / f"{image}.nii.gz", an_image(0))
    write(cohort / "Dataset001_x" / f"{label}.nii.gz", a_label((0, 1)))

    assert states(discover(cohort, load_task("binary"))) == {"la_001": "labelled"}


def test_a_folder_a_channel_is_read_across(cohort):
    for number, channel in enumerate(BRATS_2021):
        for case in ("p1", "p2"):
            write(cohort / channel / f"{case}.nii.gz", an_image(10 * number + int(case[1])))
    write(cohort / "masks" / "p2.nii.gz", a_label())

    assert states(discover(cohort)) == {"p1": "unlabelled", "p2": "labelled"}


def test_a_flat_folder_takes_ids_from_file_names(cohort):
    for seed, case in enumerate(("TCGA-DU-1", "TCGA-DU-2")):
        for number, channel in enumerate(("t1", "t1c", "t2", "fla")):
            write(cohort / f"{case}_{channel}_bet.nii.gz", an_image(10 * seed + number))
    write(cohort / "TCGA-DU-2_seg.nii.gz", a_label())

    result = discover(cohort)

    assert result.layout == "flat"
    assert states(result) == {"TCGA-DU-1": "unlabelled", "TCGA-DU-2": "labelled"}


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("volume-{}.nii", "segmentation-{}.nii"),
        ("CT_{}.nrrd", "CT_{}_seg.nrrd"),
        ("patient{}.mha", "patient{}-label.mha"),
        ("heart{}_mri.nii.gz", "heart{}_mask.nii.gz"),
    ],
)
def test_flat_images_and_labels_are_paired_by_what_their_names_share(cohort, image, label):
    for number in (7, 8, 9):
        write(cohort / image.format(number), an_image(number))
        if number < 9:
            write(cohort / label.format(number), a_label((0, 1)))

    result = discover(cohort)

    assert [case.state.value for case in result.cases] == ["labelled", "labelled", "unlabelled"]
    for case, number in zip(result.cases, "789", strict=True):
        assert number in case.id
        assert case.label is None or number in case.label.path.name


def test_a_label_with_a_foreign_name_inside_a_case_folder_is_the_cases_label(cohort):
    # BraTS 2020 has one: BraTS20_Training_355/W39_1998.09.19_Segm.nii
    write_cohort(cohort, {"BraTS20_Training_354": True, "BraTS20_Training_355": False})
    write(cohort / "BraTS20_Training_355" / "W39_1998.09.19_Segm.nii", a_label())

    result = discover(cohort)

    assert states(result) == dict.fromkeys(
        ("BraTS20_Training_354", "BraTS20_Training_355"), "labelled"
    )


def test_a_dicom_series_folder_a_channel_makes_a_case(cohort):
    for patient in (1, 2):
        for number, channel in enumerate(BRATS_2021):
            folder = cohort / f"P{patient}" / channel
            write_dicom_series(folder, seed=10 * patient + number, description="axial")
    write(cohort / "P1" / "seg.nii.gz", a_label())

    result = discover(cohort)

    assert states(result) == {"P1": "labelled", "P2": "unlabelled"}
    assert codes(result) == []


def test_several_dicom_series_in_one_folder_are_told_apart_by_their_description(cohort):
    names = ("AX T1", "AX T1 POST", "T2", "T2 FLAIR")
    for number, name in enumerate(names):
        write_dicom_series(cohort / "P1", seed=number, description=name, series=number + 1)

    result = discover(cohort)

    assert states(result) == {"P1": "unlabelled"}
    assert set(result.cases[0].channels) == {"t1", "t1ce", "t2", "flair"}


def test_a_dicom_folder_may_begin_with_other_files(cohort):
    write_dicom_series(cohort / "P1", seed=1, description="LGE heart")
    for name in ("AUTORUN", "CHANGES", "DICOMDIR", "HELP"):
        (cohort / "P1" / name).write_text("of the disc")

    assert states(discover(cohort)) == {"P1": "unlabelled"}


@pytest.mark.parametrize("folder", ["manual/P1", "mask", "P1_seg", "labels/P1"])
def test_a_folder_with_channels_and_a_label_is_a_case_whatever_it_is_called(cohort, folder):
    for number, channel in enumerate(("t1", "t1ce", "t2", "flair", "seg")):
        values = a_label() if channel == "seg" else an_image(number)
        write(cohort / folder / f"{channel}.nii.gz", values)
        other = an_image(10 + number)
        if channel != "seg":
            write(cohort / "rest" / "P2" / f"{channel}.nii.gz", other)

    result = discover(cohort)

    assert states(result) == {Path(folder).name: "labelled", "P2": "unlabelled"}


def test_a_dicom_series_a_patient_is_the_binary_task(cohort):
    for patient in (1, 2):
        write_dicom_series(cohort / f"P{patient}", seed=patient, description="LGE heart")

    result = discover(cohort)

    assert result.task.name == "binary"
    assert states(result) == {"P1": "unlabelled", "P2": "unlabelled"}


@pytest.mark.parametrize("place", ["images", "cases", "data", "cohort"])
@pytest.mark.parametrize("descriptions", [("CT", "CT"), ("T1 lge", "Abdomen")])
@pytest.mark.parametrize("patient_ids", [("MRN-5", "MRN-7"), ("anon", "anon")])
def test_a_description_that_names_the_one_channel_does_not_join_patients(
    cohort, place, descriptions, patient_ids
):
    for number, (said, patient_id) in enumerate(zip(descriptions, patient_ids, strict=True), 1):
        folder = cohort / place / f"P{number}"
        write_dicom_series(folder, seed=number, description=said, patient_id=patient_id)
    if place == "images":
        write(cohort / "labels" / "P1.nii.gz", a_label((0, 1)))

    result = discover(cohort)

    assert states(result) == {
        "P1": "labelled" if place == "images" else "unlabelled",
        "P2": "unlabelled",
    }
    assert [case.patient for case in result.cases] == ["P1", "P2"]
    assert codes(result) == []


def test_a_description_chooses_one_of_a_patients_series(cohort):
    for number, said in enumerate(("localizer", "CT"), start=1):
        folder = cohort / "P1" / f"SE{number}"
        write_dicom_series(folder, seed=1, series=number, description=said, patient_id="MRN-5")

    result = discover(cohort)

    assert states(result) == {"P1": "unlabelled"}
    assert files(result.cases[0]) == {"image": "SE2"}


@pytest.mark.parametrize("layout", ["a folder each", "one folder", "a folder a channel"])
def test_series_of_two_patients_are_never_one_case(cohort, layout):
    for number, channel in enumerate(("T1", "T2"), start=1):
        folder = {
            "a folder each": cohort / "images" / f"P{number}",
            "one folder": cohort / "P",
            "a folder a channel": cohort / channel / "P1",
        }[layout]
        write_dicom_series(
            folder,
            seed=number,
            series=number,
            description=channel,
            patient_id=f"MRN-{number}",
        )

    result = discover(cohort, load_task("brats"))

    assert len(result.cases) == 2
    assert [list(case.channels) for case in result.cases].count(["t1"]) == 1
    assert "MRN" not in str(result.to_json())
    remedies = {
        one.remedy for case in result.cases for one in case.reasons if "t1ce" in one.message
    }
    assert any("PatientID" in one for one in remedies)


def test_a_folder_that_is_itself_a_case_is_one_case(cohort):
    write_brats_case(cohort / "p7", pattern="{channel}")

    assert states(discover(cohort / "p7")) == {"p7": "labelled"}


def test_cases_of_one_name_in_two_folders_stay_two_cases(cohort):
    write_cohort(cohort / "HGG", {"p1": True})
    write_cohort(cohort / "LGG", {"p1": False})

    result = discover(cohort)

    assert states(result) == {"HGG_p1": "labelled", "LGG_p1": "unlabelled"}
    assert "renamed_case" in codes(result)


def test_only_the_case_that_gets_another_name_is_said_to_be_renamed(cohort):
    write(cohort / "p1.nii.gz", an_image(1))
    write(cohort / "p2.nii.gz", an_image(2))
    write(cohort / "more" / "p1.nii.gz", an_image(3))
    write(cohort / "more" / "p3.nii.gz", an_image(4))

    renamed = {
        case.id: [one.message for one in case.reasons]
        for case in discover(cohort).cases
        if case.reasons
    }

    assert renamed == {
        "more_p1": ["several cases have the same name, so this one is called more_p1"]
    }


def test_visits_below_a_patients_folder_belong_to_that_patient(cohort):
    write_cohort(cohort / "anna", {"visit1": True, "visit2": False})
    write_cohort(cohort / "bert", {"2020-03-01": True}, pattern="{channel}")

    result = discover(cohort)

    assert {case.id: case.patient for case in result.cases} == {
        "anna_visit1": "anna",
        "anna_visit2": "anna",
        "bert_2020-03-01": "bert",
    }


def test_scans_below_a_patients_folder_belong_to_that_patient(cohort):
    for patient in ("P1", "P2"):
        write_cohort(cohort / patient, {"scan1": True, "scan2": False})
    write_cohort(cohort / "P3", {"P3_pre": True, "P3_post": False})

    result = discover(cohort)

    assert {case.id: case.patient for case in result.cases} == {
        "P1_scan1": "P1",
        "P1_scan2": "P1",
        "P2_scan1": "P2",
        "P2_scan2": "P2",
        "P3_post": "P3",
        "P3_pre": "P3",
    }
    assert "renamed_case" not in codes(result)


def test_a_patients_labelled_and_unlabelled_visits_may_lie_in_two_places(cohort):
    write_cohort(cohort / "labelled" / "P1", {"visit1": True})
    write_cohort(cohort / "unlabelled" / "P1", {"visit2": False})

    assert {case.patient for case in discover(cohort).cases} == {"P1"}


def test_two_patients_of_one_name_stay_two_with_all_their_visits(cohort):
    write_cohort(cohort / "Boston" / "P1", {"visit1": True, "visit2": False})
    write_cohort(cohort / "Paris" / "P1", {"visit1": True})

    assert {case.id: case.patient for case in discover(cohort).cases} == {
        "Boston_P1_visit1": "Boston_P1",
        "P1_visit2": "Boston_P1",
        "Paris_P1_visit1": "Paris_P1",
    }


def test_dicom_series_of_one_patient_id_are_one_patient_whose_id_is_not_shown(cohort):
    for number, folder in enumerate(("A", "B", "C"), start=1):
        patient_id = "MRN-555" if folder != "C" else "MRN-777"
        write_dicom_series(
            cohort / folder, seed=number, description="LGE heart", patient_id=patient_id
        )

    result = discover(cohort)

    assert {case.id: case.patient for case in result.cases} == {"A": "A", "B": "A", "C": "C"}
    assert "MRN" not in json.dumps(result.to_json())


def test_an_empty_case_folder_is_reported_not_forgotten(cohort):
    write_cohort(cohort, {"p1": True, "p2": False})
    (cohort / "p3").mkdir()
    (cohort / "p3" / "notes.txt").write_text("scan cancelled")

    result = discover(cohort)

    assert states(result)["p3"] == "unusable"
    assert [reason.code for reason in result.cases[2].reasons] == ["no_image"]


def test_folders_of_other_things_beside_the_cases_are_no_cases(cohort):
    write_cohort(cohort, {"p1": True, "p2": False})
    for file in ("docs/1/notes.txt", "scripts/run.py", "__MACOSX/p1/t1.nii.gz", "@eaDir/a"):
        (cohort / file).parent.mkdir(parents=True)
        (cohort / file).write_text("nothing to segment")

    assert states(discover(cohort)) == {"p1": "labelled", "p2": "unlabelled"}


def test_our_own_results_below_the_cohort_are_not_cases(cohort):
    write_cohort(cohort, {"p1": True})
    write(cohort / "results" / "p1" / "p1_label.nii.gz", a_label())
    (cohort / "results" / "p1" / "case.json").write_text('{"format": "semisupseg-case-result"}')

    result = discover(cohort)

    assert states(result) == {"p1": "labelled"}
    assert result.result_folders == (cohort / "results" / "p1",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", '{"files": ["p0"]}'),
        ("run.json", '{"format": "bids-run"}'),
        ("case.json", '{"age": 55}'),
        ("case.json", "{torn"),
    ],
)
def test_files_of_other_programs_with_our_names_hide_no_case(cohort, name, content):
    write_cohort(cohort / "train", {"p0": True, "p1": True})
    write_cohort(cohort / "test", {"q0": False})
    (cohort / "train" / name).write_text(content)
    (cohort / "train" / "p0" / name).write_text(content)

    result = discover(cohort)

    assert states(result) == {"p0": "labelled", "p1": "labelled", "q0": "unlabelled"}
    assert result.result_folders == ()


def test_a_task_of_one_channel_takes_that_channel_from_four(cohort, tmp_path):
    write_cohort(cohort, {"p1": True}, label_values=(0, 1))
    task = load_task("binary").to_json()
    task["channels"] = [{"name": "flair", "aliases": ["fla"]}]
    path = tmp_path / "task.json"
    path.write_text(json.dumps(task))

    result = discover(cohort, load_task(path))

    assert states(result) == {"p1": "labelled"}
    assert files(result.cases[0]) == {"flair": "p1_flair.nii.gz"}
    assert codes(result) == ["unused_file"]


def test_a_link_that_leads_back_does_not_make_the_search_endless(cohort):
    write_cohort(cohort, {"p1": True})
    (cohort / "again").symlink_to(cohort, target_is_directory=True)

    assert states(discover(cohort)) == {"p1": "labelled"}


def test_an_empty_folder_has_no_cases(cohort):
    result = discover(cohort)

    assert result.cases == ()
    assert result.layout == ""


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere is not a folder\. Give the folder"):
        discover(tmp_path / "nowhere")


def test_a_scan_leaves_the_folder_as_it_was(cohort):
    write_cohort(cohort, {"p1": True, "p2": False})
    before = {path: path.stat().st_mtime_ns for path in cohort.rglob("*")}

    discover(cohort)

    assert {path: path.stat().st_mtime_ns for path in cohort.rglob("*")} == before
