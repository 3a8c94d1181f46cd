"""Values of grouping: an image with the role its name gives it, and the images of one case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from SemiSupSegLib.cases.label_names import LabelNames
from SemiSupSegLib.cases.listing import FoundImage


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One image of a case and the role its name gives it."""

    found: FoundImage
    channel: str | None = None
    index: int | None = None
    """Number of the channel in nnU-Net's `_0000` suffix."""
    label: int = 0
    """0: no label, 1: perhaps, 2: a label (also by its folder)."""
    ignored: bool = False
    residue: str = ""
    by_folder: bool = False
    """Whether the label is known by its folder."""
    in_set: bool = False
    """Whether it lies in a folder such as `imagesTr`, which is never that of one case."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The images of one case, before any is opened."""

    id: str
    patient: str
    folder: Path
    """Where its images (or its label, if there are none) lie."""
    kind: str
    """Layout: bids, nnunet, msd, separate_labels, case_folders or flat."""
    pieces: tuple[Piece, ...]
    """None of a folder that is empty or a link that cannot be followed."""
    channel_names: Mapping[int, str] = field(default_factory=dict)
    """What the data set's `dataset.json` calls channel 0, 1, ..."""
    label_names: LabelNames = field(default_factory=dict)
    """What it calls the label values."""
    renamed: bool = False
    """Whether `id` had to be made longer because two folders have one name."""
    is_parted: bool = False
    """Whether series beside these were left to other cases for their PatientID."""
    broken_link: str = ""
    """Why the link of the case's name cannot be followed, if it is one."""

    @property
    def images(self) -> tuple[Piece, ...]:
        """Pieces that can be a channel."""
        return tuple(one for one in self.pieces if not one.label and not one.ignored)

    @property
    def labels(self) -> tuple[Piece, ...]:
        """Label candidates of the strongest rank present."""
        rank = max((one.label for one in self.pieces), default=0)
        return tuple(one for one in self.pieces if rank and one.label == rank)
