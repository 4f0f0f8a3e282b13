"""Batches out of data sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import reference
from numpy.random import Generator

from .problem import Array, Problem, Shape, Sketch, case, held, largest, normal


def gather_normalize(random: Generator, source_shape: Shape, batch: int) -> Problem:
    source, index = random.integers(0, 256, source_shape).astype(np.uint8), random.integers(0, source_shape[0], batch)
    scale, shift = normal(random, source_shape[1:2]) / 64, normal(random, source_shape[1:2])
    return Problem(
        [source, index, scale, shift],
        [reference.gather_normalize(source, index, scale, shift)],
        512 * largest(scale) + 2 * largest(shift),
    )


def gather_augment(
    random: Generator, source_shape: Shape, batch: int, size: tuple[int, int], border: str, warped: bool = False, coloured: bool = False,
    reach: int = 3, erased: bool = False, bent: bool = False, noisy: bool = False,
) -> Problem:  # fmt: skip
    """reach: how far outside of the image the corners of the frames lie, at most. bent, noisy: every other sample."""
    source, index = random.integers(0, 256, source_shape).astype(np.uint8), random.integers(0, source_shape[0], batch)
    if warped and batch:
        index[0] = source_shape[0] - 1  # to the end of the images
    frames = _warps(random, batch, source_shape[2:], size) if warped else _windows(random, batch, source_shape[2:], size, reach)
    channels = source_shape[1]
    fill, scale, shift = (normal(random, (channels,)) for _ in range(3))
    scale = scale / 64
    colour = held(random.normal(0, 0.5, (batch, channels, 2 * channels + 1)) * ([1] * 2 * channels + [100])) if coloured else None
    box = np.stack([random.integers(-2, size[i % 2] + 1, batch) for i in range(4)], 1) if erased else None
    value = normal(random, (channels,)) if erased else None
    bends = _bends(random, batch, source_shape[2:], size) if bent else None
    deviation = held(random.uniform(0, 100, batch) * (np.arange(batch) % 3 != 1)) if noisy else None
    stream = np.stack([random.integers(0, 2**63, batch), random.integers(0, 2**40, batch), np.arange(batch) << 32], 1) if noisy else None
    more = (colour, box, value, bends, deviation, stream)
    y = reference.gather_augment(source, index, frames, fill, scale, shift, size, border, *more)
    if coloured or warped or bent or noisy:  # sums before the limit of 0 ... 255, each a mean of four bytes
        before = 16 * (4 + (255 * 2 * channels + 100) * (np.abs(colour).max(initial=0) if colour is not None else 0) / 16)
        tolerance = (before + 1024) * largest(scale) + 4 * (largest(shift) + largest(fill))
    else:
        tolerance = 512 * largest(scale) + 2 * largest(shift)
    return Problem([source, index, frames, fill, scale, shift, *more], [y], tolerance)


def _windows(random: Generator, batch: int, image: Shape, size: tuple[int, int], reach: int) -> Array:
    corners = [random.integers(-reach, n + reach - window + 1 if n > window else reach + 1, batch) for n, window in zip(image, size)]
    step = random.choice([-1, 1], batch)
    return np.stack([corners[0], np.where(step > 0, corners[1], corners[1] + size[1] - 1), step], 1)


def _warps(random: Generator, batch: int, image: Shape, size: tuple[int, int]) -> Array:
    """Any slopes, some of them none, the middle of what is shown about the middle of the image; the first shows all of it, resized."""
    slopes = random.normal(0, 1, (batch, 2, 2)) * random.choice([0, 0.3, 1, 1, 2], (batch, 2, 2))
    middle = [random.normal(n / 2, n / 4, batch) for n in image]
    numbers = [[slopes[:, i, 0], slopes[:, i, 1], middle[i] - slopes[:, i] @ (np.array(size) / 2)] for i in (0, 1)]
    frames: Array = np.rint(np.stack(numbers[0] + numbers[1], 1) * 2.0**32).astype(np.int64)
    rows, columns = [-(-(n - 1) * 2**32 // max(1, window - 1)) for n, window in zip(image, size)]  # rounded up: the last is the last pixel
    frames[:1] = rows, 0, 0, 0, columns, 0
    return frames


def _bends(random: Generator, batch: int, image: Shape, size: tuple[int, int]) -> Array:
    """Maps about the middle whose divisor lies between 1/2 and 3/2, some of them with a lens; the second one is a lens alone; every third
    is not bent."""
    slopes = np.einsum("nij,i,j->nij", random.normal(0, 0.6, (batch, 2, 2)) + np.eye(2), image, 1 / np.array(size))
    toward = random.uniform(-0.5, 0.5, (batch, 2)) / np.array(size)  # of the divisor, which is 1 in the middle
    middle, centre = random.normal(0.5, 0.1, (batch, 2)) * image, np.array(size) / 2
    rows = [
        np.concatenate([slopes, (middle - slopes @ centre)[:, :, None]], 2),
        np.concatenate([toward, 1 - (toward @ centre)[:, None]], 1)[:, None],
    ]
    lens = random.uniform(-0.25, 0.4, (batch, 2)) * random.choice([0, 1], (batch, 1))
    lens[1:2] = 0.3127, -0.0871  # no round numbers: a place that is one may be rounded to either side
    bends = np.concatenate([np.concatenate(rows, 1).reshape(batch, 9), lens], 1)
    bends[1:2, :9] = np.eye(3).reshape(9)
    bends[2::3, 6:] = 0, 0, 1, 0, 0
    return bends


def cases() -> list[Sketch]:
    cases = []
    cases += [case("gather_normalize", *s) for s in [((5, 3, 4, 6), 9), ((7, 33), 4), ((5, 1, 28, 28), 0), ((40, 3, 32, 32), 128)]]
    cases += [
        case("gather_augment", *s)
        for s in [
            ((5, 3, 8, 8), 9, (8, 8), "reflect"),
            ((4, 3, 5, 7), 6, (5, 7), "constant"),
            ((3, 1, 7, 6), 5, (9, 4), "edge"),
            ((2, 5, 1, 3), 4, (3, 5), "reflect"),
            ((3, 200, 3, 2), 3, (3, 3), "constant"),
            ((3, 200, 2, 3), 3, (3, 3), "reflect"),
            ((2, 3, 4, 70), 0, (4, 70), "constant"),
            ((2, 3, 4, 70), 3, (4, 131), "reflect"),
            ((40, 3, 32, 32), 128, (32, 32), "reflect"),
        ]
    ]
    cases += [case("gather_augment", (3, 3, 4, 5), 8, (4, 5), border, reach=23) for border in ("constant", "edge", "reflect")]
    cases += [case("gather_augment", *s, erased=len(s) % 2 == 0) for s in _painted()]
    cases += [case("gather_augment", *s, bent=True) for s in _painted()[2:-1]]
    cases += [case("gather_augment", *s, bent=len(s) == 4, noisy=True, erased=len(s) == 5) for s in _painted()[:9]]
    cases += [case("gather_augment", (7, 3, 33, 40), 40, (32, 31), "reflect", False, True, bent=True, noisy=True)]
    return cases


def _painted() -> list[tuple[Any, ...]]:
    """With a warp, with colours, with both."""
    return [
        ((5, 3, 8, 8), 6, (8, 8), "constant", False, True),
        ((3, 1, 7, 40), 5, (9, 60), "reflect", False, True),
        ((2, 3, 40, 33), 3, (36, 33), "constant", False, True),
        ((4, 3, 9, 7), 7, (8, 8), "constant", True),
        ((3, 1, 7, 40), 5, (9, 60), "edge", True),
        ((2, 3, 5, 4), 0, (8, 8), "edge", True, True),
        ((4, 5, 9, 7), 3, (8, 8), "reflect", True),
        ((2, 200, 4, 5), 2, (3, 3), "constant", True),
        ((5, 3, 9, 12), 7, (8, 70), "constant", True, True),
        ((3, 1, 12, 9), 4, (5, 6), "constant", True, True),
        ((5, 3, 32, 32), 14, (32, 32), "reflect", True, True),
    ]
