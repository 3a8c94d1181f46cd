"""Drive the panel as a user does, on the stand-in for Slicer, and save what there is to see.

PYTHONPATH=. .venv/bin/python docs/make_panel_pictures.py out/panel

The made-up case and its model are those that *Try it on a made-up case* loads. With `--readme` the
picture that README and catalog show is renewed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

PICTURES = Path(__file__).resolve().parent / "pictures"
MODULE = Path(__file__).resolve().parents[1] / "SemiSupSeg" / "SemiSupSeg.py"
PATIENCE_SECONDS = 300.0
VIEW_PIXELS = 480


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
    host.spin(lambda: segment.try_button.enabled, PATIENCE_SECONDS)
    grab("panel_ready")
    segment.apply()
    host.spin(lambda: segment.progress.value > 200, PATIENCE_SECONDS)
    grab("panel_running")
    host.spin(lambda: segment.segmenting.is_ended, PATIENCE_SECONDS)
    _aim(slicer, widget.panel.state().result)
    grab("panel_result")
    grab("panel_result_2x", scale=2.0)
    grab("panel_result_dark", dark=True)
    view = host.slice_view("Red")
    view.resize(VIEW_PIXELS, VIEW_PIXELS)
    for index in range(segment.results.overlay_box.count):
        name = segment.results.overlay_box.itemData(index)
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
    host.spin(lambda: widget.panel.models.table.rowCount, PATIENCE_SECONDS)
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
    host.spin(lambda: review.opening is None, PATIENCE_SECONDS)
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


def _show_setup(host: object, setup: object) -> None:
    """Open Setup after a self-test."""
    setup.box.collapsed = False
    setup.test()
    host.spin(lambda: setup.found is not None, PATIENCE_SECONDS)


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


if __name__ == "__main__":
    main()
