"""Problems for the rows of kernels.def: inputs, what the row should write, and how far it may be off.

A problem's function bears its row's name and takes a random generator and the fields of the row's struct. Tolerances count in units of
the type's eps: longest sum x largest terms for what is accumulated, a few for what is not; 0 asks for the exact value, rounded once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import reference
from conv2d_geometries import y_shape_of
from kernel_calls import Operand
from numpy.random import Generator

Array = reference.Array
Shape = tuple[int, ...]


@dataclass
class Problem:
    operands: list[Operand]  # inputs in the row's order, None where absent
    expected: list[Any]  # what the row writes, in the row's order; None where absent, a list for a list
    tolerance: Any = 0  # one for all that is written, or a list


# --- data: float32 numbers, held in float64


def normal(random: Generator, shape: Shape) -> Array:
    return random.standard_normal(shape).astype(np.float32).astype(np.float64)


def integers(random: Generator, shape: Shape, largest: int = 4) -> Array:
    return random.integers(-largest, largest + 1, shape).astype(np.float64)


def largest(*arrays: Array) -> float:
    """The product of the largest magnitudes."""
    return float(np.prod([np.abs(a).max(initial=0) for a in arrays]))


# --- convolution and matrix products. exact: small integers, whose sums float32 holds exactly, so the tolerance is 0


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
    tolerance = (np.prod(w_shape[1:]) + 1) * largest(x, w) + largest(b)
    return Problem([x, w, given], [reference.conv2d_forward(x, w, given, *geometry)], 0 if exact else tolerance)


def conv2d_backward_input(random: Generator, x_shape: Shape, w_shape: Shape, *geometry: Any, exact: bool = False) -> Problem:
    dy, w = _real_or_exact(random, exact, y_shape_of((x_shape, w_shape, *geometry)), w_shape)
    tolerance = (w_shape[0] // geometry[-1] * np.prod(w_shape[2:]) + 1) * largest(dy, w)
    return Problem([dy, w], [reference.conv2d_backward_input(dy, w, x_shape, *geometry)], 0 if exact else tolerance)


def conv2d_backward_weight(random: Generator, x_shape: Shape, w_shape: Shape, *geometry: Any, exact: bool = False) -> Problem:
    x, dy = _real_or_exact(random, exact, x_shape, y_shape_of((x_shape, w_shape, *geometry)))
    tolerance = (dy.size // w_shape[0] + 1) * largest(x, dy)
    return Problem([x, dy], [reference.conv2d_backward_weight(x, dy, w_shape, *geometry)], 0 if exact else tolerance)


def matmul(random: Generator, a_shape: Shape, b_shape: Shape, ta: bool, tb: bool, bias: bool = True, exact: bool = False) -> Problem:
    a, b, n = _real_or_exact(random, exact, a_shape, b_shape, (b_shape[-2 if tb else -1],))
    given = n if bias else None
    tolerance = (a_shape[-2 if ta else -1] + 1) * largest(a, b) + largest(n)
    return Problem([a, b, given], [reference.matmul(a, b, given, ta, tb)], 0 if exact else tolerance)


def channel_sum(random: Generator, shape: Shape, exact: bool = True) -> Problem:
    x = integers(random, shape) if exact else normal(random, shape)
    return Problem([x], [reference.channel_sum(x)], 0 if exact else x.size // shape[1] * largest(x))


# --- pooling


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


# --- batch normalisation


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
    variance = [None if r is None else 64 * r for r in (expected[1], rstd)]
    return Problem(
        [x, gamma, beta, added, *statistics],
        [*expected],
        [mean_tolerance, variance[0], y_tolerance, mean_tolerance, variance[1]],
    )


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


# --- activations, dropout, elementwise


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


def dropout(random: Generator, shape: Shape, p: float, draw: int, offset: int) -> Problem:
    x, state = normal(random, shape), np.array([random.integers(2**63), random.integers(2**40)])
    x = np.where(x == 0, 1, x)  # so that what is kept can be told from what is not
    y = reference.dropout(x, state, p, draw, offset)
    return Problem([x, state], [y], 2 * np.abs(y))  # 0 where dropped


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


# --- reductions and strided copies


def sum(random: Generator, x_shape: Shape, axes: Shape, keepdims: bool, exact: bool = True) -> Problem:
    x = integers(random, x_shape) if exact else normal(random, x_shape)
    y = reference.sum(x, axes, keepdims)
    return Problem([x], [y], 0 if exact else x.size // max(y.size, 1) * largest(x))


def max_forward(random: Generator, x_shape: Shape, axes: Shape, keepdims: bool) -> Problem:
    x = integers(random, x_shape)  # ties
    return Problem([x], [*reference.max_forward(x, axes, keepdims)])


def max_backward(random: Generator, x_shape: Shape, axes: Shape, keepdims: bool) -> Problem:
    _, index = reference.max_forward(normal(random, x_shape), axes, keepdims)
    dy = normal(random, index.shape)
    return Problem([index, dy], [reference.max_backward(index, dy, x_shape, axes)])


def view_parameters(x_shape: Shape, view: Callable[[Array], Array], y_shape: Shape | None = None) -> tuple[Any, ...]:
    """The fields of Strided that copy view(x), a numpy view, seen as y_shape (where that is not the view's own shape)."""
    x = reference.from_memory(np.arange(np.prod(x_shape, dtype=int)), x_shape)
    seen = view(x)
    if seen.ndim == 4 and (y_shape is None or len(y_shape) == 4):
        y_shape, seen = y_shape or seen.shape, seen.transpose(0, 2, 3, 1)  # in y's memory order
    stride = tuple(s // x.itemsize for s in seen.strides)
    return x_shape, y_shape or seen.shape, seen.shape, stride, int(seen.flat[0]) if seen.size else 0


def copy(random: Generator, x_shape: Shape, y_shape: Shape, dims: Shape, stride: Shape, offset: int) -> Problem:
    x = normal(random, x_shape)
    return Problem([x], [reference.copy(x, y_shape, dims, stride, offset)])


def copy_backward(random: Generator, x_shape: Shape, y_shape: Shape, dims: Shape, stride: Shape, offset: int) -> Problem:
    dy = normal(random, y_shape)
    return Problem([dy], [reference.copy_backward(dy, x_shape, dims, stride, offset)])


# --- loss, optimizers, data


def _labels(random: Generator, shape: Shape, ignore_index: int) -> Array:
    labels = random.integers(0, shape[1], shape[0])
    labels[::5] = np.where(random.random(len(labels[::5])) < 0.5, ignore_index, labels[::5])
    return labels


def cross_entropy_forward(
    random: Generator,
    shape: Shape,
    smoothing: float,
    ignore_index: int,
    reduction: str,
    weighted: bool = False,
    scale: float = 3.0,
) -> Problem:
    logits, labels = (
        (scale * normal(random, shape)).astype(np.float32).astype(np.float64),
        _labels(random, shape, ignore_index),
    )
    weight = (random.random(shape[1]) + 0.5).astype(np.float32).astype(np.float64) if weighted else None
    loss, lse, divisor = reference.cross_entropy_forward(logits, labels, weight, smoothing, ignore_index, reduction)
    each = 8 * (largest(logits) + np.log(shape[1]) + 1) * (1.5 if weighted else 1)
    total = {"none": each, "sum": each * shape[0], "mean": each * shape[0] * 1.5 / max(float(divisor), 1)}[reduction]
    return Problem([logits, labels, weight], [loss, lse, divisor], [total, each, 2 * shape[0]])


def cross_entropy_backward(
    random: Generator,
    shape: Shape,
    smoothing: float,
    ignore_index: int,
    reduction: str,
    weighted: bool = False,
    scale: float = 3.0,
) -> Problem:
    forward = cross_entropy_forward(random, shape, smoothing, ignore_index, reduction, weighted, scale)
    logits, labels, weight = forward.operands
    _, lse, divisor = forward.expected
    dloss = normal(random, shape[:1] if reduction == "none" else ())
    dx = reference.cross_entropy_backward(logits, labels, weight, divisor, dloss, smoothing, ignore_index, reduction)
    tolerance = 2 * (2 * largest(logits) + np.log(shape[1]) + 8) * largest(dloss) / max(float(divisor), 0.5)
    return Problem([logits, labels, weight, lse, divisor, dloss], [dx], tolerance)


PARAMETER_SHAPES = [(3, 5), (17,), (8, 3, 3, 3), (1,), (0,), (70_001,)]


def _parameters(random: Generator, count: int) -> list[Array]:
    return [normal(random, PARAMETER_SHAPES[i % len(PARAMETER_SHAPES)]) for i in range(count)]


def sgd_step(random: Generator, count: int, groups: int) -> Problem:
    w, g, v = (_parameters(random, count) for _ in range(3))
    rates = np.array([[0.1, 0.01, 0.9, 1], [0.05, 0, 0.9, 0], [0.3, 0.1, 0, 0]])[:groups]
    group = random.integers(0, groups, count)
    return Problem([w, g, v, group, rates], [*reference.sgd_step(w, g, v, group, rates)], 32)


def adam_step(random: Generator, count: int, groups: int, t: int = 3) -> Problem:
    w, g, m, v = (_parameters(random, count) for _ in range(4))
    v = [np.abs(a) for a in v]
    rates = np.array([[0.1, 0.01, 0.9, 0.999, 1e-8, 1], [0.05, 0.02, 0.8, 0.9, 1e-3, 0], [0.3, 0, 0.5, 0.99, 1e-6, 0]])[:groups]
    group = random.integers(0, groups, count)
    w2, m2, v2 = reference.adam_step(w, g, m, v, group, rates, np.int64(t))
    moved = max((float(np.abs(a - b).max(initial=0)) for a, b in zip(w, w2, strict=True)), default=0.0)
    return Problem([w, g, m, v, group, rates, np.array(t)], [w2, m2, v2], [16 * moved + 32, 32, 256])


def gather_normalize(random: Generator, source_shape: Shape, batch: int) -> Problem:
    source, index = random.integers(0, 256, source_shape).astype(np.uint8), random.integers(0, source_shape[0], batch)
    scale, shift = normal(random, source_shape[1:2]) / 64, normal(random, source_shape[1:2])
    return Problem(
        [source, index, scale, shift],
        [reference.gather_normalize(source, index, scale, shift)],
        512 * largest(scale) + 2 * largest(shift),
    )


def random_bits(random: Generator, n: int, draw: int, purpose: int) -> Problem:
    state = np.array([random.integers(-(2**63), 2**63), random.integers(2**40)])
    return Problem([state], [reference.random_bits(state, n, draw, purpose)])
