"""The IO manager: what slicer.util's load, save and export functions need, by storage nodes."""

# ruff: noqa: N801, N802 - Qt's, ctk's and Slicer's own names

from pathlib import Path

import slicer
import vtk
from PySide6 import QtCore

from Testing.host.stand_in import StandIn

EXTENSIONS = {
    "SceneFile": (".mrml", ".mrb"),
    "SegmentationFile": (".seg.nrrd", ".seg.nhdr", ".seg.vtm"),
    "ColorTableFile": (".ctbl", ".csv", ".txt"),
    "TableFile": (".tsv",),
    "MarkupsFile": (".mrk.json", ".fcsv"),
    "ModelFile": (".vtk", ".vtp", ".stl", ".ply", ".obj"),
    "TransformFile": (".h5", ".tfm"),
    "VolumeFile": (".nrrd", ".nhdr", ".nii.gz", ".nii", ".mha", ".mhd", ".dcm"),
}
WRITERS = {
    "vtkMRMLSegmentationNode": "SegmentationFile",
    "vtkMRMLVolumeNode": "VolumeFile",
    "vtkMRMLColorNode": "ColorTableFile",
    "vtkMRMLTableNode": "TableFile",
    "vtkMRMLModelNode": "ModelFile",
    "vtkMRMLMarkupsNode": "MarkupsFile",
    "vtkMRMLTransformNode": "TransformFile",
}
NODES = {
    "ColorTableFile": ("vtkMRMLColorTableNode", "vtkMRMLColorTableStorageNode"),
    "TableFile": ("vtkMRMLTableNode", "vtkMRMLTableStorageNode"),
    "TransformFile": ("vtkMRMLTransformNode", "vtkMRMLTransformStorageNode"),
    "ModelFile": ("vtkMRMLModelNode", "vtkMRMLModelStorageNode"),
}
READ_ERROR = "{kind} could not be read from {path}"


class qSlicerCoreIOManager(QtCore.QObject, metaclass=StandIn):
    """Reads and writes nodes by type names."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.host = None
        """SceneWithLogics; set by the application."""

    # Kinds of files

    def fileType(self, path):
        name = Path(path).name.lower()
        found = [kind for kind, ends in EXTENSIONS.items() if name.endswith(ends)]
        return found[0] if found else "NoFile"

    def fileWriterFileType(self, node, _file_format=""):
        return next((kind for name, kind in WRITERS.items() if node.IsA(name)), "NodeFile")

    def fileWriterExtensions(self, node):
        storage = node.CreateDefaultStorageNode()
        storage.SetScene(self.host.scene)
        formats = storage.GetSupportedWriteFileTypes()
        return [formats.GetValue(i) for i in range(formats.GetNumberOfValues())]

    def extractKnownExtension(self, path, node):
        storage = node.CreateDefaultStorageNode()
        storage.SetScene(self.host.scene)
        return storage.GetSupportedFileExtension(path, False, True)

    def stripKnownExtension(self, path, node):
        return path.removesuffix(self.extractKnownExtension(path, node))

    # Reading

    def loadNodes(self, kind, properties, collection=None, messages=None):
        path = properties["fileName"]
        if not Path(path).is_file():
            return said(messages, f"File {path} does not exist")
        if kind == "SceneFile":
            return self.loadScene(path, properties.get("clear", False), messages)
        readers = {"VolumeFile": self._read_volume, "SegmentationFile": self._read_segmentation}
        node = readers.get(kind, self._read_by_storage)(kind, path, properties)
        if node is None:
            return said(messages, READ_ERROR.format(kind=kind, path=path))
        if collection is not None:
            collection.AddItem(node)
        self.newFileLoaded.emit({**properties, "nodeIDs": [node.GetID()], "fileType": kind})
        return True

    def _name(self, path, properties):
        end = next((e for ends in EXTENSIONS.values() for e in ends if path.endswith(e)), "")
        return properties.get("name") or Path(path).name.removesuffix(end)

    def _read_volume(self, _kind, path, properties):
        label = bool(properties.get("labelmap"))
        options = label + 2 * bool(properties.get("center"))
        name = self._name(path, properties)
        volume = self.host.logics["volumes"].AddArchetypeVolume(path, name, options)
        if volume is not None and properties.get("colorNodeID"):
            volume.GetDisplayNode().SetAndObserveColorNodeID(properties["colorNodeID"])
        if volume is not None and properties.get("show", True):
            selection = self.host.application_logic.GetSelectionNode()
            if label:
                selection.SetActiveLabelVolumeID(volume.GetID())
            else:
                selection.SetActiveVolumeID(volume.GetID())
            self.host.application_logic.PropagateVolumeSelection()
        return volume

    def _read_segmentation(self, _kind, path, properties):
        name = self._name(path, properties)
        segmentation = self.host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        storage = slicer.vtkMRMLSegmentationStorageNode()
        self.host.scene.AddNode(storage)
        storage.SetFileName(path)
        if not storage.ReadData(segmentation):
            self.host.scene.RemoveNode(segmentation)
            return None
        segmentation.SetAndObserveStorageNodeID(storage.GetID())
        segmentation.CreateDefaultDisplayNodes()
        return segmentation

    def _read_by_storage(self, kind, path, properties):
        if kind not in NODES:
            return None
        node_class, storage_class = NODES[kind]
        node = self.host.scene.AddNewNodeByClass(node_class, self._name(path, properties))
        storage = self.host.scene.AddNewNodeByClass(storage_class)
        storage.SetFileName(path)
        if not storage.ReadData(node):
            self.host.scene.RemoveNode(node)
            return None
        node.SetAndObserveStorageNodeID(storage.GetID())
        return node

    def loadScene(self, path, clear=True, messages=None):
        scene = self.host.scene
        path = str(Path(path).resolve())
        if path.endswith(".mrb"):
            done = scene.ReadFromMRB(path, clear)
        else:
            scene.SetURL(path)
            done = scene.Connect() if clear else scene.Import()
        return bool(done) or said(messages, f"Scene {path} could not be read")

    # Writing

    def saveNodes(self, kind, properties, messages=None, _scene=None):
        path = str(Path(properties["fileName"]).resolve())
        if kind == "SceneFile":
            return self._write_scene(path, messages)
        node = self.host.scene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode(path)
        storage = node.GetStorageNode()
        storage.SetFileName(path)
        if "useCompression" in properties:
            storage.SetUseCompression(properties["useCompression"])
        return bool(storage.WriteData(node)) or said(messages, f"{path} could not be written")

    def _write_scene(self, path, messages):
        scene = self.host.scene
        if path.endswith(".mrb"):
            done = scene.WriteToMRB(path)
        elif path.endswith(".mrml"):
            scene.SetURL(path)
            done = scene.Commit()
        else:
            Path(path).mkdir(parents=True, exist_ok=True)
            done = scene.SaveSceneToSlicerDataBundleDirectory(path)
        return bool(done) or said(messages, f"Scene {path} could not be written")

    def exportNodes(self, node_ids, paths, properties, harden=False, messages=None):
        """Write through a storage node of its own, so that the nodes keep theirs."""
        results = []
        for node_id, path in zip(node_ids, paths, strict=True):
            node = self.host.scene.GetNodeByID(node_id)
            with exported(node, harden) as copy:
                storage = copy.CreateDefaultStorageNode()
                storage.SetScene(self.host.scene)
                storage.SetFileName(path)
                if "useCompression" in properties:
                    storage.SetUseCompression(properties["useCompression"])
                done = bool(storage.WriteData(copy))
            results.append(done or said(messages, f"{path} could not be written"))
        return all(results)

    def addDefaultStorageNodes(self):
        for node in slicer.util.getNodesByClass("vtkMRMLStorableNode", self.host.scene):
            if node.GetStorageNode() is None:
                node.AddDefaultStorageNode()


class exported:
    """The node to write: itself, or a hardened copy if it stands under a transform."""

    def __init__(self, node, harden):
        self._node, self._copy = node, None
        self._needs_copy = harden and node.GetParentTransformNode() is not None

    def __enter__(self):
        if not self._needs_copy:
            return self._node
        scene = self._node.GetScene()
        self._copy = scene.AddNewNodeByClass(self._node.GetClassName(), "exported")
        self._copy.CopyContent(self._node)
        self._copy.SetAndObserveTransformNodeID(self._node.GetTransformNodeID())
        self._copy.HardenTransform()
        return self._copy

    def __exit__(self, *_error):
        if self._copy is not None:
            self._copy.GetScene().RemoveNode(self._copy)


class qSlicerIOManager(qSlicerCoreIOManager, metaclass=StandIn):
    """The one with dialogs, which the host does not model."""


def said(messages, text):
    """Give the reason of a failure to the caller; returns False."""
    if messages is not None:
        messages.AddMessage(vtk.vtkCommand.ErrorEvent, text)
    return False
