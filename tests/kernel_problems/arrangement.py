"""Reductions and strided copies."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import reference
from numpy.random import Generator

from .problem import Array, Problem, Shape, Sketch, case, integers, largest, normal


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


def paste(random: Generator, x_shape: Shape, y_shape: Shape, dims: Shape, stride: Shape, offset: int) -> Problem:
    part, whole = normal(random, y_shape), normal(random, x_shape)
    return Problem([part, whole], [reference.paste(part, whole, dims, stride, offset)])


def _index(random: Generator, x_shape: Shape, index_shape: Shape, axis: int) -> Array:
    size = max(1, x_shape[axis])
    return random.integers(0, size, index_shape)


def gather_forward(random: Generator, x_shape: Shape, index_shape: Shape, axis: int, flat: bool) -> Problem:
    x, index = normal(random, x_shape), _index(random, x_shape, index_shape, axis)
    return Problem([x, index], [reference.gather_forward(x, index, axis, flat)])


def gather_backward(random: Generator, x_shape: Shape, index_shape: Shape, axis: int, flat: bool) -> Problem:
    index = _index(random, x_shape, index_shape, axis)
    dy = integers(random, reference.gather_forward(np.zeros(x_shape), index, axis, flat).shape)
    return Problem([index, dy], [reference.gather_backward(index, dy, x_shape, axis, flat)])


GATHERS = [  # x, index, axis, flat
    ((5,), (3,), 0, False),
    ((5,), (0,), 0, True),
    ((4, 6), (4, 1), 1, False),
    ((4, 6), (2, 9), 1, False),
    ((3, 100_003), (2, 100_003), 0, False),
    ((40, 33), (2001,), 0, True),
    ((3, 900), (3, 700), 1, False),
    ((300, 2), (600,), 0, True),
    ((50, 24), (31,), 0, True),
    ((3, 5, 7), (4,), 1, True),
    ((2, 3, 4, 5), (2, 6, 3, 5), 1, False),
    ((2, 3, 4, 5), (2, 3, 9, 4), 2, False),
    ((2, 3, 4, 5), (7,), 0, True),
    ((2, 3, 4, 5), (7,), 3, True),
    ((2, 17, 4, 5), (31,), 1, True),
]

VIEWS = [
    view_parameters((3, 4, 5), lambda x: x.transpose(2, 0, 1)),
    view_parameters((2, 3, 4, 5), lambda x: x, (2, 60)),  # flatten
    view_parameters((2, 60), lambda x: x.reshape(2, 3, 4, 5)),
    view_parameters((2, 3, 6, 7), lambda x: x[:, ::-1, 1:5:2, 6:1:-2]),
    view_parameters((4, 3, 2, 5), lambda x: x.transpose(1, 0, 3, 2)),
    view_parameters((7,), lambda x: x[3]),
    view_parameters((2, 3), lambda x: x[:0]),
    view_parameters((4, 33, 40, 41), lambda x: x, (4, 33 * 40 * 41)),
]
REPEATED = [
    view_parameters((3, 1, 5), lambda x: np.broadcast_to(x, (3, 4, 5))),
    view_parameters((1,), lambda x: np.broadcast_to(x, (90_000,))),
]
REDUCTIONS = [
    ((7,), (0,)),
    ((3, 4, 5), (1,)),
    ((2, 3, 4, 5), (0, 2, 3)),
    ((2, 3, 4, 5), (1,)),
    ((3, 100_003), (1,)),
    ((100_003, 3), (0,)),
    ((260, 127), (0,)),
    ((8, 16, 40, 40), (2, 3)),
    ((300_007,), (0,)),
    ((2, 3, 2, 5, 4), (1, 3)),
    ((6, 64), (1,)),
]


def cases() -> list[Sketch]:
    cases = []
    for row, (shape, axes), keepdims in itertools.product(("sum", "max_forward", "max_backward"), REDUCTIONS, (False, True)):
        cases.append(case(row, shape, axes, keepdims))
    cases += [case("sum", shape, axes, False, exact=False) for shape, axes in REDUCTIONS]
    cases += [case("copy", *view) for view in VIEWS + REPEATED] + [case("copy_backward", *view) for view in VIEWS]
    cases += [case("paste", *view) for view in VIEWS]
    cases += [case(row, *gather) for row in ("gather_forward", "gather_backward") for gather in GATHERS]
    return cases
