"""Layers that change the size of maps."""

from __future__ import annotations

from .. import ops
from ..ops.conv2d import Pair
from ..ops.upsample import Scale, check_mode, checked_scales
from ..tensor import Tensor
from .module import Module
from .sizes import checked_size


class Upsample(Module):
    """Maps of another size: (N, C, H, W) -> (N, C, P, Q), to `size` or to floor(scale_factor * H).

    mode "nearest": output p is row floor(p H / P). "bilinear": p lies at max(0, (p + 1/2) H / P - 1/2), or with align_corners at
    p (H - 1) / (P - 1), and mixes the two rows around. ValueError unless exactly one of size and scale_factor is given.
    """

    def __init__(
        self,
        size: int | Pair | None = None,
        scale_factor: Scale | None = None,
        mode: str = "nearest",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ValueError("Upsample: give either size or scale_factor")
        check_mode("Upsample", mode, align_corners)
        if scale_factor is not None:
            checked_scales("Upsample", scale_factor)
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        return ops.upsample(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        return (f"to {self.size}" if self.scale_factor is None else f"by {self.scale_factor}") + f", {self.mode}"


class ZeroPad2d(Module):
    """Zeros around each map. padding: an int, or (left, right, top, bottom) as PyTorch has it; (N, C, H, W) -> (N, C, H + top + bottom, W + left + right)."""

    def __init__(self, padding: int | tuple[int, int, int, int]) -> None:
        super().__init__()
        sides = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * 4
        if len(sides) != 4:
            raise ValueError(f"ZeroPad2d: padding must be an int or (left, right, top, bottom), got {padding}")
        self.padding = tuple(checked_size("ZeroPad2d", "padding", n, 0) for n in sides)

    def forward(self, x: Tensor) -> Tensor:
        return ops.zero_pad2d(x, self.padding)

    def extra_repr(self) -> str:
        return ", ".join(f"{side} {n}" for side, n in zip(("left", "right", "top", "bottom"), self.padding) if n)
