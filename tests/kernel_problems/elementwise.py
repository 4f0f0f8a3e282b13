"""One element at a time, and two that broadcast."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
import reference
from numpy.random import Generator

from .problem import SHAPES, Array, Problem, Shape, Sketch, case, integers, normal


def exp(random: Generator, shape: Shape) -> Problem:
    x = normal(random, shape) * 8
    return Problem([x], [reference.exp(x)], 4 * reference.exp(x))


def log(random: Generator, shape: Shape) -> Problem:
    x = np.exp(8 * normal(random, shape)).astype(np.float32).astype(np.float64)
    return Problem([x], [reference.log(x)], 4 * np.abs(reference.log(x)))


def sqrt(random: Generator, shape: Shape) -> Problem:
    x = np.abs(normal(random, shape))
    return Problem([x], [reference.sqrt(x)], reference.sqrt(x))


def power(random: Generator, shape: Shape, exponent: float) -> Problem:
    x = normal(random, shape)
    x = x if exponent == round(exponent) else np.abs(x)
    y = reference.power(x, exponent)
    return Problem([x], [y], 4 * (1 + abs(exponent)) * np.abs(y))


def _binary(operation: Callable[[Array, Array], Array], random: Generator, a_shape: Shape, b_shape: Shape) -> Problem:
    a, b = normal(random, a_shape), normal(random, b_shape)
    return Problem([a, b], [operation(a, b)])  # one operation of float32 is exactly float64's, rounded


add = functools.partial(_binary, reference.add)
subtract = functools.partial(_binary, reference.subtract)
multiply = functools.partial(_binary, reference.multiply)
divide = functools.partial(_binary, reference.divide)


maximum = functools.partial(_binary, reference.maximum)
minimum = functools.partial(_binary, reference.minimum)


def compare(random: Generator, a_shape: Shape, b_shape: Shape, relation: str) -> Problem:
    a, b = integers(random, a_shape, 2), integers(random, b_shape, 2)  # equal ones among them
    return Problem([a, b], [reference.compare(a, b, relation)])


def where(random: Generator, a_shape: Shape, b_shape: Shape) -> Problem:
    a, b = normal(random, a_shape), normal(random, b_shape)
    condition = random.random(np.broadcast_shapes(a_shape, b_shape)) < 0.5
    return Problem([condition, a, b], [reference.where(condition, a, b)])


BROADCASTS = [
    ((), ()),
    ((0, 3), (3,)),
    ((5, 1, 7), (3, 1)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((2, 3, 4, 5), (5,)),
    ((3, 100_003), (3, 1)),
    ((8, 16, 40, 40), (1, 16, 1, 1)),
]


def to_bfloat16(random: Generator, shape: Shape) -> Problem:
    x = normal(random, shape)
    x.flat[::3] = np.exp2(random.integers(-20, 20, x.flat[::3].shape)) * (1 + 2.0**-8)  # ties, and what comes after the last mantissa
    return Problem([x], [reference.to_bfloat16(x)])


def to_float32(random: Generator, shape: Shape) -> Problem:
    x = reference.to_bfloat16(normal(random, shape))
    return Problem([x], [reference.to_float32(x)])


def cases() -> list[Sketch]:
    cases = [case(row, shape) for row in ("to_bfloat16", "to_float32") for shape in SHAPES]
    for row in ("exp", "log", "sqrt"):
        cases += [case(row, shape) for shape in SHAPES]
    cases += [case("power", shape, exponent) for shape in SHAPES for exponent in (2.0, 0.5, -1.0, 3.0, 0.0, 1.7)]
    for row, (a, b) in itertools.product(("add", "subtract", "multiply", "divide", "maximum", "minimum", "where"), BROADCASTS):
        cases += [case(row, *shapes) for shapes in dict.fromkeys([(a, b), (b, a)])]
    cases += [case("compare", a, b, "less") for a, b in BROADCASTS]
    for relation in ("equal", "not_equal", "less_equal", "greater", "greater_equal"):
        cases.append(case("compare", (3, 5, 7), (5, 1), relation))
    return cases
