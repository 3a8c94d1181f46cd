"""New nodes of the scene, and their end."""

from __future__ import annotations

import slicer


def new_node(node_class: str, name: str, *, hidden: bool = False):
    """Return a new node of the scene; a hidden one is hidden before anybody hears of it."""
    node = slicer.mrmlScene.CreateNodeByClass(node_class)
    node.UnRegister(None)
    node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    node.SetHideFromEditors(hidden)
    return slicer.mrmlScene.AddNode(node)


def remove_node(node) -> None:
    """Take a node out of the scene, if it is still there, and what it is displayed with.

    The scene keeps the display nodes of a node that goes; case after case, they would pile up.
    """
    if not slicer.mrmlScene.IsNodePresent(node):
        return
    displays = []
    if node.IsA("vtkMRMLDisplayableNode"):
        displays = [node.GetNthDisplayNode(at) for at in range(node.GetNumberOfDisplayNodes())]
    slicer.mrmlScene.RemoveNode(node)
    for display in displays:
        if display is not None and slicer.mrmlScene.IsNodePresent(display):
            slicer.mrmlScene.RemoveNode(display)
