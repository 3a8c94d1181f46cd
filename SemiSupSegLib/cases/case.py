"""A case: one patient's scan, labelled or not, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class CaseState(str, Enum):
    """What a case can be used for."""

    LABELLED = "labelled"
    UNLABELLED = "unlabelled"
    REVIEWED = "reviewed"
    UNUSABLE = "unusable"


class Severity(str, Enum):
    """An error makes a case unusable, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One finding about a case."""

    code: str
    severity: Severity
    file: str
    message: str
    remedy: str

    @property
    def sentences(self) -> str:
        """What was found and what to do; both are kept without a final stop."""
        return f"{self.message}. {self.remedy}."


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Where one image is: a file, one component of a 4-D file, or a DICOM series folder."""

    path: Path
    component: int | None = None
    """Index on the fourth axis of a 4-D file."""
    series: str | None = None
    """DICOM Series Instance UID, if `path` is a folder."""

    def __str__(self) -> str:
        return str(self.path) if self.component is None else f"{self.path}#{self.component}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One patient's scan with its files and findings."""

    id: str
    patient: str
    state: CaseState
    channels: Mapping[str, ImageSource]
    """By channel name, in the task's order."""
    label: ImageSource | None = None
    label_unknown: int | None = None
    """Value in the label's file of voxels that nobody has said anything about; None: every voxel
    counts. A label that a person reviewed in parts has one."""
    reasons: tuple[Reason, ...] = ()
    twins: tuple[str, ...] = ()
    """Ids of other cases that hold an image of this one; known after a check of the content."""
