"""The thresholds of review regions, fitted on what the validation cases are judged by.

The networks predict every validation case once to be judged; what regions need is kept from
there, so that nothing is predicted again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.inference.calibration import Calibration, calibratable_trust
from SemiSupSegLib.inference.maps import OUTSIDE
from SemiSupSegLib.losses.uncertainty import variance_from_log
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.preparation.restoring import MAP_STEPS
from SemiSupSegLib.review.doubt import box_of, widened
from SemiSupSegLib.review.fitting import (
    GROW,
    ReviewSample,
    ReviewThresholds,
    chosen_cases,
    fit_thresholds,
)
from SemiSupSegLib.review.regions import RegionOptions

Judged = Callable[[PreparedCase], tuple[Tensor, Tensor | None]]


class ReviewSamples:
    """Keeps what student and teacher say of some validation cases.

    Args:
        task: Classes.
        calibration: The student's.
        case_ids: All validation cases.
    """

    def __init__(self, task: Task, calibration: Calibration, case_ids: Sequence[str]) -> None:
        self._task = task
        self._calibration = calibration
        self._chosen = set(chosen_cases(case_ids))
        self._student: dict[str, dict[str, NDArray[Any]]] = {}
        self._teacher: dict[str, NDArray[np.uint8]] = {}
        self._cases: dict[str, PreparedCase] = {}

    def listening(self, name: str, judged: Judged) -> Judged:
        """Return `judged`, listened to; `name` is that of the network."""
        keep = {"student": self._keep_student, "teacher": self._keep_teacher}.get(name)
        if keep is None:
            return judged

        def listened(case: PreparedCase) -> tuple[Tensor, Tensor | None]:
            probabilities, log_variance = judged(case)
            if case.id in self._chosen:
                keep(case, probabilities, log_variance)
            return probabilities, log_variance

        return listened

    def fit(self, progress: Callable[[], None] = lambda: None) -> ReviewThresholds:
        """Return the thresholds; the defaults if there was nothing to fit them on."""
        return fit_thresholds([self._sample(name) for name in self._student], progress=progress)

    @torch.inference_mode()
    def _keep_student(
        self, case: PreparedCase, probabilities: Tensor, log_variance: Tensor | None
    ) -> None:
        num_classes = self._task.num_classes
        variance = None if log_variance is None else variance_from_log(log_variance, num_classes)
        confidence = self._calibration.confidence(calibratable_trust(probabilities, variance))
        label = probabilities.argmax(0)
        second = probabilities.scatter(0, label[None], -1).argmax(0)
        shown = confidence.cpu().numpy()
        shown[np.asarray(case.mask()) == 0] = OUTSIDE["confidence"]
        # In the steps of the file, from which regions are found, and a quarter of the memory.
        steps = np.rint(shown * MAP_STEPS).astype(np.uint8)
        self._cases[case.id] = case
        self._student[case.id] = {
            "label": label.to(torch.uint8).cpu().numpy(),
            "second": second.to(torch.uint8).cpu().numpy(),
            "confidence": steps,
        }

    def _keep_teacher(self, case: PreparedCase, probabilities: Tensor, _: Tensor | None) -> None:
        self._teacher[case.id] = probabilities.argmax(0).to(torch.uint8).cpu().numpy()

    def _sample(self, case_id: str) -> ReviewSample:
        """Return a case, cut to where there is anything to be found or to be wrong."""
        case, student = self._cases[case_id], self._student[case_id]
        reference = np.asarray(case.label())
        teacher = self._teacher.get(case_id)
        confidence = student["confidence"] / np.float32(MAP_STEPS)
        doubtful = 1 - confidence >= GROW[0]
        told = doubtful | (student["label"] != reference) | (student["label"] > 0)
        if teacher is not None:
            told |= teacher > 0
        spacing = case.grid.spacing[::-1]
        box = box_of(told)
        if box is None:
            box = (slice(0, 1),) * 3
        box = widened(box, reference.shape, spacing, RegionOptions().reach_mm)
        part = reference[box]
        depth, height, width = part.shape
        return ReviewSample(
            label=student["label"][box],
            reference=part,
            confidence=confidence[box],
            second=student["second"][box],
            pseudo_label=None if teacher is None else teacher[box],
            geometry=Geometry(
                size=(width, height, depth),
                spacing=case.grid.spacing,
                origin=(0.0, 0.0, 0.0),
                direction=case.grid.direction,
            ),
            class_names=tuple(one.name for one in self._task.classes),
        )
