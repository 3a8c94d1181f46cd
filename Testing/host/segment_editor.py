"""The Segment Editor's widget on Slicer's own editor logic: masks, overwriting, undo are real.

What the widget adds to the logic follows its C++ source, with its surprises: which nodes it picks
by itself, when it goes back to what its selectors show, when it resets the mask.
"""

# ruff: noqa: N801, N802 - Qt's, ctk's and Slicer's own names

import contextlib

import shiboken6
import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host import mrml_widgets, node_combo_box, segment_effects
from Testing.host.adaptations import methods
from Testing.host.cpp_classes import stand_ins
from Testing.host.observing import Observing
from Testing.host.stand_in import StandIn

BINARY = "Binary labelmap"

MASK_MODES = (
    ("Everywhere", "EditAllowedEverywhere"),
    ("Inside all segments", "EditAllowedInsideAllSegments"),
    ("Inside all visible segments", "EditAllowedInsideVisibleSegments"),
    ("Outside all segments", "EditAllowedOutsideAllSegments"),
    ("Outside all visible segments", "EditAllowedOutsideVisibleSegments"),
)

OVERWRITE_MODES = (
    ("Overwrite all", "OverwriteAllSegments"),
    ("Overwrite visible", "OverwriteVisibleSegments"),
    ("Allow overlap", "OverwriteNone"),
)

EFFECT_KEYS = [*"1234567890", *(f"Shift+{each}" for each in "1234567890")]

SEGMENT_KEYS = [("Q", -1), ("W", 1), ("/", -1), ("*", 1), (",", -1), (".", 1), (">", -1), ("<", 1)]


@contextlib.contextmanager
def blocked(widget):
    """Keep a Qt object from sending signals."""
    before = widget.blockSignals(True)
    try:
        yield
    finally:
        widget.blockSignals(before)


class qMRMLSegmentEditorWidget(
    stand_ins["qMRMLWidget"],
    metaclass=StandIn,
    autoShowSourceVolumeNode=True,
    autoShowMasterVolumeNode=True,
    defaultTerminologyEntrySettingsKey="Segmentations/DefaultTerminologyEntry",
):
    """Edits the segments of one segmentation."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self._observing = Observing(self)
        self._node = self._segmentation = self._source = self._interaction = None
        self._active = self._last_active = None
        self.views_are_observed = False
        """Whether mouse events in the views reach the active effect."""
        self._read_only, self._masking_visible, self._unordered_visible = False, True, True
        self._order = list(segment_effects.qSlicerSegmentEditorEffectFactory.names)
        self._columns, self._button_style, self._keys = 2, 0, []
        self._make_widgets()
        factory = segment_effects.qSlicerSegmentEditorEffectFactory.instance()
        self._effects = factory.effects_for(self)
        for effect in self._effects:
            effect.optionsFrame().setVisible(False)
            self._options.layout().addWidget(effect.optionsFrame())
        self.updateEffectList()
        self._observing.start(
            self.logic, self.logic.SegmentationHistoryChangedEvent, self._history_changed
        )
        self._history_changed()

    # What is seen

    def _make_widgets(self):
        combo = stand_ins["qMRMLNodeComboBox"]
        self._segmentations, self._sources = combo(), combo()
        self._segmentations.setProperty("nodeTypes", ["vtkMRMLSegmentationNode"])
        self._sources.setProperty("nodeTypes", ["vtkMRMLScalarVolumeNode"])
        self._sources.setProperty("hideChildNodeTypes", ["vtkMRMLSegmentationNode"])
        self._sources.setProperty("noneEnabled", True)
        self._sources.setProperty("noneDisplay", "Select source volume to enable editing")
        self._segmentations.currentNodeChanged__vtkMRMLNode_.connect(self._segmentation_picked)
        self._sources.currentNodeChanged__vtkMRMLNode_.connect(self._source_picked)
        self._geometry = QtWidgets.QToolButton()
        self._add, self._remove = QtWidgets.QPushButton("Add"), QtWidgets.QPushButton("Remove")
        self._show3d = stand_ins["qMRMLSegmentationShow3DButton"]()
        self._show3d.setText("Show 3D")
        self._switch = QtWidgets.QPushButton("Segmentations...")
        self._table = stand_ins["qMRMLSegmentsTableView"]()
        self._table.selectionChanged.connect(lambda *_: self._row_picked())
        self._tools = QtWidgets.QFrame()
        self._buttons = QtWidgets.QButtonGroup(self)
        self._undo_box = QtWidgets.QFrame()
        self._undo_button = QtWidgets.QToolButton(text="Undo")
        self._redo_button = QtWidgets.QToolButton(text="Redo")
        self._undo_button.clicked.connect(self.undo)
        self._redo_button.clicked.connect(self.redo)
        self._options = QtWidgets.QGroupBox()
        QtWidgets.QVBoxLayout(self._options)
        self._make_masking()
        self._arrange()
        self._options.hide()
        self._masking.hide()

    def _make_masking(self):
        self._masking = QtWidgets.QGroupBox("Masking")
        self._mask_modes, self._overwriting = QtWidgets.QComboBox(), QtWidgets.QComboBox()
        for text, name in MASK_MODES:
            self._mask_modes.addItem(text, getattr(slicer.vtkMRMLSegmentationNode, name))
        self._mask_modes.insertSeparator(len(MASK_MODES))
        self._fixed_modes = self._mask_modes.count()
        for text, name in OVERWRITE_MODES:
            self._overwriting.addItem(text, getattr(slicer.vtkMRMLSegmentEditorNode, name))
        self._by_intensity = QtWidgets.QCheckBox("Editable intensity range")
        self._intensities = stand_ins["ctkRangeWidget"]()
        self._mask_modes.currentIndexChanged.connect(self._mask_mode_picked)
        self._overwriting.currentIndexChanged.connect(
            lambda index: self._node.SetOverwriteMode(self._overwriting.itemData(index))
        )
        self._by_intensity.toggled.connect(
            lambda on: self._node.SetSourceVolumeIntensityMask(on) if self._node else None
        )
        self._intensities.valuesChanged.connect(
            lambda low, high: (
                self._node.SetSourceVolumeIntensityMaskRange(low, high) if self._node else None
            )
        )
        form = QtWidgets.QFormLayout(self._masking)
        form.addRow("Editable area:", self._mask_modes)
        form.addRow(self._by_intensity)
        form.addRow(self._intensities)
        form.addRow("Modify other segments:", self._overwriting)

    def _arrange(self):
        form = QtWidgets.QFormLayout()
        form.addRow("Segmentation:", self._segmentations)
        form.addRow("Source volume:", self._sources)
        form.addRow(self._geometry)
        actions = QtWidgets.QHBoxLayout()
        for each in (self._add, self._remove, self._show3d, self._switch):
            actions.addWidget(each)
        QtWidgets.QGridLayout(self._tools)
        row = QtWidgets.QHBoxLayout(self._undo_box)
        row.addWidget(self._undo_button)
        row.addWidget(self._redo_button)
        column = QtWidgets.QVBoxLayout(self)
        column.addLayout(form)
        column.addLayout(actions)
        for each in (self._table, self._tools, self._undo_box, self._options, self._masking):
            column.addWidget(each)
        self._forms = form

    def updateEffectList(self):
        """Show the effects' buttons in their order."""
        for button in self._buttons.buttons():
            self._buttons.removeButton(button)
            self._tools.layout().removeWidget(button)
            button.deleteLater()
        named = {effect.get_name(): effect for effect in self._effects}
        shown = [name for name in self._order if name in named]
        if self._unordered_visible:
            shown += [name for name in named if name not in shown]
        self._shown = [None, *(named[name] for name in shown)]
        for place, effect in enumerate(self._shown):
            button = QtWidgets.QToolButton(text=effect.get_name() if effect else "None")
            button.setObjectName(effect.get_name() if effect else "NULL")
            button.setCheckable(True)
            button.setToolButtonStyle(QtCore.Qt.ToolButtonStyle(self._button_style))
            button.setChecked(effect is self._active)
            button.clicked.connect(lambda _on, effect=effect: self.setActiveEffect(effect))
            self._buttons.addButton(button)
            self._tools.layout().addWidget(button, place // self._columns, place % self._columns)

    # Scene and nodes

    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        self._observing.stop(self._scene)
        with blocked(self._segmentations), blocked(self._sources):
            for part in (self._segmentations, self._sources, self._table):
                part.setMRMLScene(scene)
            super().setMRMLScene(scene)
        application = QtCore.QCoreApplication.instance()
        self.logic.SetMRMLApplicationLogic(application.applicationLogic())
        self.logic.SetMRMLScene(scene)
        self.logic.SetVerbose(True)
        application.layoutManager().layoutChanged__int.connect(self._layout_changed)
        self._interaction = scene and scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
        self.updateWidgetFromMRML()
        if scene is not None:
            self._observing.start(scene, scene.EndCloseEvent, self._scene_closed)
            self._observing.start(scene, scene.EndBatchProcessEvent, self._batch_ended)

    def _scene_closed(self):
        self._give_effects_the_node()
        self.updateWidgetFromMRML()

    def _batch_ended(self):
        if self._node is not None:
            if self._node.GetSegmentationNode() is not self._segmentations.currentNode():
                self.setSegmentationNode(self._segmentations.currentNode())
            if self._node.GetSourceVolumeNode() is not self._sources.currentNode():
                self.setSourceVolumeNode(self._sources.currentNode())
        self.updateWidgetFromMRML()

    def _layout_changed(self, _layout):
        if shiboken6.isValid(self) and self.views_are_observed:
            self.setupViewObservations()
            if self.property("autoShowSourceVolumeNode"):
                self.showSourceVolumeInSliceViewers()

    def mrmlSegmentEditorNode(self):
        return self._node

    def setMRMLSegmentEditorNode(self, node):
        if node is self._node:
            return
        self._observing.stop(self._node)
        self._node = node
        if node is not None:
            self._observing.start(node, "ModifiedEvent", self.updateWidgetFromMRML)
        self.logic.SetSegmentEditorNode(node)
        if node is not None:
            self._give_effects_the_node()
            self.updateWidgetFromMRML()

    def _give_effects_the_node(self):
        if self._node is None:
            return
        before = self._node.StartModify()
        for effect in self._effects:
            effect.setParameterSetNode(self._node)
            effect.setMRMLDefaults()
        self._node.EndModify(before)

    def interactionNode(self):
        return self._interaction

    def setInteractionNode(self, node):
        self._interaction = node

    def segmentationNode(self):
        return self._segmentations.currentNode()

    def segmentationNodeID(self):
        return self._segmentations.property("currentNodeID")

    def setSegmentationNode(self, node):
        if self.logic.GetSegmentationNode() is node:
            return
        self.logic.SetSegmentationNode(node)
        self.setActiveEffect(None)

    def setSegmentationNodeID(self, identifier):
        if self._scene is None:
            QtCore.qCritical("setSegmentationNodeID failed: MRML scene is not set")
            return
        self.setSegmentationNode(self._scene.GetNodeByID(identifier))

    def _segmentation_picked(self, node):
        if self._scene is not None and not self._scene.IsBatchProcessing():
            self.setSegmentationNode(node)

    def sourceVolumeNode(self):
        return self.logic.GetSourceVolumeNode()

    def sourceVolumeNodeID(self):
        node = self.logic.GetSourceVolumeNode()
        return node.GetID() if node else ""

    def setSourceVolumeNode(self, node):
        self.logic.SetSourceVolumeNode(node)

    def setSourceVolumeNodeID(self, identifier):
        self.setSourceVolumeNode(self._scene.GetNodeByID(identifier))

    def _source_picked(self, node):
        if self._scene is not None and not self._scene.IsBatchProcessing():
            self.setSourceVolumeNode(node)

    # Segments

    def currentSegmentID(self):
        return self.logic.GetCurrentSegmentID()

    def setCurrentSegmentID(self, identifier):
        if self._node is not None:
            self._node.SetSelectedSegmentID(identifier)

    def _row_picked(self):
        if self._node is None:
            QtCore.qCritical("onSegmentSelectionChanged: Invalid segment editor parameter set node")
            return
        selected = self._table.selectedSegmentIDs()
        new = selected[0] if selected else ""
        if new == (self._node.GetSelectedSegmentID() or ""):
            return
        self._node.SetSelectedSegmentID(new or None)
        if not new and self._active is not None and self._active.get_perSegment():
            self.setActiveEffect(None)
        self.updateWidgetFromMRML()
        self.currentSegmentIDChanged.emit(new)

    def selectNextSegment(self):
        self.selectSegmentAtOffset(1)

    def selectPreviousSegment(self):
        self.selectSegmentAtOffset(-1)

    def selectSegmentAtOffset(self, offset):
        display = self._segmentation.GetDisplayNode() if self._segmentation else None
        shown = self._table.displayedSegmentIDs()
        if display is None or self.currentSegmentID() not in shown:
            return
        row = shown.index(self.currentSegmentID())
        for _ in shown:
            row = max(0, (row + offset) % len(shown) if row + offset >= 0 else 0)
            if display.GetSegmentVisibility(shown[row]):
                self.setCurrentSegmentID(shown[row])
                return

    def jumpSlices(self):
        self._table.jumpSlices()

    # From the nodes to what is seen

    def updateWidgetFromMRML(self):
        scene = self._scene
        if scene is None or scene.IsClosing() or scene.IsBatchProcessing():
            return
        parts = (self._tools, self._masking, self._options, self._sources)
        if self._node is None:
            for part in (self._segmentations, *parts):
                part.setEnabled(False)
            return
        self._segmentations.setEnabled(True)
        before = self._node.StartModify()
        try:
            self._update_segmentation()
            self._update_source()
            for part in parts:
                part.setEnabled(self._segmentation is not None)
            self._update_segment()
            self._update_effects()
            self._history_changed()
            self._update_masking()
            self._segments_changed()
        finally:
            self._node.EndModify(before)

    def _update_segmentation(self):
        node = self.logic.GetSegmentationNode()
        if node is not self._segmentations.currentNode():
            with blocked(self._segmentations):
                self._segmentations.setCurrentNode(node)
        if node is not self._segmentation:
            self._observing.stop(self._segmentation)
            self._segmentation = node
            with blocked(self._table):
                self._table.setSegmentationNode(node)
            self._show3d.setSegmentationNode(node)
            if node is not None:
                self._use_segmentation(node)
            self.segmentationNodeChanged.emit(node)
        self._segments_changed()

    def _use_segmentation(self, node):
        events = slicer.vtkSegmentation
        self._observing.start(node, "ModifiedEvent", self.updateWidgetFromMRML)
        for event in (
            events.ContainedRepresentationNamesModified,
            events.SegmentAdded,
            events.SegmentRemoved,
        ):
            self._observing.start(node, event, self._segments_changed)
        self._observing.start(node, events.SegmentModified, self._update_masking)
        self._sources.setCurrentNode(node.GetNodeReference("referenceImageGeometryRef"))
        node.CreateDefaultDisplayNodes()
        display, segmentation = node.GetDisplayNode(), node.GetSegmentation()
        if segmentation.ContainsRepresentation("Closed surface"):
            display.SetPreferredDisplayRepresentationName3D("Closed surface")
        if segmentation.ContainsRepresentation(BINARY):
            display.SetPreferredDisplayRepresentationName2D(BINARY)
        if segmentation.GetNumberOfSegments() > 0:
            self._table.setSelectedSegmentIDs([segmentation.GetNthSegmentID(0)])
        self.hideLabelLayer()

    def _update_source(self):
        node = self.logic.GetSourceVolumeNode()
        if self._node.GetSegmentationNode() is None or node is self._source:
            return
        self._observing.stop(self._source)
        self._source = node
        if node is not None:
            self._observing.start(node, node.ImageDataModifiedEvent, self._source_changed)
        with blocked(self._sources):
            self._sources.setCurrentNode(node)
        if node is not None and self.property("autoShowSourceVolumeNode"):
            self.showSourceVolumeInSliceViewers()
        self._source_changed()
        self.sourceVolumeNodeChanged.emit(node)
        self.masterVolumeNodeChanged.emit(node)

    def _source_changed(self):
        image = self._source.GetImageData() if self._source is not None else None
        self._intensities.setEnabled(image is not None)
        if image is not None:
            self._intensities.setRange(*image.GetScalarRange())

    def _update_segment(self):
        selected = self._node.GetSelectedSegmentID() or ""
        segmentation = self._segmentation.GetSegmentation() if self._segmentation else None
        if segmentation is None or segmentation.GetSegment(selected) is None:
            selected = ""
        self._add.setEnabled(self.logic.CanAddSegments())
        self._remove.setEnabled(bool(selected) and not self._read_only)
        if selected:
            self._table.setSelectedSegmentIDs([selected])
        else:
            self._table.clearSelection()
        self._table.setReadOnly(self._read_only)

    def _update_effects(self):
        source = self._node.GetSourceVolumeNode()
        for part in (self._tools, self._options):
            part.setEnabled(source is not None and not self._read_only)
        new = self.effectByName(self._node.GetActiveEffectName() or "")
        if new is self._active:
            return
        if self._active is not None:
            self._active.deactivate()
        if new is not None and not self._make_binary():
            new = None
        if new is not None:
            self.setupViewObservations()
            if self._interaction is not None:
                self._interaction.SetCurrentInteractionMode(self._interaction.ViewTransform)
            new.activate()
            self._options.setTitle(new.get_title())
        else:
            self.removeViewObservations()
        self._options.setVisible(new is not None)
        self._masking.setVisible(new is not None and self._masking_visible)
        name = new.get_name() if new is not None else "NULL"
        for button in self._buttons.buttons():
            with blocked(button):
                button.setChecked(button.objectName() == name)
        self._last_active, self._active = self._active, new

    def _make_binary(self):
        """Return whether the label map is the source of all segments, or the user made it so."""
        if self.logic.CanTriviallyConvertSourceRepresentationToBinaryLabelMap():
            return self.logic.TrivialSetSourceRepresentationToBinaryLabelmap()
        if self._segmentation is None:
            return False
        yes = QtWidgets.QMessageBox.StandardButton.Yes.value
        question = "Change source representation to binary labelmap?"
        if methods["QMessageBox", "question"](None, question) != yes:
            return False
        return self.logic.SetSourceRepresentationToBinaryLabelMap()

    # Masks

    def _update_masking(self):
        node = self._node
        if node is None or self._scene is None or self._scene.IsClosing():
            return
        inside_one = slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment
        mode = node.GetMaskMode()
        data = node.GetMaskSegmentID() or "" if mode == inside_one else mode
        with blocked(self._mask_modes):
            self._mask_modes.setCurrentIndex(self._mask_modes.findData(data))
        with blocked(self._by_intensity):
            self._by_intensity.setChecked(node.GetSourceVolumeIntensityMask())
        low, high = node.GetSourceVolumeIntensityMaskRange()
        if node.GetSourceVolumeIntensityMask() and low == high:
            # Equal ends are taken for a range that was never set.
            image = self._source.GetImageData() if self._source is not None else None
            first, last = image.GetScalarRange() if image is not None else (0.0, 0.0)
            quarter = 0.25 * (last - first)
            node.SetSourceVolumeIntensityMaskRange(first + quarter, first + 3 * quarter)
        low, high = node.GetSourceVolumeIntensityMaskRange()
        with blocked(self._intensities):
            self._intensities.setVisible(node.GetSourceVolumeIntensityMask())
            self._intensities.setMinimumValue(low)
            self._intensities.setMaximumValue(high)
        with blocked(self._overwriting):
            self._overwriting.setCurrentIndex(self._overwriting.findData(node.GetOverwriteMode()))

    def _segments_changed(self):
        if self._node is None:
            QtCore.qCritical("onSegmentAddedRemoved: Invalid segment editor parameter set node")
            return
        node = self._node.GetSegmentationNode()
        modes = self._mask_modes
        with blocked(modes):
            is_segment = modes.currentIndex() >= self._fixed_modes
            chosen = modes.currentData() if is_segment else None
            while modes.count() > self._fixed_modes:
                modes.removeItem(modes.count() - 1)
            segmentation = node.GetSegmentation() if node is not None else None
            for identifier in segmentation.GetSegmentIDs() if segmentation else ():
                name = segmentation.GetSegment(identifier).GetName()
                modes.addItem(f"Inside {name}", identifier)
            if segmentation and chosen:
                modes.setCurrentIndex(modes.findData(chosen))
        if node is not None and modes.currentIndex() < 0:
            # The mask's segment is gone: editing is allowed everywhere.
            modes.setCurrentIndex(0)

    def _mask_mode_picked(self, index):
        if self._node is None or index < 0:
            return
        if index >= self._fixed_modes:
            inside_one = slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment
            self._node.SetMaskSegmentID(self._mask_modes.itemData(index))
            self._node.SetMaskMode(inside_one)
        else:
            self._node.SetMaskMode(self._mask_modes.itemData(index))

    def toggleSourceVolumeIntensityMaskEnabled(self):
        self.logic.ToggleSourceVolumeIntensityMask()

    # Effects

    def activeEffect(self):
        return self._active

    def setActiveEffect(self, effect):
        if self._node is None:
            if effect is not None:
                QtCore.qCritical("setActiveEffect: Invalid segment editor parameter set node")
            return
        self._node.SetActiveEffectName(effect.get_name() if effect is not None else "")

    def setActiveEffectByName(self, name):
        self.setActiveEffect(self.effectByName(name))

    def effectByName(self, name):
        return next((effect for effect in self._effects if effect.get_name() == name), None)

    def effectByIndex(self, index):
        return self._shown[index] if 0 <= index < len(self._shown) else None

    def effectCount(self):
        return len(self._effects)

    def availableEffectNames(self):
        return [effect.get_name() for effect in self._effects]

    def effectNameOrder(self):
        return list(self._order)

    def setEffectNameOrder(self, names):
        if list(names) != self._order:
            self._order = list(names)
            self.updateEffectList()

    def get_unorderedEffectsVisible(self):
        return self._unordered_visible

    def set_unorderedEffectsVisible(self, visible):
        self._unordered_visible = visible
        self.updateEffectList()

    def get_effectColumnCount(self):
        return self._columns

    def set_effectColumnCount(self, count):
        self._columns = count
        self.updateEffectList()

    def get_effectButtonStyle(self):
        return self._button_style

    def set_effectButtonStyle(self, style):
        self._button_style = int(style)
        self.updateEffectList()

    # Views

    def setupViewObservations(self):
        self.views_are_observed = True

    def removeViewObservations(self):
        self.views_are_observed = False

    def _composite_nodes(self):
        manager = QtCore.QCoreApplication.instance().layoutManager()
        logics = manager.mrmlSliceLogics()
        for index in range(logics.GetNumberOfItems()):
            logic = logics.GetItemAsObject(index)
            if self.logic.IsSegmentationDisplayableInView(logic.GetSliceNode()):
                yield logic, logic.GetSliceCompositeNode()

    def hideLabelLayer(self):
        for _logic, composite in self._composite_nodes():
            composite.SetLabelVolumeID(None)

    def showSourceVolumeInSliceViewers(self, force=False, fit=False):
        node = self._node.GetSourceVolumeNode() if self._node is not None else None
        if node is None:
            return
        for logic, composite in list(self._composite_nodes()):
            shown = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
            if force or node.GetID() not in shown:
                composite.SetBackgroundVolumeID(node.GetID())
                composite.SetForegroundVolumeID(None)
                composite.SetLabelVolumeID(None)
            if fit:
                logic.FitSliceToBackground(True)

    # Undo

    def undo(self):
        self.logic.Undo()

    def redo(self):
        self.logic.Redo()

    def saveStateForUndo(self):
        self.logic.SaveStateForUndo()

    def _history_changed(self):
        self._undo_button.setEnabled(not self._read_only and self.logic.CanUndo())
        self._redo_button.setEnabled(not self._read_only and self.logic.CanRedo())

    def get_maximumNumberOfUndoStates(self):
        return self.logic.GetMaximumNumberOfUndoStates()

    def set_maximumNumberOfUndoStates(self, number):
        self.logic.SetMaximumNumberOfUndoStates(number)

    def get_undoEnabled(self):
        return self._undo_box.isVisible()

    def set_undoEnabled(self, enabled):
        if enabled:
            self.logic.ClearUndoState()
        self._undo_box.setVisible(enabled)

    # Keys

    def installKeyboardShortcuts(self, parent=None):
        """Take the keys of a window; without one there is no main window to take them of."""
        self.uninstallKeyboardShortcuts()
        if parent is None:
            return
        for index, key in enumerate(EFFECT_KEYS, 1):
            self._key(parent, key, lambda index=index: self._toggle(self.effectByIndex(index)))
        self._key(parent, "Esc", lambda: self._toggle(None))
        self._key(parent, "Space", self._use_last_effect)
        for key in ("Z", QtGui.QKeySequence.StandardKey.Undo):
            self._key(parent, key, self.undo)
        for key in ("Y", QtGui.QKeySequence.StandardKey.Redo):
            self._key(parent, key, self.redo)
        for key, offset in SEGMENT_KEYS:
            self._key(parent, key, lambda offset=offset: self.selectSegmentAtOffset(offset))
        self._key(parent, "I", self.toggleSourceVolumeIntensityMaskEnabled)

    def _key(self, parent, key, action):
        shortcut = QtGui.QShortcut(QtGui.QKeySequence(key), parent)
        shortcut.activated.connect(action)
        self._keys.append(shortcut)

    def _toggle(self, effect):
        if not self._read_only:
            self.setActiveEffect(None if effect is self._active else effect)

    def _use_last_effect(self):
        if not self._read_only:
            self.setActiveEffect(self._last_active)

    def uninstallKeyboardShortcuts(self):
        for shortcut in self._keys:
            if shiboken6.isValid(shortcut):
                shiboken6.delete(shortcut)
        self._keys = []

    # Properties: those of a part's visibility are false as long as the widget is not shown

    def get_readOnly(self):
        return self._read_only

    def set_readOnly(self, read_only):
        self._read_only = read_only
        if read_only:
            self.setActiveEffect(None)
        self.updateWidgetFromMRML()

    def get_maskingSectionVisible(self):
        return self._masking_visible

    def set_maskingSectionVisible(self, visible):
        self._masking_visible = visible
        if self._node is None:
            QtCore.qCritical("updateEffectsSectionFromMRML: Invalid parameter set node")
            return
        self._update_effects()

    def get_jumpToSelectedSegmentEnabled(self):
        return self._table.property("jumpToSelectedSegmentEnabled")

    def set_jumpToSelectedSegmentEnabled(self, enabled):
        self._table.setProperty("jumpToSelectedSegmentEnabled", enabled)

    def get_segmentationNodeSelectorVisible(self):
        return self._segmentations.isVisible()

    def set_segmentationNodeSelectorVisible(self, visible):
        self._forms.setRowVisible(self._segmentations, visible)

    def get_sourceVolumeNodeSelectorVisible(self):
        return self._sources.isVisible()

    def set_sourceVolumeNodeSelectorVisible(self, visible):
        self._forms.setRowVisible(self._sources, visible)

    def get_specifyGeometryButtonVisible(self):
        return self._geometry.isVisible()

    def set_specifyGeometryButtonVisible(self, visible):
        self._geometry.setVisible(visible)

    def get_show3DButtonVisible(self):
        return self._show3d.isVisible()

    def set_show3DButtonVisible(self, visible):
        self._show3d.setVisible(visible)

    def get_switchToSegmentationsButtonVisible(self):
        return self._switch.isVisible()

    def set_switchToSegmentationsButtonVisible(self, visible):
        self._switch.setVisible(visible)

    def get_addRemoveSegmentButtonsVisible(self):
        return self._add.isVisible() and self._remove.isVisible()

    def set_addRemoveSegmentButtonsVisible(self, visible):
        self._add.setVisible(visible)
        self._remove.setVisible(visible)


def slot_of(name):
    def put(self, value):
        self.setProperty(name, value)

    return put


for recorded in [
    "addRemoveSegmentButtonsVisible",
    "autoShowSourceVolumeNode",
    "effectButtonStyle",
    "effectColumnCount",
    "jumpToSelectedSegmentEnabled",
    "maskingSectionVisible",
    "maximumNumberOfUndoStates",
    "readOnly",
    "segmentationNodeSelectorVisible",
    "show3DButtonVisible",
    "sourceVolumeNodeSelectorVisible",
    "specifyGeometryButtonVisible",
    "switchToSegmentationsButtonVisible",
    "undoEnabled",
]:
    name = f"set{recorded[0].upper()}{recorded[1:]}"
    setattr(qMRMLSegmentEditorWidget, name, slot_of(recorded))


mrml_widgets, node_combo_box  # noqa: B018 - imported for their stand-ins
