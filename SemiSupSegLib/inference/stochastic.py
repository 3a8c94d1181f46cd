"""Predictions of one network that differ by dropout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


def has_dropout(network: nn.Module) -> bool:
    """Return whether stochastic passes of the network can differ at all."""
    return any(isinstance(module, _DROPOUT) and module.p > 0 for module in network.modules())


def stochastic_logits(
    network: nn.Module, images: Tensor, passes: int, seed: int
) -> Iterator[Tensor]:
    """Yield the logits of `passes` passes with dropout; `seed` alone decides the draws.

    The network is in eval mode between passes, and PyTorch's generators are left as they were.
    """
    devices = [images.device] if images.device.type == "cuda" else []
    for number in range(passes):
        with torch.random.fork_rng(devices=devices), only_dropout_active(network):
            torch.manual_seed(seed * 1_000_003 + number)
            logits = network(images)
        yield logits


@contextlib.contextmanager
def only_dropout_active(network: nn.Module) -> Iterator[None]:
    """Put the network in eval mode but its dropout in train mode; all in eval mode afterwards."""
    network.eval()
    for module in network.modules():
        if isinstance(module, _DROPOUT):
            module.train()
    try:
        yield
    finally:
        network.eval()
