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
from datetime import date
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "trainer.json"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.files import write_json  # noqa: E402 (after the path is set)
from SemiSupSegLib.losses.supervised import SupervisedLossOptions, supervised_loss  # noqa: E402
from SemiSupSegLib.networks.catalogue import build_network  # noqa: E402
from SemiSupSegLib.training.run import TrainRequest, train  # noqa: E402
from SemiSupSegLib.training.trainer import Trainer  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--updates", type=int, default=60, help="of each turn")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
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
    work = Path(tempfile.mkdtemp(prefix="semisupseg-overhead-"))
    ratios, waits, steps = [], [], []
    try:
        for turn in range(arguments.turns + 1):
            train(_request(folder, work, turn, arguments))
            trainer = seen[-1]
            own = trainer.stepping_seconds / arguments.updates
            bare = _bare_loop(arguments)
            if turn == 0:
                continue  # Imports and first calls are not the loop's.
            ratios.append(own / bare)
            waits.append(trainer.waiting_seconds / trainer.stepping_seconds)
            steps.append(bare)
            print(f"trainer {own * 1e3:.1f} ms, bare {bare * 1e3:.1f} ms, waiting {waits[-1]:.2%}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {arguments.threads} thread"
    common = {"machine": machine, "date": date.today().isoformat()}
    write_json(
        RESULTS,
        {
            "measurements": [
                {
                    "name": "trainer.step",
                    "value": round(statistics.median(ratios), 4),
                    "unit": "ratio",
                    "ratio_to": "bare loop, same network, loss and batch",
                    **common,
                },
                {
                    "name": "trainer.waiting_for_data",
                    "value": round(statistics.median(waits), 5),
                    "unit": "fraction of step time",
                    "ratio_to": None,
                    **common,
                },
                {
                    "name": "bare.step",
                    "value": round(statistics.median(steps), 4),
                    "unit": "s",
                    "ratio_to": None,
                    **common,
                },
            ]
        },
    )
    print(f"step time over a bare loop: {statistics.median(ratios):.3f}")
    print(f"waiting for data: {statistics.median(waits):.3%} of step time")
    return 0


def _request(folder: Path, work: Path, turn: int, arguments: argparse.Namespace) -> TrainRequest:
    return TrainRequest(
        cases=folder / "cases",
        out=work / f"run{turn}",
        task="brats",
        method="supervised",
        split=folder / "split.json",
        iterations=arguments.updates,
        device="cpu",
        store=work / "store",
        settings={
            "training.threads": str(arguments.threads),
            # Judging and saving are not steps.
            "training.validate_every": "100000",
            "training.checkpoint_seconds": "100000",
        },
    )


def _bare_loop(arguments: argparse.Namespace) -> float:
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    network = build_network("transaspp", {"width": 8, "lite": True}, in_channels=4, num_classes=4)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, foreach=True)
    images = torch.randn(4, 4, 32, 32, 32)
    labels = torch.randint(0, 4, (4, 32, 32, 32))
    options = SupervisedLossOptions(profile="liu")
    started = time.perf_counter()
    for _ in range(arguments.updates):
        loss = supervised_loss(network(images), labels, options)["total"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return (time.perf_counter() - started) / arguments.updates


if __name__ == "__main__":
    sys.exit(main())
