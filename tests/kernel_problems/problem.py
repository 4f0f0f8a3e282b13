"""What a problem is, and the data and shapes of which several families make theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import reference
from kernel_calls import Operand
from numpy.random import Generator

Array = reference.Array
Shape = tuple[int, ...]
Sketch = tuple[str, tuple[Any, ...], dict[str, Any]]  # of a case: its row, the fields of its struct, options of its problem


@dataclass
class Problem:
    operands: list[Operand]  # inputs in the row's order, None where absent
    expected: list[Any]  # what the row writes, in the row's order; None where absent, a list for a list
    tolerance: Any = 0  # one for all that is written, or a list


def case(row: str, *parameters: Any, **options: Any) -> Sketch:
    return row, parameters, options


# --- data: float32 numbers, held in float64


def normal(random: Generator, shape: Shape) -> Array:
    return random.standard_normal(shape).astype(np.float32).astype(np.float64)


def held(values: Array) -> Array:
    """The numbers that float32 holds for these."""
    return values.astype(np.float32).astype(np.float64)


def integers(random: Generator, shape: Shape, largest: int = 4) -> Array:
    return random.integers(-largest, largest + 1, shape).astype(np.float64)


def largest(*arrays: Array) -> float:
    """The product of the largest magnitudes."""
    return float(np.prod([np.abs(a).max(initial=0) for a in arrays]))


# --- shapes

SHAPES: list[Shape] = [(), (0,), (1,), (17,), (2, 3, 5, 7), (3, 100_003)]
IMAGES: list[Shape] = [(2, 3, 4, 5), (1, 17, 1, 1), (0, 3, 2, 2), (3, 1, 9, 7), (9, 40, 33, 31)]
BATCHES: list[Shape] = [(5, 3), (33, 17), (4, 3, 5, 7), (2, 64, 1, 1), (9, 40, 33, 31), (7001, 33)]
