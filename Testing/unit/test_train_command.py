"""`train`: what it tells and refuses before it trains."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.commands.train import how_it_goes_on
from SemiSupSegLib.errors import StoppedError, UsageError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.resources import preset_names
from SemiSupSegLib.training.configuration import configure, fit_to_task
from SemiSupSegLib.workers.environment import packages_folder
from SemiSupSegLib.workers.processes import LIBRARY, command_line


def test_the_methods_are_listed_without_naming_cases(capsys):
    code = main(["train", "--list-methods"])

    told = capsys.readouterr().out
    lines = told.splitlines()
    assert code == 0
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == ["Method", "Memory", "Forward", "passes", "a", "step"]
    table = {block.split()[0]: " ".join(block.split()) for block in told.split("\n\n")[1:-1]}
    assert {"supervised", "mean_teacher", "uamt", "curriculum"} <= set(table)
    assert "corrections" not in table
    assert all(table[name].split()[2] == "GB" for name in ("supervised", "uamt"))
    assert "48 x 48 x 48 voxels" in lines[-1]
    assert "trusted cases first" in table["curriculum"]
    assert "arXiv 2602.08797" in table["curriculum"]
    assert "labelled and unlabelled cases" in table["curriculum"]
    assert "1 + pseudo_labels.passes" in table["curriculum"]


def test_the_help_names_the_presets(capsys):
    assert main(["train", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"one of {', '.join(preset_names())}" in told


def test_an_unknown_preset_gets_the_valid_ones(tmp_path, capsys):
    words = ["--cases", str(tmp_path), "--out", str(tmp_path / "run"), "--preset", "fast"]

    assert main(["train", *words, "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert f"no preset 'fast'. Choose one of: {', '.join(preset_names())}" in told


def test_a_refused_run_leaves_no_folder_that_it_made(tmp_path, capsys):
    cases, own = tmp_path / "cases", tmp_path / "own"
    cases.mkdir()
    own.mkdir()

    for out in (tmp_path / "new" / "run", own):
        assert main(["train", "--cases", str(cases), "--out", str(out), "--device", "cpu"]) == 1
        assert "no labelled case" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [cases, own]
    assert not list(own.iterdir())


@pytest.mark.parametrize(
    ("words", "preset", "method"),
    [
        ([], "standard", "curriculum"),
        (["--method", "uamt"], "uamt", "uamt"),
        (["--method", "uamt", "--preset", "standard"], "standard", "uamt"),
        (["--preset", "uamt"], "uamt", "uamt"),
    ],
)
def test_a_method_brings_its_preset(tmp_path, words, preset, method):
    file = tmp_path / "options.json"

    assert main(["plan", "--options", "--device", "cpu", "--json", str(file), *words]) == 0

    content = read_json(file)
    assert (content["preset"], content["method"]) == (preset, method)


def test_every_option_is_written_down_with_its_value():
    options = configure(variant="cpu").to_json()["options"]

    network, loss = options["network"]["options"], options["loss"]
    assert (network["width"], network["lite"]) == (8, True)
    # Nothing in the preset says these.
    assert (network["levels"], network["norm"], network["aspp_rates"]) == (5, "group", [1, 2, 3])
    assert (loss["ce_weight"], loss["dice_weight"], loss["exponent"]) == (1.0, 1.0, 1)
    assert loss["background"] is False


@pytest.mark.parametrize("name", ["vnet", "unet3d"])
def test_another_network_than_the_presets_starts_from_its_own_defaults(name):
    network = configure(variant="cpu", settings={"network.name": name}).options.network

    assert network.name == name
    assert "lite" not in network.options


def test_a_setting_of_another_network_comes_on_top_of_its_defaults():
    settings = {"network.name": "vnet", "network.options.width": "8"}

    network = configure(variant="cpu", settings=settings).options.network

    assert network.options["width"] == 8
    assert network.options["norm"] == "instance"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("ema", "1.5"),
        ("teacher_labelled_per_batch", "0"),
        ("unlabelled_per_batch", "0"),
        ("teacher_share", "-1"),
        ("lambda_low", "-0.1"),
        ("ramp", "2"),
        ("head_rate", "0"),
        ("training.patch_limit", "8"),
        ("training.clip_norm", "-1"),
        ("training.patch_size", "[8, 8, 8]"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_name(setting, value):
    with pytest.raises(UsageError, match=f"{setting.split('.')[-1]} is .*must be|16 or more"):
        configure(variant="cpu", settings={setting: value})


def test_a_negative_seed_is_refused():
    with pytest.raises(UsageError, match="--seed is -1, must be 0 or more"):
        configure(variant="cpu", seed=-1)


@pytest.mark.parametrize("method", ["curriculum", "best"])
def test_boxes_are_exchanged_in_tasks_of_several_classes_unless_told_otherwise(method):
    def copy_paste(task: str, **settings: str) -> float:
        config = configure(method=method, variant="cpu", settings=settings)
        return fit_to_task(config, load_task(task), settings).options.copy_paste

    assert copy_paste("brats") == 1
    assert copy_paste("binary") == 0
    assert copy_paste("binary", copy_paste="0.5") == 0.5
    assert copy_paste("brats", copy_paste="0") == 0


def test_an_argument_of_its_own_is_no_setting(tmp_path, capsys):
    words = ["--cases", str(tmp_path), "--out", str(tmp_path / "run"), "--set", "iterations=5"]

    assert main(["train", *words, "--device", "cpu"]) == 2
    assert "--iterations 5" in capsys.readouterr().err


def test_an_interrupted_run_says_how_it_goes_on(tmp_path, capsys, monkeypatch):
    (tmp_path / "a run").mkdir()
    (tmp_path / "a run" / "run.json").write_text("{}")

    for end in (KeyboardInterrupt(), StoppedError("Stopped at update 2 of 9.")):

        def interrupted(request, measured=None, end=end):
            raise end

        monkeypatch.setattr("SemiSupSegLib.training.run.train", interrupted)
        for name in ("a run", "none"):
            words = ["--cases", str(tmp_path), "--out", str(tmp_path / name), "--device", "cpu"]
            assert main(["train", *words]) == 3
            told = capsys.readouterr().err.strip()
            again = ["train", "--resume", str(tmp_path / name)] if name == "a run" else None
            start = [sys.executable, str(LIBRARY / "__main__.py")]
            assert told.startswith(str(end) or "Interrupted.")
            assert told.endswith(": " + shlex.join([*start, *(again or ["train", *words])]))
            assert ("Nothing was begun" in told) is (again is None)


def test_the_command_that_goes_on_can_be_given_in_any_folder(tmp_path):
    line = how_it_goes_on(None, ["scan", "--help"]).split(": ", 1)[1]

    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)

    assert "--headers-only" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="written for a shell")
def test_the_command_finds_packages_that_only_the_workers_have(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "a home"))
    packages = packages_folder()
    packages.mkdir(parents=True)
    # Python imports it at its start, from wherever its path leads.
    (packages / "sitecustomize.py").write_text("print('found the packages')")
    with_packages = command_line(sys.executable, ["scan", "--help"], packages=packages)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    of_a_worker = how_it_goes_on(None, ["scan", "--help"]).split(": ", 1)[1]
    monkeypatch.delenv("PYTHONPATH")
    without = how_it_goes_on(None, ["scan", "--help"]).split(": ", 1)[1]

    told = []
    for line in (with_packages, of_a_worker, without):
        done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert "--headers-only" in done.stdout
        told.append("found the packages" in done.stdout)

    assert told == [True, True, False]


def test_a_run_of_several_processes_is_not_told_to_go_on_alone(tmp_path, monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "1")

    assert how_it_goes_on(tmp_path, ["train"]).endswith("the same command goes on.")


def test_options_can_be_told_on_the_terminal(capsys):
    assert main(["plan", "--options", "--device", "cpu", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "curriculum"
