"""Several predictions of one network that differ by dropout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


def has_dropout(network: nn.Module) -> bool:
    """Return whether stochastic passes of the network can differ at all."""
    return any(isinstance(module, _DROPOUT) and module.p > 0 for module in network.modules())


@contextlib.contextmanager
def only_dropout_active(network: nn.Module) -> Iterator[None]:
    """Put the network in eval mode but its dropout in train mode, and back to eval afterwards."""
    network.eval()
    for module in network.modules():
        if isinstance(module, _DROPOUT):
            module.train()
    try:
        yield
    finally:
        network.eval()


def stochastic_passes(network: nn.Module, images: Tensor, passes: int) -> Iterator[Tensor]:
    """Yield class probabilities (B, K, D, H, W), float32, of `passes` predictions.

    The draws come from PyTorch's global generator, which the caller has seeded.
    """
    with torch.no_grad(), only_dropout_active(network):
        for _ in range(passes):
            yield network(images).float().softmax(1)
