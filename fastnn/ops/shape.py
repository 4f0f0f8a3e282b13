"""Reshape, transpose and slices. Where memory order stays the same the bytes are shared, otherwise one strided copy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import prod
from operator import index as as_integer
from typing import Any

import numpy as np

from .. import _C
from ..arguments import array, items, shown
from ..tensor import Array, Op, Tensor, apply

Shape = tuple[int, ...]
floats = ("float32", "float64", "bfloat16")  # what kernels move; other dtypes have no gradient and go through numpy


def row_major(shape: Shape) -> Shape:
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


def memory_strides(shape: Shape) -> Shape:
    """Strides in elements as arrays lie: N, H, W, C for rank 4."""
    if len(shape) != 4:
        return row_major(shape)
    _, c, h, w = shape
    return h * w * c, 1, w * c, c


@lru_cache(4096)
def strided(x: Shape, y: Shape, strides: Shape, offset: int) -> _C.Strided:
    """y[i_0, i_1, ...] = x's memory at offset + sum i_d strides[d], for logical dimensions of y."""
    order = (0, 2, 3, 1) if len(y) == 4 else range(len(y))
    return _C.Strided(x, y, [y[d] for d in order], [strides[d] for d in order], offset)


def reshaped(a: Array, shape: Shape) -> Array:
    if a.shape == shape or (_C.lies_row_major(a.shape) and _C.lies_row_major(shape)):
        return a.view(shape)
    if a.dtype not in floats:
        return _C.from_numpy(a.numpy().reshape(shape), a.device)
    if not _C.lies_row_major(a.shape):  # out of N, H, W, C: walk (n, c, h, w)
        flat = (a.size,)
        walk = _C.Strided(a.shape, flat, a.shape, memory_strides(a.shape), 0)
        return reshaped(_C.copy(walk, a), shape)
    return _C.copy(strided(a.shape, shape, row_major(shape), 0), a)


def expanded(a: Array, shape: Shape) -> Array:
    """`a` with its dimensions of size 1 repeated up to `shape` (of the same rank)."""
    strides = tuple(0 if n == 1 else s for n, s in zip(a.shape, memory_strides(a.shape)))
    return a if a.shape == shape else _C.copy(strided(a.shape, shape, strides, 0), a)


class Reshape(Op):
    __slots__ = ("shape", "source")

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def forward(self, x: Array) -> Array:
        self.save()
        self.source = x.shape
        return reshaped(x, self.shape)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (reshaped(dy, self.source),)


class View(Op):
    """A strided selection without repetition: transpose and slices."""

    __slots__ = ("shape", "strides", "offset", "source")

    def __init__(self, shape: Shape, strides: Shape, offset: int) -> None:
        self.shape, self.strides, self.offset = shape, strides, offset

    def forward(self, x: Array) -> Array:
        self.save()
        self.source = x.shape
        return _C.copy(strided(x.shape, self.shape, self.strides, self.offset), x)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (_C.copy_backward(strided(self.source, self.shape, self.strides, self.offset), dy),)


class ZeroPad2d(Op):
    """The transpose of a slice: x between zeros."""

    __slots__ = ("shape", "offset", "walk")

    def __init__(self, shape: Shape, offset: int) -> None:
        self.shape, self.offset = shape, offset

    def forward(self, x: Array) -> Array:
        self.save()
        self.walk = strided(self.shape, x.shape, memory_strides(self.shape), self.offset)
        return _C.copy_backward(self.walk, x)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (_C.copy(self.walk, dy),)


def expect_tensor(what: str, x: Any, name: str = "x") -> None:
    """For operations that may hand x on as it is: anything would pass; and for those that look at it before a kernel does."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{what}: {name}: expected a Tensor, got {shown(x)}; fastnn.tensor(array) makes one")


def zero_pad2d(x: Tensor, padding: Sequence[int]) -> Tensor:
    """Zeros around each map of (N, C, H, W): padding = (left, right, top, bottom)."""
    if not isinstance(padding, Sequence):
        raise TypeError(f"zero_pad2d: padding must be (left, right, top, bottom), got {shown(padding)}")
    if x.ndim != 4 or len(padding) != 4 or min(padding) < 0:
        raise ValueError(
            f"zero_pad2d: expected (N, C, H, W) and 4 numbers that are not negative, got shape {x.shape} and {shown(tuple(padding))}"
        )
    left, right, top, bottom = padding
    n, c, h, w = x.shape
    shape = (n, c, h + top + bottom, w + left + right)
    return apply(ZeroPad2d(shape, (top * shape[3] + left) * c), x)


def sizes(what: str, shape: Any) -> Shape:
    """A shape, of integers in any sequence, as a tuple; one alone is that of rank 1."""
    try:
        given = (shape,) if hasattr(shape, "__index__") and not getattr(shape, "ndim", 0) else tuple(shape)
        if bool in map(type, given) or isinstance(shape, (bytes, set, frozenset, dict)):
            raise TypeError
        whole = tuple([as_integer(n) for n in given])
    except TypeError:
        raise TypeError(f"{what}: shape must be integers, got {shown(shape)}") from None
    if any(n >= 2**63 for n in whole):
        raise ValueError(f"{what}: sizes must be less than 2**63, got {shown(shape)}")
    return whole


def reshape(x: Tensor, shape: Sequence[int] | int) -> Tensor:
    """The same elements in row-major (N, C, H, W) order under another shape (one integer: of rank 1); one size may be -1."""
    expect_tensor("reshape", x)
    wanted = sizes("reshape", shape)
    if wanted.count(-1) == 1:
        known = -prod(wanted)
        if known == 0 or x.size % known:
            raise ValueError(f"reshape: {x.size} elements of shape {x.shape} do not fill {wanted}")
        wanted = tuple(x.size // known if n == -1 else n for n in wanted)
    if any(n < 0 for n in wanted):
        raise ValueError(f"reshape: sizes must not be negative, but for one of -1, which is worked out from {x.shape}; got {wanted}")
    if prod(wanted) != x.size:
        raise ValueError(f"reshape: shape {x.shape} has {x.size} elements, {wanted} has {prod(wanted)}")
    return x if wanted == x.shape else apply(Reshape(wanted), x)


def flatten(x: Tensor, start: int = 1, end: int = -1) -> Tensor:
    """Merges the dimensions from `start` to `end`, both included, in row-major (C, H, W) order. ValueError where there are none."""
    first, last = (d + x.ndim if d < 0 else d for d in (start, end))
    if not 0 <= first <= last < x.ndim:
        raise ValueError(f"flatten: dimensions {start} to {end} do not exist in shape {x.shape}")
    return reshape(x, (*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Dimension `dim` becomes those of `sizes`, of which one may be -1. ValueError where their product is another."""
    at = dim + x.ndim if dim < 0 else dim
    if not 0 <= at < x.ndim:
        raise ValueError(f"unflatten: dimension {dim} does not exist in shape {x.shape}")
    if not all(hasattr(n, "__index__") for n in sizes):
        raise TypeError(f"unflatten: sizes must be integers, got {shown(sizes)}")
    whole, known = x.shape[at], prod(n for n in sizes if n != -1)
    parts = tuple(whole // max(known, 1) if n == -1 else n for n in sizes)
    if tuple(sizes).count(-1) > 1 or prod(parts) != whole:
        raise ValueError(f"unflatten: dimension {dim} of {x.shape} cannot become {tuple(sizes)}; their product must be {whole}")
    return reshape(x, (*x.shape[:at], *parts, *x.shape[at + 1 :]))


def transpose(x: Tensor, axes: Iterable[int] | None = None) -> Tensor:
    """Dimensions in the order `axes`; reversed without it."""
    there, given = list(range(x.ndim)), () if axes is None else tuple(items("transpose", "axes", axes, "the dimensions in their new order"))
    fitting = [a % x.ndim for a in given if isinstance(a, (int, np.integer)) and not isinstance(a, bool) and -x.ndim <= a < x.ndim]
    order = tuple(there[::-1] if axes is None else fitting)
    if sorted(order) != there or axes is not None and len(given) != x.ndim:
        pair = "; PyTorch's two are numpy's swapaxes, here all are given in their new order" if len(given) == 2 < x.ndim else ""
        raise ValueError(f"transpose: axes {shown(given)} are not a permutation of the {x.ndim} dimensions of {x.shape}{pair}")
    if x.dtype not in floats:
        return Tensor(_C.from_numpy(x.numpy().transpose(order), x.device))
    strides = memory_strides(x.shape)
    return apply(View(tuple(x.shape[a] for a in order), tuple(strides[a] for a in order), 0), x)


_PLACES = (int, np.integer, list, range, np.ndarray, Tensor)  # numbers of one axis


def _numpys(key: Any) -> Any:
    """PyTorch's indices and masks, and whatever else numpy takes for an array, as its arrays."""
    foreign = hasattr(key, "__array__") and not isinstance(key, (np.ndarray, np.generic, Tensor))
    return array("index", "index", key) if foreign else key


def index(x: Tensor, key: Any) -> Tensor:
    """x[key] for integers, slices (any step), Ellipsis and None; an array or list of integers takes slices along the first axis (ops.take),
    several, for the first axes, what stands at each place: s[np.arange(len(y)), y] is every row's element of its class. A mask, booleans of x's
    shape or of its first sizes, takes the elements or slices for which it holds: x[x > 0], x[labels == 3]. Each may be PyTorch's."""
    key = tuple(map(_numpys, key)) if isinstance(key, tuple) else _numpys(key)
    if isinstance(key, (list, range, np.ndarray, Tensor)):
        from .gather import take, where_it_holds  # built on this file

        holds = array("index", "index", key) if isinstance(key, list) or getattr(key, "dtype", "") == "bool" else None
        return take(x, key) if holds is None or holds.dtype != "bool" else where_it_holds(x, holds)
    keys = list(key) if isinstance(key, tuple) else [key]
    if len(keys) > 1 and all(isinstance(k, _PLACES) for k in keys) and not all(isinstance(k, (int, np.integer)) for k in keys):
        from .gather import take_points

        return take_points(x, keys)
    given = sum(k is not None and k is not Ellipsis for k in keys)
    ellipses = [i for i, k in enumerate(keys) if k is Ellipsis]
    if len(ellipses) > 1 or given > x.ndim:
        raise IndexError(f"index {key} does not fit shape {x.shape}")
    at = ellipses[0] if ellipses else len(keys)
    keys[at : at + 1] = [slice(None)] * (x.ndim - given)
    strides_in, shape, strides, offset, d = memory_strides(x.shape), [], [], 0, 0
    for k in keys:
        if k is None:
            shape.append(1)
            strides.append(0)
            continue
        size = x.shape[d]
        if isinstance(k, slice):
            start, stop, step = k.indices(size)
            count = len(range(start, stop, step))
            shape.append(count)
            strides.append(step * strides_in[d])
            offset += start * strides_in[d] if count else 0
        elif isinstance(k, (int, np.integer)) and not isinstance(k, bool):
            if not -size <= k < size:
                raise IndexError(f"index {shown(k)} is out of bounds for dimension {d} of size {size} (shape {x.shape})")
            offset += int(k) % size * strides_in[d]
        else:
            several = f"; ops.take(x, positions, axis={d}) takes several" if isinstance(k, (list, range, np.ndarray, Tensor)) else ""
            raise TypeError(f"index: expected integers, slices, Ellipsis or None, got {type(k).__name__}{several}")
        d += 1
    if x.dtype not in floats:
        return Tensor(_C.from_numpy(np.asarray(x.numpy()[key]), x.device))
    return apply(View(tuple(shape), tuple(strides), offset), x)
