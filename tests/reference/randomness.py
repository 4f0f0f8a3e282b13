"""Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011); key = seed, counter = (index 64 bits, draw 48, purpose 16)."""

from __future__ import annotations

import numpy as np

from .memory import Array, from_memory

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


def _net_words(first: int, n: int, state: Array, draw: int) -> Array:
    return random_words(first, n, int(state[0]), int(state[1]) + draw, PURPOSE_NET)


def _dropped(x: Array, words: Array, p: float, inverted: bool) -> Array:
    kept = words.astype(np.uint64) >= np.uint64(round(p * 2**32))
    return np.where(kept, x / (1 - p) if inverted and p < 1 else x, 0)


def dropout(x: Array, state: Array, p: float, draw: int, offset: int, inverted: bool = True) -> Array:
    return _dropped(x, from_memory(_net_words(offset, x.size, state, draw), x.shape), p, inverted)


def group_dropout(x: Array, state: Array, unit: str, p: float, draw: int, offset: int, inverted: bool = True) -> Array:
    """One word per channel of a sample, per sample, or for all."""
    groups = {"channel": x.shape[:2], "sample": x.shape[:1], "batch": ()}[unit]
    words = _net_words(offset, int(np.prod(groups)), state, draw).reshape(groups + (1,) * (x.ndim - len(groups)))
    return _dropped(x, words, p, inverted)


def gaussian_numbers(words: Array) -> Array:
    """Pairs out of pairs of words (Box, Muller 1958): radius times cosine and sine of the angle."""
    radius = np.sqrt(-2 * np.log(((words[::2] >> 9) + 0.5) / 2**23))
    pi = np.arccos(np.longdouble(-1))  # near its zeros a cosine is only as good as its angle
    angle = 2 * pi * words[1::2].astype(np.longdouble) / 2**32
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1).astype(np.float64)


def gaussian_noise(x: Array, state: Array, std: float, draw: int, offset: int) -> Array:
    first = offset - offset % 2
    z = gaussian_numbers(_net_words(first, (offset - first + x.size + 1) // 2 * 2, state, draw))[offset - first :][: x.size]
    return x + std * from_memory(z, x.shape)
