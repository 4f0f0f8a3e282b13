"""Batches out of data sets."""

from __future__ import annotations

import numpy as np
import reference
from numpy.random import Generator

from .problem import Problem, Shape, Sketch, case, largest, normal


def gather_normalize(random: Generator, source_shape: Shape, batch: int) -> Problem:
    source, index = random.integers(0, 256, source_shape).astype(np.uint8), random.integers(0, source_shape[0], batch)
    scale, shift = normal(random, source_shape[1:2]) / 64, normal(random, source_shape[1:2])
    return Problem(
        [source, index, scale, shift],
        [reference.gather_normalize(source, index, scale, shift)],
        512 * largest(scale) + 2 * largest(shift),
    )


def gather_augment(random: Generator, source_shape: Shape, batch: int, size: tuple[int, int], border: str, reach: int = 3) -> Problem:
    """reach: how far outside of the image the corners of the frames lie, at most."""
    source, index = random.integers(0, 256, source_shape).astype(np.uint8), random.integers(0, source_shape[0], batch)
    corners = [
        random.integers(-reach, n + reach - window + 1 if n > window else reach + 1, batch) for n, window in zip(source_shape[2:], size)
    ]
    step = random.choice([-1, 1], batch)
    frames = np.stack([corners[0], np.where(step > 0, corners[1], corners[1] + size[1] - 1), step], 1)
    fill, scale, shift = (normal(random, source_shape[1:2]) for _ in range(3))
    y = reference.gather_augment(source, index, frames, fill, scale / 64, shift, size, border)
    return Problem([source, index, frames, fill, scale / 64, shift], [y], 8 * largest(scale) + 2 * largest(shift))


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
    return cases
