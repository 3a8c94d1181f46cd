"""`stage`: cases of a run's stages are looked at and excluded while it goes on in its process."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.review.results import read_regions
from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.events import read_events
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.stages import exclusions
from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.workers.job import JobFolder
from SemiSupSegLib.workers.opening import open_review

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 240
MAPS = {
    "label", "pseudolabel", "uncertainty", "confidence", "agreement", "sure", "possible",
    "second", "comparison", "regions", "trust",
}  # fmt: skip
SETTINGS = {
    "network.options": '{"width": 4, "lite": true}',
    "teacher_share": "4",
    "stage_share": "16",
    "head_share": "1",
    "fractions": "[1.0, 1.0, 1.0]",
    "pseudo_labels.passes": "2",
    "training.patch_size": "[16, 16, 16]",
    "training.validate_every": "100",
    "training.threads": "1",
    "training.checkpoint_seconds": "0",
}
SPLIT = {
    "train_labelled": ["case0", "case1"],
    "train_unlabelled": ["case2", "case3", "case4", "case5"],
    "validation": ["case6"],
}
AFFINE = np.array([[-1.5, 0.3, 0, 4], [-0.3, -1.5, 0, 7], [0, 0, 2, -3], [0, 0, 0, 1.0]])


def write_case(folder: Path, name: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (20, 18, 16)], indexing="ij"), -1)
    label = np.linalg.norm(grid - draw.uniform(7, 10, 3), axis=-1) < draw.uniform(4, 6)
    image = 100 + 60 * label + draw.normal(0, 20, label.shape)
    (folder / name).mkdir(parents=True)
    nib.save(nib.Nifti1Image(image.astype(np.float32), AFFINE), folder / name / "mri.nii.gz")
    label = nib.Nifti1Image(label.astype(np.uint8), AFFINE)
    nib.save(label, folder / name / "seg.nii.gz")


@pytest.fixture
def a_folder_of_cases(tmp_path):
    for number in range(7):
        write_case(tmp_path / "cases", f"case{number}", number)
    (tmp_path / "split.json").write_text(json.dumps(SPLIT))
    return tmp_path


def train_words(folder: Path, *, iterations: int = 54, **settings: str) -> list[str]:
    settings = {**SETTINGS, **settings}
    return [
        "train", "--cases", str(folder / "cases"), "--out", str(folder / "run"),
        "--task", "binary", "--split", str(folder / "split.json"),
        "--iterations", str(iterations), "--device", "cpu", "--store", str(folder / "store"),
        "--no-report", "--set", *(f"{key}={value}" for key, value in settings.items()),
    ]  # fmt: skip


def start(folder: Path, **options) -> subprocess.Popen:
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "SemiSupSegLib", *train_words(folder, **options)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )


def wait(process: subprocess.Popen, until) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not until():
        assert process.poll() is None, "the run has ended before"
        assert time.monotonic() < end, "the run does not get there"
        time.sleep(0.005)


def ranked(folder: Path) -> list[dict]:
    file = folder / "run" / "events.jsonl"
    return [one for one in read_events(file) if one["kind"] == "stage_ranked"]


def has_ranked(folder: Path, stage: int) -> bool:
    return len(ranked(folder)) >= stage


def status(folder: Path) -> RunStatus:
    return RunState.read(folder / "run" / "state.json").status


@contextlib.contextmanager
def a_paused_run(folder: Path, stage: int, **options):
    """Give the process of a run that waits within a stage; it is killed at the end."""
    process = start(folder, **options)
    try:
        wait(process, lambda: has_ranked(folder, stage))
        Control(folder / "run" / "control").want_pause()
        wait(process, lambda: status(folder) is RunStatus.PAUSED)
        assert len(ranked(folder)) == stage, "the stage was over before it could be paused"
        yield process
    finally:
        process.kill()
        process.wait()


def go_on(folder: Path, process: subprocess.Popen) -> None:
    Control(folder / "run" / "control").end_pause()
    assert process.wait(PATIENCE_SECONDS) == 0, (folder / "log.txt").read_text()


def stage(folder: Path, *words: str) -> int:
    threads = torch.get_num_threads()
    try:
        return main(["stage", str(folder / "run"), *words])
    finally:
        torch.set_num_threads(threads)


def values(folder: Path, case: str, name: str) -> np.ndarray:
    image = nib.load(folder / "out" / case / f"{case}_{name}.nii.gz")
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    return np.asarray(image.dataobj)


def hashes(folder: Path) -> dict[str, str]:
    """Return the content of a run folder but for its heartbeats."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("state.json", "lock")
    }


def test_the_cases_of_a_stage_are_listed_and_opened_while_the_run_goes_on(a_folder_of_cases):
    folder = a_folder_of_cases
    with a_paused_run(folder, stage=2) as process:
        before = hashes(folder / "run")
        assert not stage(folder, "--json", str(folder / "list.json"))
        listed = json.loads((folder / "list.json").read_text())
        assert not stage(folder, "--stage", "2", "--all", "--out", str(folder / "out"))
        assert hashes(folder / "run") == before
        go_on(folder, process)

    assert [one["stage"] for one in listed] == [1, 2]
    shown = listed[1]["cases"]
    assert [one["rank"] for one in shown] == ["most", "median", "least"]
    confidence = [one["image_confidence"] for one in shown]
    assert confidence == sorted(confidence, reverse=True)
    assert all(0 <= one["accepted_share"] <= 1 for one in shown)
    for case in (one["case"] for one in shown):
        names = {one.name for one in (folder / "out" / case).iterdir()}
        assert names == {"case.json", *(f"{case}_{name}.nii.gz" for name in MAPS)}
        kept = np.load(folder / "run" / "stages" / "02" / "shown" / f"{case}.npz")
        trust = values(folder, case, "trust")
        pseudo_label = values(folder, case, "pseudolabel")
        assert np.count_nonzero(trust) == np.count_nonzero(kept["weight"])
        assert trust.sum() == pytest.approx(kept["weight"].sum() / 255, abs=0.0025 * trust.size)
        assert (pseudo_label > 0).sum() == (kept["pseudo_label"] > 0).sum()
        both = (values(folder, case, "label") > 0) & (pseudo_label > 0)
        np.testing.assert_array_equal(values(folder, case, "comparison") == 1, both)


def test_a_result_says_what_it_is_and_opens_for_review(a_folder_of_cases, tmp_path):
    folder = a_folder_of_cases
    with a_paused_run(folder, stage=1):
        file = folder / "list.json"
        assert not stage(folder, "--stage", "1", "--json", str(file))
        case = json.loads(file.read_text())[0]["cases"][2]["case"]
        assert not stage(folder, "--stage", "1", "--case", case, "--out", str(folder / "out"))

    content = json.loads((folder / "out" / case / "case.json").read_text())
    check_format(content, "case-result", "case.json")
    words = " ".join(content["warnings"])
    assert "Stage 1 of the run run, its least confident case" in words
    assert "The student is not finished: the label is what it says after" in words
    assert "not calibrated" in words
    assert read_regions(folder / "out" / case).case == case
    job = JobFolder(tmp_path / "job")
    open_review(folder / "out" / case, "ann", job)
    opened = json.loads(job.result_json.read_text())["maps"]
    assert {name.replace("pseudo_label", "pseudolabel") for name in opened} >= MAPS - {"second"}
    assert json.loads((job.path / "review.json").read_text())["images"].keys() == {"image"}


def test_a_finished_run_shows_its_stages_with_its_own_student_on_the_scan_s_grid(
    a_folder_of_cases,
):
    folder = a_folder_of_cases
    settings = {"preparation.spacing": "[2.0, 2.0, 2.0]", "stage_share": "1", "head_share": "0"}
    threads = torch.get_num_threads()
    assert not main(train_words(folder, iterations=7, **settings))
    torch.set_num_threads(threads)
    shown = next((folder / "run" / "stages" / "03" / "shown").glob("*.npz"))

    assert not stage(folder, "--case", shown.stem, "--out", str(folder / "out"))

    content = json.loads((folder / "out" / shown.stem / "case.json").read_text())
    student = folder / "run" / "models" / "student" / "manifest.json"
    assert content["model_sha256"] == hashlib.sha256(student.read_bytes()).hexdigest()
    assert not [one for one in content["warnings"] if "not finished" in one]
    kept = np.load(shown)
    pseudo_label = values(folder, shown.stem, "pseudolabel")
    assert pseudo_label.shape == (20, 18, 16) != kept["pseudo_label"].shape[::-1]
    volume = 2.0**3 * np.count_nonzero(kept["pseudo_label"])
    assert np.count_nonzero(pseudo_label) * abs(np.linalg.det(AFFINE)) == pytest.approx(
        volume, rel=0.1
    )


@pytest.mark.parametrize("is_killed", [False, True], ids=["goes on", "killed and resumed"])
def test_a_case_excluded_in_a_stage_is_left_out_of_the_next_and_told(
    a_folder_of_cases, is_killed, capsys
):
    folder = a_folder_of_cases
    with a_paused_run(folder, stage=1) as process:
        assert not stage(folder, "--exclude", "case3")
        if not is_killed:
            go_on(folder, process)
    if is_killed:
        assert process.returncode == -signal.SIGKILL
        again = start(folder)
        assert again.wait(PATIENCE_SECONDS) == 0, (folder / "log.txt").read_text()

    run = RunFolder(folder / "run")
    cases = [json.loads((run.stage(n) / "cases.json").read_text())["cases"] for n in (1, 2, 3)]
    assert sorted(cases[0]) == SPLIT["train_unlabelled"]
    assert sorted(cases[1]) == sorted(cases[2]) == ["case2", "case4", "case5"]
    told = {one["stage"]: one["excluded"] for one in ranked(folder)}
    assert told == {1: [], 2: ["case3"], 3: ["case3"]}
    assert not main(["report", str(run.path)])
    assert "1 case was excluded by hand from stage 2 on" in run.report.read_text()
    told = "Left out by hand from stage 2 on: case3."
    assert told in (folder / "log.txt").read_text()
    capsys.readouterr()
    assert not main(["outcome", str(run.path)])
    assert capsys.readouterr().out.rstrip().endswith(told)
    assert not main(["outcome", str(run.path), "--json", "-"])
    assert json.loads(capsys.readouterr().out)["excluded"] == {"case3": 2}


def test_a_case_excluded_in_the_last_stage_is_told_to_be_learnt_from(a_folder_of_cases, capsys):
    folder = a_folder_of_cases
    with a_paused_run(folder, stage=3) as process:
        assert not stage(folder, "--exclude", "case3")
        go_on(folder, process)

    events = (folder / "run" / "events.jsonl").read_text()
    assert "no stage followed any more, so learnt from: case3" in events
    run = RunFolder(folder / "run")
    assert exclusions(run) == {"case3": None}
    assert not main(["report", str(run.path)])
    assert "1 case was excluded by hand when no stage followed" in run.report.read_text()
    capsys.readouterr()
    assert stage(folder, "--exclude", "case4") == 2
    assert "is finished: no stage follows" in capsys.readouterr().err


def test_checkpoints_are_read_while_the_trainer_replaces_them(a_folder_of_cases):
    folder = a_folder_of_cases
    process = start(folder)
    try:
        wait(process, lambda: has_ranked(folder, 1))
        case = next((folder / "run" / "stages" / "01" / "shown").glob("*.npz")).stem
        words = ["--stage", "1", "--case", case, "--passes", "1", "--out", str(folder / "out")]
        assert not stage(folder, *words)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_what_is_not_there_is_told_with_what_is(a_folder_of_cases, capsys):
    folder = a_folder_of_cases
    assert not main(train_words(folder, iterations=7, stage_share="1", head_share="0"))
    capsys.readouterr()
    shown = {one.stem for one in (folder / "run" / "stages" / "03" / "shown").glob("*.npz")}
    (other,) = set(SPLIT["train_unlabelled"]) - shown
    out = ["--out", str(folder / "out")]

    assert stage(folder, "--stage", "9") == 2
    assert "so far there are those of: 1, 2, 3" in capsys.readouterr().err
    assert stage(folder, "--case", other, *out) == 2
    assert f"{other} is not kept of stage 3, only case" in capsys.readouterr().err
    assert stage(folder, "--all") == 2
    assert "--out" in capsys.readouterr().err
    assert stage(folder, "--all", "--out", str(folder / "run" / "looked_at")) == 2
    assert "Choose another folder" in capsys.readouterr().err
    assert stage(folder, "--exclude", "case0") == 2
    assert "pseudo-labels no case case0" in capsys.readouterr().err
    assert not (folder / "run" / "control" / "exclude.json").exists()
    shutil.move(folder / "cases", folder / "elsewhere")
    assert stage(folder, "--all", *out) == 1
    assert "give its new place with --cases" in capsys.readouterr().err
    (name, *_) = shown
    write_case(folder / "elsewhere" / "new", name, 77)
    shutil.rmtree(folder / "elsewhere" / name)
    shutil.move(folder / "elsewhere" / "new" / name, folder / "elsewhere" / name)
    words = ["--case", name, "--cases", str(folder / "elsewhere"), *out]
    assert stage(folder, *words) == 1
    assert "has changed since the run was started" in capsys.readouterr().err


def test_a_run_without_pseudo_labels_says_so(tmp_path, capsys):
    assert main(["stage", str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err
