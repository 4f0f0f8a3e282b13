"""Activations."""

from __future__ import annotations

import numpy as np
import reference
from numpy.random import Generator

from .elementwise import BROADCASTS
from .problem import SHAPES, Array, Problem, Shape, Sketch, case, normal


def relu_forward(random: Generator, shape: Shape) -> Problem:
    x = normal(random, shape)
    return Problem([x], [reference.relu_forward(x)])


def relu_backward(random: Generator, shape: Shape) -> Problem:
    y, dy = reference.relu_forward(normal(random, shape)), normal(random, shape)
    return Problem([y, dy], [reference.relu_backward(y, dy)])


def silu_forward(random: Generator, shape: Shape) -> Problem:
    x = (3 * normal(random, shape)).astype(np.float32).astype(np.float64)
    return Problem([x], [reference.silu_forward(x)], 4 * np.abs(reference.silu_forward(x)))


def silu_backward(random: Generator, shape: Shape) -> Problem:
    x, dy = (3 * normal(random, shape)).astype(np.float32).astype(np.float64), normal(random, shape)
    return Problem([x, dy], [reference.silu_backward(x, dy)], 4 * np.abs(dy) * (1 + np.abs(x)))


def _numbers(random: Generator, shape: Shape) -> Array:
    return (3 * normal(random, shape)).astype(np.float32).astype(np.float64)


def pointwise_forward(random: Generator, shape: Shape, function: str, a: float, b: float) -> Problem:
    x = _numbers(random, shape)
    y = reference.pointwise_forward(x, function, a, b)
    exponent = {"gelu": x**2, "gelu_tanh": reference.gelu_tanh_argument(x)}.get(function, 0)  # whose rounding moves a power of e
    return Problem([x], [y], 4 * np.abs(y) * (1 + np.abs(exponent)))


def pointwise_backward(random: Generator, shape: Shape, function: str, a: float, b: float) -> Problem:
    kept, dy = _numbers(random, shape), normal(random, shape)
    if function in ("sigmoid", "tanh"):
        kept = reference.pointwise_forward(kept, function).astype(np.float32).astype(np.float64)
    return Problem([kept, dy], [reference.pointwise_backward(kept, dy, function, a, b)], 8 * np.abs(dy) * (1 + np.abs(kept)))


def prelu_forward(random: Generator, x_shape: Shape, slope_shape: Shape) -> Problem:
    x, slope = normal(random, x_shape), normal(random, slope_shape)
    return Problem([x, slope], [reference.prelu_forward(x, slope)])


def prelu_backward(random: Generator, x_shape: Shape, slope_shape: Shape) -> Problem:
    x, slope = normal(random, x_shape), normal(random, slope_shape)
    dy = normal(random, np.broadcast_shapes(x_shape, slope_shape))
    return Problem([x, slope, dy], [reference.prelu_backward(x, slope, dy)])


def prelu_slope(random: Generator, x_shape: Shape, dy_shape: Shape) -> Problem:
    x, dy = normal(random, x_shape), normal(random, dy_shape)
    return Problem([x, dy], [reference.prelu_slope(x, dy)])


FUNCTIONS = [
    ("sigmoid", 0.0, 0.0),
    ("tanh", 0.0, 0.0),
    ("scaled_relu", 1.75, 0.0),
    ("leaky_relu", 0.25, 0.0),
    ("elu", 1.75, 1.0625),
    ("gelu", 0.0, 0.0),
    ("gelu_tanh", 0.0, 0.0),
    ("softplus", 2.0, 6.0),
    ("abs", 0.0, 0.0),
    ("clip", -1.5, 2.25),
]


def cases() -> list[Sketch]:
    cases = []
    for row in ("relu_forward", "relu_backward", "silu_forward", "silu_backward"):
        cases += [case(row, shape) for shape in SHAPES]
    for row in ("pointwise_forward", "pointwise_backward"):
        cases += [case(row, shape, *FUNCTIONS[0]) for shape in SHAPES]
        cases += [case(row, shape, *function) for function in FUNCTIONS[1:] for shape in ((17,), (2, 3, 5, 7), (70_001,))]
    for row in ("prelu_forward", "prelu_backward", "prelu_slope"):
        cases += [case(row, *shapes) for shapes in BROADCASTS]
    return cases
