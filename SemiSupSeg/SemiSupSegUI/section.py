"""What every section of the panel is: a box that can be folded, and when it is told of changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ctk
import qt
import slicer
from slicer.i18n import tr as _


class Section:
    """A part of the panel.

    Args:
        title: Of its box.
    """

    def __init__(self, title: str) -> None:
        self.box = ctk.ctkCollapsibleButton()
        self.box.text = title
        self.box.collapsed = True
        self.layout = qt.QVBoxLayout(self.box)

    def enter(self) -> None:
        """The module is shown."""

    def exit(self) -> None:
        """Another module is shown."""

    def scene_closes(self) -> None:
        """All nodes are about to go."""

    def scene_changed(self) -> None:
        """The scene was closed or loaded, or a node came or went: read it anew."""

    def cleanup(self) -> None:
        """The panel goes."""


def readable(text: str) -> str:
    """Return a text that Qt can show.

    On Linux a file's name may hold bytes that are no UTF-8, which Python keeps as half characters.
    PythonQt shows nothing at all of a text with one, or refuses it. Here each becomes `?`.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def push_button(text: str, action: Callable[[], None]):
    """Return a button that does something."""
    button = qt.QPushButton(text)
    assert button.connect("clicked()", action)
    return button


def wrapped_label():
    """Return a label whose text wraps in the panel's width; Qt makes room for a long one."""
    label = qt.QLabel()
    label.wordWrap = True
    policy = label.sizePolicy
    policy.setHorizontalPolicy(qt.QSizePolicy.Ignored)
    label.setSizePolicy(policy)
    return label


def enable(button, why_not: str, tool_tip: str = "") -> None:
    """Enable a button, or disable it with a tool tip that says why."""
    button.enabled = not why_not
    button.toolTip = why_not or tool_tip


def offer_gpus(box, names: Sequence[str]) -> None:
    """Let each of this machine's GPUs be chosen in a list of devices; the chosen one stays."""
    for number, name in enumerate(names):
        if box.findData(f"cuda:{number}") < 0:
            box.addItem(f"GPU {number}", f"cuda:{number}")
        box.setItemData(box.findData(f"cuda:{number}"), name, qt.Qt.ToolTipRole)


def folder_row(form, title: str, edited: Callable[[str], None]):
    """Add a line with a folder and a button to choose it to a form, and return its text field."""
    edit = qt.QLineEdit()
    assert edit.connect("textEdited(QString)", edited)
    browse = qt.QToolButton()
    browse.text = "..."
    browse.toolTip = _("Choose the folder")

    def choose() -> None:
        path = qt.QFileDialog.getExistingDirectory(edit, title, edit.text)
        if path:
            edit.text = path
            edited(path)

    assert browse.connect("clicked()", choose)
    row = qt.QHBoxLayout()
    row.addWidget(edit)
    row.addWidget(browse)
    form.addRow(title, row)
    return edit


def node_box(node_class: str, none_text: str):
    """Return a selector of the scene's nodes of a class, or of none."""
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = [node_class]
    box.showChildNodeTypes = False
    box.noneEnabled = True
    box.noneDisplay = none_text
    box.addEnabled = False
    box.removeEnabled = False
    box.renameEnabled = False
    box.setMRMLScene(slicer.mrmlScene)
    return box
