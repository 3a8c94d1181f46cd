"""One channel's brightness: bias field, clipping, z-score."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.preparation.options import PreparationOptions

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

SMALLEST_DEVIATION = 1e-8
"""A constant channel is divided by this."""
LARGEST_VALUE = 6e4
"""float16 ends at 65504."""


def normalize(
    values: NDArray[np.generic], mask: NDArray[np.bool_], options: PreparationOptions
) -> NDArray[np.float32]:
    """Return one channel clipped and z-scored.

    Args:
        values: Intensities (D, H, W), any type.
        mask: Where mean and standard deviation (population) are taken; not empty.
        options: Quantiles, order and background.

    Source: docs/your-own-data.md, steps 6 to 8.
    """
    import numpy as np

    inside = values[mask].astype(np.float64)
    everything = values.astype(np.float64)
    if options.order == "clip_first":
        bounds = _clip_bounds(inside, everything, options)
        inside = np.clip(inside, *bounds)
        everything = np.clip(everything, *bounds)
    mean = inside.mean()
    deviation = max(float(inside.std()), SMALLEST_DEVIATION)
    inside = (inside - mean) / deviation
    everything = (everything - mean) / deviation
    if options.order == "zscore_first":
        everything = np.clip(everything, *_clip_bounds(inside, everything, options))
    if options.background == "zero":
        everything[~mask] = 0
    return everything.astype(np.float32)


def to_float16(values: NDArray[np.float32], what: str) -> NDArray[np.float16]:
    """Return the values as float16; what would become infinite is cut at ±60,000 and logged."""
    import numpy as np

    if max(-float(values.min()), float(values.max())) > LARGEST_VALUE:
        logger.warning(
            "%s has values beyond ±%g after preparation; they are cut.", what, LARGEST_VALUE
        )
        values = np.clip(values, -LARGEST_VALUE, LARGEST_VALUE)
    return values.astype(np.float16)


def correct_bias_field(
    image: sitk.Image, mask: sitk.Image, shrink_factor: int, what: str
) -> sitk.Image:
    """Return the image divided by its slow brightness changes inside the mask.

    Raises:
        SemiSupSegError: If an intensity is negative: the field is found in logarithms.

    Source: Tustison et al. 2010, N4ITK, as SimpleITK has it.
    """
    import SimpleITK as sitk

    image = sitk.Cast(image, sitk.sitkFloat32)
    if float(sitk.GetArrayViewFromImage(image).min()) < 0:
        raise SemiSupSegError(
            f"{what} has negative intensities, so its bias field cannot be estimated. "
            "Switch preparation.n4 off, or give the scan as the scanner made it."
        )
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    factors = [max(1, min(shrink_factor, count // 4)) for count in image.GetSize()]
    corrector.Execute(sitk.Shrink(image, factors), sitk.Shrink(mask, factors))
    field = sitk.Exp(corrector.GetLogBiasFieldAsImage(image))
    return image / sitk.Cast(field, sitk.sitkFloat32)


def _clip_bounds(
    inside: NDArray[np.float64], everything: NDArray[np.float64], options: PreparationOptions
) -> tuple[float, float]:
    import numpy as np

    judged = inside if options.clip_over == "mask" else everything
    wanted = (
        0.0 if options.lower_quantile is None else options.lower_quantile,
        1.0 if options.upper_quantile is None else options.upper_quantile,
    )
    lower, upper = -np.inf, np.inf
    if options.lower_quantile is not None or options.upper_quantile is not None:
        low, high = np.quantile(judged, wanted)
        lower = float(low) if options.lower_quantile is not None else lower
        upper = float(high) if options.upper_quantile is not None else upper
    return lower, upper
