"""One optimizer update: UA-MT as published against ours, and our own method, side by side.

    python Testing/benchmarks/step_speed.py --device cuda
    python Testing/benchmarks/step_speed.py --patch 48 48 32 --rounds 5

The reference is written here from the equations (Yu et al. 2019; docs/methods.md): V-Net with
batch normalization, float32, 2 + 2 patches of 112 × 112 × 80, one teacher prediction for the
target and eight for the doubt, two to a call, all kept until their mean is taken, the teacher in
train mode. Ours is the method `uamt` with the same network, patches, passes and optimizer, as the
trainer calls it (seeded draws, gradient norm limited); `best` takes the patches and passes of its
GPU preset. All steps take the same patches, in turns within one process, so that a noisy machine
disturbs all alike. Cutting and varying patches is left out: trainer_overhead.py times that.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "step.json"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.waiting_threads import let_threads_sleep  # noqa: E402 (after the path is set)

# As in every command, which the benchmark is about.
let_threads_sleep()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

from SemiSupSegLib.files import read_json, write_json  # noqa: E402 (after the path is set)
from SemiSupSegLib.methods.catalogue import find_method  # noqa: E402
from SemiSupSegLib.methods.protocol import (  # noqa: E402
    Batch,
    Clock,
    Method,
    NetworkOptions,
    OptimizerOptions,
    Phase,
)
from SemiSupSegLib.networks.base import SegmentationNetwork  # noqa: E402
from SemiSupSegLib.networks.catalogue import build_network  # noqa: E402

PUBLISHED = (80, 112, 112)
"""D, H, W of the patches on the left atrium."""
LABELLED = UNLABELLED = 2
PASSES = 8
ITERATIONS = 6000
VNET = {"width": 16, "norm": "batch"}


@dataclass(frozen=True)
class Update:
    """Something that does one optimizer update."""

    name: str
    run: Callable[[int], object]
    passes: float
    """Forward passes over a patch, a backward pass counted as two."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--patch", type=int, nargs=3, default=PUBLISHED, metavar=("D", "H", "W"))
    parser.add_argument("--rounds", type=int, default=5, help="timed updates of each kind")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device, patch = torch.device(arguments.device), tuple(arguments.patch)
    batch = made_up_batch(patch, device)
    # On a CPU the trainer refuses bfloat16.
    precisions = [torch.float32] if device.type == "cpu" else [torch.float32, torch.bfloat16]
    updates = [
        reference(batch),
        *(ours(name, batch, one) for name in ("uamt", "best") for one in precisions),
    ]
    seconds: dict[str, list[float]] = {one.name: [] for one in updates}
    for turn in range(arguments.rounds + 1):
        for update in updates:
            finish(device)
            began = time.perf_counter()
            update.run(turn)
            finish(device)
            # The first of each warms up: kernels are chosen, memory is taken.
            if turn:
                seconds[update.name].append(time.perf_counter() - began)
    keep(updates, seconds, patch, device, arguments.threads)
    return 0


def made_up_batch(patch: Sequence[int], device: torch.device) -> Batch:
    """Return noise, and labels of a third of the voxels."""
    draw = torch.Generator().manual_seed(0)
    count = LABELLED + UNLABELLED
    images = torch.randn(count, 1, *patch, generator=draw).to(device)
    labels = (torch.rand(LABELLED, *patch, generator=draw) < 1 / 3).long().to(device)
    return Batch(
        images=images,
        labels=labels,
        valid=torch.ones(count, *patch, dtype=torch.bool, device=device),
        maps={"pseudo_label": torch.ones(UNLABELLED, *patch, dtype=torch.uint8, device=device)},
        case_ids=tuple(f"case{one}" for one in range(count)),
        weak=images[LABELLED:],
    )


def vnet(device: torch.device) -> SegmentationNetwork:
    """Return the network of all updates, always with the same weights."""
    torch.manual_seed(0)
    return build_network("vnet", VNET, in_channels=1, num_classes=2).to(device)


def reference(batch: Batch) -> Update:
    """Return UA-MT's update as published."""
    student, teacher = vnet(batch.images.device), vnet(batch.images.device)
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    unlabelled = batch.images[LABELLED:]

    def noisy(images: Tensor) -> Tensor:
        return images + torch.clamp(torch.randn_like(images) * 0.1, -0.2, 0.2)

    def update(iteration: int) -> None:
        logits = student(batch.images)
        with torch.no_grad():
            target = teacher(noisy(unlabelled)).softmax(1)
            twice = unlabelled.repeat(2, 1, 1, 1, 1)
            found = torch.cat([teacher(noisy(twice)) for _ in range(PASSES // 2)])
            mean = found.softmax(1).reshape(PASSES, UNLABELLED, *found.shape[1:]).mean(0)
            doubt = -(mean * torch.log(mean + 1e-6)).sum(1, keepdim=True)
        ramp = math.exp(-5 * (1 - iteration / ITERATIONS) ** 2)
        entropy = F.cross_entropy(logits[:LABELLED], batch.labels)
        foreground = logits[:LABELLED].softmax(1)[:, 1]
        truth = (batch.labels == 1).float()
        dice = 1 - (2 * (foreground * truth).sum() + 1e-5) / (
            foreground.square().sum() + truth.sum() + 1e-5
        )
        mask = (doubt < (0.75 + 0.25 * ramp) * math.log(2)).float()
        apart = (logits[LABELLED:].softmax(1) - target).square()
        consistency = (mask * apart).sum() / (2 * mask.sum() + 1e-16)
        loss = 0.5 * (entropy + dice) + 0.1 * ramp * consistency
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay = min(1 - 1 / (iteration + 1), 0.99)
        with torch.no_grad():
            for own, other in zip(teacher.parameters(), student.parameters(), strict=True):
                own.mul_(decay).add_(other, alpha=1 - decay)

    return Update(
        "reference.float32", update, 3 * (LABELLED + UNLABELLED) + (PASSES + 1) * UNLABELLED
    )


def ours(name: str, batch: Batch, precision: torch.dtype) -> Update:
    """Return a method's update as the trainer does it, of its last phase on both kinds."""
    device = batch.images.device
    options = find_method(name).options(
        network=NetworkOptions(name="vnet", options=VNET),
        optimizer=OptimizerOptions(optimizer="sgd", rate=0.01, schedule="step"),
        labelled_per_batch=LABELLED,
        unlabelled_per_batch=UNLABELLED,
    )
    build: Any = lambda *_: vnet(device)  # noqa: E731 (one expression, and a protocol's name)
    method: Method = find_method(name).make(options, build, ITERATIONS)
    phase = last_phase(method)
    for network in method.networks().values():
        network.to(device)
    parameters = list(phase.group.parameters)
    own = {id(one) for one in parameters}
    for network in method.networks().values():
        network.train(any(id(one) in own for one in network.parameters()))
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-4)

    def update(iteration: int) -> None:
        torch.manual_seed(iteration)
        clock = Clock(phase_iteration=iteration, iteration=iteration)
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            result = method.step(phase, batch, clock)
        optimizer.zero_grad(set_to_none=True)
        result.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        method.after_step(phase, clock)

    kind = str(precision).removeprefix("torch.")
    return Update(f"{name}.{kind}", update, phase.work_per_update)


def last_phase(method: Method) -> Phase:
    """Return the last phase that learns from labelled and unlabelled patches."""
    data: Any = SimpleNamespace(
        labelled=("case0", "case1"),
        unlabelled=("case2", "case3"),
        tell=lambda *_, **__: None,
        count_windows=len,
    )
    return [one for one in method.phases(data) if one.unlabelled_per_batch][-1]


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def keep(
    updates: Sequence[Update],
    seconds: dict[str, list[float]],
    patch: Sequence[int],
    device: torch.device,
    threads: int,
) -> None:
    """Print the medians and write them."""
    first = updates[0].name
    place = f"{device.type}.{'x'.join(map(str, patch))}"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads"
    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    rows: list[dict[str, Any]] = []
    for update in updates:
        own = seconds[update.name]
        ratio = statistics.median(mine / its for mine, its in zip(own, seconds[first], strict=True))
        common = {
            "passes": update.passes,
            "rounds": len(own),
            "machine": machine,
            "versions": {"torch": torch.__version__},
            "date": date.today().isoformat(),
        }
        for kind, value, unit, ratio_to in (
            ("seconds", statistics.median(own), "s", None),
            ("ratio", ratio, "", f"{first}.{place}.seconds"),
        ):
            rows.append(
                {
                    "name": f"{update.name}.{place}.{kind}",
                    "value": round(value, 4),
                    "unit": unit,
                    "ratio_to": ratio_to,
                    **common,
                }
            )
        print(
            f"{update.name:<20}{statistics.median(own):10.3f} s{ratio:8.2f} of the reference, "
            f"{update.passes} passes"
        )
    known = read_json(RESULTS)["measurements"] if RESULTS.is_file() else []
    names = {one["name"] for one in rows}
    write_json(RESULTS, {"measurements": [one for one in known if one["name"] not in names] + rows})


if __name__ == "__main__":
    sys.exit(main())
