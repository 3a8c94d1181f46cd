"""Drive the panel as a user does, on the stand-in for Slicer, and save what there is to see.

    python docs/make_panel_pictures.py out/panel [--only panel|training] [--readme]

The made-up case and its model are those that *Try it on a made-up case* loads. The training is one
session from an empty scene to a registered student: it is paused, its process is killed, and the
window's process ends without a word while it goes on. With `--readme` the pictures that README,
tutorial and catalog show are renewed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PICTURES = ROOT / "docs" / "pictures"
MODULE = ROOT / "SemiSupSeg" / "SemiSupSeg.py"
PATIENCE_SECONDS = 1800.0
"""Beside other work a run takes half an hour."""
VIEW_PIXELS = 480
UPDATES = 480
TRAINING = {
    "student_init": "teacher",
    "ema": "0.98",
    "pseudo_labels.passes": "2",
    "training.prediction_overlap": "0.25",
    "training.validate_every": "30",
}
"""As the demo trains, but judged more often: curves need points."""
_CRASHED = 9
"""Exit code of a window that ends as if it had crashed."""


def main() -> None:
    """Write one picture of each overlay and of the panel in its states."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--only", choices=("panel", "training"), help="leave out the other pictures"
    )
    parser.add_argument("--readme", action="store_true", help="renew docs/pictures too")
    parser.add_argument("--window", choices=("first", "second"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # The run's process has another working folder.
    out: Path = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if arguments.window:
        {"first": _first_window, "second": _second_window}[arguments.window](out)
        return
    with tempfile.TemporaryDirectory() as home:
        os.environ["SEMISUPSEG_HOME"] = home
        if arguments.only != "training":
            _drive(out)
        if arguments.only != "panel":
            _train(out)
    if arguments.readme and arguments.only != "training":
        shutil.copyfile(out / "panel_and_view.png", PICTURES / "panel.png")
    if arguments.readme and arguments.only != "panel":
        shutil.copyfile(out / "session.png", PICTURES / "session.png")
        shutil.copyfile(out / "train_and_plots.png", PICTURES / "train.png")


def _drive(out: Path) -> None:
    from Testing.host import start_host

    host = start_host()
    host.open_module("SemiSupSeg", MODULE)
    import slicer

    widget = slicer.util.getModuleWidget("SemiSupSeg")
    segment = widget.panel.segment
    grab = _grabber(host, out)
    grab("panel_empty")
    segment.try_it()
    _wait(host, lambda: segment.try_button.enabled)
    grab("panel_ready")
    segment.apply()
    _wait(host, lambda: segment.progress.value > 200 or segment.segmenting.is_ended)
    grab("panel_running")
    _wait(host, lambda: segment.segmenting.is_ended)
    _aim(slicer, widget.panel.state().result)
    grab("panel_result")
    grab("panel_result_2x", scale=2.0)
    grab("panel_result_dark", dark=True)
    view = host.slice_view("Red")
    view.resize(VIEW_PIXELS, VIEW_PIXELS)
    for index in range(segment.results.overlay_box.count):
        name = segment.results.overlay_box.itemData(index)
        if segment.results.overlays.missing(widget.panel.state().result, name):
            continue
        segment.results.overlay_box.setCurrentIndex(index)
        host.process_events()
        if name == "teacher_student":
            parts = []
            for tag in ("SemiSupSegTeacher", "SemiSupSegStudent"):
                one = host.slice_view(tag)
                one.resize(VIEW_PIXELS, VIEW_PIXELS)
                parts.append(one.png(out / f"view_{tag}.png"))
            _beside(parts, out / "view_teacher_student.png")
        else:
            view.png(out / f"view_{name}.png")
    segment.results.overlay_box.setCurrentIndex(segment.results.overlay_box.findData("contours"))
    grab("panel_contours")
    _beside([out / "panel_contours.png", out / "view_contours.png"], out / "panel_and_view.png")
    segment.results.overlay_box.setCurrentIndex(segment.results.overlay_box.findData("off"))
    segment.box.collapsed = True
    _review(host, widget.panel.review, view, grab, out)
    _show_setup(host, widget.panel.setup)
    grab("panel_setup")
    widget.panel.setup.box.collapsed = True
    widget.panel.models.box.collapsed = False
    widget.panel.models.import_model(segment.model_box.currentData)
    _wait(host, lambda: widget.panel.models.table.rowCount)
    widget.panel.models.select("Demonstration only")
    grab("panel_models")
    widget.logic.close()


def _review(host: object, review: object, view: object, grab: object, out: Path) -> None:
    """Begin a review, decide two regions, and draw in a third."""
    review.box.collapsed = False
    grab("panel_review_empty")
    review.reviewer_box.text = "reviewer-1"
    review.update()
    review.begin()
    _wait(host, lambda: review.opening is None)
    review.decide("confirmed")
    review.relabel()
    host.process_events()
    grab("panel_review")
    grab("panel_review_2x", scale=2.0)
    grab("panel_review_dark", dark=True)
    view.png(out / "view_review.png")
    _beside([out / "panel_review.png", out / "view_review.png"], out / "review_and_view.png")
    review.fix()
    host.process_events()
    grab("panel_review_fix")
    view.png(out / "view_review_fix.png")
    review.close()
    review.box.collapsed = True


def _grabber(host: object, out: Path) -> Callable[..., Path]:
    """Return what saves a picture of the panel, as wide as in a small Slicer."""
    panel = host.panel("SemiSupSeg")

    def grab(name: str, **options: object) -> Path:
        for _ in range(2):
            # Lines that wrap tell their height once they know their width.
            panel.resize(420, panel.sizeHint.height() if hasattr(panel, "sizeHint") else 900)
            host.spin(lambda: False, 0.3)
        return host.grab(panel, out / f"{name}.png", **options)

    return grab


def _train(out: Path) -> None:
    """Train in a session of two windows; the first one's process ends without a word."""
    for name in ("run", "phantoms"):
        shutil.rmtree(out / name, ignore_errors=True)
    for window in ("first", "second"):
        command = [sys.executable, __file__, str(out), "--window", window]
        code = subprocess.run(command, check=False).returncode
        if code != (_CRASHED if window == "first" else 0):
            raise RuntimeError(f"the {window} window has ended with {code}")


def _first_window(out: Path) -> None:
    """From an empty scene to a run that was paused, killed and resumed; then the window is gone."""
    from SemiSupSegLib.phantom.cohort import write_cohort
    from Testing.host import start_host

    host = start_host()
    host.open_module("SemiSupSeg", MODULE)
    import slicer

    train = slicer.util.getModuleWidget("SemiSupSeg").panel.train
    plan, run, grab = train.plan, train.run, _grabber(host, out)
    _unfold(slicer, train)
    grab("panel_train_empty")
    cohort = write_cohort(out / "phantoms", 28, 10, 2026, size=(64, 72, 56))
    train.cases.set_folder(cohort.cases)
    train.cases.scan()
    _wait(host, lambda: plan.plan is not None)
    plan.preset_box.setCurrentIndex(plan.preset_box.findData("fast_check"))
    for key, text in TRAINING.items():
        plan.options.set(key, text)
    plan.iterations_box.value = UPDATES
    plan.set_out(out / "run")
    _wait(host, lambda: plan.plan is not None and not plan.is_planning)
    # Its beginning is where this machine has Python.
    plan.command_edit.end(False)
    grab("session_planned")
    plan.options.depth_box.setCurrentIndex(plan.options.depth_box.findData("common"))
    grab("panel_train")
    grab("panel_train_2x", scale=2.0)
    grab("panel_train_dark", dark=True)
    plan.start()
    _wait(host, lambda: run.view.stages)
    _pause(host, run)
    grab("session_paused")
    run.pause_or_resume()
    _wait(host, lambda: len(run.view.stages) > 1)
    os.kill(json.loads((out / "run" / "state.json").read_text())["pid"], signal.SIGKILL)
    _wait(host, lambda: run.status_name == "dead")
    grab("session_killed")
    run.resume()
    _wait(host, lambda: run.status_name == "running")
    # A run of a minute might end before the next window is there.
    _pause(host, run)
    os._exit(_CRASHED)


def _second_window(out: Path) -> None:
    """The panel finds the run, which goes on to its end; what came of it."""
    from Testing.host import start_host

    host = start_host()
    import slicer

    # The stand-in has new settings each time; Slicer keeps them.
    slicer.app.userSettings().setValue("SemiSupSeg/TrainingRun", str(out / "run"))
    host.open_module("SemiSupSeg", MODULE)
    widget = slicer.util.getModuleWidget("SemiSupSeg")
    train, grab = widget.panel.train, _grabber(host, out)
    _unfold(slicer, train)
    for name in ("cases", "plan"):
        train.fold(name)
    _wait(host, lambda: train.run.status_name == "paused")
    grab("session_restarted")
    train.run.toggle_plots()
    train.run.pause_or_resume()
    _wait(host, lambda: train.run.status_name == "finished")
    _wait(host, lambda: train.outcome.outcome is not None)
    _wait(host, lambda: not train.outcome.is_comparing)
    _wait(host, lambda: train.outcome.registered)
    _wait(host, lambda: host.opened_urls)
    files = []
    for name in ("losses", "dice", "cases", "voxels"):
        one = host.plot_view(f"SemiSupSeg{name.capitalize()}")
        one.resize(VIEW_PIXELS, 360)
        files.append(one.png(out / f"plot_{name}.png"))
    grab("panel_train_finished")
    _beside(files[:2], out / "plots_above.png")
    _beside(files[2:], out / "plots_below.png")
    _below([out / "plots_above.png", out / "plots_below.png"], out / "plots.png")
    _beside([out / "panel_train_finished.png", out / "plots.png"], out / "train_and_plots.png")
    names = ("planned", "paused", "killed", "restarted")
    parts = [out / f"session_{name}.png" for name in names]
    _beside(parts[:2], out / "session_above.png")
    _beside(parts[2:], out / "session_below.png")
    _below([out / "session_above.png", out / "session_below.png"], out / "session.png")
    widget.logic.close()


def _unfold(slicer: object, train: object) -> None:
    panel = slicer.util.getModuleWidget("SemiSupSeg").panel
    panel.segment.box.collapsed = True
    train.box.collapsed = False
    # Without a name no stage's case is opened.
    panel.review.reviewer_box.text = "reviewer-1"
    panel.review.update()


def _pause(host: object, run: object) -> None:
    run.pause_or_resume()
    _wait(host, lambda: run.status_name == "paused")


def _wait(host: object, until: Callable[[], object]) -> None:
    """Process events until something is so: a picture of what is not so yet would be wrong."""
    if not host.spin(until, PATIENCE_SECONDS):
        raise TimeoutError(f"waited {PATIENCE_SECONDS:.0f} s in vain")


def _show_setup(host: object, setup: object) -> None:
    """Open Setup after a self-test."""
    setup.box.collapsed = False
    setup.test()
    _wait(host, lambda: setup.found is not None)


def _aim(slicer: object, result: object) -> None:
    """Show the middle of the oedema in all views."""
    centre = result.GetSegmentCenterRAS("edema")
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *centre, 1)


def _beside(files: list[Path], target: Path) -> None:
    """Put pictures side by side on white."""
    import numpy as np
    from matplotlib.image import imread, imsave

    images = [imread(file)[..., :3] for file in files]
    height = max(one.shape[0] for one in images)
    padded = [
        np.pad(one, ((0, height - one.shape[0]), (4, 4), (0, 0)), constant_values=1.0)
        for one in images
    ]
    imsave(target, np.concatenate(padded, axis=1))


def _below(files: list[Path], target: Path) -> None:
    """Put pictures of one width below each other."""
    import numpy as np
    from matplotlib.image import imread, imsave

    imsave(target, np.concatenate([imread(file)[..., :3] for file in files]))


if __name__ == "__main__":
    main()
