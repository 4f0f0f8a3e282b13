"""Dropout, Gaussian noise, random bits."""

from __future__ import annotations

import numpy as np
import reference
from numpy.random import Generator

from .problem import IMAGES, SHAPES, Array, Problem, Shape, Sketch, case, normal


def _to_drop(random: Generator, shape: Shape) -> tuple[Array, Array]:
    x, state = normal(random, shape), np.array([random.integers(2**63), random.integers(2**40)])
    return np.where(x == 0, 1, x), state  # so that what is kept can be told from what is not


def dropout(random: Generator, shape: Shape, p: float, draw: int, offset: int, inverted: bool = True) -> Problem:
    x, state = _to_drop(random, shape)
    y = reference.dropout(x, state, p, draw, offset, inverted)
    return Problem([x, state], [y], 2 * np.abs(y))  # 0 where dropped


def group_dropout(random: Generator, shape: Shape, unit: str, p: float, draw: int, offset: int, inverted: bool = True) -> Problem:
    x, state = _to_drop(random, shape)
    y = reference.group_dropout(x, state, unit, p, draw, offset, inverted)
    return Problem([x, state], [y], 2 * np.abs(y))


def gaussian_noise(random: Generator, shape: Shape, std: float, draw: int, offset: int) -> Problem:
    x, state = _to_drop(random, shape)
    y = reference.gaussian_noise(x, state, std, draw, offset)
    return Problem([x, state], [y], np.abs(y) + 8 * np.abs(y - x))


def random_bits(random: Generator, n: int, draw: int, purpose: int) -> Problem:
    state = np.array([random.integers(-(2**63), 2**63), random.integers(2**40)])
    return Problem([state], [reference.random_bits(state, n, draw, purpose)])


def cases() -> list[Sketch]:
    cases = []
    cases += [case("dropout", shape, p, 5, 0) for shape in SHAPES for p in (0.0, 0.3, 1.0)]
    cases += [case("random_bits", n, 7, purpose) for n in (0, 1, 4, 7, 100_003) for purpose in (0, 3)]
    cases += [case("dropout", (2, 3, 5, 7), 0.3, 5, 1, False)]
    for unit in ("channel", "sample", "batch"):
        cases += [case("group_dropout", shape, unit, 0.5, 5, 0) for shape in IMAGES]
        cases += [case("group_dropout", (2003, 40), unit, 0.3, 2**33, 2**34 + 3), case("group_dropout", (7, 5, 11), unit, 0.3, 1, 6, False)]
    cases += [case("gaussian_noise", shape, 0.5, 5, 0) for shape in SHAPES]
    cases += [case("gaussian_noise", (n,), 2.0, 2**33, offset) for n, offset in ((1, 1), (2, 3), (33, 2**34 + 2), (70_001, 5))]
    return cases
