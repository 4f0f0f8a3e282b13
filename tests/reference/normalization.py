"""Batch normalisation over all but the channels, for (N, C) and (N, C, H, W); layer and group normalisation of each sample."""

from __future__ import annotations

import numpy as np

from .activation import activation_backward, activation_forward
from .memory import Array, Pair, Shape, per_channel
from .products import conv2d_forward


def batchnorm_before_activation(
    x: Array, gamma: Array | None, beta: Array | None, residual: Array | None, mean: Array, rstd: Array
) -> Array:
    normal = (x - per_channel(mean, x, 0)) * per_channel(rstd, x, 1)
    return per_channel(gamma, x, 1) * normal + per_channel(beta, x, 0) + (0 if residual is None else residual)


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


def conv2d_batchnorm_forward(
    x: Array,
    w: Array,
    b: Array | None,
    gamma: Array | None,
    beta: Array | None,
    residual: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    stride: Pair,
    pad_before: Pair,
    pad_after: Pair,
    dilation: Pair,
    groups: int,
    eps: float,
    momentum: float,
    activation: str,
) -> tuple[Array | None, Array | None, Array, Array, Array, Array]:
    z = conv2d_forward(x, w, b, stride, pad_before, pad_after, dilation, groups)
    running_mean, running_var, y, mean, rstd = batchnorm_forward(
        z, gamma, beta, residual, running_mean, running_var, eps, momentum, activation
    )
    return running_mean, running_var, z, y, mean, rstd


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
    normal = (x - per_channel(mean, x, 0)) * per_channel(rstd, x, 1)
    dbeta, dgamma = dbefore.sum(axes), (dbefore * normal).sum(axes)
    dx = dbefore
    if training:  # mean and variance depend on x
        dx = dx - per_channel(dbeta, x, 0) / count - normal * per_channel(dgamma, x, 0) / count
    dx = dx * per_channel(gamma, x, 1) * per_channel(rstd, x, 1)
    return dx, dgamma, dbeta, np.zeros(0) if residual is None else dbefore


def _normalized(x: Array, axes: Shape, eps: float) -> tuple[Array, Array, Array]:
    """(x - mean) rstd, mean and rstd."""
    mean, rstd = x.mean(axes, keepdims=True), 1 / np.sqrt(x.var(axes, keepdims=True) + eps)
    return (x - mean) * rstd, mean, rstd


def _normalized_backward(normal: Array, rstd: Array, g: Array, axes: Shape) -> Array:
    """The gradient of x, given that of (x - mean) rstd."""
    return rstd * (g - g.mean(axes, keepdims=True) - normal * (g * normal).mean(axes, keepdims=True))


def _layer_axes(x: Array, dims: int) -> tuple[Shape, Shape]:
    """The normalised axes, and the shape that gamma broadcasts from."""
    return tuple(range(x.ndim - dims, x.ndim)), x.shape[x.ndim - dims :]


def layernorm_forward(x: Array, gamma: Array | None, beta: Array | None, dims: int, eps: float) -> tuple[Array, Array, Array]:
    axes, shape = _layer_axes(x, dims)
    normal, mean, rstd = _normalized(x, axes, eps)
    y = normal * (1 if gamma is None else gamma.reshape(shape)) + (0 if beta is None else beta.reshape(shape))
    return y, mean.reshape(-1), rstd.reshape(-1)


def layernorm_backward(
    x: Array, dy: Array, gamma: Array | None, mean: Array, rstd: Array, dims: int, affine: bool
) -> tuple[Array, Array, Array]:
    axes, shape = _layer_axes(x, dims)
    rstd = rstd.reshape(*x.shape[: x.ndim - dims], *[1] * dims)
    normal = (x - mean.reshape(rstd.shape)) * rstd
    dx = _normalized_backward(normal, rstd, dy * (1 if gamma is None else gamma.reshape(shape)), axes)
    if not affine:
        return dx, np.zeros(0), np.zeros(0)
    of_gamma = shape if x.ndim == 4 and dims == 4 else (1, *shape) if x.ndim == 4 else (-1,)
    rest = tuple(range(x.ndim - dims))
    return dx, (dy * normal).sum(rest).reshape(of_gamma), dy.sum(rest).reshape(of_gamma)


def _grouped(x: Array, groups: int) -> Array:
    return x.reshape(x.shape[0], groups, int(np.prod(x.shape[1:])) // groups)


def groupnorm_forward(x: Array, gamma: Array | None, beta: Array | None, groups: int, eps: float) -> tuple[Array, Array, Array]:
    normal, mean, rstd = _normalized(_grouped(x, groups), (2,), eps)
    return normal.reshape(x.shape) * per_channel(gamma, x, 1) + per_channel(beta, x, 0), mean[:, :, 0], rstd[:, :, 0]


def groupnorm_backward(
    x: Array, dy: Array, gamma: Array | None, mean: Array, rstd: Array, groups: int, affine: bool
) -> tuple[Array, Array, Array]:
    normal = (_grouped(x, groups) - mean[:, :, None]) * rstd[:, :, None]
    dx = _normalized_backward(normal, rstd[:, :, None], _grouped(dy * per_channel(gamma, x, 1), groups), (2,)).reshape(x.shape)
    rest = (0, *range(2, x.ndim))
    return (dx, (dy * normal.reshape(x.shape)).sum(rest), dy.sum(rest)) if affine else (dx, np.zeros(0), np.zeros(0))
