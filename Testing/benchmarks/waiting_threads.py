"""What it saves that waiting threads sleep (SemiSupSegLib/waiting_threads.py).

    python Testing/benchmarks/waiting_threads.py

Updates of the light network on as many threads as there are cores, by one process alone and by
three at once, with threads that sleep and with the library's own setting, in turns: seconds and
processor seconds of an update. On a quiet machine "alone" is what a training costs there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "waiting_threads.json"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.files import write_json  # noqa: E402 (after the path is set)
from SemiSupSegLib.waiting_threads import let_threads_sleep  # noqa: E402

UPDATES = 20
TOGETHER = {"alone": 1, "three": 3}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure()))
        return 0
    rows = [
        row
        for name, processes in TOGETHER.items()
        for row in compared(name, processes, arguments.rounds)
    ]
    write_json(RESULTS, {"measurements": rows})
    for row in rows:
        print(f"{row['name']}: {row['value']} {row['unit']}")
    return 0


def compared(name: str, processes: int, rounds: int) -> list[dict[str, object]]:
    """Return the medians with the library's setting and with ours, and their ratios."""
    asleep = dict(os.environ)
    let_threads_sleep(asleep)
    environments = {"spinning": dict(os.environ), "asleep": asleep}
    if environments["spinning"] == asleep:
        raise SystemExit("The environment says how threads wait: there is nothing to compare.")
    found: dict[str, list[dict[str, float]]] = {how: [] for how in environments}
    for _ in range(rounds):
        for how, environment in environments.items():
            words = [sys.executable, __file__, "--one"]
            started = [
                subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
                for _ in range(processes)
            ]
            told = [one.communicate()[0] for one in started]
            if any(one.returncode for one in started):
                raise SystemExit("A process failed.")
            found[how] += [json.loads(one) for one in told]
    rows = []
    for kind in ("seconds", "processor_seconds"):
        spinning, asleep_ = (
            statistics.median(one[kind] for one in found[how]) for how in ("spinning", "asleep")
        )
        first = f"{name}.{kind}.spinning"
        rows.append(row(first, spinning, "s"))
        rows.append(row(f"{name}.{kind}.asleep", asleep_, "s"))
        rows.append(row(f"{name}.{kind}.ratio", asleep_ / spinning, "", first))
    return rows


def measure() -> dict[str, float]:
    """Return seconds and processor seconds of an update."""
    import time

    import torch
    import torch.nn.functional as F

    from SemiSupSegLib.networks.catalogue import build_network

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    network = build_network("transaspp", {"width": 8, "lite": True}, in_channels=4, num_classes=4)
    images = torch.randn(4, 4, 32, 32, 32)
    labels = torch.randint(0, 4, (4, 32, 32, 32))

    def once() -> None:
        found = network(images)
        logits = found[0] if isinstance(found, tuple) else found
        F.cross_entropy(logits, labels).backward()
        network.zero_grad()

    for _ in range(3):
        once()
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(UPDATES):
        once()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {"seconds": wall / UPDATES, "processor_seconds": processor / UPDATES}


def row(name: str, value: float, unit: str, ratio_to: str | None = None) -> dict[str, object]:
    """Return a measurement as it is kept."""
    return {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "ratio_to": ratio_to,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"torch": version("torch"), "python": platform.python_version()},
        "date": date.today().isoformat(),
    }


if __name__ == "__main__":
    sys.exit(main())
