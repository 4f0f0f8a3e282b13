"""Maps of another size."""

from __future__ import annotations

from functools import lru_cache
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np

from .. import _C, devices
from ..arguments import other_word, shown, unwrapped
from ..tensor import Array, Op, Tensor, apply
from .conv2d import Pair, pair
from .gather import Gather

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
    if len(factors) != 2 or any(isinstance(f, bool) or not isinstance(unwrapped(f), Real) for f in factors):
        raise TypeError(f"{what}: scale_factor must be a number or a pair of numbers, got {shown(value)}")
    scales = float(factors[0]), float(factors[1])
    if not all(isfinite(s) and s > 0 for s in scales):
        raise ValueError(f"{what}: scale_factor must be positive and finite, got {value}")
    return scales


def check_mode(what: str, mode: str, align_corners: bool | None, size: Any, scale_factor: Any, recompute: bool | None) -> None:
    if mode not in ("nearest", "bilinear", "bicubic"):
        raise other_word(what, "mode", mode, '"nearest", "bilinear" or "bicubic"')
    if align_corners and mode == "nearest":
        raise ValueError(f"{what}: align_corners is an option of bilinear and bicubic")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{what}: give either size or scale_factor")
    if recompute and scale_factor is None:
        raise ValueError(f"{what}: recompute_scale_factor belongs to scale_factor")


@lru_cache(256)
def cubic_taps(
    size: int, count: int, align_corners: bool, scale: float, axis: int, dtype: str
) -> list[tuple[devices.Copies, devices.Copies]]:
    """The four inputs that each output of an axis mixes, and their shares, which stand along the axis: Keys' kernel with a = -3/4."""
    i, a = np.arange(count, dtype=np.float64), -0.75
    place = i * (size - 1) / max(count - 1, 1) if align_corners else (i + 0.5) / (scale or count / size) - 0.5
    low = np.floor(place)
    t: Any = place - low

    def near(d: Any) -> Any:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    shape = (1, 1, count, 1) if axis == 2 else (1, 1, 1, count)
    taps = []
    for k, share in enumerate((far(1 + t), near(t), near(1 - t), far(2 - t))):
        index = np.clip(low.astype(np.int64) + k - 1, 0, size - 1)
        taps.append((devices.Copies(_C.constant(index)), devices.Copies(_C.constant(share.reshape(shape), dtype=dtype))))
    return taps


def bicubic(x: Tensor, size: Pair, align_corners: bool, scales: tuple[float, float]) -> Tensor:
    """One axis after the other: four copies of x, each times its shares."""
    for axis, count, scale in ((2, size[0], scales[0]), (3, size[1], scales[1])):
        terms = [
            apply(Gather(index.on(x.device), axis, True), x) * Tensor(share.on(x.device))
            for index, share in cubic_taps(x.shape[axis], count, align_corners, scale, axis, x.dtype)
        ]
        x = terms[0] + terms[1] + terms[2] + terms[3]
    return x


def upsample(
    x: Tensor,
    size: int | Pair | None = None,
    scale_factor: Scale | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """Maps of another size, larger or smaller: (N, C, H, W) -> (N, C, P, Q), to `size` or to floor(scale_factor * H). PyTorch's `interpolate`.

    nearest: output p is row floor(p H / P), rounded as in float32 (PyTorch's).
    bilinear: p lies at max(0, (p + 1/2) H / P - 1/2), or with align_corners at p (H - 1) / (P - 1), and mixes the two
    rows around, each by its nearness. bicubic: the same places (below 0 too), four rows by Keys' kernel with a = -3/4 (1981; rows outside are
    the first or last). A scale_factor stands for P / H in these, also where P had to be rounded, unless
    recompute_scale_factor=True. No low-pass filter comes before a smaller map. Raises ValueError unless exactly one of size and scale_factor is given.
    """
    check_mode("upsample", mode, align_corners, size, scale_factor, recompute_scale_factor)
    if x.ndim != 4:
        raise ValueError(f"upsample expects an input of shape (N, C, H, W), got {x.shape}")
    scales = (0.0, 0.0)
    if scale_factor is not None:
        scales = checked_scales("upsample", scale_factor)
        size = int(x.shape[2] * scales[0]), int(x.shape[3] * scales[1])
    assert size is not None
    both, scales = pair(size, "size"), (0.0, 0.0) if recompute_scale_factor else scales
    if mode != "bicubic":
        return apply(Upsample2d(both, mode == "bilinear", bool(align_corners), *scales), x)
    geometry(x.shape, both)  # refuses what is empty
    return bicubic(x, both, bool(align_corners), scales)
