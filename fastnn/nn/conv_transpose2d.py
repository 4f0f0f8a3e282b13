"""The transposed convolution layer."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt

from .. import ops
from ..arguments import integer, items, other_word
from ..ops.conv2d import Pair, pair
from ..tensor import Tensor
from . import init
from .module import Module, Parameter
from .sizes import checked_groups, checked_pair


class ConvTranspose2d(Module):
    """Conv2d's gradient of its input as a layer, for growing maps; see ops.conv_transpose2d for the formula (Zeiler et al. 2010).

    (N, in_channels, H, W) -> (N, out_channels, P, Q), P = (H - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1.
    weight (in_channels, out_channels / groups, R, S) and bias (out_channels) start as PyTorch's: uniform in +-1/sqrt(out_channels / groups R S).
    output_padding must be smaller than stride or dilation. `layer(x, output_size=(P, Q))` chooses it so that the output has this size.
    padding_mode: "zeros" alone, as in PyTorch.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        output_padding: int | Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Pair = 1,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        what = "ConvTranspose2d"
        if padding_mode != "zeros":
            raise other_word(what, "padding_mode", padding_mode, "zeros")
        self.in_channels, self.out_channels, self.groups = checked_groups(what, groups, in_channels, out_channels)
        self.kernel_size, self.stride = checked_pair(what, "kernel_size", kernel_size), checked_pair(what, "stride", stride)
        self.padding, self.output_padding = checked_pair(what, "padding", padding, 0), pair(output_padding, "output_padding")
        self.dilation, self.padding_mode = checked_pair(what, "dilation", dilation), padding_mode
        shape = (in_channels, out_channels // groups, *self.kernel_size)
        bound = 1 / sqrt(max(1, prod(shape[1:])))
        self.weight = Parameter(init.uniform_values(shape, bound))
        self.register_parameter("bias", Parameter(init.uniform_values((out_channels,), bound)) if bias else None)

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"got shape {x.shape}; expected (N, C, H, W) with C = {self.in_channels}")
        return ops.conv_transpose2d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding if output_size is None else self._to_reach(x, output_size),
            groups=self.groups,
            dilation=self.dilation,
        )

    def _to_reach(self, x: Tensor, output_size: Sequence[int]) -> Pair:
        what, name = "conv_transpose2d", "output_size"
        given = tuple(integer(what, name, n) for n in items(what, name, output_size, "two integers (P, Q)"))
        wanted = given[-2:]
        steps, pads, spread, window = self.stride, self.padding, self.dilation, self.kernel_size
        least = [(n - 1) * s - 2 * p + d * (r - 1) + 1 for n, s, p, d, r in zip(x.shape[2:], steps, pads, spread, window)]
        if len(wanted) != 2 or any(not m <= n < m + s for m, n, s in zip(least, wanted, steps)):
            raise ValueError(f"output_size {given} must lie less than stride {steps} above {tuple(least)} for input {x.shape}")
        return wanted[0] - least[0], wanted[1] - least[1]

    def extra_repr(self) -> str:
        r, s = self.kernel_size
        parts = [f"{self.in_channels}->{self.out_channels}, {r}x{s}"]
        parts += [f"stride {self.stride[0]}" if self.stride[0] == self.stride[1] else f"stride {self.stride}"] * (self.stride != (1, 1))
        parts += [f"padding {self.padding}"] * any(self.padding) + [f"output padding {self.output_padding}"] * any(self.output_padding)
        parts += [f"dilation {self.dilation}"] * (self.dilation != (1, 1)) + [f"groups {self.groups}"] * (self.groups != 1)
        return ", ".join(parts + ["no bias"] * (self.bias is None))
