"""Checkpoints: everything needed to go on, as safetensors and JSON; the newest complete wins."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor, nn

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json, write_json

logger = logging.getLogger(__name__)

KEPT = 2
"""The last one and the one before, should the last be damaged."""
_LOOKS = 20
"""So often a reader lists the checkpoints anew if they go while it reads them."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a run stood, and with which weights."""

    weights: Mapping[str, Tensor]
    """By `network/parameter`."""
    optimizer: Mapping[str, Tensor]
    """By `parameter number/quantity`."""
    state: Mapping[str, Any]
    """Counters and the method's own state, JSON values."""


def save_checkpoint(folder: Path, number: int, checkpoint: Checkpoint) -> Path:
    """Write checkpoint `number` below `folder` and remove all but the last two.

    The folder appears under its name only when all its files are on the disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{number:08d}"
    for left in folder.glob(".*.part"):
        # Of a process that was killed while it wrote.
        shutil.rmtree(left)
    temporary = folder / f".{name}.part"
    temporary.mkdir()
    try:
        _write(temporary, checkpoint)
    except BaseException:
        # On a full disk its room is needed to say so.
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    final = folder / name
    if final.exists():
        # Same counter, other state (a halved rate, a later phase): the new one takes over.
        former = folder / f".{name}.former"
        shutil.rmtree(former, ignore_errors=True)
        final.rename(former)
        temporary.rename(final)
        shutil.rmtree(former)
    else:
        temporary.rename(final)
    for old in _complete(folder)[:-KEPT]:
        shutil.rmtree(old)
    return final


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    hashes = {}
    for file, tensors in (
        ("weights.safetensors", checkpoint.weights),
        ("optimizer.safetensors", checkpoint.optimizer),
    ):
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / file)
        hashes[file] = _sha256_synced(folder / file)
    write_json(folder / "checkpoint.json", {"files": hashes, "state": dict(checkpoint.state)})


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest complete checkpoint below `folder`, or None if there is none.

    A damaged one is passed over with a warning.

    Raises:
        SemiSupSegError: If there are checkpoints but none is readable.
    """
    if not folder.is_dir():
        return None
    for former in folder.glob(".*.former"):
        # Killed between the two renames of `save_checkpoint`.
        name = former.name[1:].removesuffix(".former")
        if not (folder / name).exists():
            former.rename(folder / name)
    candidates = _complete(folder)
    for path in reversed(candidates):
        try:
            content = read_json(path / "checkpoint.json")
            for file, digest in content["files"].items():
                if _sha256(path / file) != digest:
                    raise SemiSupSegError(f"{file} does not match its hash")
            return Checkpoint(
                weights=load_file(path / "weights.safetensors"),
                optimizer=load_file(path / "optimizer.safetensors"),
                state=content["state"],
            )
        except (SemiSupSegError, OSError, KeyError, SafetensorError) as error:
            logger.warning("Checkpoint %s is damaged (%s); using the one before.", path.name, error)
    if candidates:
        raise SemiSupSegError(
            f"None of the checkpoints in {folder} can be read. Restore the folder from a backup, "
            "or start a new run."
        )
    return None


def peek_weights(folder: Path) -> Checkpoint | None:
    """Return the newest complete checkpoint, without its optimizer, while its run may write others.

    Nothing is changed or repaired, unlike in `load_checkpoint`, which is the trainer's.

    Raises:
        SemiSupSegError: If there are checkpoints but none is readable.
    """
    problem: Exception | None = None
    seen: list[tuple[Path, bytes | None]] | None = None
    for _ in range(_LOOKS):
        candidates = _complete(folder) if folder.is_dir() else []
        # Where a write was cut short between its two renames, the former one is still whole.
        candidates = [*folder.glob(".*.former"), *candidates]
        now = [(path, _identity(path)) for path in candidates]
        if now == seen:
            # Nobody has replaced them: there are none, or they are damaged.
            break
        seen = now
        for path in reversed(candidates):
            try:
                content = read_json(path / "checkpoint.json")
                # Hashed and parsed from the same bytes: the file may be replaced in between.
                data = (path / "weights.safetensors").read_bytes()
                if hashlib.sha256(data).hexdigest() != content["files"]["weights.safetensors"]:
                    raise SemiSupSegError("weights.safetensors does not match its hash")
                return Checkpoint(weights=load(data), optimizer={}, state=content["state"])
            except (SemiSupSegError, OSError, KeyError, SafetensorError) as error:
                problem = error
    if not seen:
        return None
    raise SemiSupSegError(
        f"None of the checkpoints in {folder} can be read ({problem}). Try again when the run has "
        "written the next one."
    )


def network_tensors(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return all parameters and buffers by `network/name`, detached copies on the CPU."""
    return {
        f"{name}/{key}": value.detach().cpu().clone()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }


def load_network_tensors(networks: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Put tensors of `network_tensors` back into the networks."""
    for name, network in networks.items():
        prefix = f"{name}/"
        network.load_state_dict(
            {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
        )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's moments and counters by `parameter number/quantity`."""
    return {
        f"{index}/{key}": value.detach().cpu().clone()
        for index, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors of `optimizer_tensors` back into an optimizer over the same parameters."""
    content = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, quantity = key.split("/")
        state.setdefault(int(index), {})[quantity] = value
    content["state"] = state
    optimizer.load_state_dict(content)


def _identity(path: Path) -> bytes | None:
    # It holds the hashes. An inode's number would not do: it is given again at once.
    try:
        return (path / "checkpoint.json").read_bytes()
    except OSError:
        return None


def _complete(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sha256_synced(path: Path) -> str:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
    return _sha256(path)
