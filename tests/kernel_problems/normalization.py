"""Batch, layer and group normalisation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import reference
from conv2d_geometries import EACH_ALGORITHM, LONG_SUMS, NARROW_GROUPS, NETWORK_GEOMETRIES, y_shape_of
from numpy.random import Generator

from .problem import BATCHES, Array, Problem, Shape, Sketch, case, largest, normal
from .products import conv2d_tolerance


def _batchnorm_affine(random: Generator, x_shape: Shape, affine: bool, residual: bool) -> list[Array | None]:
    """gamma, beta, residual."""
    C = x_shape[1]
    gamma, beta, added = normal(random, (C,)) + 1.5, normal(random, (C,)), normal(random, x_shape)
    return [gamma.astype(np.float32) if affine else None, beta if affine else None, added if residual else None]


def _batchnorm_y_tolerance(x: Array, y: Array, gamma: Array | None, residual: Array | None, mean: Array, rstd: Array) -> float:
    scale = (1.0 if gamma is None else largest(gamma)) * largest(rstd)
    return 32 * (scale * (largest(x) + largest(mean)) + largest(y) + (0 if residual is None else largest(residual)) + 1)


def batchnorm_forward(
    random: Generator, x_shape: Shape, eps: float, momentum: float, activation: str, training: bool, residual: bool,
    affine: bool = True, running: bool = True,
) -> Problem:  # fmt: skip
    x = normal(random, x_shape) + np.linspace(-2, 2, x_shape[1]).reshape(1, -1, *[1] * (len(x_shape) - 2))
    x = x.astype(np.float32).astype(np.float64)
    gamma, beta, added = _batchnorm_affine(random, x_shape, affine, residual)
    statistics = [normal(random, (x_shape[1],)), random.random(x_shape[1]) + 0.5] if running else [None, None]
    statistics = [s if s is None else s.astype(np.float32).astype(np.float64) for s in statistics]
    expected = reference.batchnorm_forward(x, gamma, beta, added, *statistics, eps, momentum, activation)
    y, mean, rstd = expected[2:]
    mean_tolerance, y_tolerance = 16 * largest(x), _batchnorm_y_tolerance(x, y, gamma, added, mean, rstd)
    differences = 4 * largest(x)  # x - mean is off by as much: the variance by twice its root times that
    variance = [None if expected[1] is None else 64 * expected[1] + 2 * differences * momentum / rstd, 64 * rstd + differences * rstd**2]
    return Problem(
        [x, gamma, beta, added, *statistics],
        [*expected],
        [mean_tolerance, variance[0], y_tolerance, mean_tolerance, variance[1]],
    )


def conv2d_batchnorm_forward(
    random: Generator, x_shape: Shape, w_shape: Shape, *parameters: Any, bias: bool = True, affine: bool = True, running: bool = True
) -> Problem:
    """The tolerance is that of the convolution, carried through: it moves the mean as far, and 1 / deviation by that times its square."""
    *rest, residual = parameters
    x, w, b = normal(random, x_shape), normal(random, w_shape), normal(random, w_shape[:1])
    y_shape = y_shape_of((x_shape, w_shape, *rest[:5]))
    gamma, beta, added = _batchnorm_affine(random, y_shape, affine, residual)
    statistics = [normal(random, w_shape[:1]), random.random(w_shape[0]) + 0.5] if running else [None, None]
    statistics = [s if s is None else s.astype(np.float32).astype(np.float64) for s in statistics]
    operands = [x, w, b if bias else None, gamma, beta, added, *statistics]
    expected = reference.conv2d_batchnorm_forward(*operands, *rest)
    z, y, mean, rstd = expected[2:]
    z_off = conv2d_tolerance(x, w, b)
    rstd_off = 64 * rstd + rstd**2 * z_off
    scale = 1.0 if gamma is None else largest(gamma)
    y_off = _batchnorm_y_tolerance(z, y, gamma, added, mean, rstd) + scale * (
        2 * z_off * largest(rstd) + 2 * largest(z) * largest(rstd_off)
    )
    mean_off, var_off = 16 * largest(z) + z_off, 64 * (1 / rstd**2 + 1) + 4 * z_off / rstd
    return Problem(operands, [*expected], [mean_off, var_off, z_off, 1.1 * y_off, mean_off, rstd_off])


def batchnorm_inference(
    random: Generator,
    x_shape: Shape,
    eps: float,
    momentum: float,
    activation: str,
    training: bool,
    residual: bool,
    affine: bool = True,
) -> Problem:
    x, mean, var = (
        normal(random, x_shape),
        normal(random, (x_shape[1],)),
        random.random(x_shape[1]).astype(np.float32) + np.float32(0.5),
    )
    gamma, beta, added = _batchnorm_affine(random, x_shape, affine, residual)
    var = var.astype(np.float64)
    y, mean, rstd = reference.batchnorm_inference(x, gamma, beta, added, mean, var, eps, activation)
    tolerance = [_batchnorm_y_tolerance(x, y, gamma, added, mean, rstd), 0, 8 * rstd]
    return Problem([x, gamma, beta, added, mean, var], [y, mean, rstd], tolerance)


def batchnorm_backward(
    random: Generator,
    x_shape: Shape,
    eps: float,
    momentum: float,
    activation: str,
    training: bool,
    residual: bool,
    affine: bool = True,
) -> Problem:
    C, smallest = x_shape[1], 0.0
    while smallest < 2e-6:  # nothing so close to the kink of relu that rounding decides
        x, dy, mean = normal(random, x_shape), normal(random, x_shape), 0.1 * normal(random, (C,))
        gamma, beta, added = _batchnorm_affine(random, x_shape, affine, residual)
        mean, rstd = mean.astype(np.float32), (random.random(C) + 0.5).astype(np.float32)
        if training:  # statistics of x, as forward leaves them
            axes = (0, *range(2, x.ndim))
            mean, rstd = x.mean(axes).astype(np.float32), (1 / np.sqrt(x.var(axes) + eps)).astype(np.float32)
        mean, rstd = mean.astype(np.float64), rstd.astype(np.float64)
        before = reference.batchnorm_before_activation(x, gamma, beta, added, mean, rstd)
        smallest = np.abs(before).min(initial=1) if activation == "relu" else 1
    expected = reference.batchnorm_backward(x, dy, gamma, beta, added, mean, rstd, activation, training)
    rows = x.size // C
    normalised = (largest(x) + largest(mean)) * largest(rstd)
    slope = largest(dy) * (4 + largest(before))  # silu: how far rounding before it moves the gradient
    scale = (1 if gamma is None else largest(gamma)) * largest(rstd)
    sums = rows**0.5 * 4 * slope
    tolerance = [16 * scale * slope * (1 + normalised**2), sums * normalised, sums, 8 * slope]
    return Problem([x, dy, gamma, beta, added, mean, rstd], [*expected], tolerance)


def _sample_affine(random: Generator, shape: Shape, affine: bool) -> list[Array | None]:
    """gamma, beta."""
    return [(normal(random, shape) + 1.5).astype(np.float32).astype(np.float64), normal(random, shape)] if affine else [None, None]


def _normalized_problem(x: Array, gamma: Array | None, beta: Array | None, expected: tuple[Array, ...]) -> Problem:
    y, _, rstd = expected
    scale = (1.0 if gamma is None else largest(gamma)) * largest(rstd)
    return Problem([x, gamma, beta], [*expected], [32 * (scale * largest(x) + largest(y) + 1), 16 * largest(x), 64 * rstd])


def _normalized_backward_problem(
    x: Array, dy: Array, gamma: Array | None, statistics: tuple[Array, Array], expected: tuple[Array, ...], summed: int
) -> Problem:
    normalised = 2 * largest(x) * largest(statistics[1])
    scale = (1 if gamma is None else largest(gamma)) * largest(statistics[1])
    sums = summed**0.5 * 8 * largest(dy)
    return Problem(
        [x, dy, gamma, *statistics], [*expected], [32 * scale * largest(dy) * (1 + normalised**2), sums * (1 + normalised), sums]
    )


def _rounded(values: Array) -> Array:
    return np.asarray(values.astype(np.float32).astype(np.float64))


def _layer_gamma(x_shape: Shape, dims: int) -> Shape:
    normalized = x_shape[len(x_shape) - dims :]
    return (int(np.prod(normalized)),) if len(x_shape) != 4 else x_shape if dims == 4 else (1, *normalized)


def layernorm_forward(random: Generator, x_shape: Shape, dims: int, eps: float, affine: bool, given: bool = True) -> Problem:
    x, (gamma, beta) = _rounded(normal(random, x_shape) + 2), _sample_affine(random, _layer_gamma(x_shape, dims), given)
    return _normalized_problem(x, gamma, beta, reference.layernorm_forward(x, gamma, beta, dims, eps))


def layernorm_backward(random: Generator, x_shape: Shape, dims: int, eps: float, affine: bool, given: bool = True) -> Problem:
    x, dy = _rounded(normal(random, x_shape) + 2), normal(random, x_shape)
    gamma = _sample_affine(random, _layer_gamma(x_shape, dims), given)[0]
    mean, rstd = (_rounded(v) for v in reference.layernorm_forward(x, None, None, dims, eps)[1:])
    expected = reference.layernorm_backward(x, dy, gamma, mean, rstd, dims, affine)
    return _normalized_backward_problem(x, dy, gamma, (mean, rstd), expected, max(1, mean.size))


def groupnorm_forward(random: Generator, x_shape: Shape, groups: int, eps: float, affine: bool, given: bool = True) -> Problem:
    x, (gamma, beta) = _rounded(normal(random, x_shape) + 2), _sample_affine(random, x_shape[1:2], given)
    return _normalized_problem(x, gamma, beta, reference.groupnorm_forward(x, gamma, beta, groups, eps))


def groupnorm_backward(random: Generator, x_shape: Shape, groups: int, eps: float, affine: bool, given: bool = True) -> Problem:
    x, dy = _rounded(normal(random, x_shape) + 2), normal(random, x_shape)
    gamma = _sample_affine(random, x_shape[1:2], given)[0]
    mean, rstd = (_rounded(v) for v in reference.groupnorm_forward(x, None, None, groups, eps)[1:])
    expected = reference.groupnorm_backward(x, dy, gamma, mean, rstd, groups, affine)
    return _normalized_backward_problem(x, dy, gamma, (mean, rstd), expected, max(1, x.size // x_shape[1]))


LAYERS = [
    ((5, 3), 1),
    ((33, 17), 1),
    ((2, 3, 130), 2),
    ((0, 8), 1),
    ((2, 3, 4, 5, 6), 3),
    ((6,), 1),
    ((4, 3, 5, 7), 3),
    ((2, 3, 4, 5), 4),
    ((9, 40, 33, 31), 3),
    ((7001, 33), 1),
]
GROUPS = [
    ((5, 6), 3),
    ((2, 64), 1),
    ((4, 6, 5, 7), 2),
    ((4, 3, 5, 7), 3),
    ((3, 17, 1, 2), 1),
    ((0, 4, 3, 3), 2),
    ((2, 32, 9, 8), 8),
    ((1, 8, 70, 80), 4),
    ((9, 40, 33, 31), 5),
    ((9, 40, 33, 31), 40),
    ((130, 6, 5, 7), 3),
    ((31, 24, 17, 15), 4),
]


def cases() -> list[Sketch]:
    cases = []
    few = [(shape, "gelu", residual) for shape in BATCHES[1:4] for residual in (False, True)]
    for shape, activation, residual in [*itertools.product(BATCHES, ("none", "relu", "silu"), (False, True)), *few]:
        cases.append(case("batchnorm_forward", shape, 1e-5, 0.1, activation, True, residual))
        cases.append(case("batchnorm_inference", shape, 1e-5, 0.1, activation, False, residual))
        cases += [case("batchnorm_backward", shape, 1e-5, 0.1, activation, training, residual) for training in (True, False)]
    geometries = [g for g in NETWORK_GEOMETRIES if g[0][0]] + NARROW_GROUPS[1:3] + LONG_SUMS + EACH_ALGORITHM
    for i, geometry in enumerate(geometries):
        norm = 1e-5, 0.1, ("none", "relu", "silu")[i % 3], i % 2 == 0
        absent = {} if i % 4 else {"bias": False, "affine": i % 8 == 0, "running": i % 8 == 0}
        cases.append(case("conv2d_batchnorm_forward", *geometry, *norm, **absent))
    for shape in BATCHES[:3]:
        cases.append(case("batchnorm_forward", shape, 1e-3, 0.3, "relu", True, False, affine=False, running=False))
        cases.append(case("batchnorm_inference", shape, 1e-3, 0.3, "relu", False, False, affine=False))
        cases.append(case("batchnorm_backward", shape, 1e-3, 0.3, "relu", True, False, affine=False))
    # found at random: dx is small beside what it is the difference of
    cases.append(case("batchnorm_backward", (5, 3), 1e-5, 0.3, "gelu", True, True, affine=True))
    for row, problems in (("layernorm", LAYERS), ("groupnorm", GROUPS)):
        for shape, n in problems:
            cases.append(case(f"{row}_forward", shape, n, 1e-5, True))
            cases += [case(f"{row}_backward", shape, n, 1e-5, affine) for affine in (True, False)]
        cases += [case(f"{row}_{direction}", *problems[1], 1e-2, True, given=False) for direction in ("forward", "backward")]
    return cases
