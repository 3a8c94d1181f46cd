"""How long the section Train holds the window: a table of 2,000 cases, and a long run's live view.

    python Testing/benchmarks/train_panel_speed.py [--turns 20]

The panel runs on the stand-in for Slicer; Qt's widgets and Slicer's plot, table and series nodes
are real there, drawing is not in the figures. The run is a view as a watcher writes it of 60,000
updates (as large as such a file may be), which changes at each turn. Bounds: 20 ms for the live
view, 50 ms for any other call; the 2,000 cases are put in over many ticks of 15 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "train_panel.json"
sys.path[:0] = [str(ROOT), str(ROOT / "SemiSupSeg")]

from SemiSupSegLib.files import write_json  # noqa: E402 (after the path is set)
from SemiSupSegLib.workers.run_view import RunView, fitted, write_view  # noqa: E402
from Testing.host import start_host  # noqa: E402

NUM_CASES = 2000
LIVE_S, A_CALL_S = 0.02, 0.05
TARGETS = ("necrosis", "edema", "enhancing", "WT", "TC", "ET", "mean")
TERMS = ("supervised", "ce", "dice", "high", "low")
NUM_STAGES = 6


def main() -> int:
    """Measure and write results/train_panel.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["SEMISUPSEG_HOME"] = home
        host = start_host()
        host.open_module("SemiSupSeg", ROOT / "SemiSupSeg" / "SemiSupSeg.py")
        import slicer

        section = slicer.util.getModuleWidget("SemiSupSeg").panel.train
        figures = {
            **table_figures(section.cases),
            **live_figures(section.run, Path(home), arguments.turns),
        }
        slicer.util.getModuleWidget("SemiSupSeg").cleanup()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    rows = [
        {
            "name": f"train_panel.{name}",
            "value": round(seconds, 5),
            "unit": "s",
            "ratio_to": bound,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "date": date.today().isoformat(),
        }
        for name, (seconds, bound) in figures.items()
    ]
    write_json(RESULTS, {"measurements": rows, "load": load, "python": platform.python_version()})
    for one in rows:
        bound = "" if one["ratio_to"] is None else f" (bound {one['ratio_to'] * 1e3:.0f})"
        print(f"{one['name']:<36} {one['value'] * 1e3:8.2f} ms{bound}")
    return 0


def timed(action: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def table_figures(cases: Any) -> dict[str, tuple[float, float | None]]:
    """Return the longest calls while the table of cases is filled, filtered and shared out."""
    lines = [json.dumps(case_line(number)) for number in range(NUM_CASES)]
    puts = [timed(lambda line=line: cases._line(json.loads(line))) for line in lines]
    uses = {f"case {number:04d}": "train_unlabelled" for number in range(NUM_CASES)}
    box = cases.table.state_box
    filters = [timed(lambda at=at: box.setCurrentIndex(at)) for at in (*range(1, box.count), 0)]
    return {
        "one_case": (max(puts), A_CALL_S),
        "2000_cases_together": (sum(puts), None),
        "share_out": (timed(lambda: cases.table.set_uses(uses)), A_CALL_S),
        "filter": (max(filters), A_CALL_S),
    }


def case_line(number: int) -> dict[str, Any]:
    """Return a case as `scan --lines` tells it."""
    return {
        "kind": "case",
        "id": f"case {number:04d}",
        "patient": f"p{number // 2:04d}",
        "state": "labelled" if number % 10 == 0 else "unlabelled",
        "channels": ["t1", "t1ce", "t2", "flair"],
        "size": [240, 240, 155],
        "spacing": [1.0, 1.0, 1.0],
        "is_checked": True,
        "reasons": [],
    }


def live_figures(run: Any, folder: Path, turns: int) -> dict[str, tuple[float, float]]:
    """Return what showing a changed view takes, with the curves on and off."""
    from SemiSupSegUI.live_plots import LivePlots

    assert isinstance(run.plots, LivePlots)
    read, shown, updated = [], [], []
    run.plots.enter()
    for turn in range(turns):
        file = folder / "view.json"
        write_view(file, long_view(turn))
        read.append(timed(lambda file=file: RunView.read(file)))
        view = RunView.read(file)
        shown.append(timed(lambda view=view: run.plots.show(view)))
        run._run = Followed(view)
        updated.append(timed(run.update))
    run._run = None
    run.plots.leave()
    run.plots.clear()
    together = [sum(parts) for parts in zip(read, shown, updated, strict=True)]
    return {
        "live.read": (max(read), LIVE_S),
        "live.curves_first": (shown[0], LIVE_S),
        "live.curves": (max(shown[1:]), LIVE_S),
        "live.panel": (max(updated[1:]), LIVE_S),
        "live.together_median": (statistics.median(together[1:]), LIVE_S),
        "live.together_longest": (max(together[1:]), LIVE_S),
    }


class Followed:
    """Stands for the run that is followed: what it shows is given."""

    def __init__(self, view: RunView) -> None:
        self.view, self.folder = view, Path("run")
        self.request = None


def long_view(turn: int) -> dict[str, Any]:
    """Return the content of a view as large as it may be, different at each turn."""
    draw = random.Random(turn)

    def curve(points: int, step: int) -> list[list[float]]:
        return [[at * step, round(draw.random(), 4)] for at in range(points)]

    def curves(most: int) -> dict[str, Any]:
        return {
            "losses": {name: curve(most, 150) for name in TERMS},
            "figures": {"rate": curve(most, 150), "high_share": curve(most, 150)},
            "dice": {
                network: {name: curve(min(most, 60), 1000) for name in TARGETS}
                for network in ("student", "teacher")
            },
        }

    shares = {"accepted": 0.7, "ignored": 0.0, "unlearned": 0.3}
    stages = [
        {
            "stage": stage,
            "cases": 100 * stage,
            "shares": shares,
            "by_class": dict.fromkeys(("background", *TARGETS[:3]), shares),
            "note": "",
            "histogram": {"all": [draw.randrange(100) for _ in range(20)], "stage": [5] * 20},
            "shown": [
                {"case": f"case {rank}", "rank": rank, "image_confidence": 0.5}
                for rank in ("most", "median", "least")
            ],
        }
        for stage in range(1, NUM_STAGES + 1)
    ]
    marks = [
        {"stage": stage, "name": f"stage_{stage}", "title": "", "iteration": 9000 * stage}
        for stage in range(1, NUM_STAGES + 1)
    ]
    content = {
        "heard": float(turn),
        "status": "running",
        "phase_title": "Stage 6 of 6",
        "iteration": 54000 + turn,
        "planned": 600_000,
        "finished": 500_000 + turn,
        "seconds_left": 3600.0,
        "stages": stages,
        "stage_marks": marks,
        "warnings": ["One warning."],
    }
    return fitted(content, curves)


if __name__ == "__main__":
    sys.exit(main())
