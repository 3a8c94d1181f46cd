"""What every section of the panel is: a box that can be folded, and when it is told of changes."""

from __future__ import annotations

import ctk
import qt


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
