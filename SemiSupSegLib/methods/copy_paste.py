"""Copy-paste: patches exchange a box, so that labelled and unlabelled tissue meet in one image.

Source: Bai et al. 2023, CVPR (BCP), whose box of 2/3 of each side is kept. Which voxels carry
which kind of label moves along with the intensities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.losses.reduction import IGNORED
from SemiSupSegLib.methods.protocol import Batch

BOX_SIDE = 2 / 3
"""Side of the box, as a share of the patch's."""


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """Patches that hold labelled and pseudo-labelled voxels side by side, (B, ...)."""

    images: Tensor
    """Float32, (B, C, D, H, W)."""
    labels: Tensor
    """Class indices, 255 in pseudo-labelled voxels, int64 (B, D, H, W)."""
    pseudo_valid: Tensor
    """Boolean: the voxel is pseudo-labelled and not padding, (B, D, H, W)."""
    maps: Mapping[str, Tensor]
    """The unlabelled patches' maps; without meaning where `pseudo_valid` is false."""


def is_drawn(probability: float) -> bool:
    """Draw from PyTorch's global generator, which the trainer seeds before each step."""
    return probability > 0 and float(torch.rand(())) < probability


def less_mixing(options: Any, task: Task) -> Mapping[str, str]:
    """Return the setting that leaves copy-paste out of a task with one class.

    There it cost Dice, on folds of the only such data set that was tried (docs/adr/0007, 0016).

    Args:
        options: Those of the preset; have a field `copy_paste`.
        task: The run's.
    """
    return {"copy_paste": "0"} if options.copy_paste and len(task.classes) == 1 else {}


def draw_box(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return a boolean mask (D, H, W), true in a box somewhere in the patch."""
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    place = []
    for side in shape:
        length = max(1, int(side * BOX_SIDE))
        start = int(torch.randint(0, side - length + 1, ()))
        place.append(slice(start, start + length))
    mask[tuple(place)] = True
    return mask


def draw_cut(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return a boolean mask (D, H, W), true in a box of 2 to 40 % of the volume.

    Its sides differ by a factor of at most 4, as shares of the patch's. Source: CutMix (Yun et al.
    2019), with the volumes of UniMatch.
    """
    volume = 0.02 + 0.38 * float(torch.rand(()))
    ratios = [0.5 + 1.5 * float(one) for one in torch.rand(len(shape))]
    scale = (volume / math.prod(ratios)) ** (1 / len(shape))
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    place = []
    for side, ratio in zip(shape, ratios, strict=True):
        length = min(side, max(1, round(side * ratio * scale)))
        start = int(torch.randint(0, side - length + 1, ()))
        place.append(slice(start, start + length))
    mask[tuple(place)] = True
    return mask


def exchange_labelled(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Paste into each patch a box of the patch before it, label included.

    Args:
        images: (L, C, D, H, W).
        labels: (L, D, H, W).
    """
    box = draw_box(tuple(labels.shape[1:]), images.device)
    return (
        torch.where(box, images.roll(1, 0), images),
        torch.where(box, labels.roll(1, 0), labels),
    )


def exchange_with_unlabelled(batch: Batch) -> Mixed:
    """Exchange a box between labelled and unlabelled patches.

    The first rows show a labelled box in unlabelled surroundings, as many as there were labelled
    patches; the others an unlabelled box in labelled surroundings. Where there are more patches
    of one kind, the other kind is used again.
    """
    labelled = batch.num_labelled
    unlabelled = len(batch.images) - labelled
    device = batch.images.device
    box = draw_box(tuple(batch.labels.shape[1:]), device)
    own = torch.arange(labelled, device=device)
    others = torch.arange(unlabelled, device=device)
    from_labelled = torch.cat([own, others % labelled])
    from_unlabelled = torch.cat([own % unlabelled, others])
    known = torch.stack([box] * labelled + [~box] * unlabelled)
    images = torch.where(
        known[:, None],
        batch.images[:labelled][from_labelled],
        batch.images[labelled:][from_unlabelled],
    )
    return Mixed(
        images=images,
        labels=torch.where(known, batch.labels[from_labelled], IGNORED),
        pseudo_valid=batch.valid[labelled:][from_unlabelled] & ~known,
        maps={name: values[from_unlabelled] for name, values in batch.maps.items()},
    )


def mix_into_unlabelled(batch: Batch) -> Mixed:
    """Exchange a box between each unlabelled patch and a labelled one; one row for each of them.

    All rows show a labelled box in unlabelled surroundings, or all the reverse, as is drawn.
    """
    labelled = batch.num_labelled
    known = draw_box(tuple(batch.labels.shape[1:]), batch.images.device)
    if is_drawn(0.5):
        known = ~known
    partner = torch.arange(len(batch.images) - labelled, device=known.device) % labelled
    return Mixed(
        images=torch.where(known, batch.images[:labelled][partner], batch.images[labelled:]),
        labels=torch.where(known, batch.labels[partner], IGNORED),
        pseudo_valid=batch.valid[labelled:] & ~known,
        maps=batch.maps,
    )
