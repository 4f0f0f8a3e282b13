"""Layers that change the size of maps."""

from __future__ import annotations

from .. import ops
from ..ops.conv2d import Pair
from ..ops.upsample import Scale, check_mode, checked_scales
from ..tensor import Tensor
from .module import Module


class Upsample(Module):
    """Maps of another size: (N, C, H, W) -> (N, C, P, Q), to `size` or to floor(scale_factor * H).

    mode "nearest": output p is row floor(p H / P). "bilinear": p lies at max(0, (p + 1/2) H / P - 1/2), or with align_corners at
    p (H - 1) / (P - 1), and mixes the two rows around; "bicubic" the four around. See ops.upsample, also for recompute_scale_factor.
    ValueError unless exactly one of size and scale_factor is given.
    """

    def __init__(
        self,
        size: int | Pair | None = None,
        scale_factor: Scale | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        check_mode("Upsample", mode, align_corners, size, scale_factor, recompute_scale_factor)
        if scale_factor is not None:
            checked_scales("Upsample", scale_factor)
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, x: Tensor) -> Tensor:
        return ops.upsample(x, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor)

    def extra_repr(self) -> str:
        return (f"to {self.size}" if self.scale_factor is None else f"by {self.scale_factor}") + f", {self.mode}"
