"""The real MRML scene with the logics that a running Slicer has, and its subject hierarchy."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field

import slicer
import vtk

from Testing.host.file_colors import add_file_colors

LOGICS = {
    "annotations": "vtkSlicerAnnotationModuleLogic",
    "cameras": "vtkSlicerCamerasModuleLogic",
    "colors": "vtkSlicerColorLogic",
    "cropvolume": "vtkSlicerCropVolumeLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "models": "vtkSlicerModelsLogic",
    "plots": "vtkSlicerPlotsLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "tables": "vtkSlicerTablesLogic",
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "texts": "vtkSlicerTextsLogic",
    "transforms": "vtkSlicerTransformLogic",
    "units": "vtkSlicerUnitsLogic",
    "volumerendering": "vtkSlicerVolumeRenderingLogic",
    "volumes": "vtkSlicerVolumesLogic",
}


MODULE_NAMES = {
    "cropvolume": "CropVolume",
    "subjecthierarchy": "SubjectHierarchy",
    "volumerendering": "VolumeRendering",
}
"""As the application logic knows them, where capitals differ."""


@dataclass
class SceneWithLogics:
    """A scene and all that must live as long as it."""

    scene: object
    application_logic: object
    layout_logic: object
    logics: dict[str, object]
    kept: list = field(default_factory=list)


@contextlib.contextmanager
def without_vtk_messages() -> Iterator[None]:
    """Silence VTK: without a share folder, two logics complain about files that the wheel lacks."""
    before = vtk.vtkLogger.GetCurrentVerbosityCutoff()
    window, quiet = vtk.vtkOutputWindow.GetInstance(), vtk.vtkStringOutputWindow()
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    vtk.vtkOutputWindow.SetInstance(quiet)
    try:
        yield
    finally:
        vtk.vtkOutputWindow.SetInstance(window)
        vtk.vtkLogger.SetStderrVerbosity(before)


def make_scene() -> SceneWithLogics:
    """Return a new scene; `slicer.mrmlScene` is it from now on."""
    with without_vtk_messages():
        scene = slicer.vtkMRMLScene()
        slicer.mrmlScene = scene
        application_logic = slicer.vtkSlicerApplicationLogic()
        kept = file_managers(scene)
        # None by default, and then there is no colour legend in slice views.
        application_logic.SetSliceLogics(vtk.vtkCollection())
        application_logic.SetViewLogics(vtk.vtkCollection())
        application_logic.SetMRMLScene(scene)
        logics = {}
        for name, class_name in LOGICS.items():
            kind = getattr(slicer, class_name, None)
            if not isinstance(kind, type):
                continue
            logics[name] = logic = kind()
            if hasattr(logic, "SetMRMLApplicationLogic"):
                logic.SetMRMLApplicationLogic(application_logic)
            application_logic.SetModuleLogic(MODULE_NAMES.get(name, name.capitalize()), logic)
            logic.SetMRMLScene(scene)
        add_file_colors(scene)
        layout_logic = slicer.vtkMRMLLayoutLogic()
        layout_logic.SetMRMLScene(scene)
    kept.append(HierarchyItems(scene))
    return SceneWithLogics(scene, application_logic, layout_logic, logics, kept)


def file_managers(scene: object) -> list:
    """Give the scene what reading an .mrb needs."""
    cache = tempfile.TemporaryDirectory(prefix="host-cache-")
    cache_manager = slicer.vtkCacheManager()
    cache_manager.SetRemoteCacheDirectory(cache.name)
    cache_manager.SetMRMLScene(scene)
    data_io = slicer.vtkDataIOManager()
    data_io.SetCacheManager(cache_manager)
    scene.SetCacheManager(cache_manager)
    scene.SetDataIOManager(data_io)
    return [cache, cache_manager, data_io]


class HierarchyItems:
    """Gives each data node its subject hierarchy item, as Slicer's plugin handler does."""

    def __init__(self, scene: object):
        self._scene = scene
        scene.AddObserver(scene.NodeAddedEvent, self._added)
        scene.AddObserver(scene.NodeAboutToBeRemovedEvent, self._removed)
        scene.AddObserver(scene.EndImportEvent, self._imported)

    def _hierarchy(self) -> object:
        return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)

    def _ensure_item(self, node: object) -> None:
        shown = node.IsA("vtkMRMLStorableNode") or node.IsA("vtkMRMLDisplayableNode")
        if not shown or node.GetHideFromEditors() or node.IsA("vtkMRMLColorNode"):
            return
        hierarchy = self._hierarchy()
        if not hierarchy.GetItemByDataNode(node):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _added(self, _scene: object, _event: str, node: object) -> None:
        if not self._scene.IsImporting() and not self._scene.IsClosing():
            self._ensure_item(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _removed(self, _scene: object, _event: str, node: object) -> None:
        hierarchy = self._scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
        if self._scene.IsClosing() or hierarchy is None or node is hierarchy:
            # To ask for it as usual would make one.
            return
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.RemoveItem(item, False, False)

    def _imported(self, _scene: object, _event: str) -> None:
        nodes = [self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes())]
        for node in nodes:
            self._ensure_item(node)
