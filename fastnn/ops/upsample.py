"""Maps of another size."""

from __future__ import annotations

from functools import lru_cache
from math import isfinite
from typing import Any

from .. import _C
from ..tensor import Array, Op, Tensor, apply
from .conv2d import Pair, pair

geometry = lru_cache(1024)(_C.Upsample2d)
Scale = float | tuple[float, float]


class Upsample2d(Op):
    __slots__ = ("arguments", "plan")

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments  # size, bilinear, align_corners, scale_h, scale_w

    def forward(self, x: Array) -> Array:
        self.plan = geometry(x.shape, *self.arguments)
        self.save()
        return _C.upsample2d_forward(self.plan, x)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (_C.upsample2d_backward(self.plan, dy),)


def checked_scales(what: str, value: Any) -> tuple[float, float]:
    """A scale_factor of each direction."""
    factors = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(factors) != 2 or any(isinstance(f, (str, bool)) or not hasattr(f, "__float__") for f in factors):
        raise TypeError(f"{what}: scale_factor must be a number or a pair of numbers, got {value!r}")
    scales = float(factors[0]), float(factors[1])
    if not all(isfinite(s) and s > 0 for s in scales):
        raise ValueError(f"{what}: scale_factor must be positive and finite, got {value}")
    return scales


def check_mode(what: str, mode: str, align_corners: bool) -> None:
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f'{what}: mode must be "nearest" or "bilinear", got {mode!r}')
    if align_corners and mode == "nearest":
        raise ValueError(f"{what}: align_corners is an option of bilinear")


def upsample(
    x: Tensor,
    size: int | Pair | None = None,
    scale_factor: Scale | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> Tensor:
    """Maps of another size, larger or smaller: (N, C, H, W) -> (N, C, P, Q), to `size` or to floor(scale_factor * H). PyTorch's `interpolate`.

    nearest: output p is row floor(p H / P). bilinear: p lies at max(0, (p + 1/2) H / P - 1/2), or with align_corners at p (H - 1) / (P - 1),
    and mixes the two rows around, each by its nearness. A scale_factor stands for P / H in these, also where P had to be rounded.
    No low-pass filter comes before a smaller map. Raises ValueError unless exactly one of size and scale_factor is given.
    """
    check_mode("upsample", mode, align_corners)
    if (size is None) == (scale_factor is None):
        raise ValueError("upsample: give either size or scale_factor")
    if x.ndim != 4:
        raise ValueError(f"upsample expects an input of shape (N, C, H, W), got {x.shape}")
    scales = (0.0, 0.0)
    if scale_factor is not None:
        scales = checked_scales("upsample", scale_factor)
        size = int(x.shape[2] * scales[0]), int(x.shape[3] * scales[1])
    assert size is not None
    return apply(Upsample2d(pair(size, "size"), mode == "bilinear", align_corners, *scales), x)
