"""Reductions, and strided copies, whose dims and stride count elements in memory."""

from __future__ import annotations

import math

import numpy as np

from .memory import Array, Shape, from_memory, in_memory


def sum(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return np.sum(x, axis=axes, keepdims=keepdims)


def _reduced_last(x: Array, axes: tuple[int, ...]) -> tuple[Array, list[int], list[int]]:
    """x with kept dimensions first and reduced ones behind, these in the order they lie in memory."""
    memory_order = [0, 2, 3, 1] if x.ndim == 4 else list(range(x.ndim))
    kept, reduced = [d for d in range(x.ndim) if d not in axes], [d for d in memory_order if d in axes]
    return x.transpose(kept + reduced), kept, reduced


def max_forward(x: Array, axes: tuple[int, ...], keepdims: bool) -> tuple[Array, Array]:
    moved, kept, _ = _reduced_last(x, axes)
    rows = moved.reshape(*(x.shape[d] for d in kept), -1)
    index = rows.argmax(axis=-1)  # numpy: ties to the first, NaN wins
    y = np.take_along_axis(rows, index[..., None], axis=-1)[..., 0]
    shape = tuple(1 if d in axes else x.shape[d] for d in range(x.ndim) if keepdims or d not in axes)
    return y.reshape(shape), index.reshape(shape)


def max_backward(index: Array, dy: Array, x_shape: Shape, axes: tuple[int, ...]) -> Array:
    dx = np.zeros(x_shape)
    moved, kept, reduced = _reduced_last(dx, axes)
    rows = np.zeros((*(x_shape[d] for d in kept), math.prod(x_shape[d] for d in reduced)))
    np.put_along_axis(rows, index.reshape(rows.shape[:-1])[..., None], dy.reshape(rows.shape[:-1])[..., None], axis=-1)
    moved[...] = rows.reshape(moved.shape)  # moved is a view of dx
    return dx


def _places(dims: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Array:
    return offset + np.sum([i * s for i, s in zip(np.indices(dims), stride, strict=True)], axis=0, dtype=np.int64).reshape(-1)


def copy(x: Array, y_shape: Shape, dims: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Array:
    return from_memory(in_memory(x)[_places(dims, stride, offset)], y_shape)


def copy_backward(dy: Array, x_shape: Shape, dims: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Array:
    dx = np.zeros(math.prod(x_shape))
    dx[_places(dims, stride, offset)] = in_memory(dy)
    return from_memory(dx, x_shape)


def paste(part: Array, whole: Array, dims: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Array:
    written = in_memory(whole).copy()
    written[_places(dims, stride, offset)] = in_memory(part)
    return from_memory(written, whole.shape)


def _places_along(x_shape: Shape, index: Array, axis: int, flat: bool) -> tuple[Array, ...]:
    """Where in x each element of y comes from."""
    axis %= len(x_shape)
    y_shape = (*x_shape[:axis], len(index), *x_shape[axis + 1 :]) if flat else index.shape
    at = list(np.indices(y_shape))
    at[axis] = index.astype(int)[at[axis]] if flat else index.astype(int)
    return tuple(at)


def gather_forward(x: Array, index: Array, axis: int, flat: bool) -> Array:
    return x[_places_along(x.shape, index, axis, flat)]


def gather_backward(index: Array, dy: Array, x_shape: Shape, axis: int, flat: bool) -> Array:
    dx = np.zeros(x_shape)
    np.add.at(dx, _places_along(x_shape, index, axis, flat), dy)
    return dx
