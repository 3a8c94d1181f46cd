"""Judging networks on the validation cases while a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.evaluation.overlap import dice_of_targets
from SemiSupSegLib.files import replacing_path
from SemiSupSegLib.inference.maps import set_background
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.checkpoints import KEPT
from SemiSupSegLib.training.data import RunData


def validation_dice(
    networks: Mapping[str, nn.Module], data: RunData, overlap: float
) -> dict[str, dict[str, float]]:
    """Return the mean Dice over the validation cases by network and target; work that is shared.

    `mean` is taken over the task's headline targets. Figures are on the prepared grid; a target
    that is empty in both label maps counts 1.

    Args:
        networks: In eval mode afterwards.
        data: The run's cases.
        overlap: Of the sliding windows.
    """
    if not data.validation or not networks:
        return {}
    for network in networks.values():
        network.eval()
    names = list(networks)
    scores: dict[str, dict[str, list[float]]] = {
        name: {target: [] for target in data.task.targets} for name in names
    }

    def forward(patches: Tensor) -> Tensor:
        # Every network sees the window while it is in the cache.
        return torch.cat([networks[name](patches).float().softmax(1) for name in names], 1)

    num_classes = data.task.num_classes
    found: dict[str, dict[str, dict[str, float]]] = {}
    for case_id in data.share(data.validation, "validating"):
        found[case_id] = {}
        outputs = data.predict(case_id, forward, "validation", overlap=overlap)
        reference = data.label(case_id)
        outside = data.outside(case_id)
        for index, name in enumerate(names):
            own = outputs[index * num_classes : (index + 1) * num_classes]
            set_background(own, outside)
            prediction = own.argmax(0).numpy().astype(np.uint8)
            found[case_id][name] = dice_of_targets(prediction, reference, data.task)
    found = data.gathered(found)
    for case_id in data.validation:
        for name, by_target in found[case_id].items():
            for target, value in by_target.items():
                scores[name][target].append(value)
    figures = {
        name: {target: float(np.mean(values)) for target, values in by_target.items()}
        for name, by_target in scores.items()
    }
    for means in figures.values():
        headline = [means[target] for target in data.task.headline_targets]
        means["mean"] = float(np.mean(headline))
    return figures


class BestOnValidation:
    """Keeps the weights with the best mean validation Dice; ties go to the earlier.

    It is only reported beside the last weights, which are the ones exported.

    Args:
        run: The run folder.
        task: For the figures' names.
    """

    def __init__(self, run: RunFolder, task: Task) -> None:
        self._folder = run.checkpoints / "best"
        self._task = task
        self._named: tuple[int | None, ...] = ()
        """What the checkpoints that are kept name as the best."""
        self.iteration: int | None = None
        self.figures: dict[str, float] = {}

    def offer(self, figures: Mapping[str, float], iteration: int, network: nn.Module) -> None:
        """Keep the network if it is better than the best so far."""
        if self.figures and figures["mean"] <= self.figures["mean"]:
            return
        self.iteration = iteration
        self.figures = dict(figures)
        self._folder.mkdir(parents=True, exist_ok=True)
        tensors = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
        with replacing_path(self._file(iteration)) as path:
            save_file(tensors, path)

    def checkpoint_written(self) -> None:
        """Hear that a checkpoint now holds `state`; weights that none can go back to may go."""
        self._named = (*self._named, self.iteration)[-KEPT:]
        kept = {self._file(one).name for one in self._named if one is not None}
        for file in self._folder.glob("[0-9]*.safetensors"):
            if file.name not in kept:
                file.unlink()

    def load_into(self, network: nn.Module) -> bool:
        """Put the best weights into a network; False if there are none."""
        if self.iteration is None:
            return False
        network.load_state_dict(load_file(self._file(self.iteration)))
        return True

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {"iteration": self.iteration, "figures": self.figures}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.iteration = state["iteration"]
        self.figures = dict(state["figures"])
        self._named = (self.iteration,)

    def _file(self, iteration: int) -> Any:
        return self._folder / f"{iteration:08d}.safetensors"
