"""One case from its files to arrays that a network can take."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.case import Case, ImageSource
from SemiSupSegLib.cases.geometry import Geometry, geometry_of
from SemiSupSegLib.cases.label_values import UNKNOWN_CLASS
from SemiSupSegLib.cases.reading import content_hash, read_image, read_label
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.preparation.expectations import unmet_expectations
from SemiSupSegLib.preparation.intensities import correct_bias_field, normalize, to_float16
from SemiSupSegLib.preparation.mapped_array import mapped_array
from SemiSupSegLib.preparation.masking import bounding_box, nonzero_mask
from SemiSupSegLib.preparation.options import PreparationOptions
from SemiSupSegLib.preparation.placement import find_placement
from SemiSupSegLib.preparation.resampling import (
    grid_with_spacing,
    orient,
    resample,
    resample_labels,
    with_geometry,
)

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PreparedCase:
    """A case as the networks see it, and the way back to the scan's own grid.

    Arrays are in the store and memory-mapped, or, from `prepare_case`, in memory.
    """

    id: str
    patient: str
    original: Geometry
    """Grid of the first channel's file, on which results are written."""
    grid: Geometry
    """Grid of the prepared arrays."""
    image_hash: str
    """sha256 over the channel files' contents."""
    reference: ImageSource
    """The first channel's file, whose header results take over."""
    warnings: tuple[str, ...] = ()
    """What was repaired or filled in, in sentences."""
    folder: Path | None = None
    """Where the arrays are stored; None in memory."""
    image_file: Path | None = None
    mask_file: Path | None = None
    label_file: Path | None = None
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)
    """`image`, `mask` and, if asked for, `label` of a case in memory; if it was resampled,
    `original_mask` too."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size D, H, W of the prepared arrays."""
        return self.grid.shape

    @property
    def has_label(self) -> bool:
        """Whether `label()` can be called."""
        return "label" in self.arrays or self.label_file is not None

    def image(self) -> NDArray[np.float16]:
        """Return the z-scored channels (C, D, H, W); missing channels are 0."""
        return self._array("image", self.image_file)

    def mask(self) -> NDArray[np.uint8]:
        """Return 1 where intensities count and 0 elsewhere, (D, H, W)."""
        return self._array("mask", self.mask_file)

    def original_mask(self) -> NDArray[np.uint8] | None:
        """Return the mask on the original grid; None where `mask` has it voxel by voxel."""
        return self.arrays.get("original_mask")

    def label(self) -> NDArray[np.uint8]:
        """Return the class index of each voxel, (D, H, W); 255 where the label does not tell.

        Raises:
            SemiSupSegError: If the case was prepared without a label.
        """
        if not self.has_label:
            raise SemiSupSegError(
                f"Case {self.id} was prepared without its label: it has none, or it is used "
                "as an unlabelled case here."
            )
        return self._array("label", self.label_file)

    def _array(self, name: str, file: Path | None) -> NDArray[Any]:
        if name in self.arrays:
            return self.arrays[name]
        if file is None:
            raise SemiSupSegError(f"Case {self.id} has no prepared {name}.")
        try:
            return mapped_array(file)
        except (OSError, ValueError) as error:
            raise SemiSupSegError(
                f"{file} cannot be read ({error}). Delete its folder; it is made anew."
            ) from error


@dataclass(frozen=True, kw_only=True)
class PreparedArrays:
    """What preparation makes of a case's images."""

    image: NDArray[np.float16]
    mask: NDArray[np.uint8]
    original_mask: NDArray[np.uint8] | None
    """The mask on `original`, if the prepared grid has other voxels."""
    original: Geometry
    grid: Geometry
    warnings: tuple[str, ...]


def prepare_case(
    case: Case,
    task: Task,
    options: PreparationOptions,
    *,
    with_label: bool = False,
    mask: ImageSource | None = None,
) -> PreparedCase:
    """Prepare one case in memory, without a store.

    Args:
        case: A usable case.
        task: Names the channels in their order.
        options: Frozen options (`freeze_spacing`).
        with_label: Whether to prepare the label too.
        mask: An image that is not 0 where intensities count, instead of the options' mask.

    Raises:
        SemiSupSegError: If a file cannot be read or does not fit.
    """
    made = prepare_images(case, task, options, mask=mask)
    arrays: dict[str, NDArray[Any]] = {"image": made.image, "mask": made.mask}
    if made.original_mask is not None:
        arrays["original_mask"] = made.original_mask
    warnings = made.warnings
    if with_label and case.label is not None:
        arrays["label"], more = prepare_label(case, task, made.original, made.grid)
        warnings += more
    return PreparedCase(
        id=case.id,
        patient=case.patient,
        original=made.original,
        grid=made.grid,
        image_hash=hash_images(case, task),
        reference=reference_of(case, task),
        warnings=warnings,
        arrays=arrays,
    )


def present_channels(case: Case, task: Task) -> list[str]:
    """Return the names of the task's channels that the case has, in the task's order.

    Raises:
        SemiSupSegError: If a required channel is missing, or all are.
    """
    present = [one.name for one in task.channels if one.name in case.channels]
    missing = [one.name for one in task.channels if one.required and one.name not in present]
    if missing or not present:
        raise SemiSupSegError(
            f"Case {case.id} has no {' and no '.join(missing or ['channel'])}. Add the file, or "
            "make the channel optional in the task."
        )
    return present


def reference_of(case: Case, task: Task) -> ImageSource:
    """Return the image whose grid is the case's: the first channel of the task that it has."""
    return case.channels[present_channels(case, task)[0]]


def hash_images(
    case: Case, task: Task, hash_of: Callable[[ImageSource], str] = content_hash
) -> str:
    """Return sha256 over the contents of the case's channels, in the task's order.

    Args:
        case: A usable case.
        task: Names the channels in their order.
        hash_of: Returns what `content_hash` does; one that remembers need not read the file.
    """
    present = present_channels(case, task)
    with ThreadPoolExecutor(len(present)) as threads:
        hashes = list(threads.map(lambda name: hash_of(case.channels[name]), present))
    parts = [
        [name, hashes[present.index(name)] if name in present else None]
        for name in (channel.name for channel in task.channels)
    ]
    # A file may hold several channels; which one it is counts as content.
    components = [case.channels[name].component for name in present]
    return hashlib.sha256(json.dumps([parts, components]).encode()).hexdigest()


def prepare_images(
    case: Case, task: Task, options: PreparationOptions, *, mask: ImageSource | None = None
) -> PreparedArrays:
    """Read, orient, crop, resample and normalize the channels of a case.

    Raises:
        SemiSupSegError: If a file cannot be read, a channel is the same in every voxel, a field of
            view hardly overlaps with the first channel's, or the mask is empty.
    """
    import numpy as np
    import SimpleITK as sitk

    if options.spacing is None or options.mask == "task":
        raise ValueError("options are not frozen; call freeze_spacing first")
    warnings: list[str] = []
    present = present_channels(case, task)
    sources = [case.channels[name] for name in present] + ([mask] if mask is not None else [])
    with ThreadPoolExecutor(len(sources)) as threads:
        images = list(threads.map(read_image, sources))
        for name, image in zip(present, images, strict=False):
            _refuse_blank(image, name, case)
        original = geometry_of(images[0])
        nothing_is_zero = mask is None and options.mask == "nonzero"
        images = [
            orient(
                _on_grid(
                    image,
                    original,
                    source,
                    case,
                    warnings,
                    nothing_is_zero=nothing_is_zero or source is mask,
                )
            )
            for image, source in zip(images, sources, strict=True)
        ]
        given = images.pop() if mask is not None else None
        oriented = geometry_of(images[0])
        warnings += unmet_expectations(
            task,
            dict(zip(present, map(sitk.GetArrayViewFromImage, images), strict=True)),
            oriented.voxel_volume_mm3 / 1000,
            has_mask=given is not None,
        )
        if given is None and options.mask == "all":
            inside: NDArray[np.bool_] = np.ones(oriented.shape, bool)
        else:
            inside = nonzero_mask(
                images if given is None else [given],
                largest_component=options.largest_component,
                fill_holes=options.fill_holes,
            )
        box = bounding_box(inside, options.margin_voxels)
        if box is None:
            raise SemiSupSegError(
                f"Case {case.id}: {sources[-1]} is 0 everywhere, so there is nothing to prepare. "
                "Replace the file."
            )
        start, size = box
        region = with_geometry(inside.astype(np.uint8), oriented)
        region = sitk.RegionOfInterest(region, size, start)
        grid = grid_with_spacing(geometry_of(region), options.spacing, options.resample_tolerance)
        weights = original_mask = None
        inside = sitk.GetArrayFromImage(region).astype(bool)
        if grid != geometry_of(region):
            original_mask = _on_original(inside, geometry_of(region), original)
            weights = sitk.GetArrayFromImage(resample(region, grid))
            inside = weights >= 0.5
            if not inside.any() or max(grid.size) == 1:
                raise SemiSupSegError(_nothing_left(case, geometry_of(region), grid))

        def channel(name: str, image: sitk.Image) -> NDArray[np.float16]:
            part = sitk.RegionOfInterest(image, size, start)
            what = f"Case {case.id}: {case.channels[name]}"
            if not np.isfinite(sitk.GetArrayViewFromImage(part)).all():
                raise SemiSupSegError(
                    f"{what} has voxels that are not numbers (NaN or infinite). Replace the file."
                )
            if options.n4:
                part = correct_bias_field(part, region, options.n4_shrink_factor, what)
            if weights is None:
                values = sitk.GetArrayFromImage(part)
            else:
                values = _resampled_inside(part, region, grid, weights)
            return to_float16(normalize(values, inside, options), what)

        made = dict(zip(present, threads.map(channel, present, images), strict=True))
    result = np.zeros((len(task.channels), *grid.shape), np.float16)
    for index, one in enumerate(task.channels):
        if one.name in made:
            result[index] = made[one.name]
        else:
            warnings.append(f"Channel {one.name} is missing and filled with 0.")
    return PreparedArrays(
        image=result,
        mask=inside.astype(np.uint8),
        original_mask=original_mask,
        original=original,
        grid=grid,
        warnings=tuple(warnings),
    )


def _nothing_left(case: Case, region: Geometry, grid: Geometry) -> str:
    sides = [f"{count * step:.2g}" for count, step in zip(region.size, region.spacing, strict=True)]
    return (
        f"Case {case.id}: what is imaged measures {' x '.join(sides)} mm, of which voxels of "
        f"{' x '.join(f'{step:.3g}' for step in grid.spacing)} mm leave nothing. Is the voxel size "
        "in the file's header right, and in mm? Correct it."
    )


def prepare_label(
    case: Case, task: Task, original: Geometry, grid: Geometry
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return the case's label map (class indices, D, H, W) on the prepared grid, and warnings.

    Voxels of which the label does not tell what they are have `UNKNOWN_CLASS`.

    Args:
        case: A case with a label.
        task: Maps label values to class indices.
        original: Grid of the case's first channel.
        grid: The prepared grid.

    Raises:
        SemiSupSegError: If the label cannot be read or lies elsewhere.
    """
    import numpy as np
    import SimpleITK as sitk

    if case.label is None:
        raise ValueError(f"case {case.id} has no label")
    warnings: list[str] = []
    image = read_label(case.label, task, case.label_unknown)
    image = _on_grid(image, original, case.label, case, warnings, label=True)
    placement = find_placement(grid, original)
    if placement is not None:
        array = sitk.GetArrayViewFromImage(image)
        label = np.array(placement.view(array))
        lost = _num_labelled(array) - _num_labelled(label)
        if lost:
            lie, are = ("lies", "is") if lost == 1 else ("lie", "are")
            warnings.append(
                f"{counted(lost, 'labelled voxels')} {lie} outside the box of the mask and {are} "
                "left out."
            )
    else:
        label = sitk.GetArrayFromImage(resample_labels(image, grid))
    return label, tuple(warnings)


def _num_labelled(label: NDArray[np.uint8]) -> int:
    import numpy as np

    return int(np.count_nonzero((label > 0) & (label != UNKNOWN_CLASS)))


def _refuse_blank(image: sitk.Image, channel: str, case: Case) -> None:
    import SimpleITK as sitk

    values = sitk.GetArrayViewFromImage(image)
    lowest = values.min()
    if lowest == values.max():
        what = "is empty: every voxel is 0" if lowest == 0 else f"has {lowest:g} in every voxel"
        raise SemiSupSegError(
            f"Case {case.id}: {case.channels[channel].path.name} (channel {channel}) {what}. "
            "Export the scan again."
        )


def _on_grid(
    image: sitk.Image,
    grid: Geometry,
    source: ImageSource,
    case: Case,
    warnings: list[str],
    *,
    label: bool = False,
    nothing_is_zero: bool = False,
) -> sitk.Image:
    """Return the image on the grid of the first channel, resampled if it is another one.

    Args:
        image: The image or label map.
        grid: That of the first channel.
        source: Its file, for what is said of it.
        case: For what is said of it.
        warnings: Gets a sentence if the image is resampled.
        label: Whether it is a label map.
        nothing_is_zero: Whether voxels of value 0 are not of the patient, and must stay 0.
    """
    import numpy as np
    import SimpleITK as sitk

    own = geometry_of(image)
    if own == grid:
        return image
    if grid.matches(own):
        # Differences of rounding; one geometry for all keeps later steps exact.
        image = sitk.Image(image)
        image.SetOrigin(grid.origin)
        image.SetSpacing(grid.spacing)
        image.SetDirection(grid.direction)
        return image
    placement = find_placement(grid, own)
    if placement is not None:
        # The same voxels in another order: interpolation would leave traces beside the brain.
        values = placement.view(sitk.GetArrayViewFromImage(image))
        return with_geometry(np.ascontiguousarray(values), grid)
    if grid.lies_elsewhere(own):
        share = max(grid.shares_of_overlap(own))
        raise SemiSupSegError(
            f"Case {case.id}: {source.path.name} lies elsewhere than the first channel: the fields "
            f"of view share {share:.0%} of the smaller one. Register the images first, or remove "
            "the file."
        )
    shift = grid.corner_shift_voxels(own)
    by = (
        f"its corners lie {counted(f'{shift:.2g}', 'voxels')} apart"
        if shift < float("inf")
        else "other size"
    )
    warnings.append(
        f"{source.path.name} lies on another grid than the first channel ({by}) and was resampled."
    )
    if label:
        return resample_labels(image, grid)
    return _resampled_in_air(image, grid) if nothing_is_zero else resample(image, grid)


def _resampled_in_air(image: sitk.Image, grid: Geometry) -> sitk.Image:
    """Return an image on `grid` whose zeros stay zeros, and whose other voxels do not fade.

    A mask of what is not 0 would else grow by a faint rim, on which the z-scores hang.
    """
    import numpy as np
    import SimpleITK as sitk

    inside = sitk.GetArrayViewFromImage(image) != 0
    share = sitk.GetArrayFromImage(
        resample(with_geometry(inside.astype(np.float32), geometry_of(image)), grid)
    )
    values = sitk.GetArrayFromImage(resample(image, grid)) / np.maximum(share, 0.5)
    values[share < 0.5] = 0
    return with_geometry(values, grid)


def _on_original(
    inside: NDArray[np.bool_], region: Geometry, original: Geometry
) -> NDArray[np.uint8]:
    import numpy as np

    whole = np.zeros(original.shape, np.uint8)
    placement = find_placement(region, original)
    assert placement is not None, "a box of the turned original shares its voxels"
    placement.view(whole)[:] = inside
    return whole


def _resampled_inside(
    part: sitk.Image, region: sitk.Image, grid: Geometry, weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return intensities on `grid`, averaged over mask voxels only: the rim stays bright."""
    import numpy as np
    import SimpleITK as sitk

    values = sitk.GetArrayFromImage(part).astype(np.float32)
    values[sitk.GetArrayViewFromImage(region) == 0] = 0
    summed = sitk.GetArrayFromImage(resample(with_geometry(values, geometry_of(part)), grid))
    averaged: NDArray[np.float32] = summed / np.maximum(weights, 1e-3)
    return averaged
