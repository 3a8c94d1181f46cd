"""Counted randomness: every draw follows from where it happens, nothing has to be saved."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def seed_of(*place: object) -> int:
    """Return a 63-bit seed for a place in the run: (run seed, phase, iteration, slot, ...)."""
    digest = hashlib.blake2b(repr(place).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def numpy_generator(*place: object) -> np.random.Generator:
    """Return NumPy's generator for a place in the run."""
    return np.random.Generator(np.random.PCG64(seed_of(*place)))


def torch_generator(*place: object) -> torch.Generator:
    """Return a CPU generator of PyTorch for a place in the run."""
    generator = torch.Generator()
    generator.manual_seed(seed_of(*place))
    return generator


def seed_layers(device: torch.device, *place: object) -> None:
    """Seed the generators from which layers and losses draw on a device, for a place in the run."""
    seed = seed_of(*place)
    if device.type == "cpu":
        # `torch.manual_seed` would note the call, with its stack, for every kind of device that
        # is not in use: a hundredth of the time of a small step.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
