"""Predictions of one network that differ by dropout; what comes before it is computed once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from SemiSupSegLib.networks.base import SegmentationNetwork

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


def has_dropout(network: nn.Module) -> bool:
    """Return whether stochastic passes of the network can differ at all."""
    return any(isinstance(module, _DROPOUT) and module.p > 0 for module in network.modules())


def dropout_logits(
    network: SegmentationNetwork, stem: tuple[Tensor, ...], passes: int
) -> Iterator[Tensor]:
    """Yield the logits (B, K, D, H, W) of passes with dropout, drawn from PyTorch's generator.

    The network is in eval mode between passes.

    Args:
        network: In eval mode.
        stem: Of the images, made by the network in eval mode.
        passes: How many.
    """
    for _ in range(passes):
        with only_dropout_active(network):
            logits = network.segment(network.body(stem))
        yield logits


def seeded_dropout_logits(
    network: SegmentationNetwork, stem: tuple[Tensor, ...], passes: int, seed: int
) -> Iterator[Tensor]:
    """Yield what `dropout_logits` does, but `seed` alone decides the draws.

    PyTorch's generators are left as they were.
    """
    devices = [stem[0].device] if stem[0].device.type == "cuda" else []
    for number in range(passes):
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed * 1_000_003 + number)
            (logits,) = dropout_logits(network, stem, 1)
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
