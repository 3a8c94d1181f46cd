"""Layouts of our own, which are entered and left again."""

from __future__ import annotations

import slicer


class Layout:
    """A layout of the views, and which one was there before it.

    Args:
        identity: Its number in Slicer.
        name: For people.
        xml: Its description, with places for what `register` is given.
    """

    def __init__(self, identity: int, name: str, xml: str) -> None:
        self.identity, self.name = identity, name
        self._xml = xml
        self._before: int | None = None

    @property
    def is_on(self) -> bool:
        """Whether the views are laid out so now."""
        manager = slicer.app.layoutManager()
        return manager is not None and manager.layout == self.identity

    def register(self, **parts: str) -> None:
        """Make the layout known; without a main window there is nothing to lay out."""
        manager = slicer.app.layoutManager()
        if manager is None:
            return
        node = manager.layoutLogic().GetLayoutNode()
        xml = self._xml.format(**parts)
        if not node.AddLayoutDescription(self.identity, xml):
            node.SetLayoutDescription(self.identity, xml)

    def enter(self) -> None:
        """Lay the views out so."""
        manager = slicer.app.layoutManager()
        if manager is None:
            return
        if manager.layout != self.identity:
            self._before = manager.layout
            manager.setLayout(self.identity)
        elif self._before is None:
            # The scene was saved in it; nobody knows what was there before.
            self._before = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView

    def leave(self, *, is_wished: bool = False) -> None:
        """Lay them out as before, unless the user has chosen another layout meanwhile.

        Args:
            is_wished: Whether to leave it also if a scene was saved in it.
        """
        if is_wished and self.is_on:
            self.enter()
        if self._before is not None and self.is_on:
            slicer.app.layoutManager().setLayout(self._before)
        self._before = None
