"""A convolution that is quick on a CPU with few channels, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FEW = 8
"""Input channels up to which channels-last is faster; with 16 it is sometimes, with 32 slower."""


class Convolution(nn.Conv3d):
    """`nn.Conv3d`, which on a CPU goes through channels-last memory and back if channels are few.

    oneDNN's gradients of a 3³ convolution with up to 8 input channels then take a third of the
    time (measured for patches of 32³ to 64³), and the rest of a network stays as it was: group
    normalization and ReLU are slower in channels-last memory. Takes and gives what `nn.Conv3d`
    does, (B, C, D, H, W).
    """

    def forward(self, values: Tensor) -> Tensor:
        """Return the convolved values, in the memory format of `values`."""
        is_worth_it = (
            values.device.type == "cpu" and self.in_channels <= _FEW and values.is_contiguous()
        )
        if not is_worth_it:
            return super().forward(values)
        turned = values.contiguous(memory_format=torch.channels_last_3d)
        return super().forward(turned).contiguous()
