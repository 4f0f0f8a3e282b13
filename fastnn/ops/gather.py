"""Elements taken by their index, and arrays joined."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .. import _C
from ..arguments import array, own_integers, shown
from ..tensor import Array, Op, Tensor, apply
from .shape import floats, memory_strides, reshape, strided

along = lru_cache(4096)(_C.GatherAlong)

Shape = tuple[int, ...]


class Gather(Op):
    __slots__ = ("index", "arguments", "plan")

    def __init__(self, index: Array, axis: int, flat: bool) -> None:
        self.index, self.arguments = index, (axis, flat)

    def forward(self, x: Array) -> Array:
        self.plan = along(x.shape, self.index.shape, *self.arguments)
        self.save(self.index)
        return _C.gather_forward(self.plan, x, self.index)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (index,) = self.saved
        return (_C.gather_backward(self.plan, index, dy),)


class Concat(Op):
    __slots__ = ("axis", "shape", "parts")

    def __init__(self, axis: int, shape: Shape) -> None:
        self.axis, self.shape = axis, shape

    def forward(self, *parts: Array) -> Array:
        self.save()
        self.parts = [p.shape for p in parts]
        whole = _C.empty(self.shape, parts[0].dtype, parts[0].device)
        for view, part in zip(self.views(), parts):
            _C.paste(view, part, whole)
        return whole

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return tuple([_C.copy(view, dy) if need else None for view, need in zip(self.views(), self.needs)])

    def views(self) -> list[_C.Strided]:
        """Where each part lies in the whole."""
        strides, at, views = memory_strides(self.shape), 0, []
        for part in self.parts:
            views.append(strided(self.shape, part, strides, at * strides[self.axis] if 0 not in part else 0))
            at += part[self.axis]
        return views


def axis_of(axis: int, ndim: int, what: str, shape: Shape) -> int:
    if not hasattr(axis, "__index__") or isinstance(axis, bool):
        raise TypeError(f"{what}: axis must be an integer, got {shown(axis)}")
    if not -ndim <= axis < ndim:
        raise ValueError(f"{what}: axis {axis} does not exist in shape {shape}")
    return axis % ndim


def whole_numbers(index: Any, size: int, what: str, *, negative: bool) -> np.ndarray:
    """The values of an index, each in [0, size); negative ones count from the end where that is allowed."""
    values = index.numpy() if isinstance(index, Tensor) else array(what, "index", index)
    if values.size == 0 and isinstance(index, (list, tuple)):  # no number says which type
        values = values.astype(np.int64)
    if values.dtype.kind == "b":
        hint = "x[mask] takes what it holds for, ops.where(mask, x, 0.0) keeps the shape"
        raise TypeError(f"{what}: a mask of booleans is no index: {hint}")
    if values.dtype.kind not in "iu":
        raise TypeError(f"{what}: the index must hold integers, got dtype {values.dtype}")
    values = own_integers(values)
    wrong = (values >= size) | (values < (-size if negative else 0))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise IndexError(f"{what}: index {values[at]} at {at} lies outside of the axis, which has {size} elements")
    return np.where(values < 0, values + size, values) if negative else values


def gather(x: Tensor, axis: int, index: Any) -> Tensor:
    """torch.gather: y[i, j, k] = x[index[i, j, k], j, k] for axis 0, and so on: (any shape of x's rank, at most x's but for the axis).

    Gradients of elements taken several times are added, always in the same order. The index is looked at by the CPU, so that is where it is
    best left. Raises IndexError for an index outside of the axis (negative ones too), TypeError for one that does not hold integers.
    """
    axis = axis_of(axis, x.ndim, "gather", x.shape)
    values = whole_numbers(index, x.shape[axis], "gather", negative=False)
    if values.ndim != x.ndim:
        raise ValueError(f"gather: index has shape {values.shape}; expected {x.ndim} dimensions, as x of shape {x.shape}")
    if x.dtype not in floats:
        at: Any = list(np.indices(values.shape, sparse=True))
        at[axis] = values
        return Tensor(_C.from_numpy(np.asarray(x.numpy()[tuple(at)]), x.device))
    return apply(Gather(_C.from_numpy(values, x.device), axis, False), x)


def take(x: Tensor, index: Any, axis: int = 0) -> Tensor:
    """Whole slices by their number: x[index] for axis 0, an embedding's rows; the index's dimensions take the axis's place.

    Negative numbers count from the end. Gradients of slices taken several times are added, always in the same order.
    Raises IndexError for a number outside of the axis, TypeError for an index that does not hold integers.
    """
    axis = axis_of(axis, x.ndim, "take", x.shape)
    values = whole_numbers(index, x.shape[axis], "take", negative=True)
    if x.dtype not in floats:
        return Tensor(_C.from_numpy(np.asarray(np.take(x.numpy(), values, axis)), x.device))
    y = apply(Gather(_C.from_numpy(values.reshape(-1), x.device), axis, True), x)
    return y if values.ndim == 1 else reshape(y, (*x.shape[:axis], *values.shape, *x.shape[axis + 1 :]))


def where_it_holds(x: Tensor, mask: np.ndarray) -> Tensor:
    """x[mask]: the elements for which it holds, in row-major order; the slices, where the mask has the first of x's dimensions alone."""
    if not 0 < mask.ndim <= x.ndim or mask.shape != x.shape[: mask.ndim]:
        raise IndexError(f"index: a mask of shape {mask.shape} for x of shape {x.shape}; expected that shape, or the first of its sizes")
    return take(reshape(x, (mask.size, *x.shape[mask.ndim :])), np.flatnonzero(mask))


def take_points(x: Tensor, keys: Sequence[Any]) -> Tensor:
    """x[rows, columns, ...] with an index for each of the first axes, as numpy has it: they are broadcast, and name places together."""
    if len(keys) > x.ndim:
        raise IndexError(f"index: {len(keys)} arrays for the {x.ndim} dimensions of {x.shape}")
    whole = [whole_numbers(key, size, f"index, axis {d}", negative=True) for d, (key, size) in enumerate(zip(keys, x.shape))]
    try:
        places = np.broadcast_arrays(*whole)
    except ValueError:
        raise IndexError(f"index: index arrays of shapes {', '.join(str(a.shape) for a in whole)} do not fit together") from None
    flat, count = np.zeros(places[0].shape, np.int64), 1
    for place, size in zip(places, x.shape):
        flat, count = flat * size + place, count * size
    return take(reshape(x, (count, *x.shape[len(keys) :])), flat)


def several(what: str, tensors: Any) -> list[Tensor]:
    """At least one Tensor. A Tensor alone is none of several, though its rows would pass for some."""
    if isinstance(tensors, Tensor):
        raise TypeError(f"{what}: tensors must be a list of Tensors, got a Tensor; write {what}([x, y])")
    parts = list(tensors)
    if not parts:
        raise ValueError(f"{what}: needs at least one tensor")
    for part in parts:
        if not isinstance(part, Tensor):
            raise TypeError(f"{what}: expected Tensors, got {shown(part)}; fastnn.tensor(array) makes one")
    first = parts[0].device
    apart = next((i for i, p in enumerate(parts) if p.device != first), None)
    if apart is not None:
        raise ValueError(f"{what}: tensor {apart} lies on {parts[apart].device}, tensor 0 on {first}; move one of them with .to('{first}')")
    return parts


def concat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors one behind the other along `axis`; all other sizes must be the same. ValueError names the one that does not fit."""
    parts = several("concat", tensors)
    first = parts[0]
    axis = axis_of(axis, first.ndim, "concat", first.shape)
    for i, p in enumerate(parts):
        if p.ndim != first.ndim or any(n != m for d, (n, m) in enumerate(zip(p.shape, first.shape)) if d != axis):
            raise ValueError(f"concat: tensor {i} has shape {p.shape}, tensor 0 {first.shape}; they may differ in dimension {axis} alone")
        if p.dtype != first.dtype:
            raise TypeError(f"concat: tensor {i} has dtype {p.dtype}, tensor 0 {first.dtype}")
    if first.dtype not in floats:
        return Tensor(_C.from_numpy(np.concatenate([p.numpy() for p in parts], axis), first.device))
    shape = tuple(sum(p.shape[d] for p in parts) if d == axis else n for d, n in enumerate(first.shape))
    return apply(Concat(axis, shape), *parts)


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new dimension `axis`."""
    parts = several("stack", tensors)
    for i, p in enumerate(parts):
        if p.shape != parts[0].shape:
            raise ValueError(f"stack: tensor {i} has shape {p.shape}, tensor 0 {parts[0].shape}; they must be the same")
    shape = parts[0].shape
    at = axis_of(axis, len(shape) + 1, "stack", shape)
    return concat([reshape(p, (*shape[:at], 1, *shape[at:])) for p in parts], at)
