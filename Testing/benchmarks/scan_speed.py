"""How long a scan takes: headers of 2,000 cases, first and second check of their content.

    python Testing/benchmarks/scan_speed.py [--cases 2000] [--data ../shared/data]

The cases are made in a temporary folder: four channels of 16 x 20 x 24 voxels, every second one
with a label, 9,000 files in all, so that opening files counts and not their size. The rate in
MB/s comes from the whole brains of brats_full, if they are there. Each measurement has a cache of
its own; `load` is the machine's load average before it: quote figures of an idle machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "scan.json"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.cases.discovery import ScanResult, discover  # noqa: E402 (after the path is set)
from SemiSupSegLib.files import write_json  # noqa: E402
from Testing.data.folder_layouts import write_cohort  # noqa: E402

SIZE = (24, 20, 16)
"""x, y, z."""
LIMIT_S = 60
"""What headers, and a second full scan, may take on two cores."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = {f"BraTS-GLI-{n:05}-000": n % 2 == 0 for n in range(arguments.cases)}
        write_cohort(folder / "cohort", ids, size=SIZE)
        count = f"{arguments.cases}_cases"
        for what, cache, content in (
            ("headers", "headers", False),
            ("first_check", "content", True),
            ("second_check", "content", True),
        ):
            load = os.getloadavg()[0]
            result = discover(
                folder / "cohort",
                check_content=content,
                workers=arguments.workers,
                cache=folder / f"{cache}.jsonl",
            )
            assert result.counts["unusable"] == 0
            limit = {} if what == "first_check" else {"limit of 60 s": result.seconds / LIMIT_S}
            rows.append(row(f"{what}_{count}", result.seconds, "s", limit, load, arguments.workers))
        if (arguments.data / "brats_full").is_dir():
            rows += whole_brains(arguments.data, folder, arguments.workers)
    write_json(RESULTS, {"measurements": rows})
    for one in rows:
        print(f"{one['name']}: {one['value']} {one['unit']} (load {one['load']})")


def whole_brains(data: Path, folder: Path, workers: int) -> list[dict[str, Any]]:
    """Measure the content check where unpacking and hashing are the work."""
    found: dict[int, ScanResult] = {}
    load = os.getloadavg()[0]
    for count in (1, workers):
        cache = folder / f"whole_{count}.jsonl"
        found[count] = discover(data / "brats_full" / "cases", workers=count, cache=cache)
    result = found[workers]
    rate = result.bytes_read / 1e6 / result.seconds
    speedup = {"one thread": found[1].seconds / result.seconds}
    return [row("first_check_whole_brains", rate, "MB/s", speedup, load, workers)]


def row(
    name: str, value: float, unit: str, ratio_to: dict[str, float], load: float, workers: int
) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "ratio_to": {key: round(ratio, 3) for key, ratio in ratio_to.items()},
        "machine": f"{workers} cores, {platform.machine()}",
        "date": date.today().isoformat(),
        "load": round(load, 1),
    }


if __name__ == "__main__":
    main()
