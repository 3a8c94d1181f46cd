"""Learning rate schedules. Source: docs/your-own-data.md; poly as in HiLab-git/SSL4MIS."""

from __future__ import annotations

from SemiSupSegLib.losses.schedules import cosine_rate, polynomial_rate, step_rate
from SemiSupSegLib.methods.protocol import ParameterGroup, Phase


def rate_factor(group: ParameterGroup, phase: Phase, phase_iteration: int) -> float:
    """Return what the group's rate is multiplied by before update `phase_iteration` of `phase`.

    `poly`: (1 - t/T)^0.9. `step`: 0.1 after each of 5/12 and 10/12 of T (2,500 and 5,000 of 6,000
    in UA-MT). `cosine`: half a period. t counts from `schedule_start`.
    """
    length = phase.iterations if group.schedule_length is None else group.schedule_length
    length = max(1, length)
    position = min(length, group.schedule_start + phase_iteration)
    if group.schedule == "poly":
        return polynomial_rate(position, length, 1.0)
    if group.schedule == "step":
        return step_rate(position, 1.0, every=max(1, length * 5 // 12))
    if group.schedule == "cosine":
        return cosine_rate(position, length, 1.0)
    return 1.0
