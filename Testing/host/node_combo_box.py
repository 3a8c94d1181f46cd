"""qMRMLNodeComboBox on the real scene: follows nodes, names and visibility."""

# ruff: noqa: N801, N802, N815 - Qt's, ctk's and Slicer's own names

import shiboken6
import slicer
import slicer.util
import vtk
from PySide6 import QtWidgets

from Testing.host.cpp_classes import stand_ins
from Testing.host.stand_in import StandIn

REBUILDING_EVENTS = ("EndImportEvent", "EndCloseEvent")
"""Slicer takes all rows out of the list then, and fills it anew."""


class qMRMLNodeComboBox(
    QtWidgets.QWidget,
    metaclass=StandIn,
    noneDisplay="None",
    baseName="",
    selectNodeUponCreation=True,
    editEnabled=False,
    renameEnabled=False,
):
    """Chooses one node of the given types."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = self._current = self._leaving = None
        self._observed, self._nodes, self._attributes = [], [], {}
        self._types, self._hidden_types = [], []
        self._none = self._show_hidden = False
        self._child_types = self._add = self._remove = True
        self._none_text = "None"
        self._box = QtWidgets.QComboBox()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box)
        policy = QtWidgets.QSizePolicy.Policy
        self._box.setSizePolicy(policy.Expanding, policy.Fixed)
        self._box.setMinimumContentsLength(10)
        self._box.setSizeAdjustPolicy(
            QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._box.currentIndexChanged.connect(self._picked)

    # Scene

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        self._forget()
        self._scene = scene
        if scene is not None:
            for event, heard in (
                ("NodeAddedEvent", self._node_came),
                ("NodeAboutToBeRemovedEvent", self._node_goes),
                ("EndBatchProcessEvent", self._scene_changed),
                *((one, self._scene_rebuilt) for one in REBUILDING_EVENTS),
            ):
                tag = scene.AddObserver(getattr(scene, event), heard)
                self._observed.append((scene, tag))
        self._refresh()

    def _forget(self):
        for observed, tag in self._observed:
            observed.RemoveObserver(tag)
        self._observed = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _node_came(self, scene, event, node):
        if node is None or any(node.IsA(kind) for kind in self._types):
            self._scene_changed(scene, event)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _node_goes(self, scene, event, node):
        # It is in the scene still, and no longer in the list.
        self._leaving = node
        self._node_came(scene, event, node)
        self._leaving = None

    def _scene_rebuilt(self, scene, event):
        if shiboken6.isValid(self) and self._none:
            self.setCurrentNode(None)
        self._scene_changed(scene, event)

    def _scene_changed(self, scene, _event):
        if not shiboken6.isValid(self):
            self._forget()
        elif not scene.IsBatchProcessing():
            self._refresh()

    # Which nodes

    def _is_offered(self, node):
        types = self._types
        if node is self._leaving or (node.GetHideFromEditors() and not self._show_hidden):
            return False
        if self._child_types:
            kind = next((each for each in types if node.IsA(each)), None)
        else:
            kind = node.GetClassName() if node.GetClassName() in types else None
        if kind is None or any(node.IsA(each) for each in self._hidden_types):
            return False
        wanted = self._attributes.get(kind, {})
        return all(
            node.GetAttribute(name) is not None and value in (None, "", node.GetAttribute(name))
            for name, value in wanted.items()
        )

    def _refresh(self):
        """Show the scene's nodes again and keep the choice, or choose as Slicer would."""
        candidates = self._candidates()
        self._watch(candidates)
        place = self._nodes.index(self._current) if self._current in self._nodes else 0
        self._nodes = [node for node in candidates if self._is_offered(node)]
        new = self._current
        if new not in self._nodes and (new is not None or not self._none):
            # The list under it goes on to a neighbour, also where none may be chosen.
            new = self._nodes[min(place, len(self._nodes) - 1)] if self._nodes else None
        self._show_items(new)
        self._choose(new)

    def _candidates(self):
        """Return the scene's nodes of the types, hidden ones too, in the scene's order."""
        scene, types = self._scene, self._types
        if scene is None:
            return []
        if len(types) == 1:
            return slicer.util.getNodesByClass(types[0], scene)
        everything = (scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes()))
        return [node for node in everything if any(node.IsA(kind) for kind in types)]

    def _watch(self, nodes):
        known = {id(observed) for observed, _ in self._observed}
        for node in nodes:
            if id(node) not in known:
                tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._node_changed)
                self._observed.append((node, tag))

    def _node_changed(self, node, _event):
        if not shiboken6.isValid(self):
            self._forget()
            return
        if node.GetScene() is not self._scene:
            return
        if (node in self._nodes) != self._is_offered(node):
            self._refresh()
        elif node in self._nodes:
            place = self._nodes.index(node) + self._none
            if self._box.itemText(place) != node.GetName():
                self._box.setItemText(place, node.GetName())
                if node is self._current:
                    self.currentNodeRenamed.emit(node.GetName())

    def _show_items(self, current):
        self._box.blockSignals(True)
        self._box.clear()
        if self._none:
            self._box.addItem(self._none_text)
        self._box.addItems([node.GetName() or "" for node in self._nodes])
        chosen = self._nodes.index(current) + self._none if current in self._nodes else -1
        self._box.setCurrentIndex(0 if chosen < 0 and self._none else chosen)
        self._box.blockSignals(False)

    # The choice

    def _picked(self, index):
        place = index - self._none
        self._choose(self._nodes[place] if 0 <= place < len(self._nodes) else None)

    def _choose(self, node):
        if node is self._current:
            return
        self._current = node
        self.currentNodeChanged__vtkMRMLNode_.emit(node)
        self.currentNodeChanged__bool.emit(node is not None)
        self.currentNodeIDChanged.emit(node.GetID() if node is not None else "")

    def currentNode(self):
        return self._current

    def setCurrentNode(self, node):
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node) if self._scene is not None and node else None
        if node is not None and node not in self._nodes:
            node = None
        self._show_items(node)
        self._choose(node)

    def setCurrentNodeID(self, identifier):
        self.setCurrentNode(identifier)

    def setCurrentNodeIndex(self, index):
        self.setCurrentNode(self.nodeFromIndex(index))

    def get_currentNodeID(self):
        return self._current.GetID() if self._current is not None else ""

    def set_currentNodeID(self, identifier):
        self.setCurrentNode(identifier)

    get_currentNodeId, set_currentNodeId = get_currentNodeID, set_currentNodeID

    def nodeFromIndex(self, index):
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def nodeCount(self):
        return len(self._nodes)

    # What the user may do

    def addNode(self, class_name=""):
        class_name = class_name or self._types[0]
        name = self._scene.GenerateUniqueName(self.property("baseName") or class_name[7:-4])
        node = self._scene.AddNewNodeByClass(class_name, name)
        for attribute, value in self._attributes.get(class_name, {}).items():
            node.SetAttribute(attribute, value or "")
        self.nodeAdded.emit(node)
        self.nodeAddedByUser.emit(node)
        if self.property("selectNodeUponCreation"):
            self.setCurrentNode(node)
        return node

    def removeCurrentNode(self):
        if self._current is not None:
            self.nodeAboutToBeRemoved.emit(self._current)
            self._scene.RemoveNode(self._current)

    def addAttribute(self, node_type, name, value=None):
        self._attributes.setdefault(node_type, {})[name] = value
        self._refresh()

    def removeAttribute(self, node_type, name):
        self._attributes.get(node_type, {}).pop(name, None)
        self._refresh()

    # Properties

    def get_nodeTypes(self):
        return self._types

    def set_nodeTypes(self, types):
        self._types = list(types)
        self._refresh()

    def get_hideChildNodeTypes(self):
        return self._hidden_types

    def set_hideChildNodeTypes(self, types):
        self._hidden_types = list(types)
        self._refresh()

    def get_showChildNodeTypes(self):
        return self._child_types

    def set_showChildNodeTypes(self, shown):
        self._child_types = shown
        self._refresh()

    def get_showHidden(self):
        return self._show_hidden

    def set_showHidden(self, shown):
        self._show_hidden = shown
        self._refresh()

    def get_noneEnabled(self):
        return self._none

    def set_noneEnabled(self, enabled):
        self._none = enabled
        self._refresh()

    def get_noneDisplay(self):
        return self._none_text

    def set_noneDisplay(self, text):
        self._none_text = text
        self._show_items(self._current)

    def get_addEnabled(self):
        return self._add

    def set_addEnabled(self, enabled):
        self._add = enabled

    def get_removeEnabled(self):
        return self._remove

    def set_removeEnabled(self, enabled):
        self._remove = enabled


class qMRMLCheckableNodeComboBox(stand_ins["qMRMLNodeComboBox"], metaclass=StandIn):
    """Only its single choice is modelled."""


class qMRMLColorTableComboBox(stand_ins["qMRMLNodeComboBox"], metaclass=StandIn):
    """Chooses a colour node."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._types = ["vtkMRMLColorNode"]
