"""A head on frozen features learns the doubt that stochastic passes show (docs/methods.md, 2.)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from SemiSupSegLib.inference.stochastic import dropout_logits
from SemiSupSegLib.losses.uncertainty import log_variance_loss, pass_statistics
from SemiSupSegLib.methods.protocol import Batch, ParameterGroup, Phase, StepResult
from SemiSupSegLib.methods.pseudo_labels import PseudoLabelOptions
from SemiSupSegLib.networks.base import SegmentationNetwork


def distil_phase(
    name: str,
    network: SegmentationNetwork,
    *,
    iterations: int,
    rate: float,
    passes: int,
    labelled_per_batch: int,
    unlabelled_per_batch: int = 0,
    unlabelled: Sequence[str] = (),
) -> Phase:
    """Return the phase in which the head of a moving average learns, and nothing else.

    Args:
        name: Of the phase.
        network: Frozen; has a log-variance head.
        iterations: Optimizer updates.
        rate: Learning rate at the start.
        passes: Stochastic predictions of each patch.
        labelled_per_batch: Patches of labelled cases, whose labels are not used.
        unlabelled_per_batch: Patches of other cases.
        unlabelled: Those cases.
    """
    head = list(network.head_parameters())
    return Phase(
        name=name,
        iterations=iterations,
        group=ParameterGroup(parameters=head, rate=rate, weight_decay=0.0),
        labelled_per_batch=labelled_per_batch,
        unlabelled_per_batch=unlabelled_per_batch,
        unlabelled_cases=lambda: tuple(unlabelled),
        train_mode=False,
        passes_per_patch=max(2, passes) + 1,
        judged=(),
        # The averaged networks are frozen; only their head learns here, and only now.
        prologue=lambda: _set_trainable(head, True),
        epilogue=lambda: _set_trainable(head, False),
    )


def distil_step(
    network: SegmentationNetwork, batch: Batch, options: PseudoLabelOptions
) -> StepResult:
    """Regress the head on the log variance of stochastic passes; labels are not used."""
    with torch.no_grad():
        stem = network.stem(batch.images)
        variance = pass_statistics(
            logits.float().softmax(1)
            for logits in dropout_logits(network, stem, max(2, options.passes))
        ).variance
        features = network.body(stem)
        logits = network.segment(features)
    loss = log_variance_loss(
        network.log_variance(features, logits),
        variance,
        batch.valid,
        kind=options.log_variance_loss,
    )
    return StepResult(total=loss, terms={"log_variance": loss.detach()})


def _set_trainable(parameters: Sequence[nn.Parameter], trainable: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(trainable)
