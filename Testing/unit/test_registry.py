"""Registered models, and the command `models`."""

import io
import json
import os
import stat
import sys

import numpy as np
import pytest

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.models import registry
from SemiSupSegLib.models.package import PackageError, export_package, read_package, write_package


def make_package(folder, value):
    return write_package(
        folder,
        manifest={
            "name": "binary curriculum student",
            "created": "2026-08-01T10:00:00+00:00",
            "task": load_task("binary").to_json(),
            "network": {
                "name": "vnet",
                "options": {},
                "in_channels": 1,
                "num_classes": 2,
                "patch_size": [32, 32, 32],
            },
            "method": "curriculum",
            "preparation": {},
            "training": {"labelled": 8, "unlabelled": 72},
            "validation": {"student": {"object": {"dice": {"mean": 0.8764, "sd": 0.1, "n": 20}}}},
            "library": {"SemiSupSeg": "0.1.0"},
        },
        weights={"student": {"a": np.full((2, 2), value, dtype=np.float32)}},
        card="# A model\n",
    )


@pytest.fixture(autouse=True)
def a_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SEMISUPSEG_MODELS", raising=False)
    return tmp_path / "home"


@pytest.fixture
def a_package(tmp_path):
    return make_package(tmp_path / "package", 1.0)


@pytest.fixture
def two_models(a_package):
    registry.register(a_package.folder, "first")
    registry.register(a_package.folder, "second")


def names():
    return [model.name for model in registry.registered_models()]


def test_there_are_no_models_at_first_and_looking_makes_no_folder(a_home):
    assert registry.registered_models() == []
    assert registry.default_model() is None
    assert not a_home.exists()


def test_registering_copies_and_the_first_model_is_the_default(a_package, a_home):
    model = registry.register(a_package.folder)

    assert model.name == "binary curriculum student"
    assert model.is_default
    assert model.folder == a_home / "models" / "binary curriculum student"
    assert read_package(model.folder).sha256 == a_package.sha256
    assert read_package(a_package.folder).sha256 == a_package.sha256


def test_the_second_model_does_not_become_the_default(two_models):
    assert names() == ["first", "second"]
    assert registry.default_model() == "first"


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_only_the_user_can_look_into_the_models(a_package, a_home):
    registry.register(a_package.folder)

    assert stat.S_IMODE(a_home.stat().st_mode) == 0o700


def test_a_zip_can_be_registered(a_package, tmp_path):
    export_package(a_package, tmp_path / "model.zip")

    model = registry.register(tmp_path / "model.zip", "from a zip")

    assert read_package(model.folder).sha256 == a_package.sha256


def test_a_refused_package_leaves_nothing(a_package, a_home):
    (a_package.folder / "weights.safetensors").write_bytes(b"")

    with pytest.raises(PackageError, match=r"weights\.safetensors is damaged"):
        registry.register(a_package.folder)

    assert not a_home.exists()


@pytest.mark.parametrize("name", ["first", "FIRST"])
def test_a_name_is_taken_once_whatever_its_case(two_models, a_package, name):
    with pytest.raises(UsageError, match="There is a model 'first' already"):
        registry.register(a_package.folder, name)


def test_a_model_that_may_not_be_the_default_is_not(a_package, a_home):
    registry.register(a_package.folder, may_be_default=False)

    assert registry.default_model() is None


def test_a_model_without_a_given_name_gets_a_free_one(a_package, a_home):
    names = [registry.register(a_package.folder).name for _ in range(3)]

    assert names == [a_package.name, f"{a_package.name} 2", f"{a_package.name} 3"]
    assert registry.default_model() == a_package.name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "a/b", "a\\b", "C:x", ".hidden", "CON", "nul.txt", "x.", "a\nb"),
        *("registry.json", "x" * 101, "-rf", "a\0b", "a*"),
    ],
)
def test_a_name_that_is_no_folder_name_everywhere_is_refused(a_package, a_home, name):
    with pytest.raises(UsageError, match="cannot be a model's name"):
        registry.register(a_package.folder, name)

    assert not a_home.exists()


def test_a_name_in_any_script_is_fine(a_package):
    assert registry.register(a_package.folder, "Gliom München (2026)").is_default


def test_renaming_keeps_the_hash_and_the_choice_of_default(two_models, a_package):
    model = registry.rename("first", "third")

    assert names() == ["second", "third"]
    assert model.is_default
    assert read_package(model.folder).sha256 == a_package.sha256


def test_renaming_may_change_only_the_case(two_models):
    registry.rename("first", "First")

    assert names() == ["First", "second"]


def test_the_default_is_not_deleted_while_there_are_others(two_models):
    with pytest.raises(UsageError, match="first is the default model"):
        registry.delete("first")

    assert names() == ["first", "second"]


def test_another_default_lets_the_former_be_deleted(two_models, a_home):
    registry.set_default("second")
    registry.delete("first")
    registry.delete("second")

    assert names() == []
    assert registry.default_model() is None
    assert [entry.name for entry in (a_home / "models").iterdir()] == ["registry.json"]


def test_a_name_that_nobody_has_gets_the_valid_ones(two_models):
    with pytest.raises(UsageError, match=r"no model 'frist'\. Registered: first, second"):
        registry.load_model("frist")


def test_a_path_where_nothing_is_is_not_taken_for_a_name(two_models, tmp_path):
    with pytest.raises(PackageError, match=r"There is no model at .*gone\. Check the path"):
        registry.load_model(tmp_path / "gone")


def test_a_model_is_found_by_name_or_path(two_models, a_package):
    assert registry.load_model("second").sha256 == a_package.sha256
    assert registry.load_model(a_package.folder).sha256 == a_package.sha256


def test_a_damaged_model_is_listed_with_its_problem_and_cannot_be_the_default(two_models, a_home):
    (a_home / "models" / "second" / "manifest.json").write_text("{")

    second = registry.registered_models()[1]

    assert second.manifest is None
    assert "damaged" in second.problem
    with pytest.raises(UsageError, match="cannot be the default"):
        registry.set_default("second")


def test_a_copy_that_was_never_finished_is_not_listed(two_models, a_home):
    (a_home / "models" / ".third.abc.part").mkdir()

    assert names() == ["first", "second"]


def test_shared_models_can_be_used_but_not_changed(two_models, tmp_path, monkeypatch):
    make_package(tmp_path / "shared" / "ward", 2.0)
    make_package(tmp_path / "shared" / "first", 3.0)
    monkeypatch.setenv("SEMISUPSEG_MODELS", str(tmp_path / "shared"))

    assert names() == ["first", "second", "ward"]
    assert registry.find_model("ward").is_read_only
    assert registry.load_model("ward").weights()["a"][0, 0] == 2.0
    assert registry.load_model("first").weights()["a"][0, 0] == 1.0
    for change in (registry.delete, lambda name: registry.rename(name, "new")):
        with pytest.raises(UsageError, match="lies in a shared folder"):
            change("ward")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "semisupseg-registry", "version": 2, "default": null}', "newer SemiSupSeg"),
        ('{"format": "semisupseg-registry"', "cannot be read as JSON"),
        ("[]", "is not a SemiSupSeg registry file"),
    ],
)
def test_a_damaged_or_newer_registry_file_is_refused(two_models, a_home, text, message):
    (a_home / "models" / "registry.json").write_text(text)

    with pytest.raises(SemiSupSegError, match=message):
        registry.default_model()


def test_without_a_choice_the_systems_place_is_taken(monkeypatch, tmp_path):
    monkeypatch.delenv("SEMISUPSEG_HOME")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert registry.user_data_folder() == tmp_path / "SemiSupSeg"

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert registry.user_data_folder() == tmp_path / "Local" / "SemiSupSeg"


# The command.


def test_the_list_tells_task_method_counts_dice_and_date(two_models, capsys):
    assert main(["models"]) == 0

    assert capsys.readouterr().out == (
        "first (default): task binary; method curriculum; vnet; 8 labelled and 72 unlabelled "
        "cases; validation Dice object 0.876; 2026-08-01\n"
        "second: task binary; method curriculum; vnet; 8 labelled and 72 unlabelled cases; "
        "validation Dice object 0.876; 2026-08-01\n"
    )


def test_the_list_as_json_can_be_read_by_a_program(two_models, capsys):
    assert main(["models", "list", "--json", "-"]) == 0

    models = json.loads(capsys.readouterr().out)["models"]
    assert [(model["name"], model["default"]) for model in models] == [
        ("first", True),
        ("second", False),
    ]
    assert models[0]["manifest"]["network"]["name"] == "vnet"


def test_an_empty_list_says_what_to_do(capsys):
    assert main(["models", "list"]) == 0

    assert "No models yet" in capsys.readouterr().out


def test_a_model_travels_from_one_computer_to_another_in_one_file(
    two_models, a_package, tmp_path, monkeypatch, capsys
):
    assert main(["models", "export", "first", str(tmp_path / "first.zip")]) == 0
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "another"))
    assert main(["models", "import", str(tmp_path / "first.zip"), "--name", "theirs"]) == 0
    assert main(["models", "show", "theirs", "--json", "-"]) == 0

    shown = json.loads(capsys.readouterr().out.split("default.\n")[1])
    assert shown["sha256"] == a_package.sha256


def test_showing_a_model_checks_it_and_prints_its_card(two_models, a_package, capsys):
    assert main(["models", "show", "first"]) == 0

    out = capsys.readouterr().out
    assert f"sha256 {a_package.sha256}" in out
    assert out.endswith("# A model\n\n")


def test_exporting_never_replaces_a_file(two_models, tmp_path, capsys):
    (tmp_path / "first.zip").write_text("precious")

    assert main(["models", "export", "first", str(tmp_path / "first.zip")]) == 2

    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "first.zip").read_text() == "precious"


def test_exporting_into_no_folder_is_told(two_models, tmp_path, capsys):
    assert main(["models", "export", "first", str(tmp_path / "nowhere" / "first.zip")]) == 2

    assert "There is no folder" in capsys.readouterr().err


def test_importing_something_else_fails_with_one_sentence(tmp_path, capsys):
    (tmp_path / "model.pth").write_bytes(b"\x80\x04\x95")

    assert main(["models", "import", str(tmp_path / "model.pth")]) == 1

    err = capsys.readouterr().err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert "is not a model package" in err


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "remaining"), [("y\n", ["first"]), ("\n", ["first", "second"])])
def test_deleting_asks_first(two_models, monkeypatch, answer, remaining):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))

    assert main(["models", "delete", "second"]) == 0

    assert names() == remaining


def test_deleting_where_nobody_can_be_asked_needs_yes(two_models, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["models", "delete", "second"]) == 2
    assert "--yes" in capsys.readouterr().err

    assert main(["models", "delete", "second", "--yes"]) == 0

    assert names() == ["first"]


def test_renaming_and_choosing_work_from_the_command_line(two_models):
    assert main(["models", "rename", "second", "best"]) == 0
    assert main(["models", "default", "best"]) == 0

    assert registry.default_model() == "best"
