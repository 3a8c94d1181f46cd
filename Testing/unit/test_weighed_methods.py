"""Re-weighting by quality reaches the loss of every method: weights of 1 and of 0."""

from dataclasses import replace

import pytest
import torch

from SemiSupSegLib.methods.catalogue import METHODS
from SemiSupSegLib.methods.protocol import Clock, NetworkOptions, ParameterGroup, Phase
from SemiSupSegLib.methods.reweighting import CaseQuality
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.networks.quality import QualityNetwork, QualityNetworkOptions
from Testing.method_steps import a_visible_batch

SIDE = 16
NETWORK = NetworkOptions(name="transaspp", options={"width": 4, "lite": True})
SECOND = NetworkOptions(name="unet3d", options={"width": 4, "norm": "group"})
NAMES = [
    name
    for name, one in METHODS.items()
    if not one.goes_on and name not in ("supervised", "curriculum", "quality_guided")
]
"""Those have tests of their own, or nothing to weigh."""
BESIDES = {
    # A term that is not weighed: it compares features, not labels.
    "dual_network": {"contrast_weight": 0.0},
    # Nothing is sure before the first update.
    "unimatch": {"threshold": 0.1},
}


def build(name, network=None):
    torch.manual_seed(len(name))
    chosen = network or NETWORK
    return build_network(chosen.name, chosen.options, in_channels=1, num_classes=3)


def a_batch():
    batch = a_visible_batch(2, 2, 3, with_views=True)
    return replace(batch, case_ids=("a", "b", "c", "d"))


def terms_of(name, weights):
    """Return the terms of a step, every case weighed alike; None: nothing is weighed."""
    changes = {"network": NETWORK, **BESIDES.get(name, {})}
    if name in ("cross_teaching", "dual_network"):
        changes["second"] = SECOND
    torch.manual_seed(0)
    method = METHODS[name].make(replace(METHODS[name].options(), **changes), build, 100)
    if weights is not None:
        quality = CaseQuality(
            QualityNetwork(QualityNetworkOptions(width=4, side=16), in_channels=1, num_classes=3),
            weighs=True,
        )
        quality.weights = {case: [weights] * 3 for case in ("c", "d")}
        method.quality = quality
    group = ParameterGroup(parameters=list(method.networks()["student_raw"].parameters()))
    stage = 2 if name == "best" else None
    phase = Phase(name="p", iterations=100, group=group, labelled_per_batch=2, stage=stage)
    torch.manual_seed(7)
    return method.step(phase, a_batch(), Clock(phase_iteration=99, iteration=99)).terms


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_one_change_nothing(name):
    plain, weighed = terms_of(name, None), terms_of(name, 1.0)

    assert plain.keys() == weighed.keys()
    for term, value in plain.items():
        torch.testing.assert_close(weighed[term], value, msg=term)


@pytest.mark.parametrize("name", NAMES)
def test_with_weights_of_nothing_only_labels_are_learnt_from(name):
    terms = terms_of(name, 0.0)

    pseudo = terms["high" if name == "best" else "unlabelled"]
    plain = terms_of(name, None)["high" if name == "best" else "unlabelled"]
    if name == "mc_net":
        # Its decoders agree on labelled patches, too.
        assert 0 < float(pseudo) < float(plain)
    else:
        assert float(pseudo) == 0
        assert float(plain) != 0


@pytest.mark.parametrize("name", [one for one in NAMES if one not in ("mc_net", "urpc")])
def test_weights_are_absolute(name):
    # URPC's weights of agreement are relative by its paper, MC-Net learns from labels as well.
    whole, half = terms_of(name, 1.0), terms_of(name, 0.5)

    pseudo = "high" if name == "best" else "unlabelled"
    assert float(half[pseudo]) < 0.75 * float(whole[pseudo])


@pytest.mark.parametrize(
    "name", [name for name, one in METHODS.items() if hasattr(one.options(), "quality")]
)
def test_a_method_that_has_the_options_has_the_network_that_judges(name):
    entry = METHODS[name]
    quality = replace(entry.options().quality, reweight=True)
    options = replace(entry.options(), network=NETWORK, quality=quality)
    if hasattr(options, "second") and options.second is not None:
        options = replace(options, second=SECOND)

    assert "quality" in entry.make(options, build, 200).networks()
