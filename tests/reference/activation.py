"""Activations: value and derivative."""

from __future__ import annotations

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


def activation_forward(x: Array, activation: str) -> Array:
    return {"none": lambda: x, "relu": lambda: relu_forward(x), "silu": lambda: silu_forward(x)}[activation]()


def activation_backward(x: Array, dy: Array, activation: str) -> Array:
    return {"none": lambda: dy, "relu": lambda: relu_backward(x, dy), "silu": lambda: silu_backward(x, dy)}[activation]()
