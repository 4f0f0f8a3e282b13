"""How arrays lie in memory: rank 4 has shape (N, C, H, W) and lies N, H, W, C; every other rank is row-major."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Pair = tuple[int, int]
Shape = tuple[int, ...]


def in_memory(x: Array) -> Array:
    """The elements of x as they lie in memory, flat."""
    return (x.transpose(0, 2, 3, 1) if x.ndim == 4 else x).reshape(-1)


def from_memory(flat: Array, shape: Shape) -> Array:
    """The inverse of in_memory."""
    if len(shape) != 4:
        return flat.reshape(shape)
    n, c, h, w = shape
    return flat.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def per_channel(v: Array | None, x: Array, default: float) -> Array:
    """v of shape (C,) as an array that broadcasts against x."""
    v = np.full(x.shape[1], default) if v is None else v
    return v.reshape((1, -1) + (1,) * (x.ndim - 2))
