"""What a new result replaces is kept in a file, and can be brought back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.errors import SemiSupSegError

PREVIOUS = "SemiSupSeg.previous"
"""Attribute of a result: the files of those that it has replaced, the oldest first, as JSON."""


def kept_files(segmentation) -> list[Path]:
    """Return the files of what a result has replaced, the oldest first."""
    return [Path(one) for one in json.loads(segmentation.GetAttribute(PREVIOUS) or "[]")]


def keep_previous(segmentation, folder: Path) -> Iterator[None]:
    """Write a segmentation to a new file before it is replaced, in steps.

    Args:
        segmentation: The node.
        folder: For what is kept.

    Raises:
        SemiSupSegError: If it cannot be written; then nothing should be replaced.
    """
    file = yield from _write(segmentation, folder)
    _remember(segmentation, [*kept_files(segmentation), file])


def restore_previous(segmentation) -> None:
    """Exchange a result with the one that it has replaced; once more goes on to the one before.

    The present one becomes the oldest, so that one comes round to it again.

    Raises:
        SemiSupSegError: If the former one cannot be read.
    """
    files = kept_files(segmentation)
    file = files[-1]
    former = slicer.vtkMRMLSegmentationNode()
    former.SetHideFromEditors(True)
    slicer.mrmlScene.AddNode(former)
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
        present = _all_of(_write(segmentation, file.parent))
        segmentation.GetSegmentation().DeepCopy(former.GetSegmentation())
        _remember(segmentation, [present, *files[:-1]])
        file.unlink(missing_ok=True)
    finally:
        slicer.mrmlScene.RemoveNode(storage)
        slicer.mrmlScene.RemoveNode(former)


def _write(segmentation, folder: Path) -> Iterator[None]:
    """Write to a new file; the generator returns it. The writing itself is one call of VTK."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = folder / f"{time.time_ns()}.seg.nrrd"
    # Slicer chooses the writer by the end of the name.
    temporary = file.with_name("new-" + file.name)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(temporary))
    storage.SetUseCompression(False)
    slicer.mrmlScene.AddNode(storage)
    try:
        yield
        is_written = storage.WriteData(segmentation)
        yield
    finally:
        # The scene may have been closed between two steps.
        if slicer.mrmlScene.IsNodePresent(storage):
            slicer.mrmlScene.RemoveNode(storage)
    if not is_written:
        raise SemiSupSegError(
            _(
                "{name} could not be kept in {file}, so it was not replaced. Make room on the "
                "disk, or choose a new output."
            ).format(name=segmentation.GetName(), file=file)
        )
    temporary.replace(file)
    return file


def _all_of(steps: Iterator[None]) -> Path:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _remember(segmentation, files: list[Path]) -> None:
    segmentation.SetAttribute(PREVIOUS, json.dumps([str(file) for file in files]))
