"""Activations: value and derivative."""

from __future__ import annotations

import math

import numpy as np

from .memory import Array


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


def normal_distribution(x: Array) -> Array:
    return np.vectorize(math.erfc, otypes=[np.float64])(-x / math.sqrt(2)) / 2


def normal_density(x: Array) -> Array:
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def gelu(x: Array) -> Array:
    return x * normal_distribution(x)


def gelu_slope(x: Array) -> Array:
    return normal_distribution(x) + x * normal_density(x)


def gelu_tanh_argument(x: Array) -> Array:
    """gelu_tanh(x) = x sigmoid(z), for 1 + tanh(z / 2) = 2 sigmoid(z)."""
    return math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)


def softplus(x: Array, beta: float, threshold: float) -> Array:
    z = beta * x
    return np.where(z > threshold, x, (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / beta)


def pointwise_forward(x: Array, function: str, a: float = 0, b: float = 0) -> Array:
    return {
        "sigmoid": lambda: sigmoid(x),
        "tanh": lambda: np.tanh(x),
        "scaled_relu": lambda: a * np.maximum(x, 0),
        "leaky_relu": lambda: np.where(x > 0, x, a * x),
        "elu": lambda: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), b * x),
        "gelu": lambda: gelu(x),
        "gelu_tanh": lambda: x * sigmoid(gelu_tanh_argument(x)),
        "softplus": lambda: softplus(x, a, b),
        "abs": lambda: np.abs(x),
        "clip": lambda: np.clip(x, a, b),
    }[function]()


def pointwise_slope(kept: Array, function: str, a: float = 0, b: float = 0) -> Array:
    """`kept` is the result for sigmoid and tanh, the input for all others."""
    z = gelu_tanh_argument(np.clip(kept, -30, 30))
    dz = math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * np.clip(kept, -30, 30) ** 2)
    return {
        "sigmoid": lambda: kept * (1 - kept),
        "tanh": lambda: (1 - kept) * (1 + kept),
        "scaled_relu": lambda: np.where(kept <= 0, 0, a),
        "leaky_relu": lambda: np.where(kept > 0, 1, a),
        "elu": lambda: np.where(kept <= 0, a * np.exp(np.minimum(kept, 0)), b),
        "gelu": lambda: gelu_slope(kept),
        "gelu_tanh": lambda: sigmoid(z) * (1 + kept * dz * sigmoid(-z)),
        "softplus": lambda: np.where(a * kept > b, 1, sigmoid(a * kept)),
        "abs": lambda: np.sign(kept),
        "clip": lambda: np.where((kept >= a) & (kept <= b), 1, 0),
    }[function]()


def pointwise_backward(kept: Array, dy: Array, function: str, a: float = 0, b: float = 0) -> Array:
    return dy * pointwise_slope(kept, function, a, b)


def prelu_forward(x: Array, slope: Array) -> Array:
    return np.where(x > 0, x, slope * x)


def prelu_backward(x: Array, slope: Array, dy: Array) -> Array:
    return np.where(x > 0, dy, slope * dy)


def prelu_slope(x: Array, dy: Array) -> Array:
    return np.where(x > 0, 0, x * dy)


def activation_forward(x: Array, activation: str) -> Array:
    return {"none": lambda x: x, "relu": relu_forward, "silu": silu_forward, "gelu": gelu}[activation](x)


def activation_backward(x: Array, dy: Array, activation: str) -> Array:
    if activation == "gelu":
        return dy * gelu_slope(x)
    return {"none": lambda x, dy: dy, "relu": relu_backward, "silu": silu_backward}[activation](x, dy)
