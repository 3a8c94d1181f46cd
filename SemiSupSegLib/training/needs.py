"""What a run needs of memory and disk, counted before it starts, and whether that is there."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from SemiSupSegLib.cases.split import Split
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.methods.catalogue import find_method
from SemiSupSegLib.methods.quality_training import mask_bytes
from SemiSupSegLib.methods.reweighting import Reweighted
from SemiSupSegLib.training.checkpoints import KEPT
from SemiSupSegLib.training.configuration import RunConfig
from SemiSupSegLib.training.fitting import imagined_method, network_of

PROCESS_BYTES = 700_000_000
"""Of Python, PyTorch and the libraries that a run loads."""
WORKING_FACTOR = 3.0
"""Memory of an update by what the network keeps for its backward pass, on a CPU: gradients of
activations, what convolutions set aside, and the free blocks between used ones of a process that
keeps freed memory. 2.1 was measured with 4 patches of 48 x 64 x 64, 2.7 to 3.2 with 16 (ADR 17)."""
_PARAMETER_COPIES = 4
"""Weight, gradient and two moments of the optimizer."""
_CASE_COPIES = 3
"""Volumes of a case that are held at a time while its outputs are put together and judged."""
_SMALL_FILES = 30_000_000
"""Logs, figures, slices and the report."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Bytes that a run takes at its largest."""

    memory: int
    """Of its process on a CPU."""
    disk: int
    """Of the run folder."""


def needs_of(
    config: RunConfig,
    task: Task,
    split: Split,
    shapes: Mapping[str, tuple[int, int, int]],
    patch: tuple[int, int, int],
) -> Needs:
    """Count what a run needs.

    Args:
        config: Its options.
        task: Channels and classes.
        split: Cases by use.
        shapes: D, H, W of the prepared cases, by id.
        patch: D, H, W.

    Raises:
        UsageError: If network, patch and method do not go together.
    """
    weights, learning = _weights(config, task, patch)
    update = _update_memory(config, task, patch, learning)
    return Needs(
        memory=_memory(task, shapes, weights, update),
        disk=_disk(
            config,
            task,
            split,
            shapes,
            weights,
            learning,
            is_judged=isinstance(imagined_method(config, task, patch), Reweighted),
        ),
    )


def update_memory(config: RunConfig, task: Task, patch: tuple[int, int, int]) -> int:
    """Return the bytes of all networks and of the largest update, without the program's own."""
    weights, learning = _weights(config, task, patch)
    return weights + _update_memory(config, task, patch, learning)


def kept_for_backward(config: RunConfig, task: Task, patch: tuple[int, int, int]) -> int:
    """Return the bytes that the largest update's networks keep for their backward pass, float32.

    Nothing is computed: on the device used here tensors have shapes alone.
    """
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with (
        torch.device("meta"),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        learning = [
            network_of(config, task, one).train()
            for one in find_method(config.method).learning(config.options)
        ]
        images = torch.empty(1, len(task.channels), *patch)
        for network in learning:
            network(images).log_softmax(1)
        parameters = {
            one.untyped_storage()._cdata for network in learning for one in network.parameters()
        }
    return patches_per_update(config) * sum(
        tensor.untyped_storage().nbytes()
        for storage, tensor in kept.items()
        if storage not in parameters
    )


def patches_per_update(config: RunConfig) -> int:
    """Return the patches of the largest batch."""
    counts = {
        name: value
        for name, value in vars(config.options).items()
        if name.endswith("labelled_per_batch")
    }
    student = counts["labelled_per_batch"] + counts.get("unlabelled_per_batch", 0)
    return int(max(student, counts.get("teacher_labelled_per_batch", 0)))


def free_disk(folder: Path) -> int | None:
    """Return the free bytes where a folder is or will be; None if that cannot be told."""
    for place in (folder.absolute(), *folder.absolute().parents):
        if place.is_dir():
            try:
                return shutil.disk_usage(place).free
            except OSError:
                return None
    return None


def why_disk_does_not_fit(needs: Needs, folder: Path) -> str:
    """Return what to do if the disk of a run folder has too little space; empty if it fits."""
    free = free_disk(folder)
    if free is None or needs.disk <= free:
        return ""
    return (
        f"The run folder {folder} would take {in_words(needs.disk)}, and its disk has "
        f"{in_words(free)} left. Choose a folder on another disk with --out, free space, or leave "
        "unlabelled cases out with a split file."
    )


def why_memory_does_not_fit(needs: Needs, device: torch.device) -> str:
    """Return what a CPU run lacks; empty if it fits, and for a GPU, which is tried instead."""
    if device.type != "cpu":
        return ""
    total = total_memory()
    if needs.memory <= total:
        return ""
    return (
        f"The run would need about {in_words(needs.memory)} of memory, and this computer has "
        f"{in_words(total)}."
    )


def refuse_what_does_not_fit(needs: Needs, folder: Path, device: torch.device) -> None:
    """Refuse a run for which there is no room.

    Raises:
        SemiSupSegError: If disk or memory are too small.
    """
    told = why_disk_does_not_fit(needs, folder)
    memory = why_memory_does_not_fit(needs, device)
    if memory:
        told = f"{told} {memory} Choose a smaller training.patch_limit or batch; plan tells what "
        told = told.lstrip() + "would fit."
    if told:
        raise SemiSupSegError(told)


def total_memory() -> int:
    """Return the bytes of memory that this computer has."""
    import psutil

    return int(psutil.virtual_memory().total)


def in_words(num_bytes: float) -> str:
    """Return a number of bytes for a person."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.0f} MB"


def _bytes_of(network: torch.nn.Module) -> int:
    return sum(one.nbytes for one in network.state_dict().values())


def _weights(config: RunConfig, task: Task, patch: tuple[int, int, int]) -> tuple[int, int]:
    """Return the bytes of all networks, and of those that learn in an update."""
    method = imagined_method(config, task, patch)
    with torch.device("meta"):
        learning = sum(
            _bytes_of(network_of(config, task, one))
            for one in find_method(config.method).learning(config.options)
        )
    return sum(_bytes_of(network) for network in method.networks().values()), learning


def _update_memory(
    config: RunConfig, task: Task, patch: tuple[int, int, int], learning: int
) -> int:
    kept = kept_for_backward(config, task, patch)
    return int(_PARAMETER_COPIES * learning + WORKING_FACTOR * kept)


def _memory(
    task: Task, shapes: Mapping[str, tuple[int, int, int]], weights: int, update: int
) -> int:
    voxels = max((math.prod(shape) for shape in shapes.values()), default=0)
    # Probabilities, variance and entropy of a case, float32, and its image.
    volumes = 4 * (task.num_classes + 2) + 4 * len(task.channels)
    case = _CASE_COPIES * volumes * voxels
    return int(PROCESS_BYTES + weights + max(update, case))


def _disk(
    config: RunConfig,
    task: Task,
    split: Split,
    shapes: Mapping[str, tuple[int, int, int]],
    weights: int,
    learning: int,
    *,
    is_judged: bool,
) -> int:
    # One more than are kept while it is written; the best student likewise, and three packages
    # with two networks at most.
    checkpoints = (KEPT + 1) * (weights + 2 * learning) + (KEPT + 1) * learning
    packages = 4 * learning
    voxels = [math.prod(shapes[case_id]) for case_id in split.train_unlabelled]
    scratch = find_method(config.method).scratch_bytes(config.options, task.num_classes, voxels)
    masks = 0
    if is_judged:
        predicted = (*split.train_labelled, *split.validation)
        masks = mask_bytes(task.num_classes, sum(math.prod(shapes[one]) for one in predicted))
    return checkpoints + packages + scratch + masks + _SMALL_FILES
