"""Stand-ins for the ctk widgets that our panel uses."""

# ruff: noqa: N801, N802 - Qt's, ctk's and Slicer's own names

from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host.cpp_classes import stand_ins
from Testing.host.folding import Folds
from Testing.host.stand_in import StandIn


class ctkCollapsibleButton(
    Folds,
    QtWidgets.QAbstractButton,
    metaclass=StandIn,
    contentsFrameShape=0,
    contentsFrameShadow=16,
):
    """A header that shows or hides what lies under it."""

    def __init__(self, *arguments):
        text = next((each for each in arguments if isinstance(each, str)), "")
        parent = next((each for each in arguments if isinstance(each, QtWidgets.QWidget)), None)
        self._collapsed = False
        super().__init__(parent)
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(lambda checked: self.set_collapsed(not checked))
        policy = QtWidgets.QSizePolicy.Policy
        self.setSizePolicy(policy.Preferred, policy.Fixed)
        self.setContentsMargins(0, self.header_height(), 0, 0)

    def is_folded(self):
        return self._collapsed

    def get_collapsed(self):
        return self._collapsed

    def set_collapsed(self, collapsed):
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self.setChecked(not collapsed)
        self.apply_fold()
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    def header_height(self):
        return self.fontMetrics().height() + 8

    def sizeHint(self):
        header = QtCore.QSize(self.fontMetrics().horizontalAdvance(self.text()) + 30, 0)
        inner = QtCore.QSize(0, 0)
        if self.layout() and not self._collapsed:
            inner = self.layout().totalSizeHint()
        height = inner.height() if inner.height() else self.header_height()
        return QtCore.QSize(max(header.width(), inner.width()), height)

    def minimumSizeHint(self):
        return self.sizeHint()

    def hasHeightForWidth(self):
        return False

    def hitButton(self, point):
        return point.y() <= self.header_height()

    def paintEvent(self, _event):
        painter = QtGui.QPainter(self)
        box = QtCore.QRect(0, 0, self.width(), self.header_height())
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = box
        style = self.style()
        style.drawPrimitive(
            QtWidgets.QStyle.PrimitiveElement.PE_PanelButtonCommand, option, painter, self
        )
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, (box.height() - 10) // 2, 10, 10)
        kind = QtWidgets.QStyle.PrimitiveElement
        shape = kind.PE_IndicatorArrowRight if self._collapsed else kind.PE_IndicatorArrowDown
        style.drawPrimitive(shape, arrow, painter, self)
        painter.setPen(self.palette().buttonText().color())
        text = box.adjusted(22, 0, -4, 0)
        painter.drawText(
            text,
            QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.AlignmentFlag.AlignLeft,
            self.text(),
        )
        painter.end()


class ctkCollapsibleGroupBox(Folds, QtWidgets.QGroupBox, metaclass=StandIn):
    """A group box that its check box folds away."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.setCheckable(True)
        self.toggled.connect(lambda _checked: self._toggled())

    def _toggled(self):
        self.apply_fold()
        self.setMaximumHeight(self.folded_height() if self.is_folded() else 16777215)

    def folded_height(self):
        return self.fontMetrics().height() + 8

    def is_folded(self):
        return self.isCheckable() and not self.isChecked()

    def get_collapsed(self):
        return self.is_folded()

    def set_collapsed(self, collapsed):
        self.setChecked(not collapsed)


def ranged(spin):
    """Make a spin box as wide as its numbers."""
    spin.setKeyboardTracking(False)
    spin.setDecimals(2)
    return spin


class OfSpinBox:
    """The properties that a widget hands through to its spin boxes."""

    def get_decimals(self):
        return self._spins[0].decimals()

    def set_decimals(self, decimals):
        for spin in self._spins:
            spin.setDecimals(decimals)

    def get_singleStep(self):
        return self._spins[0].singleStep()

    def set_singleStep(self, step):
        for spin in self._spins:
            spin.setSingleStep(step)

    def get_prefix(self):
        return self._spins[0].prefix()

    def set_prefix(self, prefix):
        for spin in self._spins:
            spin.setPrefix(prefix)

    def get_suffix(self):
        return self._spins[0].suffix()

    def set_suffix(self, suffix):
        for spin in self._spins:
            spin.setSuffix(suffix)

    def get_minimum(self):
        return self._spins[0].minimum()

    def get_maximum(self):
        return self._spins[0].maximum()


def spin_properties(body):
    """Add the handed-through properties to a class body, where `stands_in` looks for them."""
    for name, function in vars(OfSpinBox).items():
        if name.startswith(("get_", "set_")):
            body.setdefault(name, function)


STEPS = 1000


class ctkSliderWidget(
    QtWidgets.QWidget, metaclass=StandIn, tracking=True, pageStep=10.0, spinBoxVisible=True
):
    """A slider with a spin box for the same number."""

    spin_properties(locals())

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setRange(0, STEPS)
        self._spins = [ranged(QtWidgets.QDoubleSpinBox())]
        self._spin = self._spins[0]
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider, 1)
        row.addWidget(self._spin)
        self._slider.valueChanged.connect(self._slid)
        self._spin.valueChanged.connect(self._typed)
        self.set_maximum(99.0)
        self._spin.setSingleStep(1.0)

    def _slid(self, place):
        low, high = self._spin.minimum(), self._spin.maximum()
        self._spin.setValue(low + (high - low) * place / STEPS)

    def _typed(self, value):
        low, high = self._spin.minimum(), self._spin.maximum()
        self._slider.blockSignals(True)
        self._slider.setValue(round(STEPS * (value - low) / (high - low)) if high > low else 0)
        self._slider.blockSignals(False)
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def get_value(self):
        return self._spin.value()

    def set_value(self, value):
        self._spin.setValue(value)

    def setValue(self, value):
        self._spin.setValue(value)

    def set_minimum(self, minimum):
        self._spin.setMinimum(minimum)

    def set_maximum(self, maximum):
        self._spin.setMaximum(maximum)

    def set_decimals(self, decimals):
        if decimals != self._spin.decimals():
            self._spin.setDecimals(decimals)
            self.decimalsChanged.emit(decimals)

    def setDecimals(self, decimals):
        self.set_decimals(decimals)

    def reset(self):
        self._spin.setValue(self._spin.minimum())

    def get_spinBoxVisible(self):
        return not self._spin.isHidden()

    def set_spinBoxVisible(self, visible):
        self._spin.setVisible(visible)

    def setSpinBoxVisible(self, visible):
        self._spin.setVisible(visible)


class ctkRangeWidget(QtWidgets.QWidget, metaclass=StandIn, tracking=True, autoSpinBoxWidth=True):
    """Two spin boxes for the ends of a range."""

    spin_properties(locals())

    def __init__(self, parent=None):
        super().__init__(parent)
        self._spins = [ranged(QtWidgets.QDoubleSpinBox()) for _ in range(2)]
        self._bar = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._spins[0])
        row.addWidget(self._bar, 1)
        row.addWidget(self._spins[1])
        self._low, self._high = 0.0, 99.0
        self.setRange(0.0, 99.0)
        self.setValues(0.0, 99.0)
        self._spins[0].valueChanged.connect(lambda v: self.setValues(v, max(v, self._high)))
        self._spins[1].valueChanged.connect(lambda v: self.setValues(min(v, self._low), v))

    def setRange(self, minimum, maximum):
        for spin in self._spins:
            spin.blockSignals(True)
            spin.setRange(minimum, maximum)
            spin.blockSignals(False)
        self.rangeChanged.emit(minimum, maximum)
        self.setValues(self._low, self._high)

    def set_minimum(self, minimum):
        self.setRange(minimum, max(minimum, self.get_maximum()))

    def set_maximum(self, maximum):
        self.setRange(min(maximum, self.get_minimum()), maximum)

    def get_maximum(self):
        return self._spins[1].maximum()

    def get_minimumValue(self):
        return self._low

    def get_maximumValue(self):
        return self._high

    def set_minimumValue(self, value):
        self.setValues(value, max(value, self._high))

    def set_maximumValue(self, value):
        self.setValues(min(value, self._low), value)

    def setMinimumValue(self, value):
        self.set_minimumValue(value)

    def setMaximumValue(self, value):
        self.set_maximumValue(value)

    def setDecimals(self, decimals):
        OfSpinBox.set_decimals(self, decimals)

    def setValues(self, low, high):
        low, high = (min(max(v, self.get_minimum()), self.get_maximum()) for v in (low, high))
        changed = (low != self._low, high != self._high)
        self._low, self._high = low, high
        for spin, value in zip(self._spins, (low, high), strict=True):
            spin.blockSignals(True)
            spin.setValue(value)
            spin.blockSignals(False)
        if changed[0]:
            self.minimumValueChanged.emit(low)
        if changed[1]:
            self.maximumValueChanged.emit(high)
        if any(changed):
            self.valuesChanged.emit(low, high)

    def reset(self):
        self.setValues(self.get_minimum(), self.get_maximum())


class ctkDoubleSpinBox(QtWidgets.QWidget, metaclass=StandIn, frame=True):
    """A spin box for a real number."""

    spin_properties(locals())

    def __init__(self, parent=None):
        super().__init__(parent)
        self._spins = [ranged(QtWidgets.QDoubleSpinBox())]
        self._spin = self._spins[0]
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._spin)
        self._spin.valueChanged.connect(self._changed)
        self._spin.editingFinished.connect(lambda: self.editingFinished.emit())

    def _changed(self, value):
        self.valueChanged__double.emit(value)
        self.valueChanged__QString.emit(self._spin.text())

    def get_value(self):
        return self._spin.value()

    def set_value(self, value):
        self._spin.setValue(value)

    def setValue(self, value):
        self._spin.setValue(value)

    def setValueIfDifferent(self, value):
        self._spin.setValue(value)

    def setValueAlways(self, value):
        self._spin.setValue(value)

    def set_minimum(self, minimum):
        self._spin.setMinimum(minimum)

    def set_maximum(self, maximum):
        self._spin.setMaximum(maximum)

    def setDecimals(self, decimals):
        self._spin.setDecimals(decimals)

    def get_readOnly(self):
        return self._spin.isReadOnly()

    def set_readOnly(self, read_only):
        self._spin.setReadOnly(read_only)

    def setReadOnly(self, read_only):
        self._spin.setReadOnly(read_only)

    def get_cleanText(self):
        return self._spin.cleanText()

    def stepUp(self):
        self._spin.stepUp()

    def stepDown(self):
        self._spin.stepDown()


class ctkPathLineEdit(
    QtWidgets.QWidget,
    metaclass=StandIn,
    showBrowseButton=True,
    showHistoryButton=True,
    filters=24579,
):
    """A line for a path, with a button to browse."""

    def __init__(self, *arguments):
        parent = next((each for each in arguments if isinstance(each, QtWidgets.QWidget)), None)
        super().__init__(parent)
        self._box = QtWidgets.QComboBox()
        self._box.setEditable(True)
        self._box.setMinimumContentsLength(8)
        self._box.setSizePolicy(
            QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed
        )
        self._browse = QtWidgets.QToolButton()
        self._browse.setText("...")
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box, 1)
        row.addWidget(self._browse)
        self._box.editTextChanged.connect(self._edited)
        self._browse.clicked.connect(lambda: self.browse())

    def _edited(self, text):
        self.validInputChanged.emit(bool(text))
        self.currentPathChanged.emit(text)

    def get_currentPath(self):
        return self._box.currentText()

    def set_currentPath(self, path):
        self._box.setEditText(path)

    def setCurrentPath(self, path):
        self._box.setEditText(path)

    def comboBox(self):
        return self._box

    def addCurrentPathToHistory(self):
        if self._box.findText(self._box.currentText()) < 0:
            self._box.insertItem(0, self._box.currentText())

    def retrieveHistory(self):
        """There is no history in a test."""

    def browse(self):
        from Testing.host.adaptations import adapted_method

        chosen = adapted_method("QFileDialog", "getOpenFileName")(self)
        if chosen:
            self.setCurrentPath(chosen)


class ctkDirectoryButton(QtWidgets.QWidget, metaclass=StandIn):
    """A button that shows a folder."""

    def __init__(self, *arguments):
        parent = next((each for each in arguments if isinstance(each, QtWidgets.QWidget)), None)
        super().__init__(parent)
        self._button = QtWidgets.QPushButton()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._button)

    def get_directory(self):
        return self._button.text()

    def set_directory(self, path):
        if path != self._button.text():
            self._button.setText(path)
            self.directoryChanged.emit(path)
            self.directorySelected.emit(path)

    def get_text(self):
        return self._button.text()


class ctkComboBox(QtWidgets.QComboBox, metaclass=StandIn, forceDefault=False):
    """A combo box with a text for "nothing chosen"."""

    def get_defaultText(self):
        return self.placeholderText()

    def set_defaultText(self, text):
        self.setPlaceholderText(text)

    def get_currentUserDataAsString(self):
        data = self.currentData()
        return "" if data is None else str(data)

    def set_currentUserDataAsString(self, text):
        self.setCurrentIndex(self.findData(text))

    def setCurrentUserDataAsString(self, text):
        self.setCurrentIndex(self.findData(text))


class ctkMessageBox(QtWidgets.QMessageBox, metaclass=StandIn):
    """A message box with "Don't show again"."""

    def setDontShowAgain(self, dont_show):
        self.setProperty("dontShowAgain", dont_show)


class ctkMenuButton(QtWidgets.QPushButton, metaclass=StandIn):
    """A push button with a menu at its side."""


class ctkExpandButton(QtWidgets.QToolButton, metaclass=StandIn):
    """A small button that unfolds something."""


class ctkSearchBox(QtWidgets.QLineEdit, metaclass=StandIn):
    """A line with a search icon."""


class ctkFittedTextBrowser(QtWidgets.QTextBrowser, metaclass=StandIn):
    """A text browser as high as its text."""


class ctkCheckableComboBox(QtWidgets.QComboBox, metaclass=StandIn):
    """A combo box whose items can be checked."""


NAMES = [name for name in stand_ins if name.startswith("ctk")]
