"""Workers as real processes: jobs, the warm worker, stopping, killing, life lines."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.task import Channel, Class, Region, Task
from SemiSupSegLib.errors import SemiSupSegError, StoppedError
from SemiSupSegLib.models.package import write_package
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.workers import one_shot, processes, serve
from SemiSupSegLib.workers import runner as runner_module
from SemiSupSegLib.workers.job import JobFolder, PredictRequest
from SemiSupSegLib.workers.packages import Probe
from SemiSupSegLib.workers.plan import InstallPlan
from SemiSupSegLib.workers.runner import JobRunner

AFFINE = np.array([[-1.0, 0, 0, 40], [0, 1.2, 0, -30], [0, 0, 2.0, 5], [0, 0, 0, 1]])
PATIENCE = 120.0
OPTIONS = {"width": 4, "lite": True, "levels": 4}
TASK = Task(
    name="toy",
    title="Toy",
    channels=(Channel(name="t1"), Channel(name="t2", required=False)),
    classes=(
        Class(name="shell", values=(5,), color=(255, 0, 0)),
        Class(name="core", values=(9,), color=(0, 255, 0)),
    ),
    regions=(Region(name="both", classes=("shell", "core")),),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    def weights(seed):
        network = build_network("transaspp", OPTIONS, in_channels=2, num_classes=3)
        draw = np.random.default_rng(seed)
        return {
            key: draw.normal(0, 0.3, tuple(value.shape)).astype(np.float32)
            for key, value in network.state_dict().items()
        }

    manifest = {
        "name": "toy",
        "created": "2026-01-01T00:00:00+00:00",
        "task": TASK.to_json(),
        "network": {
            "name": "transaspp", "options": OPTIONS, "in_channels": 2, "num_classes": 3,
            "patch_size": [16, 16, 16],
        },
        "method": "curriculum",
        "preparation": {"spacing": [1.0, 1.2, 2.0], "mask": "nonzero"},
        "library": {"version": "0"},
    }  # fmt: skip
    made = {"student": weights(0), "teacher": weights(1)}
    folder = tmp_path_factory.mktemp("model") / "model"
    return write_package(folder, manifest=manifest, weights=made, card="toy").folder


@pytest.fixture
def images(tmp_path):
    draw = np.random.default_rng(0)
    sources = {}
    for name in ("t1", "t2"):
        values = np.zeros((40, 36, 22), np.int16)
        values[2:38, 3:34, 2:20] = draw.integers(1, 400, (36, 31, 18))
        file = tmp_path / "a patient's images" / f"{name}.nii.gz"
        file.parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), file)
        sources[name] = ImageSource(path=file)
    return sources


@pytest.fixture
def runner(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SEMISUPSEG_HOME": str(tmp_path / "home")}
    made = JobRunner(sys.executable, tmp_path / "logs", environment=environment)
    yield made
    made.close()


def a_job(tmp_path, name, model, images, **changes) -> Path:
    values = {
        "case": "Ünal 7",
        "model": str(model),
        "channels": images,
        "results": tmp_path / "results",
        "device": "cpu",
        **changes,
    }
    folder = tmp_path / "jobs" / name
    PredictRequest(**values).write(JobFolder(folder))
    return folder


def until(runner, *questions):
    """Poll until every question is answered by yes."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        runner.poll()
        if all(question() for question in questions):
            return
        time.sleep(0.02)
    raise AssertionError("it took too long")


def ended(*jobs):
    return [lambda job=job: job.is_ended for job in jobs]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def kinds(job):
    return [event["kind"] for event in job.events]


def test_a_case_is_segmented_and_a_second_one_by_the_same_process(runner, model, images, tmp_path):
    first = runner.predict(a_job(tmp_path, "1", model, images))
    second = runner.predict(a_job(tmp_path, "2", model, images, case="other"))
    until(runner, *ended(first, second))

    assert first.state.status.value == second.state.status.value == "finished"
    assert kinds(first) == ["started", "maps_ready", "result_written", "finished"]
    assert first.state.pid == second.state.pid
    result = json.loads(first.folder.result_json.read_text())
    check_format(result, "job-result", "result.json")
    assert result["grid"]["size"] == [40, 36, 22]
    saved = tmp_path / "results" / "Ünal 7"
    shown = {name: np.load(first.folder.path / one) for name, one in result["maps"].items()}
    assert {"label", "pseudo_label", "uncertainty", "agreement", "sure", "second"} <= shown.keys()
    label = nibabel.load(saved / "Ünal 7_label.nii.gz").get_fdata()
    written = np.array([0, 5, 9])[shown["label"]].transpose(2, 1, 0)
    # The file keeps its axes; the job's arrays are those of the grid in result.json.
    np.testing.assert_array_equal(label, written)
    confidence = nibabel.load(saved / "Ünal 7_confidence.nii.gz").get_fdata()
    assert np.abs(shown["confidence"].transpose(2, 1, 0) - confidence).max() < 0.006
    assert any("estimated_dice" in note for note in result["notes"])
    np.testing.assert_array_equal(shown["distance"] == 0, shown["label"] > 0)
    regions = nibabel.load(saved / "Ünal 7_regions.nii.gz").get_fdata()
    np.testing.assert_array_equal(shown["regions"].transpose(2, 1, 0), regions)
    assert shown["regions"].dtype == np.uint16
    case = json.loads((saved / "case.json").read_text())
    assert result["review_regions"] == case["review_regions"]
    assert result["review"] == case["review"]
    assert result["volumes_ml"]["both"]["value"] == pytest.approx(
        case["volumes_ml"]["both"]["value"], abs=1e-6
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "nowhere"}, "nowhere"),
        ({"images": {}}, "request.json"),
        ({"device": "cuda:99"}, "cuda:99"),
    ],
)
def test_a_request_that_cannot_be_met_says_why_and_the_worker_lives_on(
    runner, model, images, tmp_path, changes, message
):
    asked = {"model": model, "images": images, **changes}
    wrong = runner.predict(a_job(tmp_path, "wrong", **asked))
    right = runner.predict(a_job(tmp_path, "right", model, images))
    until(runner, *ended(wrong, right))

    assert wrong.state.status.value == "failed"
    assert message in wrong.state.error
    assert right.state.status.value == "finished"


def test_a_channel_that_the_model_needs_or_does_not_know_is_named(runner, model, images, tmp_path):
    without = runner.predict(a_job(tmp_path, "1", model, {"t2": images["t2"]}))
    strange = runner.predict(a_job(tmp_path, "2", model, {**images, "pet": images["t1"]}))
    alone = runner.predict(a_job(tmp_path, "3", model, {"t1": images["t1"]}))
    until(runner, *ended(without, strange, alone))

    assert "t1 is not given" in without.state.error
    assert "no channel pet" in strange.state.error
    assert alone.state.status.value == "finished"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB."), "The GPU has too little"),
        (OSError(28, "No space left on device", "/x/label.npy"), "The disk is full"),
        (ModuleNotFoundError("No module named 'nibabel'", name="nibabel"), "nibabel is missing"),
    ],
)
def test_what_the_system_refuses_is_told_in_sentences(error, sentence, tmp_path, monkeypatch):
    def refuse(self, job, record):
        raise error

    monkeypatch.setattr(serve._PredictWorker, "_predict", refuse)
    job = JobFolder(tmp_path / "job")
    job.path.mkdir()

    serve._PredictWorker(threading.Event()).do(job)

    state = json.loads(job.state_json.read_text())
    assert state["status"] == "failed"
    assert sentence in state["error"]


def test_a_worker_without_pytorch_says_so_and_lives_on(tmp_path, monkeypatch):
    def load(self, job, record):
        import torch  # noqa: F401

    monkeypatch.setattr(serve._PredictWorker, "_predict", load)
    monkeypatch.setitem(sys.modules, "torch", None)
    job = JobFolder(tmp_path / "job")
    job.path.mkdir()

    serve._PredictWorker(threading.Event()).do(job)

    state = json.loads(job.state_json.read_text())
    assert state["status"] == "failed"
    assert "torch is missing" in state["error"]


@pytest.mark.parametrize("kind", [StoppedError, SemiSupSegError])
def test_what_a_stopped_job_had_on_the_gpu_goes_back_at_once(kind, tmp_path, monkeypatch):
    """While the model stays: PyTorch keeps freed memory, and an error what its frames held."""
    held, alive = [], []

    def compute(self, job, record):
        window = torch.zeros(8)
        held.append(weakref.ref(window))
        raise kind("CUDA out of memory")

    monkeypatch.setattr(serve._PredictWorker, "_predict", compute)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(held[-1]() is not None))
    job = JobFolder(tmp_path / "job")
    job.path.mkdir()

    serve._PredictWorker(threading.Event()).do(job)

    assert alive == [False]


def test_a_cancelled_job_stops_between_windows_and_the_next_one_is_done(
    runner, model, images, tmp_path, monkeypatch
):
    monkeypatch.setattr(runner_module, "KILL_AFTER_SECONDS", PATIENCE)
    job = runner.predict(a_job(tmp_path, "1", model, images, passes=200))
    until(runner, lambda: job.state.phase == "segmenting")
    runner.cancel(job)
    following = runner.predict(a_job(tmp_path, "2", model, images, case="other"))
    until(runner, *ended(job, following))

    assert job.state.status.value == "stopped"
    assert following.state.status.value == "finished"
    assert following.state.pid == job.state.pid
    assert not (tmp_path / "results" / "Ünal 7").exists()


def test_a_worker_that_does_not_stop_is_killed_and_what_waits_goes_to_another_one(
    runner, model, images, tmp_path, monkeypatch
):
    monkeypatch.setattr(runner_module, "KILL_AFTER_SECONDS", 0.0)
    job = runner.predict(a_job(tmp_path, "1", model, images, passes=100_000))
    following = runner.predict(a_job(tmp_path, "2", model, images))
    until(runner, lambda: job.state.phase == "segmenting")
    pid = job.state.pid
    runner.cancel(job)
    until(runner, *ended(job))

    assert job.state.status.value == "stopped"
    assert not is_alive(pid)
    until(runner, *ended(following))
    assert following.state.status.value == "finished"
    assert following.state.pid != pid


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_worker_that_is_killed_from_outside_is_noticed(runner, model, images, tmp_path):
    job = runner.predict(a_job(tmp_path, "1", model, images, passes=100_000))
    waiting = runner.predict(a_job(tmp_path, "2", model, images))
    until(runner, lambda: job.state.phase == "segmenting")
    os.kill(job.state.pid, signal.SIGKILL)
    until(runner, *ended(job, waiting))

    assert job.state.status.value == "failed"
    assert "The worker ended without a word" in job.state.error
    assert waiting.state.status.value == "finished"


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_full_disk_does_not_hide_that_a_worker_is_gone(
    runner, model, images, tmp_path, monkeypatch
):
    job = runner.predict(a_job(tmp_path, "1", model, images, passes=100_000))
    until(runner, lambda: job.state.phase == "segmenting")

    def is_full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runner_module.EventLog, "append", is_full)
    monkeypatch.setattr(runner_module.RunState, "write", is_full)
    os.kill(job.state.pid, signal.SIGKILL)
    until(runner, *ended(job))

    assert job.state.status.value == "failed"
    assert "The worker ended without a word" in job.state.error
    assert runner.poll() == []


OWNER = """
import sys, time
from pathlib import Path
from SemiSupSegLib.workers.runner import JobRunner
runner = JobRunner(sys.executable, Path(sys.argv[1]))
job = runner.predict(Path(sys.argv[2]))
while True:
    runner.poll()
    print(job.state.pid or 0, job.state.phase, flush=True)
    time.sleep(0.05)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_when_its_owner_is_killed_a_worker_ends(model, images, tmp_path):
    folder = a_job(tmp_path, "1", model, images, passes=200)
    words = [sys.executable, "-c", OWNER, str(tmp_path / "logs"), str(folder)]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    owner = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    for line in owner.stdout:
        pid, _, phase = line.strip().partition(" ")
        if phase == "segmenting":
            break
    owner.kill()
    owner.wait()
    owner.stdout.close()

    end = time.monotonic() + PATIENCE
    while is_alive(int(pid)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_alive(int(pid))


def test_a_command_runs_as_a_job_of_its_own(runner, tmp_path, images):
    folder = images["t1"].path.parent
    job = runner.run(
        tmp_path / "jobs" / "scan",
        ["scan", str(folder), "--json", str(tmp_path / "scan.json")],
    )
    wrong = runner.run(tmp_path / "jobs" / "wrong", ["scan", str(tmp_path / "nowhere")])
    until(runner, *ended(job, wrong))

    assert job.state.status.value == "finished"
    assert "1 case (" in job.folder.log_file.read_text()
    assert json.loads((tmp_path / "scan.json").read_text())["cases"]
    assert wrong.state.status.value == "failed"
    assert "nowhere" in wrong.state.error


def test_a_command_that_is_done_stays_done_when_its_owner_leaves(tmp_path, monkeypatch):
    left, stopped, exits = threading.Event(), threading.Event(), []

    class LifeLine:
        def read(self):
            assert left.wait(PATIENCE)
            threading.Thread(target=stopped.set).start()

    monkeypatch.setattr(one_shot.os, "_exit", exits.append)
    job = JobFolder(tmp_path)
    assert one_shot.run_as_job(tmp_path, lambda: 0, LifeLine()) == 0
    left.set()
    assert stopped.wait(PATIENCE)
    job.control.want_stop()
    watches = [one for one in threading.enumerate() if one.name.startswith("watch")]
    for watch in watches:
        watch.join(PATIENCE)

    assert len(watches) <= 2
    assert exits == []
    assert RunState.read(job.state_json).status is RunStatus.FINISHED


def test_closing_ends_every_worker(runner, model, images, tmp_path):
    job = runner.predict(a_job(tmp_path, "1", model, images, passes=200))
    until(runner, lambda: job.state.phase == "segmenting")
    pid = job.state.pid

    runner.close()

    assert not is_alive(pid)
    assert job.is_ended


AN_IMPOSSIBLE_PLAN = InstallPlan(
    install=("torch>=2.4",), remove=(), place="/nowhere", is_target=False, wheels="/no wheels",
    chooser=None, download_mb=0, disk_mb=0, free_mb=None, blockers=(), notes=(),
)  # fmt: skip


def test_packages_are_not_installed_under_a_worker_that_uses_them(runner, model, images, tmp_path):
    job = runner.predict(a_job(tmp_path, "1", model, images))
    with pytest.raises(SemiSupSegError, match="Wait until its jobs have ended"):
        runner.install(tmp_path / "jobs" / "2", AN_IMPOSSIBLE_PLAN)
    until(runner, *ended(job))
    install = runner.install(tmp_path / "jobs" / "3", AN_IMPOSSIBLE_PLAN)
    until(runner, *ended(install), lambda: not is_alive(job.state.pid))
    following = runner.predict(a_job(tmp_path, "4", model, images))
    until(runner, *ended(following))

    assert "holds no wheels" in install.state.error
    assert following.state.status.value == "finished"
    assert following.state.pid != job.state.pid


def test_a_python_is_examined_as_a_job(runner, tmp_path):
    job = runner.probe(tmp_path / "jobs" / "probe")
    until(runner, *ended(job))

    assert job.state.status.value == "finished"
    found = Probe.from_json(json.loads(job.folder.result_json.read_text()))
    assert found.installed["torch"].is_complete


@pytest.mark.skipif(os.name == "nt", reason="needs a shell script")
def test_an_interpreter_that_cannot_look_says_why(tmp_path):
    strange = tmp_path / "strange"
    strange.write_text("#!/bin/sh\necho no such Python >&2\nexit 4\n")
    strange.chmod(0o755)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "predict-worker.log").write_text("something else\n")
    runner = JobRunner(strange, tmp_path / "logs")
    job = runner.probe(tmp_path / "jobs" / "probe")
    until(runner, *ended(job))
    runner.close()

    assert "(code 4)" in job.state.error
    assert job.state.error.endswith("The last it said: no such Python")


def test_a_folder_is_one_job_only(runner, model, images, tmp_path):
    folder = a_job(tmp_path, "1", model, images)
    job = runner.predict(folder)
    with pytest.raises(SemiSupSegError, match="holds a job already"):
        runner.predict(folder)
    until(runner, *ended(job))


def test_a_run_gets_the_memory_of_an_idle_predict_worker(runner, model, images, tmp_path):
    done = runner.predict(a_job(tmp_path, "one", model, images))
    until(runner, *ended(done))
    pid = done.state.pid

    run = runner.follow(tmp_path / "mirror", tmp_path / "run", ["train", "--help"])

    until(runner, lambda: not is_alive(pid))
    run.leave()


def test_who_kills_a_worker_does_not_wait_for_one_that_hangs_in_a_dead_share(monkeypatch):
    class Hanging:
        pid, stdin, asked = 1 << 22, None, 0

        def wait(self, timeout=None):
            assert timeout is not None, "it would never return"
            self.asked += 1
            raise subprocess.TimeoutExpired("worker", timeout)

    process = Hanging()
    monkeypatch.setattr(os, "killpg", lambda group, sign: None, raising=False)
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: None)

    processes.kill(process)

    assert process.asked == 1
