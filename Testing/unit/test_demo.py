"""demo: which cases it takes, what its last lines say, what its picture shows."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.image import imread

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.cases.case import Case, CaseState, ImageSource
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.commands import demo
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.phantom.cohort import write_cohort
from SemiSupSegLib.report.overview import overview_row, write_overview

VOXELS = (20, 24, 18)


@pytest.fixture
def an_evaluation(tmp_path):
    def block(wt, et):
        return {
            "summary": {"WT": {"dice": {"mean": wt}}, "ET": {"dice": {"mean": et}}},
            "headline": {"targets": ["WT", "ET"], "dice": {"mean": (wt + et) / 2}},
            "cases": {"a": {"WT": {"dice": wt}, "ET": {"dice": et}}},
        }

    content = {
        "task": "brats",
        "num_cases": 1,
        **block(0.8, 0.5),
        "teacher": block(0.7, 0.4),
        "gain": {"headline": {"sentence": "The student is better."}},
    }
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps(content))
    return file


def test_the_summary_sets_student_beside_teacher(an_evaluation):
    summary = demo._summary(an_evaluation)

    assert summary["dice"] == {
        "student": {"WT": 0.8, "ET": 0.5},
        "teacher": {"WT": 0.7, "ET": 0.4},
    }
    assert summary["mean_dice"] == {"student": 0.65, "teacher": 0.55}
    assert summary["case_dice"]["student"]["a"] == pytest.approx(0.65)


def test_the_last_lines_say_how_they_compare_and_where_the_pictures_are(an_evaluation, tmp_path):
    material = demo.Material(
        training=tmp_path, split=None, task=None, judged=tmp_path, judged_ids=("a",), what="a case"
    )
    summary = {**demo._summary(an_evaluation), "seconds": 90.0}

    text = "\n".join(demo._closing_lines(summary, material, tmp_path))

    assert "teacher          0.700       0.400       0.550" in text
    assert "student          0.800       0.500       0.650" in text
    assert "The student is better." in text
    assert "Took 1.5 minutes." in text
    assert f"Pictures: {tmp_path / 'overview.png'}" in text


def test_made_up_cases_are_split_so_that_the_new_ones_are_used_for_nothing(tmp_path):
    size = demo.Size(
        num_labelled=2,
        num_validation=1,
        num_unlabelled=2,
        num_new=1,
        iterations=4,
        voxels=VOXELS,
    )

    material = demo._made_up(tmp_path, size, seed=1)

    split = json.loads(material.split.read_text())
    used = split["train_labelled"] + split["validation"] + split["train_unlabelled"]
    assert [len(split[name]) for name in ("train_labelled", "validation")] == [2, 1]
    assert material.judged_ids == ("Phantom_0005",)
    assert not set(material.judged_ids) & set(used)
    assert not list((material.judged / "cases").rglob("*seg*"))


def test_own_cases_need_two_labelled_patients(tmp_path):
    cohort = write_cohort(tmp_path / "own", 3, 1, seed=1, size=VOXELS)

    with pytest.raises(SemiSupSegError, match="1 can be trained on and 0 judged by"):
        demo._own(cohort.cases, tmp_path, "brats", seed=0)


def test_own_cases_that_train_would_refuse_are_in_no_set(tmp_path):
    cohort = write_cohort(tmp_path / "own", 6, 4, seed=1, size=VOXELS)
    for name, suffix in ((cohort.labelled[0], "t1"), (cohort.unlabelled[0], "flair")):
        (file,) = (cohort.cases / name).glob(f"*_{suffix}.*")
        image = sitk.ReadImage(str(file))
        sitk.WriteImage(image * 0, str(file))

    material = demo._own(cohort.cases, tmp_path, "brats", seed=0)

    split = json.loads(material.split.read_text())
    used = {*split["train_labelled"], *split["train_unlabelled"], *split["validation"]}
    assert used == {*cohort.labelled[1:], *cohort.unlabelled[1:]}


def test_own_cases_are_judged_on_the_validation_cases(tmp_path):
    cohort = write_cohort(tmp_path / "own", 5, 3, seed=1, size=VOXELS)

    material = demo._own(cohort.cases, tmp_path, "brats", seed=0)

    split = json.loads(material.split.read_text())
    assert list(material.judged_ids) == split["validation"]
    assert set(split["train_unlabelled"]) == set(cohort.unlabelled)


def test_a_task_without_a_folder_is_wrong_usage(tmp_path, capsys):
    assert main(["demo", "--task", "brats", "--out", str(tmp_path)]) == 2
    assert "--task goes with a FOLDER" in capsys.readouterr().err


@pytest.fixture
def a_predicted_case(tmp_path):
    """A case 12 x 10 x 8 (x, y, z) whose rows run from posterior to anterior in the file."""
    image = np.zeros((8, 10, 12), np.float32)
    image[:, 2:8, 2:10] = 1.0
    image[:, 2:4, 2:10] = 0.2
    label = np.zeros(image.shape, np.uint8)
    label[5, 6:8, 2:4] = 4

    def write(name, array):
        one = sitk.GetImageFromArray(array)
        one.SetSpacing((1.0, 2.0, 3.0))
        one.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
        sitk.WriteImage(one, str(tmp_path / name))

    write("c_flair.nii.gz", image)
    write("c_seg.nii.gz", label)
    write("c_label.nii.gz", label)
    write("c_pseudolabel.nii.gz", np.zeros_like(label))
    write("c_uncertainty.nii.gz", 0.5 * (label > 0).astype(np.float32))
    case = Case(
        id="c",
        patient="c",
        state=CaseState.LABELLED,
        channels={"flair": ImageSource(path=tmp_path / "c_flair.nii.gz")},
        label=ImageSource(path=tmp_path / "c_seg.nii.gz"),
    )
    return case, tmp_path


def test_a_row_is_the_fullest_axial_slice_with_the_front_at_the_top(a_predicted_case):
    case, folder = a_predicted_case

    row = overview_row(case, folder, load_task("brats"), "c")

    # Rows 6 and 7 of the file, counted from the back of 10, are rows 3 and 2 from the front.
    expected = np.zeros((10, 12), np.uint8)
    expected[2:4, 2:4] = 3
    np.testing.assert_array_equal(row.labels["Reference"], expected)
    np.testing.assert_array_equal(row.labels["Student"], expected)
    assert not row.labels["Teacher"].any()
    assert row.aspect == pytest.approx(2.0)
    assert set(row.maps) == {"uncertainty"}


def test_a_row_shows_images_and_labels_of_another_grid_where_the_result_lies(a_predicted_case):
    case, folder = a_predicted_case
    for name, kind in (("c_flair", sitk.sitkLinear), ("c_seg", sitk.sitkNearestNeighbor)):
        image = sitk.ReadImage(str(folder / f"{name}.nii.gz"))
        grid = sitk.Expand(image, [1, 1, 2], kind)
        sitk.WriteImage(
            sitk.RegionOfInterest(grid, [12, 10, 12], [0, 0, 4]), str(folder / f"{name}.nii.gz")
        )

    row = overview_row(case, folder, load_task("brats"), "c")

    assert row.image.shape == row.labels["Student"].shape == (10, 12)
    np.testing.assert_array_equal(row.labels["Reference"], row.labels["Student"])
    assert row.image.max() == pytest.approx(1)


def test_the_picture_shows_the_class_in_its_colour(a_predicted_case, tmp_path):
    case, folder = a_predicted_case
    task = load_task("brats")
    row = overview_row(case, folder, task, "c")

    write_overview(tmp_path / "overview.png", [row, row], task)

    picture = imread(tmp_path / "overview.png")[..., :3]
    # Over white, the colour at its opacity of 0.45.
    enhancing = 0.55 + 0.45 * np.array(task.classes[2].color) / 255
    assert (np.abs(picture - enhancing).max(axis=-1) < 0.01).any()
