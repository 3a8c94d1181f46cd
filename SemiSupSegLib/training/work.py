"""How much work a run is and how much of it is done, so that the time left can be told.

`plan` and the run itself count with this: in forward passes for the share that is done, and in
seconds where a trial has told what each kind of work costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from SemiSupSegLib.methods.protocol import Phase


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Seconds of each kind of work of a run on a machine."""

    update: Mapping[str, float]
    """Of an update, by `kind_of` its phase."""
    scoring: float
    """Of a forward pass over a patch in the first pseudo-labelling, with what is done with it."""
    refining: float
    """The same in those that follow."""
    window: float
    """Of judging one network in one window; of other work on cases, too."""
    figures: float
    """Of all final figures together, without the networks' passes."""

    def are_of(self, phases: Sequence[Phase]) -> bool:
        """Return whether every phase that has updates has a price."""
        return all(kind_of(one) in self.update for one in phases if one.iterations)


class Work:
    """The work of a plan: in forward passes of a network over one patch, or in seconds.

    Args:
        phases: The plan.
        validate_every: Updates between validations; there is one at each phase's end, too.
        validation_windows: Windows of all validation cases.
        after: Forward passes over one patch after the last phase.
        prices: Of all kinds of phase in the plan; the work is in seconds then.
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        validate_every: int,
        validation_windows: int,
        *,
        after: int = 0,
        prices: Prices | None = None,
    ) -> None:
        self._phases = phases
        self._validate_every = validate_every
        self._validation_windows = validation_windows
        self._prices = prices
        self._window = 1 if prices is None else prices.window
        labelling = [number for number, one in enumerate(phases) if one.prologue_work]
        self._first_labelling = labelling[0] if labelling else None
        self._after = after * self._window + (0 if prices is None else prices.figures)
        self._before: list[float] = [0]
        """Work of all phases before each."""
        for number, phase in enumerate(phases):
            self._before.append(self.done(number, phase.iterations, prologue_done=True))

    @property
    def planned(self) -> float:
        """The work of all phases and what comes after them."""
        return self._before[-1] + self._after

    @property
    def of_updates(self) -> float:
        """The work of the updates alone, without that on whole cases."""
        return sum(one.iterations * self._update(one) for one in self._phases if one.iterations)

    def done(self, number: int, updates: int, *, prologue_done: bool) -> float:
        """Return the work that is done after some updates of a phase.

        Args:
            number: The phase's place in the plan; that after the last is the plan's end.
            updates: Of this phase.
            prologue_done: Whether the phase's work on cases is behind.
        """
        if number == len(self._phases):
            return self._before[number]
        phase = self._phases[number]
        if not phase.iterations:
            return self._before[number]
        start = sum(one.iterations for one in self._phases[:number])
        judged = self._validate_every
        validations = (start + updates) // judged - start // judged
        networks = validations * len(phase.judged)
        if updates == phase.iterations:
            if (start + updates) % judged:
                networks += len(phase.judged)
            networks += len(phase.judged_at_end)
        between = sum(one < updates for one in phase.between_at) * phase.between_work
        return (
            self._before[number]
            + prologue_done * phase.prologue_work * self._labelling(number)
            + updates * self._update(phase)
            + (between + networks * self._validation_windows) * self._window
        )

    def _update(self, phase: Phase) -> float:
        if self._prices is None:
            return phase.work_per_update
        return self._prices.update[kind_of(phase)]

    def _labelling(self, number: int) -> float:
        if self._prices is None:
            return 1
        return self._prices.scoring if number == self._first_labelling else self._prices.refining


def kind_of(phase: Phase) -> str:
    """Return what the cost of a phase's updates depends on, as a name."""
    return "/".join(
        [
            f"{phase.labelled_per_batch}+{phase.unlabelled_per_batch}",
            str(phase.passes_per_patch),
            "maps" if phase.maps is not None else "plain",
            "train" if phase.train_mode else "head",
            *(["made"] if phase.make_batch is not None else []),
        ]
    )
