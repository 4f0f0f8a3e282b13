"""One element at a time, and two that broadcast."""

from __future__ import annotations

import numpy as np

from .memory import Array


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


def maximum(a: Array, b: Array) -> Array:
    return np.maximum(a, b)


def minimum(a: Array, b: Array) -> Array:
    return np.minimum(a, b)


def compare(a: Array, b: Array, relation: str) -> Array:
    result: Array = getattr(np, relation)(a, b)
    return result


def where(condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition, a, b)
