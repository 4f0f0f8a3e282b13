"""Maps of another size."""

from __future__ import annotations

import numpy as np

from .memory import Array, Pair, Shape


def _mixing(size: int, count: int, bilinear: bool, align_corners: bool, scale: float) -> Array:
    """(count, size): how much of each input is in each output of an axis."""
    mix, i = np.zeros((count, size)), np.arange(count)
    if size == count or (not bilinear and count == 2 * size):
        scale = 0
    if not bilinear:
        place = (i.astype(np.float32) * np.float32(1 / scale if scale else size / count)).astype(int)
        mix[i, np.minimum(place, size - 1)] = 1
        return mix
    if align_corners:
        place = i * (size - 1) / (count - 1) if count > 1 else np.zeros(count)
    else:
        place = np.maximum(((i + 0.5) / scale if scale else (i + 0.5) * size / count) - 0.5, 0)
    low = np.minimum(place.astype(int), size - 1)
    weight = np.where(low == size - 1, 0, place - low)
    np.add.at(mix, (i, low), 1 - weight)
    np.add.at(mix, (i, np.minimum(low + 1, size - 1)), weight)
    return mix


def _both(x_shape: Shape, output: Pair, bilinear: bool, align_corners: bool, scales: tuple[float, float]) -> list[Array]:
    return [_mixing(x_shape[2 + d], output[d], bilinear, align_corners, scales[d]) for d in range(2)]


def upsample2d_forward(
    x: Array, output: Pair, bilinear: bool = False, align_corners: bool = False, scale_h: float = 0, scale_w: float = 0
) -> Array:
    rows, columns = _both(x.shape, output, bilinear, align_corners, (scale_h, scale_w))
    return np.asarray(np.einsum("nchw,ph,qw->ncpq", x, rows, columns))


def upsample2d_backward(
    dy: Array, x_shape: Shape, output: Pair, bilinear: bool = False, align_corners: bool = False, scale_h: float = 0, scale_w: float = 0
) -> Array:
    rows, columns = _both(x_shape, output, bilinear, align_corners, (scale_h, scale_w))
    return np.asarray(np.einsum("ncpq,ph,qw->nchw", dy, rows, columns))
