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


def cases() -> list[Sketch]:
    cases = []
    cases += [case("gather_normalize", *s) for s in [((5, 3, 4, 6), 9), ((7, 33), 4), ((5, 1, 28, 28), 0), ((40, 3, 32, 32), 128)]]
    return cases
