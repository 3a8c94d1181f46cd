"""What file and folder names say."""

import pytest

from SemiSupSegLib.cases.names import NameReader, stem_of, words_of
from SemiSupSegLib.cases.task import load_task


@pytest.fixture(scope="module")
def brats() -> NameReader:
    return NameReader(load_task("brats"))


@pytest.fixture(scope="module")
def binary() -> NameReader:
    return NameReader(load_task("binary"))


@pytest.mark.parametrize(
    ("stem", "channel", "residue"),
    [
        ("BraTS20_Training_001_t1ce", "t1ce", "BraTS20_Training_001"),
        ("BraTS-GLI-00001-000-t1n", "t1", "BraTS-GLI-00001-000"),
        ("TCGA-DU-7294_fla_bet", "flair", "TCGA-DU-7294"),
        ("T1", "t1", ""),
        ("p1_t2_flair", "flair", "p1"),
        ("t1_ce", "t1ce", ""),
        ("flair_cohort_07_t2", "t2", "flair_cohort_07"),
        ("t2_case5", "t2", "case5"),
        ("patient_t_1", None, "patient_t_1"),
        ("dti_fa", None, "dti_fa"),
        ("Müller_t1", "t1", "Müller"),
        ("李明-flair", "flair", "李明"),
        ("Иванов_t2", "t2", "Иванов"),
    ],
)
def test_a_channel_is_the_last_one_named(brats, stem, channel, residue):
    said = brats.stem(stem)

    assert (said.channel, said.residue, said.label) == (channel, residue, 0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Müller-Lüdenscheidt 7", ("müller", "lüdenscheidt", "7")),
        ("P1\u2013T1\u3000raw", ("p1", "t1", "raw")),
        ("किरण", ("किरण",)),
        ("P😀", ("p😀",)),
        ("M\udcfcller", ("m\udcfcller",)),  # bytes in an unknown encoding
        ("--", ("--",)),
        ("", ()),
    ],
)
def test_words_keep_what_tells_names_apart_in_any_script(name, words):
    assert words_of(name) == words


def test_where_names_number_visits_t1_is_no_contrast():
    task = load_task("binary")

    files, folders = NameReader(task, visit_files=True), NameReader(task, visit_folders=True)

    assert files.stem("P1_T1").channel is None
    assert files.stem("P1_T1").residue == "P1_T1"
    assert files.stem("P1_T1w").channel == "image"
    assert files.folder("T1").channel == "image"
    assert folders.folder("T1").identity == "T1"
    assert folders.stem("P1_T1").channel == "image"
    assert files.channel("T1") == folders.channel("T1") == "image"


@pytest.mark.parametrize(
    ("stem", "rank", "residue"),
    [
        ("p1_seg", 2, "p1"),
        ("BraTS-GLI-00001-000-seg", 2, "BraTS-GLI-00001-000"),
        ("W39_1998.09.19_Segm", 2, "W39_1998.09.19"),
        ("segmentation-12", 2, "12"),
        ("p1_t1_seg", 2, "p1"),
        ("p1_seg_bet", 2, "p1"),
        ("p1_tumorseg", 2, "p1"),
        ("p1_mask", 1, "p1"),
        ("p1_brain_segmentation", 1, "p1"),
        ("seg", 2, ""),
    ],
)
def test_a_label_is_known_by_its_words(brats, stem, rank, residue):
    said = brats.stem(stem)

    assert (said.label, said.residue, said.channel) == (rank, residue, None)


@pytest.mark.parametrize("stem", ["p1_brain_mask", "p1_brainmask", "head-mask"])
def test_a_mask_of_the_head_is_neither_image_nor_label(brats, stem):
    assert brats.stem(stem).ignored


def test_a_channel_after_a_label_word_is_a_channel(brats):
    said = brats.stem("manual_07_t1")

    assert (said.channel, said.label) == ("t1", 0)


@pytest.mark.parametrize(
    ("stem", "channel", "residue"),
    [
        ("case5_mri", "image", "case5"),
        ("mri", "image", ""),
        ("CT_001", None, "CT_001"),
        ("us_patient_ct_9", None, "us_patient_ct_9"),
    ],
)
def test_with_one_channel_only_the_end_of_a_name_counts(binary, stem, channel, residue):
    said = binary.stem(stem)

    assert (said.channel, said.residue) == (channel, residue)


@pytest.mark.parametrize(
    ("name", "identity", "is_label", "is_partition"),
    [
        ("imagesTr", "", False, False),
        ("imagesTs", "ts", False, True),
        ("labelsTr", "", True, False),
        ("manual_masks", "", True, False),
        ("anat", "", False, False),
        ("HGG", "HGG", False, True),
        ("train", "train", False, True),
        ("Patient 7", "Patient 7", False, False),
        ("imagesVa", "va", False, True),
        ("labelsVa", "va", True, True),
        ("manual_labels", "", True, False),
        ("Manual Segmentations", "", True, False),
        ("label_maps", "", True, False),
        ("gt_masks", "", True, False),
        ("segmentation_masks", "", True, False),
        ("labels_final", "", True, False),
        ("labels_nii", "", True, False),
        ("lesion_seg", "", True, False),
        ("lbl", "", True, False),
        ("dseg", "", True, False),
        ("contours", "", True, False),
        ("labels_test", "test", True, True),
        ("lesion_012", "lesion_012", False, False),
        ("seg_study", "seg_study", False, False),
        ("T2_manual_seg", "", True, False),
        ("images_segm", "", True, False),
        ("T2_FLAIR_labels_test", "test", True, True),
        ("lesion_scan", "lesion_scan", False, False),
        ("flair_rois", "flair_rois", False, False),
    ],
)
def test_folders_say_what_lies_below_them(brats, name, identity, is_label, is_partition):
    said = brats.folder(name)

    assert (said.identity, said.is_label, said.is_partition) == (identity, is_label, is_partition)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.nii.gz", "a"),
        ("a.b.NII", "a.b"),
        ("x.seg.nrrd", "x.seg"),
        ("a.txt", None),
        (".nii", None),
    ],
)
def test_a_stem_is_the_name_without_its_image_suffix(name, stem):
    assert stem_of(name) == stem
