"""What it saves that a process keeps the memory it frees (SemiSupSegLib/freed_memory.py).

    python Testing/benchmarks/freed_memory.py

Forward and backward passes of the light network over batches of the size of the comparisons, and
forward passes over a window of a prediction, on one thread: processor time and peak memory of
processes that keep freed memory, beside processes that do not, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "freed_memory.json"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.files import write_json  # noqa: E402 (after the path is set)
from SemiSupSegLib.freed_memory import keep_freed_memory  # noqa: E402


@dataclass(frozen=True)
class Work:
    """What is repeated."""

    batch: int
    shape: tuple[int, int, int]
    channels: int
    classes: int
    learns: bool
    repeats: int


WORKS = {
    "train.cubes": Work(8, (32, 32, 32), 4, 4, True, 12),
    "train.atrium": Work(4, (48, 64, 64), 1, 2, True, 6),
    "train.atrium.large_batch": Work(16, (48, 64, 64), 1, 2, True, 2),
    "predict.window": Work(1, (96, 96, 96), 4, 4, False, 6),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("WORK", "KEEPS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, keeps = arguments.one
        print(json.dumps(measure(WORKS[name], keeps=keeps == "yes")))
        return 0
    rows = [row for name in WORKS for row in compared(name, arguments.rounds)]
    write_json(RESULTS, {"measurements": rows})
    for row in rows:
        print(f"{row['name']}: {row['value']} {row['unit']}")
    return 0


def compared(name: str, rounds: int) -> list[dict[str, object]]:
    """Return the medians with and without, and their ratios."""
    found: dict[str, list[dict[str, float]]] = {"no": [], "yes": []}
    for _ in range(rounds):
        for keeps, one in found.items():
            words = [sys.executable, __file__, "--one", name, keeps]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            one.append(json.loads(done.stdout))
    rows = []
    for kind, unit in (("seconds", "s"), ("memory", "GiB")):
        without, kept = (
            statistics.median(each[kind] for each in found[keeps]) for keeps in ("no", "yes")
        )
        rows.append(row(f"{name}.{kind}.without", without, unit))
        rows.append(row(f"{name}.{kind}.ratio", kept / without, "", f"{name}.{kind}.without"))
    return rows


def measure(work: Work, *, keeps: bool) -> dict[str, float]:
    """Return the processor seconds of one repeat, and the peak memory in GiB."""
    import resource

    import torch
    import torch.nn.functional as F

    from SemiSupSegLib.networks.catalogue import build_network

    if keeps and not keep_freed_memory():
        raise SystemExit("This system's C library cannot keep freed memory.")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_network(
        "transaspp",
        {"width": 8, "lite": True},
        in_channels=work.channels,
        num_classes=work.classes,
    ).train(work.learns)
    images = torch.randn(work.batch, work.channels, *work.shape)
    labels = torch.randint(0, work.classes, (work.batch, *work.shape))

    def once() -> None:
        if not work.learns:
            with torch.inference_mode():
                network(images)
            return
        found = network(images)
        logits = found[0] if isinstance(found, tuple) else found
        F.cross_entropy(logits, labels).backward()
        network.zero_grad()

    for _ in range(3):
        once()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(work.repeats):
        once()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds / work.repeats, "memory": after.ru_maxrss / 2**20}


def row(name: str, value: float, unit: str, ratio_to: str | None = None) -> dict[str, object]:
    """Return a measurement as it is kept."""
    return {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "ratio_to": ratio_to,
        "work": asdict(WORKS[name.rsplit(".", 2)[0]]),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "torch": version("torch"),
            "python": platform.python_version(),
            "libc": " ".join(platform.libc_ver()),
        },
        "date": date.today().isoformat(),
    }


if __name__ == "__main__":
    sys.exit(main())
