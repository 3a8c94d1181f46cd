"""What a run's final figures cost beside its networks' passes: measured on made-up outputs.

Surfaces, calibration, reliability and review regions take about as long as the networks, and what
they cost depends on classes and voxels: balls are segmented here as a trained network would do it.
An untrained one would not do: noise has surfaces and regions everywhere.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.inference.calibration import CalibrationSample, fit_calibration
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.final_validation import summarise_validation
from SemiSupSegLib.training.made_up_case import made_up_case
from SemiSupSegLib.training.review_thresholds import ReviewSamples

_WARM, _SMALL, _LARGE = (1, 16), (4, 24), (2, 48)
"""Cases and voxels on each side of a case: what is tried. Large cases cost less a voxel than small
ones, and few cases less each than many, since fewer fits are judged on the others."""
_SURENESS = 6.0
"""Difference of the logits of right class and others."""


@dataclass(frozen=True, kw_only=True)
class FiguresCost:
    """Seconds of the final figures, in proportion to cases and voxels."""

    case: float
    """Of a validation case of any size."""
    megavoxel: float
    """Of a million voxels of prepared validation cases."""

    def seconds(self, voxels: Sequence[int]) -> float:
        """Return what the figures of validation cases with so many voxels cost."""
        return self.case * len(voxels) + self.megavoxel * sum(voxels) / 1e6


def measure_figures(task: Task, networks: Sequence[str]) -> FiguresCost:
    """Measure on this machine, with a few small cases; takes a second or some.

    Args:
        task: Classes and regions.
        networks: That are judged: `student`, perhaps `teacher`, `ensemble`, `best_validation`.
    """
    # The first time libraries are loaded, and caches filled.
    _seconds_a_case(task, networks, *_WARM)
    small, large = (_seconds_a_case(task, networks, *one) for one in (_SMALL, _LARGE))
    voxels = [side**3 for _, side in (_SMALL, _LARGE)]
    each = max(0.0, (large - small) / (voxels[1] - voxels[0]))
    return FiguresCost(case=max(0.0, small - each * voxels[0]), megavoxel=each * 1e6)


def _seconds_a_case(task: Task, networks: Sequence[str], num_cases: int, side: int) -> float:
    made = [_made_up(f"case{number}", number, task, side) for number in range(num_cases)]
    cases = [case for case, _, _ in made]
    outputs = {case.id: (logits.softmax(0), spread) for case, logits, spread in made}
    has_teacher = "teacher" in networks

    def samples(*, with_teacher: bool) -> list[CalibrationSample]:
        return [
            CalibrationSample(
                logits=logits,
                label=np.asarray(case.label()),
                spacing=case.grid.spacing[::-1],
                log_variance=spread,
                teacher_logits=logits if with_teacher else None,
            )
            for case, logits, spread in made
        ]

    def judged(case: PreparedCase) -> tuple[Tensor, Tensor | None]:
        return outputs[case.id]

    with tempfile.TemporaryDirectory(prefix="semisupseg-figures-") as name:
        began = time.monotonic()
        about = {"num_cases": num_cases, "num_classes": task.num_classes}
        calibration = fit_calibration(samples(with_teacher=has_teacher), **about)
        if has_teacher:
            # `export` calibrates the teacher for itself as well.
            fit_calibration(samples(with_teacher=False), **about)
        review = ReviewSamples(task, calibration, [case.id for case in cases])
        listened = {network: review.listening(network, judged) for network in networks}
        summarise_validation(RunFolder(Path(name)), task, listened, cases, calibration)
        review.fit()
        return (time.monotonic() - began) / num_cases


def _made_up(name: str, number: int, task: Task, side: int) -> tuple[PreparedCase, Tensor, Tensor]:
    """Return a case with nested balls, and the logits and log-variance of one who nearly sees them.

    Returns:
        The case; logits (K, D, H, W); log-variance (D, H, W).
    """
    draw = np.random.Generator(np.random.PCG64(number))
    line = np.linspace(-1, 1, side)
    places = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)
    radii = 0.6 * np.arange(task.num_classes - 1, 0, -1) / max(1, task.num_classes - 1)

    def distances(centre: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(places - centre, axis=-1))

    label = (distances(draw.uniform(-0.1, 0.1, 3))[..., None] < radii).sum(-1)
    seen = distances(draw.uniform(-0.1, 0.1, 3))[..., None]
    # How deep inside each ball, softly: the border is doubtful, all else is not.
    inside = 1 / (1 + np.exp(_SURENESS * side * (seen - radii) / 4))
    edges = np.concatenate([np.ones((*seen.shape[:3], 1)), inside], -1)
    shares = edges - np.concatenate([inside, np.zeros((*seen.shape[:3], 1))], -1)
    logits = np.log(shares.clip(1e-4, 1)) + draw.normal(0, 0.1, shares.shape)
    doubt = 4 * (shares * (1 - shares)).max(-1)
    image = draw.standard_normal((len(task.channels), side, side, side))
    case = made_up_case(name, image, label)
    return (
        case,
        torch.from_numpy(np.moveaxis(logits, -1, 0).astype(np.float32)),
        torch.from_numpy((6 * doubt - 9).astype(np.float32)),
    )
