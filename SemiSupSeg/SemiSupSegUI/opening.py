"""A result folder on its way into the scene, to be reviewed; needs no widget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import slicer
import vtk
from slicer.i18n import tr as _

from SemiSupSegLib.cases.geometry import geometry_from_json
from SemiSupSegLib.cases.task import Task, task_from_json
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.review.outbox import outbox
from SemiSupSegLib.runs.state import RunStatus
from SemiSupSegLib.workers.job import JobFolder
from SemiSupSegLib.workers.opening import REVIEW_JSON
from SemiSupSegLib.workers.runner import Job
from SemiSupSegUI import scene
from SemiSupSegUI.drawing import Drawing
from SemiSupSegUI.exporting import Grid
from SemiSupSegUI.jobs import Jobs, Steps, clean_up, log_tail
from SemiSupSegUI.loading import load_in_pieces
from SemiSupSegUI.nodes import new_node, remove_node
from SemiSupSegUI.reviewing import ReviewSession
from SemiSupSegUI.segments import image_of

REVIEW_ROLE = "review"


class Opening:
    """Lets a worker read a result and begin the record, and brings what it hands over into view.

    Args:
        jobs: Drives all of it.
        folder: The result, OUT/<case>.
        reviewer: Alias.
        job_folder: New, for the job's files.
        result: Segmentation node of the result if it is in the scene, else None.
        sensitivity: Position of the slider, if other regions shall be listed.
        is_anew: Whether a former review is moved aside.
        on_opened: Gets the session, and the nodes that were loaded for it.
        on_error: Gets what went wrong, and the worker's last words.
    """

    def __init__(
        self,
        jobs: Jobs,
        folder: Path,
        reviewer: str,
        job_folder: Path,
        *,
        result=None,
        sensitivity: float | None = None,
        is_anew: bool = False,
        on_opened: Callable[[ReviewSession, list], None],
        on_error: Callable[[str, str], None],
    ) -> None:
        self._jobs, self._folder = jobs, folder
        self._result = result
        self._on_opened, self._on_error = on_opened, on_error
        self._job_folder = JobFolder(job_folder)
        self._loaded: list = []
        self._session: ReviewSession | None = None
        self._steps: Steps | None = None
        self.is_ended = False
        words = ["review", "open", "--result", str(folder), "--reviewer", reviewer]
        words += ["--job", str(job_folder)]
        if sensitivity is not None:
            words += ["--sensitivity", f"{sensitivity:g}"]
        words += ["--anew"] if is_anew else []
        words += ["--has-scene"] if result is not None else []
        self._job = jobs.run(job_folder, words, self._changed)

    def cancel(self) -> None:
        """Leave it; nothing stays in the scene. What the worker has begun on the disk stays."""
        if self.is_ended:
            return
        self.is_ended = True
        if not self._job.is_ended:
            self._jobs.cancel(self._job)
        if self._steps is not None:
            self._steps.cancel()

    def _changed(self, job: Job) -> None:
        if self.is_ended or not job.is_ended:
            return
        if job.state.status is RunStatus.FINISHED:
            self._steps = self._jobs.do(self._bring(), self._brought)
        else:
            error = job.state.error or _("The worker said nothing.")
            self._end(error, log_tail(self._job_folder))

    def _brought(self, error: Exception | None) -> None:
        if error is None and self._session is not None:
            self._end("", "")
            self._on_opened(self._session, self._loaded)
        else:
            self._end(str(error or _("Nothing was opened.")), "")

    def _end(self, error: str, log: str) -> None:
        self.is_ended = True
        self._jobs.do(clean_up(self._job_folder.path), lambda error: None)
        if error:
            self._on_error(error, log)

    def _bring(self) -> Iterator[None]:
        content = read_json(self._job_folder.result_json)
        check_format(content, "job-result", self._job_folder.result_json)
        told = read_json(self._job_folder.path / REVIEW_JSON)
        check_format(told, "review-opened", self._job_folder.path / REVIEW_JSON)
        task = task_from_json(told["task"], self._folder)
        done = False
        try:
            if self._result is not None and not is_there(self._result):
                raise SemiSupSegError(
                    _(
                        "The result of {case} was removed from the scene while it was opened. Open "
                        "its folder again: {folder}"
                    ).format(case=content["case"], folder=self._folder)
                )
            if self._result is not None and not _is_same(self._result, content, told):
                raise SemiSupSegError(
                    _(
                        "The scene holds another result of {case} than {folder}: of other images, "
                        "of another model, or on another grid. Remove it from the scene, and open "
                        "the folder again."
                    ).format(case=content["case"], folder=self._folder)
                )
            if self._result is None:
                yield from self._bring_result(content, told, task)
            label = yield from self._load(content, "label")
            yield
            regions = yield from self._load(content, "regions")
            yield
            node = self._copy_to_edit(content["case"])
            drawing = Drawing(node, task.classes, label, scene.ijk_to_ras(self._result))
            yield
            drawing.begin()
            yield
            self._session = ReviewSession(
                self._folder,
                outbox(Path(told["outbox"])),
                result=self._result,
                drawing=drawing,
                regions_map=regions,
            )
            self._session.aside = tuple(told["aside"])
            self._session.missing_images = tuple(told["missing_images"])
            self._session.is_of_other_result = told["is_of_other_result"]
            self._session.sensitivity = told["sensitivity"]
            done = True
        finally:
            if not done:
                remove(self._loaded)

    def _bring_result(self, content: dict, told: dict, task: Task) -> Iterator[None]:
        grid = _grid(content["grid"])
        reference = None
        for channel, one in told["images"].items():
            values = yield from self._array(one["file"])
            yield
            node = new_node("vtkMRMLScalarVolumeNode", f"{content['case']} {channel}")
            self._loaded.append(node)
            node.SetIJKToRASMatrix(_grid(one["grid"]).ijk_to_ras)
            node.SetAndObserveImageData(image_of(values))
            node.CreateDefaultDisplayNodes()
            reference = reference or node
            yield
        if reference is None:
            reference = self._empty_image(content["case"], grid)
        result = scene.Result(
            self._job_folder.path,
            content,
            task,
            grid,
            reference,
            None,
            content["case"],
            self._folder / "previous",
        )
        try:
            yield from result.steps()
        finally:
            self._loaded += result.made
        self._result = result.segmentation
        self._result.SetAttribute(scene.INPUTS, told["inputs_sha256"])
        slicer.util.setSliceViewerLayers(background=reference, fit=True)

    def _empty_image(self, case: str, grid: Grid):
        """Return a volume of nothing, on which to show a result whose images are not there."""
        import numpy as np

        node = new_node("vtkMRMLScalarVolumeNode", _("{case} (no image)").format(case=case))
        self._loaded.append(node)
        node.SetIJKToRASMatrix(grid.ijk_to_ras)
        node.SetAndObserveImageData(image_of(np.zeros(tuple(reversed(grid.size)), np.uint8)))
        node.CreateDefaultDisplayNodes()
        return node

    def _copy_to_edit(self, case: str):
        node = scene.overlay_node(self._result, REVIEW_ROLE)
        if node is None:
            node = new_node("vtkMRMLSegmentationNode", _("{case} review").format(case=case))
            self._loaded.append(node)
            node.CreateDefaultDisplayNodes()
            node.SetAttribute(scene.ROLE, REVIEW_ROLE)
            # What was decided is on the disk; a scene keeps the result as it was.
            node.SetSaveWithScene(False)
            node.GetDisplayNode().SetSaveWithScene(False)
            self._result.SetNodeReferenceID("SemiSupSeg." + REVIEW_ROLE, node.GetID())
        grid = scene.overlay_node(self._result, "confidence")
        node.SetAndObserveTransformNodeID(grid.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(grid)
        scene.put_into_folder(node, scene.folder_of(self._result))
        return node

    def _load(self, content: dict, name: str) -> Iterator[None]:
        file = content["maps"].get(name)
        return None if file is None else (yield from self._array(file))

    def _array(self, file: str) -> Iterator[None]:
        return load_in_pieces(self._job_folder.path / file)


def remove(nodes: list) -> None:
    """Remove nodes that are still in the scene."""
    for node in nodes:
        remove_node(node)


def result_in_scene(case: str):
    """Return a result of a case that can be reviewed where it is, or None."""
    node = scene.result_of_case(case)
    if node is None or scene.overlay_node(node, "confidence") is None:
        return None
    return node if scene.reference_node(node) is not None else None


def is_there(result) -> bool:
    """Return whether a result is in the scene, with the map that tells its grid."""
    is_present = slicer.mrmlScene.IsNodePresent(result)
    return bool(is_present) and scene.overlay_node(result, "confidence") is not None


def _is_same(result, content: dict, told: dict) -> bool:
    """Return whether a result in the scene is the one that the worker has opened."""
    grid = _grid(content["grid"])
    size = scene.overlay_node(result, "confidence").GetImageData().GetDimensions()
    has_model = told["is_of_other_result"] or (
        result.GetAttribute(scene.MODEL) == content["model"]["sha256"]
    )
    is_case = result.GetAttribute(scene.RESULT) == content["case"]
    has_images = result.GetAttribute(scene.INPUTS) in (None, told["inputs_sha256"])
    return is_case and has_images and has_model and tuple(size) == tuple(grid.size)


def _grid(content: dict) -> Grid:
    """Return a grid as Slicer has it: RAS, while files of the library are in LPS."""
    geometry = geometry_from_json(content)
    matrix = vtk.vtkMatrix4x4()
    lps = geometry.index_to_lps()
    for row in range(4):
        sign = -1.0 if row < 2 else 1.0
        for column in range(4):
            matrix.SetElement(row, column, sign * float(lps[row, column]))
    return Grid(matrix, geometry.size, transform_id=None)
