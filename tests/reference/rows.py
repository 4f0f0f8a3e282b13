"""Functions of whole rows: softmax along a dimension, distances."""

from __future__ import annotations

import numpy as np

from .memory import Array


def softmax_forward(x: Array, dim: int) -> Array:
    return np.exp(log_softmax_forward(x, dim))


def softmax_backward(y: Array, dy: Array, dim: int) -> Array:
    return y * (dy - (y * dy).sum(axis=dim, keepdims=True))


def log_softmax_forward(x: Array, dim: int) -> Array:
    shifted = x - x.max(axis=dim, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))


def log_softmax_backward(y: Array, dy: Array, dim: int) -> Array:
    return dy - np.exp(y) * dy.sum(axis=dim, keepdims=True)


def logsumexp_forward(x: Array, dim: int) -> Array:
    top = x.max(axis=dim, keepdims=True, initial=-np.inf)
    return top + np.log(np.exp(x - top).sum(axis=dim, keepdims=True))


def logsumexp_backward(x: Array, y: Array, dy: Array, dim: int) -> Array:
    return dy * np.exp(x - y)


def distance(a: Array, b: Array, p: int) -> Array:
    return np.stack([(np.abs(row - b) ** p).sum(axis=1) for row in a]) if len(a) else np.zeros((0, len(b)))
