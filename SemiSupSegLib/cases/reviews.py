"""Joining labels that a person has reviewed to the cases they belong to."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from SemiSupSegLib.cases.examination import Examined
from SemiSupSegLib.cases.reviewed_label import ReviewedLabel
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.resources import check_format

_LABEL = re.compile(r"(.+)_reviewed(?:-([1-9][0-9]{0,5}))?\.nii\.gz", re.DOTALL)


def find_reviews(results: Path) -> dict[str, ReviewedLabel]:
    """Return the newest reviewed label of each case in a folder of results, by its folder's name.

    A label is `<case>/<case>_reviewed.nii.gz`, later ones `<case>_reviewed-2.nii.gz` and so on;
    the highest number counts. The file `.json` beside it tells how it was made. A folder that was
    renamed keeps its labels; beside the folder that bears the case's name it is a mere copy.

    Raises:
        UsageError: If `results` is not a folder, or the result of one case.
    """
    if not results.is_dir():
        raise UsageError(f"{results} is not a folder. Give the folder that predict wrote to.")
    refuse_single_result(results)
    found = {}
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        path = newest_reviewed_label(folder)
        if path is not None:
            found[folder.name] = _described(path.absolute())
    originals = {(one.case, one.file_hashes) for name, one in found.items() if name == one.case}
    return {
        name: one
        for name, one in found.items()
        if name == one.case or (one.case, one.file_hashes) not in originals
    }


def refuse_single_result(folder: Path) -> None:
    """Refuse OUT/<case> where OUT is wanted: it would look like a folder without results.

    Raises:
        UsageError: If the folder is the result of one case.
    """
    if (folder / "case.json").is_file():
        raise UsageError(
            f"{folder} is the result of one case. Give the folder that it lies in: "
            f"{folder.absolute().parent}"
        )


def newest_reviewed_label(folder: Path) -> Path | None:
    """Return the reviewed label of a result folder that counts, if there is one."""
    numbered = reviewed_labels(folder)
    return numbered[max(numbered)] if numbered else None


def reviewed_labels(folder: Path) -> dict[int, Path]:
    """Return every reviewed label of a result folder by its number, from 1.

    It is named after the folder or, if that was renamed, after the case.
    """
    found: dict[str, dict[int, Path]] = {}
    for name in os.listdir(folder):  # noqa: PTH208 - a path of each file takes most of the time
        if "_reviewed" in name and (match := _LABEL.fullmatch(name)):
            path = folder / name
            if path.is_file():
                found.setdefault(match[1], {})[int(match[2] or 1)] = path
    # Of 2,000 folders hardly one has a label of another name: only there is case.json read.
    own = _name(folder)
    stems = [own] if found.keys() <= {own} else label_stems(folder)
    numbered: dict[int, Path] = {}
    for stem in reversed(stems):
        numbered.update(found.get(stem, {}))
    return numbered


def label_stems(folder: Path) -> list[str]:
    """Return what the reviewed labels of a result folder may be named after, the folder first."""
    try:
        case = read_json(folder / "case.json")["case"]
    except (SemiSupSegError, KeyError, TypeError):
        case = None
    own = _name(folder)
    return [own, case] if isinstance(case, str) and case != own else [own]


def _name(folder: Path) -> str:
    # Of "." it is the name of the folder that one is in.
    return Path(os.path.normpath(folder.absolute())).name


def provenance_file(label: Path) -> Path:
    """Return where it is told how a reviewed label was made."""
    return label.with_name(label.name.removesuffix(".nii.gz") + ".json")


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
    for review in reviews.values():
        number = by_content.get(review.file_hashes) if review.file_hashes else None
        if number is None:
            number = by_id.get(review.case)
            known = frozenset(examined[number].file_hashes.values()) if number is not None else None
            if review.file_hashes and known:
                continue  # the case of this name has other images now
        if number is not None:
            matched[number] = review
    return matched


def _described(path: Path) -> ReviewedLabel:
    """Return a label with what its provenance, or the result beside it, says."""
    provenance = provenance_file(path)
    match = _LABEL.fullmatch(path.name)
    case = match[1] if match else path.parent.name
    try:
        result = read_json(path.parent / "case.json")
    except SemiSupSegError:
        result = None
    if not provenance.exists():
        # Drawn and put there by hand: it says what every voxel is.
        return ReviewedLabel(case=case, path=path, file_hashes=_input_hashes(result))
    try:
        content = read_json(provenance)
        check_format(content, "reviewed-label", provenance)
    except SemiSupSegError as error:
        # Without it nobody can tell which voxels are unknown.
        hashes = _input_hashes(result)
        return ReviewedLabel(case=case, path=path, file_hashes=hashes, problem=str(error))
    return ReviewedLabel(
        case=case,
        path=path,
        file_hashes=_input_hashes(content) or _input_hashes(result),
        unknown=content["unknown_value"] if content["partial"] else None,
    )


def _input_hashes(content: object) -> frozenset[str]:
    inputs = content.get("inputs") if isinstance(content, dict) else None
    if not isinstance(inputs, dict):
        return frozenset()
    return frozenset(value for value in inputs.values() if isinstance(value, str))
