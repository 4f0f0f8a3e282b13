"""Layers that make maps larger at their borders."""

from __future__ import annotations

from .. import ops
from ..ops.pad import four_sides
from ..tensor import Tensor
from .module import Module


class _Pad2d(Module):
    mode = "constant"

    def __init__(self, padding: int | tuple[int, int, int, int]) -> None:
        super().__init__()
        self.padding, self.value = four_sides(type(self).__name__, padding), 0.0

    def forward(self, x: Tensor) -> Tensor:
        return ops.pad(x, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return ", ".join(f"{side} {n}" for side, n in zip(("left", "right", "top", "bottom"), self.padding) if n)


class ZeroPad2d(_Pad2d):
    """Zeros around each map. padding: an int, or (left, right, top, bottom) as PyTorch has it; (N, C, H, W) -> (N, C, H + top + bottom, W + left + right)."""


class ConstantPad2d(_Pad2d):
    """ZeroPad2d with another number."""

    def __init__(self, padding: int | tuple[int, int, int, int], value: float) -> None:
        super().__init__(padding)
        self.value = float(value)


class ReflectionPad2d(_Pad2d):
    """Each map mirrored at its border pixels, which are not repeated; padding as of ZeroPad2d, smaller than the map."""

    mode = "reflect"


class ReplicationPad2d(_Pad2d):
    """The border pixels of each map repeated; padding as of ZeroPad2d."""

    mode = "replicate"


class CircularPad2d(_Pad2d):
    """Each map goes on at its other side; padding as of ZeroPad2d, at most the map."""

    mode = "circular"
