"""Every kernel of csrc/kernels.def in float64 numpy, written to be read: loops over taps, windows and groups, einsum over the rest.

A function bears its row's name, takes the row's inputs (logical N, C, H, W, whatever the order in memory) and then the fields of its
struct, and returns what the row writes, in the row's order. Nothing of fastnn is imported here.

Letters: N batch, C input channels, H x W input, K output channels, R x S window, P x Q output, G groups.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Pair = tuple[int, int]
Shape = tuple[int, ...]


# --- memory: rank 4 has shape (N, C, H, W) and lies N, H, W, C; every other rank is row-major


def in_memory(x: Array) -> Array:
    """The elements of x as they lie in memory, flat."""
    return (x.transpose(0, 2, 3, 1) if x.ndim == 4 else x).reshape(-1)


def from_memory(flat: Array, shape: Shape) -> Array:
    """The inverse of in_memory."""
    if len(shape) != 4:
        return flat.reshape(shape)
    n, c, h, w = shape
    return flat.reshape(n, h, w, c).transpose(0, 3, 1, 2)


# --- convolution


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
    x: Array, w: Array, b: Array | None, stride: Pair, pad_before: Pair, pad_after: Pair, dilation: Pair, groups: int
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
    return y if b is None else y + b[:, None, None]


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


# --- matrix product


def matmul(a: Array, b: Array, bias: Array | None, transpose_a: bool, transpose_b: bool) -> Array:
    y = (np.swapaxes(a, -1, -2) if transpose_a else a) @ (np.swapaxes(b, -1, -2) if transpose_b else b)
    return y if bias is None else y + bias


def channel_sum(x: Array) -> Array:
    return x.sum(axis=(0, *range(2, x.ndim)))


# --- pooling


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


# --- activations: value and derivative


def sigmoid(x: Array) -> Array:
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def relu_forward(x: Array) -> Array:
    return np.maximum(x, 0)  # NaN stays NaN


def relu_backward(y: Array, dy: Array) -> Array:
    return np.where(y > 0, dy, 0)


def silu_forward(x: Array) -> Array:
    return x * sigmoid(x)


def silu_backward(x: Array, dy: Array) -> Array:
    return dy * sigmoid(x) * (1 + x * sigmoid(-x))


def activation_forward(x: Array, activation: str) -> Array:
    return {"none": lambda: x, "relu": lambda: relu_forward(x), "silu": lambda: silu_forward(x)}[activation]()


def activation_backward(x: Array, dy: Array, activation: str) -> Array:
    return {"none": lambda: dy, "relu": lambda: relu_backward(x, dy), "silu": lambda: silu_backward(x, dy)}[activation]()


# --- batch normalisation over all but the channels, for (N, C) and (N, C, H, W)


def _per_channel(v: Array | None, x: Array, default: float) -> Array:
    """v of shape (C,) as an array that broadcasts against x."""
    v = np.full(x.shape[1], default) if v is None else v
    return v.reshape((1, -1) + (1,) * (x.ndim - 2))


def batchnorm_before_activation(
    x: Array, gamma: Array | None, beta: Array | None, residual: Array | None, mean: Array, rstd: Array
) -> Array:
    normal = (x - _per_channel(mean, x, 0)) * _per_channel(rstd, x, 1)
    return _per_channel(gamma, x, 1) * normal + _per_channel(beta, x, 0) + (0 if residual is None else residual)


def batchnorm_forward(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    residual: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    eps: float,
    momentum: float,
    activation: str,
) -> tuple[Array | None, Array | None, Array, Array, Array]:
    axes, count = (0, *range(2, x.ndim)), x.size // x.shape[1]
    mean, var = x.mean(axes), x.var(axes)
    rstd = 1 / np.sqrt(var + eps)
    if running_mean is not None:
        running_mean = (1 - momentum) * running_mean + momentum * mean
    if running_var is not None:
        running_var = (1 - momentum) * running_var + momentum * var * count / (count - 1)
    y = activation_forward(batchnorm_before_activation(x, gamma, beta, residual, mean, rstd), activation)
    return running_mean, running_var, y, mean, rstd


def batchnorm_inference(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    residual: Array | None,
    running_mean: Array,
    running_var: Array,
    eps: float,
    activation: str,
) -> tuple[Array, Array, Array]:
    rstd = 1 / np.sqrt(running_var + eps)
    y = activation_forward(batchnorm_before_activation(x, gamma, beta, residual, running_mean, rstd), activation)
    return y, running_mean, rstd


def batchnorm_backward(
    x: Array,
    dy: Array,
    gamma: Array | None,
    beta: Array | None,
    residual: Array | None,
    mean: Array,
    rstd: Array,
    activation: str,
    training: bool,
) -> tuple[Array, Array, Array, Array]:
    axes, count = (0, *range(2, x.ndim)), x.size // x.shape[1]
    before = batchnorm_before_activation(x, gamma, beta, residual, mean, rstd)
    dbefore = activation_backward(before, dy, activation)
    normal = (x - _per_channel(mean, x, 0)) * _per_channel(rstd, x, 1)
    dbeta, dgamma = dbefore.sum(axes), (dbefore * normal).sum(axes)
    dx = dbefore
    if training:  # mean and variance depend on x
        dx = dx - _per_channel(dbeta, x, 0) / count - normal * _per_channel(dgamma, x, 0) / count
    dx = dx * _per_channel(gamma, x, 1) * _per_channel(rstd, x, 1)
    return dx, dgamma, dbeta, np.zeros(0) if residual is None else dbefore


# --- randomness: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011); key = seed, counter = (index 64 bits, draw 48, purpose 16)

PURPOSE_NET = 1


def philox4x32(counter: Array, key: Array) -> Array:
    """Ten rounds on counters of shape (n, 4) with one key of shape (2,): n x 4 words of 32 bits."""
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = (int(k) for k in key)
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ np.uint64(k0), p1 & low, (p0 >> half) ^ c3 ^ np.uint64(k1), p0 & low
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def random_words(first: int, n: int, seed: int, draw: int, purpose: int) -> Array:
    """Words first ... first + n - 1: element i takes word i % 4 of block i / 4."""
    blocks = np.arange(first // 4, (first + n + 3) // 4, dtype=np.uint64)
    counter = np.empty((len(blocks), 4), np.uint64)
    counter[:, 0], counter[:, 1] = blocks & np.uint64(0xFFFFFFFF), blocks >> np.uint64(32)
    counter[:, 2], counter[:, 3] = draw % 2**32, (draw >> 32) % 2**16 + (purpose << 16)
    words = philox4x32(counter, np.array([seed % 2**32, (seed >> 32) % 2**32]))
    return words.reshape(-1)[first % 4 :][:n]


def random_bits(state: Array, n: int, draw: int, purpose: int) -> Array:
    return random_words(0, n, int(state[0]), int(state[1]) + draw, purpose).astype(np.int64)


def dropout(x: Array, state: Array, p: float, draw: int, offset: int) -> Array:
    words = random_words(offset, x.size, int(state[0]), int(state[1]) + draw, PURPOSE_NET)
    kept = from_memory(words.astype(np.uint64) >= np.uint64(round(p * 2**32)), x.shape)
    return np.where(kept, x / (1 - p) if p < 1 else 0, 0)


# --- elementwise


def exp(x: Array) -> Array:
    return np.exp(x)


def log(x: Array) -> Array:
    return np.log(x)


def sqrt(x: Array) -> Array:
    return np.sqrt(x)


def power(x: Array, exponent: float) -> Array:
    return np.power(x, exponent)


def add(a: Array, b: Array) -> Array:
    return a + b


def subtract(a: Array, b: Array) -> Array:
    return a - b


def multiply(a: Array, b: Array) -> Array:
    return a * b


def divide(a: Array, b: Array) -> Array:
    return a / b


# --- reductions


def sum(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return np.sum(x, axis=axes, keepdims=keepdims)


def _reduced_last(x: Array, axes: tuple[int, ...]) -> tuple[Array, list[int], list[int]]:
    """x with kept dimensions first and reduced ones behind, these in the order they lie in memory."""
    memory_order = [0, 2, 3, 1] if x.ndim == 4 else list(range(x.ndim))
    kept, reduced = [d for d in range(x.ndim) if d not in axes], [d for d in memory_order if d in axes]
    return x.transpose(kept + reduced), kept, reduced


def max_forward(x: Array, axes: tuple[int, ...], keepdims: bool) -> tuple[Array, Array]:
    moved, kept, _ = _reduced_last(x, axes)
    rows = moved.reshape(*(x.shape[d] for d in kept), -1)
    index = rows.argmax(axis=-1)  # numpy: ties to the first, NaN wins
    y = np.take_along_axis(rows, index[..., None], axis=-1)[..., 0]
    shape = tuple(1 if d in axes else x.shape[d] for d in range(x.ndim) if keepdims or d not in axes)
    return y.reshape(shape), index.reshape(shape)


def max_backward(index: Array, dy: Array, x_shape: Shape, axes: tuple[int, ...]) -> Array:
    dx = np.zeros(x_shape)
    moved, kept, reduced = _reduced_last(dx, axes)
    rows = np.zeros((*(x_shape[d] for d in kept), math.prod(x_shape[d] for d in reduced)))
    np.put_along_axis(rows, index.reshape(rows.shape[:-1])[..., None], dy.reshape(rows.shape[:-1])[..., None], axis=-1)
    moved[...] = rows.reshape(moved.shape)  # moved is a view of dx
    return dx


# --- strided copies: dims and stride count elements in memory


def _places(dims: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Array:
    return offset + np.sum([i * s for i, s in zip(np.indices(dims), stride, strict=True)], axis=0, dtype=np.int64).reshape(-1)


def copy(x: Array, y_shape: Shape, dims: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Array:
    return from_memory(in_memory(x)[_places(dims, stride, offset)], y_shape)


def copy_backward(dy: Array, x_shape: Shape, dims: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Array:
    dx = np.zeros(math.prod(x_shape))
    dx[_places(dims, stride, offset)] = in_memory(dy)
    return from_memory(dx, x_shape)


# --- loss


def _log_softmax(logits: Array) -> tuple[Array, Array]:
    highest = logits.max(axis=1)
    lse = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return logits - lse[:, None], lse


def _targets(logits: Array, labels: Array, weight: Array | None, smoothing: float, ignore_index: int) -> tuple[Array, Array]:
    """How much -log p[n, c] counts in the loss, and the weight of each sample in the mean; both 0 for ignored samples."""
    N, C = logits.shape
    weight = np.ones(C) if weight is None else weight
    targets, sample_weight = np.zeros((N, C)), np.zeros(N)
    for n, label in enumerate(labels):
        if label != ignore_index:
            targets[n] = smoothing / C * weight
            targets[n, label] += (1 - smoothing) * weight[label]
            sample_weight[n] = weight[label]
    return targets, sample_weight


def cross_entropy_forward(
    logits: Array, labels: Array, weight: Array | None, smoothing: float, ignore_index: int, reduction: str
) -> tuple[Array, Array, Array]:
    targets, sample_weight = _targets(logits, labels, weight, smoothing, ignore_index)
    log_p, lse = _log_softmax(logits)
    losses = -np.where(targets == 0, 0, targets * log_p).sum(axis=1)
    divisor = sample_weight.sum() if reduction == "mean" else np.float64(1)
    return losses if reduction == "none" else losses.sum() / divisor, lse, divisor


def cross_entropy_backward(
    logits: Array,
    labels: Array,
    weight: Array | None,
    divisor: Array,
    dloss: Array,
    smoothing: float,
    ignore_index: int,
    reduction: str,
) -> Array:
    targets, _ = _targets(logits, labels, weight, smoothing, ignore_index)
    p = np.exp(_log_softmax(logits)[0])
    dlosses = dloss[:, None] if reduction == "none" else dloss / divisor
    total = targets.sum(axis=1, keepdims=True)
    return np.where(total == 0, 0, dlosses * (p * total - targets))  # ignored samples: 0, whatever their logits and the divisor


# --- optimizers: group[i] is the row of `rates` that parameter i follows


def sgd_step(w: list[Array], g: list[Array], v: list[Array], group: Array, rates: Array) -> tuple[list[Array], list[Array]]:
    w, v = list(w), list(v)
    for i, row in enumerate(group):
        lr, weight_decay, momentum, nesterov = rates[row]
        gradient = g[i] + weight_decay * w[i]
        velocity = momentum * v[i] + gradient
        w[i] = w[i] - lr * (gradient + momentum * velocity if nesterov else velocity)
        v[i] = velocity if momentum else v[i]  # plain descent has no velocity: it stays 0 until momentum is switched on
    return w, v


def adam_step(
    w: list[Array], g: list[Array], m: list[Array], v: list[Array], group: Array, rates: Array, t: Array
) -> tuple[list[Array], list[Array], list[Array]]:
    w, m, v = list(w), list(m), list(v)
    for i, row in enumerate(group):
        lr, weight_decay, beta1, beta2, eps, decoupled = rates[row]
        gradient = g[i] if decoupled else g[i] + weight_decay * w[i]
        m[i] = beta1 * m[i] + (1 - beta1) * gradient
        v[i] = beta2 * v[i] + (1 - beta2) * gradient**2
        step = m[i] / (1 - beta1 ** int(t)) / (np.sqrt(v[i] / (1 - beta2 ** int(t))) + eps)
        w[i] = w[i] * (1 - lr * weight_decay if decoupled else 1) - lr * step
    return w, m, v


# --- data


def gather_normalize(source: Array, index: Array, scale: Array, shift: Array) -> Array:
    x = source[index].astype(np.float64)
    return _per_channel(scale, x, 1) * x + _per_channel(shift, x, 0)
