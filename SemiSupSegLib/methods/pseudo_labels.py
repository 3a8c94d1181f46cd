"""Pseudo-labels of the curriculum: predicted by the teacher, ranked, refined for each stage.

On disk, below the run's `stages` folder:

* `<labeller>/scores.json`: image confidence by case, temperature; the labeller is `teacher` or,
  after a refresh, `student_before_NN`;
* `NN/cases.json`: the stage's cases, frozen when the stage begins, and those that a person
  excluded before;
* `NN/ranking.csv`, `NN/summary.json`: what happened, for people and the report;
* `NN/shown/<case>.npz`: `pseudo_label` and `weight` of the most, the middle and the least trusted
  case of the stage, to be looked at;

and below `checkpoints/scratch`, which goes when the run is finished:

* `<labeller>/<case>.npy`: float16 (K + 1, D, H, W), class probabilities and trust, made once;
  beside it `<case>.json`, the image confidence;
* `NN/<case>.npy`: uint8 (2, D, H, W), pseudo-label and its weight (255 = full).

A case whose label is partial is pseudo-labelled too: where the label is known, its pseudo-label is
255 (none) with weight 0, so that there only the label counts, in every term of the loss.

Source: Liu, Ding, Zhang 2026, arXiv 2602.08797, eqs. 5-11; confidence and refinement as in
docs/methods.md.
"""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.evaluation.overlap import dice_of_targets
from SemiSupSegLib.files import read_json, replacing, replacing_path, write_json
from SemiSupSegLib.inference.calibration import TemperatureSampler
from SemiSupSegLib.inference.stochastic import dropout_logits, has_dropout
from SemiSupSegLib.losses.agreement import LEAST_WEIGHT, RefineMode, refine
from SemiSupSegLib.losses.classes import most_likely
from SemiSupSegLib.losses.reduction import IGNORED
from SemiSupSegLib.losses.trust import (
    TRUST_BINS,
    ImageConfidence,
    VoxelTrust,
    image_confidence,
    quantile_thresholds,
    trust_histogram,
    voxel_trust,
)
from SemiSupSegLib.losses.uncertainty import pass_statistics, variance_from_log
from SemiSupSegLib.methods.protocol import TrainingData
from SemiSupSegLib.networks.base import SegmentationNetwork
from SemiSupSegLib.networks.quality import QualityNetwork
from SemiSupSegLib.quality.estimates import judged_label

_FLIPS = [tuple(2 + axis for axis in range(3) if code >> axis & 1) for code in range(8)]


KEPT_STAGES = 2
"""Stages whose maps are on the disk: the checkpoint before a stage may still need the last one."""
STAGE_MAP_BYTES = 2
"""Of a voxel: pseudo-label and weight."""


@dataclass(frozen=True, kw_only=True)
class PseudoLabelOptions:
    """How a teacher's prediction becomes a pseudo-label, and how far it is trusted."""

    COMMON: ClassVar = frozenset({"passes", "threshold"})
    """What a person may want to change first."""

    passes: int = 8
    """Stochastic predictions that are averaged; 1: a single one without dropout. A preset's number
    is reduced when a run is shorter than the preset foresees; what is set for the run is not."""
    uncertainty: Literal["head", "mc"] = "head"
    """Where trust takes the variance from: the log-variance head, or the passes themselves."""
    log_variance_loss: Literal["smooth_l1", "nll"] = "smooth_l1"
    """What the log-variance head minimises: the distance to the passes' log-variance, or the
    negative log-likelihood of their variance."""
    temperature: Literal["fitted", "none"] = "fitted"
    """Whether the teacher's logits are scaled, by one value fitted on the validation cases."""
    trust: VoxelTrust = "prob_var"
    """How the voxel confidence c_p is made of probability and variance."""
    kappa: float = 3.0
    """κ: how strongly `prob_var` reacts to variance."""
    image_confidence: Literal[ImageConfidence, "quality"] = "self_dice"
    """What cases are ranked by; `quality` is the mean Dice that a quality network estimates, which
    is learnt before and takes a part of the updates (`quality`)."""
    threshold_mode: Literal["fixed", "class_quantile"] = "fixed"
    """Whether `threshold` is for all classes, or each class has its own by `quantile`."""
    threshold: float = 0.7
    """τ: least trust of a high-confidence voxel, 0-1."""
    quantile: float = 0.3
    """With `class_quantile`: share of each class's voxels that is not trusted, 0-1."""
    refinement: RefineMode = "average"
    """What happens where teacher and student differ, from the second stage on."""
    agreement_threshold: float = 0.9
    """Least agreement (0-1) of teacher and student that refinement counts as one opinion."""

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise ValueError(f"passes is {self.passes}, must be at least 1")
        for name in ("threshold", "quantile", "agreement_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1]")
        if self.threshold_mode == "class_quantile" and self.quantile == 1:
            raise ValueError("quantile is 1, which would trust no voxel; it must be below 1")
        if self.image_confidence == "pass_dice" and self.passes < 2:
            raise ValueError(
                f"image_confidence is 'pass_dice', which compares passes, but passes is "
                f"{self.passes}; set at least 2"
            )


class Labeller:
    """A network that pseudo-labels a run's unlabelled cases, and the files of its work.

    Args:
        network: In eval mode.
        data: The run's cases.
        options: Trust, thresholds and kind of refinement.
        name: Of its folders.
        judge: Estimates the Dice of the pseudo-labels, if the run has it; in eval mode.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        data: TrainingData,
        options: PseudoLabelOptions,
        name: str = "teacher",
        judge: QualityNetwork | None = None,
    ) -> None:
        self._judge = judge
        self._network = network
        self._data = data
        self._options = options
        self._records = data.stages / name
        self._work = data.scratch / name

    def score_cases(self) -> None:
        """Predict every unlabelled case and note how far each is trusted.

        A case whose file is there is not predicted again; everything that follows is computed
        from the rounded values in the files, so that an interrupted run gives what an
        uninterrupted one does.
        """
        data = self._data
        if not data.lacks(self._scores_file):
            return
        temperature = self._temperature()
        found = self._predict_cases(temperature)
        data.frozen(
            self._scores_file,
            lambda: {
                "temperature": temperature,
                "image_confidence": {
                    case_id: found[case_id]["image_confidence"] for case_id in data.unlabelled
                },
                **(
                    {
                        "estimated_dice": {
                            case_id: found[case_id]["estimated_dice"] for case_id in data.unlabelled
                        }
                    }
                    if self._judge is not None
                    else {}
                ),
            },
        )

    def estimated_dice(self) -> dict[str, list[float | None]]:
        """Return what the judge makes of each case's pseudo-label by class, background left out.

        None for a class that the pseudo-label lacks; nothing without a judge.
        """
        found: dict[str, list[float | None]]
        found = read_json(self._scores_file).get("estimated_dice", {})
        return found

    def _predict_cases(self, temperature: float) -> dict[str, dict[str, Any]]:
        """Write the predictions that are not there yet, and return what was found by case."""
        network, data, options = self._network, self._data, self._options
        self._work.mkdir(parents=True, exist_ok=True)
        stochastic = options.passes > 1 and has_dropout(network)
        if options.passes > 1 and not stochastic:
            data.tell(
                "warning",
                message="The network has no dropout, so its passes would be equal: one is made.",
            )
        forward = _forward(network, options, temperature, options.passes if stochastic else 1)
        usual, always = _usual_classes(data)
        by_quality = options.image_confidence == "quality"
        # What an empty prediction counts is the same for all kinds.
        kind: ImageConfidence = (
            "self_dice" if options.image_confidence == "quality" else options.image_confidence
        )
        scores: dict[str, Any] = {}
        for case_id in data.share(data.unlabelled, "pseudo-labelling"):
            file = self._prediction(case_id)
            score = file.with_name(f"{case_id}.json")
            if not (file.is_file() and score.is_file()):
                outputs = data.predict(case_id, forward, "teacher")
                count = data.task.num_classes
                trust = voxel_trust(
                    options.trust,
                    outputs[:count],
                    variance=outputs[count],
                    mean_entropy=outputs[count + 1],
                    kappa=options.kappa,
                )
                kept = torch.cat([outputs[:count], trust[None]]).half()
                with replacing_path(file) as path:
                    np.save(path, kept.numpy())
                each = outputs[count + 2 :].reshape(-1, count, *outputs.shape[1:])
                estimated = self._estimated(case_id, kept[:count])
                confidence = image_confidence(
                    kind,
                    kept[:count],
                    trust=kept[count].float(),
                    pass_labels=each.argmax(1) if len(each) else None,
                    usual_classes=usual,
                    always_foreground=always,
                )
                if by_quality and any(one is not None for one in estimated):
                    each_class = enumerate(estimated, start=1)
                    values = [
                        one or 0.0 for index, one in each_class if one is not None or index in usual
                    ]
                    confidence = float(np.mean(values))
                write_json(score, {"image_confidence": confidence, "estimated_dice": estimated})
                data.tell("case_scored", case=case_id, image_confidence=round(confidence, 6))
            scores[case_id] = read_json(score)
        return data.gathered(scores)

    def _estimated(self, case_id: str, probabilities: Tensor) -> list[float | None]:
        """Return the estimated Dice of each class but background; empty without a judge."""
        if self._judge is None:
            return []
        label, data = most_likely(probabilities.float())[0], self._data
        return judged_label(self._judge, data.image(case_id), label, data.spacing(case_id))

    def stage_cases(self, stage: int, order: str, fraction: float) -> tuple[str, ...]:
        """Return a stage's cases in the order of trust, and freeze them.

        Cases that a person excluded are left out from the next stage on.

        Args:
            stage: 1, 2, ...
            order: `stages` and `all_at_once`: most trusted first; `reversed`; `random`; `oracle`.
            fraction: Share of the unlabelled cases.
        """
        file = _folder(self._data, stage) / "cases.json"
        return tuple(self._data.frozen(file, lambda: self._ranked(order, fraction))["cases"])

    def _ranked(self, order: str, fraction: float) -> dict[str, list[str]]:
        data, scores = self._data, self._scores
        keys: dict[str, float]
        if order == "random":
            drawn = np.random.Generator(np.random.PCG64([data.seed, 6])).permutation(len(scores))
            keys = {case: float(drawn[place]) for place, case in enumerate(sorted(scores))}
        elif order == "oracle":
            keys = {case: -self._true_dice(case) for case in scores}
        elif order == "reversed":
            keys = dict(scores)
        else:
            keys = {case: -score for case, score in scores.items()}
        ranked = sorted(keys, key=lambda case: (keys[case], case))
        excluded = data.excluded()
        size = stage_size(fraction, len(ranked))
        chosen = [case for case in ranked[:size] if case not in excluded]
        if not chosen:
            chosen = [case for case in ranked if case not in excluded][:1]
        left_out = [case for case in ranked if case in excluded]
        return {"cases": chosen, "ranked": ranked, "excluded": left_out}

    def make_stage_maps(
        self,
        stage: int,
        fraction: float,
        cases: Sequence[str],
        student: SegmentationNetwork | None,
        weigh: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Write pseudo-label and weight of each case of a stage.

        Without a student, or with refinement off, a voxel's weight is 1 where the trust reaches
        τ, else 0. Later, labeller and student settle it between them.

        Args:
            stage: 1, 2, ...
            fraction: For the summary.
            cases: Of this stage.
            student: Its moving average, in eval mode; None in the first stage.
            weigh: Returns the weights (D, H, W), 0-1, of a prediction (K, D, H, W) instead.
        """
        data, options = self._data, self._options
        started = time.monotonic()
        folder = _maps_folder(data, stage)
        folder.mkdir(parents=True, exist_ok=True)
        thresholds = self._thresholds(cases)
        refined = student is not None and options.refinement != "off"
        again = None
        if refined and options.refinement == "repredict":
            temperature = read_json(self._scores_file)["temperature"]
            again = _repredict_forward(self._network, temperature, _more_passes(options))
        shares: dict[str, Any] = {}
        for case_id in data.share(cases, f"preparing stage {stage}"):
            file = folder / f"{case_id}.npy"
            if not file.is_file():
                probabilities, trust = self._read(case_id)
                second = second_trust = own = None
                if refined and student is not None:
                    own = data.predict(
                        case_id, lambda x: student(x).float().softmax(1), f"student {stage}"
                    )
                if again is not None:
                    second = data.predict(case_id, again, "again")
                    second_trust = second.amax(0)
                result = refine(
                    probabilities,
                    own,
                    trust,
                    thresholds,
                    options.agreement_threshold,
                    options.refinement if refined else "off",
                    second_probabilities=second,
                    second_trust=second_trust,
                )
                label = result.label
                weight = result.weight if weigh is None else weigh(probabilities)
                coded = torch.stack([label.to(torch.uint8), (weight * 255).round().to(torch.uint8)])
                known = self._known(case_id)
                if known is not None:
                    coded[0][known], coded[1][known] = IGNORED, 0
                with replacing_path(file) as path:
                    np.save(path, coded.numpy())
            made = np.load(file)
            shares[case_id] = _shares(made[0], made[1], data.task.num_classes)
        shares = data.gathered(shares)
        if not data.is_first:
            return
        shown = _folder(data, stage) / "shown"
        shown.mkdir(parents=True, exist_ok=True)
        # Not the order of the stage, which a control may have turned or drawn.
        scores = self._scores
        trusted = sorted(cases, key=lambda case: (-scores[case], case))
        for case_id in {trusted[0], trusted[len(trusted) // 2], trusted[-1]}:
            label, weight = np.load(folder / f"{case_id}.npy")
            with replacing(shown / f"{case_id}.npz") as stream:
                np.savez_compressed(stream, pseudo_label=label, weight=weight)
        ordered = {case_id: shares[case_id] for case_id in cases}
        _write_summary(stage, fraction, self._scores, ordered, data, time.monotonic() - started)
        shutil.rmtree(_maps_folder(data, stage - KEPT_STAGES), ignore_errors=True)

    def read_stage_maps(
        self, stage: int, case_id: str, *, with_probabilities: bool
    ) -> Mapping[str, NDArray[np.generic]]:
        """Return `pseudo_label` (255: none) and `weight` (uint8), and `probabilities` (float16)."""
        # Copy-on-write: PyTorch wants memory that could be written to.
        coded = np.load(_maps_folder(self._data, stage) / f"{case_id}.npy", mmap_mode="c")
        maps: dict[str, NDArray[np.generic]] = {"pseudo_label": coded[0], "weight": coded[1]}
        if with_probabilities:
            stored = np.load(self._prediction(case_id), mmap_mode="c")
            maps["probabilities"] = stored[: self._data.task.num_classes]
        return maps

    def forget_predictions(self) -> None:
        """Delete the predictions, which only the stages of this labeller need."""
        shutil.rmtree(self._work, ignore_errors=True)

    @property
    def _scores_file(self) -> Path:
        return self._records / "scores.json"

    @property
    def _scores(self) -> dict[str, float]:
        scores: dict[str, float] = read_json(self._scores_file)["image_confidence"]
        return scores

    def _prediction(self, case_id: str) -> Path:
        return self._work / f"{case_id}.npy"

    def _temperature(self) -> float:
        data = self._data
        if self._options.temperature == "none" or not data.validation:
            return 1.0
        file = self._records / "temperature.json"
        sampler = TemperatureSampler(len(data.validation))
        if data.lacks(file):
            for case_id in data.each(data.validation, "calibrating"):
                logits = data.predict(case_id, lambda x: self._network(x).float(), "temperature")
                sampler.add(logits, data.label(case_id))
        return float(data.frozen(file, lambda: {"temperature": sampler.fit()})["temperature"])

    def _read(self, case_id: str) -> tuple[Tensor, Tensor]:
        """Return probabilities and trust, float32."""
        tensor = torch.from_numpy(np.load(self._prediction(case_id)).astype(np.float32))
        return tensor[:-1], tensor[-1]

    def _thresholds(self, cases: Sequence[str]) -> float | Tensor:
        """Return τ, one for all or one by class."""
        if self._options.threshold_mode == "fixed":
            return self._options.threshold
        num_classes = self._data.task.num_classes
        histogram = torch.zeros((num_classes, TRUST_BINS), dtype=torch.int64)
        own: dict[str, list[list[int]]] = {}
        for case_id in self._data.share(cases, "finding thresholds"):
            probabilities, trust = self._read(case_id)
            label, known = probabilities.argmax(0), self._known(case_id)
            if known is not None:
                label[known] = IGNORED
            histogram += trust_histogram(trust, label, num_classes)
            # One for all cases of this process, under the name of the last.
            own = {case_id: histogram.tolist()}
        parts = list(self._data.gathered(own).values())
        return quantile_thresholds(torch.tensor(parts).sum(0), self._options.quantile)

    def _known(self, case_id: str) -> Tensor | None:
        """Return where a partial label is known, boolean (D, H, W); None of an unlabelled case."""
        if case_id not in set(self._data.partial):
            return None
        return torch.from_numpy(self._data.label(case_id) != IGNORED)

    def _true_dice(self, case_id: str) -> float:
        prediction = self._read(case_id)[0].argmax(0).numpy().astype(np.uint8)
        return headline_dice(prediction, self._data.true_label(case_id), self._data.task)


def headline_dice(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], task: Task) -> float:
    """Return the mean Dice of the headline targets; one that is empty in both counts 1."""
    figures = dice_of_targets(prediction, truth, task)
    return float(np.mean([figures[name] for name in task.headline_targets]))


def stage_size(fraction: float, num_cases: int) -> int:
    """Return how many of `num_cases` a stage of the given fraction has: at least one."""
    return min(num_cases, max(1, int(fraction * num_cases + 1e-9)))


def prediction_bytes(num_classes: int) -> int:
    """Return what a labeller keeps of a voxel: probabilities and trust, float16."""
    return 2 * (num_classes + 1)


def scoring_passes(network: SegmentationNetwork, options: PseudoLabelOptions) -> int:
    """Return over how many forward passes of each window `Labeller.score_cases` takes."""
    passes = options.passes if has_dropout(network) else 1
    return passes + (options.uncertainty == "head" and network.has_log_variance)


def refining_passes(options: PseudoLabelOptions) -> int:
    """Return how many of each window `Labeller.make_stage_maps` takes from the second stage on."""
    if options.refinement == "off":
        return 0
    return 1 + (options.refinement == "repredict") * (_more_passes(options) + len(_FLIPS))


def _shares(
    label: NDArray[np.uint8], weight: NDArray[np.uint8], num_classes: int
) -> dict[str, list[Any]]:
    """Return which shares of a case are kept, averaged, doubted and foreground, and class counts.

    Voxels without pseudo-label are left out. `voxels` has for each class those of high and of low
    confidence.
    """
    if (label == IGNORED).any():
        label, weight = label[label != IGNORED], weight[label != IGNORED]
    high = weight >= LEAST_WEIGHT * 255
    kept = weight == 255
    parts = [kept, high & ~kept, ~high, label > 0]
    counts = [np.bincount(label[one], minlength=num_classes) for one in (high, ~high)]
    return {
        "shares": [float(one.mean()) if label.size else 0.0 for one in parts],
        "voxels": np.stack(counts, 1).tolist(),
    }


def _reads_head(network: SegmentationNetwork, options: PseudoLabelOptions) -> bool:
    """Return whether trust takes the variance from the head; an untaught one knows none."""
    return options.uncertainty == "head" and network.is_head_taught


def _more_passes(options: PseudoLabelOptions) -> int:
    return 2 * max(2, options.passes)


def _forward(
    network: SegmentationNetwork, options: PseudoLabelOptions, temperature: float, passes: int
) -> Callable[[Tensor], Tensor]:
    """Return mean probabilities (K), variance, mean pass entropy, and the passes if needed."""
    from_head = _reads_head(network, options)
    keep_passes = options.image_confidence == "pass_dice"

    def forward(patches: Tensor) -> Tensor:
        each: list[Tensor] = []
        stem = network.stem(patches)

        def predictions() -> Iterator[Tensor]:
            made = (
                dropout_logits(network, stem, passes)
                if passes > 1
                else iter([network.segment(network.body(stem))])
            )
            for logits in made:
                probabilities = (logits.float() / temperature).softmax(1)
                if keep_passes:
                    each.append(probabilities)
                yield probabilities

        statistics = pass_statistics(predictions())
        variance = statistics.variance[:, None]
        if from_head:
            features = network.body(stem)
            log_variance = network.log_variance(features, network.segment(features))
            variance = variance_from_log(log_variance, network.num_classes)
        entropy = statistics.mean_entropy[:, None]
        return torch.cat([statistics.mean, variance, entropy, *each], 1)

    return forward


def _repredict_forward(
    network: SegmentationNetwork, temperature: float, passes: int
) -> Callable[[Tensor], Tensor]:
    """Return the mean of more passes and of the predictions of all eight flips."""

    def forward(patches: Tensor) -> Tensor:
        total = torch.zeros(())
        for logits in dropout_logits(network, network.stem(patches), passes):
            total = total + (logits.float() / temperature).softmax(1)
        for axes in _FLIPS:
            turned = torch.flip(patches, axes) if axes else patches
            own = (network(turned).float() / temperature).softmax(1)
            total = total + (torch.flip(own, axes) if axes else own)
        return total / (passes + len(_FLIPS))

    return forward


def _usual_classes(data: TrainingData) -> tuple[tuple[int, ...], bool]:
    """Return classes that nine in ten labelled cases have, and whether every case has any.

    Cases with a partial label are not asked, if there are others: the rest may hold anything.
    """
    counts = np.zeros(data.task.num_classes)
    always = True
    asked = [case_id for case_id in data.labelled if case_id not in set(data.partial)]
    asked = asked or list(data.labelled)
    for case_id in asked:
        present = np.unique(data.label(case_id))
        present = present[(present > 0) & (present < data.task.num_classes)]
        counts[present] += 1
        always = always and len(present) > 0
    needed = 0.9 * len(asked)
    return tuple(int(index) for index in np.flatnonzero(counts >= needed) if index > 0), always


def _write_summary(
    stage: int,
    fraction: float,
    scores: Mapping[str, float],
    shares: Mapping[str, Any],
    data: TrainingData,
    seconds: float,
) -> None:
    """Write ranking.csv and summary.json of a stage."""
    folder = _folder(data, stage)
    frozen = read_json(folder / "cases.json")
    ranked: list[str] = frozen["ranked"]
    voxels = np.sum([one["voxels"] for one in shares.values()], axis=0)
    names = ["background", *(one.name for one in data.task.classes)]
    with replacing(folder / "ranking.csv", "w") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            [
                "case",
                "rank",
                "image_confidence",
                "selected",
                "kept_share",
                "averaged_share",
                "low_share",
                "foreground_share",
            ]
        )
        for rank, case_id in enumerate(ranked, start=1):
            selected = int(case_id in shares)
            own = [f"{one:.5f}" for one in shares[case_id]["shares"]] if selected else [""] * 4
            writer.writerow([case_id, rank, f"{scores[case_id]:.6f}", selected, *own])
    values = [scores[case_id] for case_id in shares]
    total = max(1, int(voxels.sum()))
    content = {
        "stage": stage,
        "fraction": fraction,
        "num_cases": len(shares),
        "excluded": frozen["excluded"],
        "seconds": round(seconds, 3),
        "high_share": float(voxels[:, 0].sum() / total),
        "low_share": float(voxels[:, 1].sum() / total),
        "class_shares": {
            name: {"high": float(high / total), "low": float(low / total)}
            for name, (high, low) in zip(names, voxels, strict=True)
        },
        "image_confidence": {
            "mean": float(np.mean(values)),
            "sd": float(np.std(values)),
            "min": float(np.min(values)),
            "max": float(np.max(values)),
        },
    }
    write_json(folder / "summary.json", content)
    data.tell("stage_ranked", **content)


def _maps_folder(data: TrainingData, stage: int) -> Path:
    return data.scratch / f"{stage:02d}"


def _folder(data: TrainingData, stage: int) -> Path:
    return data.stages / f"{stage:02d}"
