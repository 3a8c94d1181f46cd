"""File names of the Brain Imaging Data Structure, which say more than other names do."""

from __future__ import annotations

import re
from collections.abc import Sequence

from SemiSupSegLib.cases.group import Piece
from SemiSupSegLib.cases.listing import FoundImage
from SemiSupSegLib.cases.names import FolderParts, NameReader, label_rank, words_of


def bids_subject(found: FoundImage) -> tuple[str, ...]:
    """Return (sub-XX) or (sub-XX, ses-YY) of a file that follows BIDS."""
    if not re.match(r"sub-[A-Za-z0-9]+_", found.stem):
        return ()
    entities = found.stem.split("_")
    return tuple(one for one in entities if one.startswith(("sub-", "ses-")))


def bids_piece(found: FoundImage, parts: Sequence[FolderParts], names: NameReader) -> Piece | None:
    """Return the role of a BIDS file; derivatives count as labels only."""
    *entities, suffix = found.stem.split("_")
    words = words_of(suffix)
    is_brain_mask = any(re.search("brain|head", one, re.IGNORECASE) for one in entities)
    rank = max((label_rank(word) for word in words), default=0)
    by_folder = any(part.is_label for part in parts)
    if is_brain_mask and rank == 1:
        return None
    if rank or by_folder:
        return Piece(found=found, label=2 if by_folder else rank, by_folder=by_folder)
    if any(name.lower() == "derivatives" for name in found.folders):
        return None
    contrast = "ce gadolinium " if any(one.startswith("ce-") for one in entities) else ""
    channel = names.channel(contrast + suffix)
    return Piece(found=found, channel=channel, residue="")


def prefer_anatomical(pieces: list[Piece]) -> list[Piece]:
    """Leave out functional and diffusion images where there are anatomical ones."""
    images = [one for one in pieces if not one.label]
    anatomical = [one for one in images if "anat" in one.found.folders]
    if not anatomical:
        return pieces
    return [one for one in pieces if one.label or one in anatomical]
