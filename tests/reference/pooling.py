"""Pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .memory import Array, Pair, Shape
from .randomness import PURPOSE_NET, random_words


def pool2d_size(size: int, window: int, stride: int, pad: int, ceil_mode: bool) -> int:
    steps = (size + 2 * pad - window) / stride
    outputs = (math.ceil(steps) if ceil_mode else math.floor(steps)) + 1
    last_starts_inside = (outputs - 1) * stride < size + pad
    return outputs if last_starts_inside else outputs - 1


NO_WINNER = 255


def maxpool2d_forward(
    x: Array, kernel: Pair, stride: Pair, pad: Pair, ceil_mode: bool, dilation: Pair = (1, 1), activation: str = "none"
) -> tuple[Array, Array]:
    (N, C, H, W), (R, S) = x.shape, kernel
    P, Q = (pool2d_size((H, W)[d], dilation[d] * (kernel[d] - 1) + 1, stride[d], pad[d], ceil_mode) for d in range(2))
    y, index = np.full((N, C, P, Q), -np.inf), np.full((N, C, P, Q), -1)
    for r in range(R):
        for s in range(S):
            h, w = np.arange(P) * stride[0] - pad[0] + r * dilation[0], np.arange(Q) * stride[1] - pad[1] + s * dilation[1]
            inside = ((0 <= h) & (h < H))[:, None] & ((0 <= w) & (w < W))
            value = x[:, :, h.clip(0, H - 1)][:, :, :, w.clip(0, W - 1)]
            wins = inside & ((index < 0) | (value > y) | (np.isnan(value) & ~np.isnan(y)))
            y, index = np.where(wins, value, y), np.where(wins, r * S + s, index)
    if activation == "relu":
        index = np.where(y <= 0, NO_WINNER, index)
    return y, index.astype(np.uint8)


def maxpool2d_inference(x: Array, *geometry: Any) -> Array:
    return maxpool2d_forward(x, *geometry)[0]


def maxpool2d_backward(
    index: Array, dy: Array, x_shape: Shape, kernel: Pair, stride: Pair, pad: Pair, dilation: Pair = (1, 1), activation: str = "none"
) -> Array:
    dx = np.zeros(x_shape)
    n, c, p, q = won = np.nonzero((index != NO_WINNER) | (activation == "none"))
    r, s = index[won] // kernel[1], index[won] % kernel[1]
    np.add.at(dx, (n, c, p * stride[0] - pad[0] + r * dilation[0], q * stride[1] - pad[1] + s * dilation[1]), dy[won])
    return dx


def pool_places(index: Array, regions: Array, y_shape: Shape, width: int, window_width: int, dilation: Pair) -> Array:
    P, Q = y_shape[2:]
    r, s = np.divmod(index.astype(np.int64), window_width)
    rows, columns = regions[:, 0, :P, None], regions[:, 0, None, P:]
    return (rows[:, None] + r * dilation[0]) * width + columns[:, None] + s * dilation[1]


def global_avgpool_forward(x: Array) -> Array:
    return x.mean(axis=(2, 3), keepdims=True)


def global_avgpool_backward(dy: Array, x_shape: Shape) -> Array:
    return np.broadcast_to(dy / (x_shape[2] * x_shape[3]), x_shape)


def share(i: int, size: int, count: int) -> tuple[int, int]:
    """Window i of `count` that share out `size` pixels evenly."""
    return i * size // count, -(-(i + 1) * size // count)


def _windows(size: int, window: int, stride: int, pad: int, ceil_mode: bool) -> list[tuple[int, int]]:
    """begin and end of every window, where the padding counts but nothing beyond it."""
    begins = [i * stride - pad for i in range(pool2d_size(size, window, stride, pad, ceil_mode))]
    return [(begin, min(begin + window, size + pad)) for begin in begins]


def _average_weights(size: int, windows: list[tuple[int, int]], count_padding: bool) -> tuple[Array, Array]:
    """0 and 1: which inputs (columns) belong to which output (rows); and how many pixels each window counts."""
    places = np.arange(size)
    belongs = np.array([(begin <= places) & (places < end) for begin, end in windows], float).reshape(len(windows), size)
    return belongs, np.array([end - begin for begin, end in windows], float) if count_padding else belongs.sum(axis=1)


def _average_map(x_shape: Shape, arguments: tuple[Any, ...]) -> tuple[Array, Array, Array]:
    """What belongs to what along both axes, and every window's divisor."""
    if len(arguments) == 1:  # output_size
        sides = [
            _average_weights(x_shape[2 + d], [share(i, x_shape[2 + d], n) for i in range(n)], False) for d, n in enumerate(arguments[0])
        ]
        override = 0
    else:
        kernel, stride, pad, ceil_mode, count_include_pad, override = arguments
        windows = [_windows(x_shape[2 + d], kernel[d], stride[d], pad[d], ceil_mode) for d in range(2)]
        sides = [_average_weights(x_shape[2 + d], windows[d], count_include_pad) for d in range(2)]
    divisor = np.outer(sides[0][1], sides[1][1])
    return sides[0][0], sides[1][0], np.full_like(divisor, override) if override else divisor


def avgpool2d_forward(x: Array, *arguments: Any) -> Array:
    rows, columns, divisor = _average_map(x.shape, arguments)
    return np.asarray(np.einsum("nchw,ph,qw->ncpq", x, rows, columns) / divisor)


def avgpool2d_backward(dy: Array, x_shape: Shape, *arguments: Any) -> Array:
    rows, columns, divisor = _average_map(x_shape, arguments)
    return np.asarray(np.einsum("ncpq,ph,qw->nchw", dy / divisor, rows, columns))


def _fractional_begins(size: int, window: int, count: int, words: Array, pseudo_random: bool) -> list[int]:
    total, steps = size - window, count - 1
    if pseudo_random:
        u = int(words[0])
        begins = [((i << 32) + u) * total // (steps << 32) - u * total // (steps << 32) for i in range(steps)]
    else:
        begins, longer = [0] * bool(steps), total % steps if steps else 0
        for i in range(steps):
            take = int(words[i]) * (steps - i) >> 32 < longer
            begins.append(begins[-1] + total // steps + take)
            longer -= take
        begins = begins[:steps]
    return [*begins, total]


def fractional_regions(state: Array, x_shape: Shape, output: Pair, window: Pair, pseudo_random: bool, draw: int, offset: int) -> Array:
    N, (P, Q) = x_shape[0], output
    regions = np.zeros((N, 2, P + Q), np.int64)
    words = random_words(offset * (P + Q), N * (P + Q), int(state[0]), int(state[1]) + draw, PURPOSE_NET).reshape(N, P + Q)
    for n in range(N):
        begins = _fractional_begins(x_shape[2], window[0], P, words[n, :P], pseudo_random)
        begins += _fractional_begins(x_shape[3], window[1], Q, words[n, P:], pseudo_random)
        regions[n] = begins, np.array(begins) + np.repeat(window, output)
    return regions


def _regions_of(regions: Array, n: int) -> Array:
    return regions[n if len(regions) > 1 else 0]


def regionpool2d_forward(x: Array, regions: Array, output: Pair, window: Pair) -> tuple[Array, Array]:
    (N, C), (P, Q) = x.shape[:2], output
    y, index = np.zeros((N, C, P, Q)), np.zeros((N, C, P, Q), np.uint8)
    for n, p, q in np.ndindex(N, P, Q):
        begin, end = _regions_of(regions, n)
        part = x[n, :, begin[p] : end[p], begin[P + q] : end[P + q]]
        winner = part.reshape(C, -1).argmax(axis=1)  # numpy: ties to the first, NaN wins
        r, s = winner // part.shape[2], winner % part.shape[2]
        y[n, :, p, q], index[n, :, p, q] = part[np.arange(C), r, s], r * window[1] + s
    return y, index


def regionpool2d_backward(index: Array, regions: Array, dy: Array, x_shape: Shape, window: Pair) -> Array:
    dx = np.zeros(x_shape)
    (N, _, P, Q), every = dy.shape, np.arange(x_shape[1])
    for n, p, q in np.ndindex(N, P, Q):
        begin, _ = _regions_of(regions, n)
        np.add.at(dx[n], (every, begin[p] + index[n, :, p, q] // window[1], begin[P + q] + index[n, :, p, q] % window[1]), dy[n, :, p, q])
    return dx
