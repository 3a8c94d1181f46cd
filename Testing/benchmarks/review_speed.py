"""How long each action of a review holds the window, on a large case.

    python Testing/benchmarks/review_speed.py [--size 512 512 300] [--out FILE]

The case is made up: a label map of three classes with large extents and a few regions. The panel
runs on the stand-in for Slicer, where scene, nodes and VTK are real. The bound is that of
docs/adr/0009, 50 ms a call; the longest of each kind of action is told.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "SemiSupSeg" / "SemiSupSeg.py"
sys.path.insert(0, str(ROOT))

from SemiSupSegLib.files import write_json  # noqa: E402 (after the path is set)
from Testing.benchmarks.panel_speed import A_CALL_S, row  # noqa: E402
from Testing.host import HostMissingError, start_host  # noqa: E402

PATIENCE_SECONDS = 600.0
SPACING = (0.5, 0.5, 0.8)
NUM_REGIONS, HALF_REGION = 4, 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 300), metavar="N")
    parser.add_argument("--out", type=Path, help="JSON with the figures")
    arguments = parser.parse_args()
    try:
        host = start_host()
    except HostMissingError as error:
        print(f"Not measured: {error}")
        return 1
    with tempfile.TemporaryDirectory(prefix="SemiSupSeg review speed ") as folder:
        os.environ["SEMISUPSEG_HOME"] = str(Path(folder) / "home")
        result = make_case(Path(folder) / "out" / "large", tuple(arguments.size))
        host.open_module("SemiSupSeg", MODULE)
        found = review(result)
        host.reset()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    rows = [row(f"review.{name}", max(seconds), A_CALL_S, load) for name, seconds in found.items()]
    for one in rows:
        print(f"{one['name']}: {one['value'] * 1e3:.0f} ms, {one['ratio']} of {one['ratio_to']}")
    if arguments.out is not None:
        write_json(arguments.out, {"size": list(arguments.size), "measurements": rows})
    return 0


def make_case(folder: Path, size: tuple[int, int, int]) -> Path:
    """Write a result as `predict` does: two nested balls of classes, regions on their borders.

    Args:
        folder: OUT/<case>.
        size: Voxels along x, y, z.
    """
    import numpy as np

    from SemiSupSegLib.cases.geometry import Geometry
    from SemiSupSegLib.cases.task import load_task
    from SemiSupSegLib.preparation.nifti import write_nifti
    from SemiSupSegLib.preparation.restoring import write_volume

    folder.mkdir(parents=True)
    case, shape = folder.name, tuple(reversed(size))
    task = load_task("brats")
    grid = Geometry(
        size=size,
        spacing=SPACING,
        origin=(-120.0, -120.0, -100.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )
    axes = np.ogrid[tuple(slice(-1, 1, complex(0, length)) for length in shape)]
    far = sum(np.square(axis, dtype=np.float32) for axis in axes)
    label = np.where(far < 0.1, 1, np.where(far < 0.5, 2, 0)).astype(np.uint8)
    regions, listed = np.zeros(shape, np.uint16), []
    for number in range(1, NUM_REGIONS + 1):
        middle = [length * (number + 2) // (NUM_REGIONS + 5) for length in shape]
        box = [[at - HALF_REGION, at + HALF_REGION] for at in middle]
        regions[tuple(slice(*ends) for ends in box)] = number
        x, y, z = (
            o + s * i for o, s, i in zip(grid.origin, SPACING, reversed(middle), strict=True)
        )
        listed.append(
            {
                "id": number,
                "class": "edema",
                "second_class": "background",
                "box": box,
                "peak_ras": [-x, -y, z],
                "peak_voxel": middle,
                "volume_mm3": 800.0,
                "expected_error_mm3": 100.0 / number,
                "mean_doubt": 0.5,
                "peak_doubt": 0.9,
                "agreement": 0.25,
                "reason": "Made up.",
            }
        )
    values = np.asarray(task.written_values, np.uint8)
    write_nifti(folder / f"{case}_label.nii.gz", values[label], grid)
    write_nifti(folder / f"{case}_regions.nii.gz", regions, grid)
    write_volume(folder / f"{case}_confidence.nii.gz", np.full(shape, 0.75, np.float32), grid)
    content = {
        "format": "semisupseg-case-result",
        "version": 1,
        "case": case,
        "task": task.to_json(),
        "model_sha256": "ab" * 32,
        "inputs": {},
        "volumes_ml": {},
        "warnings": [],
        "review_regions": listed,
        "review": {"expected_error_mm3": 300.0, "thresholds": {}, "fitted": False},
    }
    write_json(folder / "case.json", content)
    return folder


def review(result: Path) -> dict[str, list[float]]:
    """Open the result, act on each region, and return the seconds of each kind of action."""
    import slicer
    from SemiSupSegUI import jobs

    found: dict[str, list[float]] = {}

    def timed(name: str, action: Callable[[], object]) -> None:
        start = time.perf_counter()
        action()
        found.setdefault(name, []).append(time.perf_counter() - start)

    do_one = jobs.Jobs._do_one

    def timed_step(self: Any, work: Any) -> None:
        timed("step_of_opening", lambda: do_one(self, work))

    jobs.Jobs._do_one = timed_step
    widget = slicer.util.getModuleWidget("SemiSupSeg")
    panel = widget.panel
    spin(lambda: panel.setup.probe is not None or panel.setup.hindrance)
    window = panel.review
    window.reviewer_box.text = "benchmark"
    window.open_folder(result)
    spin(lambda: window.opening is None)
    session = window.session
    if session is None:
        raise RuntimeError(f"No review was opened: {window.message.text}")
    for region in session.regions:
        timed("go_to", lambda region=region: window.go_to(region.id))
        timed("relabel", window.relabel)
        timed("undo", window.undo)
        window.go_to(region.id)
        timed("fix", window.fix)
        stroke(window, session, region)
        timed("stroke_to_disk", session.flush)
        timed("undo_of_a_stroke", window.undo)
        timed("decide", window.finish_fix)
    timed("close", window.close)
    widget.logic.close()
    return found


def stroke(window: Any, session: Any, region: Any) -> None:
    """Paint a part of a region, as the brush does; that is the editor's time, not ours."""
    import numpy as np

    editor = window.editor._editor
    editor.setCurrentSegmentID("necrosis")
    effect = editor.effectByName("Paint")
    image = effect.defaultModifierLabelmap()
    for slice_, line, column in np.argwhere(session.regions_map == region.id)[:500]:
        image.SetScalarComponentFromDouble(int(column), int(line), int(slice_), 0, 1)
    image.Modified()
    effect.modifySelectedSegmentByLabelmap(image, effect.ModificationModeAdd)


def spin(until: Callable[[], object]) -> None:
    """Let the window work until something is true."""
    from PySide6.QtWidgets import QApplication

    end = time.monotonic() + PATIENCE_SECONDS
    while not until():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {PATIENCE_SECONDS:.0f} s in vain")
        QApplication.processEvents()
        time.sleep(0.002)


if __name__ == "__main__":
    sys.exit(main())
