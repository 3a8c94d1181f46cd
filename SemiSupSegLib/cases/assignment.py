"""Which file is which channel of the task, and which is the label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from SemiSupSegLib.cases.case import ImageSource, Reason, Severity
from SemiSupSegLib.cases.group import Group, Piece
from SemiSupSegLib.cases.label_names import label_findings
from SemiSupSegLib.cases.names import NameReader
from SemiSupSegLib.cases.remedies import how_to_add
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.counting import counted

_MAX_NAMED_FILES = 5
_ASSUMED = "assumed_channel_order"


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The files of a case in their roles."""

    channels: Mapping[str, ImageSource]
    """By channel name, in the task's order; of doubled ones the first."""
    label: ImageSource | None
    reasons: tuple[Reason, ...]


def assign(
    group: Group,
    task: Task,
    names: NameReader,
    num_volumes: Callable[[ImageSource], int],
    *,
    task_is_recognised: bool = False,
) -> Assignment:
    """Return which file of a case is which channel, and what is missing or doubled.

    Args:
        group: The case's files.
        task: Names the channels.
        names: Reads names with the task's aliases.
        num_volumes: How many volumes a file holds; 0 if it cannot be read.
        task_is_recognised: Whether the task was chosen by the files' names, not by the user.
    """
    found: dict[str, list[ImageSource]] = defaultdict(list)
    unused: list[Piece] = [one for one in group.pieces if one.ignored]
    reasons: list[Reason] = []
    by_order = _order_of_indices(group, task, names)
    images = _assignable(group, by_order)
    has_named = any(one.channel is not None or one.index is not None for one in images)
    may_hide_channels = False
    in_volumes: tuple[ImageSource, int] | None = None
    for piece in images:
        source = piece.found.source
        if piece.channel is None and piece.index is None and has_named:
            unused.append(piece)
            continue
        volumes = num_volumes(source)
        if volumes > 1:
            channels = _channels_of_volumes(group, task, names, volumes)
            if channels is None:
                reasons.append(_too_many_volumes(source, volumes, task))
                may_hide_channels = True
                continue
            if not group.channel_names:
                reasons.append(_assumed_order(source, task))
            in_volumes = source, volumes
            for component, name in channels.items():
                found[name].append(replace(source, component=component))
            continue
        channel = piece.channel
        if piece.index is not None:
            channel = by_order.get(piece.index)
            is_assumed = channel is not None and not _is_named_channel(group, names, piece.index)
            if is_assumed and not any(one.code == _ASSUMED for one in reasons):
                reasons.append(_assumed_order(source, task))
        elif channel is None and len(task.channels) == 1:
            channel = task.channels[0].name
        if channel is not None:
            found[channel].append(source)
        elif volumes:
            unused.append(piece)
        else:
            # It cannot be read, which is said elsewhere; it may hold what seems missing.
            may_hide_channels = True
    if not may_hide_channels:
        reasons += _missing_channels(group, task, names, found, task_is_recognised, in_volumes)
    reasons += _doubled_channels(group, found)
    labels = group.labels
    unused += [one for one in group.pieces if one.label and one not in labels]
    reasons += _label_reasons(group, task, labels)
    if unused:
        reasons.append(_unused(unused))
    return Assignment(
        channels={one.name: found[one.name][0] for one in task.channels if found[one.name]},
        label=labels[0].found.source if labels else None,
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _nothing_there(group: Group) -> Reason:
    if group.broken_link:
        return Reason(
            code="unreadable",
            severity=Severity.ERROR,
            file=str(group.folder),
            message=f"the link {group.folder.name} cannot be followed ({group.broken_link})",
            remedy="Correct or remove it",
        )
    return Reason(
        code="no_image",
        severity=Severity.ERROR,
        file=str(group.folder),
        message=f"the folder {group.folder.name} holds no image",
        remedy="Put the case's images (NIfTI, NRRD, MetaImage or DICOM) there, or remove it",
    )


def _assignable(group: Group, by_order: Mapping[int, str]) -> tuple[Piece, ...]:
    """Return the images but numbered ones of unknown order, which are reported together."""
    return tuple(one for one in group.images if one.index is None or by_order)


def _order_of_indices(group: Group, task: Task, names: NameReader) -> dict[int, str]:
    """Return number → channel by the data set's names, else by the task's order."""
    indices = sorted({one.index for one in group.images if one.index is not None})
    named = {index: names.channel(group.channel_names.get(index, "")) for index in indices}
    result = {index: channel for index, channel in named.items() if channel is not None}
    if not result and len(indices) <= len(task.channels):
        result = {
            index: task.channels[index].name for index in indices if index < len(task.channels)
        }
    return result


def _is_named_channel(group: Group, names: NameReader, index: int) -> bool:
    """Return whether there can be no doubt about a channel's number."""
    alone = len([one for one in group.images if one.index is not None]) == 1
    return alone or names.channel(group.channel_names.get(index, "")) is not None


def _channels_of_volumes(
    group: Group, task: Task, names: NameReader, volumes: int
) -> dict[int, str] | None:
    """Return component → channel of a file of several volumes, or None if nothing tells."""
    named = {
        index: channel
        for index, name in group.channel_names.items()
        if index < volumes and (channel := names.channel(name)) is not None
    }
    if named:
        return named
    if volumes == len(task.channels):
        return {index: channel.name for index, channel in enumerate(task.channels)}
    return None


def _missing_channels(
    group: Group,
    task: Task,
    names: NameReader,
    found: Mapping[str, list[ImageSource]],
    task_is_recognised: bool,
    in_volumes: tuple[ImageSource, int] | None,
) -> list[Reason]:
    if not group.pieces:
        return [_nothing_there(group)]
    num_numbered = len({one.index for one in group.images if one.index is not None})
    if num_numbered and not any(found.values()):
        return [_unnamed_numbers(group, task, num_numbered)]
    if not any(found.values()) and group.labels and not group.images:
        label = group.labels[0].found.source
        return [
            Reason(
                code="label_without_image",
                severity=Severity.ERROR,
                file=str(label.path),
                message=f"the label file {label.path.name} has no image",
                remedy="Put the images beside it under the same name, or remove the label file",
            )
        ]
    reasons = []
    other_task = (
        f"; if the data set is not of task '{task.name}', which was recognised by its file names, "
        "name yours with --task"
        if task_is_recognised
        else ""
    )
    for channel in task.channels:
        if found.get(channel.name):
            continue
        remedy = how_to_add(group, task, names, channel, in_volumes)
        reasons.append(
            Reason(
                code="missing_channel" if channel.required else "missing_optional_channel",
                severity=Severity.ERROR if channel.required else Severity.WARNING,
                file=str(group.folder),
                message=f"no file is named as channel {channel.name}"
                if in_volumes is None
                else f"none of the {in_volumes[1]} volumes of {in_volumes[0].path.name} is channel "
                f"{channel.name}",
                remedy=f"{remedy}{other_task}"
                if channel.required
                else "Nothing needs to be done; results may be less good",
            )
        )
    return reasons


def _unnamed_numbers(group: Group, task: Task, num_numbered: int) -> Reason:
    return Reason(
        code="missing_channel",
        severity=Severity.ERROR,
        file=str(group.folder),
        message=f"{'1 image is' if num_numbered == 1 else f'{num_numbered} images are'} numbered "
        "(_0000, ...), and nothing says which is which "
        f"of the channels of task '{task.name}' ({', '.join(one.name for one in task.channels)})",
        remedy="Name them in a dataset.json ('channel_names'), or give a task of as many channels "
        "with --task",
    )


def _doubled_channels(group: Group, found: Mapping[str, list[ImageSource]]) -> list[Reason]:
    titles = {one.found.source: one.found.title for one in group.images}
    return [
        Reason(
            code="doubled_channel",
            severity=Severity.ERROR,
            file=str(sources[1].path),
            message=f"{len(sources)} images fit channel {channel}: "
            + _listed([_with_component(one, titles) for one in sources]),
            remedy="Keep one of them in the case's folder, or give a task file whose names tell "
            "them apart",
        )
        for channel, sources in found.items()
        if len(sources) > 1
    ]


def _with_component(source: ImageSource, titles: Mapping[ImageSource, str]) -> str:
    title = titles[replace(source, component=None)]
    return title if source.component is None else f"{title}#{source.component}"


def _label_reasons(group: Group, task: Task, labels: tuple[Piece, ...]) -> list[Reason]:
    if not labels:
        return []
    meanings = label_findings(group.label_names, task, labels[0].found.source.path)
    return [_doubled_label(labels), *meanings] if len(labels) > 1 else meanings


def _doubled_label(labels: tuple[Piece, ...]) -> Reason:
    names = _listed([one.found.title for one in labels])
    return Reason(
        code="doubled_label",
        severity=Severity.ERROR,
        file=str(labels[1].found.source.path),
        message=f"{len(labels)} files may be the label: {names}",
        remedy="Keep the one that is to be learnt from",
    )


def _unused(unused: list[Piece]) -> Reason:
    names = _listed([one.found.title for one in unused])
    return Reason(
        code="unused_file",
        severity=Severity.WARNING,
        file=str(unused[0].found.source.path),
        message=f"not used, since the name tells neither channel nor label: {names}",
        remedy="Rename what should be used; otherwise nothing needs to be done",
    )


def _too_many_volumes(source: ImageSource, volumes: int, task: Task) -> Reason:
    return Reason(
        code="wrong_dimensions",
        severity=Severity.ERROR,
        file=str(source.path),
        message=f"{source.path.name} holds {volumes} volumes, and nothing says which is which "
        f"of the task's {counted(len(task.channels), 'channels')}",
        remedy="Name them in a dataset.json ('channel_names'), or split the file",
    )


def _assumed_order(source: ImageSource, task: Task) -> Reason:
    order = ", ".join(one.name for one in task.channels)
    return Reason(
        code=_ASSUMED,
        severity=Severity.WARNING,
        file=str(source.path),
        message=f"channels are numbered without names; the task's order was assumed ({order})",
        remedy="Check it, or name them in a dataset.json ('channel_names')",
    )


def _listed(names: list[str]) -> str:
    more = len(names) - _MAX_NAMED_FILES
    return ", ".join(names[:_MAX_NAMED_FILES]) + (f" and {more} more" if more > 0 else "")
