"""Functions of whole rows: softmax along a dimension, distances."""

from __future__ import annotations

import itertools

import numpy as np
import reference
from numpy.random import Generator

from .problem import Problem, Shape, Sketch, case, held, integers, largest, normal


def softmax_forward(random: Generator, shape: Shape, dim: int, scale: float = 3.0) -> Problem:
    x = held(scale * normal(random, shape))
    return Problem([x], [reference.softmax_forward(x, dim)], 16)


def softmax_backward(random: Generator, shape: Shape, dim: int) -> Problem:
    y, dy = held(reference.softmax_forward(3 * normal(random, shape), dim)), normal(random, shape)
    return Problem([y, dy], [reference.softmax_backward(y, dy, dim)], 32 * largest(dy))


def log_softmax_forward(random: Generator, shape: Shape, dim: int, scale: float = 3.0) -> Problem:
    x = held(scale * normal(random, shape))
    return Problem([x], [reference.log_softmax_forward(x, dim)], 4 * largest(x) + 32)


def log_softmax_backward(random: Generator, shape: Shape, dim: int) -> Problem:
    y, dy = held(reference.log_softmax_forward(3 * normal(random, shape), dim)), normal(random, shape)
    sums = np.abs(dy).sum(axis=dim).max(initial=1)
    return Problem([y, dy], [reference.log_softmax_backward(y, dy, dim)], 16 * float(sums))


def logsumexp_forward(random: Generator, shape: Shape, dim: int, scale: float = 3.0) -> Problem:
    x = held(scale * normal(random, shape))
    return Problem([x], [reference.logsumexp_forward(x, dim)], 2 * largest(x) + 32)


def logsumexp_backward(random: Generator, shape: Shape, dim: int) -> Problem:
    x = held(3 * normal(random, shape))
    y = held(reference.logsumexp_forward(x, dim))
    dy = normal(random, y.shape)
    return Problem([x, y, dy], [reference.logsumexp_backward(x, y, dy, dim)], 16 * largest(dy))


def distance(random: Generator, a: Shape, b: Shape, p: int, exact: bool = False) -> Problem:
    if exact:
        x, z = integers(random, a), integers(random, b)
        return Problem([x, z], [reference.distance(x, z, p)], 0)
    x, z = normal(random, a), normal(random, b)
    expected = reference.distance(x, z, p)
    return Problem([x, z], [expected], 24 * np.maximum(expected, 1))


ROWS: list[tuple[Shape, int]] = [((6, 10), 1), ((1, 1), 0), ((7,), 0), ((0, 3), 1), ((700, 100), 1), ((700, 100), 0), ((3, 1500), -1)]
MAPS: list[tuple[Shape, int]] = [((2, 3, 5, 7), dim) for dim in range(4)] + [((5, 6, 3), 1), ((2, 40, 33, 31), 1), ((2, 40, 33, 31), 2)]
PAIRS: list[tuple[Shape, Shape]] = [
    ((1, 1), (1, 1)),
    ((7, 5), (3, 5)),
    ((0, 5), (3, 5)),
    ((3, 5), (0, 5)),
    ((3, 0), (4, 0)),
    ((13, 33), (70, 33)),
    ((7, 600), (9, 600)),
    ((200, 70), (300, 70)),
]


def cases() -> list[Sketch]:
    rows = [f"{name}_{direction}" for name in ("softmax", "log_softmax", "logsumexp") for direction in ("forward", "backward")]
    cases = [case(row, shape, dim) for row in rows for shape, dim in [*ROWS, *MAPS]]
    cases += [case("distance", a, b, p, exact=exact) for (a, b), p, exact in itertools.product(PAIRS, (1, 2), (False, True))]
    return cases
