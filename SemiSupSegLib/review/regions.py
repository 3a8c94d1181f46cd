"""The places of a result that a person should look at, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.review.options import RegionOptions, options_from_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from SemiSupSegLib.review.surroundings import Surroundings

__all__ = [
    "BACKGROUND",
    "FoundRegions",
    "RegionOptions",
    "ReviewRegion",
    "find_regions",
    "options_from_json",
    "region_from_json",
]

BACKGROUND = "background"
"""Name of class 0 in regions."""

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open voxel indices along slice, row, column."""
_SAME_MM = 1e-3
"""Positions that differ by less are one."""


@dataclass(frozen=True, kw_only=True)
class ReviewRegion:
    """A place that a person should look at."""

    id: int
    """Its value in the map of regions; 1 is the worst."""
    class_name: str
    """What the result mostly says here: a class or `background`."""
    second_class: str
    """What it may be instead: a class or `background`."""
    box: Box
    peak_ras: tuple[float, float, float]
    """Centre of the voxel with the most doubt, mm."""
    peak_voxel: tuple[int, int, int]
    """The same as slice, row, column."""
    volume_mm3: float
    expected_error_mm3: float
    """How much of it is probably wrong: the sum of the doubts times the volume of a voxel."""
    mean_doubt: float
    """Doubt is the calibrated probability that a voxel's label is wrong, 0-1."""
    peak_doubt: float
    agreement: float | None
    """Of teacher and student, mean over the region, 0-1; None without a teacher."""
    reason: str
    """One sentence on why it is listed."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values, as in `review_regions` of case.json."""
        return {
            "id": self.id,
            "class": self.class_name,
            "second_class": self.second_class,
            "box": [list(side) for side in self.box],
            "peak_ras": [round(value, 4) for value in self.peak_ras],
            "peak_voxel": list(self.peak_voxel),
            "volume_mm3": round(self.volume_mm3, 3),
            "expected_error_mm3": round(self.expected_error_mm3, 3),
            "mean_doubt": round(self.mean_doubt, 6),
            "peak_doubt": round(self.peak_doubt, 6),
            "agreement": None if self.agreement is None else round(self.agreement, 6),
            "reason": self.reason,
        }


def region_from_json(content: Mapping[str, Any]) -> ReviewRegion:
    """Return the region that `ReviewRegion.to_json` gave."""
    (z0, z1), (y0, y1), (x0, x1) = content["box"]
    px, py, pz = content["peak_ras"]
    z, y, x = content["peak_voxel"]
    agreement = content["agreement"]
    return ReviewRegion(
        id=int(content["id"]),
        class_name=str(content["class"]),
        second_class=str(content["second_class"]),
        box=((z0, z1), (y0, y1), (x0, x1)),
        peak_ras=(float(px), float(py), float(pz)),
        peak_voxel=(int(z), int(y), int(x)),
        volume_mm3=float(content["volume_mm3"]),
        expected_error_mm3=float(content["expected_error_mm3"]),
        mean_doubt=float(content["mean_doubt"]),
        peak_doubt=float(content["peak_doubt"]),
        agreement=None if agreement is None else float(agreement),
        reason=str(content["reason"]),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundRegions:
    """The review regions of a case."""

    regions: tuple[ReviewRegion, ...]
    """The one with the most expected error first; ids 1, 2, ... in this order."""
    map: NDArray[np.uint16]
    """0 or the id of a region, (D, H, W)."""
    expected_error_mm3: float
    """Of the whole case, outside the regions, too."""


def find_regions(
    *,
    label: NDArray[np.integer[Any]],
    confidence: NDArray[np.floating[Any]],
    uncertainty: NDArray[np.floating[Any]] | None = None,
    agreement: NDArray[np.floating[Any]] | None = None,
    second: NDArray[np.integer[Any]] | None = None,
    pseudo_label: NDArray[np.integer[Any]] | None = None,
    geometry: Geometry,
    class_names: Sequence[str],
    options: RegionOptions | None = None,
    tells_why: bool = True,
) -> FoundRegions:
    """Return the review regions of a case; what comes out depends on nothing but the arguments.

    Args:
        label: The student's class indices, (D, H, W); the other maps have the same shape.
        confidence: Calibrated probability that the label is right, 0-1.
        uncertainty: Not used: it adds nothing to the confidence (Testing/benchmarks/review.py).
        agreement: Of teacher and student, 0-1.
        second: The student's second most likely class indices. None: the class across the nearest
            border takes its place.
        pseudo_label: The teacher's class indices.
        geometry: The maps' grid.
        class_names: Of the indices 1, 2, ...
        options: Thresholds and sizes; None for those that the benchmark found.
        tells_why: Whether the regions get their `reason`; it is empty else, and time is saved.
    """
    import numpy as np

    from SemiSupSegLib.review.alternatives import alternative_classes
    from SemiSupSegLib.review.doubt import box_of, doubt_of, reaches
    from SemiSupSegLib.review.forming import form_pieces
    from SemiSupSegLib.review.surroundings import Surroundings

    if label.shape != geometry.shape:
        raise ValueError(f"label has the shape {label.shape}, its grid {geometry.shape}")
    options = options or RegionOptions()
    x, y, z = geometry.spacing
    spacing = (z, y, x)
    found = label > 0
    if pseudo_label is not None:
        found |= pseudo_label > 0
    doubt = doubt_of(confidence, found, spacing, options)
    total = float(doubt.sum(dtype=np.float64)) * geometry.voxel_volume_mm3
    regions_map = np.zeros(label.shape, np.uint16)
    box = box_of(reaches(doubt, options.grow))
    if box is None:
        return FoundRegions(regions=(), map=regions_map, expected_error_mm3=total)
    own_label, own_doubt = label[box], doubt[box]
    # The nearest border may lie outside of the box.
    at = box if second is not None else (slice(None),) * 3
    other = alternative_classes(
        label[at],
        None if second is None else second[at],
        None if pseudo_label is None else pseudo_label[at],
        reaches(doubt[at], options.grow),
        spacing,
    )
    if second is None:
        other = other[box]
    names = (BACKGROUND, *class_names)
    pairs = np.minimum(own_label, other) * len(names) + np.maximum(own_label, other)
    pieces, count = form_pieces(own_doubt, pairs, _index_to_mm(geometry), options)
    told = _Telling(
        geometry=geometry,
        start=(box[0].start, box[1].start, box[2].start),
        names=names,
        doubt=own_doubt,
        label=own_label,
        other=other,
        pseudo_label=None if pseudo_label is None else pseudo_label[box],
        agreement=None if agreement is None else agreement[box],
        around=Surroundings(label=label, found=found, spacing_mm=spacing) if tells_why else None,
    )
    listed = told.listed(pieces, count, options.max_regions)
    numbers = np.zeros(count + 1, np.uint16)
    for region, piece in listed:
        numbers[piece] = region.id
    regions_map[box] = numbers[pieces]
    return FoundRegions(
        regions=tuple(region for region, _ in listed), map=regions_map, expected_error_mm3=total
    )


def _index_to_mm(geometry: Geometry) -> NDArray[np.float64]:
    """Return the 3x3 matrix from steps along D, H, W to LPS mm."""
    return geometry.index_to_lps()[:3, 2::-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Telling:
    """The maps inside the box of doubt, and what can be said of a piece of it."""

    geometry: Geometry
    start: tuple[int, int, int]
    names: tuple[str, ...]
    doubt: NDArray[np.float32]
    label: NDArray[np.integer[Any]]
    other: NDArray[np.integer[Any]]
    pseudo_label: NDArray[np.integer[Any]] | None
    agreement: NDArray[np.floating[Any]] | None
    around: Surroundings | None
    """None: it is not told why a piece is listed."""

    def listed(
        self, pieces: NDArray[np.int32], count: int, most: int
    ) -> list[tuple[ReviewRegion, int]]:
        """Return the worst pieces as regions, each with its piece's number."""
        import numpy as np
        from scipy import ndimage

        inside = pieces > 0
        sums = np.bincount(pieces[inside], self.doubt[inside], minlength=count + 1)
        # Ranked to a thousandth of a voxel: what is equal but for rounding goes by position.
        ranks = np.round(sums, 3)
        worst = sorted(range(1, count + 1), key=lambda piece: (-ranks[piece], piece))
        # Pieces that tie with the last one listed are told as well, and then cut off.
        last = ranks[worst[min(most, count) - 1]] if count else 0
        boxes = ndimage.find_objects(pieces, count)
        told = [
            (ranks[piece], self._tell(pieces, piece, boxes[piece - 1]), piece)
            for piece in worst
            if ranks[piece] >= last
        ]
        told.sort(key=lambda one: (-one[0], [round(value, 3) for value in one[1].peak_ras]))
        return [
            (_numbered(region, number), piece)
            for number, (_, region, piece) in enumerate(told[:most], start=1)
        ]

    def _tell(
        self, pieces: NDArray[np.int32], piece: int, box: tuple[slice, slice, slice]
    ) -> ReviewRegion:
        import numpy as np

        from SemiSupSegLib.review.surroundings import share_words

        mine = pieces[box] == piece
        doubt = self.doubt[box][mine].astype(np.float64)
        label, other = self.label[box][mine], self.other[box][mine]
        corner = np.array(self.start) + [side.start for side in box]
        points = np.argwhere(mine) + corner
        peak, peak_ras = self._peak(points, doubt)
        class_index = _most(label, doubt, len(self.names))
        is_own = label == class_index
        alternative = _most(other[is_own], doubt[is_own], len(self.names))
        teacher = None if self.pseudo_label is None else self.pseudo_label[box][mine]
        voxel = self.geometry.voxel_volume_mm3
        volume = len(doubt) * voxel
        sides = [
            (int(start), int(start + side.stop - side.start))
            for start, side in zip(corner, box, strict=True)
        ]
        return ReviewRegion(
            id=0,
            class_name=self.names[class_index],
            second_class=self.names[alternative],
            box=(sides[0], sides[1], sides[2]),
            peak_ras=peak_ras,
            peak_voxel=peak,
            volume_mm3=volume,
            expected_error_mm3=float(doubt.sum()) * voxel,
            mean_doubt=float(doubt.mean()),
            peak_doubt=float(doubt.max()),
            agreement=None
            if self.agreement is None
            else float(self.agreement[box][mine].mean(dtype=np.float64)),
            reason=""
            if self.around is None
            else f"{self._question(class_index, alternative, label, teacher, doubt)}, "
            f"{self.around.words(points)}; {share_words(float(doubt.sum()) * voxel, volume)} "
            "probably wrong.",
        )

    def _peak(
        self, points: NDArray[np.intp], doubt: NDArray[np.float64]
    ) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
        """Return the voxel with the most doubt; of equals the most central, then by position."""
        import numpy as np

        matrix = self.geometry.index_to_lps()
        lps = points[:, ::-1] @ matrix[:3, :3].T + matrix[:3, 3]
        centre = lps.mean(axis=0)
        best = np.flatnonzero(doubt >= doubt.max())
        distance = np.round(np.linalg.norm(lps[best] - centre, axis=1) / _SAME_MM)
        place = np.round(lps[best] / _SAME_MM)
        chosen = best[np.lexsort((place[:, 0], place[:, 1], place[:, 2], distance))[0]]
        z, y, x = (int(value) for value in points[chosen])
        left, posterior, superior = (float(value) for value in lps[chosen])
        return (z, y, x), (-left, -posterior, superior)

    def _question(
        self,
        class_index: int,
        alternative: int,
        label: NDArray[np.integer[Any]],
        teacher: NDArray[np.integer[Any]] | None,
        doubt: NDArray[np.float64],
    ) -> str:
        own = self.names[class_index]
        if teacher is not None:
            differs = teacher != label
            if 2 * doubt[differs].sum() > doubt.sum():
                size = len(self.names)
                both = label[differs].astype(int) * size + teacher[differs]
                student, other = divmod(_most(both, doubt[differs], size * size), size)
                return f"Teacher: {self.names[other]}, student: {self.names[student]}"
        if alternative == class_index:
            return f"Not sure of {own}"
        return f"Unsure between {own} and {self.names[alternative]}"


def _most(values: NDArray[np.integer[Any]], weights: NDArray[np.float64], count: int) -> int:
    """Return the value with the largest sum of weights; the lowest of equals."""
    import numpy as np

    sums = np.bincount(values.astype(np.int64), weights, minlength=count)
    return int(np.argmax(np.round(sums, 6)))


def _numbered(region: ReviewRegion, number: int) -> ReviewRegion:
    from dataclasses import replace

    return replace(region, id=number)
