"""What a new result replaces is kept in a file, and can be brought back."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.errors import SemiSupSegError

PREVIOUS = "SemiSupSeg.previous"
"""Attribute of a result: the file of the one that it has replaced."""


def keep_previous(segmentation, file: Path) -> None:
    """Write a segmentation to a file before it is replaced.

    Raises:
        SemiSupSegError: If it cannot be written; then nothing should be replaced.
    """
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Slicer chooses the writer by the end of the name.
    temporary = file.with_name("new " + file.name)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(temporary))
    storage.SetUseCompression(False)
    slicer.mrmlScene.AddNode(storage)
    try:
        is_written = storage.WriteData(segmentation)
    finally:
        slicer.mrmlScene.RemoveNode(storage)
    if not is_written:
        raise SemiSupSegError(
            _(
                "{name} could not be kept in {file}, so it was not replaced. Make room on the "
                "disk, or choose a new output."
            ).format(name=segmentation.GetName(), file=file)
        )
    temporary.replace(file)
    segmentation.SetAttribute(PREVIOUS, str(file))


def restore_previous(segmentation) -> None:
    """Exchange a result with the one that it has replaced.

    Raises:
        SemiSupSegError: If the former one cannot be read.
    """
    file = Path(segmentation.GetAttribute(PREVIOUS) or "")
    former = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "former")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(file))
    slicer.mrmlScene.AddNode(storage)
    try:
        if not file.is_file() or not storage.ReadData(former):
            raise SemiSupSegError(
                _("The former result in {file} cannot be read. Apply the model again.").format(
                    file=file
                )
            )
        keep_previous(segmentation, file)
        segmentation.GetSegmentation().DeepCopy(former.GetSegmentation())
    finally:
        slicer.mrmlScene.RemoveNode(storage)
        slicer.mrmlScene.RemoveNode(former)
