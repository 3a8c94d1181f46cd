"""The review regions of a result folder: read, found again at another sensitivity, replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.task import Task, task_from_json
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import read_json, replacing_path, write_json
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.review.fitting import ReviewThresholds
from SemiSupSegLib.review.options import NEUTRAL
from SemiSupSegLib.review.regions import (
    FoundRegions,
    ReviewRegion,
    find_regions,
    options_from_json,
    region_from_json,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CASE_FILE = "case.json"
LIST_FORMAT = "semisupseg-review-regions"


@dataclass(frozen=True, kw_only=True)
class ListedRegions:
    """The regions of a case, and what they were found with."""

    case: str
    regions: tuple[ReviewRegion, ...]
    """The worst first."""
    expected_error_mm3: float
    """Of the whole case."""
    thresholds: ReviewThresholds
    """As fitted, before the slider."""
    sensitivity: float = NEUTRAL

    def to_json(self) -> dict[str, Any]:
        """Return the list as a file of its own."""
        return {
            "format": LIST_FORMAT,
            "version": 1,
            "case": self.case,
            "review": _review(self.expected_error_mm3, self.thresholds, self.sensitivity),
            "regions": [one.to_json() for one in self.regions],
        }


def refuse_other_folder(folder: Path) -> None:
    """Refuse what is no OUT/<case>, and say what to give if it is OUT.

    Raises:
        SemiSupSegError: If the folder is not the result of a case.
    """
    if (folder / CASE_FILE).is_file():
        return
    cases = sorted(one.parent for one in folder.glob(f"*/{CASE_FILE}"))
    remedy = (
        f"It holds the results of {len(cases)} case{'s' * (len(cases) > 1)}: give one of them, "
        f"such as {cases[0]}."
        if cases
        else "Give OUT/<case>, a folder that predict wrote."
    )
    raise SemiSupSegError(f"{folder} is no result of a case: it has no {CASE_FILE}. {remedy}")


def review_content(
    found: FoundRegions | None,
    thresholds: ReviewThresholds | None,
    sensitivity: float = NEUTRAL,
) -> dict[str, Any]:
    """Return `review_regions` and `review` as case.json has them; empty without regions."""
    if found is None or thresholds is None:
        return {}
    return {
        "review_regions": [one.to_json() for one in found.regions],
        "review": _review(found.expected_error_mm3, thresholds, sensitivity),
    }


def read_regions(folder: Path) -> ListedRegions:
    """Return the regions that case.json lists.

    If replacing them was interrupted, they are found again; nothing is written.

    Raises:
        SemiSupSegError: If the folder holds no result, or one without regions.
    """
    content = _content(folder)
    thresholds, sensitivity = _settings(folder, content)
    if "review_regions" not in content:
        return find_again(folder, sensitivity)[1]
    try:
        return ListedRegions(
            case=content["case"],
            regions=tuple(region_from_json(one) for one in content["review_regions"]),
            expected_error_mm3=float(content["review"]["expected_error_mm3"]),
            thresholds=thresholds,
            sensitivity=sensitivity,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, error) from error


def find_again(folder: Path, sensitivity: float) -> tuple[FoundRegions, ListedRegions]:
    """Return the regions of a result at another position of the slider, and their list.

    At 0.5 they are those that `predict` found.

    Raises:
        SemiSupSegError: If a map is missing or does not fit the others.
        ValueError: If the sensitivity is not from 0 to 1.
    """
    content = _content(folder)
    thresholds, _ = _settings(folder, content)
    if "task" not in content:
        raise SemiSupSegError(
            f"{folder / CASE_FILE} does not say what its label values mean. Predict the case again."
        )
    task = task_from_json(content["task"], folder / CASE_FILE)
    options = thresholds.options.with_sensitivity(sensitivity)
    found = _found(folder, content["case"], task, options)
    return found, ListedRegions(
        case=content["case"],
        regions=found.regions,
        expected_error_mm3=found.expected_error_mm3,
        thresholds=thresholds,
        sensitivity=sensitivity,
    )


def mend_regions(folder: Path) -> None:
    """Write the regions of a result anew if replacing them was interrupted.

    Raises:
        SemiSupSegError: If a map is missing, or a file cannot be written.
    """
    content = _content(folder)
    if "review" in content and "review_regions" not in content:
        replace_regions(folder, *find_again(folder, _settings(folder, content)[1]))


def replace_regions(folder: Path, found: FoundRegions, listed: ListedRegions) -> None:
    """Replace the map of regions, and the list in case.json; all else stays as it is.

    Reviews that were begun keep the regions that they began with.

    Raises:
        SemiSupSegError: If a file cannot be written.
    """
    from SemiSupSegLib.cases.reading import read_header
    from SemiSupSegLib.preparation.restoring import write_volume

    content = _content(folder)
    label = folder / f"{listed.case}_label.nii.gz"
    like = ImageSource(path=label)
    wanted = review_content(found, listed.thresholds, listed.sensitivity)
    # Map and list are two files: in between there is no list, and it is said how to find it again.
    content["review"] = wanted["review"]
    content.pop("review_regions", None)
    write_json(folder / CASE_FILE, content)
    with replacing_path(folder / f"{listed.case}_regions.nii.gz") as temporary:
        write_volume(temporary, found.map, read_header(like).geometry, like)
    write_json(folder / CASE_FILE, {**content, **wanted})


def _settings(folder: Path, content: Mapping[str, Any]) -> tuple[ReviewThresholds, float]:
    """Return the thresholds as fitted, and the position of the slider."""
    if "review" not in content:
        raise SemiSupSegError(
            f"{folder} lists no review regions: it was written by an earlier SemiSupSeg. Predict "
            "the case again."
        )
    review = content["review"]
    try:
        thresholds = ReviewThresholds(
            options=options_from_json(review["thresholds"], str(folder / CASE_FILE)),
            fitted_on=int(bool(review["fitted"])),
        )
        return thresholds, float(review.get("sensitivity", NEUTRAL))
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> SemiSupSegError:
    return SemiSupSegError(
        f"{folder / CASE_FILE} is damaged or incomplete ({error!r} in its review regions). Predict "
        "the case again."
    )


def _review(
    expected_error_mm3: float, thresholds: ReviewThresholds, sensitivity: float
) -> dict[str, Any]:
    return {
        "expected_error_mm3": round(expected_error_mm3, 3),
        "thresholds": thresholds.options.to_json(),
        "fitted": thresholds.fitted_on > 0,
        "sensitivity": sensitivity,
    }


def _content(folder: Path) -> dict[str, Any]:
    refuse_other_folder(folder)
    file = folder / CASE_FILE
    content: dict[str, Any] = read_json(file)
    check_format(content, "case-result", file)
    return content


def _found(folder: Path, case: str, task: Task, options: Any) -> FoundRegions:
    import SimpleITK as sitk

    from SemiSupSegLib.cases.geometry import geometry_of
    from SemiSupSegLib.cases.reading import read_image, read_label

    def path(name: str) -> Path:
        return folder / f"{case}_{name}.nii.gz"

    def classes(name: str) -> NDArray[np.uint8] | None:
        if not path(name).is_file():
            return None
        image = read_label(ImageSource(path=path(name)), task)
        found: NDArray[np.uint8] = sitk.GetArrayFromImage(image)
        return found

    def scalars(name: str) -> NDArray[np.float32] | None:
        if not path(name).is_file():
            return None
        found: NDArray[np.float32] = sitk.GetArrayFromImage(
            read_image(ImageSource(path=path(name)))
        )
        return found

    label, confidence = classes("label"), scalars("confidence")
    if label is None or confidence is None:
        missing = path("label") if label is None else path("confidence")
        raise SemiSupSegError(
            f"{missing} is missing, without which no regions are found. Predict the case again."
        )
    pseudo_label, agreement, second = (
        classes("pseudolabel"),
        scalars("agreement"),
        classes("second"),
    )
    maps: Mapping[str, Any] = {
        "confidence": confidence,
        "pseudolabel": pseudo_label,
        "agreement": agreement,
        "second": second,
    }
    for name, values in maps.items():
        if values is not None and values.shape != label.shape:
            raise SemiSupSegError(
                f"{path(name)} lies on another grid than {path('label').name}. Predict the case "
                "again."
            )
    header = read_label(ImageSource(path=path("label")), task)
    return find_regions(
        label=label,
        confidence=confidence,
        agreement=agreement,
        second=second,
        pseudo_label=pseudo_label,
        geometry=geometry_of(header),
        class_names=[one.name for one in task.classes],
        options=options,
    )
