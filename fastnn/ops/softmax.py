"""Softmax, log-softmax and log-sum-exp along one dimension."""

from __future__ import annotations

from functools import lru_cache
from operator import index
from typing import Any

from .. import _C
from ..arguments import shown
from ..tensor import Array, Op, Tensor, apply
from .cast import converted, widened
from .shape import reshape

along = lru_cache(4096)(_C.Softmax)


class Softmax(Op):
    __slots__ = ("dim",)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, x: Array) -> Array:
        y = _C.softmax_forward(along(x.shape, self.dim), x)
        self.save(y)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (y,) = self.saved
        return (_C.softmax_backward(along(y.shape, self.dim), y, dy),)


class LogSoftmax(Op):
    __slots__ = ("dim",)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, x: Array) -> Array:
        y = _C.log_softmax_forward(along(x.shape, self.dim), x)
        self.save(y)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (y,) = self.saved
        return (_C.log_softmax_backward(along(y.shape, self.dim), y, dy),)


class LogSumExp(Op):
    """What backward takes e^(x - y) of is y before it is rounded to bfloat16: half a unit of a large y changes the power by much."""

    __slots__ = ("dim",)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, x: Array) -> Array:
        y = _C.logsumexp_forward(along(x.shape, self.dim), widened(x))
        self.save(x, y)
        return converted(y, x.dtype)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        x, y = self.saved
        return (converted(_C.logsumexp_backward(along(x.shape, self.dim), widened(x), y, widened(dy)), x.dtype),)


def _dim(what: str, dim: Any) -> int:
    if not hasattr(dim, "__index__") or isinstance(dim, bool):
        raise TypeError(f"{what}: dim must be an integer, got {shown(dim)}")
    return index(dim)


def softmax(x: Tensor, dim: int) -> Tensor:
    """e^x / sum e^x along dimension `dim` (negative: from the end), the shape of x; the largest value is taken out first, so nothing
    overflows. NaN where a row holds NaN or plus infinity, or nothing but minus infinity. ValueError for a `dim` that x does not have."""
    return apply(Softmax(_dim("softmax", dim)), x)


def log_softmax(x: Tensor, dim: int) -> Tensor:
    """x - log sum e^x along dimension `dim`, the shape of x: log(softmax(x, dim)) without its loss of digits."""
    return apply(LogSoftmax(_dim("log_softmax", dim)), x)


def logsumexp(x: Tensor, dim: int, keepdims: bool = False) -> Tensor:
    """log sum e^x along dimension `dim`, which goes, or stays with size 1 with keepdims. -inf where all elements are."""
    dim = _dim("logsumexp", dim)
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"logsumexp: dim {dim} does not exist in shape {x.shape}")
    y = apply(LogSumExp(dim), x)
    return y if keepdims else reshape(y, tuple(n for i, n in enumerate(x.shape) if i != dim % x.ndim))
