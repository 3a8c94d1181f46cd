"""The file `lock`, with real processes."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.runs import lock as lock_module
from SemiSupSegLib.runs.lock import (
    HEARTBEAT_S,
    STALE_AFTER_S,
    Lock,
    LockedError,
    LockWatch,
    read_lock,
)

HOLD = """
import sys
from pathlib import Path
from SemiSupSegLib.runs.lock import Lock
Lock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""
ELSEWHERE = """
import platform, sys, threading, time
from pathlib import Path
from SemiSupSegLib.runs import lock as lock_module
now, offset = time.time, float(sys.argv[2])
time.time = lambda: now() + offset
platform.node = lambda: "node-2"
lock_module.HEARTBEAT_S = 0.02
lock = lock_module.Lock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
while not ended.wait(0.02):
    lock.heartbeat()
"""
"""Holds the lock on another computer, whose clock is so many seconds ahead."""
RACE = """
import sys
from pathlib import Path
from SemiSupSegLib.runs.lock import Lock, LockedError
print("ready", flush=True)
sys.stdin.readline()
try:
    Lock(Path(sys.argv[1])).acquire()
    print("won", flush=True)
except LockedError:
    print("lost", flush=True)
sys.stdin.read()
"""


def start(script, path, *words):
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )


def end(process):
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.fixture
def a_holder(tmp_path):
    process = start(HOLD, tmp_path / "lock")
    assert process.stdout.readline() == "held\n"
    yield process
    end(process)


@pytest.fixture
def a_lock(tmp_path):
    lock = Lock(tmp_path / "lock")
    yield lock
    lock.release()


def rewrite(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_free_folder_is_taken_and_given_back(a_lock):
    assert a_lock.acquire() is None
    content = json.loads(a_lock.path.read_text())
    assert (content["host"], content["pid"]) == (platform.node(), os.getpid())
    assert read_lock(a_lock.path).pid == os.getpid()

    a_lock.release()

    assert list(a_lock.path.parent.iterdir()) == []
    assert read_lock(a_lock.path) is None


def test_the_lock_is_given_back_when_the_work_fails(tmp_path):
    with pytest.raises(KeyError, match="work"), Lock(tmp_path / "lock"):
        raise KeyError("work")

    assert not (tmp_path / "lock").exists()


def test_a_living_process_keeps_its_lock_and_is_named(a_holder, a_lock):
    with pytest.raises(LockedError, match=f"in use by process {a_holder.pid} on {platform.node()}"):
        a_lock.acquire()

    assert read_lock(a_lock.path).pid == a_holder.pid


def test_a_living_process_on_this_computer_keeps_its_lock_without_heartbeats(a_holder, a_lock):
    rewrite(a_lock.path, heartbeat=0.0)

    with pytest.raises(LockedError, match="in use"):
        a_lock.acquire()


def test_the_lock_of_a_killed_process_is_taken_over(a_holder, a_lock):
    a_holder.kill()
    a_holder.wait()
    assert a_lock.path.exists()
    assert read_lock(a_lock.path) is None

    former = a_lock.acquire()

    assert former.pid == a_holder.pid
    assert read_lock(a_lock.path).pid == os.getpid()


def test_a_killed_process_that_its_parent_has_not_noticed_holds_nothing(a_holder, a_lock):
    a_holder.kill()
    # Returns when it is dead and leaves it a zombie; its pipe ends a moment earlier.
    os.waitid(os.P_PID, a_holder.pid, os.WEXITED | os.WNOWAIT)

    assert a_lock.acquire().pid == a_holder.pid


def test_another_process_with_the_number_of_a_dead_one_holds_nothing(a_holder, a_lock):
    rewrite(a_lock.path, started="started at another time, as after a reboot")

    assert a_lock.acquire().pid == a_holder.pid


@pytest.mark.parametrize(("silence", "is_free"), [(0.5, False), (1.5, True)])
def test_a_process_on_another_computer_is_judged_by_its_heartbeat(
    a_lock, monkeypatch, silence, is_free
):
    monkeypatch.setattr(lock_module, "OBSERVED_S", 0.3)
    Lock(a_lock.path).acquire()
    rewrite(a_lock.path, host="node-2", heartbeat=time.time() - silence * STALE_AFTER_S)

    if is_free:
        assert a_lock.acquire().host == "node-2"
    else:
        with pytest.raises(LockedError, match="on node-2"):
            a_lock.acquire()


@pytest.mark.parametrize("offset", ["-20000", "20000"], ids=["behind", "ahead"])
def test_a_living_process_elsewhere_keeps_its_lock_however_clocks_differ(a_lock, offset):
    holder = start(ELSEWHERE, a_lock.path, offset)
    try:
        assert holder.stdout.readline() == "held\n"
        watch = LockWatch(a_lock.path)
        assert watch.look()[1] is False

        with pytest.raises(LockedError, match=f"in use by process {holder.pid} on node-2"):
            a_lock.acquire()

        assert watch.look()[1] is True
    finally:
        end(holder)


def test_the_lock_of_a_dead_process_elsewhere_is_taken_over_though_its_clock_was_ahead(
    a_lock, monkeypatch
):
    monkeypatch.setattr(lock_module, "OBSERVED_S", 0.3)
    holder = start(ELSEWHERE, a_lock.path, "20000")
    holder.stdout.readline()
    end(holder)

    assert a_lock.acquire().pid == holder.pid


def test_a_clock_that_jumps_takes_nobody_for_dead(a_lock, monkeypatch):
    holder = start(ELSEWHERE, a_lock.path, "0")
    try:
        holder.stdout.readline()
        watch = LockWatch(a_lock.path)
        assert watch.look()[1] is True
        monkeypatch.setattr(time, "time", lambda: 9e9)

        assert watch.look()[1] is True
        with pytest.raises(LockedError, match="on node-2"):
            a_lock.acquire()
    finally:
        end(holder)


def test_a_process_elsewhere_that_was_seen_to_fall_silent_is_not_alive(a_lock, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    Lock(a_lock.path).acquire()
    rewrite(a_lock.path, host="node-2")
    watch = LockWatch(a_lock.path)
    assert watch.look()[1] is True

    now += STALE_AFTER_S + 1

    assert watch.look()[0].host == "node-2"
    assert watch.look()[1] is False


def test_a_folder_that_nobody_has_locked_is_watched_without_harm(tmp_path):
    assert LockWatch(tmp_path / "lock").look() == (None, False)


def test_of_many_processes_that_find_a_dead_ones_lock_one_gets_it(tmp_path):
    path = tmp_path / "lock"
    dead = start(HOLD, path)
    dead.stdout.readline()
    end(dead)
    racers = [start(RACE, path) for _ in range(4)]
    try:
        for racer in racers:
            racer.stdout.readline()
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        answers = [racer.stdout.readline().strip() for racer in racers]
    finally:
        for racer in racers:
            end(racer)

    assert sorted(answers) == ["lost", "lost", "lost", "won"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": -1}', "\0" * 50])
def test_an_unreadable_lock_is_respected_while_it_is_new(a_lock, text):
    a_lock.path.write_text(text)

    with pytest.raises(LockedError, match="being written or damaged"):
        a_lock.acquire()

    a_lock.path.unlink()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": -1}', "\0" * 50])
def test_an_unreadable_lock_is_replaced_when_it_is_old(a_lock, text):
    a_lock.path.write_text(text)
    long_ago = time.time() - 2 * STALE_AFTER_S
    os.utime(a_lock.path, (long_ago, long_ago))

    a_lock.acquire()

    assert read_lock(a_lock.path).pid == os.getpid()


def test_a_lock_is_not_taken_twice_by_one_object(a_lock):
    a_lock.acquire()

    with pytest.raises(RuntimeError, match="held by this object"):
        a_lock.acquire()


def test_two_objects_of_one_process_exclude_each_other(a_lock):
    a_lock.acquire()

    with pytest.raises(LockedError, match=f"in use by process {os.getpid()}"):
        Lock(a_lock.path).acquire()


def test_a_heartbeat_is_written_when_it_is_due_and_not_before(a_lock, monkeypatch):
    a_lock.acquire()
    first = json.loads(a_lock.path.read_text())
    a_lock.heartbeat()
    assert json.loads(a_lock.path.read_text()) == first
    later = first["heartbeat"] + HEARTBEAT_S + 1
    monkeypatch.setattr(time, "time", lambda: later)

    a_lock.heartbeat()

    assert json.loads(a_lock.path.read_text()) == {**first, "heartbeat": later}


def test_a_process_that_lost_its_lock_hears_it_each_time_and_leaves_the_new_one_alone(
    a_lock, monkeypatch
):
    a_lock.acquire()
    rewrite(a_lock.path, host="node-2", token="another")
    later = time.time() + HEARTBEAT_S + 1
    monkeypatch.setattr(time, "time", lambda: later)

    for _ in range(2):
        with pytest.raises(LockedError, match=r"taken over by process \d+ on node-2"):
            a_lock.heartbeat()
    a_lock.release()

    assert json.loads(a_lock.path.read_text())["token"] == "another"


def test_a_lock_that_somebody_deleted_is_made_again(a_lock, monkeypatch):
    a_lock.acquire()
    a_lock.path.unlink()
    later = time.time() + HEARTBEAT_S + 1
    monkeypatch.setattr(time, "time", lambda: later)

    a_lock.heartbeat()

    assert json.loads(a_lock.path.read_text())["pid"] == os.getpid()


def test_a_heartbeat_without_the_lock_is_a_mistake_of_ours(a_lock):
    with pytest.raises(RuntimeError, match="is not held"):
        a_lock.heartbeat()


def test_locks_work_on_disks_without_hard_links(a_lock, monkeypatch):
    def no_links(*_):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    a_lock.acquire()

    with pytest.raises(LockedError, match="in use"):
        Lock(a_lock.path).acquire()
    assert [entry.name for entry in a_lock.path.parent.iterdir()] == ["lock"]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(SemiSupSegError, match="cannot be written"):
        Lock(tmp_path / "file" / "lock").acquire()
