"""What to add to a case that lacks a channel: a file named as its layout has it."""

from __future__ import annotations

import re

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.group import Group, Piece
from SemiSupSegLib.cases.names import NameReader
from SemiSupSegLib.cases.task import Channel, Task

_BIDS_SUFFIXES = {
    one.lower(): one for one in ("T1w", "T2w", "PDw", "T2starw", "FLAIR", "CT", "pet")
}
_BIDS_CONTRAST = re.compile(r"(?P<entity>ce-[a-z0-9]+_)?(?P<suffix>[a-z0-9]+)")


def volume_of_channel(group: Group, names: NameReader, channel: Channel) -> int | None:
    """Return which volume, or `_0000` number, the data set's `dataset.json` calls the channel."""
    for index, name in sorted(group.channel_names.items()):
        if names.channel(name) == channel.name:
            return index
    return None


def how_to_add(
    group: Group,
    task: Task,
    names: NameReader,
    channel: Channel,
    volumes: tuple[ImageSource, int] | None,
) -> str:
    """Return what to do about a channel that a case lacks, without a full stop.

    Args:
        group: The case's files.
        task: Of the case.
        names: Reads names with the task's aliases.
        channel: The missing one.
        volumes: The file that holds the channels as volumes, and how many, if there is one.
    """
    if volumes is not None:
        return _as_volume(group, names, channel, volumes[0])
    images = [one for one in group.images if not one.found.is_dicom]
    numbered = [one for one in images if one.index is not None]
    named = [one for one in images if one.channel is not None]
    called = _called(channel)
    if group.is_parted:
        return (
            "Series beside it have another PatientID, so they count as another patient's; if they "
            "are this case's, give all one PatientID"
        )
    if numbered:
        return _as_number(group, task, names, channel, numbered[0])
    if group.kind == "bids" and images and (name := _bids_name(channel)) is not None:
        return f"Add {group.id}_{name}{_ending(images[0])}"
    if group.images and not images:
        return f"Add a DICOM series whose folder or description ends with {called}"
    for piece in named:
        example = _like(piece, names, channel)
        if example is not None:
            return f"Add a file named as the others are: {example}"
    return f"Add a file whose name ends with {called}"


def _called(channel: Channel) -> str:
    also = [name for name in channel.aliases if name.isalnum()][:4]
    return channel.name + (f" (or {', '.join(also)})" if also else "")


def _as_volume(group: Group, names: NameReader, channel: Channel, source: ImageSource) -> str:
    index = volume_of_channel(group, names, channel)
    if index is None:
        return (
            f"Add it to the volumes of {source.path.name}, and name it in the dataset.json "
            "('channel_names')"
        )
    return f"Add it as number {index} (from 0), as the dataset.json has it, to {source.path.name}"


def _as_number(group: Group, task: Task, names: NameReader, channel: Channel, other: Piece) -> str:
    index = volume_of_channel(group, names, channel)
    if index is None and not any(names.channel(one) for one in group.channel_names.values()):
        # The task's order was assumed of the others, too.
        index = [one.name for one in task.channels].index(channel.name)
    if index is None:
        free = max(group.channel_names, default=-1) + 1
        name = f"{other.residue}_{free:04}{_ending(other)}"
        return f"Add {name}, and name number {free} in the dataset.json ('channel_names')"
    return f"Add {other.residue}_{index:04}{_ending(other)}"


def _bids_name(channel: Channel) -> str | None:
    """Return the end of the channel's name in BIDS, if an alias is one."""
    for alias in (channel.name, *channel.aliases):
        match = _BIDS_CONTRAST.fullmatch(alias.lower())
        if match and match["suffix"] in _BIDS_SUFFIXES:
            return f"{match['entity'] or ''}{_BIDS_SUFFIXES[match['suffix']]}"
    return None


def _like(piece: Piece, names: NameReader, channel: Channel) -> str | None:
    """Return the channel's file name, if names go on after the channel (`p1_t1_bet`)."""
    stem = piece.found.stem
    named = names.with_channel(stem, channel.name)
    if named is None or named.endswith(channel.name):
        return None
    return f"{named}{_ending(piece)}"


def _ending(piece: Piece) -> str:
    """Return the suffix of an image file, such as `.nii.gz`."""
    return piece.found.source.path.name[len(piece.found.stem) :]
