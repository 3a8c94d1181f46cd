"""Every phase of every method on made-up patches, for what must hold for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from SemiSupSegLib.losses.adaptive_threshold import ClassThresholds
from SemiSupSegLib.losses.prototypes import PrototypeContrast
from SemiSupSegLib.losses.reduction import IGNORED
from SemiSupSegLib.methods.catalogue import METHODS
from SemiSupSegLib.methods.protocol import Batch, Clock, NetworkOptions, Phase, StepResult
from SemiSupSegLib.methods.pseudo_labels import PseudoLabelOptions
from SemiSupSegLib.methods.quality_options import QualityOptions
from SemiSupSegLib.methods.quality_training import QUALITY_PHASE
from SemiSupSegLib.methods.reweighting import CaseQuality
from SemiSupSegLib.networks.auxiliary_heads import AuxiliaryHeads
from SemiSupSegLib.networks.base import FurtherDecoder, SegmentationNetwork
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.networks.quality import QualityNetwork

NUM_CLASSES = 4
SIDE = 16
ITERATIONS = 600
NETWORK = NetworkOptions(name="transaspp", options={"width": 4, "lite": True, "levels": 4})
SECOND = NetworkOptions(name="unet3d", options={"width": 4, "norm": "group"})
_FULL_AT_ONCE = {"rampup_fraction": 0.0}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "urpc": {"levels": 3},
    "uamt": {"passes": 2},
    "cross_teaching": {"second": SECOND},
    "unimatch": {"threshold": 0.6},
    # The median of a batch is that of the batch twice; every block is an anchor.
    "dual_network": {
        "second": SECOND,
        "contrast_weight": 1.0,
        "kept_share_start": 0.5,
        "kept_share_end": 0.5,
        "anchors": 512,
    },
    "quality_guided": {
        "warmup_fraction": 0.0,
        "quality_warmup": 0.0,
        "quality_rampup": 0.0,
        "least_voxels": 1,
    },
    "curriculum": {
        "finish_share": 500,
        "pseudo_labels": PseudoLabelOptions(passes=2),
    },
    "corrections": {"has_teacher": True, "pseudo_labels": PseudoLabelOptions(passes=2)},
    "best": {"head_passes": 2},
}
"""What brings every part of a method into a step."""


@dataclass(frozen=True, kw_only=True)
class PhaseCase:
    """A phase of a method, and what is set for it."""

    method: str
    phase: str
    learns: tuple[str, ...]
    """Names of the method's networks that learn in it."""
    mixes: bool = False
    """Whether patches exchange boxes, so that it matters which stands beside which."""
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method}-{self.phase}{'-mixed' if self.options else ''}"


def _case(
    method: str, phase: str, *learns: str, mixes: bool = False, **options: object
) -> PhaseCase:
    return PhaseCase(method=method, phase=phase, learns=learns, mixes=mixes, options=options)


_OF_SEVERAL = [
    _case("supervised", "supervised", "student_raw"),
    _case("supervised", "supervised", "student_raw", mixes=True, copy_paste=1.0),
    _case("quality_guided", "weak_1", "weak"),
    _case("quality_guided", QUALITY_PHASE, "quality"),
    _case("quality_guided", "joint", "student_raw"),
    _case("cps", "joint", "student_raw", "teacher_raw"),
    _case("cross_teaching", "joint", "student_raw", "teacher_raw"),
    _case(
        "dual_network",
        "joint",
        "student_raw",
        "teacher_raw",
        "student_contrast",
        "teacher_contrast",
    ),
    _case("urpc", "joint", "student_raw", "heads"),
    _case("mc_net", "joint", "student_raw", "decoders"),
    _case("bcp", "pretrain", "student_raw", mixes=True),
    _case("bcp", "joint", "student_raw", mixes=True),
    _case("unimatch", "joint", "student_raw", mixes=True),
    _case("curriculum", "teacher", "teacher_raw"),
    _case("curriculum", "distil", "teacher"),
    _case("curriculum", "stage_1", "student_raw"),
    _case("curriculum", "stage_1", "student_raw", mixes=True, copy_paste=1.0),
    _case("curriculum", "finish", "student_raw"),
    _case("curriculum", "student_distil", "student"),
    _case("best", "teacher", "student_raw", mixes=True),
    _case("best", "stage_1", "student_raw", mixes=True),
    _case("best", "student_distil", "student"),
    _case("corrections", "corrections", "student_raw"),
    _case("corrections", "corrections", "student_raw", mixes=True, copy_paste=1.0),
    _case("corrections", "student_distil", "student"),
]
_NAMED = {one.method for one in _OF_SEVERAL}
PHASES = [
    *_OF_SEVERAL,
    *(_case(name, "joint", "student_raw") for name in METHODS if name not in _NAMED),
]
"""A phase of each kind of every method; a method that is not named has one, as `Joint` has."""


class MadeUpData:
    """Names of cases, and nothing in them."""

    task = SimpleNamespace(num_classes=NUM_CLASSES)
    labelled = tuple(f"labelled{number}" for number in range(4))
    unlabelled = tuple(f"unlabelled{number}" for number in range(4))
    validation = ("judged",)
    partial = ()
    reviewed = ("labelled0",)
    seed = 0

    def patient(self, case_id: str) -> str:
        return case_id

    def spacing(self, case_id: str) -> tuple[float, float, float]:
        return 2.0, 1.0, 1.5

    def count_windows(self, case_ids: Sequence[str]) -> int:
        return 3 * len(case_ids)

    def tell(self, kind: str, **values: object) -> None:
        pass


def build(name: str, network: NetworkOptions | None = None) -> SegmentationNetwork:
    """Return a network whose weights follow from its name."""
    # On a busy machine a team of threads takes many times as long for maps this small.
    torch.set_num_threads(1)
    torch.manual_seed(sum(name.encode()))
    chosen = network or NETWORK
    return build_network(chosen.name, chosen.options, in_channels=1, num_classes=NUM_CLASSES)


@dataclass(frozen=True, kw_only=True)
class Stand:
    """A method in one of its phases."""

    method: Any
    phase: Phase
    clock: Clock

    def step(self, batch: Batch, seed: int = 0) -> StepResult:
        torch.manual_seed(seed)
        result: StepResult = self.method.step(self.phase, batch, self.clock)
        return result


def stand_of(case: PhaseCase, *, dropout: bool = False, **changes: object) -> Stand:
    """Return a method in a phase, its averages apart from what they follow.

    Args:
        case: Which method and phase.
        dropout: Whether networks drop anything.
        changes: Options besides those of the case.
    """
    entry = METHODS[case.method]
    options = entry.options()
    settings = {"network": NETWORK, **OPTIONS.get(case.method, {}), **case.options, **changes}
    for name, value in _FULL_AT_ONCE.items():
        if hasattr(options, name):
            settings.setdefault(name, value)
    if hasattr(options, "quality"):
        small = replace(options.quality, width=4, side=SIDE)
        settings.setdefault("quality", small)
    method = entry.make(replace(options, **settings), build, ITERATIONS)
    phases = method.phases(MadeUpData())
    (phase,) = (one for one in phases if one.name == case.phase)
    if not phase.train_mode and phase.prologue:
        # Lets the head learn; that of a stage needs cases.
        phase.prologue()
    _disturb(method, dropout=dropout)
    for name, network in method.networks().items():
        network.train(name in case.learns and phase.train_mode)
    # Half way ramps are over, and UA-MT still leaves voxels out.
    place = phase.iterations // 2
    return Stand(method=method, phase=phase, clock=Clock(phase_iteration=place, iteration=place))


def _disturb(method: Any, *, dropout: bool) -> None:
    """Draw all weights apart, so that no two networks agree, and let every case be weighed."""
    torch.manual_seed(11)
    for network in method.networks().values():
        for one in network.parameters():
            one.data += 0.05 * torch.randn(one.shape)
        for module in network.modules():
            if isinstance(module, nn.Dropout | nn.Dropout3d) and not dropout:
                module.p = 0.0
            if isinstance(module, ClassThresholds):
                module.confidence.copy_(torch.linspace(1, 0.7, NUM_CLASSES))
            if isinstance(module, PrototypeContrast):
                drawn = torch.randn(module.prototypes.shape)
                module.prototypes.copy_(nn.functional.normalize(drawn, dim=1))
                module.seen.fill_(True)
        for head in heads_of(network):
            # Sure of some voxels, and not of others.
            head.weight.data *= 4
    if not hasattr(method, "quality"):
        return
    if method.quality is None:
        small = QualityOptions(width=4, side=SIDE).network_options()
        judge = QualityNetwork(small, in_channels=1, num_classes=NUM_CLASSES)
        method.quality = CaseQuality(judge, weighs=True)
    method.quality.weights = {
        one: torch.rand(NUM_CLASSES).tolist() for one in MadeUpData.unlabelled
    }


def heads_of(network: nn.Module) -> Iterator[nn.Conv3d]:
    """Yield the layers of a network, and of what stands for one, that make class logits."""
    for module in network.modules():
        if isinstance(module, SegmentationNetwork):
            yield module.segmentation_head  # type: ignore[misc]
        elif isinstance(module, FurtherDecoder):
            yield module.head  # type: ignore[misc]
        elif isinstance(module, AuxiliaryHeads):
            for head in module.heads:
                yield head[-1]


def batch_of(stand: Stand, labelled: int = 2, unlabelled: int = 2) -> Batch:
    """Return patches as a phase asks for them, with padding, classes by intensity."""
    draw = torch.Generator().manual_seed(5)
    if stand.phase.name == QUALITY_PHASE:
        return _examples(draw, labelled + unlabelled)
    count = labelled + (unlabelled if stand.phase.unlabelled_per_batch else 0)
    images = torch.randn(count, 1, SIDE, SIDE, SIDE, generator=draw)
    valid = torch.ones(count, SIDE, SIDE, SIDE, dtype=torch.bool)
    for place in range(count):
        valid[place, : 1 + place % 3] = False
    classes = torch.bucketize(images[:, 0], torch.tensor([0.0, 0.6, 1.2]))
    weak, maps = None, {}
    if stand.phase.maps is not None and count > labelled:
        weight = torch.randint(0, 256, classes[labelled:].shape, generator=draw)
        weight[:, ::2] = 0
        maps = {
            "pseudo_label": classes[labelled:].to(torch.uint8),
            "weight": weight.to(torch.uint8),
        }
    if stand.phase.strong_views and count > labelled:
        weak = images[labelled:] + 0.1 * torch.randn(images[labelled:].shape, generator=draw)
    cases = (*MadeUpData.labelled[:labelled], *MadeUpData.unlabelled[: count - labelled])
    return Batch(
        images=images,
        labels=classes[:labelled].masked_fill(~valid[:labelled], IGNORED),
        valid=valid,
        maps=maps,
        case_ids=cases,
        weak=weak,
        second=None if weak is None or stand.phase.strong_views < 2 else 1.1 * weak,
    )


def _examples(draw: torch.Generator, count: int) -> Batch:
    """Return masks to judge, as `QualityTraining` makes them."""
    images = torch.rand(count, NUM_CLASSES, SIDE, SIDE, SIDE, generator=draw)
    shape = (count, NUM_CLASSES - 1)
    return Batch(
        images=images,
        labels=torch.empty((0, SIDE, SIDE, SIDE), dtype=torch.long),
        valid=torch.ones(count, SIDE, SIDE, SIDE, dtype=torch.bool),
        maps={
            "dice": torch.rand(shape, generator=draw),
            "weight": torch.rand(shape, generator=draw),
        },
        case_ids=("labelled",) * count,
    )


def picked(batch: Batch, labelled: Sequence[int], unlabelled: Sequence[int]) -> Batch:
    """Return a batch of some of the patches, in this order and as often as they are named."""
    known = batch.num_labelled
    rows = [*labelled, *(known + place for place in unlabelled)]
    return replace(
        batch,
        images=batch.images[rows],
        labels=batch.labels[[*labelled]],
        valid=batch.valid[rows],
        maps={name: values[[*unlabelled]] for name, values in batch.maps.items()},
        case_ids=tuple(batch.case_ids[row] for row in rows),
        weak=None if batch.weak is None else batch.weak[[*unlabelled]],
        second=None if batch.second is None else batch.second[[*unlabelled]],
    )


def num_unlabelled(batch: Batch) -> int:
    return len(batch.images) - batch.num_labelled


def doubled(stand: Stand, batch: Batch) -> Batch:
    """Turn networks and images to float64, in place: what is equal is then equal to many digits."""
    for network in stand.method.networks().values():
        if not isinstance(network, QualityNetwork | ClassThresholds):
            network.double()
    if stand.phase.name == QUALITY_PHASE:
        return batch

    def double(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.double()

    return replace(
        batch,
        images=batch.images.double(),
        weak=double(batch.weak),
        second=double(batch.second),
    )
