"""Varying patches on the device: turns and flips for everything, intensity for images only."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from SemiSupSegLib.networks.upsampling import double_size
from SemiSupSegLib.training.options import AugmentationOptions


def turn(tensors: list[Tensor], turns: tuple[int, tuple[int, ...]]) -> list[Tensor]:
    """Apply one patch's quarter turns and flips to tensors that end in D, H, W."""
    quarter_turns, flips = turns
    done = []
    for tensor in tensors:
        if quarter_turns:
            tensor = torch.rot90(tensor, quarter_turns, (-2, -1))
        if flips:
            tensor = torch.flip(tensor, [axis - 3 for axis in flips])
        done.append(tensor)
    return done


def draw_turn(
    options: AugmentationOptions, generator: torch.Generator, *, square: bool
) -> tuple[int, tuple[int, ...]]:
    """Draw quarter turns in the axial plane (if `square`) and flipped axes for one patch."""
    draws = torch.rand(4, generator=generator).tolist()
    quarter_turns = int(draws[0] * 4) if square and options.rotate_axial else 0
    flips = tuple(axis for axis in options.flip_axes if draws[1 + axis] < 0.5)
    return quarter_turns, flips


def vary_intensity(
    image: Tensor, options: AugmentationOptions, generator: torch.Generator
) -> Tensor:
    """Return a patch (C, D, H, W) with gamma, contrast, brightness, blur, noise, low resolution.

    Each change is drawn for the whole patch, gamma, contrast and brightness per channel. Voxels
    that are 0 in every channel are outside the body and stay 0.
    """
    inside = image.abs().amax(0, keepdim=True) > 0
    channels = image.shape[0]
    chosen = (torch.rand(5, generator=generator) < options.intensity_probability).tolist()
    draws = torch.rand((4, channels), generator=generator).to(image.device)

    def per_channel(row: int) -> Tensor:
        return draws[row].view(channels, 1, 1, 1)

    # A copy that is changed in place: further tensors of its size take longer than the arithmetic.
    image = image.clone()
    if chosen[0]:
        low, high = math.log(options.gamma[0]), math.log(options.gamma[1])
        exponent = torch.exp(low + (high - low) * per_channel(0))
        smallest = image.amin((1, 2, 3), keepdim=True)
        span = (image.amax((1, 2, 3), keepdim=True) - smallest).clamp(min=1e-6)
        # On a CPU a third of the time that `pow` takes.
        image.sub_(smallest).div_(span).log_().mul_(exponent).exp_().mul_(span).add_(smallest)
    if chosen[1]:
        image.mul_(1 + options.contrast * (2 * per_channel(1) - 1))
    if chosen[2]:
        image.add_(options.brightness * (2 * per_channel(2) - 1))
    strengths = torch.rand(3, generator=generator).tolist()
    if strengths[2] < options.low_resolution:
        image = _at_half_resolution(image)
    elif chosen[3]:
        image = _blur(image, options.blur_sigma * strengths[0])
    if chosen[4]:
        noise = torch.randn(image.shape, generator=generator).to(image.device)
        image.add_(noise.mul_(options.noise * strengths[1]))
    return image.mul_(inside)


def _at_half_resolution(image: Tensor) -> Tensor:
    half = F.avg_pool3d(image[None], 2, ceil_mode=True)
    if any(side % 2 for side in image.shape[1:]):
        return F.interpolate(half, size=image.shape[1:], mode="trilinear")[0]
    return double_size(half)[0]


def _blur(image: Tensor, sigma: float) -> Tensor:
    if sigma < 0.2:
        return image
    reach = max(1, math.ceil(2 * sigma))
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    weights = (kernel / kernel.sum()).tolist()
    blurred = image
    for axis in (1, 2, 3):
        # Replicated edges: zero padding would darken the patch's rim. Shifted sums: on a CPU a
        # convolution with so small a kernel takes ten times as long.
        padding = [0] * 6
        padding[2 * (3 - axis)] = padding[2 * (3 - axis) + 1] = reach
        padded = F.pad(blurred[None], padding, mode="replicate")[0]
        size = blurred.shape[axis]
        blurred = padded.narrow(axis, 0, size) * weights[0]
        for shift, weight in enumerate(weights[1:], start=1):
            blurred.add_(padded.narrow(axis, shift, size), alpha=weight)
    return blurred
