"""Drive the panel as a user does, on the stand-in for Slicer, and save what there is to see.

    python docs/make_panel_pictures.py out/panel

The made-up case and its model are those that *Try it on a made-up case* loads. With `--readme` the
picture that README and catalog show is renewed.
"""

from __future__ import annotations

import argparse
import os
import shutil
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
TRAINING = {
    "network.options.width": "4",
    "pseudo_labels.passes": "2",
    "training.patch_size": "[32, 32, 32]",
    "training.validate_every": "20",
}
"""Of a run that takes a minute or two."""


def main() -> None:
    """Write one picture of each overlay and of the panel in its states."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--readme", action="store_true", help="renew docs/pictures/panel.png too")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ["SEMISUPSEG_HOME"] = home
        _drive(out)
    if arguments.readme:
        shutil.copyfile(out / "panel_and_view.png", PICTURES / "panel.png")
        shutil.copyfile(out / "train_and_plots.png", PICTURES / "train.png")


def _drive(out: Path) -> None:
    from Testing.host import start_host

    host = start_host()
    host.open_module("SemiSupSeg", MODULE)
    import slicer

    widget = slicer.util.getModuleWidget("SemiSupSeg")
    segment = widget.panel.segment
    panel = host.panel("SemiSupSeg")

    def grab(name: str, **options: object) -> Path:
        panel.resize(420, panel.sizeHint.height() if hasattr(panel, "sizeHint") else 900)
        return host.grab(panel, out / f"{name}.png", **options)

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
    _train(host, widget.panel.train, grab, out)
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


def _train(host: object, train: object, grab: object, out: Path) -> None:
    """Train on made-up brains: the cases, the plan, the run with its curves, the outcome."""
    from SemiSupSegLib.phantom.cohort import write_cohort

    train.box.collapsed = False
    grab("panel_train_empty")
    cohort = write_cohort(out / "phantoms", 16, 8, 3, size=(48, 52, 44))
    train.cases.set_folder(cohort.cases)
    train.cases.scan()
    _wait(host, lambda: train.plan.plan is not None)
    plan = train.plan
    plan.preset_box.setCurrentIndex(plan.preset_box.findData("fast_check"))
    plan.options.depth_box.setCurrentIndex(plan.options.depth_box.findData("common"))
    for key, text in TRAINING.items():
        plan.options.set(key, text)
    _wait(host, lambda: plan.plan is not None and not plan.is_planning)
    grab("panel_train")
    grab("panel_train_2x", scale=2.0)
    grab("panel_train_dark", dark=True)
    plan.iterations_box.value = 110
    plan.set_out(out / "run")
    _wait(host, lambda: plan.plan is not None and not plan.is_planning)
    plan.start()
    _wait(host, lambda: len(train.run.view.stages) > 2)
    train.run.pause_or_resume()
    _wait(host, lambda: train.run.status_name == "paused")
    train.run.toggle_plots()
    for name in ("cases", "plan"):
        train.fold(name)
    grab("panel_train_run")
    train.run.pause_or_resume()
    _wait(host, lambda: train.run.status_name == "finished")
    _wait(host, lambda: train.outcome.outcome is not None)
    _wait(host, lambda: not train.outcome.is_comparing)
    _wait(host, lambda: train.outcome.registered)
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
    train.run.toggle_plots()
    train.box.collapsed = True


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
