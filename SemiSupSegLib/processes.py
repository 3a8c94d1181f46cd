"""Which of several processes of one command this one is, as torchrun and SLURM tell it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from SemiSupSegLib.errors import UsageError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Part:
    """One of `size` processes that do the same work on different items."""

    rank: int = 0
    """From 0."""
    size: int = 1

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return every `size`-th item from the `rank`-th on; all parts together are all items."""
        return items[self.rank :: self.size]


ALONE = Part()
"""The only process."""


def own_part(environment: Mapping[str, str] = os.environ) -> Part:
    """Return this process's part of work that needs no talk between the processes.

    RANK and WORLD_SIZE (torchrun, or set by hand in a job array) come first; else those of a SLURM
    job step. Outside of a step, as in a batch script itself, SLURM tells the tasks of the whole
    job, of which only one process may be running: that is no part.

    Raises:
        UsageError: If the variables contradict each other.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _part(environment, "RANK", "WORLD_SIZE")
    if {"SLURM_STEP_ID", "SLURM_PROCID", "SLURM_NTASKS"} <= environment.keys():
        size = "SLURM_STEP_NUM_TASKS"
        return _part(environment, "SLURM_PROCID", size if size in environment else "SLURM_NTASKS")
    return ALONE


def local_rank(environment: Mapping[str, str] = os.environ) -> int:
    """Return this process's number among those of its host, 0 if nothing is told."""
    told = environment.get("LOCAL_RANK")
    if told is None and "SLURM_STEP_ID" in environment:
        told = environment.get("SLURM_LOCALID")
    return int(told) if told is not None and told.isdigit() else 0


def torchrun_parts(environment: Mapping[str, str] = os.environ) -> tuple[Part, Part]:
    """Return this process's place among all that torchrun started, and among those of its host.

    Raises:
        UsageError: If the variables contradict each other.
    """
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
        return ALONE, ALONE
    whole = _part(environment, "RANK", "WORLD_SIZE")
    if not {"LOCAL_RANK", "LOCAL_WORLD_SIZE"} <= environment.keys():
        return whole, ALONE
    return whole, _part(environment, "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def _part(environment: Mapping[str, str], rank: str, size: str) -> Part:
    try:
        part = Part(int(environment[rank]), int(environment[size]))
    except ValueError:
        part = Part(0, 0)
    if not 0 <= part.rank < part.size:
        raise UsageError(
            f"The environment says {rank}={environment[rank]} and {size}={environment[size]}, "
            f"which is no process of several: {rank} must be from 0 to {size} - 1. Start with "
            "torchrun or srun, or unset both."
        )
    return part
