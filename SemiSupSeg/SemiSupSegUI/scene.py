"""The nodes of a result: made, found again, replaced and removed here and nowhere else.

All stand in one subject-hierarchy folder. The segmentation refers to the others, so that they are
found after the scene was saved and loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import slicer
import vtk
from slicer.i18n import tr as _

from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.resources import color_map
from SemiSupSegUI.exporting import Grid
from SemiSupSegUI.loading import load_in_pieces
from SemiSupSegUI.nodes import new_node, remove_node
from SemiSupSegUI.previous import keep_previous
from SemiSupSegUI.segments import (
    bit,
    comparison_entries,
    entries,
    fill,
    fingerprint,
    image_of,
)
from SemiSupSegUI.table import fill_table

ROLE = "SemiSupSeg.role"
MODEL = "SemiSupSeg.model"
RESULT = "SemiSupSeg.result"
INPUTS = "SemiSupSeg.inputs"
"""Of a result that was loaded from a folder: the hash of its images. The id of one that was
segmented here holds it."""
FOLDER = "SemiSupSeg.folder"
FINGERPRINT = "SemiSupSeg.fingerprint"
REFERENCE = "SemiSupSeg.reference"

SCALARS = ("uncertainty", "confidence", "agreement", "trust")
"""Maps that are volumes, 0 to 1."""


@dataclass
class Result:
    """What a worker handed over, on its way into the scene.

    Args:
        folder: Of the job; `maps/*.npy` lie there.
        content: Of its `result.json`.
        task: Names, colours and codes of the classes.
        grid: Where the voxels lie.
        reference: The volume node of the first channel.
        output: A segmentation to write to; None: a new one.
        name: Of the case, for the folder in the subject hierarchy.
        previous: Folder for what the output holds now.
    """

    folder: Path
    content: Mapping
    task: Task
    grid: Grid
    reference: object
    output: object | None
    name: str
    previous: Path
    edition: str | None = None
    """Fingerprint of the output when somebody agreed to its replacement."""
    spared: object | None = None
    """The output, if a person has changed it since: then the result is a new segmentation."""
    segmentation: object | None = None
    made: list = field(default_factory=list)
    """Nodes that were new."""

    def steps(self) -> Iterator[None]:
        """Make or replace one node at a step; if that is broken off, what was made goes again."""
        done = False
        try:
            yield from self._all()
            done = True
        finally:
            if not done:
                for node in self.made:
                    remove_node(node)

    def _all(self) -> Iterator[None]:
        labels = yield from self._load("label")
        yield
        self._spare_what_was_changed()
        if self.output is not None and self.output.GetSegmentation().GetNumberOfSegments():
            yield from keep_previous(self.output, self.previous)
            yield
            self._spare_what_was_changed()
        self._make_segmentation(labels)
        yield
        for name in (*SCALARS, "distance"):
            values = yield from self._load(name)
            if values is not None:
                yield
                self._make_volume(name, values)
                yield
        classes = self.task.classes
        for name, title in (
            ("pseudo_label", _("teacher's pseudo-label")),
            ("comparison", _("teacher and student")),
        ):
            values = yield from self._load(name)
            if values is not None:
                yield
                named = comparison_entries() if name == "comparison" else entries(classes)
                self._make_overlay(name, title, [(values, named)])
                yield
        for name, title in (("sure", _("sure contours")), ("possible", _("possible contours"))):
            bits = yield from self._load(name)
            if bits is None:
                continue
            yield
            # Possible places of several classes overlap: each class has a layer of its own.
            layers = []
            for number, one in enumerate(classes):
                layers.append((bit(bits, number), [(1, one)]))
                yield
            self._make_overlay(name, title, layers)
            yield
        self._make_table()
        yield
        self.segmentation.SetAttribute(FINGERPRINT, fingerprint(self.segmentation))

    def _load(self, name: str) -> Iterator[None]:
        file = self.content["maps"].get(name)
        return None if file is None else (yield from load_in_pieces(self.folder / file))

    def _spare_what_was_changed(self) -> None:
        if self.output is None or self.edition in (None, fingerprint(self.output)):
            return
        self.spared, self.output = self.output, None

    def _make_segmentation(self, labels) -> None:
        node = self.output
        if node is None:
            node = self._new("vtkMRMLSegmentationNode", _("{name} segmentation"))
        # One that somebody has just made may have none.
        node.CreateDefaultDisplayNodes()
        self.segmentation = node
        self._place(node)
        fill(node, [(labels, entries(self.task.classes))], self.grid.ijk_to_ras)
        node.SetNodeReferenceID(REFERENCE, self.reference.GetID())
        node.SetAttribute(ROLE, "segmentation")
        node.SetAttribute(RESULT, self.content["case"])
        node.SetAttribute(MODEL, self.content["model"]["sha256"])
        node.RemoveAttribute(INPUTS)
        put_into_folder(node, self._folder_item())

    def _make_volume(self, name: str, values) -> None:
        node = self._existing(name)
        if node is None:
            title = name if name in SCALARS else _("distance from the result (mm)")
            node = self._new("vtkMRMLScalarVolumeNode", "{name} " + title)
            node.CreateDefaultDisplayNodes()
            if name in SCALARS:
                prepare_display(node, name)
            self._refer(name, node)
        node.SetIJKToRASMatrix(self.grid.ijk_to_ras)
        node.SetAndObserveImageData(image_of(values))
        node.SetAndObserveTransformNodeID(self.grid.transform_id)
        put_into_folder(node, self._folder_item())

    def _make_overlay(self, name: str, title: str, layers: list) -> None:
        node = self._existing(name)
        if node is None:
            node = self._new("vtkMRMLSegmentationNode", "{name} " + title)
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().SetVisibility(False)
            self._refer(name, node)
        self._place(node)
        fill(node, layers, self.grid.ijk_to_ras)
        put_into_folder(node, self._folder_item())

    def _make_table(self) -> None:
        table = self._existing("table")
        if table is None:
            table = self._new("vtkMRMLTableNode", _("{name} results"))
            self._refer("table", table)
        fill_table(table, self.content, self.task)
        put_into_folder(table, self._folder_item())

    def _place(self, node) -> None:
        node.SetAndObserveTransformNodeID(self.grid.transform_id)
        node.SetReferenceImageGeometryParameterFromVolumeNode(self.reference)

    def _new(self, node_class: str, name: str):
        # Overlays are found by the reference to them; names are for people.
        node = new_node(node_class, name.format(name=self.name))
        self.made.append(node)
        return node

    def _existing(self, role: str):
        return overlay_node(self.segmentation, role)

    def _refer(self, role: str, node) -> None:
        node.SetAttribute(ROLE, role)
        self.segmentation.SetNodeReferenceID("SemiSupSeg." + role, node.GetID())

    def _folder_item(self) -> int:
        return folder_item(self.reference, self.name)


def display_of(node):
    """Return the display node of a result's segmentation or map; one that was removed is made."""
    is_map = node.IsA("vtkMRMLVolumeNode")
    display = node.GetVolumeDisplayNode() if is_map else node.GetDisplayNode()
    if display is None:
        # A legend that is left alone would be taken for it.
        for index in reversed(range(node.GetNumberOfDisplayNodes())):
            remove_node(node.GetNthDisplayNode(index))
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        if is_map:
            prepare_display(node, (node.GetAttribute(ROLE) or "").removeprefix("near."))
    return display


def prepare_display(volume, name: str) -> None:
    """Give a map its colours and its fixed range."""
    display = volume.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 1.0)
    display.SetInterpolate(False)
    display.SetAndObserveColorNodeID(color_node(name).GetID())


def show_copy(segmentation, name: str, near_mm: float):
    """Return a copy of a map that is drawn near the result only; the map itself stays whole.

    Args:
        segmentation: Of the result.
        name: Of the map.
        near_mm: Voxels farther from the result than this are not drawn.
    """
    import numpy as np

    volume, distance = overlay_node(segmentation, name), overlay_node(segmentation, "distance")
    copy = overlay_node(segmentation, "near." + name)
    if copy is None:
        name_of_copy = volume.GetName() + " " + _("near the result")
        copy = new_node("vtkMRMLScalarVolumeNode", name_of_copy, hidden=True)
        copy.SetSaveWithScene(False)
        copy.SetAttribute(ROLE, "near." + name)
        copy.CreateDefaultDisplayNodes()
        copy.GetDisplayNode().SetSaveWithScene(False)
        prepare_display(copy, name)
        segmentation.SetNodeReferenceID("SemiSupSeg.near." + name, copy.GetID())
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    copy.SetIJKToRASMatrix(matrix)
    copy.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    # -1 lies outside every threshold.
    values = np.where(
        slicer.util.arrayFromVolume(distance) <= near_mm,
        slicer.util.arrayFromVolume(volume),
        np.float32(-1),
    )
    copy.SetAndObserveImageData(image_of(values))
    return copy


def overlay_node(segmentation, role: str):
    """Return the node of a map that belongs to a result's segmentation, or None."""
    return None if segmentation is None else segmentation.GetNodeReference("SemiSupSeg." + role)


def reference_node(segmentation):
    """Return the volume on whose grid a result lies, or None."""
    return None if segmentation is None else segmentation.GetNodeReference(REFERENCE)


def ijk_to_ras(segmentation) -> vtk.vtkMatrix4x4:
    """Return the matrix from voxel index to the RAS in which a result's nodes lie, in mm."""
    matrix = vtk.vtkMatrix4x4()
    overlay_node(segmentation, "confidence").GetIJKToRASMatrix(matrix)
    return matrix


def results() -> list:
    """Return the segmentations of all results in the scene."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in nodes if node.GetAttribute(ROLE) == "segmentation"]


def result_of_case(case: str):
    """Return the segmentation of a case's result in the scene, or None."""
    return next((node for node in results() if node.GetAttribute(RESULT) == case), None)


def results_of(reference) -> list:
    """Return the segmentations of results on a reference volume."""
    return [node for node in results() if reference_node(node) is reference]


def folder_item(reference, name: str) -> int:
    """Return the subject-hierarchy folder of a reference volume's results, made if need be.

    It stands beside the volume, in its study: DICOM export asks for that.
    """
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    for result in results_of(reference):
        item = hierarchy.GetItemByDataNode(result)
        parent = hierarchy.GetItemParent(item) if item else 0
        if parent and hierarchy.GetItemAttribute(parent, FOLDER):
            return parent
    own = hierarchy.GetItemByDataNode(reference)
    parent = hierarchy.GetItemParent(own) if own else hierarchy.GetSceneItemID()
    item = hierarchy.CreateFolderItem(parent, _("SemiSupSeg - {name}").format(name=name))
    hierarchy.SetItemAttribute(item, FOLDER, "true")
    return item


def folder_of(result) -> int:
    """Return the subject-hierarchy folder that a result stands in."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    return hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result))


def put_into_folder(node, folder: int) -> None:
    """Move a node's item into a folder."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(folder, node)
    if hierarchy.GetItemParent(item) != folder:
        hierarchy.SetItemParent(item, folder)


def is_overlay(node) -> bool:
    """Return whether a node was made to be drawn over a result, and is none itself."""
    return node.GetAttribute(ROLE) not in (None, "segmentation")


def is_edited(segmentation) -> bool:
    """Return whether a person has changed a result since it was made."""
    made = segmentation.GetAttribute(FINGERPRINT)
    return made is None or made != fingerprint(segmentation)


def color_node(name: str):
    """Return the colour node of a map, made once a scene from Resources/ColorMaps."""
    role = "colors." + name
    for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode"):
        if node.GetAttribute(ROLE) == role:
            return node
    colors = color_map(name)["colors"]
    node = slicer.vtkMRMLColorTableNode()
    node.SetTypeToUser()
    node.SetName("SemiSupSeg " + name)
    # The dialog that saves a scene's files passes hidden nodes over.
    node.SetHideFromEditors(False)
    node.SetNumberOfColors(len(colors))
    for index, color in enumerate(colors):
        red, green, blue = (part / 255 for part in color)
        node.SetColor(index, f"{index / (len(colors) - 1):.2f}", red, green, blue, 1.0)
    node.SetAttribute(ROLE, role)
    node.SetAttribute("Category", "SemiSupSeg")
    return slicer.mrmlScene.AddNode(node)
