"""The convolution layer."""

from __future__ import annotations

from math import sqrt

import numpy as np

from .. import ops
from ..ops.conv2d import Padding, Pair, pair
from ..tensor import Tensor
from . import init
from .module import Module, Parameter


class Conv2d(Module):
    """y[n,k] = bias[k] + sum_c weight[k,c] * x[n,c] (cross-correlation); see ops.conv2d for the formula.

    (N, in_channels, H, W) -> (N, out_channels, P, Q), P = floor((H + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.
    weight (out_channels, in_channels / groups, R, S) and bias (out_channels) start as PyTorch's: uniform in +-1/sqrt(fan_in)
    (kaiming_uniform with a = sqrt 5). padding: an int, a pair, "same" (stride 1 only) or "valid".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: Padding = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"Conv2d: groups = {groups} must divide both in_channels = {in_channels} and out_channels = {out_channels}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = pair(kernel_size, "kernel_size"), pair(stride, "stride")
        self.dilation = pair(dilation, "dilation")
        self.padding: Padding = padding if isinstance(padding, str) else pair(padding, "padding")
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        bound = 1 / sqrt(max(1, int(np.prod(shape[1:]))))
        self.weight = Parameter(init.uniform_values(shape, bound))
        self.register_parameter("bias", Parameter(init.uniform_values((out_channels,), bound)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"got shape {x.shape}; expected (N, C, H, W) with C = {self.in_channels}")
        return ops.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)

    def extra_repr(self) -> str:
        r, s = self.kernel_size
        parts = [f"{self.in_channels}->{self.out_channels}, {r}x{s}"]
        parts += (
            [f"stride {self.stride[0]}" if self.stride[0] == self.stride[1] else f"stride {self.stride}"] if self.stride != (1, 1) else []
        )
        p = self.padding
        parts += [f"padding {p[0] if isinstance(p, tuple) and p[0] == p[1] else p}"] if p not in ((0, 0), "valid") else []
        parts += [f"dilation {self.dilation}"] if self.dilation != (1, 1) else []
        parts += [f"groups {self.groups}"] if self.groups != 1 else []
        return ", ".join(parts + (["no bias"] if self.bias is None else []))
