"""Curriculum teacher-student learning: trusted cases first, doubtful voxels unlearned.

Source: Liu, Ding, Zhang 2026, arXiv 2602.08797. What the paper leaves open is an option here, with
its default in `CurriculumOptions`; numbers in comments (2., 4.) are sections of docs/methods.md.

A case whose label is partial (255 where nobody has said what is there) takes part twice: it is
supervised where the label is known, and pseudo-labelled like an unlabelled case where it is not.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.inference.stochastic import has_dropout
from SemiSupSegLib.losses.agreement import LEAST_WEIGHT
from SemiSupSegLib.losses.ema import teacher_of, update_teacher
from SemiSupSegLib.losses.low_confidence import (
    NEEDS_TEACHER,
    UNBOUNDED,
    LowMode,
    high_confidence_loss,
    low_confidence_loss,
)
from SemiSupSegLib.losses.reduction import IGNORED
from SemiSupSegLib.losses.schedules import sigmoid_ramp
from SemiSupSegLib.losses.supervised import SupervisedLossOptions, supervised_loss
from SemiSupSegLib.methods.copy_paste import exchange_with_unlabelled, is_drawn
from SemiSupSegLib.methods.distillation import distil_phase, distil_step
from SemiSupSegLib.methods.protocol import (
    Batch,
    Build,
    Clock,
    DivergenceError,
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
    headline_dice,
    prediction_bytes,
    refining_passes,
    scoring_passes,
    stage_size,
)
from SemiSupSegLib.methods.quality_options import QualityOptions
from SemiSupSegLib.methods.reweighting import CaseQuality, tell_weights, voxel_weight
from SemiSupSegLib.methods.supervised import (
    class_weights,
    segmentation_parameters,
    supervised_step,
    tell_if_all_labelled,
)
from SemiSupSegLib.networks.base import SegmentationNetwork
from SemiSupSegLib.quality.estimates import case_weights

logger = logging.getLogger(__name__)

_FINISH = "finish"


@dataclass(frozen=True, kw_only=True)
class CurriculumOptions:
    """Teacher, distillation of its doubt, six student stages."""

    COMMON: ClassVar = frozenset(
        {"labelled_per_batch", "unlabelled_per_batch", "fractions", "lambda_high", "lambda_low"}
    )
    """What a person may want to change first."""

    network: NetworkOptions = field(default_factory=NetworkOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    loss: SupervisedLossOptions = field(
        default_factory=lambda: SupervisedLossOptions(profile="liu")
    )
    pseudo_labels: PseudoLabelOptions = field(default_factory=PseudoLabelOptions)
    teacher_labelled_per_batch: int = 2
    """Labelled patches in a batch of the teacher."""
    labelled_per_batch: int = 2
    """Labelled patches in a batch of the student."""
    unlabelled_per_batch: int = 2
    """Unlabelled patches in a batch of the student."""
    teacher_share: float = 3000
    """Updates of the teacher, in proportion to the other shares."""
    stage_share: float = 500
    """Updates of each stage."""
    finish_share: float = 0
    """Updates on the labelled cases alone after the last stage, on the stages' schedule. What the
    teacher gets wrong everywhere, the student can unlearn there (fine-tuning after pseudo-labels,
    as Yalniz et al. 2019, arXiv 1905.00546; not in Liu 2026)."""
    head_share: float = 300
    """Updates of each log-variance head (teacher's and student's)."""
    head_rate: float = 1e-2
    """Learning rate of the heads at the start."""
    fractions: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    """Share of the unlabelled cases in each stage."""
    curriculum: Literal["stages", "all_at_once", "random", "reversed", "oracle"] = "stages"
    """Order of the cases; all but `stages` are controls."""
    allow_oracle: bool = False
    """Permit reading labels of unlabelled cases for `curriculum=oracle`. Research only."""
    unlabelled: Literal["use", "none"] = "use"
    """`none` is the control: the same updates and labelled batches without unlabelled cases."""
    teacher_refresh: bool = False
    """Whether the student takes over the labelling from a stage on before which it is better on
    validation, by `refresh_gain` at least. It may confirm its own mistakes, and its figures on
    validation are then no longer untouched; the teacher that is judged stays the first."""
    refresh_gain: float = 0.005
    """Mean Dice by which the student must be better."""
    student_init: Literal["scratch", "teacher"] = "scratch"
    """Whether the student starts with weights of its own or with the teacher's."""
    warm_start: bool = True
    """Whether a stage goes on from the student of the stage before."""
    schedule_spans: Literal["run", "network", "stage"] = "network"
    """What one learning rate schedule spans: teacher and student together (the student begins with
    the rate that the teacher ends with), all updates of one network, or each stage."""
    lambda_high: float = 1.0
    """λ1: weight of the high-confidence term."""
    ramp: float = 0.4
    """Share of the first stage in which λ1 ramps up."""
    lambda_low: float = 0.1
    """λ2: weight of the low-confidence term."""
    low_mode: LowMode = "subtract_clipped"
    """What happens with doubtful voxels: see docs/methods.md, 4."""
    smoothing: float = 0.0
    """Label smoothing of pseudo-labels."""
    copy_paste: float = 0.0
    """Share of the student's batches in which labelled and unlabelled patches exchange a box
    (without unlabelled cases, labelled ones among each other)."""
    strong_view: bool = True
    """Whether unlabelled patches are strongly varied in intensity."""
    ema: float = 0.99
    """Decay of the moving averages of teacher and student, which are judged and exported."""
    norm_guard: float = 10.0
    """`subtract` stops when the weight norm exceeds this multiple of its value at stage start."""
    quality: QualityOptions = field(default_factory=QualityOptions)

    def __post_init__(self) -> None:
        if not self.fractions or any(not 0 < part <= 1 for part in self.fractions):
            raise ValueError(f"fractions is {self.fractions}, each must be in (0, 1]")
        if self.curriculum == "oracle" and not self.allow_oracle:
            raise ValueError(
                "curriculum is 'oracle', which reads the labels of unlabelled cases; "
                "set allow_oracle=true if this is research data"
            )
        for name in ("teacher_labelled_per_batch", "labelled_per_batch", "unlabelled_per_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        for name in (
            "teacher_share",
            "stage_share",
            "finish_share",
            "head_share",
            "lambda_high",
            "lambda_low",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0")
        if self.teacher_share + self.stage_share == 0:
            raise ValueError("teacher_share and stage_share are 0: nothing would be trained")
        for name in ("copy_paste", "ramp"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1]")
        for name in ("smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1)")
        if self.head_rate <= 0:
            raise ValueError(f"head_rate is {self.head_rate}, must be positive")
        if self.norm_guard <= 1:
            raise ValueError(f"norm_guard is {self.norm_guard}, must be above 1")


class Curriculum:
    """Teacher, student, and what passes from one to the other.

    Args:
        options: The method's options.
        build: Makes a freshly initialised network; its weights follow from the run's seed and
            the name.
        iterations: Optimizer updates of the whole run.
    """

    def __init__(
        self,
        options: CurriculumOptions,
        build: Build,
        iterations: int,
    ) -> None:
        self._options = options
        self._build = build
        self._teacher_raw = build("teacher")
        self._teacher = teacher_of(self._teacher_raw)
        self._student_raw = build("student")
        self._student = teacher_of(self._student_raw)
        self._labelling = (
            teacher_of(self._teacher_raw) if options.teacher_refresh else self._teacher
        )
        self._labelling_since = 0
        self._class_weights: Tensor | None = None
        if options.pseudo_labels.image_confidence == "pass_dice" and not has_dropout(self._teacher):
            raise UsageError(
                "image_confidence is 'pass_dice', but the passes of a network without dropout are "
                "all equal. Choose a network with dropout, or image_confidence=self_dice."
            )
        num_stages = len(options.fractions)
        head = options.head_share if self._teacher.has_log_variance else 0.0
        if options.teacher_refresh and not has_dropout(self._teacher):
            raise UsageError(
                "teacher_refresh measures doubt by passes that differ, but this network has no "
                "dropout. Choose a network with dropout, or teacher_refresh=false."
            )
        stages = [options.stage_share] * num_stages
        shares = [options.teacher_share, head, *stages, options.finish_share, head]
        parts = share_iterations(iterations, shares)
        self._teacher_iterations, self._distil_iterations = parts[0], parts[1]
        self._stage_iterations = parts[2:-2]
        self._finish_iterations, self._student_distil_iterations = parts[-2:]
        self._student_iteration = 0
        self._stage_norm = 0.0
        self.quality: CaseQuality | None = None
        """How good the pseudo-labels of the cases are, if the run has a network that judges."""

    def labeller(self) -> nn.Module | None:
        """Return nothing: cases are judged with the predictions that their pseudo-labels are."""
        return None

    def networks(self) -> Mapping[str, nn.Module]:
        """Return both networks, their moving averages, and what labels if that may change."""
        networks = {
            "teacher_raw": self._teacher_raw,
            "teacher": self._teacher,
            "student_raw": self._student_raw,
            "student": self._student,
        }
        if self._labelling is not self._teacher:
            networks["labelling"] = self._labelling
        return networks

    def predictors(self) -> Mapping[str, nn.Module]:
        """Return the moving averages, which are exported, and the raw student."""
        return {
            "student": self._student,
            "teacher": self._teacher,
            "student_raw": self._student_raw,
        }

    def state(self) -> dict[str, object]:
        """Return what the counters do not say."""
        return {
            "student_iteration": self._student_iteration,
            "stage_norm": self._stage_norm,
            "labelling_since": self._labelling_since,
        }

    def load_state(self, state: Mapping[str, object]) -> None:
        """Take back what `state` gave."""
        self._student_iteration = int(str(state["student_iteration"]))
        self._stage_norm = float(str(state["stage_norm"]))
        self._labelling_since = int(str(state["labelling_since"]))

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Return teacher, distil, the stages, student_distil."""
        options = self._options
        self._class_weights = class_weights(data, options.loss)
        uses_unlabelled = self._uses_unlabelled(data)
        if options.unlabelled == "use":
            tell_if_all_labelled(data)
        if options.low_mode in UNBOUNDED and uses_unlabelled:
            data.tell(
                "warning",
                message=f"low_mode={options.low_mode} has no lower bound and may diverge; the run "
                "then stops. It is meant for reproducing the paper.",
            )
        length = sum(self._stage_iterations) + self._finish_iterations
        done = 0
        teacher_length = self._teacher_iterations
        if options.schedule_spans == "run":
            done = self._teacher_iterations
            length = teacher_length = done + length
        phases = [
            Phase(
                name="teacher",
                iterations=self._teacher_iterations,
                group=self._group(self._teacher_raw, 0, teacher_length),
                labelled_per_batch=options.teacher_labelled_per_batch,
                epilogue=self._hand_weights_to_student,
                judged=("teacher",),
            )
        ]
        if self._teacher.has_log_variance:
            phases.append(self._distil_phase("distil", self._teacher, data))
        alone = options.schedule_spans == "stage"
        for stage, iterations in enumerate(self._stage_iterations, start=1):
            phases.append(
                Phase(
                    name=f"stage_{stage}",
                    iterations=iterations,
                    group=self._group(
                        self._student_raw,
                        0 if alone else done,
                        iterations if alone else length,
                    ),
                    labelled_per_batch=options.labelled_per_batch,
                    unlabelled_per_batch=options.unlabelled_per_batch if uses_unlabelled else 0,
                    unlabelled_cases=lambda stage=stage: self._cases_of(stage, data),  # type: ignore[misc]
                    prologue=lambda stage=stage: self._begin_stage(stage, data),  # type: ignore[misc]
                    prologue_work=self._prologue_work(stage, data),
                    maps=lambda case_id, stage=stage: self._maps(stage, case_id, data),  # type: ignore[misc]
                    continues=stage > 1 and not alone and options.warm_start,
                    strong_views=1 if options.strong_view else 0,
                    stage=stage,
                    judged_at_end=("student_raw",),
                )
            )
            done += iterations
        if self._finish_iterations:
            phases.append(
                Phase(
                    name=_FINISH,
                    iterations=self._finish_iterations,
                    group=self._group(
                        self._student_raw,
                        0 if alone else done,
                        self._finish_iterations if alone else length,
                    ),
                    labelled_per_batch=options.labelled_per_batch,
                    continues=not alone,
                    judged=("student",),
                    judged_at_end=("student_raw",),
                )
            )
        if self._student.has_log_variance:
            phases.append(self._distil_phase("student_distil", self._student, data))
        return phases

    def step(self, phase: Phase, batch: Batch, clock: Clock) -> StepResult:
        """Return the loss terms of a batch."""
        if phase.name == "teacher":
            return supervised_step(
                self._teacher_raw, batch, self._options.loss, self._class_weights
            )
        if phase.name == _FINISH:
            return supervised_step(
                self._student_raw, batch, self._options.loss, self._class_weights
            )
        if phase.stage is None:
            network = self._teacher if phase.name == "distil" else self._student
            return distil_step(network, batch, self._options.pseudo_labels)
        return self._stage_step(phase, batch, clock)

    def after_step(self, phase: Phase, clock: Clock) -> None:
        """Move the averages, and stop `subtract` before it runs away."""
        if phase.name == "teacher":
            update_teacher(
                self._teacher, self._teacher_raw, clock.phase_iteration, self._options.ema
            )
        elif phase.stage is not None or phase.name == _FINISH:
            update_teacher(
                self._student, self._student_raw, self._student_iteration, self._options.ema
            )
            self._student_iteration += 1
            is_stage = phase.stage is not None
            if is_stage and self._options.low_mode in UNBOUNDED and clock.phase_iteration % 10 == 9:
                self._check_norm()

    # Steps

    def _stage_step(self, phase: Phase, batch: Batch, clock: Clock) -> StepResult:
        """Return L_sup + λ1·L_high + R_low (4.)."""
        options, weights = self._options, self._class_weights
        if not batch.maps:
            result = supervised_step(
                self._student_raw, batch, options.loss, weights, options.copy_paste
            )
            return _named(result.total, result.terms, {})
        importance = voxel_weight(self.quality, batch.maps["pseudo_label"], batch)
        if importance is not None:
            batch = replace(batch, maps={**batch.maps, "importance": importance})
        if is_drawn(options.copy_paste):
            mixed = exchange_with_unlabelled(batch)
            logits = self._student_raw(mixed.images)
            supervised = supervised_loss(logits, mixed.labels, options.loss, weights)
            unlabelled, valid, maps = logits, mixed.pseudo_valid, mixed.maps
        else:
            labelled = batch.num_labelled
            logits = self._student_raw(batch.images)
            supervised = supervised_loss(logits[:labelled], batch.labels, options.loss, weights)
            unlabelled, valid, maps = logits[labelled:], batch.valid[labelled:], batch.maps
        pseudo = self._pseudo_label_terms(unlabelled.float(), valid, maps)
        ramp = 1.0
        if phase.stage == 1:
            ramp = sigmoid_ramp(clock.phase_iteration, options.ramp * phase.iterations)
        total = supervised["total"] + options.lambda_high * ramp * pseudo["high"]
        if "low" in pseudo:
            total = total + options.lambda_low * pseudo["low"]
        return _named(total, supervised, pseudo)

    def _pseudo_label_terms(
        self, logits: Tensor, valid: Tensor, maps: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return L_high, R_low / λ2 (if there is such a term), and the share of trusted voxels."""
        options = self._options
        pseudo_label = maps["pseudo_label"].long()
        # A partial label's known part has none.
        valid = valid & (pseudo_label != IGNORED)
        weight = maps["weight"].float() / 255
        high = valid & (weight >= LEAST_WEIGHT)
        terms = {
            "high": high_confidence_loss(
                logits, pseudo_label, weight, high, options.smoothing, maps.get("importance")
            ),
            "high_share": high.sum() / valid.sum().clamp(min=1),
        }
        if options.lambda_low and options.low_mode != "ignore":
            terms["low"] = low_confidence_loss(
                logits,
                pseudo_label,
                valid & ~high,
                options.low_mode,
                maps.get("probabilities"),
                importance=maps.get("importance"),
            )
        return terms

    # Between phases

    def _uses_unlabelled(self, data: TrainingData) -> bool:
        return self._options.unlabelled == "use" and bool(data.unlabelled)

    def _group(
        self, network: SegmentationNetwork, schedule_start: int, schedule_length: int
    ) -> ParameterGroup:
        rates = self._options.optimizer
        return rates.group(segmentation_parameters(network), schedule_start, schedule_length)

    def _distil_phase(self, name: str, network: SegmentationNetwork, data: TrainingData) -> Phase:
        options = self._options
        return distil_phase(
            name,
            network,
            iterations=(
                self._distil_iterations if name == "distil" else self._student_distil_iterations
            ),
            rate=options.head_rate,
            passes=options.pseudo_labels.passes,
            labelled_per_batch=options.labelled_per_batch,
            unlabelled_per_batch=(
                options.unlabelled_per_batch if self._uses_unlabelled(data) else 0
            ),
            unlabelled=data.unlabelled,
        )

    def _hand_weights_to_student(self) -> None:
        if self._options.student_init == "teacher":
            self._student_raw.load_state_dict(self._teacher.state_dict())
            self._student.load_state_dict(self._teacher.state_dict())

    def _begin_stage(self, stage: int, data: TrainingData) -> None:
        options = self._options
        if self._uses_unlabelled(data):
            self._make_maps(stage, data)
        # After the maps: they are refined by the student of the stage before.
        if stage > 1 and not options.warm_start:
            from_teacher = options.student_init == "teacher"
            fresh = self._teacher if from_teacher else self._build(f"student {stage}")
            self._student_raw.load_state_dict(fresh.state_dict())
            self._student_iteration = 0
        self._stage_norm = _weight_norm(self._student_raw)

    def _prologue_work(self, stage: int, data: TrainingData) -> int:
        """Return the forward passes that are sure to come; a refresh of the teacher is not."""
        if not self._uses_unlabelled(data):
            return 0
        options, windows = self._options.pseudo_labels, data.count_windows(data.unlabelled)
        if stage == 1:
            fitted = data.validation if options.temperature == "fitted" else ()
            passes = scoring_passes(self._teacher, options)
            return windows * passes + data.count_windows(fitted)
        count = len(data.unlabelled)
        share = stage_size(self._fraction(stage), count) / count
        return round(windows * share) * refining_passes(options)

    def _make_maps(self, stage: int, data: TrainingData) -> None:
        former = None
        if self._labelling is not self._teacher:
            former = self._refresh(stage, data)
        labeller = self._labeller(data)
        labeller.score_cases()
        self._weigh(labeller, stage, data)
        cases = self._cases_of(stage, data)
        if not cases:
            data.tell(
                "warning",
                message=f"All unlabelled cases are excluded: stage {stage} learns from the "
                "labelled ones alone.",
            )
            return
        second = self._student if stage > 1 and self._student_iteration > 0 else None
        # A student that has just become the labeller would agree with itself everywhere.
        labeller.make_stage_maps(stage, self._fraction(stage), cases, former or second)

    def _weigh(self, labeller: Labeller, stage: int, data: TrainingData) -> None:
        """Let the cases weigh what the judge makes of their pseudo-labels."""
        quality, options = self.quality, self._options.quality
        if quality is None:
            return
        estimated = labeller.estimated_dice()
        quality.weights = {
            case_id: case_weights(estimates, options.floor, options.power)
            for case_id, estimates in estimated.items()
        }
        known = [one for estimates in estimated.values() for one in estimates if one is not None]
        quality.mean_estimate = float(np.mean(known)) if known else 0.0
        tell_weights(quality, f"stage_{stage}", 0, data)

    def _labeller(self, data: TrainingData) -> Labeller:
        options = self._options.pseudo_labels
        judge = None if self.quality is None else self.quality.network.eval()
        if not self._labelling_since:
            return Labeller(self._labelling, data, options, judge=judge)
        # The student's head is distilled after the last stage only: its passes must do.
        options = replace(options, uncertainty="mc", passes=max(2, options.passes))
        name = f"student_before_{self._labelling_since:02d}"
        return Labeller(self._labelling, data, options, name, judge)

    def _refresh(self, stage: int, data: TrainingData) -> SegmentationNetwork | None:
        """Let the student label from this stage on, if it is better (5.); return the former."""
        if stage == 1:
            self._labelling.load_state_dict(self._teacher.state_dict())
        elif data.validation:
            dice = {
                name: self._validation_dice(network, data)
                for name, network in (("student", self._student), ("labelling", self._labelling))
            }
            if dice["student"] >= dice["labelling"] + self._options.refresh_gain:
                former = teacher_of(self._labelling)
                self._labelling.load_state_dict(self._student.state_dict())
                self._labelling_since = stage
                data.tell("teacher_refreshed", stage=stage, dice=dice)
                return former
        return None

    def _validation_dice(self, network: SegmentationNetwork, data: TrainingData) -> float:
        scores = {}
        for case_id in data.share(data.validation, "comparing teacher and student"):
            probabilities = data.predict(
                case_id, lambda x: network(x).float().softmax(1), "refresh"
            )
            label = probabilities.argmax(0).numpy().astype(np.uint8)
            scores[case_id] = headline_dice(label, data.label(case_id), data.task)
        found = data.gathered(scores)
        return float(np.mean([found[case_id] for case_id in data.validation]))

    def _fraction(self, stage: int) -> float:
        if self._options.curriculum == "all_at_once":
            return 1.0
        return self._options.fractions[stage - 1]

    def _cases_of(self, stage: int, data: TrainingData) -> tuple[str, ...]:
        if not self._uses_unlabelled(data):
            return ()
        return self._labeller(data).stage_cases(
            stage, self._options.curriculum, self._fraction(stage)
        )

    def _maps(
        self, stage: int, case_id: str, data: TrainingData
    ) -> Mapping[str, NDArray[np.generic]]:
        soft = self._options.low_mode in NEEDS_TEACHER
        return self._labeller(data).read_stage_maps(stage, case_id, with_probabilities=soft)

    def _check_norm(self) -> None:
        norm = _weight_norm(self._student_raw)
        if self._stage_norm and norm > self._options.norm_guard * self._stage_norm:
            raise DivergenceError(
                f"the student's weight norm is {norm:.3g}, more than {self._options.norm_guard:g} "
                f"times that at the stage's start: low_mode=subtract has no lower bound; choose "
                "subtract_clipped"
            )


def fewer_passes(options: CurriculumOptions, share: float) -> Mapping[str, str]:
    """Return the setting of as many stochastic passes as a short run deserves, 2 at least.

    Args:
        options: Those of the preset.
        share: Updates of the run by those of the preset, 0-1.
    """
    passes = options.pseudo_labels.passes
    fewer = max(2, round(passes * share))
    return {"pseudo_labels.passes": str(fewer)} if fewer < passes else {}


def ranks_by_quality(options: CurriculumOptions) -> bool:
    """Return whether a quality network is needed even if it does not weigh cases."""
    return options.pseudo_labels.image_confidence == "quality"


def scratch_bytes(options: CurriculumOptions, num_classes: int, voxels: Sequence[int]) -> int:
    """Return the bytes of predictions and stage maps on the disk, at most.

    Args:
        options: Of the run.
        num_classes: Background included.
        voxels: Of each unlabelled case, prepared.
    """
    if options.unlabelled != "use" or not voxels:
        return 0
    # A student that takes over the labelling predicts every case anew.
    labellers = len(options.fractions) if options.teacher_refresh else 1
    maps = sum(sorted(options.fractions)[-KEPT_STAGES:])
    case_bytes = labellers * prediction_bytes(num_classes) + maps * STAGE_MAP_BYTES
    return round(sum(voxels) * case_bytes)


def _named(
    total: Tensor, supervised: Mapping[str, Tensor], pseudo: Mapping[str, Tensor]
) -> StepResult:
    """Return a stage's loss with its terms as they are logged."""
    terms = {name: value.detach() for name, value in supervised.items() if name != "total"}
    terms["supervised"] = supervised["total"].detach()
    terms.update({name: value.detach() for name, value in pseudo.items()})
    terms["loss"] = total.detach()
    return StepResult(total=total, terms=terms)


def _weight_norm(network: nn.Module) -> float:
    with torch.no_grad():
        squares = [float(parameter.float().pow(2).sum()) for parameter in network.parameters()]
    return math.sqrt(sum(squares))
