"""Stand-ins for qMRML widgets that are told a scene or a node."""

# ruff: noqa: N801, N802 - Qt's, ctk's and Slicer's own names

from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host import ctk_widgets
from Testing.host.cpp_classes import stand_ins
from Testing.host.stand_in import StandIn


class qMRMLWidget(QtWidgets.QWidget, metaclass=StandIn):
    """A widget that knows the scene."""

    _scene = None

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class qMRMLTableView(QtWidgets.QTableView, metaclass=StandIn):
    """A table node's cells."""

    _scene = _node = None

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setModel(QtGui.QStandardItemModel(self))

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlTableNode(self):
        return self._node

    def setMRMLTableNode(self, node):
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node = node
        if node is not None:
            self._tag = node.AddObserver("ModifiedEvent", lambda *_: self._fill())
        self._fill()

    def _fill(self):
        model = self.model()
        model.clear()
        if self._node is None:
            return
        table = self._node.GetTable()
        columns = table.GetNumberOfColumns()
        model.setHorizontalHeaderLabels([self._node.GetColumnName(c) for c in range(columns)])
        for row in range(table.GetNumberOfRows()):
            texts = [self._node.GetCellText(row, column) for column in range(columns)]
            model.appendRow([QtGui.QStandardItem(text) for text in texts])


class qMRMLSegmentsTableView(stand_ins["qMRMLWidget"], metaclass=StandIn):
    """The names of a segmentation's segments."""

    _node = None

    def __init__(self, parent=None):
        super().__init__(parent)
        self._table = QtWidgets.QTableWidget(0, 1)
        self._table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.horizontalHeader().setStretchLastSection(True)
        self._table.horizontalHeader().hide()
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._table)
        self._table.selectionModel().selectionChanged.connect(
            lambda new, old: self.selectionChanged.emit(new, old)
        )
        self._ids = []

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node):
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node = node
        if node is not None:
            self._tag = node.AddObserver("ModifiedEvent", lambda *_: self._fill())
            segmentation = node.GetSegmentation()
            for event in (segmentation.SegmentAdded, segmentation.SegmentRemoved):
                segmentation.AddObserver(event, lambda *_: self._fill())
        self._fill()

    def _fill(self):
        segmentation = self._node.GetSegmentation() if self._node else None
        self._ids = list(segmentation.GetSegmentIDs()) if segmentation else []
        self._table.setRowCount(len(self._ids))
        for row, identifier in enumerate(self._ids):
            name = segmentation.GetSegment(identifier).GetName()
            self._table.setItem(row, 0, QtWidgets.QTableWidgetItem(name))

    def get_segmentCount(self):
        return len(self._ids)

    def displayedSegmentIDs(self):
        return [each for row, each in enumerate(self._ids) if not self._table.isRowHidden(row)]

    def segmentIDForRow(self, row):
        return self._ids[row]

    def rowForSegmentID(self, identifier):
        return self._ids.index(identifier) if identifier in self._ids else -1

    def selectedSegmentIDs(self):
        rows = {index.row() for index in self._table.selectionModel().selectedRows()}
        return [self._ids[row] for row in sorted(rows)]

    def setSelectedSegmentIDs(self, identifiers):
        self._table.clearSelection()
        flag = QtCore.QItemSelectionModel.SelectionFlag
        for row in sorted(self.rowForSegmentID(each) for each in identifiers):
            index = self._table.model().index(row, 0)
            self._table.selectionModel().select(index, flag.Select | flag.Rows)

    def clearSelection(self):
        self._table.clearSelection()

    def setHideSegments(self, identifiers):
        for row, each in enumerate(self._ids):
            self._table.setRowHidden(row, each in identifiers)

    def tableWidget(self):
        return self._table

    def setReadOnly(self, read_only):
        self.setProperty("readOnly", read_only)


class qMRMLSegmentEditorWidget(stand_ins["qMRMLWidget"], metaclass=StandIn):
    """An empty shell that keeps its nodes; there are no effects."""

    _editor = _segmentation = _source = None

    def __init__(self, parent=None):
        super().__init__(parent)
        self.calls = []
        """Names of the calls that have no effect here, in order."""

    def mrmlSegmentEditorNode(self):
        return self._editor

    def setMRMLSegmentEditorNode(self, node):
        self._editor = node

    def segmentationNode(self):
        return self._segmentation

    def segmentationNodeID(self):
        return self._segmentation.GetID() if self._segmentation else ""

    def setSegmentationNode(self, node):
        self._segmentation = node
        if self._editor is not None:
            self._editor.SetAndObserveSegmentationNode(node)
        self.segmentationNodeChanged.emit(node)

    def sourceVolumeNode(self):
        return self._source

    def setSourceVolumeNode(self, node):
        self._source = node
        if self._editor is not None:
            self._editor.SetAndObserveSourceVolumeNode(node)
        self.sourceVolumeNodeChanged.emit(node)

    def currentSegmentID(self):
        return (self._editor.GetSelectedSegmentID() or "") if self._editor else ""

    def setCurrentSegmentID(self, identifier):
        if self._editor is not None:
            self._editor.SetSelectedSegmentID(identifier)
        self.currentSegmentIDChanged.emit(identifier)

    def activeEffect(self):
        return None

    def setActiveEffect(self, _effect):
        self.calls.append("setActiveEffect")

    def setActiveEffectByName(self, name):
        self.calls.append(f"setActiveEffectByName {name}")
        if self._editor is not None:
            self._editor.SetActiveEffectName(name)

    def availableEffectNames(self):
        return []

    def setEffectNameOrder(self, names):
        self.calls.append("setEffectNameOrder")

    def setMaximumNumberOfUndoStates(self, number):
        self.setProperty("maximumNumberOfUndoStates", number)


def only_remembered(name):
    def call(self, *_arguments):
        self.calls.append(name)

    return call


for name in [
    "installKeyboardShortcuts",
    "uninstallKeyboardShortcuts",
    "setupViewObservations",
    "undo",
    "redo",
    "removeViewObservations",
    "updateWidgetFromMRML",
    "saveStateForUndo",
    "updateEffectList",
]:
    setattr(stand_ins["qMRMLSegmentEditorWidget"], name, only_remembered(name))


class qMRMLSegmentationShow3DButton(stand_ins["ctkMenuButton"], metaclass=StandIn):
    """The button that makes closed surfaces."""

    _node = None

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node):
        self._node = node


class qMRMLSliderWidget(stand_ins["ctkSliderWidget"], metaclass=StandIn):
    """A slider with units."""

    _scene = None

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        self._scene = scene


ctk_widgets  # noqa: B018 - imported for its stand-ins
