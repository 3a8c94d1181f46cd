"""A data set's names for its label values are compared with the task's classes."""

from pathlib import Path

import pytest

from SemiSupSegLib.cases.label_names import conflicting_labels, label_findings, label_names
from SemiSupSegLib.cases.task import Task, load_task, task_from_json


@pytest.fixture(scope="module")
def brats() -> Task:
    """necrosis 1, edema 2, enhancing 4 or 3."""
    return load_task("brats")


def a_task(**values: int) -> Task:
    content = load_task("binary").to_json()
    color = [0, 0, 0]
    content["classes"] = [
        {"name": name, "values": [value], "color": color} for name, value in values.items()
    ]
    return task_from_json(content)


def conflicts(labels: dict[str, object], task: Task) -> list[str]:
    return conflicting_labels(label_names({"labels": labels}), task)


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "edema", "2": "necrosis"},
        {"background": 0, "edema": 1, "necrosis": 2},
        {"background": 0, "edema": [1], "necrosis": [2]},
    ],
)
def test_names_are_read_whichever_way_round_they_are_written(labels):
    assert label_names({"labels": labels}) == {"edema": (1,), "necrosis": (2,)}


@pytest.mark.parametrize("content", [{}, {"labels": ["edema"]}, {"labels": {"edema": {"id": 1}}}])
def test_labels_of_another_form_say_nothing(content):
    assert label_names(content) == {}


def test_what_the_regions_of_a_data_set_leave_is_a_value_meaning(brats):
    # As in nnU-Net's own BraTS 2021.
    regions = {"whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}

    assert conflicts(regions, brats) == ["1 is edema", "2 is necrosis"]
    assert conflicts(regions, load_task("brats_msd")) == []


@pytest.mark.parametrize("enhancing", [3, [3], [4]])
def test_regions_that_mean_the_same_as_the_task_are_no_conflict(brats, enhancing):
    last = enhancing if isinstance(enhancing, int) else enhancing[0]

    assert conflicts({"WT": [1, 2, last], "TC": [1, last], "ET": enhancing}, brats) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("peritumoral edema", "edema"),
        ("Oedema", "edema"),
        ("non-enhancing tumor core", "necrosis"),
        ("not enhancing tumour", "necrosis"),
        ("necrotic core", "necrosis"),
        ("NCR/NET", "necrosis"),
        ("SNFH", "edema"),
        ("enhancing tumor", "enhancing"),
        ("GD-enhancing tumour (ET)", "enhancing"),
    ],
)
def test_a_class_is_known_by_a_word_of_a_longer_name(brats, name, meant):
    own = {"necrosis": 1, "edema": 2, "enhancing": 4}
    others = [value for one, value in own.items() if one != meant]

    assert conflicts({name: own[meant]}, brats) == []
    for value in others:
        assert conflicts({name: value}, brats) == [f"{value} is {name}"]


@pytest.mark.parametrize(
    "labels",
    [
        # The value may be any class of the core.
        {"tumor core": 1, "edema": 2, "enhancing tumor": 4},
        # What is not understood is in nobody's way.
        {"edema": 2, "resection cavity": 3, "enhancing tumor": 4},
        # Two classes in one name.
        {"edema and necrosis": 2},
        {"surrounding non-enhancing FLAIR hyperintensity": 2},
    ],
)
def test_names_that_may_mean_the_same_are_no_conflict(brats, labels):
    assert conflicts(labels, brats) == []


def test_a_region_with_the_name_of_a_class_is_not_taken_for_the_class():
    # As in KiTS, whose kidney as a region has tumour and cyst in it.
    regions = {"kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2}

    assert conflicts(regions, a_task(kidney=1, tumor=2, cyst=3)) == []
    assert conflicts(regions, a_task(kidney=2, tumor=1, cyst=3)) == ["2 is tumor"]


def test_names_of_which_none_is_understood_are_told_with_what_the_task_reads(brats):
    names = label_names({"labels": {"background": 0, "liver": 1, "vessels": [2, 3]}})

    (reason,) = label_findings(names, brats, Path("seg.nii.gz"))

    assert reason.code == "label_meaning"
    assert reason.message == (
        "dataset.json says liver = 1; vessels = 2, 3, and none of these names is one of task "
        "'brats', which reads necrosis = 1; edema = 2; enhancing = 4"
    )
    assert "Check that they mean the same" in reason.remedy


@pytest.mark.parametrize("labels", [{"background": 0}, {"edema": 2, "foo": 1}])
def test_names_of_which_one_is_understood_are_not_told(brats, labels):
    assert label_findings(label_names({"labels": labels}), brats, Path("seg.nii.gz")) == []


def test_a_task_of_one_class_takes_any_name_for_it():
    names = label_names({"labels": {"1": "left atrium"}})

    assert label_findings(names, load_task("binary"), Path("seg.nii.gz")) == []
