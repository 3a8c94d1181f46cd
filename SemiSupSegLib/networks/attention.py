"""Attention: a gate on skip connections, and a transformer block on the voxels of a map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from SemiSupSegLib.networks.convolution import Convolution


class AttentionGate(nn.Module):
    """Weights the voxels of a skip connection by what the coarser level found there.

    Source: Oktay et al. 2018, Attention U-Net, Eq. 1–2; here both inputs have the same size.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 4)
        self.skip = Convolution(channels, inner, 1, bias=False)
        self.coarse = Convolution(channels, inner, 1)
        self.weight = Convolution(inner, 1, 1)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """Return `skip` (B, C, D, H, W) times a weight in (0, 1) per voxel."""
        inner = F.relu(self.skip(skip) + self.coarse(coarse), inplace=True)
        return skip * torch.sigmoid(self.weight(inner))


class TransformerBlock(nn.Module):
    """Lets every voxel of a coarse map look at every other.

    A depth-wise convolution is the position encoding: it needs no table, so any patch size
    works, and through its zero padding it knows the order. Then pre-norm attention and a
    pre-norm perceptron, both residual.
    """

    def __init__(self, channels: int, *, dropout: float, head_channels: int = 32) -> None:
        super().__init__()
        self.num_heads = max(channels // head_channels, 1)
        if channels % self.num_heads:
            raise ValueError(
                f"the transformer has {channels} channels, not divisible by its "
                f"{self.num_heads} heads; choose a width that is a power of two"
            )
        self.position = nn.Conv3d(channels, channels, 3, padding=1, groups=channels)
        self.attention_norm = nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)
        self.perceptron_norm = nn.LayerNorm(channels)
        self.perceptron = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )
        self.dropout: nn.Module = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        """Return a map of the same shape (B, C, D, H, W)."""
        values = values + self.position(values)
        tokens = values.flatten(2).transpose(1, 2)
        tokens = tokens + self.dropout(self._attend(self.attention_norm(tokens)))
        tokens = tokens + self.dropout(self.perceptron(self.perceptron_norm(tokens)))
        return tokens.transpose(1, 2).reshape(values.shape)

    def _attend(self, tokens: Tensor) -> Tensor:
        batch, count, channels = tokens.shape
        stacked = self.query_key_value(tokens).view(batch, count, 3, self.num_heads, -1)
        query, key, value = stacked.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.projection(attended.transpose(1, 2).reshape(batch, count, channels))
        return mixed
