"""Single steps of a method on made-up patches, without trainer and run folder."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from SemiSupSegLib.methods.joint import Joint
from SemiSupSegLib.methods.protocol import (
    Batch,
    Build,
    Clock,
    Method,
    NetworkOptions,
    Phase,
    StepResult,
)
from SemiSupSegLib.methods.supervised import Supervised, supervised_step
from SemiSupSegLib.networks.base import SegmentationNetwork
from SemiSupSegLib.networks.catalogue import build_network

TINY = {"width": 4, "lite": True, "levels": 4}
"""TransASPP-UNet that takes patches of 16³, with dropout."""
ALL_LEVELS = {"width": 4, "lite": True}
"""The same with four levels in the decoder."""


class SupervisedBesideUnlabelled(Supervised):
    """Supervised training whose network sees the unlabelled patches, too: its draws are equal."""

    def step(self, phase: Phase, batch: Batch, clock: Clock) -> StepResult:
        """Return the loss on the labelled patches of a batch."""

        def network(images: Tensor) -> Tensor:
            return self._raw(images)[: batch.num_labelled]

        return supervised_step(network, batch, self._options.loss, None)


def build_of(
    options: Mapping[str, Any] = TINY, name: str = "transaspp", num_classes: int = 2
) -> Build:
    """Return what makes networks of one channel; their weights are always the same."""

    def build(_: str, network: NetworkOptions | None = None) -> SegmentationNetwork:
        # On a busy machine a team of threads takes many times as long for maps this small.
        torch.set_num_threads(1)
        torch.manual_seed(7)
        return build_network(name, options, in_channels=1, num_classes=num_classes)

    return build


def a_batch(labelled: int = 2, unlabelled: int = 2, num_classes: int = 2) -> Batch:
    """Return patches of 16³, a slice of each in the padding."""
    draw = torch.Generator().manual_seed(5)
    count = labelled + unlabelled
    valid = torch.ones(count, 16, 16, 16, dtype=torch.bool)
    valid[:, 0] = False
    labels = torch.randint(0, num_classes, (labelled, 16, 16, 16), generator=draw)
    return Batch(
        images=torch.randn(count, 1, 16, 16, 16, generator=draw),
        labels=labels.masked_fill(~valid[:labelled], 255),
        valid=valid,
        maps={},
        case_ids=tuple(f"case{number}" for number in range(count)),
    )


def a_visible_batch(
    labelled: int = 1, unlabelled: int = 2, num_classes: int = 2, *, with_views: bool = False
) -> Batch:
    """Return patches of 16³ whose labels follow from their intensities, without padding.

    Args:
        labelled: Patches.
        unlabelled: Patches.
        num_classes: Steps of intensity, 1 apart, above 0.
        with_views: Whether there are weak and second views, and a map of pseudo-labels.
    """
    torch.manual_seed(3)
    images = torch.randn(labelled + unlabelled, 1, 16, 16, 16)
    labels = sum((images[:labelled, 0] > step).long() for step in range(num_classes - 1))
    views: dict[str, Any] = {}
    if with_views:
        views = {"weak": images[labelled:], "second": images[labelled:] + 0.1}
    pseudo = torch.ones(unlabelled, 16, 16, 16, dtype=torch.uint8)
    return Batch(
        images=images,
        labels=torch.as_tensor(labels),
        valid=torch.ones(len(images), 16, 16, 16, dtype=torch.bool),
        maps={"pseudo_label": pseudo} if with_views else {},
        case_ids=tuple(map(str, range(len(images)))),
        **views,
    )


def the_phase_of(method: Method, unlabelled: tuple[str, ...] = ("case2", "case3")) -> Phase:
    """Return the only phase of a method."""
    data: Any = SimpleNamespace(
        labelled=("case0", "case1"), unlabelled=unlabelled, tell=lambda *_, **__: None
    )
    (phase,) = method.phases(data)
    return phase


def weights_after(method: Method, batch: Batch, updates: int = 3) -> dict[str, dict[str, Tensor]]:
    """Return the weights of all networks after a few updates of the same batch."""
    phase = the_phase_of(method)
    parameters = phase.group.parameters
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    for network in method.networks().values():
        network.train(any(one.requires_grad for one in network.parameters()))
    for number in range(updates):
        torch.manual_seed(number)
        clock = Clock(phase_iteration=number, iteration=number)
        optimizer.zero_grad(set_to_none=True)
        method.step(phase, batch, clock).total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        method.after_step(phase, clock)
    return {
        name: {key: value.clone() for key, value in network.state_dict().items()}
        for name, network in method.networks().items()
    }


def are_equal(first: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Return whether the weights are the same to the bit."""
    return first.keys() == other.keys() and all(
        torch.equal(value, other[key]) for key, value in first.items()
    )


def learning(network: nn.Module, loss: Tensor) -> set[str]:
    """Return the parts of a network, by the first word of their names, that a loss reaches."""
    names = [name for name, _ in network.named_parameters()]
    gradients = torch.autograd.grad(
        loss,
        [*network.parameters()],
        allow_unused=True,
        retain_graph=True,
    )
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient is None or gradient.isfinite().all(), name
    return {
        name.split(".")[0]
        for name, gradient in zip(names, gradients, strict=True)
        if gradient is not None and gradient.any()
    }


def further_loss_of(
    method: Joint, batch: Batch
) -> tuple[Tensor, list[Tensor], Mapping[str, Tensor]]:
    """Return a method's own loss of a batch, the logits that it was made of, and its figures."""
    torch.manual_seed(0)
    outputs = [*method.outputs(batch.images)]
    clock = Clock(phase_iteration=5, iteration=5)
    loss, figures = method.further_loss(outputs, batch, clock)
    return loss, outputs, figures
