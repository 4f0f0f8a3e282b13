"""Variance, standard deviation, length: reductions of squares. Of bfloat16 they are computed in float32, and only the results are rounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import _C
from ..arguments import number, shown
from ..tensor import Array, Op, Tensor, apply
from .activation import elements
from .cast import converted, widened
from .elementwise import binary, constant
from .reduce import Axes, axes_of, reduction, with_kept_dims


def _scaled(a: Array, factor: float) -> Array:
    return _C.multiply(binary(a.shape, ()), a, constant(factor, a.dtype, a.device)._array)


def _over_root(dy: Array, root: Array) -> Array:
    """dy / root, and 0 where the root is 0."""
    zero = constant(0.0, dy.dtype, dy.device)._array
    is_zero = _C.compare(_C.Compare(root.shape, (), "equal"), root, zero)
    return _C.where(binary((), dy.shape), is_zero, zero, _C.divide(binary(dy.shape, root.shape), dy, root))


class Var(Op):
    """sum (x - mean)^2 / divisor, or its root: in two passes, so that a large mean does no harm."""

    __slots__ = ("axes", "keepdims", "divisor", "root")

    def __init__(self, axes: Axes, keepdims: bool, divisor: float, root: bool) -> None:
        self.axes, self.keepdims, self.divisor, self.root = axes, keepdims, divisor, root

    def forward(self, x: Array) -> Array:
        wide = widened(x)
        over = reduction(x.shape, self.axes, True)
        mean = _scaled(_C.sum(over, wide), 1 / over.reduced_count)
        far = _C.subtract(binary(x.shape, mean.shape), wide, mean)
        squares = _C.multiply(binary(x.shape, x.shape), far, far)
        y = _scaled(_C.sum(reduction(x.shape, self.axes, self.keepdims), squares), 1 / self.divisor)
        y = _C.sqrt(elements(y.shape), y) if self.root else y
        self.save(x, mean, y if self.root else None)
        return converted(y, x.dtype)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        x, mean, root = self.saved
        dy, wide = widened(dy), widened(x)
        slope = _scaled(_over_root(dy, root), 1 / self.divisor) if self.root else _scaled(dy, 2 / self.divisor)
        slope = with_kept_dims(slope, x.shape, self.axes)
        far = _C.subtract(binary(x.shape, mean.shape), wide, mean)
        return (converted(_C.multiply(binary(x.shape, slope.shape), far, slope), x.dtype),)


class Norm(Op):
    __slots__ = ("axes", "keepdims")

    def __init__(self, axes: Axes, keepdims: bool) -> None:
        self.axes, self.keepdims = axes, keepdims

    def forward(self, x: Array) -> Array:
        wide = widened(x)
        squares = _C.multiply(binary(x.shape, x.shape), wide, wide)
        y = _C.sum(reduction(x.shape, self.axes, self.keepdims), squares)
        y = _C.sqrt(elements(y.shape), y)
        self.save(x, y)
        return converted(y, x.dtype)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        x, y = self.saved
        slope = with_kept_dims(_over_root(widened(dy), y), x.shape, self.axes)
        return (converted(_C.multiply(binary(x.shape, slope.shape), widened(x), slope), x.dtype),)


def _spread(what: str, x: Tensor, axis: int | Sequence[int] | None, keepdims: bool, correction: float, root: bool) -> Tensor:
    axes = axes_of(what, x, axis)
    number(what, "correction", correction)
    count = reduction(x.shape, axes, keepdims).reduced_count
    if not 0 < count > correction:
        raise ValueError(f"{what}: {count} elements (shape {x.shape}, axis {axis}) minus correction {correction} leave none to divide by")
    return apply(Var(axes, keepdims, float(count - correction), root), x)


def var(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False, *, correction: float = 1) -> Tensor:
    """Variance over `axis`: sum (x - mean)^2 / (n - correction), n elements; correction 1 is the unbiased estimate (PyTorch's default).

    Raises ValueError unless n > correction.
    """
    return _spread("var", x, axis, keepdims, correction, False)


def std(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False, *, correction: float = 1) -> Tensor:
    """Standard deviation, the square root of var; its gradient is 0 where it is 0. Raises ValueError unless n > correction."""
    return _spread("std", x, axis, keepdims, correction, True)


def norm(x: Tensor, *order: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """Length, sqrt(sum x^2), over `axis`; its gradient is 0 where it is 0.

    order: where PyTorch and numpy.linalg have it; it may say 2. TypeError for others, and for an axis by its place.
    """
    if order and (len(order) > 1 or not isinstance(order[0], (int, float)) or order[0] != 2):
        raise TypeError(
            f"norm: got {shown(order[0] if len(order) == 1 else order)} where others have the order of the norm, which is always 2 here; an axis is "
            "given by name, x.norm(axis=1), and abs(x).sum(axis) has order 1"
        )
    return apply(Norm(axes_of("norm", x, axis), keepdims), x)
