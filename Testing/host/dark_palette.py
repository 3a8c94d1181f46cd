"""The colours of Slicer's dark theme, for pictures of the panel."""

from PySide6 import QtGui

ROLES = {
    "Window": "#353535",
    "WindowText": "#ffffff",
    "Base": "#232323",
    "AlternateBase": "#353535",
    "ToolTipBase": "#353535",
    "ToolTipText": "#ffffff",
    "Text": "#ffffff",
    "Button": "#353535",
    "ButtonText": "#ffffff",
    "BrightText": "#ff0000",
    "Link": "#2a82da",
    "Highlight": "#2a82da",
    "HighlightedText": "#000000",
    "PlaceholderText": "#808080",
}
DISABLED = ("WindowText", "Text", "ButtonText")


def dark_palette() -> QtGui.QPalette:
    palette = QtGui.QPalette()
    for role, color in ROLES.items():
        palette.setColor(getattr(QtGui.QPalette.ColorRole, role), QtGui.QColor(color))
    for role in DISABLED:
        palette.setColor(
            QtGui.QPalette.ColorGroup.Disabled,
            getattr(QtGui.QPalette.ColorRole, role),
            QtGui.QColor("#808080"),
        )
    return palette
