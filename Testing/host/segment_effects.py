"""Effects of the Segment Editor: their parameters and edits are real, their tools are not there."""

# ruff: noqa: N801, N802 - Qt's, ctk's and Slicer's own names

from PySide6 import QtCore, QtWidgets

from Testing.host import adaptations
from Testing.host.cpp_classes import stand_ins
from Testing.host.stand_in import StandIn

NOT_PER_SEGMENT = ("Grow from seeds", "Fill between slices")

NOT_CONFIRMED, WITHOUT_DIALOG, WITH_DIALOG = 0, 1, 2

MODES = [f"ModificationMode{each}" for each in ("Set", "Add", "Remove", "RemoveAll")]

COMMON_DEFAULTS = {
    "BrushMinimumAbsoluteDiameter": 0.01,
    "BrushMaximumAbsoluteDiameter": 100.0,
    "BrushAbsoluteDiameter": 5.0,
    "BrushRelativeDiameter": 3.0,
    "BrushDiameterIsRelative": 1,
    "BrushSphere": 0,
    "EditIn3DViews": 0,
    "BrushPixelMode": 0,
}

OWN_DEFAULTS = {"ColorSmudge": 0, "EraseAllSegments": 0}


class qSlicerSegmentEditorAbstractEffect(
    QtCore.QObject, metaclass=StandIn, requireSegments=True, showEffectCursorInSliceView=True
):
    """A tool of the Segment Editor; edits go through Slicer's own editor logic."""

    _node = _editor = _frame = None
    _active = False

    @classmethod
    def of(cls, name, editor):
        """Return the effect of this name for an editor widget."""
        effect = cls(editor)
        effect._name, effect._editor = name, editor
        effect._frame = QtWidgets.QFrame()
        QtWidgets.QFormLayout(effect._frame)
        return effect

    def get_name(self):
        return self._name

    def get_title(self):
        return self._name

    def get_perSegment(self):
        return self._name not in NOT_PER_SEGMENT

    def helpText(self):
        return f"<html>{self._name}</html>"

    def optionsFrame(self):
        return self._frame

    def optionsLayout(self):
        return self._frame.layout()

    def scene(self):
        return self._editor.mrmlScene()

    # Life

    def activate(self):
        self._active = True
        self._frame.setVisible(True)

    def deactivate(self):
        self._active = False
        self._frame.setVisible(False)

    def active(self):
        return self._active

    def cleanup(self):
        """There is nothing drawn to be taken away."""

    def selectEffect(self, name):
        self._editor.setActiveEffectByName(name)

    def setMRMLDefaults(self):
        """Give the parameters that the node lacks their defaults."""

    def updateGUIFromMRML(self):
        """There are no options to show."""

    def updateMRMLFromGUI(self):
        """There are no options to read."""

    # Parameters

    def parameterSetNode(self):
        return self._node

    def setParameterSetNode(self, node):
        self._node = node

    def setCommonParameter(self, name, value):
        text = f"{value:g}" if isinstance(value, float) else str(value)
        node = self._node
        if node is None:
            QtCore.qCritical("setCommonParameter: Invalid segment editor parameter set node")
            return
        old = node.GetAttribute(name)
        if text == (old or ""):
            return
        before = node.GetDisableModifiedEvent()
        node.SetDisableModifiedEvent(1)
        node.SetAttribute(name, text)
        node.SetDisableModifiedEvent(before)
        node.InvokeCustomModifiedEvent(node.EffectParameterModified)

    def setParameter(self, name, value):
        self.setCommonParameter(f"{self._name}.{name}", value)

    def _set_defaults(self, common, own):
        for name, value in common.items():
            self.setCommonParameterDefault(name, value)
        for name, value in own.items():
            self.setParameterDefault(name, value)

    def setCommonParameterDefault(self, name, value):
        if not self.commonParameterDefined(name):
            self.setCommonParameter(name, value)

    def setParameterDefault(self, name, value):
        if not self.parameterDefined(name):
            self.setParameter(name, value)

    def commonParameterDefined(self, name):
        return self._node is not None and self._node.GetAttribute(name) is not None

    def parameterDefined(self, name):
        return self.commonParameterDefined(f"{self._name}.{name}")

    def parameter(self, name):
        if self._node is None:
            return ""
        for each in (f"{self._name}.{name}", name):
            if self._node.GetAttribute(each) is not None:
                return self._node.GetAttribute(each)
        QtCore.qCritical(f"Parameter named {name} cannot be found for effect {self._name}")
        return ""

    def integerParameter(self, name):
        return int(self._number(name))

    def doubleParameter(self, name):
        return float(self._number(name))

    def _number(self, name):
        text = self.parameter(name)
        try:
            return float(text)
        except ValueError:
            QtCore.qCritical(f"Parameter named {name} cannot be converted to a number")
            return 0

    # Images

    def defaultModifierLabelmap(self):
        made = self._editor.logic.ResetModifierLabelmapToDefault()
        return self._editor.logic.GetModifierLabelmap() if made else None

    def modifierLabelmap(self):
        return self._editor.logic.GetModifierLabelmap()

    def maskLabelmap(self):
        made = self._editor.logic.UpdateMaskLabelmap()
        return self._editor.logic.GetMaskLabelmap() if made else None

    def selectedSegmentLabelmap(self):
        made = self._editor.logic.UpdateSelectedSegmentLabelmap()
        return self._editor.logic.GetSelectedSegmentLabelmap() if made else None

    def sourceVolumeImageData(self):
        made = self._editor.logic.UpdateAlignedSourceVolume()
        return self._editor.logic.GetAlignedSourceVolume() if made else None

    def referenceGeometryImage(self):
        made = self._editor.logic.UpdateReferenceGeometryImage()
        return self._editor.logic.GetReferenceGeometryImage() if made else None

    # Edits

    def saveStateForUndo(self):
        self._editor.saveStateForUndo()

    def modifySegmentByLabelmap(self, segmentation, identifier, image, mode, *extent_and_bypass):
        rest = list(extent_and_bypass)
        bypass = bool(rest.pop()) if rest and isinstance(rest[-1], bool) else False
        extents = [tuple(rest[0])] if rest else []
        if extents and len(extents[0]) != 6:
            QtCore.qCritical("modifySelectedSegmentByLabelmap failed: extent must have 6 values")
            return
        logic = self._editor.logic
        how = getattr(logic, MODES[mode])
        per_segment = self.get_perSegment()
        logic.ModifySegmentByLabelmap(
            segmentation, identifier, image, how, *extents, per_segment, bypass
        )

    def modifySelectedSegmentByLabelmap(self, image, mode, *extent_and_bypass):
        self.modifySegmentByLabelmap(
            self._node.GetSegmentationNode(),
            self._node.GetSelectedSegmentID() or "",
            image,
            mode,
            *extent_and_bypass,
        )

    def confirmCurrentSegmentVisible(self):
        """Ask the user if the current segment is hidden, by a modal box."""
        segmentation = self._node.GetSegmentationNode() if self._node else None
        identifier = self._node.GetSelectedSegmentID() if self._node else ""
        if segmentation is None or not identifier:
            return WITHOUT_DIALOG
        display = segmentation.GetDisplayNode()
        if display and display.GetVisibility() and display.GetSegmentVisibility(identifier):
            return WITHOUT_DIALOG
        buttons = QtWidgets.QMessageBox.StandardButton
        ask = adaptations.methods["QDialog", "exec"]
        answer = ask("The currently selected segment is hidden. Would you like to make it visible?")
        if answer == buttons.Yes.value:
            display.SetVisibility(True)
            display.SetSegmentVisibility(identifier, True)
        return WITH_DIALOG if answer in (buttons.Yes.value, buttons.No.value) else NOT_CONFIRMED


class qSlicerSegmentEditorAbstractLabelEffect(
    stand_ins["qSlicerSegmentEditorAbstractEffect"], metaclass=StandIn
):
    """An effect that edits label maps."""


class qSlicerSegmentEditorPaintEffect(
    stand_ins["qSlicerSegmentEditorAbstractLabelEffect"], metaclass=StandIn
):
    """The brush. Tests move it: see painting.py."""

    erases = False

    def setMRMLDefaults(self):
        self._set_defaults(COMMON_DEFAULTS, OWN_DEFAULTS)

    def modification_mode(self):
        """Return what a stroke does to the voxels that it covers, as a number."""
        if not self.erases:
            return MODES.index("ModificationModeAdd")
        everything = self.integerParameter("EraseAllSegments")
        return MODES.index("ModificationModeRemoveAll" if everything else "ModificationModeRemove")


class qSlicerSegmentEditorEraseEffect(
    stand_ins["qSlicerSegmentEditorPaintEffect"], metaclass=StandIn
):
    """The brush that takes voxels away."""

    erases = True


class qSlicerSegmentEditorScriptedLabelEffect(
    stand_ins["qSlicerSegmentEditorAbstractLabelEffect"], metaclass=StandIn
):
    """Any other effect: it can be chosen and has a name, but no tool behind it."""


KINDS = {
    "Paint": qSlicerSegmentEditorPaintEffect,
    "Erase": qSlicerSegmentEditorEraseEffect,
}


class qSlicerSegmentEditorEffectFactory(QtCore.QObject, metaclass=StandIn):
    """Knows the effects of this Slicer."""

    names = (
        *("Threshold", "Paint", "Draw", "Erase", "Level tracing", "Grow from seeds"),
        *("Fill between slices", "Margin", "Hollow", "Smoothing", "Scissors", "Islands"),
        *("Logical operators", "Mask volume"),
    )
    _one = None

    @classmethod
    def instance(cls):
        if cls._one is None:
            cls._one = cls()
        return cls._one

    def effects_for(self, editor):
        """Return copies of all effects for one editor."""
        other = qSlicerSegmentEditorScriptedLabelEffect
        return [KINDS.get(name, other).of(name, editor) for name in self.names]
