"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..ops.conv2d import Pair
from ..ops.pool2d import checked_ratios
from ..tensor import Tensor
from .module import Module
from .sizes import checked_pair


def _of(both: Pair) -> int | Pair:
    """As a repr says it."""
    return both[0] if both[0] == both[1] else both


class MaxPool2d(Module):
    """The largest value of each window; stride = kernel_size by default.

    P = floor((H + 2 padding - dilation (kernel - 1) - 1) / stride) + 1, ceil with ceil_mode. return_indices: returns (y, indices), the place
    h W + w of each winner in its map, which MaxUnpool2d takes. See ops.max_pool2d.
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = checked_pair("MaxPool2d", "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else checked_pair("MaxPool2d", "stride", stride)
        self.padding, self.ceil_mode = checked_pair("MaxPool2d", "padding", padding, 0), ceil_mode
        self.dilation, self.return_indices = checked_pair("MaxPool2d", "dilation", dilation), return_indices

    def forward(self, x: Tensor) -> Any:
        return ops.max_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )

    def extra_repr(self) -> str:
        parts = [f"{self.kernel_size[0]}x{self.kernel_size[1]}, stride {_of(self.stride)}"]
        parts += [f"padding {_of(self.padding)}"] if any(self.padding) else []
        return ", ".join(parts + ([f"dilation {_of(self.dilation)}"] if self.dilation != (1, 1) else []))


class MaxUnpool2d(Module):
    """MaxPool2d taken back: each value where its index says, zeros elsewhere (Zeiler, Fergus 2014): `unpool(y, indices, output_size=None)`.

    (N, C, P, Q) -> (N, C, H, W), H = (P - 1) stride - 2 padding + kernel, or output_size. See ops.max_unpool2d.
    """

    def __init__(self, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> None:
        super().__init__()
        self.kernel_size = checked_pair("MaxUnpool2d", "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else checked_pair("MaxUnpool2d", "stride", stride)
        self.padding = checked_pair("MaxUnpool2d", "padding", padding, 0)

    def forward(self, x: Tensor, indices: Any, output_size: Sequence[int] | None = None) -> Tensor:
        return ops.max_unpool2d(x, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"{self.kernel_size[0]}x{self.kernel_size[1]}, stride {_of(self.stride)}"


class AvgPool2d(Module):
    """The mean of each window; stride = kernel_size by default. P = floor((H + 2 padding - kernel) / stride) + 1, ceil with ceil_mode.

    Padding is 0 and counts unless count_include_pad=False; divisor_override divides instead of the number of pixels.
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = checked_pair("AvgPool2d", "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else checked_pair("AvgPool2d", "stride", stride)
        self.padding, self.ceil_mode = checked_pair("AvgPool2d", "padding", padding, 0), ceil_mode
        if divisor_override == 0:
            raise ValueError("AvgPool2d: divisor_override must not be 0")
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
            divisor_override=self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"{self.kernel_size[0]}x{self.kernel_size[1]}, stride {_of(self.stride)}" + (
            f", padding {_of(self.padding)}" if any(self.padding) else ""
        )


class AdaptiveAvgPool2d(Module):
    """The mean of P x Q even shares of each map, (N, C, H, W) -> (N, C, P, Q): share p has rows floor(p H / P) ... ceil((p + 1) H / P) - 1.

    output_size: an int, a pair, None for a side that stays; 1 is the global average.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None = 1) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"{self.output_size}"


class AdaptiveMaxPool2d(Module):
    """The largest value of P x Q even shares of each map, the shares of AdaptiveAvgPool2d; of at most 256 rows and columns.

    return_indices: returns (y, indices), the place h W + w of each winner in its map. See ops.adaptive_max_pool2d.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None = 1, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, x: Tensor) -> Any:
        return ops.adaptive_max_pool2d(x, self.output_size, return_indices=self.return_indices)

    def extra_repr(self) -> str:
        return f"{self.output_size}"


class FractionalMaxPool2d(Module):
    """Max pooling over regions that lie at random, so that maps shrink by fractions (Graham, "Fractional max-pooling", 2014).

    (N, C, H, W) -> (N, C, P, Q) with output_size = (P, Q) or output_ratio (H times it, rounded down). Regions have kernel_size pixels; `regions`:
    "random" (steps of floor(a) and floor(a) + 1 in random order, a = (H - kernel_size) / (P - 1)) or "pseudo-random" (at floor(a (i + u)) -
    floor(a u), PyTorch's). Each sample has its own, drawn from the thread's generator, in evaluation too: average the predictions
    of several calls, as nn.monte_carlo does. return_indices: returns (y, indices), the place h W + w of each winner in its map.
    """

    noisy = True

    def __init__(
        self,
        kernel_size: int | Pair,
        output_size: int | Pair | None = None,
        output_ratio: float | tuple[float, float] | None = None,
        return_indices: bool = False,
        *,
        regions: str = "random",
    ) -> None:
        super().__init__()
        if (output_size is None) == (output_ratio is None):
            raise ValueError("FractionalMaxPool2d: give either output_size or output_ratio")
        if output_ratio is not None:
            checked_ratios("FractionalMaxPool2d", output_ratio)
        self.kernel_size = checked_pair("FractionalMaxPool2d", "kernel_size", kernel_size)
        self.output_size, self.output_ratio, self.regions = output_size, output_ratio, regions
        self.return_indices = return_indices

    def forward(self, x: Tensor) -> Any:
        return ops.fractional_max_pool2d(
            x, self.kernel_size, self.output_size, self.output_ratio, return_indices=self.return_indices, regions=self.regions
        )

    def extra_repr(self) -> str:
        size = f"ratio {self.output_ratio}" if self.output_size is None else f"to {self.output_size}"
        return f"{self.kernel_size[0]}x{self.kernel_size[1]}, {size}, {self.regions}"
