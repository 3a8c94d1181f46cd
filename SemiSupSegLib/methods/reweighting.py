"""Any method with its unlabelled cases weighed by how good a network thinks their masks are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from SemiSupSegLib.methods.protocol import (
    Batch,
    Build,
    Clock,
    Method,
    Phase,
    StepResult,
    TrainingData,
)
from SemiSupSegLib.methods.pseudo_labels import headline_dice
from SemiSupSegLib.methods.quality_training import QualityTraining
from SemiSupSegLib.networks.quality import QualityNetwork
from SemiSupSegLib.quality.estimates import case_weights, judged_label

_REFRESHES = 10
"""Of the method's updates, if the options do not say after how many updates."""


class CaseQuality:
    """What a method knows of its pseudo-labels' quality; a `Reweighted` keeps it up to date.

    Args:
        network: Frozen while the method learns, in eval mode.
        weighs: Whether voxels are weighed by it.
    """

    def __init__(self, network: QualityNetwork, *, weighs: bool) -> None:
        self.network = network
        self.weighs = weighs
        self.weights: dict[str, list[float]] = {}
        """By case: how far voxels of each class are trusted, background first, 0-1."""
        self.mean_estimate = 0.0
        """Estimated Dice of the pseudo-labels, over cases and classes that they have."""
        self.validation_dice: float | None = None
        """Mean Dice of the same network on the validation cases, if somebody asked for it."""

    def weights_of(self, batch: Batch) -> Tensor:
        """Return the weights of the unlabelled patches' classes, (U, K).

        Those of a case that nobody has judged yet are 0.
        """
        nothing = [0.0] * self.network.num_classes
        unlabelled = batch.case_ids[batch.num_labelled :]
        rows = [self.weights.get(case_id, nothing) for case_id in unlabelled]
        return torch.tensor(rows, dtype=torch.float32, device=batch.images.device)


def voxel_weight(quality: CaseQuality | None, pseudo: Tensor, batch: Batch) -> Tensor | None:
    """Return the weight of each voxel of the unlabelled patches, (U, D, H, W); None: all count.

    Args:
        quality: Of the cases; None if the run has none.
        pseudo: What the patches are taught: class indices (U, D, H, W), or probabilities or
            logits (U, K, D, H, W), whose likeliest class counts.
        batch: All patches.
    """
    if quality is None or not quality.weighs:
        return None
    label = pseudo.detach().argmax(1) if pseudo.ndim == 5 else pseudo.long()
    weights = quality.weights_of(batch)
    # Voxels without a pseudo-label (255) are left out by whoever asks.
    index = label.clamp(0, weights.shape[1] - 1).flatten(1)
    return weights.gather(1, index).reshape(label.shape)


class Judged(Method, Protocol):
    """A method whose cases can be weighed by their quality."""

    quality: CaseQuality | None
    """None until a `Reweighted` sets it."""

    def labeller(self) -> nn.Module | None:
        """Return the network whose predictions unlabelled patches are taught.

        It judges the pseudo-labels itself if it is None.
        """


class Reweighted:
    """A method after the phases of a quality network, which judges its pseudo-labels.

    All unlabelled cases are predicted as a whole now and then, by the method's `labeller`, and the
    network estimates the Dice of what comes out. The method asks `voxel_weight` with its attribute
    `quality`.

    Args:
        make: Makes the method.
        options: The method's, with a group `quality`.
        build: Makes a freshly initialised network.
        iterations: Optimizer updates of the whole run; what the quality network takes is not the
            method's.
    """

    def __init__(
        self, make: Callable[..., Judged], options: Any, build: Build, iterations: int
    ) -> None:
        self._options = options
        self.training = QualityTraining(options, build, iterations)
        self._iterations = iterations - self.training.iterations
        self._inner = make(options, build, self._iterations)
        self.quality = CaseQuality(self.training.network, weighs=options.quality.reweight)
        self._inner.quality = self.quality

    def networks(self) -> Mapping[str, nn.Module]:
        """Return the method's networks, the weak model, and the one that judges."""
        return {**self._inner.networks(), **self.training.networks()}

    def predictors(self) -> Mapping[str, nn.Module]:
        """Return the method's."""
        return self._inner.predictors()

    def state(self) -> dict[str, object]:
        """Return the method's state, and what the cases weigh."""
        return {
            "method": self._inner.state(),
            "weights": dict(self.quality.weights),
            "mean_estimate": self.quality.mean_estimate,
            "validation_dice": self.quality.validation_dice,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._inner.load_state(state["method"])
        self.quality.weights = dict(state["weights"])
        self.quality.mean_estimate = state["mean_estimate"]
        self.quality.validation_dice = state["validation_dice"]

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Return the quality network's phases, then the method's."""
        if not data.unlabelled:
            data.tell(
                "warning",
                message="There is no unlabelled case to weigh, and the quality network takes its "
                "share of the updates: set quality.reweight=false.",
            )
        own = self.training.phases(data)
        return [*own, *(self._judging(phase, data) for phase in self._inner.phases(data))]

    def step(self, phase: Phase, batch: Batch, clock: Clock) -> StepResult:
        """Return the step of whoever the phase belongs to."""
        is_own = self.training.has(phase)
        # Frozen, not without gradient: a method may improve its masks by what the network says.
        self.training.network.requires_grad_(is_own)
        if is_own:
            return self.training.step(phase, batch)
        return self._inner.step(phase, batch, self._own_clock(clock))

    def after_step(self, phase: Phase, clock: Clock) -> None:
        """Let the method move its averages."""
        if not self.training.has(phase):
            self._inner.after_step(phase, self._own_clock(clock))

    def _own_clock(self, clock: Clock) -> Clock:
        return replace(clock, iteration=clock.iteration - self.training.iterations)

    def _judging(self, phase: Phase, data: TrainingData) -> Phase:
        """Return a phase of the method in which the cases are judged now and then."""
        labeller = self._inner.labeller()
        # A head alone learns in eval mode, and weighs nothing.
        learns = phase.unlabelled_per_batch > 0 and phase.train_mode
        if labeller is None or not learns or not data.unlabelled:
            return phase
        # Of the method, not of each of its phases: that would take as long as they do.
        every = self._options.quality.refresh or max(1, self._iterations // _REFRESHES)
        watched = self._watched(data)
        return replace(
            phase,
            between=lambda done: self._judge(labeller, phase, done, data),
            between_at=range(0, phase.iterations, every),
            between_work=data.count_windows([*data.unlabelled, *watched]),
        )

    def _watched(self, data: TrainingData) -> Sequence[str]:
        """Return the validation cases if the method compares estimates with their Dice."""
        return data.validation if getattr(self._options, "stop_gap", None) is not None else ()

    def _judge(self, labeller: nn.Module, phase: Phase, done: int, data: TrainingData) -> None:
        """Estimate the quality of all pseudo-labels anew."""
        network, options = self.training.network.eval(), self._options.quality
        found: dict[str, Any] = {}
        for case_id in data.share(data.unlabelled, "judging pseudo-labels"):
            label = _label(data, labeller, case_id)
            estimates = judged_label(network, data.image(case_id), label, data.spacing(case_id))
            weights = case_weights(estimates, options.floor, options.power)
            own = [one for one in estimates if one is not None]
            found[case_id] = [weights, float(np.mean(own)) if own else 0.0]
        found = data.gathered(found)
        quality = self.quality
        quality.weights = {case_id: found[case_id][0] for case_id in data.unlabelled}
        quality.mean_estimate = float(np.mean([found[one][1] for one in data.unlabelled]))
        scores: dict[str, Any] = {}
        for case_id in data.share(self._watched(data), "comparing with validation"):
            predicted = _label(data, labeller, case_id).numpy()
            scores[case_id] = headline_dice(predicted, data.label(case_id), data.task)
        scores = data.gathered(scores)
        quality.validation_dice = float(np.mean(list(scores.values()))) if scores else None
        tell_weights(quality, phase.name, done, data)


def tell_weights(quality: CaseQuality, phase: str, done: int, data: TrainingData) -> None:
    """Write an event on what the cases weigh now, after some updates of a phase."""
    weights = np.array(list(quality.weights.values()))
    data.tell(
        "quality_estimated",
        phase=phase,
        phase_iteration=done,
        mean_estimate=round(quality.mean_estimate, 6),
        mean_weights=[round(float(one), 6) for one in weights.mean(0)],
        cases_without_weight=int((weights[:, 1:].max(1) == 0).sum()),
    )


def reweighted(
    make: Callable[..., Judged], *, needs: Callable[[Any], bool] = lambda options: False
) -> Callable[..., Method]:
    """Return what makes a method, with a quality network before it if the options ask for one.

    Args:
        make: Makes the method itself.
        needs: Called with the options; whether the method needs the network even if it does not
            weigh cases.
    """

    def made(options: Any, build: Build, iterations: int) -> Method:
        if not options.quality.reweight and not needs(options):
            return make(options, build, iterations)
        return Reweighted(make, options, build, iterations)

    return made


def _label(data: TrainingData, network: nn.Module, case_id: str) -> Tensor:
    """Return the classes that a network sees in a case, uint8 (D, H, W)."""
    probabilities = data.predict(case_id, lambda x: network(x).float().softmax(1), "quality")
    return probabilities.argmax(0).to(torch.uint8)
