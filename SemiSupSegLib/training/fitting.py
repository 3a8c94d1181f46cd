"""Which network and patch a run has, and whether they and the method go together."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch

from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.methods.catalogue import find_method
from SemiSupSegLib.methods.protocol import Method, NetworkOptions
from SemiSupSegLib.networks.base import SegmentationNetwork
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.training.configuration import RunConfig
from SemiSupSegLib.training.options import TrainingOptions


def network_of(
    config: RunConfig, task: Task, network: NetworkOptions | None = None
) -> SegmentationNetwork:
    """Return the run's network, or another, its weights drawn from torch's global generator."""
    chosen = config.options.network if network is None else network
    return build_network(
        chosen.name,
        chosen.options,
        in_channels=len(task.channels),
        num_classes=task.num_classes,
    )


def patch_size_of(
    options: TrainingOptions, shapes: Iterable[tuple[int, int, int]]
) -> tuple[int, int, int]:
    """Return the patch: the median case, in multiples of 16, at most `patch_limit` a side.

    Args:
        options: Those of the run; a patch that they name is taken.
        shapes: D, H, W of the prepared labelled training cases.
    """
    if options.patch_size is not None:
        return options.patch_size
    median = np.median(list(shapes), axis=0)
    limit = max(16, options.patch_limit // 16 * 16)
    depth, height, width = (int(min(limit, max(32, math.ceil(side / 16) * 16))) for side in median)
    return depth, height, width


def imagined_method(config: RunConfig, task: Task, patch: tuple[int, int, int]) -> Method:
    """Return the run's method with networks that have shapes, but neither weights nor memory.

    Raises:
        UsageError: If network, patch and method do not go together.
    """

    def build(name: str, network: NetworkOptions | None = None) -> SegmentationNetwork:
        built = network_of(config, task, network)
        built.check_patch(patch, config.options.labelled_per_batch)
        return built

    with torch.device("meta"):
        try:
            return find_method(config.method).make(
                config.options, build, iterations=config.iterations
            )
        except ValueError as error:
            raise UsageError(f"This cannot be trained: {error}.") from error
