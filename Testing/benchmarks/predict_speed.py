"""How long `predict` takes for a whole brain, where the time goes, and how much memory it needs.

    python Testing/benchmarks/predict_speed.py [--data ../shared/data] [--network w8_lite]

One case of brats_full (240 x 240 x 155, four channels, 1 mm), overlap 0.5, one pass of student and
teacher, all maps written. w8_lite has the weights of the demonstration model: random ones doubt
everywhere, and then review regions take long to form. w16 has random weights, biased to background.
The whole command runs as a process of its own; the parts are timed in this process. Where MONAI is
installed (`pip install --no-deps monai`), its sliding window runs in turns with ours: the same
networks, volume, window and overlap, and no maps; once with tensors laid out as PyTorch does by
itself, once with the channels last, as ours has them on a CPU.
`ratio_to` of a time names what it was divided by; both were measured in the same run. Other work on
the machine shows in `load`: quote figures of an idle one.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "predict.json"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.waiting_threads import let_threads_sleep  # noqa: E402 (after the path is set)

# As in every command, which the benchmark is about.
let_threads_sleep()

import torch  # noqa: E402

from SemiSupSegLib.cases.discovery import discover  # noqa: E402 (after the path is set)
from SemiSupSegLib.cases.task import load_task  # noqa: E402
from SemiSupSegLib.files import read_json, write_json  # noqa: E402
from SemiSupSegLib.inference.maps import Maps  # noqa: E402
from SemiSupSegLib.inference.predictor import Predictor  # noqa: E402
from SemiSupSegLib.inference.sliding_window import sliding_slabs  # noqa: E402
from SemiSupSegLib.inference.writing import write_result  # noqa: E402
from SemiSupSegLib.models.package import ModelPackage, read_package, write_package  # noqa: E402
from SemiSupSegLib.networks.catalogue import build_network  # noqa: E402
from SemiSupSegLib.options import to_json  # noqa: E402
from SemiSupSegLib.preparation.options import PreparationOptions  # noqa: E402
from SemiSupSegLib.preparation.prepare import prepare_case  # noqa: E402

CASE = "Brats18_2013_3_1"
DEMONSTRATION = ROOT / "Resources" / "Demonstration" / "model"
TRAINED = "w8_lite"
"""The network of the demonstration model."""
BACKGROUND_LOGIT = 5.0
NETWORKS = {"w8_lite": {"width": 8, "lite": True}, "w16": {"width": 16}}
LAYOUTS = {
    "monai_windows": torch.contiguous_format,
    "monai_windows_channels_last": torch.channels_last_3d,
}
OPTIONS = PreparationOptions(spacing=(1.0, 1.0, 1.0), mask="nonzero")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--patch", type=int, default=96, help="side of a window, voxels")
    parser.add_argument("--repeats", type=int, default=2, help="the shortest time counts")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.network or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            rows = measure(name, arguments.patch, arguments.data, Path(folder), arguments.repeats)
        keep(rows)


def measure(name: str, side: int, data: Path, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Return the measurements of one network and window size."""
    label = f"{name}.patch{side}.threads{torch.get_num_threads()}"
    package = a_package(folder / "model", name, side)
    rows = [row(f"{label}.load.before", os.getloadavg()[0], "processes")]
    wall_s, peak_gib = whole_command(folder, data)
    rows.append(row(f"{label}.command.wall", wall_s, "s"))
    rows.append(row(f"{label}.command.peak_memory", peak_gib, "GiB"))

    start = time.perf_counter()
    (case,) = discover(
        data / "brats_full" / "cases" / CASE, package.task, check_content=False, label_ids=()
    ).cases
    prepared = prepare_case(case, package.task, OPTIONS)
    rows.append(row(f"{label}.part.read_and_prepare", time.perf_counter() - start, "s"))

    predictor = Predictor(package, device=torch.device("cpu"))
    image = prepared.image()
    total, parts, bare = [], [], []
    peers: dict[str, list[float]] = {one: [] for one in LAYOUTS} if find_spec("monai") else {}
    for _ in range(repeats):
        bare.append(bare_passes(predictor, image))
        for layout, found in peers.items():
            found.append(monai_windows(predictor, image, LAYOUTS[layout]))
        seconds, inside, maps = maps_made(predictor, prepared)
        total.append(seconds)
        parts.append(inside)
    start = time.perf_counter()
    write_result(
        folder / "parts",
        case.id,
        maps,
        package.task,
        original=prepared.original,
        like=prepared.reference,
        model_sha256=package.sha256,
        inputs=case.channels,
    )
    writing_s = time.perf_counter() - start
    best = int(np.argmin(total))
    for layout, found in peers.items():
        rows += [
            row(f"{label}.{layout}", min(found), "s"),
            row(
                f"{label}.first_window_to_maps.ratio_to_{layout}",
                min(total) / min(found),
                "",
                f"{label}.{layout}",
            ),
        ]
    rows += [
        row(f"{label}.bare_passes", min(bare), "s"),
        row(f"{label}.first_window_to_maps", total[best], "s"),
        row(
            f"{label}.first_window_to_maps.ratio",
            min(total) / min(bare),
            "",
            f"{label}.bare_passes",
        ),
        # The same passes timed while the maps are made: other work on the machine hits both alike.
        row(
            f"{label}.first_window_to_maps.ratio_in_place",
            total[best] / parts[best],
            "",
            f"{label}.part.networks",
        ),
        row(f"{label}.part.networks", parts[best], "s"),
        row(f"{label}.part.stitching_and_maps", total[best] - parts[best], "s"),
        row(f"{label}.part.writing", writing_s, "s"),
        row(f"{label}.load.after", os.getloadavg()[0], "processes"),
    ]
    return rows


def a_package(folder: Path, name: str, side: int) -> ModelPackage:
    """Return a package of the network for windows of `side` voxels."""
    task = load_task("brats")
    manifest = {
        "name": f"benchmark {name}",
        "task": task.to_json(),
        "network": {
            "name": "transaspp",
            "options": NETWORKS[name],
            "in_channels": 4,
            "num_classes": 4,
            "patch_size": [side] * 3,
        },
        "method": "none",
        "preparation": to_json(OPTIONS),
        "library": {"torch": torch.__version__},
    }
    weights = {}
    if name == TRAINED:
        demonstration = read_package(DEMONSTRATION)
        weights = {one: demonstration.weights(one) for one in ("student", "teacher")}
        manifest |= {key: demonstration.manifest[key] for key in ("calibration", "review")}
        return write_package(folder, manifest=manifest, weights=weights, card="Trained weights.\n")
    for seed, network in enumerate(("student", "teacher")):
        torch.manual_seed(seed)
        built = build_network("transaspp", NETWORKS[name], in_channels=4, num_classes=4)
        weights[network] = {key: value.numpy() for key, value in built.state_dict().items()}
        weights[network]["segmentation_head.bias"][0] += BACKGROUND_LOGIT
    return write_package(folder, manifest=manifest, weights=weights, card="Random weights.\n")


def whole_command(folder: Path, data: Path) -> tuple[float, float]:
    """Return wall time in s and peak memory in GiB of `predict` as a process."""
    words = ["--model", folder / "model", "--case", data / "brats_full" / "cases" / CASE]
    words += ["--out", folder / "out", "--maps", "all", "--device", "cpu"]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "SemiSupSegLib", "predict", *map(str, words)],
        check=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    wall_s = time.perf_counter() - start
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # Kibibytes on Linux, bytes on macOS.
    return wall_s, largest / (2**30 if sys.platform == "darwin" else 2**20)


def maps_made(predictor: Predictor, prepared: Any) -> tuple[float, float, Maps]:
    """Return the seconds from the first window to the maps, those inside the networks, the maps."""
    inside = 0.0
    forward = predictor.forward

    def timed(patches: torch.Tensor) -> torch.Tensor:
        nonlocal inside
        start = time.perf_counter()
        outputs = forward(patches)
        inside += time.perf_counter() - start
        return outputs

    predictor.forward = timed  # type: ignore[method-assign]
    try:
        start = time.perf_counter()
        maps = predictor.predict(prepared, maps="all")
        return time.perf_counter() - start, inside, maps
    finally:
        predictor.forward = forward  # type: ignore[method-assign]


def bare_passes(predictor: Predictor, image: Any) -> float:
    """Return the seconds of both networks for the same windows, and nothing else."""
    student, teacher = predictor.networks
    seconds = 0.0

    def forward(patches: torch.Tensor) -> torch.Tensor:
        nonlocal seconds
        patches = patches.contiguous(memory_format=torch.channels_last_3d)
        start = time.perf_counter()
        features = student.features(patches)
        student.log_variance(features, student.segment(features))
        teacher(patches)
        seconds += time.perf_counter() - start
        return patches[:, :1]

    with torch.inference_mode():
        for _ in sliding_slabs(
            image,
            forward,
            patch_size=predictor.patch_size,
            overlap=0.5,
            device=torch.device("cpu"),
        ):
            pass
    return seconds


def monai_windows(predictor: Predictor, image: Any, layout: torch.memory_format) -> float:
    """Return the seconds of MONAI's sliding window: outputs of both networks, and no maps."""
    from monai.inferers import sliding_window_inference

    student, teacher = (
        copy.deepcopy(one).to(memory_format=layout)  # type: ignore[call-overload]
        for one in predictor.networks
    )

    def forward(patches: torch.Tensor) -> torch.Tensor:
        patches = patches.contiguous(memory_format=layout)
        features = student.features(patches)
        logits = student.segment(features)
        outputs = [logits, student.log_variance(features, logits), teacher(patches)]
        return torch.cat(outputs, 1)

    volume = torch.from_numpy(np.array(image, np.float32))[None]
    start = time.perf_counter()
    with torch.inference_mode():
        sliding_window_inference(
            volume,
            predictor.patch_size,
            1,
            forward,
            overlap=0.5,
            # As ours: windows count less towards their border.
            mode="gaussian",
        )
    return time.perf_counter() - start


def row(name: str, value: float, unit: str, ratio_to: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(float(value), 3),
        "unit": unit,
        "ratio_to": ratio_to,
        "machine": f"{os.cpu_count()} cores {platform.machine()}, torch {torch.__version__}",
        "date": date.today().isoformat(),
    }


def keep(rows: list[dict[str, Any]]) -> None:
    """Put rows into the results, in place of former ones of the same name."""
    former = read_json(RESULTS)["measurements"] if RESULTS.is_file() else []
    names = {one["name"] for one in rows}
    measurements = [one for one in former if one["name"] not in names] + rows
    RESULTS.parent.mkdir(exist_ok=True)
    write_json(RESULTS, {"measurements": measurements})
    for one in rows:
        print(f"{one['name']}: {one['value']} {one['unit']}")


if __name__ == "__main__":
    main()
