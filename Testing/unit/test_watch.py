"""Following, starting and steering training runs, with real processes."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from SemiSupSegLib.resources import check_format
from SemiSupSegLib.runs.events import read_events
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState
from Testing.tiny_runs import (
    NEVER,
    PATIENCE,
    is_alive,
    new_runner,
    status_is,
    training,
    until,
    write_cases,
)

ROOT = Path(__file__).resolve().parents[2]
WINDOW = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from Testing.tiny_runs import new_runner, training
folder = Path(sys.argv[2])
runner = new_runner(folder)
run = runner.follow(folder / "of the window", folder / "run", training(folder, 12))
print("followed", flush=True)
said = None
while True:
    runner.poll()
    if run.view.status != said:
        said = run.view.status
        print(said, run.watcher.pid, flush=True)
    time.sleep(0.01)
"""

DEAF = """
import os, platform, sys, time
from pathlib import Path
from SemiSupSegLib.runs.lock import Lock
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState, RunStatus
run = RunFolder(Path(sys.argv[1]))
Lock(run.lock_file).acquire()
RunState(status=RunStatus.RUNNING, iteration=7, pid=os.getpid(), host=platform.node()).write(
    run.state_json
)
print("held", flush=True)
sys.stdin.read()
"""
"""A run that hangs, and hears nothing."""


@pytest.fixture
def folder(tmp_path):
    write_cases(tmp_path)
    return tmp_path


@pytest.fixture
def runner(folder):
    made = new_runner(folder)
    yield made
    made.close()
    end_run(folder / "run")


def end_run(run: Path) -> None:
    """Kill the process that a run's state names."""
    try:
        pid = RunState.read(run / "state.json").pid
        if pid is not None and is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    except Exception:
        return


def pid_of(folder: Path) -> int:
    return RunState.read(folder / "run" / "state.json").pid


def view_of(run):
    content = json.loads((run.mirror / "view.json").read_text())
    check_format(content, "run-view", "view.json")
    return content


def wait_for(question, what=""):
    end = time.monotonic() + PATIENCE
    while not question():
        assert time.monotonic() < end, f"it took too long {what}"
        time.sleep(0.02)


def test_a_run_is_followed_from_its_start_to_its_models(folder, runner):
    run = runner.follow(folder / "mirror", folder / "run", training(folder, 40))
    statuses, titles = [], set()

    def seen():
        statuses.append(run.view.status)
        titles.add(run.view.phase_title)
        return run.view.models

    until(runner, seen, lambda: run.is_ended)

    assert list(dict.fromkeys(statuses)) == ["waiting", "running", "finished"]
    assert "Prepared 0 of 6 cases" in titles
    view = run.view
    assert (view.iteration, view.iterations, view.finished) == (40, 40, view.planned)
    assert view.config == {
        "method": "curriculum", "preset": "standard", "iterations": 40, "seed": 0, "device": "cpu",
        "cases": str((folder / "cases").resolve()), "labelled": 2, "unlabelled": 3, "validation": 1,
    }  # fmt: skip
    assert view.command == ["train", "--resume", str(run.folder)]
    assert run.request["iterations"] == 40
    assert [len(ids) for ids in run.request["split"].values()] == [2, 3, 1]
    marks = {one["name"]: one["stage"] for one in view.stage_marks}
    assert marks == {
        "teacher": None, "distil": None, "stage_1": 1, "stage_2": 2, "student_distil": None
    }  # fmt: skip
    assert view.num_stages == 2
    assert view.dice["teacher"]["object"][-1][0] == 18
    assert view.dice["student"]["object"][-1][0] == 36
    assert {"supervised", "high", "low"} <= view.losses.keys()
    assert set(view.figures) == {"rate", "high_share"}
    assert [(one["case"], one["rank"]) for one in view.stages[1]["shown"]] == [
        (case, rank)
        for case, rank in zip(
            sorted(view.image_confidence, key=view.image_confidence.get, reverse=True),
            ("most", "median", "least"),
            strict=True,
        )
    ]
    assert sum(view.stages[0]["histogram"]["all"]) == 3
    assert sum(view.stages[0]["histogram"]["stage"]) == view.stages[0]["cases"] == 1
    for stage in view.stages:
        assert sum(stage["shares"].values()) == pytest.approx(1)
        assert set(stage["by_class"]) <= {"background", "object"}
    assert view.models["student"]["dice"]["object"]["n"] == 1
    assert Path(view.models["teacher"]["folder"]).is_dir()
    assert view.device["memory_bytes"] > 1e7
    assert (view.error, view.is_locked_by, view.report) == (None, None, False)
    assert view_of(run)["status"] == "finished"
    assert "Segment new cases" in (folder / "mirror" / "worker.log").read_text()

    run.leave()
    again = runner.follow(folder / "again", folder / "run", training(folder, 40))
    until(runner, status_is(again, "finished"), lambda: again.view.models)
    assert again.view.iteration == 40


def test_a_run_is_paused_resumed_stopped_and_resumed_again(folder, runner):
    run = runner.follow(folder / "mirror", folder / "run", training(folder, NEVER))
    # Wished before the run can hear it.
    run.wish("pause")
    until(runner, status_is(run, "paused"))
    run.exclude(["case3"])
    until(runner, lambda: run.view.excluded == ["case3"])

    run.wish("resume")
    until(runner, status_is(run, "running"), lambda: run.view.iteration > 0)
    run.wish("stop")
    until(runner, status_is(run, "stopped"))
    stopped_at = run.view.iteration
    assert f"goes on from update {stopped_at}" in run.view.what_to_do
    assert run.is_ended

    run.wish("resume")
    until(runner, status_is(run, "running"), lambda: run.view.iteration > stopped_at)
    run.wish("kill")
    until(runner, status_is(run, "stopped"))
    assert run.view.error == "Stopped by force."
    assert not (folder / "run" / "lock").exists()


def test_a_second_panel_attaches_and_both_steer_the_same_process(folder, runner):
    words = training(folder, NEVER)
    first = runner.follow(folder / "one", folder / "run", words)
    until(runner, status_is(first, "running"), lambda: first.view.iteration > 0)
    pid = pid_of(folder)
    other = new_runner(folder)
    second = other.follow(folder / "two", folder / "run", words)

    until(other, status_is(second, "running"))
    assert second.view.is_locked_by == f"process {pid} on {platform.node()}"
    assert first.view.is_locked_by is None
    assert second.view.config == first.view.config

    second.wish("pause")
    until(runner, status_is(first, "paused"))
    first.wish("resume")
    until(other, status_is(second, "running"))
    second.wish("stop")
    until(runner, status_is(first, "stopped"))
    until(other, status_is(second, "stopped"))
    assert pid_of(folder) == pid
    other.close()


def test_two_panels_that_start_at_once_and_a_terminal_make_one_run(folder, runner):
    words = training(folder, NEVER)
    runs = [runner.follow(folder / name, folder / "run", words) for name in ("one", "two")]
    until(runner, *[status_is(run, "running") for run in runs])
    until(runner, lambda: sum(run.view.is_locked_by is not None for run in runs) == 1)

    environment = {**os.environ, "SEMISUPSEG_HOME": str(folder / "home")}
    terminal = subprocess.run(
        [sys.executable, "-m", "SemiSupSegLib", *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert terminal.returncode == 1
    assert f"in use by process {pid_of(folder)} on {platform.node()}" in terminal.stderr
    runs[0].wish("kill")
    until(runner, *[status_is(run, "stopped") for run in runs])


def test_a_run_started_in_a_terminal_is_followed_and_a_killed_one_is_resumed(folder, runner):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = training(folder, NEVER)
    # As a person types it: folders are relative.
    words = [word.replace(f"{folder}{os.sep}", "") for word in words]
    terminal = subprocess.Popen(
        [sys.executable, "-m", "SemiSupSegLib", *words],
        cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    run = runner.follow(folder / "mirror", folder / "run")
    until(runner, status_is(run, "running"), lambda: run.view.iteration > 0)
    assert run.view.is_locked_by == f"process {terminal.pid} on {platform.node()}"
    # As on any road, the run has to have written something to go on from.
    until(runner, lambda: any((folder / "run" / "checkpoints").glob("[0-9]*")))

    terminal.kill()
    terminal.wait()
    until(runner, status_is(run, "dead"))
    assert "gone without a word" in run.view.error
    assert "Resume goes on from update" in run.view.what_to_do

    # The window's working folder is another one.
    run.wish("resume")
    until(runner, status_is(run, "running"))
    assert run.view.is_locked_by is None
    events = RunFolder(folder / "run").events_file
    until(runner, lambda: '"resumed"' in events.read_text())
    run.wish("kill")
    until(runner, status_is(run, "stopped"))


@pytest.mark.parametrize("step", ["followed", "waiting", "running"])
def test_when_the_window_is_killed_the_run_goes_on_and_the_next_window_sees_it(
    folder, runner, step
):
    window = subprocess.Popen(
        [sys.executable, "-c", WINDOW, str(ROOT), str(folder)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    watcher = None
    for line in window.stdout:
        words = line.split()
        watcher = int(words[1]) if len(words) > 1 else watcher
        if words[0] == step:
            break
    window.kill()
    window.wait()
    window.stdout.close()
    # The last thing it did may be to start the watcher, which starts the run.
    wait_for((folder / "run" / "worker.log").exists)

    run = runner.follow(folder / "mirror", folder / "run")

    if watcher is not None:
        wait_for(lambda: not is_alive(watcher), "until its watcher is gone")
    until(runner, status_is(run, "finished"))
    assert (run.view.iteration, run.view.iterations) == (12, 12)
    kinds = [one["kind"] for one in read_events(folder / "run" / "events.jsonl")]
    assert kinds.count("started") == 1
    assert "resumed" not in kinds


def test_a_watcher_that_was_killed_is_replaced_and_the_run_does_not_notice(folder, runner):
    run = runner.follow(folder / "mirror", folder / "run", training(folder, NEVER))
    until(runner, status_is(run, "running"), lambda: run.view.iteration > 0)
    pid, former = pid_of(folder), run.watcher.pid

    os.kill(former, signal.SIGKILL)

    until(runner, lambda: run.watcher.pid != former, lambda: run.view.is_locked_by is not None)
    assert run.view.is_locked_by == f"process {pid} on {platform.node()}"
    run.wish("kill")
    until(runner, status_is(run, "stopped"))


def test_a_run_that_cannot_begin_says_why(folder, runner):
    words = training(folder, 10)
    words[words.index("--cases") + 1] = str(folder / "nothing")

    run = runner.follow(folder / "mirror", folder / "run", words)

    until(runner, status_is(run, "failed"))
    assert "nothing" in run.view.error
    assert "want of memory" not in run.view.error
    assert run.view.what_to_do == "Resume begins anew: there was no checkpoint yet."


def test_a_run_that_does_not_heed_a_stop_is_killed_after_a_while(tmp_path):
    runner = new_runner(tmp_path)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF, str(run.path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.readline()
    followed = runner.follow(tmp_path / "mirror", run.path)
    until(runner, status_is(followed, "running"))

    followed.wish("stop")

    until(runner, status_is(followed, "stopped"))
    assert process.wait() == -signal.SIGKILL
    process.stdin.close()
    process.stdout.close()
    state = RunState.read(run.state_json)
    assert (state.status.value, state.iteration) == ("stopped", 7)
    assert not run.lock_file.exists()
    runner.close()


def test_a_folder_that_cannot_be_made_is_told(folder, runner):
    (folder / "file").write_text("")

    run = runner.follow(folder / "mirror", folder / "file" / "run", training(folder, 10))

    until(runner, status_is(run, "failed"))
    assert "The run was not started." in run.view.error


def test_a_folder_without_a_run_is_told_and_followed_once_there_is_one(tmp_path):
    runner = new_runner(tmp_path)
    run = RunFolder(tmp_path / "run")
    followed = runner.follow(tmp_path / "mirror", run.path)
    until(runner, status_is(followed, "missing"))
    assert followed.is_ended
    assert f"{run.path} holds no run." in followed.view.error
    heard = (tmp_path / "mirror" / "heard").stat().st_mtime_ns
    until(runner, lambda: (tmp_path / "mirror" / "heard").stat().st_mtime_ns > heard)

    run.path.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF, str(run.path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(runner, status_is(followed, "running"))
    process.kill()
    process.communicate()
    runner.close()


def test_why_a_run_was_not_started_stays_told(tmp_path):
    runner = new_runner(tmp_path)
    run = tmp_path / "run"
    # Where the run's words go there is something else.
    (run / "worker.log").mkdir(parents=True)

    followed = runner.follow(tmp_path / "mirror", run, ["train"])

    until(runner, status_is(followed, "failed"), lambda: (tmp_path / "mirror" / "heard").exists())
    first = (tmp_path / "mirror" / "heard").stat().st_mtime_ns
    until(runner, lambda: (tmp_path / "mirror" / "heard").stat().st_mtime_ns > first)
    assert followed.view.status == "failed"
    assert "The run was not started." in followed.view.error
    runner.close()


def test_a_watcher_that_cannot_be_replaced_holds_nobody_up(tmp_path):
    runner = new_runner(tmp_path)
    followed = runner.follow(tmp_path / "mirror", tmp_path / "run")
    until(runner, status_is(followed, "missing"))
    followed.watcher.kill()
    followed.watcher.wait()
    # As if the Python of the workers had been removed.
    runner._python = str(tmp_path / "no python")
    followed._begun -= 60

    followed._looked -= 60
    assert runner.poll() == []

    runner._python = sys.executable
    followed._begun -= 60
    former = followed.watcher.pid
    until(runner, lambda: followed.watcher.pid != former)
    runner.close()
