"""`plan` tells what a run would do and need; `train` then does that, or refuses as `plan` said."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.resources import check_format, preset_names
from SemiSupSegLib.runs.state import RunState
from SemiSupSegLib.training import needs as needs_module
from SemiSupSegLib.training import planning, trial
from SemiSupSegLib.training.configuration import configure
from SemiSupSegLib.training.progress import Progress
from SemiSupSegLib.training.request import TrainRequest
from SemiSupSegLib.training.run import train
from SemiSupSegLib.training.trial import trial_key
from SemiSupSegLib.workers import estimates

ROOT = Path(__file__).resolve().parents[2]

TINY = {
    "network.options": '{"width": 4, "lite": true}',
    "teacher_share": "6",
    "stage_share": "2",
    "head_share": "1",
    "fractions": "[0.5, 1.0]",
    "pseudo_labels.passes": "2",
    "training.patch_size": "[16, 16, 16]",
    "training.validate_every": "5",
    "training.threads": "1",
}


class Remembered(dict):
    """What was measured, for this test alone."""

    def put(self, key, told):
        self[key] = json.loads(json.dumps(told))


@pytest.fixture(scope="module")
def measured():
    """Measured by the first test that needs it; the others share it."""
    return Remembered()


def write_case(folder: Path, name: str, seed: int, labelled: bool) -> None:
    draw = np.random.default_rng(seed)
    size = (20, 18, 16)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), -1)
    label = (np.linalg.norm(grid - draw.uniform(7, 10, 3), axis=-1) < 5).astype(np.uint8)
    image = 100 + 60 * label + draw.normal(0, 20, size)
    affine = np.diag([-1.5, -1.5, 2.0, 1.0])
    (folder / name).mkdir(parents=True)
    nib.save(nib.Nifti1Image(image.astype(np.float32), affine), folder / name / "mri.nii.gz")
    if labelled:
        nib.save(nib.Nifti1Image(label, affine), folder / name / "seg.nii.gz")


@pytest.fixture
def a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home"))
    for number in range(8):
        name = f"p{number // 2}x{number}"
        write_case(tmp_path / "cases", name, number, labelled=number < 4)
    return tmp_path


def request_for(folder: Path, **changes) -> TrainRequest:
    settings = {**TINY, **changes.pop("settings", {})}
    values = {
        "cases": folder / "cases",
        "out": folder / "run",
        "task": "binary",
        "patient": "^(p[0-9]+)x",
        "iterations": 12,
        "device": "cpu",
        "store": folder / "store",
        "settings": settings,
        **changes,
    }
    return TrainRequest(**values)


def words_for(request: TrainRequest) -> list[str]:
    settings = [f"{key}={value}" for key, value in request.settings.items()]
    return [
        "--cases", str(request.cases), "--out", str(request.out), "--task", "binary",
        "--patient", str(request.patient), "--iterations", str(request.iterations),
        "--device", "cpu", "--store", str(request.store), "--set", *settings,
    ]  # fmt: skip


def command(*words: str, **changes) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "SemiSupSegLib", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **changes},
        timeout=240,
    )


def test_a_run_is_as_it_was_planned(a_folder):
    request = request_for(a_folder)
    file = a_folder / "plan.json"

    planned = command("plan", *words_for(request), "--json", str(file))

    assert planned.returncode == 0, planned.stderr
    assert not request.out.exists()
    assert sorted(one.name for one in (a_folder / "store").iterdir()) == ["scans"]
    plan = json.loads(file.read_text())
    check_format(plan, "plan", file)
    assert plan["why_not"] == ""
    estimate = plan["estimate"]
    assert 0 < estimate["seconds_training"] < estimate["seconds"]
    assert estimate["seconds_cases"] > 0
    assert estimate["memory_bytes"] > 1e8
    assert "made-up cases" in estimate["measured"]
    ran = command("train", *words_for(request), "--no-report")
    assert ran.returncode == 0, ran.stderr
    run = json.loads((request.out / "run.json").read_text())
    assert plan["split"] == run["split"]
    assert plan["patch_size"] == run["patch_size"]
    assert (plan["method"], plan["preset"], plan["seed"]) == (
        run["method"],
        run["preset"],
        run["seed"],
    )
    assert plan["device"] == run["device"]
    assert run["patient"] == "^(p[0-9]+)x"
    events = [json.loads(line) for line in (request.out / "events.jsonl").read_text().splitlines()]
    done = {one["phase"]: one["iterations"] for one in events if one["kind"] == "phase_started"}
    assert {one["name"]: one["iterations"] for one in plan["phases"]} == done
    arrays = [*(a_folder / "store").rglob("image.npy"), *(a_folder / "store").rglob("mask.npy")]
    arrays += (a_folder / "store").rglob("label*.npy")
    assert estimate["store_bytes"] == pytest.approx(
        sum(one.stat().st_size - 128 for one in arrays), rel=0.01
    )
    size = sum(one.stat().st_size for one in request.out.rglob("*") if one.is_file())
    assert estimate["disk_bytes"] > size


def test_cases_of_one_patient_are_planned_for_one_use(a_folder, measured):
    plan = planning.plan_run(request_for(a_folder), measured)

    trained = {plan["patients"][one] for one in plan["split"]["train_labelled"]}
    judged = {plan["patients"][one] for one in plan["split"]["validation"]}
    assert (len(trained), len(judged)) == (1, 1)
    assert not trained & judged
    assert set(plan["patients"].values()) == {"p0", "p1", "p2", "p3"}


def test_what_was_measured_is_measured_once_on_this_machine(a_folder, monkeypatch, measured):
    first = planning.plan_run(request_for(a_folder), measured)
    assert len(measured) == 1

    def fail(*_, **__):
        raise AssertionError("was measured again")

    monkeypatch.setattr(planning, "try_out", fail)
    again = planning.plan_run(
        request_for(a_folder, iterations=24, settings={"optimizer.rate": "0.01"}), measured
    )

    training = [one["estimate"]["seconds_training"] for one in (first, again)]
    assert training[1] == pytest.approx(2 * training[0], abs=0.11)


def test_a_run_begins_with_the_time_that_was_planned(a_folder, measured, monkeypatch):
    request = request_for(a_folder)
    # Prepared, so that the plan knows the grids and does not forecast them.
    train(request_for(a_folder, out=a_folder / "other"))
    estimate = planning.plan_run(request, measured)["estimate"]
    enter, left = Progress.enter, []

    def noted(self, *arguments):
        enter(self, *arguments)
        left.append(RunState.read(request.out / "state.json").seconds_left)

    monkeypatch.setattr(Progress, "enter", noted)
    train(request, measured)

    assert estimate["seconds_preparation"] == 0
    assert left[0] == pytest.approx(estimate["seconds"], abs=0.11)


def test_without_a_plan_a_run_tells_no_time_before_it_has_a_pace(a_folder, monkeypatch):
    told = []
    begin = Progress.begin
    monkeypatch.setattr(
        Progress, "begin", lambda self, *given: (told.append(given[-1]), begin(self, *given))
    )

    train(request_for(a_folder), Remembered())

    assert told == [None]


def test_the_final_figures_count_with_what_they_were_measured_to_cost(a_folder, measured):
    first = planning.plan_run(request_for(a_folder), measured)
    dearer = Remembered(
        {
            key: {**told, "figures_case_seconds": told["figures_case_seconds"] + 100}
            for key, told in measured.items()
        }
    )

    again = planning.plan_run(request_for(a_folder), dearer)

    assert len(first["split"]["validation"]) == 2
    cases = [one["estimate"]["seconds_cases"] for one in (first, again)]
    assert cases[1] - cases[0] == pytest.approx(200, abs=0.11)


@pytest.mark.parametrize(
    ("settings", "patch", "is_same"),
    [
        (
            {"optimizer.rate": "0.01", "fractions": "[0.3]", "training.validate_every": "7"},
            16,
            True,
        ),
        ({"labelled_per_batch": "3"}, 16, False),
        ({"pseudo_labels.passes": "3"}, 16, False),
        ({"network.options.width": "8"}, 16, False),
        ({"training.threads": "2"}, 16, False),
        ({}, 32, False),
    ],
)
def test_only_what_changes_the_cost_of_an_update_is_measured_anew(settings, patch, is_same):
    task = load_task("binary")

    def key(settings, side):
        config = configure(variant="cpu", settings={**TINY, **settings})
        return trial_key(config, task, (side,) * 3, "CPU", has_unlabelled=True)

    assert (key(settings, patch) == key({}, 16)) is is_same


def test_a_kind_of_phase_that_no_trial_has_seen_is_measured(a_folder):
    known = Remembered()
    for share in ("0", "1"):
        plan = planning.plan_run(request_for(a_folder, settings={"head_share": share}), known)

        assert plan["why_not"] == ""
        assert plan["estimate"]["seconds"] > 0
    assert len(known) == 1
    assert {one["name"] for one in plan["phases"]} >= {"distil", "student_distil"}


def test_a_run_without_unlabelled_cases_is_planned_as_such(a_folder, measured):
    split = {
        "train_labelled": ["p0x0", "p0x1"],
        "train_unlabelled": [],
        "validation": ["p1x2"],
    }
    (a_folder / "split.json").write_text(json.dumps(split))

    alone = planning.plan_run(request_for(a_folder, split=a_folder / "split.json"), Remembered())
    usual = planning.plan_run(request_for(a_folder), measured)

    assert alone["why_not"] == ""
    assert any("no unlabelled cases" in one for one in alone["findings"])
    assert alone["estimate"]["disk_bytes"] < usual["estimate"]["disk_bytes"]


def test_a_run_without_memory_is_refused_with_what_was_found_to_fit(
    a_folder, monkeypatch, measured
):
    monkeypatch.setattr(needs_module, "total_memory", lambda: needs_module.PROCESS_BYTES + 10**8)
    request = request_for(a_folder, settings={"training.patch_size": "[64, 64, 64]"})

    plan = planning.plan_run(request, measured)

    assert plan["estimate"]["memory_bytes"] > needs_module.total_memory()
    assert "of memory, and this computer has 0.8 GB" in plan["why_not"]
    found = plan["would_fit"]
    assert math.prod(json.loads(found["training.patch_size"])) < 64**3
    for key, text in found.items():
        assert f"{key} = {text}" in plan["why_not"]
    assert plan["estimate"]["seconds"] is None
    check_format(plan, "plan", "plan.json")
    with pytest.raises(SemiSupSegError, match="of memory, and this computer has"):
        train(request)
    monkeypatch.setattr(planning, "_trial", lambda *_: None)
    assert planning.plan_run(request_for(a_folder, settings=found), measured)["why_not"] == ""


def test_a_run_without_disk_is_refused_by_plan_and_train(a_folder, monkeypatch, measured):
    monkeypatch.setattr(needs_module, "free_disk", lambda folder: 1_000_000)

    plan = planning.plan_run(request_for(a_folder), measured)

    assert "its disk has 1 MB left" in plan["why_not"]
    assert plan["exit_code"] == 1
    with pytest.raises(SemiSupSegError, match="its disk has 1 MB left"):
        train(request_for(a_folder))
    assert not (a_folder / "run" / "run.json").exists()


def test_a_folder_that_holds_something_else_is_refused_before_the_start(a_folder, measured):
    out = a_folder / "cases"

    plan = planning.plan_run(request_for(a_folder, out=out), measured)

    assert plan["why_not"].startswith(f"{out} is not a run folder and not empty")
    assert plan["exit_code"] == 2
    assert plan["split"]["train_labelled"]


def test_what_cannot_be_trained_is_told_in_one_sentence(a_folder, capsys):
    request = request_for(a_folder, settings={"training.patch_size": "[20, 20, 20]"})

    assert main(["plan", *words_for(request), "--json", str(a_folder / "plan.json")]) == 0
    plan = json.loads((a_folder / "plan.json").read_text())
    assert "every side must be a multiple of" in plan["why_not"]
    assert plan["split"]["train_labelled"]
    check_format(plan, "plan", "plan.json")
    capsys.readouterr()
    refused = [main([name, *words_for(request)]) for name in ("plan", "train")]
    assert capsys.readouterr().err.count("every side must be a multiple of") == 2
    assert refused == [2, 2]
    assert plan["exit_code"] == 2


def test_a_misspelt_option_is_told_as_train_tells_it(a_folder, measured):
    plan = planning.plan_run(request_for(a_folder, settings={"lamda_high": "2"}), measured)

    assert "Did you mean 'lambda_high'?" in plan["why_not"]


def test_the_memory_of_a_large_batch_is_counted_as_runs_have_taken_it():
    """ADR 17: 16 patches of the left atrium took 4.5 to 5.2 GB."""
    settings = {"training.patch_size": "[48, 64, 64]"}
    config = configure(preset="best", method="best", variant="cpu", settings=settings)

    update = needs_module.update_memory(config, load_task("binary"), (48, 64, 64))

    assert 0.85 * 5.2e9 < needs_module.PROCESS_BYTES + update < 1.15 * 4.5e9


def test_a_plan_in_words_names_time_memory_and_disk(a_folder, capsys, measured, monkeypatch):
    monkeypatch.setattr(estimates, "MeasuredRuns", lambda: measured)

    assert main(["plan", *words_for(request_for(a_folder))]) == 0

    told = capsys.readouterr().out
    assert "2 labelled and 4 unlabelled cases to train on, 2 to judge by" in told
    assert "updates: teacher 6, distil 1, stage_1 2, stage_2 2, student_distil 1" in told
    for word in ("Time: about", "Measured:", "Memory: about", "Disk: at most"):
        assert word in told


def test_an_update_that_is_too_slow_to_be_tried_is_told_from_windows(a_folder, monkeypatch):
    monkeypatch.setattr(trial, "_SLOW_SECONDS", 0.0)

    plan = planning.plan_run(request_for(a_folder), Remembered())

    assert plan["estimate"]["seconds_training"] > 0
    assert "multiplied, since an update is slow here" in plan["estimate"]["measured"]


def test_what_a_run_has_prepared_is_in_the_store_for_the_next(a_folder, measured):
    request = request_for(a_folder)
    first = planning.plan_run(request, measured)["estimate"]
    train(request)
    with pytest.raises(UsageError, match="patient: "):
        train(request_for(a_folder, patient="^(p)"))

    again = planning.plan_run(request_for(a_folder, out=a_folder / "other"), measured)

    assert first["store_bytes"] > 0
    assert again["estimate"]["store_bytes"] == 0
    assert again["estimate"]["seconds_preparation"] == 0


def test_the_options_are_told_without_cases(tmp_path):
    file = tmp_path / "options.json"
    words = ["--method", "supervised", "--preset", "fast_check", "--device", "cpu"]

    code = main(["plan", "--options", *words, "--set", "optimizer.rate=0.5", "--json", str(file)])

    content = json.loads(file.read_text())
    check_format(content, "options", file)
    assert code == 0
    methods = {one["name"] for one in content["methods"]}
    assert {"supervised", "curriculum"} <= methods
    assert "corrections" not in methods
    assert [one["name"] for one in content["presets"]] == preset_names()
    (rate,) = (one for one in content["options"] if one["key"] == "optimizer.rate")
    assert (rate["default"], rate["value"], rate["depth"]) == (0.003, 0.5, "common")


def test_train_and_plan_ask_for_cases_and_run_folder(capsys):
    for name in ("train", "plan"):
        assert main([name, "--cases", "somewhere"]) == 2
        assert "--cases and the run folder with --out" in capsys.readouterr().err
