"""Stand-ins for qMRML widgets that are told a scene or a node."""

# ruff: noqa: N801, N802 - Qt's, ctk's and Slicer's own names

from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host import ctk_widgets
from Testing.host.cpp_classes import stand_ins
from Testing.host.observing import Observing
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
        names = [self._node.GetColumnName(column) for column in range(columns)]
        if self._node.GetUseColumnTitleAsColumnHeader():
            model.setHorizontalHeaderLabels(names)
        elif columns:
            model.setHorizontalHeaderLabels([chr(ord("A") + column) for column in range(columns)])
            model.appendRow([QtGui.QStandardItem(name) for name in names])
        for row in range(table.GetNumberOfRows()):
            texts = [self._node.GetCellText(row, column) for column in range(columns)]
            model.appendRow([QtGui.QStandardItem(text) for text in texts])


class qMRMLSegmentsTableView(stand_ins["qMRMLWidget"], metaclass=StandIn):
    """The names of a segmentation's segments."""

    _node = None

    def __init__(self, parent=None):
        super().__init__(parent)
        self._observing = Observing(self)
        self._table = QtWidgets.QTableWidget(0, 1)
        self._table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.horizontalHeader().setStretchLastSection(True)
        self._table.horizontalHeader().hide()
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._table)
        self._table.selectionModel().selectionChanged.connect(self._selected)
        self._ids = []

    def _selected(self, new, old):
        if self.property("jumpToSelectedSegmentEnabled"):
            self.jumpSlices()
        self.selectionChanged.emit(new, old)

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node):
        for watched in (self._node, self._node and self._node.GetSegmentation()):
            self._observing.stop(watched)
        self._node = node
        if node is not None:
            segmentation = node.GetSegmentation()
            self._observing.start(node, "ModifiedEvent", self._fill)
            for event in (
                segmentation.SegmentAdded,
                segmentation.SegmentRemoved,
                segmentation.SegmentModified,
            ):
                self._observing.start(segmentation, event, self._fill)
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
        if list(identifiers) == self.selectedSegmentIDs():
            return
        flag = QtCore.QItemSelectionModel.SelectionFlag
        chosen = QtCore.QItemSelection()
        for each in identifiers:
            index = self._table.model().index(self.rowForSegmentID(each), 0)
            if index.isValid():
                chosen.select(index, index)
        self._table.selectionModel().select(chosen, flag.ClearAndSelect | flag.Rows)

    def clearSelection(self):
        self._table.clearSelection()

    def setHideSegments(self, identifiers):
        for row, each in enumerate(self._ids):
            self._table.setRowHidden(row, each in identifiers)

    def jumpSlices(self):
        selected = self.selectedSegmentIDs()
        center = self._node.GetSegmentCenterRAS(selected[0]) if selected else None
        manager = QtCore.QCoreApplication.instance().layoutManager()
        for name in manager.sliceViewNames() if center else ():
            manager.sliceWidget(name).mrmlSliceNode().JumpSliceByCentering(*center)

    def tableWidget(self):
        return self._table

    def setReadOnly(self, read_only):
        self.setProperty("readOnly", read_only)


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
