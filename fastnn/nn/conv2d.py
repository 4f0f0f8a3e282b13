"""The convolution layer."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from typing import Any

from .. import ops
from ..arguments import other_word
from ..ops.conv2d import Padding, Pair, resolve_padding
from ..tensor import Tensor
from . import init
from .activation import ReLU, absorb, finished
from .batchnorm import BatchNorm2d
from .errors import wrong_channels
from .module import Module, Parameter
from .sizes import checked_groups, checked_pair


class Conv2d(Module):
    """y[n,k] = bias[k] + sum_c weight[k,c] * x[n,c] (cross-correlation); see ops.conv2d for the formula.

    (N, in_channels, H, W) -> (N, out_channels, P, Q), P = floor((H + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.
    weight (out_channels, in_channels / groups, R, S) and bias (out_channels) start as PyTorch's: uniform in +-1/sqrt(fan_in)
    (kaiming_uniform with a = sqrt 5). padding: an int, a pair, "same" (stride 1 only) or "valid"; padding_mode: "zeros", or "reflect",
    "replicate" or "circular" as in ops.pad.
    `layer(x, activation="relu")` and `layer(x, norm, residual, activation)`, with a BatchNorm2d in training, do what follows along with it;
    Sequential and `nn.in_turn` call it so. A BatchNorm2d in evaluation, or a residual without one, comes behind it.
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
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.groups = checked_groups("Conv2d", groups, in_channels, out_channels)
        self.kernel_size, self.stride = checked_pair("Conv2d", "kernel_size", kernel_size), checked_pair("Conv2d", "stride", stride)
        self.dilation = checked_pair("Conv2d", "dilation", dilation)
        self.padding: Padding = padding if isinstance(padding, str) else checked_pair("Conv2d", "padding", padding, 0)
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise other_word("Conv2d", "padding_mode", padding_mode, "zeros, reflect, replicate or circular")
        self.padding_mode = padding_mode
        try:
            resolve_padding(self.padding, self.kernel_size, self.stride, self.dilation)
        except ValueError as error:
            raise ValueError(f"Conv2d: {error}") from None
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        bound = 1 / sqrt(max(1, prod(shape[1:])))
        self.weight = Parameter(init.uniform_values(shape, bound))
        self.register_parameter("bias", Parameter(init.uniform_values((out_channels,), bound)) if bias else None)

    def placed(self, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The input, padded already unless with zeros, and the geometry as ops.conv2d takes it."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise wrong_channels(x.shape, self.in_channels)
        geometry: Any = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}
        if self.padding_mode != "zeros":
            before, after = resolve_padding(self.padding, self.kernel_size, self.stride, self.dilation)
            x, geometry["padding"] = ops.pad(x, (before[1], after[1], before[0], after[0]), self.padding_mode), 0
        return x, geometry

    def forward(self, x: Tensor, norm: BatchNorm2d | None = None, residual: Tensor | None = None, activation: str = "none") -> Tensor:
        if residual is not None if norm is None else not norm.training:
            return finished(Conv2d.forward(self, x), residual, activation, norm)
        x, geometry = self.placed(x)
        if norm is None:
            return ops.conv2d(x, self.weight, self.bias, **geometry, activation=activation)
        arrays: Any = (self.weight, self.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        geometry |= {"momentum": norm.weight_of_batch(), "eps": norm.eps, "residual": residual}
        y = ops.conv2d_batch_norm(*[x, *arrays], **geometry, activation=activation)
        norm.count_batch()
        return y

    def absorbs(self, following: Sequence[Module]) -> tuple[int, dict[str, Any]]:
        if type(self) is not Conv2d or self._hooks or not following:
            return 0, {}
        norm = following[0]
        if type(norm) is not BatchNorm2d or norm._hooks or not norm.training or norm.num_features != self.out_channels:
            return absorb(self, following, ReLU)
        count, keywords = norm.absorbs(following[1:])
        return 1 + count, {"norm": norm, **keywords}

    def extra_repr(self) -> str:
        r, s = self.kernel_size
        parts = [f"{self.in_channels}->{self.out_channels}, {r}x{s}"]
        p, steps = self.padding, self.stride
        parts += [f"stride {steps[0] if steps[0] == steps[1] else steps}"] if steps != (1, 1) else []
        parts += [f"padding {p[0] if isinstance(p, tuple) and p[0] == p[1] else p}"] if p not in ((0, 0), "valid") else []
        parts += [f"dilation {self.dilation}"] if self.dilation != (1, 1) else []
        parts += [f"groups {self.groups}"] if self.groups != 1 else []
        parts += [f"{self.padding_mode}"] if self.padding_mode != "zeros" else []
        return ", ".join(parts + (["no bias"] if self.bias is None else []))
