"""Values that change with the iteration: ramps, consistency weight, learning rates."""

from __future__ import annotations

import math


def sigmoid_ramp(position: float, length: float) -> float:
    """Return exp(−5(1 − u)²), u = position/length limited to [0, 1]; 1 if the length is 0.

    Source: Laine & Aila 2017, Temporal Ensembling, section 3.
    """
    if length <= 0:
        return 1.0
    progress = min(max(position, 0.0), length) / length
    return math.exp(-5 * (1 - progress) ** 2)


def linear_ramp(position: float, length: float) -> float:
    """Return position/length limited to [0, 1]; 1 if the length is 0."""
    return 1.0 if length <= 0 else min(max(position / length, 0.0), 1.0)


def consistency_weight(
    iteration: int,
    iterations: int,
    maximum: float = 0.1,
    *,
    rampup_fraction: float = 1.0,
    rampup_quantum: int = 150,
) -> float:
    """Return the weight of an unlabelled term, which climbs a staircase up to `maximum`.

    Args:
        iteration: From 0.
        iterations: Length of the phase.
        maximum: Weight at the end of the ramp.
        rampup_fraction: Share of the phase over which it climbs.
        rampup_quantum: Iterations per stair. The ramp counts stairs, so that another length
            of the phase keeps the shape; the published R = 40 is 6,000 iterations, R = 200
            is 30,000.

    Raises:
        ValueError: If the quantum is not positive.
    """
    if rampup_quantum < 1:
        raise ValueError(f"rampup_quantum is {rampup_quantum}, must be 1 or more")
    stairs = iterations * rampup_fraction / rampup_quantum
    return maximum * sigmoid_ramp(iteration // rampup_quantum, stairs)


def polynomial_rate(iteration: int, iterations: int, rate: float, power: float = 0.9) -> float:
    """Return rate·(1 − t/T)^power, for use before update t = 0, 1, …; 0 from T on."""
    if iterations <= 0:
        return rate
    return rate * max(1 - iteration / iterations, 0.0) ** power


def step_rate(iteration: int, rate: float, every: int = 2500, factor: float = 0.1) -> float:
    """Return rate·factor^⌊t/every⌋."""
    if every < 1:
        raise ValueError(f"every is {every}, must be 1 or more")
    return rate * factor ** (iteration // every)


def cosine_rate(iteration: int, iterations: int, rate: float) -> float:
    """Return half a cosine from `rate` at 0 down to 0 at T."""
    return rate * 0.5 * (1 + math.cos(math.pi * linear_ramp(iteration, iterations)))
