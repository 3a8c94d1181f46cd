"""What may go wrong with a run, with real processes: each ends resumable, or says what to do."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState, RunStatus
from Testing.tiny_runs import (
    NEVER,
    is_alive,
    new_runner,
    status_is,
    training,
    until,
    write_cases,
)

ROOT = Path(__file__).resolve().parents[2]
ON_A_SMALL_DISK = """
import json, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from Testing.tiny_runs import NEVER, new_runner, status_is, training, until
folder = Path(sys.argv[2])
disk = folder / "disk"
disk.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=True)
runner = new_runner(folder)
run = runner.follow(folder / "mirror", disk / "run", training(folder, NEVER, out="disk/run"))
until(runner, status_is(run, "running"), lambda: run.view.iteration > 0)
until(runner, lambda: any((disk / "run" / "checkpoints").glob("[0-9]*")))
filling = disk / "filling"
with open(filling, "wb", buffering=0) as stream:
    try:
        while True:
            stream.write(bytes(2**16))
    except OSError:
        pass
until(runner, status_is(run, "failed", "dead"))
full = [run.view.status, run.view.error, run.view.what_to_do]
filling.unlink()
run.wish("resume")
events = disk / "run" / "events.jsonl"
until(runner, status_is(run, "running"), lambda: '"resumed"' in events.read_text())
reached = run.view.iteration
until(runner, lambda: run.view.iteration > reached)
run.wish("stop")
until(runner, status_is(run, "stopped"))
from SemiSupSegLib.runs.events import read_events
from SemiSupSegLib.runs.metrics import read_metrics
read_events(events), read_metrics(disk / "run" / "metrics.csv")
runner.close()
print(json.dumps(full))
"""
ELSEWHERE = """
import platform, sys, time
from pathlib import Path
from SemiSupSegLib.runs import lock as lock_module
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState, RunStatus
import os
now, offset = time.time, float(sys.argv[2])
time.time = lambda: now() + offset
platform.node = lambda: "node-2"
lock_module.HEARTBEAT_S = 0.02
run = RunFolder(Path(sys.argv[1]))
lock = lock_module.Lock(run.lock_file)
lock.acquire()
iteration = 0
print("held", flush=True)
while True:
    iteration += 1
    lock.heartbeat()
    RunState(status=RunStatus.RUNNING, phase="stage_1", iteration=iteration, pid=os.getpid(),
             host="node-2", heartbeat=time.time()).write(run.state_json)
    time.sleep(0.02)
"""
"""A run on another computer, whose clock is so many seconds ahead."""


@pytest.fixture
def folder(tmp_path):
    write_cases(tmp_path)
    return tmp_path


@pytest.fixture
def runner(tmp_path):
    made = new_runner(tmp_path)
    yield made
    made.close()


@pytest.fixture
def a_stopped_run(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.control.mkdir(parents=True)
    RunState(status=RunStatus.STOPPED, iteration=12).write(run.state_json)
    return run


def started(runner, folder, **settings):
    """Return a run that has written a checkpoint."""
    run = runner.follow(folder / "mirror", folder / "run", training(folder, NEVER, **settings))
    checkpoints = folder / "run" / "checkpoints"
    until(
        runner,
        status_is(run, "running"),
        lambda: run.view.iteration > 0,
        lambda: any(checkpoints.glob("[0-9]*")),
    )
    return run


def resumes(runner, run, folder):
    """Resume, and wait until it has got further than before."""
    before = (folder / "run" / "events.jsonl").read_text().count('"resumed"')
    run.wish("resume")
    events = folder / "run" / "events.jsonl"
    until(runner, lambda: events.read_text().count('"resumed"') > before)
    until(runner, status_is(run, "running"))
    run.wish("kill")
    until(runner, status_is(run, "stopped"))


@pytest.mark.skipif(not shutil.which("unshare"), reason="no way to make a small disk here")
def test_a_full_disk_ends_a_run_in_a_sentence_and_with_room_it_goes_on(folder):
    own_mounts = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*own_mounts, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody make a small disk")

    answer = subprocess.run(
        [*own_mounts, sys.executable, "-c", ON_A_SMALL_DISK, str(ROOT), str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert answer.returncode == 0, answer.stderr
    _, error, what_to_do = json.loads(answer.stdout)
    assert "full" in error
    assert "Make room there" in error
    assert "Resume goes on from update" in what_to_do


def test_an_input_that_has_vanished_is_named_and_the_run_goes_on_when_it_is_back(folder, runner):
    run = started(runner, folder)
    image = folder / "cases" / "case3" / "mri.nii.gz"
    aside = image.rename(folder / "aside.nii.gz")
    reached = run.view.iteration
    # What was prepared is all that it needs.
    until(runner, lambda: run.view.iteration > reached)
    run.wish("kill")
    until(runner, status_is(run, "stopped"))

    run.wish("resume")
    until(runner, status_is(run, "failed"))
    assert "case3" in run.view.error
    assert "Put the file" in run.view.error

    aside.rename(image)
    resumes(runner, run, folder)


def test_prepared_cases_that_have_vanished_are_named_and_prepared_again(folder, runner):
    run = started(runner, folder)

    for file in list((folder / "store").rglob("*")):
        if file.is_file():
            file.unlink(missing_ok=True)
    until(runner, status_is(run, "failed"))

    assert str(folder / "store") in run.view.error
    assert "it is made anew" in run.view.error
    resumes(runner, run, folder)


def test_a_loss_that_is_not_finite_ends_in_a_sentence_with_the_cases_named(folder, runner):
    words = training(folder, NEVER, optimizer__rate="1e30")

    run = runner.follow(folder / "mirror", folder / "run", words)

    until(runner, status_is(run, "failed"))
    assert "Training diverged" in run.view.error
    assert "case0" in run.view.error
    assert "smaller optimizer.rate" in run.view.error


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_want_of_memory_ends_in_a_sentence_and_with_memory_the_run_goes_on(folder, runner):
    import resource

    run = started(runner, folder)
    pid = RunState.read(folder / "run" / "state.json").pid

    resource.prlimit(pid, resource.RLIMIT_AS, (2**20, 2**20))

    until(runner, status_is(run, "failed", "dead"))
    assert "memory" in run.view.error
    assert "Resume goes on from update" in run.view.what_to_do
    resumes(runner, run, folder)


def test_a_run_elsewhere_is_seen_and_steered_however_its_clock_differs(folder, runner):
    run = RunFolder(folder / "run")
    run.path.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE, str(run.path), "-20000"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        process.stdout.readline()
        seen = runner.follow(folder / "mirror", run.path, training(folder, NEVER))
        # A view between the end of our own process and the next look at the lock names nobody.
        holder = f"process {process.pid} on node-2"
        until(runner, status_is(seen, "running"), lambda: seen.view.iteration > 0)
        until(runner, lambda: seen.view.is_locked_by == holder)
        # It was started here, too, and has left the folder to the other one.
        log = seen.mirror / "worker.log"
        until(runner, lambda: log.exists() and "in use by process" in log.read_text())
        until(runner, status_is(seen, "running"))

        seen.wish("stop")
        until(runner, lambda: Control(run.control).is_stop_wanted)
        seen.wish("kill")
        until(runner, lambda: seen.view.refused)
        assert "can be ended there only" in seen.view.refused
        assert is_alive(process.pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="nothing here keeps a reader waiting")
def test_a_folder_that_stops_answering_holds_up_no_window(a_stopped_run, runner, tmp_path):
    seen = runner.follow(tmp_path / "mirror", a_stopped_run.path)
    until(runner, status_is(seen, "stopped"), lambda: seen.silent_seconds < 1)
    state = a_stopped_run.state_json
    content = state.read_bytes()
    state.unlink()
    os.mkfifo(state)

    until(runner, lambda: seen.silent_seconds > 3)
    seen.wish("pause")
    assert (seen.view.status, seen.view.iteration) == ("stopped", 12)

    with state.open("wb") as answer:
        answer.write(content)
    state.unlink()
    state.write_bytes(content)
    until(runner, lambda: seen.silent_seconds < 1)
    state.unlink()
    os.mkfifo(state)
    until(runner, lambda: seen.silent_seconds > 3)
    seen.leave()
    until(runner, lambda: not is_alive(seen.watcher.pid), what="until the watcher is gone")


def test_a_share_that_is_taken_away_is_silent_and_what_was_seen_stays(
    a_stopped_run, runner, tmp_path
):
    seen = runner.follow(tmp_path / "mirror", a_stopped_run.path)
    until(runner, status_is(seen, "stopped"))

    away = a_stopped_run.path.rename(tmp_path / "away")
    until(runner, lambda: seen.silent_seconds > 3)
    assert seen.view.status == "stopped"

    away.rename(a_stopped_run.path)
    until(runner, lambda: seen.silent_seconds < 1)


def test_a_share_that_is_taken_away_from_a_run_is_named_and_the_run_goes_on_when_it_is_back(
    folder, runner
):
    run = started(runner, folder)
    pid = RunState.read(folder / "run" / "state.json").pid

    away = (folder / "run").rename(folder / "away")
    until(runner, lambda: not is_alive(pid), lambda: run.silent_seconds > 3)
    assert run.view.status == "running"
    away.rename(folder / "run")
    until(runner, status_is(run, "dead"))
    # Who looks at it later, and has not started it, is told the same.
    later = runner.follow(folder / "later", folder / "run")
    until(runner, status_is(later, "dead"))

    for seen in (run, later):
        assert str(folder / "run") in seen.view.error
        assert "No such file" in seen.view.error
        assert "killed" not in seen.view.error
    assert "Resume goes on from update" in run.view.what_to_do
    later.leave()
    resumes(runner, run, folder)


def test_what_a_session_before_has_printed_is_not_told_of_a_killed_run(folder, runner):
    (folder / "run").mkdir()
    (folder / "run" / "worker.log").write_text("Error: The cases were away. Put them back.\n")
    # What is started on a terminal prints elsewhere.
    terminal = subprocess.Popen(
        [sys.executable, "-m", "SemiSupSegLib", *training(folder, NEVER)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    seen = runner.follow(folder / "mirror", folder / "run")
    until(runner, status_is(seen, "running"))

    terminal.kill()
    terminal.wait()

    until(runner, status_is(seen, "dead"))
    assert "gone without a word" in seen.view.error


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be held here")
def test_a_watcher_that_hangs_is_silent_and_hears_later(a_stopped_run, runner, tmp_path):
    seen = runner.follow(tmp_path / "mirror", a_stopped_run.path)
    until(runner, status_is(seen, "stopped"))
    os.kill(seen.watcher.pid, signal.SIGSTOP)

    until(runner, lambda: seen.silent_seconds > 3)
    seen.exclude(["case 7"])
    os.kill(seen.watcher.pid, signal.SIGCONT)

    until(runner, lambda: seen.view.excluded == ["case 7"], lambda: seen.silent_seconds < 1)
