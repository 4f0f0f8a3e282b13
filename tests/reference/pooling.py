"""Pooling."""

from __future__ import annotations

import math

import numpy as np

from .memory import Array, Pair, Shape


def pool2d_size(size: int, window: int, stride: int, pad: int, ceil_mode: bool) -> int:
    steps = (size + 2 * pad - window) / stride
    outputs = (math.ceil(steps) if ceil_mode else math.floor(steps)) + 1
    last_starts_inside = (outputs - 1) * stride < size + pad
    return outputs if last_starts_inside else outputs - 1


def maxpool2d_forward(x: Array, kernel: Pair, stride: Pair, pad: Pair, ceil_mode: bool) -> tuple[Array, Array]:
    (N, C, H, W), (R, S) = x.shape, kernel
    P, Q = (pool2d_size(H, R, stride[0], pad[0], ceil_mode), pool2d_size(W, S, stride[1], pad[1], ceil_mode))
    y, index = np.full((N, C, P, Q), -np.inf), np.full((N, C, P, Q), -1)
    for r in range(R):
        for s in range(S):
            h, w = np.arange(P) * stride[0] - pad[0] + r, np.arange(Q) * stride[1] - pad[1] + s
            inside = ((0 <= h) & (h < H))[:, None] & ((0 <= w) & (w < W))
            value = x[:, :, h.clip(0, H - 1)][:, :, :, w.clip(0, W - 1)]
            wins = inside & ((index < 0) | (value > y) | (np.isnan(value) & ~np.isnan(y)))
            y, index = np.where(wins, value, y), np.where(wins, r * S + s, index)
    return y, index.astype(np.uint8)


def maxpool2d_backward(index: Array, dy: Array, x_shape: Shape, kernel: Pair, stride: Pair, pad: Pair) -> Array:
    dx = np.zeros(x_shape)
    n, c, p, q = np.indices(dy.shape)
    r, s = index // kernel[1], index % kernel[1]
    np.add.at(dx, (n, c, p * stride[0] - pad[0] + r, q * stride[1] - pad[1] + s), dy)
    return dx


def global_avgpool_forward(x: Array) -> Array:
    return x.mean(axis=(2, 3), keepdims=True)


def global_avgpool_backward(dy: Array, x_shape: Shape) -> Array:
    return np.broadcast_to(dy / (x_shape[2] * x_shape[3]), x_shape)
