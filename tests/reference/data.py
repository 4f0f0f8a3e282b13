"""Batches out of data sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .memory import Array, Pair, from_memory, per_channel
from .randomness import gaussian_numbers, random_words

PURPOSE_NOISE = 6


def gather_normalize(source: Array, index: Array, scale: Array, shift: Array) -> Array:
    x = source[index].astype(np.float64)
    return per_channel(scale, x, 1) * x + per_channel(shift, x, 0)


def gather_augment(
    source: Array, index: Array, map: Array, fill: Array, scale: Array, shift: Array, size: Pair, border: str,
    colour: Array | None = None, box: Array | None = None, erased: Array | None = None, bent: Array | None = None,
    deviation: Array | None = None, stream: Array | None = None,
) -> Array:  # fmt: skip
    """Each image is padded far enough by numpy and then cut out and turned round as a whole; or, with six numbers in `map` or by what bends it,
    looked up place by place."""
    y = np.empty((len(index), source.shape[1], *size))
    for i, image in enumerate(source[index].astype(np.float64)):
        if bent is not None and (bent[i, 6:] != (0, 0, 1, 0, 0)).any():
            seen, inside = _bent(image, bent[i], size, border)
        else:
            seen, inside = (_warped if map.shape[1] == 6 else _window)(image, map[i], size, border)
        if colour is not None:
            seen = coloured(seen, inside, image.mean((1, 2)), colour[i])
        fills = inside * shift[:, None, None] + (1 - inside) * fill[:, None, None]
        y[i] = np.where(inside > 0, seen * scale[:, None, None], 0) + fills
        if deviation is not None and stream is not None and deviation[i]:
            seed, draw, block = (int(n) for n in stream[i])
            z = gaussian_numbers(random_words(4 * block, y[i].size + y[i].size % 2, seed, draw, PURPOSE_NOISE))[: y[i].size]
            ends = np.sort([shift, 255 * scale + shift], 0)[:, :, None, None]
            y[i] = np.clip(y[i] + (deviation[i] * scale)[:, None, None] * from_memory(z, (1, *y[i].shape))[0], *ends)
        if box is not None and erased is not None:
            top, left, height, width = box[i]
            y[i, :, max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = erased[:, None, None]
    return y


def coloured(seen: Array, inside: Array, mean: Array, colour: Array) -> Array:
    """A v + B m + t within 0 ... 255, for values (C, P, Q) of which the share `inside` (P, Q) is the image's; colour is (C, 2C + 1) = (A, B, t)."""
    channels = len(colour)
    offset = colour[:, channels:-1] @ mean + colour[:, -1]
    result = np.einsum("kc,cpq->kpq", colour[:, :channels], seen) + offset[:, None, None] * inside
    return np.clip(result, 0, 255 * inside)


def _window(image: Array, map: Array, size: Pair, border: str) -> tuple[Array, Array]:
    """What is seen, with zeros for the fill, and 1 where it is the image."""
    top, left, step = map
    margin = int(np.abs(map[:2]).max()) + max(size) + max(image.shape[1:])
    padding = [(0, 0), (margin, margin), (margin, margin)]
    padded = np.pad(image, padding, mode=border)  # type: ignore[call-overload]
    whole = np.pad(np.ones_like(image[:1]), padding, mode=border)  # type: ignore[call-overload]
    first = left if step > 0 else left - size[1] + 1
    windows = [a[:, margin + top : margin + top + size[0], margin + first : margin + first + size[1]] for a in (padded, whole)]
    seen, inside = windows if step > 0 else [w[:, :, ::-1] for w in windows]
    return seen, inside[0]


def _warped(image: Array, map: Array, size: Pair, border: str) -> tuple[Array, Array]:
    m = [int(v) for v in map]
    return _looked_up(image, size, border, lambda p, q: (m[0] * p + m[1] * q + m[2], m[3] * p + m[4] * q + m[5]))


def _bent(image: Array, m: Array, size: Pair, border: str) -> tuple[Array, Array]:
    """The projective map of all pixels at once, then the lens, in float64."""
    p, q = np.meshgrid(*map(np.arange, size), indexing="ij")
    rows, columns, divisors = np.einsum("ij,jpq->ipq", m[:9].reshape(3, 3), np.stack([p, q, np.ones_like(p)]))
    middle = (np.array(image.shape[1:]) - 1) / 2
    from_middle = np.stack([rows, columns], -1) / divisors[..., None] - middle
    r = np.minimum(np.linalg.norm(from_middle, axis=-1) / (np.linalg.norm(image.shape[1:]) / 2), 1)
    places = middle + from_middle * (1 + m[9] * r**2 + m[10] * r**4)[..., None]
    return _looked_up(image, size, border, lambda p, q: tuple(int(at * 2.0**32) for at in places[p, q]))


def _looked_up(image: Array, size: Pair, border: str, place: Callable[[int, int], tuple[int, ...]]) -> tuple[Array, Array]:
    """The bilinear means at place(p, q), (row, column) in 2^-32 of a pixel, of which 2^-24 count."""
    seen, inside = np.zeros((len(image), *size)), np.zeros(size)
    for p in range(size[0]):
        for q in range(size[1]):
            row, column = place(p, q)
            down, right = (n % 2**32 // 2**8 / 2**24 for n in (row, column))
            for i, vertical in enumerate((1 - down, down)):
                for j, horizontal in enumerate((1 - right, right)):
                    h, w = _place(row // 2**32 + i, image.shape[1], border), _place(column // 2**32 + j, image.shape[2], border)
                    if h is not None and w is not None:
                        seen[:, p, q] += vertical * horizontal * image[:, h, w]
                        inside[p, q] += vertical * horizontal
    return seen, inside


def _place(i: int, n: int, border: str) -> int | None:
    if 0 <= i < n:
        return i
    if border == "constant":
        return None
    if border == "edge" or n == 1:
        return min(max(i, 0), n - 1)
    return min(i % (2 * n - 2), -i % (2 * n - 2))
