"""How much work a run is and how much of it is done, so that the time left can be told."""

from __future__ import annotations

from collections.abc import Sequence

from SemiSupSegLib.methods.protocol import Phase


class Work:
    """The work of a plan, counted in forward passes of a network over one patch.

    Args:
        phases: The plan.
        validate_every: Updates between validations; there is one at each phase's end, too.
        validation_windows: Windows of all validation cases.
        after: Work after the last phase.
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        validate_every: int,
        validation_windows: int,
        *,
        after: int = 0,
    ) -> None:
        self._phases = phases
        self._validate_every = validate_every
        self._validation_windows = validation_windows
        self._after = after
        self._before = [0]
        """Work of all phases before each."""
        for number, phase in enumerate(phases):
            self._before.append(self.done(number, phase.iterations, prologue_done=True))

    @property
    def planned(self) -> int:
        """The work of all phases and what comes after them."""
        return self._before[-1] + self._after

    def done(self, number: int, updates: int, *, prologue_done: bool) -> int:
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
        return (
            self._before[number]
            + prologue_done * phase.prologue_work
            + updates * phase.work_per_update
            + sum(one < updates for one in phase.between_at) * phase.between_work
            + networks * self._validation_windows
        )
