"""Activations."""

from __future__ import annotations

import numpy as np
import reference
from numpy.random import Generator

from .problem import SHAPES, Problem, Shape, Sketch, case, normal


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


def cases() -> list[Sketch]:
    cases = []
    for row in ("relu_forward", "relu_backward", "silu_forward", "silu_backward"):
        cases += [case(row, shape) for shape in SHAPES]
    return cases
