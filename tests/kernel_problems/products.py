"""Convolutions and matrix products. exact: small integers, whose sums float32 holds exactly, so the tolerance is 0."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import reference
from conv2d_geometries import EACH_ALGORITHM, LONG_SUMS, NARROW_GROUPS, NETWORK_GEOMETRIES, plain_geometry, y_shape_of
from numpy.random import Generator

from .problem import BATCHES, Array, Problem, Shape, Sketch, case, integers, largest, normal


def _real_or_exact(random: Generator, exact: bool, *shapes: Shape) -> list[Array]:
    return [(integers if exact else normal)(random, shape) for shape in shapes]


def conv2d_forward(
    random: Generator,
    x_shape: Shape,
    w_shape: Shape,
    *geometry: Any,
    bias: bool = True,
    exact: bool = False,
) -> Problem:
    x, w, b = _real_or_exact(random, exact, x_shape, w_shape, w_shape[:1])
    given = b if bias else None
    y = reference.conv2d_forward(x, w, given, *geometry)
    return Problem([x, w, given], [y], 0 if exact else conv2d_tolerance(x, w, b) + 4 * largest(y))


def conv2d_add_forward(
    random: Generator, x_shape: Shape, w_shape: Shape, *geometry: Any, bias: bool = True, exact: bool = False
) -> Problem:
    shape = y_shape_of((x_shape, w_shape, *geometry[:5]))
    x, w, b, residual = _real_or_exact(random, exact, x_shape, w_shape, w_shape[:1], shape)
    given = b if bias else None
    y = reference.conv2d_add_forward(x, w, given, residual, *geometry)
    tolerance = conv2d_tolerance(x, w, b) + 2 * largest(residual) + 4 * largest(y)
    return Problem([x, w, given, residual], [y], 0 if exact else tolerance)


def conv2d_tolerance(x: Array, w: Array, b: Array) -> float:
    return float((np.prod(w.shape[1:]) + 1) * largest(x, w) + largest(b)) * 1.1  # silu's slope


def conv2d_backward_input(random: Generator, x_shape: Shape, w_shape: Shape, *geometry: Any, exact: bool = False) -> Problem:
    dy, w = _real_or_exact(random, exact, y_shape_of((x_shape, w_shape, *geometry)), w_shape)
    tolerance = (w_shape[0] // geometry[-1] * np.prod(w_shape[2:]) + 1) * largest(dy, w)
    return Problem([dy, w], [reference.conv2d_backward_input(dy, w, x_shape, *geometry)], 0 if exact else tolerance)


def conv2d_add_backward_input(
    random: Generator, x_shape: Shape, w_shape: Shape, *geometry: Any, exact: bool = False, slack: int = 1
) -> Problem:
    dy, w, before = _real_or_exact(random, exact, y_shape_of((x_shape, w_shape, *geometry)), w_shape, x_shape)
    tolerance = (w_shape[0] // geometry[-1] * np.prod(w_shape[2:]) + 1) * largest(dy, w) + 2 * largest(before)
    return Problem([dy, w, before], [reference.conv2d_add_backward_input(dy, w, before, *geometry)], 0 if exact else slack * tolerance)


def conv2d_backward_weight(random: Generator, x_shape: Shape, w_shape: Shape, *geometry: Any, exact: bool = False) -> Problem:
    x, dy = _real_or_exact(random, exact, x_shape, y_shape_of((x_shape, w_shape, *geometry)))
    tolerance = (dy.size // w_shape[0] + 1) * largest(x, dy)
    return Problem([x, dy], [reference.conv2d_backward_weight(x, dy, w_shape, *geometry)], 0 if exact else tolerance)


def conv2d_normalized_backward_weight(
    random: Generator, x_shape: Shape, w_shape: Shape, *geometry: Any, affine: bool = True, exact: bool = False, slack: int = 1
) -> Problem:
    window = geometry[:5]
    z, dy = _real_or_exact(random, exact, x_shape, y_shape_of((x_shape, w_shape, *window)))
    gamma, beta, mean = _real_or_exact(random, exact, *[x_shape[1:2]] * 3)
    rstd = np.where(integers(random, x_shape[1:2]) > 0, 0.5, 2.0)
    given: list[Array | None] = [gamma, beta] if affine else [None, None]
    dw = reference.conv2d_normalized_backward_weight(z, *given, mean, rstd, dy, w_shape, *geometry)
    largest_x = 2 * (largest(z) + largest(mean)) * (largest(gamma) if affine else 1) + largest(beta)
    tolerance = 1.1 * (dy.size // w_shape[0] + 3) * largest_x * largest(dy)
    return Problem([z, *given, mean, rstd, dy], [dw], 0 if exact else slack * tolerance)


def matmul(
    random: Generator, a_shape: Shape, b_shape: Shape, ta: bool, tb: bool, activation: str = "none", bias: bool = True, exact: bool = False
) -> Problem:
    a, b, n = _real_or_exact(random, exact, a_shape, b_shape, (b_shape[-2 if tb else -1],))
    given = n if bias else None
    y = reference.matmul(a, b, given, ta, tb, activation)
    tolerance = 1.1 * ((a_shape[-2 if ta else -1] + 1) * largest(a, b) + largest(n)) + 4 * largest(y)
    return Problem([a, b, given], [y], 0 if exact else tolerance)


def channel_sum(random: Generator, shape: Shape, exact: bool = True) -> Problem:
    x = integers(random, shape) if exact else normal(random, shape)
    return Problem([x], [reference.channel_sum(x)], 0 if exact else x.size // shape[1] * largest(x))


MATRICES = [
    ((1, 1), (1, 1)),
    ((5, 7), (7, 3)),
    ((0, 7), (7, 3)),
    ((2, 3, 5), (2, 5, 4)),
    ((3, 5, 7), (7, 6)),
    ((257, 129), (129, 65)),
    ((64, 700), (700, 130)),
    ((65, 5000), (5000, 33)),
    ((13, 2050), (2050, 17)),
]
VECTORS = [((1, 1), (3, 1)), ((1, 33), (1, 33)), ((1, 784), (130, 784)), ((1, 0), (5, 0)), ((1, 4095), (1001, 4095))]  # a layer at batch 1


def _transposed(shape: Shape, transpose: bool) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if transpose else shape


def cases() -> list[Sketch]:
    cases = []
    for direction in ("forward", "backward_input", "backward_weight"):
        cases += [case(f"conv2d_{direction}", *geometry) for geometry in [*NETWORK_GEOMETRIES, *EACH_ALGORITHM]]
    cases.append(case("conv2d_forward", *plain_geometry(2, 16, 8, 16, 3), bias=False))
    for i, geometry in enumerate([*NETWORK_GEOMETRIES[1::2], NARROW_GROUPS[1], *LONG_SUMS]):
        cases.append(case("conv2d_forward", *geometry, ("relu", "silu")[i % 2]))
    for i, geometry in enumerate([*NETWORK_GEOMETRIES, NARROW_GROUPS[1], *LONG_SUMS, *EACH_ALGORITHM]):
        cases.append(case("conv2d_add_forward", *geometry, ("relu", "none", "silu", "gelu")[i % 4], bias=i % 3 > 0))
        cases.append(case("conv2d_add_backward_input", *geometry))
        cases.append(case("conv2d_normalized_backward_weight", *geometry, ("relu", "none", "silu", "gelu")[i % 4], affine=i % 3 > 0))
    for a, b in VECTORS:
        cases += [
            case("matmul", a, b, False, True, activation, bias=bias)
            for activation, bias in (("none", True), ("relu", False), ("gelu", True))
        ]
    for i, (a, b) in enumerate(MATRICES):
        cases += [case("matmul", a, b, False, False, activation, bias=i % 2 == 0) for activation in ("relu", "silu")]
    for (a, b), ta, tb in itertools.product(MATRICES, (False, True), (False, True)):
        if len(a) == len(b) or not ta:
            cases.append(case("matmul", _transposed(a, ta), _transposed(b, tb), ta, tb, bias=ta == tb))
    cases += [case("channel_sum", shape, exact=exact) for shape in [*BATCHES, (0, 3, 2, 2)] for exact in (True, False)]
    return cases
