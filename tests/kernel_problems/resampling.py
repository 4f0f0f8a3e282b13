"""Maps of another size."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import reference
from numpy.random import Generator

from .problem import Problem, Shape, Sketch, case, integers, largest, normal


def upsample2d_forward(random: Generator, x_shape: Shape, output: Shape, bilinear: bool, *options: Any, exact: bool = False) -> Problem:
    """exact: integers, and weights that float32 holds."""
    x = integers(random, x_shape) if exact else normal(random, x_shape)
    y = reference.upsample2d_forward(x, output, bilinear, *options)
    return Problem([x], [y], 0 if exact or not bilinear else 8 * largest(x))


def upsample2d_backward(random: Generator, x_shape: Shape, output: Shape, bilinear: bool, *options: Any, exact: bool = False) -> Problem:
    dy = integers(random, (*x_shape[:2], *output))
    dx = reference.upsample2d_backward(dy, x_shape, output, bilinear, *options)
    readers = np.ceil(2 * output[0] / max(1, x_shape[2]) + 1) * np.ceil(2 * output[1] / max(1, x_shape[3]) + 1)
    return Problem([dy], [dx], 0 if exact or not bilinear else 2 * readers * largest(dy))


SIZES = [  # x_shape, output, scales
    ((2, 3, 4, 5), (8, 10), (0.0, 0.0)),
    ((2, 17, 5, 7), (7, 16), (0.0, 0.0)),
    ((1, 16, 9, 8), (4, 3), (0.0, 0.0)),
    ((2, 5, 7, 5), (10, 7), (1.5, 1.4)),
    ((2, 5, 20, 11), (20, 22), (1.04, 2.05)),
    ((1, 3, 41, 29), (33, 23), (0.0, 0.0)),
    ((1, 3, 1, 1), (4, 3), (0.0, 0.0)),
    ((1, 3, 6, 5), (1, 1), (0.0, 0.0)),
    ((1, 4, 40, 3), (3, 40), (0.0, 0.0)),
    ((0, 3, 2, 2), (4, 4), (0.0, 0.0)),
    ((9, 24, 17, 16), (34, 32), (2.0, 2.0)),
]


def cases() -> list[Sketch]:
    cases = []
    for (shape, output, scales), direction in itertools.product(SIZES, ("forward", "backward")):
        cases += [case(f"upsample2d_{direction}", shape, output, False, False, *scales)]
        cases += [case(f"upsample2d_{direction}", shape, output, True, align, *scales) for align in (False, True)]
    for shape, output, align in [((2, 20, 3, 5), (6, 10), False), ((2, 20, 3, 5), (5, 9), True), ((2, 3, 8, 8), (4, 4), False)]:
        cases += [case(f"upsample2d_{direction}", shape, output, True, align, exact=True) for direction in ("forward", "backward")]
    return cases
