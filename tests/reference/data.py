"""Batches out of data sets."""

from __future__ import annotations

import numpy as np

from .memory import Array, Pair, per_channel


def gather_normalize(source: Array, index: Array, scale: Array, shift: Array) -> Array:
    x = source[index].astype(np.float64)
    return per_channel(scale, x, 1) * x + per_channel(shift, x, 0)


def gather_augment(source: Array, index: Array, map: Array, fill: Array, scale: Array, shift: Array, size: Pair, border: str) -> Array:
    """Each image is padded far enough by numpy, then cut out and turned round as a whole."""
    margin = int(np.abs(map[:, :2]).max(initial=0)) + max(size) + max(source.shape[2:])
    y = np.empty((len(index), source.shape[1], *size))
    for i, (image, (top, left, step)) in enumerate(zip(source[index].astype(np.float64), map)):
        coloured = image * scale[:, None, None] + shift[:, None, None]
        padding = [(0, 0), (margin, margin), (margin, margin)]
        if border == "constant":
            padded = np.broadcast_to(fill[:, None, None], (len(fill), *(n + 2 * margin for n in image.shape[1:]))).copy()
            padded[:, margin : margin + image.shape[1], margin : margin + image.shape[2]] = coloured
        else:
            padded = np.pad(coloured, padding, mode=border)
        first = left if step > 0 else left - size[1] + 1
        window = padded[:, margin + top : margin + top + size[0], margin + first : margin + first + size[1]]
        y[i] = window if step > 0 else window[:, :, ::-1]
    return y
