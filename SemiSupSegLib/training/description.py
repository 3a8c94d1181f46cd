"""What a model package says of any network of a run, finished or not."""

from __future__ import annotations

import platform
from typing import Any

import torch

from SemiSupSegLib import __version__
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.inference.calibration import Calibration
from SemiSupSegLib.options import to_json
from SemiSupSegLib.training.configuration import RunConfig


def describe_model(
    task: Task, config: RunConfig, patch_size: tuple[int, int, int], calibration: Calibration
) -> dict[str, Any]:
    """Return a manifest without name, figures and files.

    Args:
        task: Channels and classes.
        config: The run's.
        patch_size: D, H, W in voxels.
        calibration: How the networks' outputs are read.
    """
    network = config.options.network
    second = getattr(config.options, "second", None)
    other: dict[str, Any] = {}
    if second is not None and second != network:
        other["teacher_network"] = {"name": second.name, "options": dict(second.options)}
    return {
        "task": task.to_json(),
        "network": {
            "name": network.name,
            "options": dict(network.options),
            "in_channels": len(task.channels),
            "num_classes": task.num_classes,
            "patch_size": list(patch_size),
        },
        **other,
        "method": config.method,
        "preparation": to_json(config.preparation),
        "calibration": calibration.to_json(),
        "review": {},
        "library": {
            "SemiSupSeg": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "licence": None,
    }
