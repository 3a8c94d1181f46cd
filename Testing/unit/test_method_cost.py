"""What a step of every method costs, counted, and what is told of it."""

from dataclasses import replace

import pytest
from torch import nn

from SemiSupSegLib.methods.catalogue import METHODS
from SemiSupSegLib.methods.quality_training import QUALITY_PHASE
from SemiSupSegLib.networks.base import FurtherDecoder, SegmentationNetwork
from Testing.every_phase import PHASES, batch_of, num_unlabelled, stand_of

SEGMENTING = [one for one in PHASES if one.phase != QUALITY_PHASE]
"""The quality network is small, and its own phase counts one pass of it for an update."""
FORWARD_PASSES = {
    "1": lambda options: (1, 1),
    "1 + 1 of unlabelled patches": lambda options: (1, 2),
    "1 + (passes + 1) of unlabelled patches": lambda options: (1, 2 + options.passes),
    "1 + 1 of unlabelled patches; those of the quality network are small": lambda options: (1, 2),
    "2, one of each network": lambda options: (2, 2),
    "1, the decoder `decoders` times": lambda options: (options.decoders, options.decoders),
    "1 of labelled patches + 4 of unlabelled ones": lambda options: (1, 4),
    "1 (1 + pseudo_labels.passes where a head learns its doubt)": lambda options: (1, 1),
    "1 + 1 of unlabelled patches (1 + head_passes where a head learns)": lambda options: (1, 2),
}
"""What `train --list-methods` says, as passes over a labelled and an unlabelled patch."""
OF_A_HEAD = {
    "1 (1 + pseudo_labels.passes where a head learns its doubt)": lambda options: (
        1 + options.pseudo_labels.passes
    ),
    "1 + 1 of unlabelled patches (1 + head_passes where a head learns)": lambda options: (
        1 + options.head_passes
    ),
}
"""What it says of a phase in which a head alone learns, over any patch."""
CHANGED = [
    ("uamt", {"target": "mean"}),
    ("uamt", {"passes": 3}),
    ("unimatch", {"feature_perturbation": 0.0}),
    ("mc_net", {"decoders": 2}),
]
"""Options that change what is declared."""


class Passes:
    """Counts passes over a patch, by what comes to the heads of a method's networks."""

    def __init__(self, method):
        self.forward = self.backward = self.encoded = 0
        self._last = None
        for network in method.networks().values():
            for module in network.modules():
                if isinstance(module, SegmentationNetwork):
                    module.segmentation_head.register_forward_hook(self._count)
                    module.encoder[-1].register_forward_hook(self._count_encoded)
                    if module.log_variance_head is not None:
                        module.log_variance_head.register_forward_hook(self._count)
                elif isinstance(module, FurtherDecoder):
                    module.head.register_forward_hook(self._count)

    def _count(self, head: nn.Module, arguments, output):
        (features,) = arguments
        # Both heads say something of the same pass.
        if self._last is not None and features.data_ptr() == self._last.data_ptr():
            return
        self._last = features
        self.forward += len(features)
        # Of a head that learns alone no gradient goes back through the network.
        if features.requires_grad:
            features.register_hook(self._count_backward)

    def _count_backward(self, gradient):
        self.backward += len(gradient)

    def _count_encoded(self, level, arguments, output):
        self.encoded += len(output)


def declared(phase, labelled, unlabelled):
    return replace(
        phase, labelled_per_batch=labelled, unlabelled_per_batch=unlabelled
    ).work_per_update


def counted(case, **changes):
    """Return a phase, a step's passes, and how many patches of each kind it had."""
    stand = stand_of(case, **changes)
    passes = Passes(stand.method)
    batch = batch_of(stand, labelled=2, unlabelled=3)
    stand.step(batch).total.backward()
    return stand, passes, batch.num_labelled, num_unlabelled(batch)


@pytest.mark.parametrize("case", SEGMENTING, ids=str)
def test_a_step_takes_the_passes_that_its_phase_declares_and_the_list_of_methods_tells(case):
    stand, passes, labelled, unlabelled = counted(case)

    # A backward pass takes as long as two forward ones.
    units = passes.forward + 2 * passes.backward
    assert units == declared(stand.phase, labelled, unlabelled)
    told, options = METHODS[case.method].forward_passes, stand.method._options
    of_labelled, of_unlabelled = FORWARD_PASSES[told](options)
    if not stand.phase.train_mode:
        of_labelled = of_unlabelled = OF_A_HEAD[told](options)
    assert passes.forward == of_labelled * labelled + of_unlabelled * unlabelled
    if case.method == "mc_net":
        # One encoder for all decoders.
        assert passes.encoded == labelled + unlabelled


@pytest.mark.parametrize(("method", "changes"), CHANGED, ids=str)
def test_a_phase_declares_the_passes_of_other_options(method, changes):
    (case,) = (one for one in PHASES if one.method == method)

    stand, passes, labelled, unlabelled = counted(case, **changes)

    units = passes.forward + 2 * passes.backward
    assert units == declared(stand.phase, labelled, unlabelled)
