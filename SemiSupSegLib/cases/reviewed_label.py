"""A label that a person has reviewed, and what its provenance says about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROVENANCE_FORMAT = "semisupseg-reviewed-label"


@dataclass(frozen=True, kw_only=True)
class ReviewedLabel:
    """A reviewed label in a folder of results."""

    case: str
    """Id of the case, as the label is named after it."""
    path: Path
    file_hashes: frozenset[str]
    """SHA-256 of the images that it was made on; empty if nothing tells."""
    unknown: int | None = None
    """Value of voxels of which nobody has said what they are; None if there are none."""
    problem: str = ""
    """Why the label must not be used, or empty."""
