"""Learning rates as plain functions of the step (counted from 0). Pass one as `lr=` of an optimizer.

Each maker returns a function step -> rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, pi

Schedule = Callable[[int], float]


def constant(lr: float) -> Schedule:
    """lr."""
    return lambda step: lr


def step(lr: float, milestones: Sequence[int], factor: float = 0.1) -> Schedule:
    """lr times `factor` for every milestone (a step number) reached."""
    return lambda t: lr * factor ** sum(t >= m for m in milestones)


def cosine(lr: float, total: int, final: float = 0.0) -> Schedule:
    """final + (lr - final) / 2 (1 + cos(pi t / total)), `final` from step `total` on (Loshchilov, Hutter 2016)."""
    _positive(total)
    return lambda t: final + (lr - final) / 2 * (1 + cos(pi * min(t, total) / total))


def linear(lr: float, total: int, final: float = 0.0) -> Schedule:
    """lr + (final - lr) t / total, `final` from step `total` on."""
    _positive(total)
    return lambda t: lr + (final - lr) * min(t, total) / total


def warmup(schedule: Schedule | float, steps: int) -> Schedule:
    """In front of any schedule: its rate times (t + 1) / steps during the first `steps` steps (Goyal et al. 2017)."""
    after = constant(schedule) if isinstance(schedule, (int, float)) else schedule
    return lambda t: after(t) * min(1.0, (t + 1) / steps) if steps > 0 else after(t)


def _positive(total: int) -> None:
    if total < 1:
        raise ValueError(f"a schedule needs a total of at least 1 step, got {total}")
