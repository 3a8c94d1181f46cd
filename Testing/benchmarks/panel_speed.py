"""What the panel costs beside the worker: from Apply to overlays, and what holds the window.

    python Testing/benchmarks/panel_speed.py [--data ../shared/data] [--turns 5]

The panel runs on the stand-in for Slicer with a case of brats_full (240 x 240 x 155, four
channels) and the demonstration model. Slicer's scene, its nodes and VTK are real there; drawing of
the views is not in the figures. The bounds are those of docs/adr/0009: 1.5 s in all beside the
worker, 50 ms a call, 250 ms for a listed single call of VTK.

A call is one slot or timer call of the window. One turn more is made with every call into C
watched, which tells what the longest calls consist of; its times are not in the figures.
Then the result is reviewed. `panel.review.*` is the longest call of each kind of action.
`ratio_to` names the bound that a value was divided by. Other work on the machine shows in `load`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results" / "panel.json"
MODULE = ROOT / "SemiSupSeg" / "SemiSupSeg.py"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.files import write_json  # noqa: E402 (after the path is set)
from SemiSupSegLib.runs.events import read_new_events  # noqa: E402
from Testing.host import HostMissingError, start_host  # noqa: E402

CASE = "Brats18_2013_3_1"
CHANNELS = ("t1", "t1ce", "t2", "flair")
PATIENCE_SECONDS = 600.0
IN_ALL_S, A_CALL_S, A_VTK_CALL_S = 1.5, 0.05, 0.25
NOTABLE_S = 0.01
"""Shorter calls into C are not listed."""


@dataclass(frozen=True)
class Call:
    """One call that held the window."""

    what: str
    """Of a step: from where to where in our code it went."""
    seconds: float
    parts: tuple[tuple[str, float], ...] = ()
    """Long calls into C and their seconds, in the turn that watches them."""


@dataclass
class Turn:
    """What was timed of one Apply."""

    moments: dict[str, float] = field(default_factory=dict)
    """Seconds of the system's clock, which the worker's events have too."""
    calls: list[Call] = field(default_factory=list)
    """Of the timer, and the press on Apply."""
    steps: list[Call] = field(default_factory=list)
    """What the calls consist of."""
    longest_pass: float = 0.0
    """Of Qt's event loop: timer calls, repainting of the panel and all else, s."""

    def between(self, first: str, second: str) -> float:
        """Return the seconds from one moment to another; 0 if they came the other way round."""
        return max(0.0, self.moments[second] - self.moments[first])

    @property
    def figures(self) -> dict[str, float]:
        """Return the times in s by name."""
        handing_over = self.between("apply", "request")
        begins = self.between("request", "started")
        notices = self.between("maps_ready", "maps_seen")
        into_scene = self.between("maps_seen", "in_scene")
        waits = self.between("in_scene", "finished")
        last = max(self.moments["in_scene"], self.moments["finished"])
        ends = self.moments["end"] - last
        return {
            "hand_over": handing_over,
            "worker_begins": begins,
            "worker": self.between("started", "maps_ready"),
            "notice_maps": notices,
            "into_scene": into_scene,
            "contours_wait_for_saving": waits,
            "show_contours": ends,
            "beside_worker": handing_over + begins + notices + into_scene + ends,
            "longest_call": max(call.seconds for call in self.calls),
            "longest_pass_of_the_event_loop": self.longest_pass,
            "all": self.between("apply", "end"),
        }


BOUNDS_S = {
    "beside_worker": IN_ALL_S,
    "longest_call": A_CALL_S,
    "longest_pass_of_the_event_loop": A_CALL_S,
}
"""By figure."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--turns", type=int, default=5, help="warm ones, after the first")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="watch the calls into C of the first turn too, and write no figures",
    )
    arguments = parser.parse_args()
    folder = arguments.data / "brats_full" / "cases" / CASE
    if not folder.is_dir():
        print(f"Nothing is measured: the case is not here: {folder}. Name the folder by --data.")
        return 0
    try:
        host = start_host()
    except HostMissingError as error:
        print(f"Nothing is measured: the stand-in for Slicer cannot run here. {error}")
        return 0
    with tempfile.TemporaryDirectory() as home:
        os.environ["SEMISUPSEG_HOME"] = home
        load = os.getloadavg()[0]
        bench = Bench(host, folder)
        try:
            turns = [bench.turn(watch=arguments.watch)]
            turns += [bench.turn() for _ in range(arguments.turns)]
            watched_turn = bench.turn(watch=True)
            reviewed = bench.review()
        finally:
            bench.close()
            # Qt and VTK end in order only if the module went before.
            host.reset()
    rows = rows_of(turns, watched_turn, load)
    rows += [
        row(f"panel.review.{name}", max(seconds), A_CALL_S, load)
        for name, seconds in reviewed.items()
    ]
    longest = {
        "first": longest_steps(turns[:1], turns[0] if arguments.watch else watched_turn),
        "warm": longest_steps(turns[1:], watched_turn),
    }
    if not arguments.watch:
        content = {"versions": versions(), "measurements": rows, "longest_steps": longest}
        write_json(RESULTS, content)
    for one in rows:
        bound = f", {one['ratio']} of {one['ratio_to']}" if one["ratio_to"] else ""
        print(f"{one['name']}: {one['value']} {one['unit']}{bound}")
    for name, steps in longest.items():
        print(f"Longest steps, {name}:")
        for step in steps:
            print(f"  {step['median_ms']} ms (longest {step['longest_ms']}): {step['what']}")
            for part in step["calls_into_c"]:
                print(f"      {part}")
    return 0


class Bench:
    """The panel with a case chosen, and clocks around its calls.

    Args:
        host: The stand-in for Slicer.
        folder: Of the case.
    """

    def __init__(self, host: Any, folder: Path) -> None:
        self._host = host
        self._turn = Turn()
        self._watch = False
        host.open_module("SemiSupSeg", MODULE)
        import slicer
        from SemiSupSegUI import demonstration, jobs, segmenting

        self._put_clocks(jobs.Jobs, segmenting)
        # A new panel, whose timer calls what has a clock.
        self._widget = slicer.util.getModuleWidget("SemiSupSeg")
        self._widget.cleanup()
        self._widget.setup()
        self._widget.enter()
        for channel in CHANNELS:
            name = f"{CASE}_{channel}"
            slicer.util.loadVolume(str(folder / f"{name}.nii.gz"), {"name": name})
        self._segment = self._widget.panel.segment
        self._widget.panel.state().model = str(demonstration.MODEL)
        self._segment.read_models()
        self._segment.detect()
        # The fewest windows: the network is not what is measured.
        self._segment.options.overlap_box.value = 0.0
        setup = self._widget.panel.setup
        self._spin(lambda: setup.probe is not None and self._widget.logic.jobs.is_idle)

    def turn(self, *, watch: bool = False) -> Turn:
        """Press Apply, wait for the end, and return what was timed."""
        self._turn, self._watch = Turn(), watch
        segment, moments = self._segment, self._turn.moments
        if not segment.apply_button.enabled:
            raise RuntimeError(f"Apply is not possible: {segment.apply_button.toolTip}")
        moments["apply"] = time.time()
        what = "Apply is pressed"
        calls, steps = self._turn.calls, self._turn.steps
        with self._clock(calls, what), self._clock(steps, what, watch):
            segment.apply()
        self._spin(lambda: segment.segmenting.is_ended)
        moments["end"] = time.time()
        if self._widget.panel.state().overlay != "contours":
            raise RuntimeError(f"No contours are shown: {segment.message.text}")
        events, _ = read_new_events(segment.segmenting._job.folder.events_file, 0)
        moments.update({event["kind"]: event["t"] for event in events})
        # Tidying up holds the window too.
        self._spin(lambda: self._widget.logic.jobs.is_idle)
        return self._turn

    def review(self, count: int = 5) -> dict[str, list[float]]:
        """Review the result, and return how long each kind of action held the window."""
        import numpy as np

        review = self._widget.panel.review
        review.reviewer_box.text = "benchmark"
        review.update()
        review.begin()
        self._spin(lambda: review.opening is None)
        session = review.session
        if session is None:
            raise RuntimeError(f"No review was opened: {review.message.text}")
        found: dict[str, list[float]] = {}

        def timed(name: str, action: Callable[[], object]) -> None:
            start = time.perf_counter()
            action()
            found.setdefault(name, []).append(time.perf_counter() - start)

        for region in session.regions[:count]:
            timed("go_to", lambda region=region: review.go_to(region.id))
            timed("relabel", review.relabel)
            timed("undo", review.undo)
            review.go_to(region.id)
            timed("fix", review.fix)
            editor = review.editor._editor
            effect = editor.effectByName("Paint")
            image = effect.defaultModifierLabelmap()
            for slice_, line, column in np.argwhere(session.regions_map == region.id)[:200]:
                image.SetScalarComponentFromDouble(int(column), int(line), int(slice_), 0, 1)
            image.Modified()
            effect.modifySelectedSegmentByLabelmap(image, effect.ModificationModeAdd)
            timed("stroke_to_disk", session.flush)
            timed("decide", review.finish_fix)
        review.close()
        return found

    def close(self) -> None:
        """End the worker."""
        self._widget.logic.close()

    def _spin(self, until: Callable[[], object]) -> None:
        from PySide6.QtWidgets import QApplication

        end = time.monotonic() + PATIENCE_SECONDS
        while not until():
            if time.monotonic() > end:
                raise RuntimeError(f"waited {PATIENCE_SECONDS:.0f} s in vain")
            start = time.perf_counter()
            QApplication.processEvents()
            seconds = time.perf_counter() - start
            self._turn.longest_pass = max(self._turn.longest_pass, seconds)
            time.sleep(0.002)

    def _put_clocks(self, jobs: Any, segmenting: Any) -> None:
        bench = self
        tick, tell, do_one = jobs._tick, jobs._tell, jobs._do_one
        kind = segmenting.Segmenting
        write, begin, brought = (
            segmenting.PredictRequest.write,
            kind._bring_into_scene,
            kind._brought,
        )

        def timed_tick(self: Any) -> None:
            with bench._clock(bench._turn.calls, "timer"):
                tick(self)

        def timed_tell(self: Any, changed: Any) -> None:
            with bench._clock(bench._turn.steps, "tells of the worker's news", bench._watch):
                tell(self, changed)

        def timed_step(self: Any, work: Any) -> None:
            before = place(work.steps)
            label = before
            with bench._clock(bench._turn.steps, lambda: label, bench._watch):
                do_one(self, work)
                label = f"{before} to {place(work.steps)}"

        def noted_write(self: Any, folder: Any) -> None:
            write(self, folder)
            bench._turn.moments["request"] = time.time()

        def noted_begin(self: Any) -> None:
            bench._turn.moments["maps_seen"] = time.time()
            begin(self)

        def noted_brought(self: Any, error: Exception | None) -> None:
            bench._turn.moments["in_scene"] = time.time()
            brought(self, error)

        jobs._tick, jobs._tell, jobs._do_one = timed_tick, timed_tell, timed_step
        segmenting.PredictRequest.write = noted_write
        kind._bring_into_scene, kind._brought = noted_begin, noted_brought

    @contextlib.contextmanager
    def _clock(
        self, calls: list[Call], what: str | Callable[[], str], watch: bool = False
    ) -> Iterator[None]:
        parts: list[tuple[str, float]] = []
        start = time.perf_counter()
        try:
            with watched(parts) if watch else contextlib.nullcontext():
                yield
        finally:
            seconds = time.perf_counter() - start
            calls.append(Call(what if isinstance(what, str) else what(), seconds, tuple(parts)))


def place(steps: Any) -> str:
    """Return where in our code some steps are: in the innermost generator."""
    while getattr(steps, "gi_yieldfrom", None) is not None:
        steps = steps.gi_yieldfrom
    frame = getattr(steps, "gi_frame", None)
    if frame is None:
        return "the end"
    return f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}:{frame.f_lineno}"


@contextlib.contextmanager
def watched(parts: list[tuple[str, float]]) -> Iterator[None]:
    """Collect the long calls into C, with the line that made them."""
    started: list[float] = []

    def heard(frame: Any, event: str, argument: Any) -> None:
        if event == "c_call":
            started.append(time.perf_counter())
        elif event in ("c_return", "c_exception") and started:
            seconds = time.perf_counter() - started.pop()
            if seconds > NOTABLE_S and argument is not next:
                name = getattr(argument, "__qualname__", repr(argument))
                file = Path(frame.f_code.co_filename).name
                parts.append((f"{name} ({file}:{frame.f_lineno})", seconds))

    sys.setprofile(heard)
    try:
        yield
    finally:
        sys.setprofile(None)


def rows_of(turns: list[Turn], watched_turn: Turn, load: float) -> list[dict[str, Any]]:
    """Return the figures: of the first turn, and the medians of the warm ones."""
    rows = []
    for name, some in (("first", turns[:1]), ("warm", turns[1:])):
        figures = [turn.figures for turn in some]
        for key in figures[0] if figures else ():
            value = statistics.median(one[key] for one in figures)
            rows.append(row(f"panel.{name}.{key}", value, BOUNDS_S.get(key), load))
        if some:
            slow = [sum(call.seconds > A_CALL_S for call in turn.calls) for turn in some]
            name_of_count = f"panel.{name}.calls_over_{1e3 * A_CALL_S:.0f}_ms"
            rows.append(row(name_of_count, statistics.median(slow), None, load, "calls"))
    longest = max((s for step in watched_turn.steps for _, s in step.parts), default=0.0)
    rows.append(row("panel.warm.longest_c_call", longest, A_VTK_CALL_S, load))
    return rows


def row(
    name: str, value: float, bound: float | None, load: float, unit: str = "s"
) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(float(value), 4),
        "unit": unit,
        "ratio_to": None if bound is None else f"the bound of {bound:g} s",
        "ratio": None if bound is None else round(float(value) / bound, 3),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": date.today().isoformat(),
        "load": round(load, 1),
    }


def longest_steps(turns: list[Turn], watched_turn: Turn, count: int = 10) -> list[dict[str, Any]]:
    """Return the steps that took longest, and what they consist of."""
    seconds: dict[str, list[float]] = {}
    for turn in turns:
        of_turn: dict[str, float] = {}
        for step in turn.steps:
            of_turn[step.what] = max(step.seconds, of_turn.get(step.what, 0.0))
        for what, longest in of_turn.items():
            seconds.setdefault(what, []).append(longest)
    medians = {what: statistics.median(found) for what, found in seconds.items()}
    parts: dict[str, list[tuple[str, float]]] = {}
    for step in watched_turn.steps:
        parts.setdefault(step.what, []).extend(step.parts)
    return [
        {
            "what": what,
            "median_ms": round(1e3 * medians[what], 1),
            "longest_ms": round(1e3 * max(seconds[what]), 1),
            "calls_into_c": [
                f"{1e3 * duration:.0f} ms {name}"
                for name, duration in sorted(parts.get(what, ()), key=lambda part: -part[1])[:5]
            ],
        }
        for what in sorted(medians, key=lambda one: -medians[one])[:count]
    ]


def versions() -> dict[str, str]:
    """Return what the figures were measured with."""
    import numpy
    import PySide6
    import vtk

    return {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "vtk": vtk.vtkVersion.GetVTKVersion(),
        "qt": PySide6.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
