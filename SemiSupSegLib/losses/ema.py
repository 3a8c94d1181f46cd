"""A teacher that is the moving average of its student."""

from __future__ import annotations

import copy
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

_SLOTS: WeakKeyDictionary[nn.Module, list[tuple[str, dict[str, Any], str]]] = WeakKeyDictionary()
"""By network: name of each tensor, and the place in its module where it can be exchanged."""


def teacher_of(student: Network) -> Network:
    """Return a copy in eval mode without gradients, to be moved by `update_teacher`."""
    return copy.deepcopy(student).requires_grad_(False).eval()


def ema_decay(iteration: int, decay: float) -> float:
    """Return α_t = min(t / (t + 10), decay): the first update copies the student.

    Until the decay is reached the average reaches back over a tenth of the updates so far, not over
    all of them as with UA-MT's min(1 − 1/(t + 1), decay), which lags in short runs (docs/adr/0020).
    Source: Tarvainen & Valpola 2017, Mean Teacher, but for that.
    """
    return min(iteration / (iteration + 10), decay)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, iteration: int, decay: float) -> None:
    """Move the teacher, in place: θ' ← α_t θ' + (1 − α_t) θ.

    Call it after the optimizer's update, and not when the gradient scaler skipped the update.
    Floating-point buffers move like parameters, others are copied.

    Args:
        teacher: Of the same architecture as the student.
        student: Is not changed.
        iteration: The global one, from 0; it goes on after a resume and across phases.
        decay: Upper limit of α, in [0, 1].

    Raises:
        ValueError: If the decay is outside [0, 1] or the architectures differ.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"decay is {decay}, must be in [0, 1]")
    theirs = _tensors(teacher)
    ours = _tensors(student)
    if theirs.keys() != ours.keys():
        different = sorted(theirs.keys() ^ ours.keys())
        raise ValueError(f"teacher and student differ in {', '.join(different[:3])}")
    step = 1 - ema_decay(iteration, decay)
    moving = [name for name, value in theirs.items() if value.is_floating_point()]
    # lerp, not mul and add: equal weights stay bitwise equal. One call for all tensors: a loop took
    # three times as long.
    torch._foreach_lerp_(
        [theirs[name] for name in moving], [ours[name].to(theirs[name]) for name in moving], step
    )
    for name in theirs.keys() - set(moving):
        theirs[name].copy_(ours[name])


def _tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers by name.

    Where they are is looked up once: to walk through the modules takes longer than the average.
    """
    slots = _SLOTS.get(network)
    if slots is None:
        slots = []
        for prefix, module in network.named_modules():
            start = f"{prefix}." if prefix else ""
            for owned in (module._parameters, module._buffers):
                slots += [
                    (start + name, owned, name) for name, one in owned.items() if one is not None
                ]
        _SLOTS[network] = slots
    return {path: owned[name] for path, owned, name in slots}
