"""Which images belong to one case, and what each is: one rule for every layout.

Folder names that only say what kind of file lies below (`imagesTr`, `labels`, `anat`) are dropped;
the other folders and the residue of the file name make the key of a case. A folder whose images
share one residue is a case; a folder with several holds one case per residue.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from SemiSupSegLib.cases.bids import bids_piece, bids_subject, prefer_anatomical
from SemiSupSegLib.cases.group import Group, Piece
from SemiSupSegLib.cases.label_names import label_names
from SemiSupSegLib.cases.listing import FoundImage, Listing, Place
from SemiSupSegLib.cases.names import FolderParts, NameReader, composed, words_of
from SemiSupSegLib.cases.patients import (
    is_placeholder,
    is_timepoint,
    numbers_visits,
    patient_folder,
    patient_folders,
    patients_of,
    united,
)
from SemiSupSegLib.cases.task import Task

Key = tuple[str, ...]

_INDEX = re.compile(r"(?P<stem>.+)_(?P<index>\d{4})")
_MAX_INDEX = 32


@dataclass(frozen=True)
class _Draft:
    """A group in the making."""

    key: Key
    """Lower-case words of the folders' and case's name."""
    names: tuple[str, ...]
    """The same as written."""
    kind: str
    pieces: tuple[Piece, ...]
    is_parted: bool = False
    """Whether others of its name were taken out, of another patient."""
    broken_link: str = ""

    @property
    def images(self) -> tuple[Piece, ...]:
        return tuple(one for one in self.pieces if not one.label and not one.ignored)

    @property
    def has_labels(self) -> bool:
        return any(one.label for one in self.pieces)


def group_images(listing: Listing, task: Task) -> list[Group]:
    """Return the cases below a folder, in the order of their ids; nothing is opened."""
    names = _reader(listing, task)
    by_place: dict[Place, list[Piece]] = defaultdict(list)
    bids: dict[Key, list[Piece]] = defaultdict(list)
    indexed = _indexed_folders(listing, names)
    own_names = _names_outside_findings(listing, names)
    described = _series_chosen_by_description(listing, task, names)
    whole = _folders_with_a_whole_case(listing, names)
    for found in listing.images:
        parts = [_settled(names.folder(name), found, own_names) for name in found.folders]
        if found.folders in whole:
            parts = [
                FolderParts(identity=name) if part.is_label else part
                for part, name in zip(parts, found.folders, strict=True)
            ]
        subject = bids_subject(found)
        if subject:
            piece = bids_piece(found, parts, names)
            if piece is not None:
                bids[subject].append(piece)
            continue
        piece = _piece(
            found,
            parts,
            names,
            is_indexed=found.folders in indexed,
            is_described=described is None or found in described,
        )
        # A partition is marked, so that it is never taken for a case folder.
        place = tuple(
            ("/" if part.is_partition else "") + part.identity for part in parts if part.identity
        )
        by_place[place].append(piece)
    drafts = [
        draft
        for place, pieces in by_place.items()
        for draft in _drafts_of_folder(
            place, pieces, composed(listing.root.name), is_alone=len(by_place) == 1
        )
    ]
    drafts = _merged(_parted(_joined_by_key(_parted(drafts))), names)
    drafts += [
        _Draft(tuple(part.lower() for part in key), key, "bids", tuple(prefer_anatomical(pieces)))
        for key, pieces in bids.items()
    ]
    drafts += _empty_folders(listing, drafts, names)
    drafts += [
        _Draft(_key(place), place, "case_folders", (), broken_link=reason)
        for place, reason in listing.broken_links.items()
    ]
    return _finished(drafts, listing)


def _reader(listing: Listing, task: Task) -> NameReader:
    """Return a reader that knows whether `T1` is a contrast here, or a visit."""
    names = NameReader(task)
    labels = [
        (*found.folders, found.stem)
        for found in listing.images
        # Of several channels, each may have a label that was drawn on it.
        if len(task.channels) == 1 and any(names.folder(name).is_label for name in found.folders)
    ]
    return NameReader(
        task,
        visit_files=numbers_visits(((*one.folders, one.stem) for one in listing.images), labels),
        visit_folders=numbers_visits(listing.folders) or _contrasts_hold_others(listing, names),
    )


def _contrasts_hold_others(listing: Listing, names: NameReader) -> bool:
    """Return whether a folder called `T1` holds a T2 as well, by the names of its files."""
    contrasts = {names.folder(name).channel for name in ("T1", "T2")} - {None}
    channels: dict[Place, set[str | None]] = defaultdict(set)
    for found in listing.images:
        if found.folders and names.folder(found.folders[-1]).channel in contrasts:
            channels[found.folders].add(names.stem(found.stem).channel)
    return any(len(found & contrasts) > 1 for found in channels.values())


def _names_outside_findings(listing: Listing, names: NameReader) -> set[Key]:
    """Return the stems' words of the images that lie in no folder such as `lesions`."""
    return {
        words_of(found.stem)
        for found in listing.images
        if not any(names.folder(name).may_hold_labels for name in found.folders)
    }


def _folders_with_a_whole_case(listing: Listing, names: NameReader) -> set[Place]:
    """Return the folders that hold several channels and a label, by the names of their files.

    Such a folder is a case, also if it is called `mask` or lies in one that is called `manual`.
    """
    channels: dict[Place, set[str]] = defaultdict(set)
    labelled: set[Place] = set()
    for found in listing.images:
        said = names.stem(found.stem)
        if said.label:
            labelled.add(found.folders)
        elif said.channel:
            channels[found.folders].add(said.channel)
    return {place for place in labelled if len(channels[place]) > 1}


def _settled(part: FolderParts, found: FoundImage, own_names: set[Key]) -> FolderParts:
    """Take a folder such as `lesions` for one of labels where an image of that name lies apart."""
    if part.may_hold_labels and words_of(found.stem) in own_names:
        return FolderParts(is_label=True)
    return part


def _series_chosen_by_description(
    listing: Listing, task: Task, names: NameReader
) -> set[FoundImage] | None:
    """Return the DICOM series whose description may say their channel; None if all.

    Descriptions tell the channels of a case apart. With one channel they say the same of every
    patient (`CT`), so a series in a folder of its own is known by that folder. Only beside others
    of the same patient does a description choose one of them.
    """
    if len(task.channels) > 1:
        return None
    chosen = {found for found in listing.images if _is_one_of_a_folder(found)}
    alone: dict[Place, list[FoundImage]] = defaultdict(list)
    for found in listing.images:
        if found.is_dicom and found not in chosen:
            alone[found.folders].append(found)
    for folders, series in alone.items():
        part = names.folder(folders[-1]) if folders else None
        if part is None or part.is_partition or not part.identity:
            continue
        patient_ids = {found.patient_id for found in series}
        named = [found for found in series if names.channel(found.description)]
        is_one_patient = len(patient_ids) == 1 and not is_placeholder(min(patient_ids))
        if is_one_patient and len(named) == 1:
            chosen.update(named)
    return chosen


def _is_one_of_a_folder(found: FoundImage) -> bool:
    """Return whether a DICOM series shares its folder with others."""
    return found.is_dicom and found.folders[-1:] == (composed(found.source.path.name),)


def _piece(
    found: FoundImage,
    parts: Sequence[FolderParts],
    names: NameReader,
    *,
    is_indexed: bool,
    is_described: bool,
) -> Piece:
    said = names.stem(found.stem)
    if found.is_dicom and is_described and said.channel is None and not said.label:
        described = names.channel(found.description)
        if described is not None:
            said = replace(said, channel=described)
    if found.is_dicom and parts and (said.channel or said.label):
        # Below a named folder, the name of a series folder does not tell whose it is.
        said = replace(said, residue="")
    if any(part.is_ignored for part in parts):
        return Piece(found=found, ignored=True, residue=found.stem)
    if any(part.is_label for part in parts):
        says_role = said.channel is not None or said.label or said.ignored
        residue = said.residue if says_role else found.stem
        return Piece(found=found, label=2, residue=residue, by_folder=True)
    in_set = any(part.is_set for part in parts)
    match = _INDEX.fullmatch(found.stem) if is_indexed else None
    if match:
        return Piece(found=found, index=int(match["index"]), residue=match["stem"], in_set=in_set)
    channel = said.channel
    if channel is None and not said.label and not said.ignored:
        channel = next((part.channel for part in reversed(parts) if part.channel), None)
    return Piece(
        found=found,
        channel=channel,
        label=said.label,
        ignored=said.ignored,
        residue=said.residue,
        in_set=in_set,
    )


def _indexed_folders(listing: Listing, names: NameReader) -> set[Place]:
    """Return the folders in which `_0000` is a channel's number (nnU-Net), not a case's."""
    stems: dict[Place, list[str]] = defaultdict(list)
    label_stems: set[str] = set()
    for found in listing.images:
        if any(names.folder(name).is_label for name in found.folders):
            label_stems.add(found.stem)
        else:
            stems[found.folders].append(found.stem)
    chosen = set()
    for folders, here in stems.items():
        matches = [_INDEX.fullmatch(stem) for stem in here]
        found_indices: dict[str, set[int]] = defaultdict(set)
        for match in matches:
            if match:
                found_indices[match["stem"]].add(int(match["index"]))
        is_labelled_with_index = bool(label_stems & set(here))
        unmarked = [
            stem
            for stem, match in zip(here, matches, strict=True)
            if match is None and not names.stem(stem).label
        ]
        if (
            found_indices
            and not unmarked
            and not is_labelled_with_index
            and all(max(one) < _MAX_INDEX for one in found_indices.values())
            and _begin_with_0(
                list(found_indices.values()), _channel_names(_dataset_above(folders, listing) or {})
            )
        ):
            chosen.add(folders)
    return chosen


def _begin_with_0(found: Sequence[set[int]], channel_names: Mapping[int, str]) -> bool:
    """Return whether numbers are those of channels: they begin with 0 in each case.

    Where `dataset.json` numbers several channels, a case may lack its first.
    """
    have_0 = [0 in one for one in found]
    return all(have_0) or (any(have_0) and len(channel_names) > 1)


def _drafts_of_folder(
    place: Place, pieces: Sequence[Piece], root_name: str, *, is_alone: bool
) -> list[_Draft]:
    """Split what lies in one place into cases."""
    is_partition = not place or place[-1].startswith("/")
    shown = tuple(name.lstrip("/") for name in place)
    folder_name = shown[-1] if shown else root_name
    by_residue: dict[Key, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_residue[words_of(piece.residue)].append(piece)
    # Beside named channels, a file of another name is an extra; alone it may be the image
    # itself (one channel) or hold all channels (4-D).
    counts_unnamed = not any(_is_named(one) for one in pieces)
    bearing = {
        residue: [one for one in group if _bears_image(one, counts_unnamed)]
        for residue, group in by_residue.items()
    }
    image_residues = [residue for residue, group in bearing.items() if group]
    images = [one for group in bearing.values() for one in group]
    # A set of one case is still a set: its name is the file's, as it will be beside others.
    paired = {words_of(one.residue) for one in pieces if one.by_folder} if is_alone else set()
    is_set = bool(images) and all(
        one.residue and (one.in_set or words_of(one.residue) in paired) for one in images
    )
    is_of_labels = not images and len({words_of(one.residue) for one in pieces if one.label}) > 1
    is_case_folder = not (is_set or is_of_labels) and (
        _has_plain_image(by_residue.get((), ()))
        or (bool(image_residues) and words_of(folder_name) in by_residue)
        or (not is_partition and len(image_residues) <= 1)
        or (len(image_residues) > 1 and _complement_each_other(bearing.values()))
    )
    if is_case_folder and len(image_residues) > 1 and is_partition and place:
        is_case_folder = False
    if is_case_folder:
        return [_Draft(_key(shown), shown, "case_folders", tuple(pieces))]
    by_name: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_name[piece.residue].append(piece)
    return [
        _Draft(_key((*shown, name)), (*shown, name or folder_name), "flat", tuple(group))
        for name, group in by_name.items()
    ]


def _bears_image(piece: Piece, counts_unnamed: bool) -> bool:
    return not piece.label and not piece.ignored and (counts_unnamed or _is_named(piece))


def _is_named(piece: Piece) -> bool:
    return not piece.label and (piece.channel is not None or piece.index is not None)


def _has_plain_image(pieces: Iterable[Piece]) -> bool:
    """Return whether a folder has images named by their channel alone (`t1.nii.gz`)."""
    return any(one.channel is not None and not one.label for one in pieces)


def _complement_each_other(groups: Iterable[Sequence[Piece]]) -> bool:
    """Return whether files of different residue are one channel each of one case."""
    channels = [piece.channel for group in groups for piece in group]
    return None not in channels and len(channels) > 1 and len(set(channels)) == len(channels)


def _key(names: Iterable[str]) -> Key:
    return tuple(" ".join(words_of(name)) for name in names)


def _joined_by_key(drafts: Iterable[_Draft]) -> list[_Draft]:
    """Join images and labels that other folders hold for the same case."""
    by_key: dict[Key, list[_Draft]] = defaultdict(list)
    for draft in drafts:
        by_key[draft.key].append(draft)
    return [_union(group) for alike in by_key.values() for group in _told_apart(alike)]


def _told_apart(drafts: Sequence[_Draft]) -> Iterable[Sequence[_Draft]]:
    """Divide what has one key into cases: `A-1` and `A_1` are two if each has its own images.

    A label belongs to the case of its name, or to the only one.
    """
    by_name: dict[tuple[str, ...], list[_Draft]] = defaultdict(list)
    for draft in drafts:
        if draft.images:
            by_name[draft.names].append(draft)
    if len(by_name) < 2 or _complement_each_other(draft.images for draft in drafts):
        return [drafts]
    for draft in drafts:
        if not draft.images:
            by_name[draft.names].append(draft)
    return by_name.values()


def _parted(drafts: Iterable[_Draft]) -> list[_Draft]:
    """Part what names would join although DICOM says that it is of several patients."""
    return [part for draft in drafts for part in _parts_by_patient(draft)]


def _parts_by_patient(draft: _Draft) -> list[_Draft]:
    by_patient: dict[str, list[Piece]] = defaultdict(list)
    others = []
    for piece in draft.pieces:
        if piece.found.is_dicom and not is_placeholder(piece.found.patient_id):
            by_patient[piece.found.patient_id.strip()].append(piece)
        else:
            others.append(piece)
    if len(by_patient) < 2:
        return [draft]
    own_names = [_name_of_series(pieces) for pieces in by_patient.values()]
    part = replace(draft, is_parted=True)
    parts = []
    for name, pieces in zip(own_names, by_patient.values(), strict=True):
        is_told = name and own_names.count(name) == 1 and draft.names[-1:] != (name,)
        names = (*draft.names, name if is_told else _name_by_uid(draft, pieces))
        parts.append(replace(part, key=_key(names), names=names, kind="flat", pieces=tuple(pieces)))
    # Nothing tells whose the rest is, so it is reported as a case of its own.
    return [*parts, replace(part, pieces=tuple(others))] if others else parts


def _name_of_series(pieces: Sequence[Piece]) -> str:
    """Return the one name of the folders that a patient's series have for themselves, or none."""
    names = {"" if _is_one_of_a_folder(one.found) else one.found.stem for one in pieces}
    return names.pop() if len(names) == 1 else ""


def _name_by_uid(draft: _Draft, pieces: Sequence[Piece]) -> str:
    """Return a name that stays when other patients' series are added; a PatientID is not shown."""
    uid = min(one.found.source.series or "" for one in pieces)
    digest = hashlib.sha256(uid.encode()).hexdigest()[:8]
    return "_".join((*draft.names[-1:], digest))


def _union(drafts: Sequence[_Draft]) -> _Draft:
    main = next((one for one in drafts if one.images), drafts[0])
    return replace(main, pieces=tuple(piece for one in drafts for piece in one.pieces))


def _merged(drafts: list[_Draft], names: NameReader) -> list[_Draft]:
    """Give labels left alone to the one case whose name differs in role words only.

    Those of a mere number (`label0001`) belong to the one case that ends with it (`PANCREAS_0001`).
    """
    images = [one for one in drafts if one.images and not one.has_labels]
    labels = [one for one in drafts if one.has_labels and not one.images]
    homes, alone = _by_core(images, names), _by_core(labels, names)
    if all(_is_number(core) for core in alone):
        homes = _by_number(homes)
    taken = {
        homes[core][0]: found[0]
        for core, found in alone.items()
        if core and len(found) == 1 and len(homes.get(core, ())) == 1
    }
    moved = set(taken.values())
    return [
        _union([draft, taken[draft]]) if draft in taken else draft
        for draft in drafts
        if draft not in moved
    ]


def _is_number(core: Key) -> bool:
    return len(core) == 1 and core[0].isdecimal()


def _by_number(homes: Mapping[Key, list[_Draft]]) -> dict[Key, list[_Draft]]:
    """Return cases by the number at their names' end."""
    found: dict[Key, list[_Draft]] = defaultdict(list)
    for core, drafts in homes.items():
        number = re.search(r"\d+$", core[-1]) if core else None
        if number:
            found[(number[0],)] += drafts
    return found


def _by_core(drafts: Iterable[_Draft], names: NameReader) -> dict[Key, list[_Draft]]:
    found: dict[Key, list[_Draft]] = defaultdict(list)
    for draft in drafts:
        found[names.core(draft.names[-1] if draft.names else "")].append(draft)
    return found


def _empty_folders(listing: Listing, drafts: Sequence[_Draft], names: NameReader) -> list[_Draft]:
    """Return a draft for each folder that has siblings with cases but no image itself.

    One with other files (`docs`) is a case only if it is numbered as they are.
    """
    used = {one[:depth] for one in listing.result_folders for depth in range(len(one))}
    siblings: dict[Place, set[str]] = defaultdict(set)
    for draft in drafts:
        for piece in draft.pieces:
            folders = piece.found.folders
            if piece.found.is_dicom:
                folders = (*folders, composed(piece.found.source.path.name))
            used.update(folders[:depth] for depth in range(len(folders) + 1))
            if draft.kind == "case_folders" and folders and draft.names:
                depth = max(
                    (i for i, name in enumerate(folders, 1) if name == draft.names[-1]), default=0
                )
                if depth:
                    siblings[folders[: depth - 1]].add(_numbering(draft.names[-1]))
    empty = []
    for folders in listing.folders:
        if not folders or folders in used or folders[:-1] not in siblings:
            continue
        name = folders[-1]
        said = names.folder(name)
        if not said.identity or said.is_partition or said.is_label or said.channel:
            continue
        numbering = _numbering(name)
        is_numbered_alike = numbering != name and numbering in siblings[folders[:-1]]
        if is_numbered_alike or folders not in listing.used_otherwise:
            empty.append(_Draft(_key(folders), folders, "case_folders", ()))
    return empty


def _numbering(name: str) -> str:
    """Return a name with its numbers left open: equal for `P1` and `P22`."""
    return re.sub(r"\d+", "0", name)


def _finished(drafts: Sequence[_Draft], listing: Listing) -> list[Group]:
    folders = patient_folders(draft.names for draft in drafts if draft.kind != "bids")
    plain, places = [], []
    for draft in drafts:
        place = None if draft.kind == "bids" else patient_folder(draft.names, folders)
        places.append(place)
        plain.append(_plain_id(draft, place, composed(listing.root.name)))
    homes = [
        draft.names[:1] if draft.kind == "bids" else place or (*draft.names[:-1], patient)
        for draft, place, patient in zip(drafts, places, patients_of(plain), strict=True)
    ]
    seen = Counter(name.lower() for name in plain)
    is_shared = [seen[name.lower()] > 1 for name in plain]
    patients = united(_patient_names(homes, is_shared), [_patient_id(draft) for draft in drafts])
    groups = []
    for draft, name, patient, shared in zip(drafts, plain, patients, is_shared, strict=True):
        content = _dataset_of(draft, listing)
        case_id = "_".join(draft.names) if shared else name
        groups.append(
            Group(
                id=case_id,
                patient=patient,
                folder=_folder_of(draft, listing.root),
                kind=_kind(draft, content is not None),
                pieces=draft.pieces,
                channel_names=_channel_names(content or {}),
                label_names=label_names(content or {}),
                renamed=case_id != name,
                is_parted=draft.is_parted,
                broken_link=draft.broken_link,
            )
        )
    return sorted(groups, key=lambda one: _natural(one.id))


def _patient_names(homes: Sequence[Place], is_shared: Sequence[bool]) -> list[str]:
    """Return the patient's name of each case; `homes` are folders' names that end with it.

    A patient's scans may lie in two places (`labelled/P1`, `unlabelled/P1`). Only where these hold
    cases of one name, they are two patients of one name.
    """
    places: dict[str, set[Place]] = defaultdict(set)
    twice = set()
    for home, shared in zip(homes, is_shared, strict=True):
        places[home[-1]].add(home)
        if shared:
            twice.add(home[-1])
    return [
        "_".join(home) if home[-1] in twice and len(places[home[-1]]) > 1 else home[-1]
        for home in homes
    ]


def _patient_id(draft: _Draft) -> str | None:
    """Return the PatientID that all DICOM series of a case share, if it says anything."""
    found = {piece.found.patient_id for piece in draft.pieces if piece.found.is_dicom}
    patient_id = found.pop() if len(found) == 1 else ""
    return None if is_placeholder(patient_id) else patient_id


def _plain_id(draft: _Draft, patient: Place | None, root_name: str) -> str:
    if draft.kind == "bids":
        return "_".join(draft.names)
    if patient is not None and is_timepoint(draft.names[-1]):
        return "_".join(draft.names[-2:])
    return draft.names[-1] if draft.names else root_name


def _folder_of(draft: _Draft, root: Path) -> Path:
    if not draft.pieces:
        return root.joinpath(*draft.names)
    first = next((one for one in draft.pieces if not one.label), draft.pieces[0])
    path = first.found.source.path
    return path if first.found.is_dicom else path.parent


def _kind(draft: _Draft, has_dataset_file: bool) -> str:
    if draft.kind == "bids":
        return "bids"
    if any(one.index is not None for one in draft.pieces):
        return "nnunet"
    if has_dataset_file:
        return "msd"
    if any(one.by_folder for one in draft.pieces):
        return "separate_labels"
    return draft.kind


def _dataset_of(draft: _Draft, listing: Listing) -> Mapping[str, Any] | None:
    """Return the nearest `dataset.json` above the case's images."""
    for piece in draft.pieces:
        content = _dataset_above(piece.found.folders, listing)
        if content is not None:
            return content
    return None


def _dataset_above(folders: Place, listing: Listing) -> Mapping[str, Any] | None:
    for depth in range(len(folders), -1, -1):
        if folders[:depth] in listing.dataset_files:
            return listing.dataset_files[folders[:depth]]
    return None


def _channel_names(content: Mapping[str, Any]) -> dict[int, str]:
    """Return number → name, as the Decathlon (`modality`) or nnU-Net has it."""
    for key in ("channel_names", "modality"):
        table = content.get(key)
        if isinstance(table, dict):
            return {int(left): str(name) for left, name in table.items() if left.isdecimal()}
    return {}


def _natural(text: str) -> list[tuple[int, int, str]]:
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part.lower())
        for part in re.split(r"(\d+)", text)
        if part
    ]
