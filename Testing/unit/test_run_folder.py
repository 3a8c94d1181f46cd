"""run.json and the folder it stands in."""

import json
import re

import pytest

from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.resources import check_format, schema_of
from SemiSupSegLib.runs.run_folder import RunFolder


@pytest.fixture
def a_config():
    return {
        "task": load_task("brats").to_json(),
        "method": "curriculum",
        "options": {"passes": 8},
        "preset": "standard",
        "split": {"train_labelled": ("a",), "train_unlabelled": ("b", "c"), "validation": ("d",)},
        "seed": 0,
        "iterations": 4,
        "device": "cpu",
        "preparation": {"spacing": (1.0, 1.5, 2.0)},
        "network": {"name": "transaspp", "options": {}},
        "training": {},
        "patch_size": (32, 32, 32),
        "versions": {"SemiSupSeg": "0.1.0", "python": "3.11.0", "torch": "2.13", "numpy": "2.2"},
        "inputs": {"a": {"t1": "0" * 64, "label": "f" * 64}},
        "store": None,
        "command": ["train", "--cases", "cases", "--out", "run"],
    }


@pytest.fixture
def a_run(tmp_path, a_config):
    run = RunFolder(tmp_path / "run")
    run.create(a_config)
    return run


def change(run, **values):
    run.run_json.write_text(json.dumps({**json.loads(run.run_json.read_text()), **values}))


def test_a_run_reads_back_what_it_was_created_with(a_run, a_config):
    config = a_run.read_config()

    assert config["split"]["train_unlabelled"] == ["b", "c"]
    assert config["preparation"] == {"spacing": [1.0, 1.5, 2.0]}
    assert config["task"] == a_config["task"]
    assert (config["format"], config["version"]) == ("semisupseg-run", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", config["created"])


def test_creating_makes_the_folders_of_the_architecture(a_run):
    names = {entry.name for entry in a_run.path.iterdir()}

    assert names == {"run.json", "control", "checkpoints", "stages", "models"}
    assert a_run.stage(3) == a_run.path / "stages" / "03"


def test_making_a_run_folder_object_touches_nothing(tmp_path):
    assert not RunFolder(tmp_path / "run").is_run()
    assert not (tmp_path / "run").exists()


def test_creating_leaves_the_callers_configuration_alone(tmp_path, a_config):
    before = dict(a_config)

    RunFolder(tmp_path / "run").create(a_config)

    assert a_config == before


def test_a_second_run_in_the_same_folder_is_refused(a_run, a_config):
    with pytest.raises(UsageError, match="already holds a run"):
        a_run.create(a_config)


def test_a_folder_with_other_files_is_refused_and_stays_as_it_is(tmp_path, a_config):
    (tmp_path / "thesis.docx").write_text("")

    with pytest.raises(UsageError, match=r"not empty \(it holds thesis\.docx\)"):
        RunFolder(tmp_path).create(a_config)

    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.docx"]


def test_what_a_killed_start_left_behind_is_no_obstacle(tmp_path, a_config):
    (tmp_path / "lock").write_text("{}")
    (tmp_path / ".run.json.abc.part").write_text("{")

    RunFolder(tmp_path).create(a_config)

    assert RunFolder(tmp_path).is_run()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, a_config):
    (tmp_path / "run").write_text("")

    with pytest.raises(UsageError, match="is a file"):
        RunFolder(tmp_path / "run").create(a_config)


def test_a_folder_without_run_json_is_no_run(tmp_path):
    with pytest.raises(SemiSupSegError, match="is not a run folder"):
        RunFolder(tmp_path).read_config()


@pytest.mark.parametrize("key", sorted(schema_of("run")["required"]))
def test_a_missing_key_is_refused(a_run, key):
    content = json.loads(a_run.run_json.read_text())
    del content[key]
    a_run.run_json.write_text(json.dumps(content))

    with pytest.raises(SemiSupSegError, match=r"run\.json is "):
        a_run.read_config()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": 2}, "written by a newer SemiSupSeg"),
        ({"version": 0}, "damaged or incomplete"),
        ({"version": True}, "damaged or incomplete"),
        ({"format": "semisupseg-model"}, "is not a SemiSupSeg run file"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"iterations": 0}, "iterations"),
        ({"created": "yesterday"}, "created"),
        ({"inputs": {"a": {"t1": "abc"}}}, "inputs"),
        ({"command": "train"}, "command"),
        ({"task": {}}, r"The task in .*run\.json is not a SemiSupSeg task"),
    ],
)
def test_a_wrong_value_is_refused_by_name(a_run, values, message):
    change(a_run, **values)

    with pytest.raises(SemiSupSegError, match=message):
        a_run.read_config()


def test_a_task_of_a_newer_version_inside_is_refused(a_run, a_config):
    change(a_run, task={**a_config["task"], "version": 2})

    with pytest.raises(SemiSupSegError, match="semisupseg-task version 2"):
        a_run.read_config()


def test_a_case_in_two_sets_is_refused(a_run):
    change(a_run, split={"train_labelled": ["a"], "train_unlabelled": ["b"], "validation": ["b"]})

    with pytest.raises(SemiSupSegError, match="case b is in train_unlabelled and in validation"):
        a_run.read_config()


def test_run_json_cut_at_any_byte_is_refused_in_one_line(a_run):
    whole = a_run.run_json.read_bytes().rstrip()

    for length in range(0, len(whole), 37):
        a_run.run_json.write_bytes(whole[:length])
        with pytest.raises(SemiSupSegError, match=r"run\.json") as refusal:
            a_run.read_config()
        assert "\n" not in str(refusal.value)


def test_run_json_that_is_not_json_is_refused(a_run):
    a_run.run_json.write_bytes(b"\x80\x04\x95pickle")

    with pytest.raises(SemiSupSegError, match="cannot be read as JSON"):
        a_run.read_config()


def test_a_configuration_that_would_not_read_back_is_not_written(tmp_path, a_config):
    run = RunFolder(tmp_path / "run")

    with pytest.raises(SemiSupSegError, match="iterations"):
        run.create({**a_config, "iterations": 0})

    assert not run.path.exists()


def test_further_values_of_later_issues_are_kept(tmp_path, a_config):
    run = RunFolder(tmp_path / "run")

    run.create({**a_config, "patch_size": [32, 32, 32]})

    assert run.read_config()["patch_size"] == [32, 32, 32]


@pytest.mark.parametrize("name", ["brats", "binary"])
def test_built_in_tasks_follow_the_schema(name):
    check_format(load_task(name).to_json(), "task", name)


def test_the_brats_task_reads_both_label_values_of_enhancing_tumour_and_writes_4():
    task = load_task("brats")

    assert [one.name for one in task.channels if one.required] == ["t1", "t1ce", "t2", "flair"]
    assert task.classes[2].values == (4, 3)
    assert task.written_values == (0, 1, 2, 4)
    assert task.targets["WT"] == (1, 2, 3)
    assert task.targets["TC"] == (1, 3)
    assert task.targets["ET"] == (3,)


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        (name, f"semisupseg-{name}")
        for name in (
            *("task", "split", "run", "state", "model"),
            *("case-result", "exclude", "registry", "validation"),
        )
    ],
)
def test_each_schema_names_its_format_and_version(name, format_name):
    properties = schema_of(name)["properties"]

    assert properties["format"]["const"] == format_name
    assert properties["version"]["const"] == 1


def test_a_misspelt_key_in_a_task_file_is_refused():
    content = {**load_task("binary").to_json(), "spacng": [1, 1, 1]}

    with pytest.raises(SemiSupSegError, match="spacng"):
        check_format(content, "task", "task.json")


@pytest.mark.parametrize("name", ["../up", "a/b", "", "a b", "x" * 33])
def test_a_class_name_that_could_not_be_part_of_a_file_name_is_refused(name):
    content = load_task("binary").to_json()
    content["classes"][0]["name"] = name

    with pytest.raises(SemiSupSegError, match="name"):
        check_format(content, "task", "task.json")


def test_a_case_result_needs_a_model_hash_and_volumes_that_are_numbers():
    result = {
        "format": "semisupseg-case-result",
        "version": 1,
        "case": "a",
        "model_sha256": "0" * 64,
        "inputs": {"t1": "0" * 64},
        "volumes_ml": {"WT": {"value": 12.5, "low": 11.0, "high": 14.0}},
        "confidence": {"image": 0.9, "edema": None},
        "warnings": [],
    }
    check_format(result, "case-result", "case.json")

    with pytest.raises(SemiSupSegError, match="model_sha256"):
        check_format({**result, "model_sha256": "?"}, "case-result", "case.json")
    with pytest.raises(SemiSupSegError, match="volumes_ml"):
        check_format({**result, "volumes_ml": {"WT": {"value": -1}}}, "case-result", "case.json")
