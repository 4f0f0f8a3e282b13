"""Maps made larger at their borders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .. import _C, devices
from ..arguments import other_word, shown
from ..tensor import Tensor, apply
from .gather import Gather
from .shape import expect_tensor, zero_pad2d

Sides = tuple[int, int, int, int]
MODES = ("constant", "reflect", "replicate", "circular")


@lru_cache(256)
def sources(size: int, before: int, after: int, mode: str) -> devices.Copies:
    """Which row (or column) of the map stands at each of the larger one."""
    place = np.arange(-before, size + after)
    if mode == "reflect":
        place = size - 1 - np.abs(size - 1 - np.abs(place))
    return devices.Copies(_C.constant(place % size if mode == "circular" else np.clip(place, 0, size - 1)))


@lru_cache(8)  # of as many bytes as the image
def frame(size: tuple[int, int], sides: Sides, value: float, dtype: str) -> devices.Copies:
    """`value` around zeros."""
    left, right, top, bottom = sides
    border = np.pad(np.zeros(size), ((top, bottom), (left, right)), constant_values=value)
    return devices.Copies(_C.constant(border[None, None], dtype=dtype))


def four_sides(what: str, padding: int | Sequence[int]) -> Sides:
    sides = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * 4
    if len(sides) != 4:
        raise ValueError(f"{what}: padding must be an int or (left, right, top, bottom), got {shown(padding)}")
    if any(isinstance(n, (bool, Tensor)) or not hasattr(n, "__index__") for n in sides):
        raise TypeError(f"{what}: padding must be an int or (left, right, top, bottom), got {shown(padding)}")
    left, right, top, bottom = (int(n) for n in sides)
    if min(left, right, top, bottom) < 0 or max(left, right, top, bottom) >= 2**31:
        wanted = "not be negative" if min(sides) < 0 else "be less than 2**31"
        raise ValueError(f"{what}: padding must {wanted}, got {shown(padding)}")
    return left, right, top, bottom


def pad(x: Tensor, padding: int | Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Maps of (N, C, H, W) made larger: padding is (left, right, top, bottom), or an int for all sides. torch.nn.functional.pad.

    mode: "constant" (`value` around), "reflect" (mirrored at the border pixel, which is not repeated), "replicate" (the border pixel
    repeated), "circular" (the map goes on at its other side). -> (N, C, H + top + bottom, W + left + right); gradients of pixels that stand
    several times are added, always in the same order. ValueError for padding that is negative or 2**31 and more, not smaller than the map
    ("reflect") or larger than it ("circular"), and for another mode.
    """
    if mode not in MODES:
        raise other_word("pad", "mode", mode, f"one of {', '.join(MODES)}")
    sides = four_sides("pad", padding)
    expect_tensor("pad", x)
    if x.ndim != 4:
        raise ValueError(f"pad: expected a Tensor of shape (N, C, H, W), got {x.shape}")
    if mode == "constant":
        y = zero_pad2d(x, sides)
        return y + Tensor(frame(x.shape[2:], sides, float(value), x.dtype).on(x.device)) if value else y
    if value:
        raise ValueError(f"pad: value belongs to mode constant, got {value} with {mode!r}")
    if max(sides) > 1 << 20:  # before the places of as many pixels are computed: OutOfMemoryError
        _C.empty((*x.shape[:2], x.shape[2] + sides[2] + sides[3], x.shape[3] + sides[0] + sides[1]), x.dtype, x.device)
    left, right, top, bottom = sides
    for axis, before, after in ((2, top, bottom), (3, left, right)):
        size = x.shape[axis]
        most = {"reflect": size - 1, "circular": size}.get(mode, max(before, after))
        if max(before, after) > most or (size == 0 and max(before, after)):
            raise ValueError(
                f"pad: {mode!r} can add at most {max(most, 0)} on each side of {size} {'rows' if axis == 2 else 'columns'}, got {sides}"
            )
        if before or after:
            x = apply(Gather(sources(size, before, after, mode).on(x.device), axis, True), x)
    return x
