"""The nodes of a result: made, found again, replaced and removed here and nowhere else.

All stand in one subject-hierarchy folder. The segmentation refers to the others, so that they are
found after the scene was saved and loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import slicer
import vtk
from slicer.i18n import tr as _

from SemiSupSegLib.cases.task import Class, Task
from SemiSupSegLib.resources import color_map
from SemiSupSegUI.exporting import Grid

ROLE = "SemiSupSeg.role"
MODEL = "SemiSupSeg.model"
RESULT = "SemiSupSeg.result"
FOLDER = "SemiSupSeg.folder"
FINGERPRINT = "SemiSupSeg.fingerprint"
REFERENCE = "SemiSupSeg.reference"

SCALARS = ("uncertainty", "confidence", "agreement")
"""Maps that are volumes, 0 to 1."""
CONTOURS = ("sure", "possible")
_BINARY = "Binary labelmap"


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
    """

    folder: Path
    content: Mapping
    task: Task
    grid: Grid
    reference: object
    output: object | None
    name: str
    segmentation: object | None = None
    _made: list = field(default_factory=list)

    def steps(self) -> Iterator[None]:
        """Make or replace one node at a step; if that is broken off, what was made goes again."""
        done = False
        try:
            yield from self._all()
            done = True
        finally:
            if not done:
                for node in self._made:
                    if slicer.mrmlScene.IsNodePresent(node):
                        slicer.mrmlScene.RemoveNode(node)

    def _all(self) -> Iterator[None]:
        labels = self._load("label")
        yield
        self._make_segmentation(labels)
        yield
        for name in SCALARS:
            values = self._load(name)
            if values is not None:
                yield
                self._make_volume(name, values)
                yield
        classes = self.task.classes
        for name, title in (
            ("pseudo_label", _("teacher's pseudo-label")),
            ("comparison", _("teacher and student")),
        ):
            values = self._load(name)
            if values is not None:
                yield
                entries = _comparison_entries() if name == "comparison" else _entries(classes)
                self._make_overlay(name, title, [(values, entries)])
                yield
        for name, title in (("sure", _("sure contours")), ("possible", _("possible contours"))):
            bits = self._load(name)
            if bits is None:
                continue
            yield
            # Possible places of several classes overlap: each class has a layer of its own.
            layers = []
            for number, one in enumerate(classes):
                layers.append((_bit(bits, number), [(1, one)]))
                yield
            self._make_overlay(name, title, layers)
            yield
        self._make_table()
        self.segmentation.SetAttribute(FINGERPRINT, fingerprint(self.segmentation))

    def _load(self, name: str):
        import numpy as np

        file = self.content["maps"].get(name)
        return None if file is None else np.load(self.folder / file, allow_pickle=False)

    def _make_segmentation(self, labels) -> None:
        node = self.output
        if node is None:
            node = self._new("vtkMRMLSegmentationNode", _("{name} segmentation"))
            node.CreateDefaultDisplayNodes()
        self.segmentation = node
        self._place(node)
        self._fill(node, [(labels, _entries(self.task.classes))])
        node.SetNodeReferenceID(REFERENCE, self.reference.GetID())
        node.SetAttribute(ROLE, "segmentation")
        node.SetAttribute(RESULT, self.content["case"])
        node.SetAttribute(MODEL, self.content["model"]["sha256"])
        put_into_folder(node, self._folder_item())

    def _make_volume(self, name: str, values) -> None:
        node = self._existing(name)
        if node is None:
            node = self._new("vtkMRMLScalarVolumeNode", "{name} " + name)
            node.CreateDefaultDisplayNodes()
            display = node.GetDisplayNode()
            display.AutoWindowLevelOff()
            display.SetWindowLevelMinMax(0.0, 1.0)
            display.SetInterpolate(False)
            display.SetAndObserveColorNodeID(color_node(name).GetID())
            self._refer(name, node)
        node.SetIJKToRASMatrix(self.grid.ijk_to_ras)
        node.SetAndObserveImageData(_image(values))
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
        self._fill(node, layers)
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

    def _fill(self, node, layers: list) -> None:
        """Replace the node's segments of these names; others, which are the user's, stay."""
        segmentation = node.GetSegmentation()
        segmentation.SetSourceRepresentationName(_BINARY)
        before = node.StartModify()
        try:
            for values, entries in layers:
                image = _cropped(values, self.grid.ijk_to_ras)
                for value, one in entries:
                    if segmentation.GetSegment(one.name) is not None:
                        segmentation.RemoveSegment(one.name)
                    segmentation.AddSegment(_segment(one, value, image), one.name)
        finally:
            node.EndModify(before)

    def _new(self, node_class: str, name: str):
        # Overlays are found by the reference to them; names are for people.
        node = slicer.mrmlScene.AddNewNodeByClass(node_class, name.format(name=self.name))
        self._made.append(node)
        return node

    def _existing(self, role: str):
        return overlay_node(self.segmentation, role)

    def _refer(self, role: str, node) -> None:
        node.SetAttribute(ROLE, role)
        self.segmentation.SetNodeReferenceID("SemiSupSeg." + role, node.GetID())

    def _folder_item(self) -> int:
        return folder_item(self.reference, self.name)


def overlay_node(segmentation, role: str):
    """Return the node of a map that belongs to a result's segmentation, or None."""
    return None if segmentation is None else segmentation.GetNodeReference("SemiSupSeg." + role)


def reference_node(segmentation):
    """Return the volume on whose grid a result lies, or None."""
    return None if segmentation is None else segmentation.GetNodeReference(REFERENCE)


def results_of(reference) -> list:
    """Return the segmentations of results on a reference volume."""
    return [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        if node.GetAttribute(ROLE) == "segmentation" and reference_node(node) is reference
    ]


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


def put_into_folder(node, folder: int) -> None:
    """Move a node's item into a folder."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(folder, node)
    if hierarchy.GetItemParent(item) != folder:
        hierarchy.SetItemParent(item, folder)


def remove_result(segmentation) -> None:
    """Remove a result with all that belongs to it."""
    nodes = [overlay_node(segmentation, role) for role in _all_roles()]
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(segmentation)
    folder = hierarchy.GetItemParent(item) if item else 0
    for node in (*nodes, segmentation):
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)
    if folder and hierarchy.GetItemAttribute(folder, FOLDER):
        children = vtk.vtkIdList()
        hierarchy.GetItemChildren(folder, children)
        if children.GetNumberOfIds() == 0:
            hierarchy.RemoveItem(folder)


def fingerprint(segmentation) -> str:
    """Return a hash of what is drawn in a segmentation; it changes when somebody edits it."""
    import numpy as np

    content = segmentation.GetSegmentation()
    found = hashlib.blake2b(digest_size=8)
    for index in range(content.GetNumberOfSegments()):
        identity = content.GetNthSegmentID(index)
        segment = content.GetSegment(identity)
        image = segment.GetRepresentation(_BINARY)
        found.update(identity.encode())
        if image is None or image.GetPointData().GetScalars() is None:
            continue
        extent = image.GetExtent()
        values = _array(image) == segment.GetLabelValue()
        where = [np.flatnonzero(values.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        if any(one.size == 0 for one in where):
            continue
        box = tuple(slice(one[0], one[-1] + 1) for one in where)
        first = [int(one[0]) + extent[2 * axis] for one, axis in zip(where, (2, 1, 0), strict=True)]
        found.update(json.dumps([first, [int(part.stop - part.start) for part in box]]).encode())
        found.update(np.packbits(values[box]).tobytes())
    return found.hexdigest()


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
    node.SetNumberOfColors(len(colors))
    for index, color in enumerate(colors):
        red, green, blue = (part / 255 for part in color)
        node.SetColor(index, f"{index / (len(colors) - 1):.2f}", red, green, blue, 1.0)
    node.SetAttribute(ROLE, role)
    node.SetAttribute("Category", "SemiSupSeg")
    return slicer.mrmlScene.AddNode(node)


def fill_table(table, content: Mapping, task: Task) -> None:
    """Write volumes and confidence per class and region into a table node, as text for people.

    What is not known is empty. `case.json` has all digits.
    """
    titles = (_("Name"), _("mL"), _("mL, from - to"), _("Confidence"), _("Teacher-student Dice"))
    columns = [vtk.vtkStringArray() for _title in titles]
    dice = content.get("teacher_student_dice") or {}
    for name in task.targets:
        volume = content["volumes_ml"].get(name, {})
        low, high = _number(volume.get("low"), 1), _number(volume.get("high"), 1)
        cells = (
            name,
            _number(volume.get("value"), 1),
            f"{low} - {high}" if low and high else "",
            _number(content["confidence"].get(name), 2),
            _number(dice.get(name), 2),
        )
        for column, text in zip(columns, cells, strict=True):
            column.InsertNextValue(text)
    before = table.StartModify()
    try:
        table.RemoveAllColumns()
        for title, column in zip(titles, columns, strict=True):
            column.SetName(title)
            table.AddColumn(column)
        table.SetLocked(True)
    finally:
        table.EndModify(before)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _all_roles() -> tuple[str, ...]:
    return (*SCALARS, "pseudo_label", "comparison", *CONTOURS, "table")


def _entries(classes: tuple[Class, ...]) -> list[tuple[int, Class]]:
    return list(enumerate(classes, start=1))


def _comparison_entries() -> list[tuple[int, Class]]:
    return [
        (one["value"], Class(name=one["name"], values=(one["value"],), color=tuple(one["color"])))
        for one in color_map("comparison")["entries"]
        if one["value"]
    ]


def _segment(one: Class, value: int, image):
    segment = slicer.vtkSegment()
    segment.SetName(one.name)
    segment.SetColor(*(part / 255 for part in one.color))
    segment.SetLabelValue(value)
    segment.AddRepresentation(_BINARY, image)
    if one.code:
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), _terminology(one))
    return segment


def _terminology(one: Class) -> str:
    """Return a class's codes in the form that Slicer keeps them in."""

    def code(kind: str) -> str:
        found = one.code.get(kind)
        return "^".join((found["scheme"], found["value"], found["meaning"])) if found else "^^"

    return "~".join(
        (
            "Segmentation category and type - DICOM master list",
            code("category"),
            code("type"),
            code("modifier"),
            "Anatomic codes - DICOM master list",
            code("anatomy"),
            "^^",
        )
    )


def _bit(bits, number: int):
    import numpy as np

    return ((bits >> np.uint8(number)) & np.uint8(1)).astype(np.uint8)


def _cropped(values, ijk_to_ras: vtk.vtkMatrix4x4):
    """Return the part of a label map that is not 0 as an image at its place.

    Args:
        values: Whole numbers, (D, H, W).
        ijk_to_ras: Of the whole grid.
    """
    import numpy as np

    where = [np.flatnonzero(values.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if any(one.size == 0 for one in where):
        where = [np.arange(1)] * 3
    (k0, k1), (j0, j1), (i0, i1) = ((int(one[0]), int(one[-1])) for one in where)
    image = slicer.vtkOrientedImageData()
    image.SetExtent(i0, i1, j0, j1, k0, k1)
    _set_scalars(image, np.ascontiguousarray(values[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1]))
    image.SetImageToWorldMatrix(ijk_to_ras)
    return image


def _image(values):
    image = vtk.vtkImageData()
    image.SetDimensions(*reversed(values.shape))
    _set_scalars(image, values)
    return image


def _set_scalars(image, values) -> None:
    from vtk.util.numpy_support import numpy_to_vtk

    # Not copied: VTK keeps the array alive.
    scalars = numpy_to_vtk(values.ravel(), deep=False)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)


def _array(image):
    from vtk.util.numpy_support import vtk_to_numpy

    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(
        tuple(reversed(image.GetDimensions()))
    )
