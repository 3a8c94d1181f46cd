"""Scans of one patient are known as such, and patients in one folder are not taken for one."""

import pytest

from SemiSupSegLib.cases.patients import (
    is_placeholder,
    is_timepoint,
    numbers_visits,
    patient_folders,
    patients_of,
    united,
)


def folders_of(*paths: str) -> set[str]:
    found = patient_folders(tuple(path.split("/")) for path in paths)
    return {"/".join(folder) for folder in found}


@pytest.mark.parametrize(
    ("case_id", "patient"),
    [
        ("BraTS-GLI-00001-000", "BraTS-GLI-00001"),
        ("BraTS-MET-00123-101", "BraTS-MET-00123"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("Brats18_2013_11_1", "Brats18_2013_11_1"),
        ("TCGA-DU-7294", "TCGA-DU-7294"),
        ("anna_visit2", "anna"),
        ("heart-ses-03", "heart"),
        ("P1_pre", "P1"),
        ("P1-postop", "P1"),
        ("P1_follow-up_2", "P1"),
        ("scan_001", "scan_001"),
        ("la_scan_001", "la_scan_001"),
        ("UPENN-GBM-00001_11", "UPENN-GBM-00001"),
        ("P1_day3", "P1"),
        ("P1_week-012-1", "P1"),
        ("P1 month 6", "P1"),
        ("P1_20200101", "P1"),
        ("P1_2021-01-01", "P1"),
        ("P1.2021.01.01_MR", "P1"),
        ("P1_T0", "P1"),
        ("P1_2021-01-01_pre", "P1"),
        ("Brats18_TCIA03_265_1", "Brats18_TCIA03_265_1"),
        ("TCGA-CS-4941_19960909", "TCGA-CS-4941"),
        ("MRN_20123456", "MRN_20123456"),
        ("20200101", "20200101"),
        ("Phantom_0001", "Phantom_0001"),
        ("case_003", "case_003"),
        ("06SR5RBREL16DQ6M8LWS", "06SR5RBREL16DQ6M8LWS"),
    ],
)
def test_a_time_point_is_not_part_of_the_patient(case_id, patient):
    assert patients_of([case_id]) == [patient]


@pytest.mark.parametrize(
    "visits", [("scan1", "scan2"), ("frame01", "frame12"), ("20200101", "20210101"), ("T0", "T1")]
)
@pytest.mark.parametrize("names", [("P1", "P2"), ("anna", "bert")])
def test_scans_named_after_their_patients_are_theirs(names, visits):
    case_ids = [f"{name}_{visit}" for name in names for visit in visits]

    assert patients_of(case_ids) == [names[0], names[0], names[1], names[1]]


@pytest.mark.parametrize(
    "name", ["la_scan{}", "covid19_scan_{}", "la_T{}", "la_2020010{}", "siteA_T{}"]
)
def test_what_all_cases_begin_with_is_no_patient(name):
    case_ids = [name.format(number) for number in range(1, 10)]

    assert patients_of(case_ids) == case_ids


@pytest.mark.parametrize(("name", "count"), [("P1_scan{}", 11), ("P1_T{}", 11)])
def test_a_name_that_many_cases_share_is_no_patient(name, count):
    case_ids = ["other", *(name.format(number) for number in range(count))]

    assert patients_of(case_ids) == case_ids


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (["P1_T0", "P1_T1"], [], True),
        (["P1_T1", "P1_T2", "P1_T3"], [], True),
        (["P1_T1", "P1_T2"], ["P1_T1", "P1_T2"], True),
        (["T0", "T1"], [], True),
        (["P1_T1", "P1_T2"], ["P1_T1"], False),
        (["P1_T1", "P2_T3"], [], False),
        (["P1_T0", "P2_T0"], [], False),
        (["t1", "t2", "flair"], [], False),
    ],
)
def test_numbers_without_a_contrast_or_with_labels_are_visits(images, labels, expected):
    assert numbers_visits([(one,) for one in images], [(one,) for one in labels]) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ses-1", True),
        ("20200131", True),
        ("01-31-2020-MR", True),
        ("2020-01-31 MR", True),
        ("scan1", True),
        ("baseline", True),
        ("Follow-up 2", True),
        ("pre-op", True),
        ("week-044-1", True),
        ("T0", True),
        ("20201399", False),
        ("001", False),
        ("scan", False),
        ("p1", False),
    ],
)
def test_visits_are_told_from_patients(name, expected):
    assert is_timepoint(name) is expected


@pytest.mark.parametrize(
    "paths",
    [
        ("P1/baseline", "P1/followup"),
        ("P1/P1_pre", "P1/P1_post", "P2/P2_pre"),
        ("P1/scan1", "P1/scan2", "P2/scan1", "P2/scan2"),
        ("P1/scan1", "P1/scan2", "P2/brain"),
        ("P1/T0", "P1/T1", "P2/T0"),
        ("P1/2019-03-01", "P1/2020-03-01_MR"),
        ("P1/a", "P1/b", "P2/a"),
        ("P1/P1_1", "P1/P1_2", "P2/P2_1"),
        ("P1/baseline/brain", "P1/followup/brain"),
        ("P1/baseline", "P1/scan_of_may"),
    ],
)
def test_a_small_folder_of_scans_is_a_patient(paths):
    assert folders_of(*paths) >= {"P1"}
    assert folders_of(*(f"train/{path}" for path in paths)) >= {"train/P1"}


def test_a_patient_may_have_many_visits():
    assert folders_of(*(f"P1/visit{number}" for number in range(30))) == {"P1"}


@pytest.mark.parametrize(
    "paths",
    [
        ("train/scan1", "train/scan2", "test/scan1", "test/scan2"),
        ("site_A/001", "site_A/002", "site_B/001", "site_B/002"),
        ("fold_0/p1", "fold_1/p1"),
        ("HGG/p1", "LGG/p1"),
        ("healthy/001", "glioma/001"),
        # More cases a folder than folders: places, not patients.
        ("Boston/001", "Boston/002", "Boston/003", "Paris/001", "Paris/002"),
        ("BraTS2020/BraTS2020_00001", "BraTS2020/BraTS2020_00002", "BraTS2021/BraTS2021_00001"),
        ("mydata/p1", "mydata/p2"),
        ("mydata/scan1", "mydata/scan2"),
        ("mydata/T1", "mydata/T2", "mydata/T3"),
        ("p1",),
    ],
)
def test_a_folder_of_patients_is_no_patient(paths):
    assert folders_of(*paths) == set()


@pytest.mark.parametrize("name", ["scan{}", "{}", "P1_{}"])
def test_a_folder_of_many_cases_is_no_patient(name):
    many = [f"P{one}/{name.format(number)}" for one in (1, 2) for number in range(11)]

    assert folders_of(*many) == set()


def test_a_folder_of_hundreds_of_dates_is_no_patient():
    assert (
        folders_of(*(f"Boston/20{year}-01-{day}" for year in range(10, 40) for day in (10, 11, 12)))
        == set()
    )


def test_one_dicom_patient_in_two_folders_is_one_patient():
    assert united(["a", "b", "c", "d"], ["7", None, "7", "8"]) == ["a", "b", "a", "d"]


def test_patients_are_united_over_several_folders():
    # a and b share 7, b and c share 8.
    assert united(["a", "b", "b", "c"], ["7", "7", "8", "8"]) == ["a"] * 4


def test_a_patient_id_that_a_whole_cohort_shares_is_not_believed():
    names = [f"p{number}" for number in range(11)]

    assert united(names, ["X"] * 11) == names


@pytest.mark.parametrize(
    ("patient_id", "expected"),
    [
        ("", True),
        ("000", True),
        ("Anonymous", True),
        ("ANON", True),
        ("ANON0001", False),
        ("7", False),
    ],
)
def test_what_anonymising_leaves_is_known(patient_id, expected):
    assert is_placeholder(patient_id) is expected
