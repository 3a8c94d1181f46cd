"""The methods by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.methods.bcp import BCP, BCPOptions
from SemiSupSegLib.methods.best import Best, BestOptions
from SemiSupSegLib.methods.best import scratch_bytes as best_scratch_bytes
from SemiSupSegLib.methods.copy_paste import less_mixing
from SemiSupSegLib.methods.corrections import Corrections, CorrectionsOptions
from SemiSupSegLib.methods.cps import CPS, CPSOptions
from SemiSupSegLib.methods.cross_teaching import CrossTeaching, CrossTeachingOptions
from SemiSupSegLib.methods.curriculum import (
    Curriculum,
    CurriculumOptions,
    fewer_passes,
    ranks_by_quality,
    scratch_bytes,
)
from SemiSupSegLib.methods.dual_network import DualNetwork, DualNetworkOptions
from SemiSupSegLib.methods.entropy import Entropy, EntropyOptions
from SemiSupSegLib.methods.mc_net import MCNet, MCNetOptions
from SemiSupSegLib.methods.mean_teacher import MeanTeacher, MeanTeacherOptions
from SemiSupSegLib.methods.protocol import Method, NetworkOptions
from SemiSupSegLib.methods.quality_guided import QualityGuided, QualityGuidedOptions
from SemiSupSegLib.methods.reweighting import reweighted
from SemiSupSegLib.methods.supervised import Supervised, SupervisedOptions
from SemiSupSegLib.methods.uamt import UAMT, UAMTOptions
from SemiSupSegLib.methods.unimatch import UniMatch, UniMatchOptions
from SemiSupSegLib.methods.urpc import URPC, URPCOptions


def _nothing(options: object, share: float) -> Mapping[str, str]:
    return {}


def _no_files(options: object, num_classes: int, voxels: Sequence[int]) -> int:
    return 0


def _the_same(options: object, task: Task) -> Mapping[str, str]:
    return {}


def _one_network(options: Any) -> Sequence[NetworkOptions]:
    return (options.network,)


def _twice(options: Any) -> Sequence[NetworkOptions]:
    return (options.network, options.network)


def _two_networks(options: Any) -> Sequence[NetworkOptions]:
    return (options.network, options.second)


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """A method that can be chosen by name."""

    title: str
    """What it does, in a few words."""
    paper: str
    needs: str
    """What data it learns from, in words."""
    forward_passes: str
    """Of a network over a batch, in one update."""
    options: type[Any]
    """Dataclass of its options; has a field `network`."""
    make: Callable[..., Method]
    """Called with options, build, iterations."""
    when_shorter: Callable[[Any, float], Mapping[str, str]] = _nothing
    """Called with the preset's options and the share (0-1) of its updates that a shorter run has;
    returns settings, as of `--set`, that fit it better. What a user sets goes before them."""
    for_task: Callable[[Any, Task], Mapping[str, str]] = _the_same
    """The same, called with the options and the run's task."""
    scratch_bytes: Callable[[Any, int, Sequence[int]], int] = _no_files
    """Called with the options, the number of classes and the voxels of each unlabelled case;
    returns what the method's work files take at most."""
    learning: Callable[[Any], Sequence[NetworkOptions]] = _one_network
    """Called with the options; returns the networks that learn in one update, whose memory adds
    up."""
    label: str = ""
    """What people call it; empty: its name, in words."""
    goes_on: bool = False
    """Whether it starts from a finished run (`learn`), not from nothing (`train`)."""


METHODS: dict[str, MethodEntry] = {
    "supervised": MethodEntry(
        title="labelled cases alone",
        paper="-",
        needs="labelled cases",
        forward_passes="1",
        options=SupervisedOptions,
        make=Supervised,
    ),
    "mean_teacher": MethodEntry(
        title="predictions agree with those of the network's own moving average",
        paper="Tarvainen & Valpola 2017, arXiv 1703.01780",
        needs="labelled and unlabelled cases",
        forward_passes="1 + 1 of unlabelled patches",
        options=MeanTeacherOptions,
        make=reweighted(MeanTeacher),
    ),
    "uamt": MethodEntry(
        label="UA-MT",
        title="Mean Teacher where the teacher is sure",
        paper="Yu et al. 2019, arXiv 1907.07034",
        needs="labelled and unlabelled cases; a network with dropout",
        forward_passes="1 + (passes + 1) of unlabelled patches",
        options=UAMTOptions,
        make=reweighted(UAMT),
    ),
    "quality_guided": MethodEntry(
        title="pseudo-labels weighed and masks improved by a network that judges them",
        paper="Abhishek & Hamarneh 2026, arXiv 2606.01753",
        needs="labelled and unlabelled cases",
        forward_passes="1 + 1 of unlabelled patches; those of the quality network are small",
        options=QualityGuidedOptions,
        make=reweighted(QualityGuided, needs=lambda options: True),
    ),
    "cps": MethodEntry(
        label="CPS",
        title="two networks learn from each other's labels",
        paper="Chen et al. 2021, arXiv 2106.01226",
        needs="labelled and unlabelled cases",
        forward_passes="2, one of each network",
        options=CPSOptions,
        make=reweighted(CPS),
        learning=_twice,
    ),
    "cross_teaching": MethodEntry(
        title="two architectures learn from each other's labels",
        paper="Luo et al. 2022, arXiv 2112.04894",
        needs="labelled and unlabelled cases",
        forward_passes="2, one of each network",
        options=CrossTeachingOptions,
        make=reweighted(CrossTeaching),
        learning=_two_networks,
    ),
    "dual_network": MethodEntry(
        title="two architectures agree, where they are sure, and on what classes look like",
        paper="Lu et al. 2025, arXiv 2509.13084",
        needs="labelled and unlabelled cases",
        forward_passes="2, one of each network",
        options=DualNetworkOptions,
        make=reweighted(DualNetwork),
        learning=_two_networks,
    ),
    "entropy": MethodEntry(
        title="predictions on unlabelled cases are made certain",
        paper="Grandvalet & Bengio 2004, Semi-supervised Learning by Entropy Minimization",
        needs="labelled and unlabelled cases",
        forward_passes="1",
        options=EntropyOptions,
        make=reweighted(Entropy),
    ),
    "urpc": MethodEntry(
        label="URPC",
        title="predictions of the decoder's levels agree",
        paper="Luo et al. 2021, arXiv 2012.07042",
        needs="labelled and unlabelled cases",
        forward_passes="1",
        options=URPCOptions,
        make=reweighted(URPC),
    ),
    "mc_net": MethodEntry(
        label="MC-Net+",
        title="decoders that grow maps in different ways agree",
        paper="Wu et al. 2022, arXiv 2109.09960",
        needs="labelled and unlabelled cases",
        forward_passes="1, the decoder `decoders` times",
        options=MCNetOptions,
        make=reweighted(MCNet),
        # Two further decoders are about one network more.
        learning=_twice,
    ),
    "bcp": MethodEntry(
        label="BCP",
        title="labelled and unlabelled patches exchange a box",
        paper="Bai et al. 2023, arXiv 2305.00673",
        needs="labelled and unlabelled cases",
        forward_passes="1 + 1 of unlabelled patches",
        options=BCPOptions,
        make=reweighted(BCP),
    ),
    "unimatch": MethodEntry(
        label="UniMatch",
        title="strong views and disturbed features agree with the sure part of a weak view",
        paper="Yang et al. 2023, arXiv 2208.09910",
        needs="labelled and unlabelled cases",
        forward_passes="1 of labelled patches + 4 of unlabelled ones",
        options=UniMatchOptions,
        make=reweighted(UniMatch),
        # Of an unlabelled patch it keeps three passes, of a labelled one one.
        learning=_twice,
    ),
    "curriculum": MethodEntry(
        title="teacher, trusted cases first, doubtful voxels unlearned",
        paper="Liu, Ding, Zhang 2026, arXiv 2602.08797",
        needs="labelled and unlabelled cases",
        forward_passes="1 (1 + pseudo_labels.passes where a head learns its doubt)",
        options=CurriculumOptions,
        make=reweighted(Curriculum, needs=ranks_by_quality),
        when_shorter=fewer_passes,
        for_task=less_mixing,
        scratch_bytes=scratch_bytes,
    ),
    "best": MethodEntry(
        title="copy-paste, labels from the moving average, trusted cases first",
        paper="-",
        needs="labelled and unlabelled cases",
        forward_passes="1 + 1 of unlabelled patches (1 + head_passes where a head learns)",
        options=BestOptions,
        make=reweighted(Best),
        for_task=less_mixing,
        scratch_bytes=best_scratch_bytes,
    ),
    "corrections": MethodEntry(
        title="a finished student goes on with reviewed cases",
        paper="-",
        needs="a finished run, its labelled cases, and reviewed ones",
        forward_passes="1 (1 + pseudo_labels.passes where a head learns its doubt)",
        options=CorrectionsOptions,
        make=Corrections,
        goes_on=True,
    ),
}
"""All of them; `train` offers those that start from nothing."""


def label_of(name: str) -> str:
    """Return what people call the method `name`."""
    return METHODS[name].label or name.replace("_", " ").capitalize()


def find_method(name: str) -> MethodEntry:
    """Return the method `name`.

    Raises:
        UsageError: If there is none; the message names those that `train` offers.
    """
    if name not in METHODS:
        offered = [known for known, one in METHODS.items() if not one.goes_on]
        near = difflib.get_close_matches(name, offered, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UsageError(f"There is no method '{name}'.{hint} Choose one of: {', '.join(offered)}.")
    return METHODS[name]
