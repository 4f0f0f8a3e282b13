"""Matrix product and the linear layer, three calls of one kernel: y = a b, da = dy b^T, db = a^T dy."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

from .. import _C
from ..tensor import Array, Op, Tensor, apply
from .activation import behind_product, in_epilogue
from .cast import beside
from .elementwise import operands
from .reduce import broadcast_to
from .shape import reshape

product = lru_cache(4096)(_C.MatMul)
channels = lru_cache(1024)(_C.Channels)


def _times(
    a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False, bias: Array | None = None, activation: str = "none"
) -> Array:
    return _C.matmul(product(a.shape, b.shape, transpose_a, transpose_b, activation), a, b, bias)


class MatMul(Op):
    __slots__ = ()

    def forward(self, a: Array, b: Array) -> Array:
        self.save(a, b)
        return _times(a, b)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        a, b = self.saved
        da = _times(dy, b, transpose_b=True) if self.needs[0] else None
        return da, _times(a, dy, transpose_a=True) if self.needs[1] else None


class Linear(Op):
    """y = activation(x w^T + b) with x (M, in), w (out, in), b (out); activation "none" or "relu". dy is that of the sum."""

    __slots__ = ("activation",)

    def __init__(self, activation: str) -> None:
        self.activation = activation

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.save(x, w)
        return _times(x, w, transpose_b=True, bias=b, activation=self.activation)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        x, w = self.saved
        dx = _times(dy, w) if self.needs[0] else None
        dw = _times(dy, x, transpose_a=True) if self.needs[1] else None
        return dx, dw, _C.channel_sum(channels(dy.shape), dy) if self.needs[2] else None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, activation: str = "none") -> Tensor:
    """activation(x weight^T + bias) over the last dimension: (..., in) -> (..., out), weight (out, in).

    activation: "none", "relu" (done while the result is written), "silu" or "gelu" (operations of their own behind it).
    """
    if weight.ndim != 2:
        raise ValueError(f"linear: weight must have shape (out, in), got {weight.shape}")
    if not x.shape or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: got {x.shape[-1] if x.shape else 'no'} features from input {x.shape}; weight {weight.shape} expects {weight.shape[1]}"
        )
    op = Linear(in_epilogue(activation))
    rows = x if x.ndim == 2 else reshape(x, (prod(x.shape[:-1]), x.shape[-1]))
    y = apply(op, rows, beside(x, weight), bias)
    return behind_product(y if x.ndim == 2 else reshape(y, (*x.shape[:-1], weight.shape[0])), activation)


def matmul(a: Any, b: Any) -> Tensor:
    """numpy's a @ b: vectors, matrices, and stacks of matrices with equal leading dimensions (or a single matrix on either side)."""
    a, b = operands(a, b)
    if not a.ndim or not b.ndim:
        raise ValueError(f"matmul: operands must have at least one dimension, got {a.shape} and {b.shape}")
    left = reshape(a, (1, a.shape[0])) if a.ndim == 1 else a
    right = reshape(b, (b.shape[0], 1)) if b.ndim == 1 else b
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(f"matmul: {a.shape} @ {b.shape}: the inner sizes {left.shape[-1]} and {right.shape[-2]} differ")
    stack = left.shape[:-2] or right.shape[:-2]
    if right.ndim == 2:
        y = apply(MatMul(), reshape(left, (prod(left.shape[:-1]), left.shape[-1])), right)
    elif left.ndim == 2 or left.shape[:-2] == right.shape[:-2]:
        batch = prod(stack)
        if left.ndim == 2:
            left = broadcast_to(reshape(left, (1, *left.shape)), (batch, *left.shape))
        y = apply(MatMul(), reshape(left, (batch, *left.shape[-2:])), reshape(right, (batch, *right.shape[-2:])))
    else:
        raise ValueError(f"matmul: leading dimensions of {a.shape} and {b.shape} differ; reshape one of them")
    rows = () if a.ndim == 1 else (left.shape[-2],)
    columns = () if b.ndim == 1 else (right.shape[-1],)
    return reshape(y, (*stack, *rows, *columns))
