"""Max pooling and global average pooling."""

from __future__ import annotations

from functools import lru_cache

from .. import _C
from ..tensor import Array, Op, Tensor, apply
from .conv2d import Pair, pair

geometry = lru_cache(1024)(_C.Pool2d)
global_geometry = lru_cache(1024)(_C.GlobalPool)


class MaxPool2d(Op):
    __slots__ = ("arguments", "plan")

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments  # kernel, stride, padding, ceil_mode

    def forward(self, x: Array) -> Array:
        self.plan = geometry(x.shape, *self.arguments)
        y, winner = _C.maxpool2d_forward(self.plan, x)
        self.save(winner)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (winner,) = self.saved
        return (_C.maxpool2d_backward(self.plan, winner, dy),)


class GlobalAvgPool2d(Op):
    __slots__ = ("plan",)

    def forward(self, x: Array) -> Array:
        self.plan = global_geometry(x.shape)
        self.save()
        return _C.global_avgpool_forward(self.plan, x)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (_C.global_avgpool_backward(self.plan, dy),)


def max_pool2d(
    x: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0, *, ceil_mode: bool = False
) -> Tensor:
    """The largest value of each window, stride = kernel_size by default; ties go to the first, NaN wins, padding never does.

    (N, C, H, W) -> (N, C, P, Q), P = floor((H + 2 padding - kernel) / stride) + 1; ceil with ceil_mode. Windows hold at most 256 pixels.
    """
    window = pair(kernel_size, "kernel_size")
    steps = window if stride is None else pair(stride, "stride")
    return apply(MaxPool2d(window, steps, pair(padding, "padding"), ceil_mode), x)


def adaptive_avg_pool2d(x: Tensor, output_size: int | Pair) -> Tensor:
    """The mean of each map: (N, C, H, W) -> (N, C, 1, 1). Only output_size 1 exists so far."""
    if pair(output_size, "output_size") != (1, 1):
        raise ValueError(f"adaptive_avg_pool2d: output_size must be 1 (global average), got {output_size}")
    return apply(GlobalAvgPool2d(), x)
