"""sum, mean, max, min over any axes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import index
from typing import Any

from .. import _C
from ..arguments import shown
from ..tensor import Array, Op, Tensor, apply
from .shape import expanded, expect_tensor, reshaped, sizes
from .whole import is_whole, reduced

Axes = tuple[int, ...]


@lru_cache(4096)
def reduction(shape: tuple[int, ...], axes: Axes, keepdims: bool) -> _C.Reduce:
    return _C.Reduce(shape, axes, keepdims)


@lru_cache(4096)
def kept_shape(shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
    """The shape that keepdims would give."""
    gone = {a % len(shape) for a in axes}
    return tuple(1 if i in gone else n for i, n in enumerate(shape))


def with_kept_dims(a: Array, shape: tuple[int, ...], axes: Axes) -> Array:
    """`a`, a reduction of `shape` over `axes` without keepdims, in the rank of `shape`."""
    wanted = kept_shape(shape, axes)
    return a if a.shape == wanted else reshaped(a, wanted)


def axes_of(what: str, x: Tensor, axis: int | Sequence[int] | None) -> Axes:
    if axis is None:
        return tuple(range(x.ndim))
    several = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    if isinstance(axis, (str, bytes)) or not all(hasattr(a, "__index__") and not isinstance(a, bool) for a in several):
        raise TypeError(f"{what}: axis must be an integer, several, or None, got {shown(axis)}")
    wrong = next((a for a in several if not -x.ndim <= index(a) < x.ndim), None)
    if wrong is not None:
        raise ValueError(f"{what}: axis {wrong} does not exist in shape {x.shape}")
    return tuple(index(a) for a in several)


class Sum(Op):
    __slots__ = ("axes", "keepdims", "shape")

    def __init__(self, axes: Axes, keepdims: bool) -> None:
        self.axes, self.keepdims = axes, keepdims

    def forward(self, x: Array) -> Array:
        self.save()
        self.shape = x.shape
        return _C.sum(reduction(x.shape, self.axes, self.keepdims), x)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (expanded(with_kept_dims(dy, self.shape, self.axes), self.shape),)


class Max(Op):
    __slots__ = ("axes", "keepdims", "shape")

    def __init__(self, axes: Axes, keepdims: bool) -> None:
        self.axes, self.keepdims = axes, keepdims

    def forward(self, x: Array) -> Array:
        y, winner = _C.max_forward(reduction(x.shape, self.axes, self.keepdims), x)
        self.shape = x.shape
        self.save(winner)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (winner,) = self.saved
        return (_C.max_backward(reduction(self.shape, self.axes, self.keepdims), winner, dy),)


class BroadcastTo(Op):
    __slots__ = ("shape", "axes")

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, x: Array) -> Array:
        self.save()
        self.axes = tuple(i for i, n in enumerate(x.shape) if n != self.shape[i])
        return expanded(x, self.shape)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (_C.sum(reduction(dy.shape, self.axes, True), dy),)


def broadcast_to(x: Tensor, shape: Any) -> Tensor:
    """Repeats dimensions of size 1 until the shape is `shape` (integers, in any sequence), of the same rank."""
    expect_tensor("broadcast_to", x)
    shape = sizes("broadcast_to", shape)
    if len(shape) != x.ndim or any(n != m and n != 1 for n, m in zip(x.shape, shape)):
        raise ValueError(f"broadcast_to: {x.shape} cannot be repeated to {shape}; sizes must be equal, or 1 in the first")
    return x if x.shape == shape else apply(BroadcastTo(shape), x)


def sum(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """Sum over `axis` (an int, several, or None for all); of whole numbers and booleans in int64."""
    axes = axes_of("sum", x, axis)
    return reduced("sum", x, axes, keepdims) if is_whole(x) else apply(Sum(axes, keepdims), x)


def mean(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over `axis`; of whole numbers and booleans in float32."""
    axes = axes_of("mean", x, axis)
    if is_whole(x):
        return reduced("mean", x, axes, keepdims)
    return sum(x, axes, keepdims) / float(reduction(x.shape, axes, keepdims).reduced_count)


def max(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """Largest value over `axis`; NaN wins. The gradient goes to one position: the first in memory order among ties."""
    largest = _largest("max", x, axis, keepdims)
    return reduced("max", x, largest.axes, keepdims) if is_whole(x) else apply(largest, x)


def min(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """Smallest value over `axis`; NaN wins. The gradient goes to one position: the first in memory order among ties."""
    largest = _largest("min", x, axis, keepdims)
    return reduced("min", x, largest.axes, keepdims) if is_whole(x) else -apply(largest, -x)


def _largest(what: str, x: Tensor, axis: int | Sequence[int] | None, keepdims: bool) -> Max:
    axes = axes_of(what, x, axis)
    if reduction(x.shape, axes, keepdims).reduced_count == 0:
        raise ValueError(f"{what} over no elements: shape {x.shape}, axis {axis}")
    return Max(axes, keepdims)
