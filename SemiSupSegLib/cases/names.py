"""What a file or folder name says: which channel, whether a label, whose case.

A name is split into tokens at everything that is not a letter or digit of any script. Tokens that
name a channel, a label or a processing step are the *role*; what remains is the *residue*, and
files with one residue belong to one case. All layouts are read with this one rule.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from SemiSupSegLib.cases.task import Task

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""Longest first, so that a stem never keeps half of a suffix."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STRONG_LABEL_WORDS = _words(
    "seg segs segm segmentation segmentations dseg label labels lbl lbls labelmap labelmaps gt gts "
    "groundtruth groundtruths truth "
    "annotation annotations contour contours manual laendo"
)
"""Words that say "this is a label map"."""
WEAK_LABEL_WORDS = _words("mask masks msk msks roi rois lesion lesions")
"""Words that may say so, and yield to a strong word in the same case."""
BRAIN_WORDS = _words("brain head skull body")
"""A mask of these is no label, and another label goes before a segmentation of them."""
PROCESSING_WORDS = _words(
    "bet brain n4 n4itk bias corrected reg registered coreg coregistered norm normed normalized "
    "normalised preproc preprocessed stripped skullstripped ss resampled iso final"
)
"""What was done to an image; says nothing about whose it is when it follows the channel."""

_KIND_FOLDER = re.compile(
    r"(?:images?|imgs?|scans?|volumes?|vols?|niftis?|nii|dicoms?|dcm|raw|bet|anat|mri?|ct|"
    r"derivatives|inputs?|preprocessed|originals?|rawbet)(?P<part>tr|ts|val|va|test|train)?"
)
_LABEL_FOLDER = re.compile(
    r"(?:labels?|seg|segs|segmentations?|masks?|gt|groundtruths?|annotations?|rois?|manual|truth)"
    r"(?P<part>tr|ts|val|va|test|train)?"
)
_PARTS = _words("tr ts val va test train")
_BESIDE_LABEL = PROCESSING_WORDS | _words(
    "map maps nii nifti niftis nrrd file files volume volumes data expert reference ref binary "
    "all new tumor tumour brats"
)
"""Words that a folder of labels may have beside the one that says so."""
_IMAGE_WORDS = _words("image images img imgs scan scans mri mr ct raw")
"""Words that it may have beside one that says so for sure; a `lesion_scan` may well be a scan."""
_NUMBERED_WORD = re.compile(r"(?P<word>[a-z]{3,})(?P<number>\d+)")
"""Such as `label0001` beside `img0001`; `t1` is a contrast."""
_NUMBERED_CONTRAST = re.compile(r"t\d")
_PARTITION_FOLDER = re.compile(
    r"(?:data|dataset|cases|patients|subjects|train|training|test|testing|val|valid|validation|"
    r"labell?ed|unlabell?ed|hgg|lgg)"
)


@dataclass(frozen=True)
class Token:
    """A run of letters and digits in a name."""

    text: str
    """Lower case."""
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class NameParts:
    """What one file name says."""

    channel: str | None = None
    label: int = 0
    """0: no label, 1: perhaps (a mask), 2: a label."""
    residue: str = ""
    """The part of the name that says whose it is, as written."""
    ignored: bool = False
    """Whether it is something that is neither image nor label, such as a brain mask."""


@dataclass(frozen=True, kw_only=True)
class FolderParts:
    """What one folder name says about the files below it."""

    channel: str | None = None
    is_label: bool = False
    may_hold_labels: bool = False
    """Whether its name is that of a finding (`lesions`): labels, or patients who have it."""
    is_ignored: bool = False
    """Whether it holds masks of the brain or head."""
    is_set: bool = False
    """Whether it holds images of many cases for sure (`imagesTr`), also if there is one only."""
    identity: str = ""
    """What it adds to the case's key; empty for folders such as `images`."""
    is_partition: bool = False
    """Whether it holds many cases (`train`, `HGG`) and is never a case itself."""


def stem_of(name: str) -> str | None:
    """Return the file name without its image suffix, or None if it is no image file."""
    lower = name.lower()
    for suffix in IMAGE_SUFFIXES:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def composed(name: str) -> str:
    """Return a name with one character for each letter: macOS may write `ü` as `u` and two dots."""
    return unicodedata.normalize("NFC", name)


def tokens_of(text: str) -> list[Token]:
    """Return the tokens of a name, in order; the whole name if it is all signs."""
    places = [match.span() for match in re.finditer(r"[^\W_]+", _without_signs(text))]
    if not places and text:
        places = [(0, len(text))]
    return [Token(text[start:end].lower(), start, end) for start, end in places]


def _without_signs(text: str) -> str:
    """Return a text as long, with a letter for all that tells names apart and is none to `re`.

    That are the vowel signs of many scripts, symbols, and the bytes of a name in no known encoding.
    """
    if text.isascii():
        return text
    return "".join(
        letter if letter.isascii() or unicodedata.category(letter)[0] in "LNPZ" else "x"
        for letter in text
    )


def words_of(text: str) -> tuple[str, ...]:
    """Return the lower-case words of a name: equal for names that differ in separators only."""
    return tuple(token.text for token in tokens_of(text))


def label_rank(word: str) -> int:
    """Return 2 for a word that says "label", 1 for one that may, else 0."""
    if word in STRONG_LABEL_WORDS or word.endswith(("seg", "segm", "segmentation", "labelmap")):
        return 2
    return 1 if word in WEAK_LABEL_WORDS or word.endswith("mask") else 0


class NameReader:
    """Reads names with the channel names and aliases of one task.

    Args:
        task: Names the channels.
        visit_files: Whether `T1` in a file's name is a patient's visit, not a contrast.
        visit_folders: The same of folders' names.
    """

    def __init__(self, task: Task, *, visit_files: bool = False, visit_folders: bool = False):
        self._channels = {
            _joined(alias): channel.name
            for channel in task.channels
            for alias in (channel.name, *channel.aliases)
        }
        unnumbered = {
            alias: channel
            for alias, channel in self._channels.items()
            if not _NUMBERED_CONTRAST.fullmatch(alias)
        }
        self._of_files = unnumbered if visit_files else self._channels
        self._of_folders = unnumbered if visit_folders else self._channels
        # With one channel its aliases are common words (ct, scan); inside a name they may as
        # well be part of the case's name, so only a name's end counts.
        self._single = len(task.channels) == 1
        self._folders: dict[str, FolderParts] = {}

    def channel(self, text: str) -> str | None:
        """Return the channel that a free text such as "T1-weighted" names, if any."""
        found = _find([token.text for token in tokens_of(text)], self._channels)
        return found[0] if found else None

    def stem(self, stem: str) -> NameParts:
        """Return what a file name without its suffix says."""
        numbered = _NUMBERED_WORD.fullmatch(stem.lower())
        if numbered and label_rank(numbered["word"]):
            if _is_of_brain((numbered["word"],)):
                return NameParts(ignored=True, residue=stem)
            return NameParts(label=label_rank(numbered["word"]), residue=numbered["number"])
        tokens = tokens_of(stem)
        words = [token.text for token in tokens]
        ranks = [label_rank(word) for word in words]
        found = _find(words, self._of_files)
        if _is_of_brain(words):
            if max(ranks, default=0) == 1:
                return NameParts(ignored=True, residue=stem)
            # A segmentation of the whole brain yields to one of what is inside.
            ranks = [min(rank, 1) for rank in ranks]
        last_label = max((i for i, rank in enumerate(ranks) if rank), default=-1)
        if last_label >= 0 and (found is None or last_label > found[2] or self._all_roles(words)):
            return self._label(stem, tokens, ranks)
        if found is None:
            return NameParts(residue=_span(stem, tokens))
        channel, first, last = found
        after = _without_trailing(words[last + 1 :], PROCESSING_WORDS)
        if self._single and after:
            return NameParts(residue=_span(stem, tokens))
        rest = tokens[:first] + tokens[last + 1 : last + 1 + len(after)]
        return NameParts(channel=channel, residue=_span(stem, rest))

    def with_channel(self, stem: str, name: str) -> str | None:
        """Return a file name without its suffix with another channel's name; None if it has none.

        The word that `stem` reads as the channel is replaced.
        """
        tokens = tokens_of(stem)
        found = _find([token.text for token in tokens], self._of_files)
        if found is None:
            return None
        return stem[: tokens[found[1]].start] + name + stem[tokens[found[2]].end :]

    def folder(self, name: str) -> FolderParts:
        """Return what a folder's name says."""
        if name not in self._folders:
            self._folders[name] = self._folder(name)
        return self._folders[name]

    def core(self, text: str) -> tuple[str, ...]:
        """Return the words of a name that are neither channel, label nor processing."""
        words = words_of(text)
        numbered = _NUMBERED_WORD.fullmatch(words[0]) if len(words) == 1 else None
        if numbered and words[0] not in self._of_files and self._is_role(numbered["word"]):
            return (numbered["number"],)
        return tuple(word for word in words if not self._is_role(word))

    def _folder(self, name: str) -> FolderParts:
        joined = _joined(name)
        channel = self._of_folders.get(joined)
        for pattern, is_label in ((_LABEL_FOLDER, True), (_KIND_FOLDER, False)):
            match = pattern.fullmatch(joined)
            if match:
                part = match["part"]
                kept = _identity_of(part)
                return FolderParts(
                    channel=channel,
                    is_label=is_label,
                    is_set=part is not None,
                    identity=kept,
                    is_partition=bool(kept),
                )
        if channel is not None:
            return FolderParts(channel=channel)
        if _joined(name) in ("lesion", "lesions"):
            return FolderParts(identity=name, may_hold_labels=True)
        said = self._of_labels(words_of(name))
        if said is not None:
            return said
        return FolderParts(identity=name, is_partition=is_partition(name))

    def _label(self, stem: str, tokens: Sequence[Token], ranks: Sequence[int]) -> NameParts:
        kept = [token for token, rank in zip(tokens, ranks, strict=True) if not rank]
        words = _without_trailing([token.text for token in kept], PROCESSING_WORDS)
        # A label named after the channel it was drawn on (case5_t1_seg) is the case's label.
        found = _find(words, self._of_files)
        if found and found[2] == len(words) - 1:
            words = words[: found[1]]
        return NameParts(label=max(ranks), residue=_span(stem, kept[: len(words)]))

    def _of_labels(self, words: Sequence[str]) -> FolderParts | None:
        """Return what a folder's name of several words says, if each has to do with labels."""
        part = words[-1] if words and words[-1] in _PARTS else None
        own = words[:-1] if part else words
        rank = max((label_rank(word) for word in own), default=0)
        others = [word for word in own if not label_rank(word) and word not in _BESIDE_LABEL]
        if rank == 2:
            others = [
                word for word in others if word not in _IMAGE_WORDS and word not in self._of_folders
            ]
        if not rank or others:
            return None
        kept = _identity_of(part)
        if _is_of_brain(own) and rank == 1:
            return FolderParts(is_ignored=True, identity=kept, is_partition=bool(kept))
        return FolderParts(is_label=True, identity=kept, is_partition=bool(kept))

    def _is_role(self, word: str) -> bool:
        is_image = word in self._of_files or word in ("volume", "image", "img")
        return is_image or word in PROCESSING_WORDS or label_rank(word) > 0

    def _all_roles(self, words: Sequence[str]) -> bool:
        return all(label_rank(word) or word in self._of_files for word in words)


def _find(words: Sequence[str], channels: Mapping[str, str]) -> tuple[str, int, int] | None:
    """Return channel, first and last token of the last channel name, the longest there."""
    for last in range(len(words) - 1, -1, -1):
        for first in range(max(0, last - 3), last + 1):
            if first < last and len(words[first]) == 1:
                continue  # "patient_t_1" is not t1
            channel = channels.get("".join(words[first : last + 1]))
            if channel is not None:
                return channel, first, last
    return None


def _identity_of(part: str | None) -> str:
    return "" if part is None or part in ("tr", "train") else part


def is_partition(name: str) -> bool:
    """Return whether a folder's name is that of a set of cases, such as `train`."""
    return bool(_PARTITION_FOLDER.fullmatch(_joined(name)))


def _joined(text: str) -> str:
    return "".join(words_of(text))


def _is_of_brain(words: Iterable[str]) -> bool:
    return any(
        word in BRAIN_WORDS or any(word == f"{part}mask" for part in BRAIN_WORDS) for word in words
    )


def _without_trailing(words: Sequence[str], unwanted: frozenset[str]) -> list[str]:
    kept = list(words)
    while kept and kept[-1] in unwanted:
        kept.pop()
    return kept


def _span(stem: str, tokens: Sequence[Token]) -> str:
    """Return the text of these tokens, with the separators between neighbours as written."""
    text = ""
    for previous, token in zip([None, *tokens], tokens, strict=False):
        if previous is not None:
            between = stem[previous.end : token.start]
            text += "_" if any(letter.isalnum() for letter in between) else between
        text += stem[token.start : token.end]
    return text
