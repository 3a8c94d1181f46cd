"""How cases are prepared: the options, and filling in what they leave to task and data."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from SemiSupSegLib.cases.case import Case, ImageSource
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.errors import SemiSupSegError


@dataclass(frozen=True, kw_only=True)
class PreparationOptions:
    """Steps from a scan to what the network sees.

    Source: Cheng & Song's preprocessing (docs/your-own-data.md): mask, box, clip, z-score. Their
    code clips at a histogram bin over the whole box and loses the last plane of each axis; here
    the quantile is exact and over the mask, and the box is whole.
    """

    COMMON: ClassVar = frozenset({"spacing"})
    """What a person may want to change first."""

    spacing: tuple[float, float, float] | None = None
    """Voxel spacing in mm along left, posterior, superior; None: the task's, else the median of
    the labelled training cases."""
    resample_tolerance: float = 0.01
    """An axis whose spacing differs by no more than this fraction is left as it is."""
    mask: Literal["task", "nonzero", "all"] = "task"
    """Where intensities count: voxels with any channel not 0, all voxels, or what the task says."""
    largest_component: bool = False
    """Keep only the largest connected part of the mask."""
    fill_holes: bool = False
    """Add to the mask what it encloses."""
    margin_voxels: int = 0
    """Voxels kept around the box of the mask, as far as the scan reaches."""
    n4: bool = False
    """Remove slow brightness changes (N4) inside the mask first; takes minutes a case."""
    n4_shrink_factor: int = 4
    """The bias field is estimated on every n-th voxel."""
    upper_quantile: float | None = 0.999
    """Brighter intensities are set to this quantile; None: not clipped."""
    lower_quantile: float | None = None
    """Darker intensities are set to this quantile; None: not clipped."""
    clip_over: Literal["mask", "box"] = "mask"
    """Voxels over which the quantiles are taken."""
    order: Literal["clip_first", "zscore_first"] = "clip_first"
    """With `zscore_first` the result has no unit variance any more."""
    background: Literal["zero", "keep"] = "zero"
    """Outside the mask: 0, or the z-score of whatever is there."""

    def __post_init__(self) -> None:
        if self.spacing is not None and min(self.spacing) <= 0:
            raise ValueError(f"spacing is {self.spacing}, must be three positive numbers (mm)")
        if self.resample_tolerance < 0:
            raise ValueError(f"resample_tolerance is {self.resample_tolerance}, must be 0 or more")
        if self.margin_voxels < 0:
            raise ValueError(f"margin_voxels is {self.margin_voxels}, must be 0 or more")
        if self.n4_shrink_factor < 1:
            raise ValueError(f"n4_shrink_factor is {self.n4_shrink_factor}, must be 1 or more")
        lower = 0.0 if self.lower_quantile is None else self.lower_quantile
        upper = 1.0 if self.upper_quantile is None else self.upper_quantile
        if not 0 <= lower < upper <= 1:
            raise ValueError(
                f"lower_quantile is {self.lower_quantile} and upper_quantile is "
                f"{self.upper_quantile}, must be 0 <= lower < upper <= 1"
            )

    @property
    def is_frozen(self) -> bool:
        """Whether nothing is left to the task or to the data."""
        return self.spacing is not None and self.mask != "task"


def freeze_spacing(
    task: Task, options: PreparationOptions, labelled_cases: Sequence[Case]
) -> PreparationOptions:
    """Return `options` with spacing (and mask) as numbers that later cases are prepared with.

    Args:
        task: Gives what the options leave to it.
        options: The wishes.
        labelled_cases: The labelled training cases; only headers of images are read, and only
            if neither options nor task name a spacing.

    Raises:
        SemiSupSegError: If the spacing has to come from cases and there are none.
    """
    spacing = options.spacing if options.spacing is not None else task.spacing
    if spacing is None:
        if not labelled_cases:
            raise SemiSupSegError(
                f"Task {task.name} names no voxel spacing and there is no labelled case to take "
                "it from. Add a labelled case, or name it: --set preparation.spacing=[1,1,1] (mm)."
            )
        found = [_oriented_spacing(_reference_of(case, task)) for case in labelled_cases]
        # Headers hold float32; nanometres are noise.
        x, y, z = (round(statistics.median(values), 6) for values in zip(*found, strict=True))
        spacing = (x, y, z)
    mask = options.mask
    if mask == "task":
        mask = "all" if task.mask == "all" else "nonzero"
    return dataclasses.replace(options, spacing=spacing, mask=mask)


def _reference_of(case: Case, task: Task) -> ImageSource:
    present = [channel.name for channel in task.channels if channel.name in case.channels]
    if not present:
        raise SemiSupSegError(f"Case {case.id} has no channel of task {task.name}.")
    return case.channels[present[0]]


def _oriented_spacing(source: ImageSource) -> tuple[float, float, float]:
    """Return the spacing along left, posterior, superior, from the header alone."""
    import SimpleITK as sitk

    from SemiSupSegLib.cases.reading import read_header

    geometry = read_header(source).geometry
    probe = sitk.Image([1, 1, 1], sitk.sitkUInt8)
    probe.SetSpacing(geometry.spacing)
    probe.SetDirection(geometry.direction)
    oriented: tuple[float, float, float] = sitk.DICOMOrient(probe, "LPS").GetSpacing()
    return oriented
