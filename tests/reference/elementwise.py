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


def to_bfloat16(x: Array) -> Array:
    """The upper half of a float32, to the nearest, ties to even."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    lower = bits & 0xFFFF
    up = (lower > 0x8000) | ((lower == 0x8000) & ((bits >> 16) % 2 == 1))
    return (bits - lower + np.uint64(0x10000) * up.astype(np.uint64)).astype(np.uint32).view(np.float32).astype(np.float64)


def to_float32(x: Array) -> Array:
    return x
