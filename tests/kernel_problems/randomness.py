"""Dropout and random bits."""

from __future__ import annotations

import numpy as np
import reference
from numpy.random import Generator

from .problem import SHAPES, Problem, Shape, Sketch, case, normal


def dropout(random: Generator, shape: Shape, p: float, draw: int, offset: int) -> Problem:
    x, state = normal(random, shape), np.array([random.integers(2**63), random.integers(2**40)])
    x = np.where(x == 0, 1, x)  # so that what is kept can be told from what is not
    y = reference.dropout(x, state, p, draw, offset)
    return Problem([x, state], [y], 2 * np.abs(y))  # 0 where dropped


def random_bits(random: Generator, n: int, draw: int, purpose: int) -> Problem:
    state = np.array([random.integers(-(2**63), 2**63), random.integers(2**40)])
    return Problem([state], [reference.random_bits(state, n, draw, purpose)])


def cases() -> list[Sketch]:
    cases = []
    cases += [case("dropout", shape, p, 5, 0) for shape in SHAPES for p in (0.0, 0.3, 1.0)]
    cases += [case("random_bits", n, 7, purpose) for n in (0, 1, 4, 7, 100_003) for purpose in (0, 3)]
    return cases
