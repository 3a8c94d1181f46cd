"""Examining one case: open its files, compare their grids, collect what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from SemiSupSegLib.cases.assignment import assign
from SemiSupSegLib.cases.case import Case, CaseState, ImageSource, Reason, Severity
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.cases.group import Group
from SemiSupSegLib.cases.image_error import ImageFileError
from SemiSupSegLib.cases.inspection import FileFacts, ScanCache, VolumeFacts, inspect
from SemiSupSegLib.cases.label_values import check_label_values
from SemiSupSegLib.cases.names import NameReader
from SemiSupSegLib.cases.reviewed_label import ReviewedLabel
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.counting import counted

_MOST_OF_IT = 0.5
"""Of an image that covers less of the first channel than this, it is said."""

_NOTES = {
    "missing_geometry": (
        "has no position or orientation in its header, so left and right cannot be told",
        "Export it again with its position, if that matters to you",
    ),
    "ambiguous_geometry": (
        "says two different positions in its header (sform and qform); the sform is used",
        "Check that it lies where you expect; other programs may use the qform",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A case and what comparing it with others needs."""

    case: Case
    image_hashes: Mapping[str, str]
    """SHA-256 of each channel's voxels, if they are not all alike; empty without content check."""
    file_hashes: Mapping[str, str]
    """SHA-256 of each channel's file; empty without the content check."""
    bytes_read: int
    geometry: Geometry | None = None
    """Grid of its first channel; None if no image of it can be opened."""


class CaseExaminer:
    """Examines cases of one task; may be called from several threads.

    Args:
        task: What a case should have.
        cache: Facts from former scans.
        check_content: Whether voxels are read, or headers only.
        task_is_recognised: Whether the task was chosen by the files' names, not by the user.
    """

    def __init__(
        self,
        task: Task,
        cache: ScanCache,
        *,
        check_content: bool,
        task_is_recognised: bool = False,
    ):
        self._task = task
        self._names = NameReader(task)
        self._cache = cache
        self._check_content = check_content
        self._task_is_recognised = task_is_recognised

    def examine(
        self, group: Group, *, opens_label: bool = True, reviewed: ReviewedLabel | None = None
    ) -> Examined:
        """Return a case with its state and reasons.

        Args:
            group: The case's files.
            opens_label: Whether its label file may be opened.
            reviewed: A reviewed label that takes the label's place.
        """
        look = _Look(self._cache, self._check_content)
        assignment = assign(
            group,
            self._task,
            self._names,
            look.num_volumes,
            task_is_recognised=self._task_is_recognised,
        )
        reasons = list(assignment.reasons)
        label, unknown = assignment.label, None
        if reviewed is not None:
            label, unknown = ImageSource(path=reviewed.path), reviewed.unknown
            reasons = [one for one in reasons if one.code != "doubled_label"]
            reasons += _provenance_findings(reviewed)
        geometries: dict[str, Geometry] = {}
        image_hashes, file_hashes = {}, {}
        for channel, source in assignment.channels.items():
            facts = look.facts(source)
            if facts is None:
                continue
            geometries[channel] = facts.header.geometry
            reasons += _notes(source, facts)
            volume = _volume(source, facts)
            if volume is not None:
                reasons += _image_findings(source, volume, channel)
                file_hashes[channel] = facts.sha256
                if volume.minimum < volume.maximum:
                    image_hashes[channel] = volume.sha256
        reasons += _grid_findings(assignment.channels, geometries)
        if label is not None and (opens_label or reviewed is not None):
            facts = look.facts(label, is_label=True)
            if facts is not None:
                reasons += self._label_findings(label, facts, unknown)
                if geometries:
                    name, grid = next(iter(geometries.items()))
                    reasons += _compared(label, facts.header.geometry, name, grid, is_label=True)
        reasons += look.problems
        is_usable = not any(one.severity is Severity.ERROR for one in reasons)
        if reviewed is not None and assignment.label is not None and is_usable:
            reasons.append(_own_label_unused(assignment.label, reviewed))
        if group.renamed:
            reasons.append(_renamed(group))
        return Examined(
            case=Case(
                id=group.id,
                patient=group.patient,
                state=_state(reasons, label is not None, reviewed is not None),
                channels=assignment.channels,
                label=label,
                label_unknown=unknown,
                reasons=_worst_first(reasons),
            ),
            image_hashes=image_hashes,
            file_hashes=file_hashes,
            bytes_read=look.bytes_read,
            geometry=next(iter(geometries.values()), None),
        )

    def _label_findings(
        self, source: ImageSource, facts: FileFacts, unknown: int | None
    ) -> list[Reason]:
        if facts.header.components > 1 and source.component is None:
            return [
                Reason(
                    code="wrong_dimensions",
                    severity=Severity.ERROR,
                    file=str(source.path),
                    message=f"the label file {source.path.name} holds "
                    f"{facts.header.components} volumes",
                    remedy="Save it as one volume with a value for each class",
                )
            ]
        volume = _volume(source, facts)
        if volume is None or volume.values is None:
            return []
        if volume.num_not_finite:
            return [_not_finite(source, volume)]
        try:
            check_label_values(volume.values, self._task, source.path, unknown)
        except ImageFileError as error:
            return [reason_of(error)]
        if unknown is not None:
            return _nothing_known(source, volume, unknown)
        if set(volume.values) <= {0.0}:
            return [
                Reason(
                    code="empty_label",
                    severity=Severity.WARNING,
                    file=str(source.path),
                    message=f"the label file {source.path.name} holds background only",
                    remedy="Check that this is meant; if nobody has drawn yet, remove the file",
                )
            ]
        return []


class _Look:
    """Opens the files of one case, each once, and keeps what went wrong."""

    def __init__(self, cache: ScanCache, check_content: bool):
        self._cache = cache
        self._check_content = check_content
        self._known: dict[ImageSource, FileFacts | None] = {}
        self.problems: list[Reason] = []
        self.bytes_read = 0

    def num_volumes(self, source: ImageSource) -> int:
        facts = self.facts(source)
        return facts.header.components if facts is not None else 0

    def facts(self, source: ImageSource, is_label: bool = False) -> FileFacts | None:
        whole = replace(source, component=None)
        if whole not in self._known:
            try:
                facts, num_bytes = inspect(
                    whole, self._cache, content=self._check_content, values=is_label
                )
                self.bytes_read += num_bytes
                self._known[whole] = facts
            except ImageFileError as error:
                self.problems.append(reason_of(error))
                self._known[whole] = None
        return self._known[whole]


def reason_of(error: ImageFileError) -> Reason:
    """Return the finding that an image error stands for."""
    return Reason(
        code=error.code,
        severity=Severity.ERROR,
        file=str(error.file),
        message=error.message,
        remedy=error.remedy,
    )


def _state(reasons: list[Reason], has_label: bool, is_reviewed: bool) -> CaseState:
    if any(one.severity is Severity.ERROR for one in reasons):
        return CaseState.UNUSABLE
    if is_reviewed:
        return CaseState.REVIEWED
    return CaseState.LABELLED if has_label else CaseState.UNLABELLED


def _worst_first(reasons: list[Reason]) -> tuple[Reason, ...]:
    return tuple(sorted(reasons, key=lambda one: one.severity is not Severity.ERROR))


def _volume(source: ImageSource, facts: FileFacts) -> VolumeFacts | None:
    return facts.volumes[source.component or 0] if facts.volumes else None


def _notes(source: ImageSource, facts: FileFacts) -> list[Reason]:
    if not facts.header.note:
        return []
    message, remedy = _NOTES[facts.header.note]
    return [
        Reason(
            code=facts.header.note,
            severity=Severity.WARNING,
            file=str(source.path),
            message=f"{source.path.name} {message}",
            remedy=remedy,
        )
    ]


def _image_findings(source: ImageSource, volume: VolumeFacts, channel: str) -> list[Reason]:
    if volume.num_not_finite:
        return [_not_finite(source, volume)]
    if volume.minimum < volume.maximum:
        return _label_suspicion(source, volume, channel)
    is_empty = volume.minimum == 0
    what = "is empty: every voxel is 0" if is_empty else f"has {volume.minimum:g} in every voxel"
    return [
        Reason(
            code="empty_image" if is_empty else "constant_image",
            severity=Severity.ERROR,
            file=str(source.path),
            message=f"{source.path.name} (channel {channel}) {what}",
            remedy="Export the scan again",
        )
    ]


def _nothing_known(source: ImageSource, volume: VolumeFacts, unknown: int) -> list[Reason]:
    if set(volume.values or ()) - {float(unknown)}:
        return []
    return [
        Reason(
            code="empty_label",
            severity=Severity.ERROR,
            file=str(source.path),
            message=f"the label file {source.path.name} says of no voxel what it is",
            remedy="Review a region of the case and save it again, or remove the file",
        )
    ]


def _own_label_unused(own: ImageSource, reviewed: ReviewedLabel) -> Reason:
    unknown = "" if reviewed.unknown is None else ", whose voxels are known in part,"
    return Reason(
        code="own_label_unused",
        severity=Severity.WARNING,
        file=str(own.path),
        message=f"the reviewed label {reviewed.path.name}{unknown} takes the place of the label "
        f"{own.path.name}",
        remedy="If the case's own label is the better one, remove the reviewed one from the "
        "folder of results",
    )


def _provenance_findings(reviewed: ReviewedLabel) -> list[Reason]:
    if not reviewed.problem:
        return []
    return [
        Reason(
            code="unreadable",
            severity=Severity.ERROR,
            file=str(reviewed.path),
            message=f"what was reviewed in {reviewed.path.name} cannot be told: "
            f"{reviewed.problem.rstrip('.')}",
            remedy="Save the label again from its review",
        )
    ]


def _label_suspicion(source: ImageSource, volume: VolumeFacts, channel: str) -> list[Reason]:
    if volume.values is None:
        return []
    return [
        Reason(
            code="looks_like_labels",
            severity=Severity.WARNING,
            file=str(source.path),
            message=f"{source.path.name} (channel {channel}) has only {len(volume.values)} "
            "different values, all of them whole numbers: it may be a label map",
            remedy="If it is one, name the file or its folder for it (seg, labels)",
        )
    ]


def _not_finite(source: ImageSource, volume: VolumeFacts) -> Reason:
    are = "is not a number" if volume.num_not_finite == 1 else "are not numbers"
    return Reason(
        code="not_finite",
        severity=Severity.ERROR,
        file=str(source.path),
        message=f"{source.path.name} has {counted(volume.num_not_finite, 'voxels')} that {are} "
        "(NaN or infinite)",
        remedy="Export it again, or replace these voxels",
    )


def _grid_findings(
    channels: Mapping[str, ImageSource], geometries: Mapping[str, Geometry]
) -> list[Reason]:
    names = list(geometries)
    return [
        reason
        for name in names[1:]
        for reason in _compared(
            channels[name], geometries[name], names[0], geometries[names[0]], is_label=False
        )
    ]


def _compared(
    source: ImageSource, grid: Geometry, first: str, reference: Geometry, *, is_label: bool
) -> list[Reason]:
    """Compare a grid with the first channel's."""
    if reference.matches(grid):
        return []
    shares = reference.shares_of_overlap(grid)
    voxels, mm = reference.field_of_view_shift(grid)
    if reference.lies_elsewhere(grid):
        return [
            Reason(
                code="grid_mismatch",
                severity=Severity.ERROR,
                file=str(source.path),
                message=f"{source.path.name} lies elsewhere than channel {first}: the fields of "
                f"view share {max(shares):.0%} of the smaller one (corners up to {mm:.1f} mm, "
                f"{voxels:.1f} voxels apart)",
                remedy="Export the segmentation again with the image as reference volume"
                if is_label
                else f"Export both from one study, or register it to {first}",
            )
        ]
    how = "linear interpolation"
    if is_label:
        how += " of each class, of which the largest share wins"
    if shares[0] < _MOST_OF_IT and not is_label:
        how += f"; it covers {shares[0]:.0%} of it, the rest becomes 0"
    return [
        Reason(
            code="grid_repaired",
            severity=Severity.WARNING,
            file=str(source.path),
            message=f"{source.path.name} {grid.difference_to(reference)} channel {first} "
            f"(corners up to {voxels:.2f} voxels, {mm:.2f} mm apart) and is resampled to it by "
            f"{how}",
            remedy="Nothing needs to be done; check the case if the figures surprise you",
        )
    ]


def _renamed(group: Group) -> Reason:
    return Reason(
        code="renamed_case",
        severity=Severity.WARNING,
        file=str(group.folder),
        message=f"several cases have the same name, so this one is called {group.id}",
        remedy="Nothing needs to be done",
    )
