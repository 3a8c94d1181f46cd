"""A convolution that is quick on a CPU with few channels, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FEW = 8
"""Channels up to which channels-last is faster; with 16 it is sometimes, with 32 slower."""


class Convolution(nn.Conv3d):
    """`nn.Conv3d` by quicker ways on a CPU; takes and gives what that does, (B, C, D, H, W).

    * 1³: a matrix product. A training step of the light network takes two thirds of the processor
      time on two threads (4 to 16 patches of 32³, 4 of 48 × 64²), on one thread with 16 patches.
    * 3³ with few channels in or out: through channels-last memory and back. That takes 0.4 (8 to 8
      channels) to 0.7 (24 to 8) of the time, and the rest of a network stays as it was: group
      normalization and ReLU are slower in channels-last memory.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Return the convolved values, in the memory format of `values`."""
        if values.device.type != "cpu" or not values.is_contiguous():
            return super().forward(values)
        if self._mixes_channels:
            return self._mix_channels(values)
        if min(self.in_channels, self.out_channels) > _FEW:
            return super().forward(values)
        turned = values.contiguous(memory_format=torch.channels_last_3d)
        return super().forward(turned).contiguous()

    @property
    def _mixes_channels(self) -> bool:
        is_plain = self.stride == (1, 1, 1) and self.padding == (0, 0, 0) and self.groups == 1
        return self.kernel_size == (1, 1, 1) and is_plain

    def _mix_channels(self, values: Tensor) -> Tensor:
        # One weight for each patch: a product that is broadcast instead is copied first.
        weight = self.weight.flatten(1).expand(len(values), -1, -1)
        flat = values.flatten(2)
        if self.bias is None:
            mixed = torch.bmm(weight, flat)
        else:
            mixed = torch.baddbmm(self.bias[None, :, None], weight, flat)
        return mixed.view(len(values), -1, *values.shape[2:])
