"""Pooling."""

from __future__ import annotations

from typing import Any

import reference
from numpy.random import Generator

from .problem import IMAGES, Problem, Shape, Sketch, case, integers, largest, normal


def maxpool2d_forward(random: Generator, x_shape: Shape, *geometry: Any) -> Problem:
    x = integers(random, x_shape, 3)  # many ties
    return Problem([x], [*reference.maxpool2d_forward(x, *geometry)])


def maxpool2d_backward(random: Generator, x_shape: Shape, kernel: Shape, stride: Shape, pad: Shape, ceil_mode: bool) -> Problem:
    _, index = reference.maxpool2d_forward(normal(random, x_shape), kernel, stride, pad, ceil_mode)
    dy = integers(random, index.shape)
    return Problem([index, dy], [reference.maxpool2d_backward(index, dy, x_shape, kernel, stride, pad)])


def global_avgpool_forward(random: Generator, x_shape: Shape) -> Problem:
    x = normal(random, x_shape)
    return Problem([x], [reference.global_avgpool_forward(x)], (x_shape[2] * x_shape[3]) ** 0.5 * largest(x))


def global_avgpool_backward(random: Generator, x_shape: Shape) -> Problem:
    dy = normal(random, (*x_shape[:2], 1, 1))
    return Problem([dy], [reference.global_avgpool_backward(dy, x_shape)], 2 * largest(dy))


POOLS = [
    ((2, 3, 8, 8), (2, 2), (2, 2), (0, 0), False),
    ((2, 17, 9, 7), (3, 2), (2, 1), (1, 1), False),
    ((1, 16, 7, 8), (3, 3), (2, 2), (1, 1), True),
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0), False),
    ((2, 5, 16, 16), (16, 16), (1, 1), (0, 0), False),
    ((2, 3, 6, 6), (2, 2), (3, 3), (0, 0), True),
    ((0, 3, 6, 6), (2, 2), (2, 2), (0, 0), False),
    ((9, 24, 33, 32), (3, 3), (2, 2), (1, 1), False),
]


def cases() -> list[Sketch]:
    cases = []
    cases += [case(f"maxpool2d_{direction}", *pool) for pool in POOLS for direction in ("forward", "backward")]
    cases += [case(f"global_avgpool_{direction}", shape) for shape in IMAGES for direction in ("forward", "backward")]
    return cases
