"""Which volume of the scene is which channel of the model, why, and what stands against it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import slicer
import vtk
from slicer.i18n import tr as _

from SemiSupSegLib.cases.names import NameReader, stem_of
from SemiSupSegLib.cases.task import Task

_SAME_VOXEL = 0.01
"""Voxel centres nearer than this, in voxels, are the same (rounding of matrices)."""


@dataclass(frozen=True)
class Origin:
    """What the scene knows of a volume's DICOM origin; empty where it knows nothing."""

    patient: str = ""
    study: str = ""
    date: str = ""
    description: str = ""
    frame: str = ""


def origin_of(volume) -> Origin:
    """Return what the subject hierarchy says of a volume."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(volume) if hierarchy else 0
    if not item:
        return Origin()

    def said(name: str) -> str:
        return hierarchy.GetAttributeFromItemAncestor(item, name) or (
            hierarchy.GetItemAttribute(item, name) or ""
        )

    return Origin(
        patient=said("DICOM.PatientID"),
        study=said("DICOM.StudyInstanceUID"),
        date=said("DICOM.StudyDate") or said("DICOM.SeriesDate"),
        description=hierarchy.GetItemAttribute(item, "DICOM.SeriesDescription") or "",
        frame=hierarchy.GetItemAttribute(item, "DICOM.FrameOfReferenceUID") or "",
    )


def volumes_of_scene() -> list:
    """Return the scalar volumes that may be inputs: no label maps, nothing of our own."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [
        node
        for node in nodes
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and not node.GetAttribute("SemiSupSeg.role")
    ]


@dataclass(frozen=True)
class Choice:
    """A volume for a channel."""

    volume: object
    why: str
    """A sentence for the tool tip."""


def choose(task: Task, volumes: list) -> dict[str, Choice]:
    """Return a volume for each channel that a name tells, all of one patient and study.

    Node names are read first, then file names, then DICOM series descriptions. Of several studies
    the one with most channels is taken, the latest of equals.
    """
    reader = NameReader(task)
    found: dict[tuple, dict[str, Choice]] = {}
    for volume in volumes:
        origin = origin_of(volume)
        group = (origin.patient, origin.study or origin.frame, origin.date)
        if len(task.channels) == 1 and len(volumes) == 1:
            why = _("It is the only volume, and the model takes one.")
            found.setdefault(group, {})[task.channels[0].name] = Choice(volume, why)
            continue
        named = _channel_of(volume, origin, reader)
        if named is not None:
            channel, why = named
            # The first one of a name stays; a second one is the user's to choose.
            found.setdefault(group, {}).setdefault(channel, Choice(volume, why))
    if not found:
        return {}
    best = found[max(found, key=lambda group: (len(found[group]), group[2]))]
    return {one.name: best[one.name] for one in task.channels if one.name in best}


def _channel_of(volume, origin: Origin, reader: NameReader) -> tuple[str, str] | None:
    storage = volume.GetStorageNode()
    file_name = Path(storage.GetFileName()).name if storage and storage.GetFileName() else ""
    for text, source in (
        (volume.GetName() or "", _("its name")),
        (stem_of(file_name) or "", _("its file's name")),
        (origin.description, _("its DICOM series description")),
    ):
        stem = stem_of(text) or text
        channel = reader.channel(stem) if stem else None
        if channel is not None:
            return channel, _('Chosen because {source} is "{text}".').format(
                source=source, text=text
            )
    return None


def hindrances(task: Task, chosen: dict[str, object], mask=None) -> list[str]:
    """Return sentences on what forbids segmenting: missing, doubled, of several patients.

    Args:
        task: Says which channels are needed.
        chosen: Volumes by channel.
        mask: The mask's volume, or None.
    """
    problems = []
    missing = [one.name for one in task.channels if one.required and one.name not in chosen]
    if missing:
        problems.append(_("Choose a volume for {names}.").format(names=", ".join(missing)))
    seen: dict[str, str] = {}
    named = {**chosen, **({} if mask is None else {_("the mask"): mask})}
    for channel, volume in named.items():
        if volume.GetImageData() is None:
            problems.append(
                _("{name} has no voxels. Choose another volume for {channel}.").format(
                    name=volume.GetName(), channel=channel
                )
            )
        elif volume.GetImageData().GetNumberOfScalarComponents() != 1:
            problems.append(
                _(
                    "{name} has several values a voxel (colours or directions). Choose another "
                    "volume for {channel}."
                ).format(name=volume.GetName(), channel=channel)
            )
        if volume.GetID() in seen:
            problems.append(
                _(
                    "{name} is chosen for {first} and for {second}. Choose a volume of its own for "
                    "each."
                ).format(name=volume.GetName(), first=seen[volume.GetID()], second=channel)
            )
        seen.setdefault(volume.GetID(), channel)
    patients = {origin_of(volume).patient for volume in named.values()} - {""}
    if len(patients) > 1:
        problems.append(
            _(
                "The volumes are of {count} different patients. Choose volumes of one patient."
            ).format(count=len(patients))
        )
    return problems


def dates(chosen: dict[str, object]) -> list[str]:
    """Return the different study dates of the volumes, in order."""
    return sorted({origin_of(volume).date for volume in chosen.values()} - {""})


def notes(chosen: dict[str, object]) -> list[str]:
    """Return sentences on what will be done to the volumes; the first channel is the reference."""
    if not chosen:
        return []
    (first, reference), *others = chosen.items()
    said = [
        _("{channel} ({name}) lies on another grid and will be resampled to {first}.").format(
            channel=channel, name=volume.GetName(), first=first
        )
        for channel, volume in others
        if not _shares_voxels(volume, reference)
    ]
    said += [
        _("{name} stands under a transform that bends; the network gets it as it is shown.").format(
            name=volume.GetName()
        )
        for volume in chosen.values()
        if not is_linear(volume)
    ]
    return said


def is_linear(volume) -> bool:
    """Return whether a volume's parent transforms, if any, are linear."""
    transform = volume.GetParentTransformNode()
    return transform is None or bool(transform.IsTransformToWorldLinear())


def ijk_to_world(volume) -> vtk.vtkMatrix4x4:
    """Return the matrix from voxel index to world RAS in mm, linear parent transforms included."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    transform = volume.GetParentTransformNode()
    if transform is not None:
        to_world = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(to_world)
        vtk.vtkMatrix4x4.Multiply4x4(to_world, matrix, matrix)
    return matrix


def _shares_voxels(volume, reference) -> bool:
    """Return whether a volume's voxels are the reference's, in whatever order they are stored."""
    if volume.GetImageData() is None or reference.GetImageData() is None:
        return True
    if not (is_linear(volume) and is_linear(reference)):
        return False
    between = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(ijk_to_world(reference), between)
    vtk.vtkMatrix4x4.Multiply4x4(between, ijk_to_world(volume), between)
    farthest = [size - 1 for size in volume.GetImageData().GetDimensions()]
    corners = [
        between.MultiplyPoint((*corner, 1))
        for corner in itertools.product(*((0, one) for one in farthest))
    ]
    if any(abs(part - round(part)) > _SAME_VOXEL for corner in corners for part in corner):
        return False
    steps = [[between.GetElement(row, column) for column in range(3)] for row in range(3)]
    # Each axis is one of the other's: of three numbers two are 0 and one is 1 or -1.
    return all(sorted(round(abs(part)) for part in row) == [0, 0, 1] for row in steps)
