"""New nodes of the scene."""

from __future__ import annotations

import slicer


def new_node(node_class: str, name: str, *, hidden: bool = False):
    """Return a new node of the scene; a hidden one is hidden before anybody hears of it."""
    node = slicer.mrmlScene.CreateNodeByClass(node_class)
    node.UnRegister(None)
    node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    node.SetHideFromEditors(hidden)
    return slicer.mrmlScene.AddNode(node)
