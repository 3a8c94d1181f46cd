"""What the panel must know of a model without loading it: its manifest and its task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from SemiSupSegLib.cases.task import Task, task_from_json
from SemiSupSegLib.models.package import identity, read_manifest
from SemiSupSegLib.models.registry import resolve_model


def manifest_of(model: str) -> Mapping:
    """Return the manifest of a registered model or of a package's folder.

    Raises:
        SemiSupSegError: If there is none, or it cannot be used.
    """
    return read_manifest(Path(resolve_model(model)))


def task_of(model: str) -> Task:
    """Return what a model segments, and in what."""
    return task_from_json(manifest_of(model)["task"], model)


def identity_of(model: str) -> str:
    """Return the hash that stands for a model in results and forecasts."""
    return identity(Path(resolve_model(model)))
