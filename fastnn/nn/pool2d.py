"""Pooling layers."""

from __future__ import annotations

from .. import ops
from ..ops.conv2d import Pair, pair
from ..tensor import Tensor
from .module import Module


class MaxPool2d(Module):
    """The largest value of each window; stride = kernel_size by default. P = floor((H + 2 padding - kernel) / stride) + 1, ceil with ceil_mode."""

    def __init__(self, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0, ceil_mode: bool = False) -> None:
        super().__init__()
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, "stride")
        self.padding, self.ceil_mode = pair(padding, "padding"), ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode)

    def extra_repr(self) -> str:
        return f"{self.kernel_size[0]}x{self.kernel_size[1]}, stride {self.stride[0]}" + (
            f", padding {self.padding[0]}" if any(self.padding) else ""
        )


class AdaptiveAvgPool2d(Module):
    """The mean of each map: (N, C, H, W) -> (N, C, 1, 1). Only output_size 1 exists so far; others raise ValueError."""

    def __init__(self, output_size: int | Pair = 1) -> None:
        super().__init__()
        if pair(output_size, "output_size") != (1, 1):
            raise ValueError(f"AdaptiveAvgPool2d: output_size must be 1 (global average), got {output_size}")
        self.output_size = (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(x, 1)
