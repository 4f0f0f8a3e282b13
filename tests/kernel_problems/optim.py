"""Optimizer steps."""

from __future__ import annotations

import numpy as np
import reference
from numpy.random import Generator

from .problem import Array, Problem, Sketch, case, normal

PARAMETER_SHAPES = [(3, 5), (17,), (8, 3, 3, 3), (1,), (0,), (70_001,)]


def _parameters(random: Generator, count: int) -> list[Array]:
    return [normal(random, PARAMETER_SHAPES[i % len(PARAMETER_SHAPES)]) for i in range(count)]


def sgd_step(random: Generator, count: int, groups: int) -> Problem:
    w, g, v = (_parameters(random, count) for _ in range(3))
    rates = np.array([[0.1, 0.01, 0.9, 1], [0.05, 0, 0.9, 0], [0.3, 0.1, 0, 0]])[:groups]
    group = random.integers(0, groups, count)
    return Problem([w, g, v, group, rates], [*reference.sgd_step(w, g, v, group, rates)], 32)


def adam_step(random: Generator, count: int, groups: int, t: int = 3) -> Problem:
    w, g, m, v = (_parameters(random, count) for _ in range(4))
    v = [np.abs(a) for a in v]
    rates = np.array([[0.1, 0.01, 0.9, 0.999, 1e-8, 1], [0.05, 0.02, 0.8, 0.9, 1e-3, 0], [0.3, 0, 0.5, 0.99, 1e-6, 0]])[:groups]
    group = random.integers(0, groups, count)
    w2, m2, v2 = reference.adam_step(w, g, m, v, group, rates, np.int64(t))
    moved = max((float(np.abs(a - b).max(initial=0)) for a, b in zip(w, w2, strict=True)), default=0.0)
    return Problem([w, g, m, v, group, rates, np.array(t)], [w2, m2, v2], [16 * moved + 32, 32, 256])


def cases() -> list[Sketch]:
    cases = []
    cases += [
        case(row, count, groups) for row in ("sgd_step", "adam_step") for count, groups in [(0, 1), (1, 1), (5, 1), (12, 3), (230, 2)]
    ]
    return cases
