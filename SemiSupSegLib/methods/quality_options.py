"""Options of the quality network and of what its estimates are used for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from SemiSupSegLib.networks.quality import QualityNetworkOptions


@dataclass(frozen=True, kw_only=True)
class QualityOptions:
    """A network that judges pseudo-labels, and how far its estimates weigh them."""

    COMMON: ClassVar = frozenset({"reweight"})
    """What a person may want to change first."""

    reweight: bool = False
    """Whether unlabelled cases weigh as much as a quality network, learnt before from the labelled
    ones, trusts their pseudo-labels, class by class. Its updates are taken from the run's."""
    floor: float = 0.5
    """Pseudo-labels with an estimated Dice up to it weigh nothing, at least 0 and below 1."""
    power: float = 2.0
    """How sharply weights fall from an estimated Dice of 1 down to the floor, above 0."""
    refresh: int = 0
    """Updates after which all unlabelled cases are judged anew, besides at the beginning of each
    phase; 0: a tenth of the method's. The curriculum judges once, with its teacher's labels."""
    weak_share: float = 0.18
    """Share of the run's updates for weak models, of which each is taught some of the labelled
    cases and predicts the others: masks to learn from that no corruption makes. 0 or more."""
    network_share: float = 0.22
    """Share of the run's updates for the quality network, above 0; with weak_share below 1."""
    folds: int = 4
    """Weak models, which divide the labelled patients between them; 2 or more."""
    weak_masks: float = 0.4
    """Share of weak models' masks among those that are learnt from, 0-1; the others are the true
    ones, most of them spoilt on purpose."""
    soft_masks: float = 0.3
    """Share of masks with probabilities instead of classes, 0-1."""
    batch: int = 8
    """Masks in an update of the quality network, 2 or more."""
    rate: float = 1e-3
    """Its learning rate at the start."""
    width: int = 16
    """Channels of its first level."""
    side: int = 32
    """Voxels on each side of the cube in which it sees a case, a multiple of 16."""

    def __post_init__(self) -> None:
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor is {self.floor}, must be in [0, 1)")
        for name in ("power", "rate", "network_share"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be positive")
        for name in ("refresh", "weak_share"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0")
        if self.weak_share + self.network_share >= 1:
            raise ValueError(
                f"weak_share and network_share are {self.weak_share} and {self.network_share}, "
                "which leaves no updates for the method: together they must be below 1"
            )
        for name in ("weak_masks", "soft_masks"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1]")
        for name, least in (("folds", 2), ("batch", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least {least}")
        # Checks both.
        self.network_options()

    def network_options(self) -> QualityNetworkOptions:
        """Return what the network itself is built from."""
        return QualityNetworkOptions(width=self.width, side=self.side)
