"""From logits to probabilities that mean what they say: temperature, and a monotone map.

The temperature makes class probabilities fit; the map turns a voxel's trust (docs/methods.md, 3.)
into the probability that its label is right. Both are fitted on validation cases only. Of each case
only a sample of voxels is kept, so that memory does not grow with the size of the cases.

Source: Guo, Pleiss, Sun, Weinberger 2017, eq. 9 (temperature); Zadrozny, Elkan 2002 (isotonic map).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SemiSupSegLib.losses.trust import voxel_trust
from SemiSupSegLib.losses.uncertainty import log_variance_range, variance_from_log

ROI_MM = 5.0
"""The map is fitted this close to reference or prediction; elsewhere all is easy background."""
BOUNDARY_VOXELS = 3.0
"""Half of the voxels for the temperature are this close to a boundary of the label."""
TEMPERATURE_VOXELS = 200_000
ROI_VOXELS = 400_000
"""Most voxels kept, over all cases."""
TEMPERATURES = (0.1, 10.0)
"""Range of a fitted temperature; a model that is always right would ask for 0."""
MAP_BINS = 200
ECE_BINS = 15
FOLDS = 5
IGNORED = 255
"""Label of voxels that nobody has judged."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How a model's outputs are read; the manifest keeps it as `calibration`."""

    temperature: float = 1.0
    """Logits are divided by it."""
    teacher_temperature: float = 1.0
    trust: tuple[float, ...] = (0.0, 1.0)
    """Increasing values of trust, in [0, 1]."""
    accuracy: tuple[float, ...] = (0.0, 1.0)
    """Share of right labels at each of them; linear between, constant beyond."""
    log_variance: tuple[float, float] = log_variance_range(2)
    """Log-variances that mean uncertainty 0 and 1."""
    num_cases: int = 0
    """Validation cases it was fitted on; 0: not fitted."""
    ece_before: float | None = None
    """Expected calibration error in the region of interest, maximum probability, temperature 1."""
    ece_after: float | None = None
    """The same for the confidence, each case judged by a calibration fitted without it."""

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and self.teacher_temperature > 0):
            raise ValueError(
                f"temperature is {self.temperature} (teacher {self.teacher_temperature}), "
                "must be positive"
            )
        if len(self.trust) != len(self.accuracy) or not self.trust:
            raise ValueError(
                f"the map has {len(self.trust)} and {len(self.accuracy)} values, must be as many"
            )
        for name, values in (("trust", self.trust), ("accuracy", self.accuracy)):
            if any(b < a for a, b in itertools.pairwise(values)):
                raise ValueError(f"the map's {name} must not decrease")
        if not self.log_variance[0] < self.log_variance[1]:
            raise ValueError(f"log_variance is {self.log_variance}, must increase")

    def confidence(self, trust: Tensor) -> Tensor:
        """Return the probability that a label with this trust is right; same shape, float32."""
        knots = torch.tensor(self.trust, dtype=torch.float32, device=trust.device)
        values = torch.tensor(self.accuracy, dtype=torch.float32, device=trust.device)
        if len(self.trust) == 1:
            return values.expand(trust.shape).clone()
        right = torch.searchsorted(knots, trust.float().contiguous()).clamp_(1, len(knots) - 1)
        gaps = (knots[1:] - knots[:-1]).clamp(min=1e-9)
        slopes = (values[1:] - values[:-1]) / gaps
        low = right - 1
        ahead = torch.minimum((trust.float() - knots[low]).clamp_(min=0), gaps[low])
        return ahead.mul_(slopes[low]).add_(values[low])

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's `calibration`."""
        return {
            "temperature": self.temperature,
            "teacher_temperature": self.teacher_temperature,
            "map": {"confidence": list(self.trust), "accuracy": list(self.accuracy)},
            "log_variance": {"low": self.log_variance[0], "high": self.log_variance[1]},
            "num_cases": self.num_cases,
            "ece_before": self.ece_before,
            "ece_after": self.ece_after,
        }


def calibration_from_json(content: Mapping[str, Any], num_classes: int) -> Calibration:
    """Return the calibration of a manifest; what is missing has the uncalibrated value.

    Raises:
        ValueError: If values are out of range.
    """
    plain = uncalibrated(num_classes)
    knots = content.get("map") or {}
    limits = content.get("log_variance") or {}
    return Calibration(
        temperature=content.get("temperature", plain.temperature),
        teacher_temperature=content.get("teacher_temperature", plain.teacher_temperature),
        trust=tuple(knots.get("confidence", plain.trust)),
        accuracy=tuple(knots.get("accuracy", plain.accuracy)),
        log_variance=(
            limits.get("low", plain.log_variance[0]),
            limits.get("high", plain.log_variance[1]),
        ),
        num_cases=content.get("num_cases", 0),
        ece_before=content.get("ece_before"),
        ece_after=content.get("ece_after"),
    )


def uncalibrated(num_classes: int) -> Calibration:
    """Return the calibration that changes nothing."""
    return Calibration(log_variance=log_variance_range(num_classes))


def calibratable_trust(probabilities: Tensor, variance: Tensor | None) -> Tensor:
    """Return the trust that confidence is made of: `prob_var`, or `max` if there is no variance.

    Args:
        probabilities: Scaled by the temperature, (K, D, H, W).
        variance: Of the class probabilities, (D, H, W).
    """
    if variance is None:
        return voxel_trust("max", probabilities)
    return voxel_trust("prob_var", probabilities, variance=variance)


@dataclass(frozen=True, kw_only=True)
class CalibrationSample:
    """One validation case: what the networks said, and its label."""

    logits: Tensor
    """The student's, (K, D, H, W), stitched but not scaled."""
    label: NDArray[np.uint8]
    """Class indices (D, H, W); 255 where nothing is known."""
    spacing: tuple[float, float, float]
    """z, y, x, mm."""
    log_variance: Tensor | None = None
    """The student's, (D, H, W) or (1, D, H, W)."""
    teacher_logits: Tensor | None = None


class TemperatureSampler:
    """Keeps voxels of several cases and fits the temperature to them.

    Args:
        num_cases: How many cases will be added; each may give its share of the voxels.
        limit: Most voxels in all, half of them near boundaries as far as there are any.
        seed: Of the draw.
    """

    def __init__(self, num_cases: int, *, limit: int = TEMPERATURE_VOXELS, seed: int = 0) -> None:
        self._share = max(2, limit // max(1, num_cases))
        self._draw = np.random.default_rng(seed)
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, logits: Tensor, label: NDArray[np.uint8]) -> None:
        """Keep some voxels of a case.

        Args:
            logits: (K, D, H, W).
            label: Class indices (D, H, W); voxels of 255 are left out.
        """
        chosen = _temperature_voxels(label, self._share, self._draw)
        self._logits.append(_pick(logits, chosen))
        self._labels.append(torch.from_numpy(label.reshape(-1)[chosen].astype(np.int64)))

    def fit(self) -> float:
        """Return the temperature; 1 if no voxel was kept."""
        if not self._logits:
            return 1.0
        return fit_temperature(torch.cat(self._logits), torch.cat(self._labels))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return T > 0 that minimises the negative log-likelihood of softmax(logits / T).

    Args:
        logits: (N, K).
        labels: Class indices (N,).
    """
    if len(labels) == 0:
        return 1.0
    logits = logits.double()
    labels = labels.long()
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_temperature], max_iter=50, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        low, high = TEMPERATURES
        # Beyond its range the temperature pulls back, or a perfect model would send it to 0.
        beyond = (log_temperature - log_temperature.clamp(math.log(low), math.log(high))) ** 2
        scaled = logits * torch.exp(-log_temperature)
        value = torch.nn.functional.cross_entropy(scaled, labels) + beyond
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    fitted = math.exp(float(log_temperature.detach()))
    return min(max(fitted, TEMPERATURES[0]), TEMPERATURES[1]) if math.isfinite(fitted) else 1.0


def fit_map(
    trust: NDArray[np.floating[Any]], correct: NDArray[np.bool_]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return knots (trust, accuracy) of the best non-decreasing map from trust to accuracy.

    Voxels are first gathered in bins of about equal number, each counted as if half a voxel more
    were right and half a voxel more were wrong, so that no finite sample claims certainty.
    """
    from scipy.optimize import isotonic_regression

    if len(trust) == 0:
        return (0.0, 1.0), (0.0, 1.0)
    bins = min(MAP_BINS, max(1, len(trust) // 20))
    # Equal trust must share a bin, or the order of the voxels would decide.
    edges = np.unique(np.quantile(trust, np.linspace(0, 1, bins + 1))[1:-1])
    index = np.searchsorted(edges, trust, side="right")
    counts = np.bincount(index, minlength=len(edges) + 1)
    filled = counts > 0
    counts = counts[filled]
    centres = np.bincount(index, weights=trust, minlength=len(filled))[filled] / counts
    right = np.bincount(index, weights=correct, minlength=len(filled))[filled]
    fitted = isotonic_regression((right + 0.5) / (counts + 1), weights=counts)
    knots: list[float] = []
    accuracies: list[float] = []
    for first, last in zip(fitted.blocks[:-1], fitted.blocks[1:] - 1, strict=True):
        # A level stretch keeps its two ends.
        for number in dict.fromkeys((int(first), int(last))):
            knots.append(round(float(centres[number]), 7))
            accuracies.append(round(float(fitted.x[number]), 7))
    return tuple(knots), tuple(accuracies)


def expected_calibration_error(
    confidence: NDArray[np.floating[Any]], correct: NDArray[np.bool_], bins: int = ECE_BINS
) -> float:
    """Return Σ (n_b / n) · |accuracy − mean confidence| over equal, right-closed bins.

    Confidences are rounded to 1e-6, so that 0.8 in float32 lies in the bin that ends at 0.8.
    """
    if len(confidence) == 0:
        return math.nan
    rounded = np.round(confidence.astype(np.float64), 6)
    index = np.clip(np.ceil(np.round(rounded * bins, 9)).astype(int) - 1, 0, bins - 1)
    sums = np.bincount(index, weights=rounded, minlength=bins)
    right = np.bincount(index, weights=correct, minlength=bins)
    return float(np.abs(sums - right).sum() / len(confidence))


def region_of_interest(
    label: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    spacing: tuple[float, float, float],
    distance_mm: float = ROI_MM,
) -> NDArray[np.bool_]:
    """Return the voxels within `distance_mm` of reference or prediction."""
    from scipy.ndimage import distance_transform_edt

    foreground = ((label > 0) & (label != IGNORED)) | (prediction > 0)
    if not foreground.any():
        return foreground
    near = np.zeros_like(foreground)
    # The transform is slow and only matters around the foreground.
    window = tuple(
        slice(max(0, int(hits[0]) - reach), int(hits[-1]) + reach + 1)
        for axis, step in enumerate(spacing)
        for reach in [math.ceil(distance_mm / step)]
        for hits in [np.flatnonzero(foreground.any(axis=tuple({0, 1, 2} - {axis})))]
    )
    distances = distance_transform_edt(~foreground[window], sampling=spacing)
    near[window] = distances <= distance_mm + 1e-6
    return near


def fit_calibration(
    samples: Iterable[CalibrationSample],
    *,
    num_cases: int,
    num_classes: int,
    seed: int = 0,
) -> Calibration:
    """Fit temperatures and map to validation cases, and say what that changes.

    Args:
        samples: The cases, one at a time; none is kept.
        num_cases: How many there are at most.
        num_classes: With background.
        seed: Of the draw of voxels.
    """
    draw = np.random.default_rng(seed)
    share = max(2, TEMPERATURE_VOXELS // max(1, num_cases))
    roi_share = max(50, ROI_VOXELS // max(1, num_cases))
    teacher = TemperatureSampler(num_cases, seed=seed + 1)
    drawn: list[_Voxels] = []
    for sample in samples:
        drawn.append(_draw_voxels(sample, share, roi_share, draw))
        if sample.teacher_logits is not None:
            teacher.add(sample.teacher_logits, sample.label)
    if not drawn:
        return uncalibrated(num_classes)
    whole = _fit(drawn, num_classes)
    before = [_ece(one, None) for one in drawn if one.judges]
    after = [
        _ece(one, calibration)
        for calibration, held_out in _cross_fits(drawn, num_classes)
        for one in held_out
        if one.judges
    ]
    return replace(
        whole,
        teacher_temperature=teacher.fit(),
        num_cases=len(drawn),
        ece_before=float(np.mean(before)) if before else None,
        ece_after=float(np.mean(after)) if after else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Voxels:
    """What is kept of one case: voxels for the temperature, and voxels of its region."""

    logits: Tensor
    labels: Tensor
    roi_logits: Tensor
    roi_correct: NDArray[np.bool_]
    roi_variance: Tensor | None = field(default=None)

    @property
    def judges(self) -> bool:
        return len(self.roi_correct) > 0

    def trust(self, temperature: float) -> NDArray[np.float32]:
        # A row of voxels is a volume of one voxel in two directions.
        probabilities = (self.roi_logits / temperature).softmax(1).T[:, None, None]
        variance = None if self.roi_variance is None else self.roi_variance[None, None]
        found: NDArray[np.float32] = calibratable_trust(probabilities, variance).flatten().numpy()
        return found


def _draw_voxels(
    sample: CalibrationSample,
    share: int,
    roi_share: int,
    draw: np.random.Generator,
) -> _Voxels:
    label = sample.label
    shape = tuple(sample.logits.shape[1:])
    if shape != label.shape:
        raise ValueError(f"logits have the shape {shape}, the label {label.shape}")
    chosen = _temperature_voxels(label, share, draw)
    prediction = sample.logits.argmax(0).to(torch.uint8).cpu().numpy()
    roi = region_of_interest(label, prediction, sample.spacing) & (label != IGNORED)
    inside = _some(np.flatnonzero(roi), roi_share, draw)
    flat = label.reshape(-1)
    variance = None
    if sample.log_variance is not None:
        picked = _pick(sample.log_variance.reshape(1, *shape), inside)[:, 0]
        variance = variance_from_log(picked, sample.logits.shape[0])
    return _Voxels(
        logits=_pick(sample.logits, chosen),
        labels=torch.from_numpy(flat[chosen].astype(np.int64)),
        roi_logits=_pick(sample.logits, inside),
        roi_correct=flat[inside] == prediction.reshape(-1)[inside],
        roi_variance=variance,
    )


def _temperature_voxels(
    label: NDArray[np.uint8], number: int, draw: np.random.Generator
) -> NDArray[np.int64]:
    known = label != IGNORED
    near = _near_boundary(label) & known
    boundary = np.flatnonzero(near)
    others = np.flatnonzero(known & ~near)
    half = number // 2
    # Where one kind is scarce the other fills up.
    from_boundary = min(len(boundary), max(half, number - len(others)))
    return np.concatenate(
        [_some(boundary, from_boundary, draw), _some(others, number - from_boundary, draw)]
    )


def _near_boundary(label: NDArray[np.uint8]) -> NDArray[np.bool_]:
    from scipy.ndimage import distance_transform_edt

    edge = np.zeros(label.shape, bool)
    for axis in range(3):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(0, -1), slice(1, None)
        differs = label[tuple(low)] != label[tuple(high)]
        # Where the known part ends is no boundary of anything.
        differs &= (label[tuple(low)] != IGNORED) & (label[tuple(high)] != IGNORED)
        edge[tuple(low)] |= differs
        edge[tuple(high)] |= differs
    if not edge.any():
        return edge
    near: NDArray[np.bool_] = distance_transform_edt(~edge) <= BOUNDARY_VOXELS
    return near


def _some(items: NDArray[np.int64], number: int, draw: np.random.Generator) -> NDArray[np.int64]:
    if len(items) <= number:
        return items
    return np.sort(draw.choice(items, number, replace=False))


def _pick(values: Tensor, flat_indices: NDArray[np.int64]) -> Tensor:
    """Return the values at some voxels, (N, channels), float32."""
    index = torch.from_numpy(flat_indices).to(values.device)
    return values.reshape(values.shape[0], -1)[:, index].T.float().cpu().contiguous()


def _fit(voxels: Sequence[_Voxels], num_classes: int) -> Calibration:
    temperature = fit_temperature(
        torch.cat([one.logits for one in voxels]), torch.cat([one.labels for one in voxels])
    )
    knots, accuracies = fit_map(
        np.concatenate([one.trust(temperature) for one in voxels]),
        np.concatenate([one.roi_correct for one in voxels]),
    )
    return replace(
        uncalibrated(num_classes), temperature=temperature, trust=knots, accuracy=accuracies
    )


def _cross_fits(
    voxels: Sequence[_Voxels], num_classes: int
) -> Iterable[tuple[Calibration, list[_Voxels]]]:
    if len(voxels) < 2:
        return
    folds = min(FOLDS, len(voxels))
    for fold in range(folds):
        others = [one for number, one in enumerate(voxels) if number % folds != fold]
        yield _fit(others, num_classes), list(voxels[fold::folds])


def _ece(voxels: _Voxels, calibration: Calibration | None) -> float:
    if calibration is None:
        confidence = voxels.roi_logits.softmax(1).amax(1)
    else:
        trust = voxels.trust(calibration.temperature)
        confidence = calibration.confidence(torch.from_numpy(trust))
    return expected_calibration_error(confidence.numpy(), voxels.roi_correct)
