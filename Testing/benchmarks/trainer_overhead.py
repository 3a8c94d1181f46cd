"""What the trainer costs beside the network: time waiting for data, and time over a bare loop.

    python Testing/benchmarks/trainer_overhead.py

Both loops train the same light network with the same loss on patches of the same shape, in turns
within one process, so that a noisy machine disturbs both alike. The bare loop has a fixed batch in
memory, forward, loss, backward, clipping and the optimizer; the trainer also reads, cuts, varies,
averages and logs.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "trainer.json"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.waiting_threads import let_threads_sleep  # noqa: E402 (after the path is set)

# As in every command, which the benchmark is about.
let_threads_sleep()

import torch  # noqa: E402

from SemiSupSegLib.files import read_json, write_json  # noqa: E402 (after the path is set)
from SemiSupSegLib.losses.supervised import SupervisedLossOptions, supervised_loss  # noqa: E402
from SemiSupSegLib.networks.catalogue import build_network  # noqa: E402
from SemiSupSegLib.training.run import TrainRequest, train  # noqa: E402
from SemiSupSegLib.training.trainer import Trainer  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--updates", type=int, default=60, help="of each turn")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    arguments = parser.parse_args()
    folder = arguments.data / "brats_cubes"
    if not folder.is_dir():
        print(f"The data set is not here: {folder}")
        return 1
    seen: list[Trainer] = []
    original = Trainer.train

    def remember(self: Trainer) -> None:
        seen.append(self)
        original(self)

    Trainer.train = remember  # type: ignore[method-assign]
    measurements = []
    work = Path(tempfile.mkdtemp(prefix="semisupseg-overhead-"))
    try:
        # Judging at the end is no step: a few cases do.
        split = read_json(folder / "split.json")
        write_json(work / "split.json", {**split, "validation": split["validation"][:2]})
        for threads in arguments.threads:
            ratios, waits, steps = [], [], []
            for turn in range(arguments.turns + 1):
                train(_request(folder, work, f"{threads}-{turn}", arguments.updates, threads))
                trainer = seen[-1]
                own = trainer.stepping_seconds / arguments.updates
                bare = _bare_loop(arguments.updates, threads)
                if turn == 0:
                    continue  # Imports and first calls are not the loop's.
                ratios.append(own / bare)
                waits.append(trainer.waiting_seconds / trainer.stepping_seconds)
                steps.append(bare)
                print(
                    f"{threads} threads: trainer {own * 1e3:.1f} ms, bare {bare * 1e3:.1f} ms, "
                    f"waiting {waits[-1]:.2%}"
                )
            measurements += _measurements(threads, ratios, waits, steps)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    write_json(RESULTS, {"measurements": measurements})
    for one in measurements:
        print(one["name"], one["value"], one["unit"])
    return 0


def _measurements(
    threads: int, ratios: Sequence[float], waits: Sequence[float], steps: Sequence[float]
) -> list[dict[str, Any]]:
    count = f"{threads} thread{'s' if threads > 1 else ''}"
    common = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {count}",
        "date": date.today().isoformat(),
    }
    return [
        {
            "name": f"trainer.step.threads_{threads}",
            "value": round(statistics.median(ratios), 4),
            "unit": "ratio",
            "ratio_to": "bare loop, same network, loss and batch",
            **common,
        },
        {
            "name": f"trainer.waiting_for_data.threads_{threads}",
            "value": round(statistics.median(waits), 5),
            "unit": "fraction of step time",
            "ratio_to": None,
            **common,
        },
        {
            "name": f"bare.step.threads_{threads}",
            "value": round(statistics.median(steps), 4),
            "unit": "s",
            "ratio_to": None,
            **common,
        },
    ]


def _request(folder: Path, work: Path, turn: str, updates: int, threads: int) -> TrainRequest:
    return TrainRequest(
        cases=folder / "cases",
        out=work / f"run{turn}",
        task="brats",
        method="supervised",
        split=work / "split.json",
        iterations=updates,
        device="cpu",
        store=work / "store",
        settings={
            "training.threads": str(threads),
            # Judging and saving are not steps.
            "training.validate_every": "100000",
            "training.checkpoint_seconds": "100000",
        },
    )


def _bare_loop(updates: int, threads: int) -> float:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    network = build_network("transaspp", {"width": 8, "lite": True}, in_channels=4, num_classes=4)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    images = torch.randn(4, 4, 32, 32, 32)
    labels = torch.randint(0, 4, (4, 32, 32, 32))
    options = SupervisedLossOptions(profile="liu")
    started = time.perf_counter()
    for _ in range(updates):
        loss = supervised_loss(network(images), labels, options)["total"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return (time.perf_counter() - started) / updates


if __name__ == "__main__":
    sys.exit(main())
