"""Batches out of data sets."""

from __future__ import annotations

import numpy as np

from .memory import Array, per_channel


def gather_normalize(source: Array, index: Array, scale: Array, shift: Array) -> Array:
    x = source[index].astype(np.float64)
    return per_channel(scale, x, 1) * x + per_channel(shift, x, 0)
