"""Changes of the user's view settings that can be taken back one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import slicer


@dataclass
class _Change:
    node: object
    read: Callable[[], object]
    write: Callable[[object], None]
    before: object
    ours: object


class Changes:
    """Remembers what settings were before, and puts them back where they still are as we left them.

    What the user has changed since is the user's.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], _Change] = {}
        self.is_adopting = False
        """Whether a value that is ours already was saved with the scene, and not the user's."""

    def set(self, node, name: str, value, usual) -> None:
        """Set a property of a node.

        Args:
            node: The node.
            name: As in its `SetName` and `GetName`.
            value: Ours.
            usual: What to go back to if ours was there before, because it was saved so.
        """
        read = getattr(node, "Get" + name)
        write = getattr(node, "Set" + name)
        key = (node.GetID(), name)
        known = self._made.get(key)
        if known is None or read() != known.ours:
            before = usual if self.is_adopting and read() == value else read()
            known = _Change(node, read, write, before=before, ours=value)
            self._made[key] = known
        known.ours = value
        if read() != value:
            write(value)
        # What a node makes of a value, a rounded one say, is what is found again.
        known.ours = read()

    def undo(self, node=None) -> None:
        """Take back all changes, or those of one node, the latest first."""
        for key in reversed(list(self._made)):
            change = self._made[key]
            if node is not None and change.node is not node:
                continue
            del self._made[key]
            is_there = slicer.mrmlScene.GetNodeByID(key[0]) is change.node
            if is_there and change.read() == change.ours and change.ours != change.before:
                change.write(change.before)

    def forget(self) -> None:
        """Leave all as it is now: the scene that it was in is gone."""
        self._made.clear()
