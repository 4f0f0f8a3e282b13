"""Pooling."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import reference
from numpy.random import Generator

from .problem import IMAGES, Problem, Shape, Sketch, case, integers, largest, normal


def maxpool2d_forward(random: Generator, x_shape: Shape, *geometry: Any) -> Problem:
    x = integers(random, x_shape, 3)  # many ties
    return Problem([x], [*reference.maxpool2d_forward(x, *geometry)])


def maxpool2d_inference(random: Generator, x_shape: Shape, *geometry: Any) -> Problem:
    x = integers(random, x_shape, 3)
    return Problem([x], [reference.maxpool2d_inference(x, *geometry)])


def maxpool2d_backward(
    random: Generator, x_shape: Shape, kernel: Shape, stride: Shape, pad: Shape, ceil_mode: bool, *further: Any
) -> Problem:
    _, index = reference.maxpool2d_forward(normal(random, x_shape), kernel, stride, pad, ceil_mode, *further)
    dy = integers(random, index.shape)
    return Problem([index, dy], [reference.maxpool2d_backward(index, dy, x_shape, kernel, stride, pad, *further)])


def global_avgpool_forward(random: Generator, x_shape: Shape) -> Problem:
    x = normal(random, x_shape)
    return Problem([x], [reference.global_avgpool_forward(x)], (x_shape[2] * x_shape[3]) ** 0.5 * largest(x))


def global_avgpool_backward(random: Generator, x_shape: Shape) -> Problem:
    dy = normal(random, (*x_shape[:2], 1, 1))
    return Problem([dy], [reference.global_avgpool_backward(dy, x_shape)], 2 * largest(dy))


def avgpool2d_forward(random: Generator, x_shape: Shape, *geometry: Any, exact: bool = False) -> Problem:
    """exact: integers in windows of a power of two."""
    x = integers(random, x_shape) if exact else normal(random, x_shape)
    y = reference.avgpool2d_forward(x, *geometry)
    return Problem([x], [y], 0 if exact else 8 * largest(x))


def avgpool2d_backward(random: Generator, x_shape: Shape, *geometry: Any, exact: bool = False) -> Problem:
    y_shape = reference.avgpool2d_forward(np.zeros(x_shape), *geometry).shape
    dy = integers(random, y_shape) if exact else normal(random, y_shape)
    return Problem([dy], [reference.avgpool2d_backward(dy, x_shape, *geometry)], 0 if exact else 16 * largest(dy))


def fractional_regions(random: Generator, *parameters: Any) -> Problem:
    state = np.array([random.integers(2**63), random.integers(2**40)])
    return Problem([state], [reference.fractional_regions(state, *parameters)])


def _regions(random: Generator, x_shape: Shape, output: Shape, window: Shape, per_sample: bool) -> reference.Array:
    """Of fractional pooling, or even shares."""
    if per_sample:
        return reference.fractional_regions(np.array([random.integers(2**63), 0]), x_shape, output, window, False, 0, 0)
    shares = [np.array([reference.share(i, size, n) for i in range(n)]).T for size, n in zip(x_shape[2:], output)]
    return np.concatenate(shares, axis=1)[None]


def regionpool2d_forward(random: Generator, x_shape: Shape, output: Shape, window: Shape, per_sample: bool) -> Problem:
    x, regions = integers(random, x_shape, 3), _regions(random, x_shape, output, window, per_sample)
    return Problem([x, regions], [*reference.regionpool2d_forward(x, regions, output, window)])


def regionpool2d_backward(random: Generator, x_shape: Shape, output: Shape, window: Shape, per_sample: bool) -> Problem:
    regions = _regions(random, x_shape, output, window, per_sample)
    _, index = reference.regionpool2d_forward(normal(random, x_shape), regions, output, window)
    dy = integers(random, index.shape)
    return Problem([index, regions, dy], [reference.regionpool2d_backward(index, regions, dy, x_shape, window)])


def pool_places(random: Generator, y_shape: Shape, width: int, window_width: int, dilation: Shape, per_sample: bool) -> Problem:
    index = random.integers(0, 256, y_shape, np.uint8)
    regions = random.integers(-9, 1000, (y_shape[0] if per_sample else 1, 2, sum(y_shape[2:])))
    return Problem([index, regions], [reference.pool_places(index, regions, y_shape, width, window_width, dilation)])


POOLS = [
    ((2, 3, 8, 8), (2, 2), (2, 2), (0, 0), False),
    ((2, 17, 9, 7), (3, 2), (2, 1), (1, 1), False),
    ((1, 16, 7, 8), (3, 3), (2, 2), (1, 1), True),
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0), False),
    ((2, 5, 16, 16), (16, 16), (1, 1), (0, 0), False),
    ((2, 3, 6, 6), (2, 2), (3, 3), (0, 0), True),
    ((0, 3, 6, 6), (2, 2), (2, 2), (0, 0), False),
    ((3, 19, 9, 7), (2, 2), (2, 2), (0, 0), False),
    ((3, 19, 9, 7), (2, 2), (2, 2), (0, 0), True),
    ((5, 24, 33, 32), (2, 2), (2, 2), (0, 0), False),
    ((9, 24, 33, 32), (3, 3), (2, 2), (1, 1), False),
    ((2, 17, 9, 8), (2, 2), (1, 2), (0, 1), False, (3, 2)),
    ((2, 5, 3, 7), (5, 3), (3, 4), (0, 1), True, (1, 4)),
    ((2, 16, 11, 12), (3, 3), (2, 1), (1, 1), True, (2, 4)),
    ((9, 24, 33, 32), (2, 3), (2, 2), (1, 1), True, (4, 2)),
    ((3, 19, 9, 7), (2, 2), (2, 2), (0, 0), False, (1, 1), "relu"),
    ((2, 17, 9, 7), (3, 2), (2, 1), (1, 1), True, (1, 1), "relu"),
    ((2, 3, 17, 16), (15, 17), (1, 1), (0, 8), False, (1, 1), "relu"),
    ((9, 24, 33, 32), (3, 3), (2, 2), (1, 1), True, (2, 1), "relu"),
    ((0, 3, 6, 6), (2, 2), (2, 2), (0, 0), False, (1, 1), "relu"),
]

PLACES = [
    ((2, 3, 4, 5), 9, 2, (1, 1), False),
    ((3, 17, 2, 7), 30, 3, (2, 3), True),
    ((1, 1, 1, 1), 1, 1, (1, 1), False),
    ((0, 3, 2, 2), 4, 2, (1, 1), True),
    ((9, 24, 22, 21), 64, 5, (1, 2), False),
]

AVERAGES = [
    ((2, 3, 8, 8), (2, 2), (2, 2), (0, 0), False, True, 0),
    ((2, 17, 9, 7), (3, 2), (2, 1), (1, 1), False, True, 0),
    ((2, 17, 9, 7), (3, 2), (2, 1), (1, 1), False, False, 0),
    ((1, 16, 7, 8), (3, 3), (2, 2), (1, 1), True, True, 0),
    ((1, 16, 6, 9), (3, 4), (2, 3), (1, 2), True, False, 0),
    ((1, 16, 7, 8), (3, 3), (2, 2), (1, 1), True, True, 7),
    ((2, 3, 6, 6), (2, 2), (3, 3), (0, 0), True, True, 0),
    ((2, 5, 1, 2), (4, 5), (3, 2), (1, 1), True, True, 0),
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0), False, True, 0),
    ((2, 5, 40, 33), (33, 20), (1, 2), (16, 10), False, True, 0),
    ((0, 3, 6, 6), (2, 2), (2, 2), (0, 0), False, True, 0),
    ((9, 24, 33, 32), (3, 3), (2, 2), (1, 1), False, True, 0),
    ((2, 3, 8, 8), (4, 4)),
    ((2, 17, 10, 7), (3, 5)),
    ((1, 3, 2, 3), (5, 4)),
    ((2, 16, 7, 7), (1, 7)),
    ((0, 3, 6, 6), (2, 2)),
]
EXACT_AVERAGES = [
    ((2, 20, 8, 8), (2, 2), (2, 2), (0, 0), False, True, 0),
    ((2, 20, 9, 8), (4, 2), (1, 1), (2, 1), True, True, 0),
    ((2, 20, 9, 9), (3, 3), (1, 1), (1, 1), False, True, 8),
    ((3, 16, 8, 32), (2, 8)),
]
REGIONS = [  # x_shape, output, largest region, whether each sample has its own
    ((2, 3, 8, 8), (5, 5), (2, 2), True),
    ((3, 17, 13, 10), (9, 4), (3, 2), True),
    ((1, 16, 3, 3), (1, 2), (2, 2), True),
    ((2, 5, 9, 9), (8, 8), (2, 2), True),
    ((2, 17, 10, 7), (3, 5), (4, 3), False),
    ((1, 3, 2, 3), (5, 4), (1, 2), False),
    ((0, 3, 6, 6), (2, 2), (3, 3), False),
    ((0, 3, 6, 6), (2, 2), (3, 3), True),
    ((9, 24, 33, 32), (22, 21), (2, 2), True),
]


def cases() -> list[Sketch]:
    cases = []
    cases += [case(f"maxpool2d_{direction}", *pool) for pool in POOLS for direction in ("forward", "inference", "backward")]
    cases += [case("pool_places", *places) for places in PLACES]
    cases += [case(f"global_avgpool_{direction}", shape) for shape in IMAGES for direction in ("forward", "backward")]
    cases += [case(f"avgpool2d_{direction}", *pool) for pool in AVERAGES for direction in ("forward", "backward")]
    cases += [case(f"avgpool2d_{direction}", *pool, exact=True) for pool in EXACT_AVERAGES for direction in ("forward", "backward")]
    cases += [case(f"regionpool2d_{direction}", *pool) for pool in REGIONS for direction in ("forward", "backward")]
    for pool, pseudo_random in itertools.product([r[:3] for r in REGIONS if r[3]], (False, True)):
        cases.append(case("fractional_regions", *pool, pseudo_random, 3, 5))
    cases.append(case("fractional_regions", (600, 1, 40, 30), (25, 20), (2, 3), False, 2**33, 2**40))
    return cases
