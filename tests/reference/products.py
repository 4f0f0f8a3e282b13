"""Convolutions and matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from .activation import activation_forward
from .memory import Array, Pair, Shape


def conv2d_size(size: int, window: int, stride: int, before: int, after: int, dilation: int) -> int:
    return (size + before + after - dilation * (window - 1) - 1) // stride + 1


def _tap(r: int, s: int, outputs: Pair, stride: Pair, dilation: Pair) -> tuple[slice, slice, slice, slice]:
    """Where tap (r, s) finds its pixels for all P x Q outputs, in the padded map."""
    rows = slice(r * dilation[0], r * dilation[0] + (outputs[0] - 1) * stride[0] + 1, stride[0])
    columns = slice(s * dilation[1], s * dilation[1] + (outputs[1] - 1) * stride[1] + 1, stride[1])
    return slice(None), slice(None), rows, columns


def _pad(x: Array, before: Pair, after: Pair) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (before[0], after[0]), (before[1], after[1])))


def _group(g: int, groups: int, channels: int) -> slice:
    return slice(g * channels // groups, (g + 1) * channels // groups)


def conv2d_forward(
    x: Array,
    w: Array,
    b: Array | None,
    stride: Pair,
    pad_before: Pair,
    pad_after: Pair,
    dilation: Pair,
    groups: int,
    activation: str = "none",
) -> Array:
    (N, C, H, W), (K, _, R, S) = x.shape, w.shape
    P = conv2d_size(H, R, stride[0], pad_before[0], pad_after[0], dilation[0])
    Q = conv2d_size(W, S, stride[1], pad_before[1], pad_after[1], dilation[1])
    padded = _pad(x, pad_before, pad_after)
    y = np.zeros((N, K, P, Q))
    for r in range(R):
        for s in range(S):
            pixels = padded[_tap(r, s, (P, Q), stride, dilation)]
            for g in range(groups):
                c, k = _group(g, groups, C), _group(g, groups, K)
                y[:, k] += np.einsum("ncpq,kc->nkpq", pixels[:, c], w[k, :, r, s], optimize=True)
    return activation_forward(y if b is None else y + b[:, None, None], activation)


def conv2d_add_forward(x: Array, w: Array, b: Array | None, residual: Array, *geometry: Any) -> Array:
    *window, activation = geometry if isinstance(geometry[-1], str) else (*geometry, "none")
    return activation_forward(conv2d_forward(x, w, b, *window) + residual, activation)


def conv2d_backward_input(
    dy: Array, w: Array, x_shape: Shape, stride: Pair, pad_before: Pair, pad_after: Pair, dilation: Pair, groups: int
) -> Array:
    (N, C, H, W), (K, _, R, S), (P, Q) = x_shape, w.shape, dy.shape[2:]
    dpadded = _pad(np.zeros((N, C, H, W)), pad_before, pad_after)
    for r in range(R):
        for s in range(S):
            dpixels = dpadded[_tap(r, s, (P, Q), stride, dilation)]
            for g in range(groups):
                c, k = _group(g, groups, C), _group(g, groups, K)
                dpixels[:, c] += np.einsum("nkpq,kc->ncpq", dy[:, k], w[k, :, r, s], optimize=True)
    return dpadded[:, :, pad_before[0] : pad_before[0] + H, pad_before[1] : pad_before[1] + W]


def conv2d_add_backward_input(dy: Array, w: Array, before: Array, *geometry: Any) -> Array:
    return before + conv2d_backward_input(dy, w, before.shape, *geometry)


def conv2d_backward_weight(
    x: Array, dy: Array, w_shape: Shape, stride: Pair, pad_before: Pair, pad_after: Pair, dilation: Pair, groups: int
) -> Array:
    (K, _, R, S), C, (P, Q) = w_shape, x.shape[1], dy.shape[2:]
    padded = _pad(x, pad_before, pad_after)
    dw = np.zeros(w_shape)
    for r in range(R):
        for s in range(S):
            pixels = padded[_tap(r, s, (P, Q), stride, dilation)]
            for g in range(groups):
                c, k = _group(g, groups, C), _group(g, groups, K)
                dw[k, :, r, s] = np.einsum("ncpq,nkpq->kc", pixels[:, c], dy[:, k], optimize=True)
    return dw


def conv2d_normalized_backward_weight(
    z: Array, gamma: Array | None, beta: Array | None, mean: Array, rstd: Array, dy: Array, w_shape: Shape, *geometry: Any
) -> Array:
    *window, activation = geometry if isinstance(geometry[-1], str) else (*geometry, "none")
    channel = (slice(None), None, None)
    x = (z - mean[channel]) * rstd[channel] * (1 if gamma is None else gamma[channel]) + (0 if beta is None else beta[channel])
    return conv2d_backward_weight(activation_forward(x, activation), dy, w_shape, *window)


def matmul(a: Array, b: Array, bias: Array | None, transpose_a: bool, transpose_b: bool, activation: str = "none") -> Array:
    y = (np.swapaxes(a, -1, -2) if transpose_a else a) @ (np.swapaxes(b, -1, -2) if transpose_b else b)
    return activation_forward(y if bias is None else y + bias, activation)


def channel_sum(x: Array) -> Array:
    return x.sum(axis=(0, *range(2, x.ndim)))
