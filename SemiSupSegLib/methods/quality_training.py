"""The quality network's own phases: weak models give it masks, then it learns to judge them.

On disk, below `checkpoints/scratch`, which goes when the run is finished:
`quality/<snapshot>/<case>.npz`, predictions of a weak model that has not seen the case's patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.losses.reduction import IGNORED, over_batch
from SemiSupSegLib.methods.protocol import (
    Batch,
    Build,
    ParameterGroup,
    Phase,
    StepResult,
    TrainingData,
    share_iterations,
)
from SemiSupSegLib.methods.quality_options import QualityOptions
from SemiSupSegLib.methods.supervised import (
    class_weights,
    segmentation_parameters,
    supervised_step,
)
from SemiSupSegLib.networks.quality import QualityNetwork
from SemiSupSegLib.processes import Part
from SemiSupSegLib.quality.examples import (
    Example,
    LearningCase,
    balance,
    bins_of,
    make_example,
    write_prediction,
)

QUALITY_PHASE = "quality"
SNAPSHOTS = (0.05, 0.1, 0.2, 0.4, 1.0)
"""Shares of a weak model's updates after which it predicts: masks from hopeless to fair."""
_PILOT = 64
"""Examples that tell how often each quality comes, before the first is learnt from."""
_EXAMPLES, _PILOTS = 91, 92
"""Tell draws apart."""
_BETA = 0.1
"""Of the smooth L1 loss: errors of Dice below it count squared."""


class QualityTraining:
    """Weak models, one after the other, and the quality network that learns from their masks.

    Source: Abhishek & Hamarneh 2026 (arXiv 2606.01753). There one weak model predicts the pictures
    it learns from; here each of several predicts patients that it has not seen.

    Args:
        options: The method's options; `quality`, `optimizer`, `loss` and `labelled_per_batch` are
            used.
        build: Makes a freshly initialised segmentation network.
        iterations: Optimizer updates of the whole run.
    """

    def __init__(self, options: Any, build: Build, iterations: int) -> None:
        self._options = options
        self._build = build
        quality: QualityOptions = options.quality
        self._quality = quality
        self._weak = build("weak 1")
        # After `build`, which has seeded the generator.
        self.network = QualityNetwork(
            quality.network_options(),
            in_channels=self._weak.in_channels,
            num_classes=self._weak.num_classes,
        )
        rest = 1 - quality.weak_share - quality.network_share
        parts = share_iterations(iterations, [quality.weak_share, quality.network_share, rest])
        if not parts[2]:
            # A run of a few updates is the method's own.
            parts = [0, 0, iterations]
        self._weak_iterations, self._network_iterations = parts[:2]
        self._data: TrainingData | None = None
        self._class_weights: Tensor | None = None
        self._cases: list[LearningCase] = []
        self._bin_weights = balance(np.empty(0))

    @property
    def iterations(self) -> int:
        """Updates of all its phases."""
        return self._weak_iterations + self._network_iterations

    @property
    def learns(self) -> bool:
        """Whether the quality network has updates of its own."""
        return self._network_iterations > 0

    def networks(self) -> dict[str, torch.nn.Module]:
        """Return the weak model and the quality network."""
        return {"weak": self._weak, "quality": self.network}

    def phases(self, data: TrainingData) -> list[Phase]:
        """Return one phase for each weak model, and that of the quality network."""
        self._data = data
        self._cases = []
        if self._weak_iterations:
            self._class_weights = class_weights(data, self._options.loss)
        folds = folds_of(data, self._quality.folds)
        weak, network = self._weak_iterations, self._network_iterations
        if len(folds) < 2:
            folds, weak, network = [], 0, weak + network
        parts = share_iterations(weak, [1.0] * len(folds))
        return [
            *(
                self._weak_phase(number, fold, parts[number], folds, data)
                for number, fold in enumerate(folds)
            ),
            Phase(
                name=QUALITY_PHASE,
                iterations=network,
                group=ParameterGroup(
                    parameters=list(self.network.parameters()),
                    rate=self._quality.rate,
                    weight_decay=5e-4,
                    schedule="cosine",
                ),
                labelled_per_batch=1,
                passes_per_patch=1,
                make_batch=self._make_batch,
                judged=(),
            ),
        ]

    def has(self, phase: Phase) -> bool:
        """Return whether a phase is one of these."""
        return phase.name == QUALITY_PHASE or phase.name.startswith("weak_")

    def step(self, phase: Phase, batch: Batch) -> StepResult:
        """Return the loss of a weak model, or of the quality network's estimates."""
        if phase.name != QUALITY_PHASE:
            return supervised_step(self._weak, batch, self._options.loss, self._class_weights)
        loss, error = estimation_loss(
            self.network(batch.images), batch.maps["dice"], batch.maps["weight"]
        )
        return StepResult(
            total=loss, terms={"estimation": loss.detach(), "estimation_error": error.detach()}
        )

    def predictions(self, case_id: str) -> list[Path]:
        """Return the files of weak models' predictions of a labelled or validation case."""
        assert self._data is not None
        folder = self._data.scratch / "quality"
        files = [folder / str(number) / f"{case_id}.npz" for number in range(len(SNAPSHOTS))]
        return [file for file in files if file.is_file()]

    def _weak_phase(
        self,
        number: int,
        fold: Sequence[str],
        iterations: int,
        folds: Sequence[Sequence[str]],
        data: TrainingData,
    ) -> Phase:
        rates = self._options.optimizer
        held_out = set(fold)
        # In few updates several snapshots are one.
        at = sorted({max(1, round(share * iterations)) for share in SNAPSHOTS})
        # Validation cases, too, divided between the models: estimates are judged on these.
        predicted = [*fold, *data.validation[number :: len(folds)]]
        return Phase(
            name=f"weak_{number + 1}",
            iterations=iterations,
            group=rates.group(segmentation_parameters(self._weak)),
            labelled_per_batch=self._options.labelled_per_batch,
            labelled_cases=[one for one in data.labelled if one not in held_out],
            between=lambda done: self._between(number, done, at, predicted, data),
            between_at=(0, *at),
            between_work=data.count_windows(predicted),
            judged=(),
        )

    def _between(
        self,
        number: int,
        done: int,
        at: Sequence[int],
        case_ids: Sequence[str],
        data: TrainingData,
    ) -> None:
        """Begin a weak model, or let it predict what it has not seen."""
        if done == 0:
            fresh = self._build(f"weak {number + 1}")
            self._weak.load_state_dict(fresh.state_dict())
            return
        self._weak.eval()
        folder = data.scratch / "quality" / str(at.index(done))
        folder.mkdir(parents=True, exist_ok=True)
        for case_id in data.share(case_ids, f"weak model {number + 1}"):
            probabilities = data.predict(
                case_id, lambda x: self._weak(x).float().softmax(1), f"weak {number + 1} {done}"
            )
            write_prediction(folder / f"{case_id}.npz", probabilities)

    def _make_batch(self, iteration: int, part: Part) -> Batch:
        """Return the examples of an update, as `images`, and in `maps` their Dice and weight."""
        assert self._data is not None
        if not self._cases:
            self._cases = self._learning_cases()
            pilot = [self._example(_PILOTS, place) for place in range(_PILOT)]
            self._bin_weights = balance(np.concatenate([one.dice[one.judged] for one in pilot]))
        count = self._quality.batch
        first = (iteration * part.size + part.rank) * count
        examples = [self._example(_EXAMPLES, first + slot) for slot in range(count)]
        dice = np.stack([one.dice for one in examples])
        judged = np.stack([one.judged for one in examples])
        images = torch.stack([one.seen for one in examples])
        return Batch(
            images=images,
            labels=torch.empty((0, *images.shape[2:]), dtype=torch.long),
            valid=torch.ones((count, *images.shape[2:]), dtype=torch.bool),
            maps={
                "dice": torch.from_numpy(dice),
                "weight": torch.from_numpy(self._bin_weights[bins_of(dice)] * judged),
            },
            case_ids=("labelled",) * count,
        )

    def _example(self, kind: int, place: int) -> Example:
        assert self._data is not None
        draw = np.random.Generator(np.random.PCG64([self._data.seed, kind, place]))
        case = self._cases[int(draw.integers(len(self._cases)))]
        return make_example(
            case,
            self._cases,
            draw,
            num_classes=self.network.num_classes,
            side=self._quality.side,
            weak_share=self._quality.weak_masks,
            soft_share=self._quality.soft_masks,
        )

    def _learning_cases(self) -> list[LearningCase]:
        data = self._data
        assert data is not None
        partial = set(data.partial)
        # Of a partial label the true Dice is not known.
        chosen = [one for one in data.labelled if one not in partial] or list(data.labelled)
        cases = []
        for case_id in chosen:
            spacing = data.spacing(case_id)
            case = LearningCase(
                id=case_id,
                image=lambda case_id=case_id: data.image(case_id),  # type: ignore[misc]
                label=lambda case_id=case_id: _known(data, case_id),  # type: ignore[misc]
                spacing=spacing,
                volume_mm3=0.0,
                weak=tuple(self.predictions(case_id)),
            )
            voxels = int(np.count_nonzero(case.label()))
            cases.append(replace(case, volume_mm3=voxels * float(np.prod(spacing))))
        return cases


def estimation_loss(estimated: Tensor, dice: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smooth L1 loss of estimates (β = 0.1), and their mean absolute error.

    Args:
        estimated: (B, K - 1).
        dice: True Dice, of the same shape.
        weight: 0 for classes that are not judged.

    Returns:
        Two scalars, averages over the judged classes of all examples; 0 if there are none.
    """
    values = F.smooth_l1_loss(estimated, dice, reduction="none", beta=_BETA) * weight
    judged = weight > 0
    errors = torch.where(judged, (estimated.detach() - dice).abs(), 0.0)
    loss, error, count = over_batch(values.sum(), errors.sum(), judged.sum())
    return loss / count.clamp(min=1), error / count.clamp(min=1)


def folds_of(data: TrainingData, count: int) -> list[list[str]]:
    """Divide the labelled cases into at most `count` parts, of which each has patients of its own.

    Patients are drawn by the run's seed; one patient makes one part.
    """
    patients = sorted({data.patient(case_id) for case_id in data.labelled})
    order = np.random.Generator(np.random.PCG64([data.seed, 90])).permutation(len(patients))
    count = min(count, len(patients))
    fold_of = {patients[int(place)]: number % count for number, place in enumerate(order)}
    return [
        [one for one in data.labelled if fold_of[data.patient(one)] == number]
        for number in range(count)
    ]


def _known(data: TrainingData, case_id: str) -> Any:
    label = data.label(case_id)
    return np.where(label == IGNORED, 0, label) if (label == IGNORED).any() else label


def mask_bytes(num_classes: int, voxels: int) -> int:
    """Return what the weak models' predictions take on the disk, at most.

    Args:
        num_classes: Background included.
        voxels: Of all labelled and validation cases together.
    """
    return len(SNAPSHOTS) * (num_classes - 1) * voxels
