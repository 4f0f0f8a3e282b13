"""One kernel call of an optimizer's step."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any

import numpy as np

from ..tensor import Array, Tensor


class Numbers:
    """Numbers where a kernel reads them."""

    def __init__(self, arrays: list[Array]) -> None:
        self.arrays = arrays
        self.rates: Any = None  # what an update has last written there, which is not told from it by value

    def write(self, values: Sequence[np.ndarray]) -> None:
        for array, value in zip(self.arrays, values):
            array.write(value)
        self.rates = None


class Launch:
    """One kernel call: parameters that lie together, their gradients and states, and each one's row of `rates`."""

    g: list[Array]
    state: list[list[Array]]

    def __init__(
        self,
        positions: list[int],
        parameters: list[Tensor],
        slots: list[list[Array | None]],  # None where a parameter's group does not use it
        numbers: Numbers,
        moved: Array | None,
        groups: int,
        pieces: int,
    ) -> None:
        self.where, self.parameters, self.slots, self.numbers = _span(positions), parameters, slots, numbers
        self.group, self.rates, self.t = numbers.arrays
        self.moved, self.groups, self.pieces = moved, groups, pieces
        self.w = [p._array for p in parameters]

    def take(self) -> None:
        """The gradients that are there now. Where a slot is not in use the weights stand: the kernel writes those in any case, and not there."""
        self.g = [p._grad._array for p in self.parameters if p._grad is not None]
        self.state = [[w if a is None else a for a, w in zip(slot, self.w)] for slot in self.slots]

    def is_again(self) -> bool:
        """Whether these are the same weights still, and each has a gradient."""
        there = [p._array for p in self.parameters if p._grad is not None]
        return len(there) == len(self.w) and all(map(is_, self.w, there))

    def let_go(self) -> None:
        """Of the gradients, whose memory is for others."""
        self.g, self.state = [], []


def _span(positions: list[int]) -> Any:
    """As a slice where they stand side by side: numpy is quicker at those."""
    first = positions[0]
    return slice(first, first + len(positions)) if positions == list(range(first, first + len(positions))) else positions
