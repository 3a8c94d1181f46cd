"""A step of every method in bfloat16, and with predictions as sure as they can be."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from Testing.every_phase import PHASES, SIDE, batch_of, heads_of, stand_of

every_phase = pytest.mark.parametrize("case", PHASES, ids=str)
SHARES = ("agreed_share", "sure_share", "high_share", "foreground_share")
"""Figures that count voxels, of which some are at a limit: they are off by a share of all."""
ROBUST = {
    # A voxel at the threshold is sure or, rounded, is not, and costs all or nothing: of so low a
    # threshold there are few.
    "unimatch": {"threshold": 0.3},
    # The example of docs/add-a-method.md. A loss of what two predictions hardly differ in is mostly
    # rounding: with more noise they differ.
    "pi_model": {"noise": 1.0},
}
"""Options with which rounding decides nothing. Of hard labels some do flip, where two classes are
about as likely: there they cost about the same, and all losses were within 1 %."""
AUTOCAST = {"device_type": "cpu", "dtype": torch.bfloat16}


class LossOperations(TorchDispatchMode):
    """Remembers what is taken of whole maps to make a loss, and in which number format.

    Networks take no exponentials, logarithms and sums of maps as large as the patch.
    """

    _NAMES = ("_softmax", "_log_softmax", "exp", "log", "logsumexp", "xlogy", "sum")

    def __init__(self):
        super().__init__()
        self.formats = {}

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        name = operation.overloadpacket.__name__
        if name in self._NAMES and arguments[0].shape[-3:] == (SIDE, SIDE, SIDE):
            self.formats.setdefault(name, set()).add(arguments[0].dtype)
        return operation(*arguments, **(keywords or {}))


@every_phase
def test_a_step_in_bfloat16_has_the_losses_of_one_in_float32(case):
    stand = stand_of(case, **ROBUST.get(case.method, {}))
    batch = batch_of(stand)

    exact = stand.step(batch)
    with torch.autocast(**AUTOCAST), LossOperations() as operations:
        rounded = stand.step(batch)

    # Networks did compute in bfloat16, and losses did not.
    assert not torch.equal(rounded.total, exact.total)
    assert rounded.total.dtype == torch.float32
    for name, formats in operations.formats.items():
        assert torch.bfloat16 not in formats, name
    for name, value in exact.terms.items():
        tolerance = {"rtol": 0, "atol": 0.02} if name in SHARES else {"rtol": 0.02, "atol": 0}
        torch.testing.assert_close(
            rounded.terms[name], value, **tolerance, msg=lambda told, name=name: f"{name}: {told}"
        )


@every_phase
def test_logits_of_two_hundred_give_finite_losses_and_gradients(case):
    stand = stand_of(case)
    batch = batch_of(stand)
    enlarged = []

    def enlarge(module, arguments, logits):
        large = 200 * logits / logits.detach().abs().max()
        if large.requires_grad:
            large.retain_grad()
            enlarged.append(large)
        return large

    for network in stand.method.networks().values():
        for head in heads_of(network):
            head.register_forward_hook(enlarge)

    exact = stand.step(batch)
    exact.total.backward()
    assert all(one.grad.isfinite().all() for one in stand.phase.group.parameters)
    with torch.autocast(**AUTOCAST):
        rounded = stand.step(batch)
    # As far as the logits: in bfloat16, PyTorch 2.13's own gradient of a convolution's weights has
    # values that nobody wrote where a map is 2 voxels deep (CPUs with AVX-512), whatever the loss.
    rounded.total.backward()

    for result in (exact, rounded):
        for name, value in result.terms.items():
            assert value.isfinite(), name
    # A prediction that others are held to has none.
    assert all(one.grad.isfinite().all() for one in enlarged if one.grad is not None)
