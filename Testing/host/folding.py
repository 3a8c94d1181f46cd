"""Showing and hiding the children of a widget that folds, as ctk's collapsible widgets do."""

# ruff: noqa: N802 - Qt's, ctk's and Slicer's own names

from PySide6 import QtCore, QtWidgets

WANTED = "visibilityToParent"
"""Dynamic property of a child: whether it is to be seen when unfolded (ctk's name for it)."""


class Folds:
    """Mixin of a widget with `is_folded()`.

    A child that was hidden by its own stays hidden when the widget unfolds; one that is shown or
    added while the widget is folded appears when it unfolds.
    """

    _folding = False

    def is_folded(self):
        raise NotImplementedError

    def direct_children(self):
        only = QtCore.Qt.FindChildOption.FindDirectChildrenOnly
        return self.findChildren(QtWidgets.QWidget, options=only)

    def apply_fold(self):
        for child in self.direct_children():
            self._show_or_hide(child)

    def _show_or_hide(self, child):
        wanted = child.property(WANTED)
        self._folding = True
        child.setVisible(not self.is_folded() and wanted is not False)
        self._folding = False

    def childEvent(self, event):
        child = event.child()
        if event.added() and isinstance(child, QtWidgets.QWidget) and not child.isWindow():
            if child.testAttribute(QtCore.Qt.WidgetAttribute.WA_WState_ExplicitShowHide):
                child.setProperty(WANTED, not child.isHidden())
            child.installEventFilter(self)
            if self.is_folded():
                self._show_or_hide(child)
        super().childEvent(event)

    def eventFilter(self, child, event):
        if not self._folding:
            if event.type() == QtCore.QEvent.Type.ShowToParent:
                child.setProperty(WANTED, True)
                if self.is_folded():
                    self._show_or_hide(child)
            elif event.type() == QtCore.QEvent.Type.HideToParent:
                child.setProperty(WANTED, False)
        return super().eventFilter(child, event)
