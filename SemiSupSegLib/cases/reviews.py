"""Joining labels that a person has reviewed to the cases they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from SemiSupSegLib.cases.examination import Examined
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import read_json


@dataclass(frozen=True, kw_only=True)
class ReviewedLabel:
    """A reviewed label in a folder of results."""

    path: Path
    file_hashes: frozenset[str]
    """SHA-256 of the images that it was made on; empty if `case.json` does not tell."""


def find_reviews(results: Path) -> dict[str, ReviewedLabel]:
    """Return the reviewed labels `<case>/<case>_reviewed.nii.gz` of a folder, by case id.

    Raises:
        UsageError: If `results` is not a folder.
    """
    if not results.is_dir():
        raise UsageError(f"{results} is not a folder. Give the folder that predict wrote to.")
    found = {}
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        path = folder / f"{folder.name}_reviewed.nii.gz"
        if path.is_file():
            hashes = _input_hashes(folder / "case.json")
            found[folder.name] = ReviewedLabel(path=path.absolute(), file_hashes=hashes)
    return found


def match_reviews(
    reviews: Mapping[str, ReviewedLabel], examined: Sequence[Examined]
) -> dict[int, ReviewedLabel]:
    """Return the position of the case of each review: by image content if known, else by id."""
    by_id = {one.case.id: number for number, one in enumerate(examined)}
    by_content = {
        frozenset(one.file_hashes.values()): number
        for number, one in enumerate(examined)
        if one.file_hashes
    }
    matched = {}
    for case_id, review in reviews.items():
        number = by_content.get(review.file_hashes) if review.file_hashes else None
        if number is None:
            number = by_id.get(case_id)
            known = frozenset(examined[number].file_hashes.values()) if number is not None else None
            if review.file_hashes and known:
                continue  # the case of this name has other images now
        if number is not None:
            matched[number] = review
    return matched


def _input_hashes(path: Path) -> frozenset[str]:
    try:
        content = read_json(path)
    except SemiSupSegError:
        return frozenset()
    inputs = content.get("inputs") if isinstance(content, dict) else None
    if not isinstance(inputs, dict):
        return frozenset()
    return frozenset(value for value in inputs.values() if isinstance(value, str))
