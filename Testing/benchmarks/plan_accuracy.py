"""How near `plan` comes to what a run then takes: time, memory, disk.

    python Testing/benchmarks/plan_accuracy.py

For a phantom folder and, where it is, for brats_cubes: `plan`, then `train` with the same
arguments, each in a process of its own. The ratios are what was planned by what was taken.

On a machine that others use, the clock on the wall tells more of them than of the plan: between
plan and run their load changes. So the same is done a second time by the processor's time that a
process took, all its threads together, which they hardly change.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "plan.json"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.waiting_threads import let_threads_sleep  # noqa: E402 (after the path is set)

# As in every command, which the benchmark is about.
let_threads_sleep()

import torch  # noqa: E402

from SemiSupSegLib.files import read_json, write_json  # noqa: E402 (after the path is set)
from SemiSupSegLib.phantom.cohort import write_cohort  # noqa: E402
from SemiSupSegLib.runs.state import RunState  # noqa: E402

_LOOK_SECONDS = 0.2
_BY_PROCESSOR_TIME = (
    "import sys, threading, time; time.monotonic = time.process_time;"
    "from SemiSupSegLib.__main__ import main; sys.exit(main(sys.argv[1:]))"
)
_PHANTOM_SIZE = (64, 72, 56)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--preset", default="fast_check")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=("phantom", "brats_cubes"))
    arguments = parser.parse_args()
    measurements: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="semisupseg-plan-") as name:
        work = Path(name)
        os.environ["SEMISUPSEG_HOME"] = str(work / "home")
        folders: dict[str, tuple[Path, list[str]]] = {"phantom": (_phantom(work), [])}
        cubes = arguments.data / "brats_cubes"
        if cubes.is_dir():
            words = ["--split", str(cubes / "split.json"), "--task", "brats"]
            folders["brats_cubes"] = (cubes / "cases", words)
        for title, (cases, words) in folders.items():
            if arguments.only in (None, title):
                chosen = ["--preset", arguments.preset, "--set"]
                chosen += [f"training.threads={arguments.threads}"]
                measurements += _compared(
                    title, work / title, ["--cases", str(cases), *chosen, *words]
                )
    write_json(RESULTS, {"measurements": measurements})
    for one in measurements:
        print(one["name"], one["value"], one["unit"])
    return 0


def _phantom(work: Path) -> Path:
    folder = work / "phantom-cases"
    return write_cohort(folder, num_cases=16, num_labelled=6, seed=0, size=_PHANTOM_SIZE).cases


def _compared(title: str, work: Path, words: Sequence[str]) -> list[dict[str, Any]]:
    work.mkdir()
    store = ["--store", str(work / "store"), "--out", str(work / "run"), "--device", "cpu"]
    plan_file = work / "plan.json"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cold = _taken(["plan", *words, *store, "--json", str(plan_file)], work)["seconds"]
    warm = _taken(["plan", *words, *store, "--json", str(plan_file)], work)["seconds"]
    plan = read_json(plan_file)
    if plan["why_not"]:
        raise SystemExit(f"{title} cannot be planned: {plan['why_not']}")
    estimate = plan["estimate"]
    home = os.environ["SEMISUPSEG_HOME"]
    os.environ["SEMISUPSEG_HOME"] = str(work / "other-home")
    cpu_file = work / "cpu-plan.json"
    _taken(["plan", *words, *store, "--json", str(cpu_file)], work, by_processor_time=True)
    by_processor = read_json(cpu_file)["estimate"]
    os.environ["SEMISUPSEG_HOME"] = home
    run = _taken(["train", *words, *store, "--no-report"], work)
    phases = _phase_seconds(work / "run")
    training = sum(
        seconds
        for name, seconds in phases.items()
        if name in {one["name"] for one in plan["phases"]}
    )
    print(f"{title}: planned {estimate['seconds']:.0f} s, took {run['seconds']:.0f} s ({phases})")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    common = {"machine": machine, "date": date.today().isoformat()}

    def ratio(name: str, planned: float, taken: float, unit: str) -> dict[str, Any]:
        return {
            "name": f"plan.{title}.{name}",
            "value": round(planned / taken, 3),
            "unit": "planned / taken",
            "ratio_to": f"{taken:.4g} {unit} taken",
            **common,
        }

    def figure(name: str, value: float, unit: str) -> dict[str, Any]:
        return {
            "name": f"plan.{title}.{name}",
            "value": round(value, 3),
            "unit": unit,
            "ratio_to": None,
            **common,
        }

    return [
        ratio("seconds", estimate["seconds"], run["seconds"], "s"),
        ratio("seconds_of_phases", _planned_phases(estimate), training, "s"),
        ratio(
            "processor_seconds",
            _planned_phases(by_processor) + by_processor["seconds_preparation"],
            run["processor_seconds"],
            "s of the processor",
        ),
        ratio("seconds_left_early", run["first_left"] or 0.0, run["left_taken"] or 1.0, "s"),
        ratio("memory", estimate["memory_bytes"], run["memory"], "bytes"),
        ratio("disk", estimate["disk_bytes"], run["disk"], "bytes"),
        figure("cold", cold, "s"),
        figure("again", warm, "s"),
        figure("load_before", load or 0.0, "processes"),
    ]


def _planned_phases(estimate: dict[str, Any]) -> float:
    return float(estimate["seconds_training"] + estimate["seconds_cases"])


def _taken(words: Sequence[str], work: Path, *, by_processor_time: bool = False) -> dict[str, Any]:
    """Run a command; return its seconds, its peak memory, and the run folder's largest size."""
    began, before = time.monotonic(), _processor_seconds()
    start = ["-c", _BY_PROCESSOR_TIME] if by_processor_time else ["-m", "SemiSupSegLib"]
    process = subprocess.Popen([sys.executable, *start, *words], cwd=ROOT)
    found: dict[str, Any] = {"memory": 1, "disk": 1, "first_left": None, "left_taken": None}
    ended = threading.Event()
    told_at = [0.0]

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            try:
                found["memory"] = max(
                    found["memory"], psutil.Process(process.pid).memory_info().rss
                )
            except psutil.Error:
                return
            found["disk"] = max(found["disk"], _size(work / "run"))
            left = _seconds_left(work / "run")
            if found["first_left"] is None and left:
                found["first_left"], told_at[0] = left, time.monotonic()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    code = process.wait()
    ended.set()
    watcher.join()
    if code:
        raise SystemExit(f"{' '.join(words)} ended with {code}")
    if found["first_left"] is not None:
        found["left_taken"] = time.monotonic() - told_at[0]
    return {
        **found,
        "seconds": time.monotonic() - began,
        "processor_seconds": _processor_seconds() - before,
    }


def _processor_seconds() -> float:
    """Return what ended child processes took."""
    times = os.times()
    return times.children_user + times.children_system


def _seconds_left(run: Path) -> float | None:
    """Return what the run says is left, once a tenth of it is done."""
    if not (run / "state.json").is_file():
        return None
    state = RunState.read(run / "state.json")
    is_early = state.planned and state.finished >= 0.1 * state.planned
    return state.seconds_left if is_early else None


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def _phase_seconds(run: Path) -> dict[str, float]:
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return {one["phase"]: one["seconds"] for one in events if one["kind"] == "phase_finished"}


if __name__ == "__main__":
    sys.exit(main())
