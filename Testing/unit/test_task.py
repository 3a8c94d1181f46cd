"""A task file is checked, and what it says is what the library works with."""

import json

import pytest

from SemiSupSegLib.cases.task import load_task, task_from_json
from SemiSupSegLib.errors import SemiSupSegError, UsageError


@pytest.fixture
def brats() -> dict:
    return load_task("brats").to_json()


def test_the_brats_task_needs_four_channels_and_knows_two_values_of_enhancing():
    task = load_task("brats")

    assert [channel.name for channel in task.channels] == ["t1", "t1ce", "t2", "flair"]
    assert all(channel.required for channel in task.channels)
    assert [(one.name, one.values) for one in task.classes] == [
        ("necrosis", (1,)),
        ("edema", (2,)),
        ("enhancing", (4, 3)),
    ]
    assert task.written_values == (0, 1, 2, 4)
    assert (task.mask, task.spacing) == ("nonzero", None)


def test_regions_are_unions_of_class_indices():
    task = load_task("brats")

    assert task.targets == {
        "necrosis": (1,),
        "edema": (2,),
        "enhancing": (3,),
        "WT": (1, 2, 3),
        "TC": (1, 3),
        "ET": (3,),
    }
    assert task.headline_targets == ("WT", "TC", "ET")
    assert task.num_classes == 4


def test_the_binary_task_looks_at_the_whole_image():
    task = load_task("binary")

    assert (task.mask, task.num_classes, task.headline_targets) == ("all", 2, ("object",))


@pytest.mark.parametrize("name", ["brats", "binary"])
def test_a_task_survives_its_file(name, tmp_path):
    task = load_task(name)
    (tmp_path / "task.json").write_text(json.dumps(task.to_json()))

    assert load_task(tmp_path / "task.json") == task


@pytest.mark.parametrize("name", ["brats", "binary"])
def test_every_class_has_a_standard_code(name):
    for one in load_task(name).classes:
        assert {"category", "type"} <= set(one.code)


def test_an_unknown_task_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match=r"no task 'bratz'.*one of: binary, brats"):
        load_task("bratz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is not a SemiSupSeg task file"),
        ({"version": 2}, "written by a newer SemiSupSeg"),
        ({"colour": "red"}, "is damaged or incomplete"),
        ({"channels": []}, "is damaged or incomplete"),
        ({"spacing": [1, 1]}, "is damaged or incomplete"),
        ({"mask": "brain"}, "is damaged or incomplete"),
    ],
)
def test_a_file_that_breaks_the_schema_is_refused(brats, change, message):
    with pytest.raises(SemiSupSegError, match=message):
        task_from_json({**brats, **change}, "my.json")


def test_one_label_value_cannot_be_two_classes(brats):
    brats["classes"][0]["values"] = [1, 4]

    with pytest.raises(UsageError, match="label values must be different and not 0"):
        task_from_json(brats, "my.json")


def test_an_alias_cannot_be_two_channels(brats):
    brats["channels"][0]["aliases"].append("T2W")

    with pytest.raises(UsageError, match="a channel name or alias is used twice"):
        task_from_json(brats, "my.json")


def test_a_region_of_unknown_classes_is_refused(brats):
    brats["regions"][0]["classes"] = ["cyst"]

    with pytest.raises(UsageError, match="region WT names unknown classes"):
        task_from_json(brats, "my.json")
