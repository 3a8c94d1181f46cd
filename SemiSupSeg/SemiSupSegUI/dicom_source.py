"""From which DICOM files a volume of the scene was loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import slicer
from slicer.i18n import tr as _


@dataclass(frozen=True)
class DicomSource:
    """A DICOM series on the disk."""

    folder: Path
    """That of its files."""
    series: str
    """Series Instance UID."""


def dicom_source(volume) -> tuple[DicomSource | None, str]:
    """Return the series that a volume was loaded from, or None and why it is not known.

    Args:
        volume: A volume node, or None.
    """
    if volume is None:
        return None, _(
            "A DICOM SEG refers to DICOM images, and the scan of this case is not in the scene."
        )
    name = volume.GetName()
    # Slicer's DICOM reader leaves the slices' UIDs there.
    instances = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    series = _series_of(volume)
    if not instances or not series:
        return None, _(
            "{name} did not come from DICOM, and a DICOM SEG refers to DICOM images."
        ).format(name=name)
    # Only there if Slicer has its DICOM module.
    database = getattr(slicer, "dicomDatabase", None)
    file = database.fileForInstance(instances[0]) if database is not None else ""
    if not file:
        return None, _(
            "The DICOM files of {name} are not in Slicer's DICOM database. Import them there."
        ).format(name=name)
    return DicomSource(Path(file).parent, series), ""


def _series_of(volume) -> str:
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(volume) if hierarchy else 0
    if not item:
        return ""
    return hierarchy.GetItemUID(item, "DICOM") or ""
