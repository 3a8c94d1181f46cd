"""Two reviews of one case side by side: where the reviewers decided alike, and where not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.review.record import ReviewRecord, reviewers
from SemiSupSegLib.review.result_label import reviewed_label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class RegionPair:
    """What two reviewers made of one region."""

    region: int
    class_name: str
    statuses: tuple[str, str]
    """Of both reviewers; `undecided` as long as there is none."""
    voxels_apart: int | None
    """Voxels of the region to which the two labels give different classes; None: not counted."""

    @property
    def is_decided(self) -> bool:
        """Whether both have decided."""
        return UNDECIDED not in self.statuses

    @property
    def is_apart(self) -> bool:
        """Whether both have decided, and differently, in the status or in a voxel."""
        if not self.is_decided:
            return False
        return self.statuses[0] != self.statuses[1] or bool(self.voxels_apart)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far two reviews of a case agree."""

    case: str
    reviewers: tuple[str, str]
    verdicts: tuple[str | None, str | None]
    regions: tuple[RegionPair, ...]
    """In the order of the first review's list."""
    equal_decisions: float | None
    """Share of the regions decided by both that have one status, 0-1; None without such."""
    kappa: float | None
    """Cohen's kappa of the statuses of these regions: 1 agree, 0 as by chance; None without such,
    or if only one status occurs, where chance explains all."""
    dice: dict[str, float | None] | None
    """Of the two labels, for each class and region of the task; None for what neither has. No
    figures at all if the labels were not read."""
    voxels_apart: int | None

    @property
    def apart(self) -> tuple[RegionPair, ...]:
        """The regions about which the reviewers differ."""
        return tuple(one for one in self.regions if one.is_apart)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain values."""
        return {
            "case": self.case,
            "reviewers": list(self.reviewers),
            "verdicts": list(self.verdicts),
            "equal_decisions": self.equal_decisions,
            "kappa": self.kappa,
            "dice": self.dice,
            "voxels_apart": self.voxels_apart,
            "regions": [
                {
                    "region": one.region,
                    "class": one.class_name,
                    "statuses": list(one.statuses),
                    "voxels_apart": one.voxels_apart,
                    "apart": one.is_apart,
                }
                for one in self.regions
            ],
        }


def compare(
    folder: Path, first: str | None = None, second: str | None = None, *, labels: bool = True
) -> Comparison:
    """Compare two reviews of one result.

    Args:
        folder: The result folder, OUT/<case>.
        first: A reviewer; None, for both: the only two that there are.
        second: The other one.
        labels: Whether to read the label maps; decisions alone are compared at once.

    Raises:
        UsageError: If there are no such two reviews, or they are of different label maps, so that
            their regions have nothing to do with each other.
        SemiSupSegError: If a record or label map cannot be read.
    """
    if first is None or second is None:
        first, second = _only_two(folder)
    if first == second:
        raise UsageError(f"Both reviewers are {first}. Give two different ones.")
    one, other = ReviewRecord.open(folder, first), ReviewRecord.open(folder, second)
    for what, is_same in (
        ("results", one.label_sha256 == other.label_sha256),
        ("lists of regions", _places(one) == _places(other)),
    ):
        if not is_same:
            raise UsageError(
                f"The reviews of {one.case} by {first} and {second} began with different {what}, "
                "so their regions cannot be compared. Let one of them begin anew."
            )
    statuses = one.statuses, other.statuses
    apart, dice = _labels_apart(one, other) if labels else (None, None)
    pairs = tuple(
        RegionPair(
            region=int(listed["id"]),
            class_name=str(listed["class"]),
            statuses=(
                statuses[0].get(int(listed["id"]), UNDECIDED),
                statuses[1].get(int(listed["id"]), UNDECIDED),
            ),
            voxels_apart=None if apart is None else apart.get(int(listed["id"]), 0),
        )
        for listed in one.listed
    )
    decided = [pair.statuses for pair in pairs if pair.is_decided]
    return Comparison(
        case=one.case,
        reviewers=(first, second),
        verdicts=(one.verdict, other.verdict),
        regions=pairs,
        equal_decisions=share_equal(decided),
        kappa=cohens_kappa(decided),
        dice=dice,
        voxels_apart=None if apart is None else sum(apart.values()),
    )


def share_equal(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Return the share of pairs whose two are equal, 0-1; None without pairs."""
    return sum(one == other for one, other in pairs) / len(pairs) if pairs else None


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Return the agreement of two raters beyond chance, at most 1; None if it is not defined.

    Source: Cohen 1960, "A coefficient of agreement for nominal scales", eq. 1.
    """
    if not pairs:
        return None
    observed = sum(one == other for one, other in pairs) / len(pairs)
    first, second = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    chance = sum(first[name] * second[name] for name in first) / len(pairs) ** 2
    return None if chance == 1 else (observed - chance) / (1 - chance)


def _only_two(folder: Path) -> tuple[str, str]:
    found = reviewers(folder)
    if len(found) == 2:
        return found[0], found[1]
    if len(found) > 2:
        raise UsageError(
            f"{folder} was reviewed by {', '.join(found)}. Say which two of them to compare."
        )
    there = f"{found[0]} alone" if found else "nobody"
    raise UsageError(
        f"{folder} was reviewed by {there}. There is nothing to compare before a second reviewer "
        "has begun."
    )


def _places(record: ReviewRecord) -> list[tuple[Any, ...]]:
    # Ids alone are 1, 2, ... wherever the slider stood.
    return [(one["id"], one.get("box"), one.get("peak_voxel")) for one in record.listed]


def _labels_apart(
    one: ReviewRecord, other: ReviewRecord
) -> tuple[dict[int, int], dict[str, float | None]]:
    """Return the number of voxels that differ in each region (0: in none), and Dice."""
    import numpy as np

    first, second = reviewed_label(one), reviewed_label(other)
    differs = first.values != second.values
    counts = {0: int(np.count_nonzero(differs))}
    if one.regions_file.exists():
        in_regions = np.bincount(_region_map(one)[differs], minlength=1)
        counts = {
            region: int(number) for region, number in enumerate(in_regions) if number or not region
        }
    dice = {
        name: _dice(np.isin(first.values, classes), np.isin(second.values, classes))
        for name, classes in first.task.targets.items()
    }
    return counts, dice


def _region_map(record: ReviewRecord) -> NDArray[np.int64]:
    import numpy as np
    import SimpleITK as sitk

    from SemiSupSegLib.cases.case import ImageSource
    from SemiSupSegLib.cases.reading import read_image

    image = read_image(ImageSource(path=record.regions_file))
    return sitk.GetArrayFromImage(image).astype(np.int64)


def _dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float | None:
    import numpy as np

    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2 * int(np.count_nonzero(first & second)) / total if total else None
