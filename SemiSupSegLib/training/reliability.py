"""Whether confidence holds what it says, on cases that its calibration has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SemiSupSegLib.evaluation.calibration import ReliabilityBins, reliability_bins
from SemiSupSegLib.inference.calibration import (
    ROI_VOXELS,
    TEMPERATURE_VOXELS,
    Calibration,
    TemperatureSampler,
    calibratable_trust,
    fit_map,
    uncalibrated,
)
from SemiSupSegLib.losses.uncertainty import variance_from_log

FOLDS = 5
SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class _Sample:
    """Voxels of one case's region of interest."""

    logits: Tensor
    """(N, K)."""
    variance: Tensor | None
    """(N,)."""
    correct: NDArray[np.bool_]

    def trust(self, temperature: float) -> Tensor:
        # A row of voxels is a volume of one voxel in two directions.
        probabilities = (self.logits / temperature).softmax(1).T[:, None, None]
        variance = None if self.variance is None else self.variance[None, None]
        return calibratable_trust(probabilities, variance).flatten()


class ReliabilityJudge:
    """Collects voxels of validation cases and compares confidence with being right.

    Each case's confidence comes from a temperature and a map that were fitted on the other cases.

    Args:
        num_cases: How many cases will be added.
        num_classes: With background.
        seed: Of the draw of voxels.
    """

    def __init__(self, num_cases: int, num_classes: int, *, seed: int = 0) -> None:
        self._num_classes = num_classes
        self._folds = min(FOLDS, num_cases)
        self._share = max(50, ROI_VOXELS // max(1, num_cases))
        self._draw = np.random.default_rng(seed)
        self._samples: list[_Sample] = []
        self._added = 0
        # One for each fold, of all the cases that are not in it.
        self._samplers = [
            TemperatureSampler(num_cases, limit=TEMPERATURE_VOXELS, seed=seed + fold)
            for fold in range(self._folds)
        ]

    def add(
        self,
        probabilities: Tensor,
        log_variance: Tensor | None,
        temperature: float,
        label: NDArray[np.uint8],
        prediction: NDArray[np.uint8],
        roi: NDArray[np.bool_],
    ) -> None:
        """Keep voxels of the next case.

        Args:
            probabilities: Of the network, (K, D, H, W).
            log_variance: (D, H, W).
            temperature: By which the logits were divided; it is undone here.
            label: True class indices (D, H, W).
            prediction: The network's class indices (D, H, W).
            roi: Voxels to judge (D, H, W).
        """
        logits = temperature * probabilities.clamp(min=SMALLEST_PROBABILITY).log()
        for fold, sampler in enumerate(self._samplers):
            if self._folds > 1 and self._added % self._folds != fold:
                sampler.add(logits, label)
        inside = np.flatnonzero(roi)
        if len(inside) > self._share:
            inside = np.sort(self._draw.choice(inside, self._share, replace=False))
        index = torch.from_numpy(inside)
        variance = None
        if log_variance is not None:
            variance = variance_from_log(log_variance.reshape(-1)[index], self._num_classes)
        self._samples.append(
            _Sample(
                logits=logits.reshape(len(logits), -1)[:, index].T.contiguous(),
                variance=variance,
                correct=label.reshape(-1)[inside] == prediction.reshape(-1)[inside],
            )
        )
        self._added += 1

    def result(self) -> dict[str, Any] | None:
        """Return bins and calibration error before and after; None if there is nothing to judge."""
        if not any(len(one.correct) for one in self._samples):
            return None
        before = [
            reliability_bins(one.logits.softmax(1).amax(1).numpy(), one.correct)
            for one in self._samples
        ]
        after = self._cross_fitted()
        return {
            "num_cases": self._added,
            "before": _summary(before),
            "after": _summary(after) if after else None,
        }

    def _cross_fitted(self) -> list[ReliabilityBins]:
        found = []
        for fold in range(self._folds if self._folds > 1 else 0):
            others = [
                one for number, one in enumerate(self._samples) if number % self._folds != fold
            ]
            calibration = _fit(self._samplers[fold], others, self._num_classes)
            for one in self._samples[fold :: self._folds]:
                trust = one.trust(calibration.temperature)
                found.append(reliability_bins(calibration.confidence(trust).numpy(), one.correct))
        return found


def _fit(sampler: TemperatureSampler, samples: Sequence[_Sample], num_classes: int) -> Calibration:
    temperature = sampler.fit()
    plain = uncalibrated(num_classes)
    knots, accuracies = fit_map(
        np.concatenate([one.trust(temperature).numpy() for one in samples]),
        np.concatenate([one.correct for one in samples]),
    )
    return Calibration(
        temperature=temperature,
        trust=knots,
        accuracy=accuracies,
        log_variance=plain.log_variance,
    )


def _summary(bins: Sequence[ReliabilityBins]) -> dict[str, Any]:
    errors = [one.ece for one in bins if one.ece is not None]
    return {
        # Of each case, then their mean: a large lesion does not outvote the others.
        "ece": float(np.mean(errors)),
        "bins": reduce(add, bins).to_json(),
    }
