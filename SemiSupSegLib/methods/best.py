"""Our own method, from parts of others (docs/methods.md, docs/benchmarks.md).

A teacher learns from labelled patches that exchange boxes. Its moving average goes on as the
student, in stages that let in the most trusted unlabelled cases first; each of their patches meets
labelled tissue, and is labelled by the moving average as it is just then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from SemiSupSegLib.losses.adaptive_threshold import ClassThresholds
from SemiSupSegLib.losses.classes import most_likely
from SemiSupSegLib.losses.ema import teacher_of, update_teacher
from SemiSupSegLib.losses.pseudo_label import pseudo_label_loss
from SemiSupSegLib.losses.reduction import IGNORED
from SemiSupSegLib.losses.schedules import sigmoid_ramp
from SemiSupSegLib.losses.supervised import SupervisedLossOptions, supervised_loss
from SemiSupSegLib.methods.copy_paste import exchange_labelled, is_drawn, mix_into_unlabelled
from SemiSupSegLib.methods.distillation import distil_phase, distil_step
from SemiSupSegLib.methods.protocol import (
    Batch,
    Build,
    Clock,
    NetworkOptions,
    OptimizerOptions,
    ParameterGroup,
    Phase,
    StepResult,
    TrainingData,
    share_iterations,
)
from SemiSupSegLib.methods.pseudo_labels import (
    KEPT_STAGES,
    STAGE_MAP_BYTES,
    Labeller,
    PseudoLabelOptions,
    prediction_bytes,
)
from SemiSupSegLib.methods.quality_options import QualityOptions
from SemiSupSegLib.methods.reweighting import CaseQuality, voxel_weight
from SemiSupSegLib.methods.supervised import (
    class_weights,
    segmentation_parameters,
    supervised_step,
    tell_if_all_labelled,
)

_TEACHER, _DISTIL = "teacher", "student_distil"


@dataclass(frozen=True, kw_only=True)
class BestOptions:
    """Copy-paste, labels from the moving average, trusted cases first."""

    COMMON: ClassVar = frozenset(
        {"labelled_per_batch", "unlabelled_per_batch", "fractions", "unlabelled_weight"}
    )
    """What a person may want to change first."""

    network: NetworkOptions = field(default_factory=NetworkOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    loss: SupervisedLossOptions = field(
        default_factory=lambda: SupervisedLossOptions(profile="liu")
    )
    image_confidence: Literal["self_dice", "class_mean", "mean_fg", "mean_all"] = "self_dice"
    """What cases are ranked by at the beginning of each stage."""
    labelled_per_batch: int = 4
    """Labelled patches in a batch; 2 or more with `copy_paste`."""
    unlabelled_per_batch: int = 4
    """Unlabelled patches in a batch of the stages."""
    copy_paste: float = 1.0
    """Share of the batches in which labelled patches exchange a box among themselves, and each
    unlabelled one with a labelled one."""
    teacher_share: float = 0.3
    """Share of the updates on labelled patches alone, before the stages."""
    head_share: float = 0.05
    """Share of the updates, the last ones, in which the student's head learns its doubt."""
    head_rate: float = 1e-2
    """Learning rate of the head at its start."""
    head_passes: int = 4
    """Stochastic predictions from which the head learns."""
    fractions: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Share of the unlabelled cases in each stage."""
    unlabelled_weight: float = 1.0
    """Weight of the pseudo-labelled part of the patches, once its ramp is over."""
    ramp: float = 0.3
    """Share of the first stage over which that weight climbs."""
    threshold: float = 0.95
    """τ of the class that is predicted most surely; others have less in proportion."""
    lowest_threshold: float = 0.6
    """Least τ of any class."""
    doubtful_weight: float = 0.5
    """Weight of a voxel below its τ, times its confidence, with the probabilities for a label; 0
    leaves it out."""
    strong_view: bool = True
    """Whether the student sees unlabelled patches strongly varied in intensity."""
    ema: float = 0.99
    """Decay of the moving averages."""
    quality: QualityOptions = field(default_factory=QualityOptions)

    def __post_init__(self) -> None:
        if not self.fractions or any(not 0 < part <= 1 for part in self.fractions):
            raise ValueError(f"fractions is {self.fractions}, each must be in (0, 1]")
        for name in ("labelled_per_batch", "unlabelled_per_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        if self.copy_paste and self.labelled_per_batch < 2:
            raise ValueError("copy_paste needs labelled_per_batch of 2 or more")
        for name in ("teacher_share", "head_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1)")
        if self.teacher_share + self.head_share >= 1:
            raise ValueError("teacher_share and head_share leave no updates for the stages")
        for name in ("copy_paste", "ramp", "threshold", "lowest_threshold", "doubtful_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1]")
        if self.lowest_threshold > self.threshold:
            raise ValueError("lowest_threshold is above threshold")
        if self.unlabelled_weight < 0:
            raise ValueError(f"unlabelled_weight is {self.unlabelled_weight}, must be at least 0")
        if self.head_rate <= 0:
            raise ValueError(f"head_rate is {self.head_rate}, must be positive")
        if self.head_passes < 2:
            raise ValueError(f"head_passes is {self.head_passes}, must be at least 2")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}, must be in [0, 1)")


class Best:
    """One network throughout; its moving average labels, is judged and exported.

    The parts are of others: copy-paste of Bai et al. 2023 (arXiv 2305.00673), the moving average of
    Tarvainen & Valpola 2017, weak and strong views of FixMatch (arXiv 2001.07685),
    thresholds by class after FreeMatch, the order of cases of Liu 2026 (arXiv 2602.08797).

    Args:
        options: The method's options.
        build: Makes a freshly initialised network.
        iterations: Optimizer updates of the whole run.
    """

    def __init__(self, options: BestOptions, build: Build, iterations: int) -> None:
        self._options = options
        # First weights and draws are those of supervised training: a comparison then does not
        # show the luck of the first weights.
        self._raw = build("teacher")
        self._average = teacher_of(self._raw)
        self._teacher = teacher_of(self._raw)
        self._thresholds = ClassThresholds(
            self._raw.num_classes,
            ceiling=options.threshold,
            lowest=options.lowest_threshold,
            highest=options.threshold,
        )
        head = options.head_share if self._raw.has_log_variance else 0.0
        stages = (1 - options.teacher_share - head) / len(options.fractions)
        shares = [options.teacher_share, *[stages] * len(options.fractions), head]
        self._teacher_iterations, *rest, self._head_iterations = share_iterations(
            iterations, shares
        )
        self._stage_iterations = rest
        self._class_weights: Tensor | None = None
        self._averaged = 0
        self._seen: tuple[Tensor, Tensor] | None = None
        """What the thresholds take over after the update; what failed is overwritten."""
        self.quality: CaseQuality | None = None
        """How good the pseudo-labels of the cases are, if the run has a network that judges."""

    def networks(self) -> Mapping[str, nn.Module]:
        """Return the network, its moving average, what that was before the stages, thresholds."""
        return {
            "student_raw": self._raw,
            "student": self._average,
            "teacher": self._teacher,
            "thresholds": self._thresholds,
        }

    def predictors(self) -> Mapping[str, nn.Module]:
        """Return the student, the teacher it began as, and the network before averaging."""
        return {
            "student": self._average,
            "teacher": self._teacher,
            "student_raw": self._raw,
        }

    def state(self) -> dict[str, object]:
        """Return how often the average has moved."""
        return {"student_iteration": self._averaged}

    def load_state(self, state: Mapping[str, object]) -> None:
        """Take back what `state` gave."""
        self._averaged = int(str(state["student_iteration"]))

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Return teacher, stages, student_distil."""
        options = self._options
        self._class_weights = class_weights(data, options.loss)
        tell_if_all_labelled(data)
        length = self._teacher_iterations + sum(self._stage_iterations)
        phases = [
            Phase(
                name=_TEACHER,
                iterations=self._teacher_iterations,
                group=self._group(0, length),
                labelled_per_batch=options.labelled_per_batch,
                judged=("teacher",),
            )
        ]
        done = self._teacher_iterations
        for stage, iterations in enumerate(self._stage_iterations, start=1):
            phases.append(
                Phase(
                    name=f"stage_{stage}",
                    iterations=iterations,
                    group=self._group(done, length),
                    labelled_per_batch=options.labelled_per_batch,
                    unlabelled_per_batch=options.unlabelled_per_batch if data.unlabelled else 0,
                    unlabelled_cases=lambda stage=stage: self._cases_of(stage, data),  # type: ignore[misc]
                    prologue=lambda stage=stage: self._begin_stage(stage, data),  # type: ignore[misc]
                    prologue_work=self._prologue_work(data),
                    maps=lambda case_id, stage=stage: self._maps(stage, case_id, data),  # type: ignore[misc]
                    continues=True,
                    strong_views=1 if options.strong_view else 0,
                    stage=stage,
                    judged_at_end=("student_raw",),
                    passes_per_unlabelled=1,
                )
            )
            done += iterations
        if self._raw.has_log_variance:
            phases.append(
                distil_phase(
                    _DISTIL,
                    self._average,
                    iterations=self._head_iterations,
                    rate=options.head_rate,
                    passes=options.head_passes,
                    labelled_per_batch=options.labelled_per_batch,
                    unlabelled_per_batch=options.unlabelled_per_batch if data.unlabelled else 0,
                    unlabelled=data.unlabelled,
                )
            )
        return phases

    def step(self, phase: Phase, batch: Batch, clock: Clock) -> StepResult:
        """Return the loss terms of a batch."""
        options = self._options
        if phase.name == _DISTIL:
            return distil_step(self._average, batch, _labelling(options))
        if len(batch.images) == batch.num_labelled:
            return supervised_step(
                self._raw, batch, options.loss, self._class_weights, options.copy_paste
            )
        return self._stage_step(phase, batch, clock)

    def after_step(self, phase: Phase, clock: Clock) -> None:
        """Move the averages and the thresholds."""
        if phase.name != _DISTIL:
            update_teacher(self._average, self._raw, self._averaged, self._options.ema)
            if phase.name == _TEACHER:
                update_teacher(self._teacher, self._raw, self._averaged, self._options.ema)
            self._averaged += 1
        if self._seen is not None:
            self._thresholds.update(*self._seen)
            self._seen = None

    def labeller(self) -> nn.Module:
        """Return the network whose predictions unlabelled patches are taught: the average."""
        return self._average

    def _stage_step(self, phase: Phase, batch: Batch, clock: Clock) -> StepResult:
        """Return L_labelled + w(t)·L_pseudo; in most batches both kinds meet in each patch."""
        options, known = self._options, batch.num_labelled
        valid = batch.valid[known:] & (batch.maps["pseudo_label"] != IGNORED)
        with torch.no_grad():
            seen = batch.images[known:] if batch.weak is None else batch.weak
            probabilities = self._average(seen).float().softmax(1)
            label, confidence = most_likely(probabilities)
            self._seen = self._thresholds.sums(label, confidence, valid)
            is_sure, weight = self._weigh(label, confidence)
            trust = voxel_weight(self.quality, label, batch)
            if trust is not None:
                weight = weight * trust
        images, labels = batch.images, batch.labels
        if is_drawn(options.copy_paste):
            own, own_labels = exchange_labelled(images[:known], labels)
            mixed = mix_into_unlabelled(
                replace(batch, valid=torch.cat([batch.valid[:known], valid]))
            )
            images = torch.cat([own, mixed.images])
            labels = torch.cat([own_labels, mixed.labels])
            valid = mixed.pseudo_valid
        logits = self._raw(images)
        supervised = supervised_loss(
            logits[: len(labels)], labels, options.loss, self._class_weights
        )
        pseudo = pseudo_label_loss(
            logits[known:],
            label,
            weight,
            valid,
            soft_target=probabilities,
            is_soft=~is_sure,
        )
        ramp = 1.0
        if phase.stage == 1:
            ramp = sigmoid_ramp(clock.phase_iteration, options.ramp * phase.iterations)
        total = supervised["total"] + options.unlabelled_weight * ramp * pseudo
        terms = {
            "cross_entropy": supervised["cross_entropy"],
            "dice": supervised["dice"],
            "supervised": supervised["total"],
            "high": pseudo,
            "high_share": (is_sure & valid).sum() / valid.sum().clamp(min=1),
            "loss": total,
        }
        return StepResult(
            total=total, terms={name: value.detach() for name, value in terms.items()}
        )

    def _weigh(self, label: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
        """Return where a prediction is sure by its class's threshold, and each voxel's weight."""
        thresholds = self._thresholds.thresholds().to(confidence.device)
        is_sure = confidence >= thresholds[label.long()]
        return is_sure, torch.where(is_sure, 1.0, self._options.doubtful_weight * confidence)

    def _shown_weight(self, probabilities: Tensor) -> Tensor:
        """Return the weights that a stage's pseudo-labels begin with, for people to see."""
        return self._weigh(*most_likely(probabilities))[1]

    def _begin_stage(self, stage: int, data: TrainingData) -> None:
        """Rank the cases anew; what is written of their labels is for people."""
        if not data.unlabelled:
            return
        self._labeller(stage, data).score_cases()
        cases = self._cases_of(stage, data)
        if not cases:
            data.tell(
                "warning",
                message=f"All unlabelled cases are excluded: stage {stage} learns from the "
                "labelled ones alone.",
            )
            return
        fraction = self._options.fractions[stage - 1]
        self._labeller(stage, data).make_stage_maps(
            stage, fraction, cases, None, self._shown_weight
        )
        if data.is_first and stage > KEPT_STAGES:
            self._labeller(stage - KEPT_STAGES, data).forget_predictions()

    def _cases_of(self, stage: int, data: TrainingData) -> tuple[str, ...]:
        if not data.unlabelled:
            return ()
        fraction = self._options.fractions[stage - 1]
        return self._labeller(stage, data).stage_cases(stage, "stages", fraction)

    def _maps(
        self, stage: int, case_id: str, data: TrainingData
    ) -> Mapping[str, NDArray[np.generic]]:
        # They say where foreground is, so that patches are centred there, and where a partial
        # label is known; what a voxel is said to be comes from the moving average as it is now.
        maps = self._labeller(stage, data).read_stage_maps(stage, case_id, with_probabilities=False)
        return {"pseudo_label": maps["pseudo_label"]}

    def _labeller(self, stage: int, data: TrainingData) -> Labeller:
        name = f"student_before_{stage:02d}"
        return Labeller(self._average, data, replace(_labelling(self._options), passes=1), name)

    def _prologue_work(self, data: TrainingData) -> int:
        return data.count_windows(data.unlabelled)

    def _group(self, schedule_start: int, schedule_length: int) -> ParameterGroup:
        rates = self._options.optimizer
        return rates.group(segmentation_parameters(self._raw), schedule_start, schedule_length)


def _labelling(options: BestOptions) -> PseudoLabelOptions:
    """Return how a stage's cases are ranked and shown, and how the head learns."""
    return PseudoLabelOptions(
        passes=options.head_passes,
        temperature="none",
        trust="max",
        uncertainty="mc",
        refinement="off",
        image_confidence=options.image_confidence,
    )


def scratch_bytes(options: BestOptions, num_classes: int, voxels: Sequence[int]) -> int:
    """Return the bytes of predictions and stage maps on the disk, at most.

    Args:
        options: Of the run.
        num_classes: Background included.
        voxels: Of each unlabelled case, prepared.
    """
    kept = min(KEPT_STAGES + 1, len(options.fractions))
    return sum(voxels) * kept * (prediction_bytes(num_classes) + STAGE_MAP_BYTES)
