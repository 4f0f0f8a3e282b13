"""Randomness as a function: Philox4x32-10 with key = seed and counter = (index, draw, purpose).

Each thread has a default generator; `fastnn.seed(n)` resets it, `using(generator)` replaces it inside a block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf, prod

import numpy as np

from . import _C, devices
from .arguments import integer, number, one_of, shown
from .described import Described

_FLOATS = ("float32", "float64")
INIT, NET, ORDER, AUGMENTATION, MIX, SEARCH, NOISE = range(7)


class Generator(Described):
    """A seed and the count of random operations so far (`draw`). Both are plain integers, so a checkpoint holds them exactly."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed = integer("Generator", "seed", seed, 0, 2**63)
        self.draw = 0
        self.state = _C.constant(np.array([seed, 0], np.int64))  # what kernels read: key, base draw
        self._copies, self._base = devices.Copies(self.state), 0

    @property
    def seed(self) -> int:
        """What it was made with."""
        return self._seed

    @seed.setter
    def seed(self, n: int) -> None:
        raise AttributeError(
            f"Generator: seed is what it was made with; Generator({shown(n)}) is another, fastnn.seed({shown(n)}) makes one the default"
        )

    def __getstate__(self) -> tuple[int, int]:
        """For copies and pickles, which go on from here."""
        return self.seed, self.draw

    def __setstate__(self, state: tuple[int, int]) -> None:
        Generator.__init__(self, state[0])
        self.draw = state[1]

    def _made_of(self) -> dict[str, int]:
        return {"seed": self.seed, "draw": self.draw}

    def state_on(self, device: str) -> _C.Array:
        """`state` where kernels of that device read it."""
        return self._copies.on(device)

    def next_draw(self) -> int:
        """The number of the next random operation, from the base draw on."""
        self.draw += 1
        return self.draw - 1 - self._base

    @contextmanager
    def counting_from_here(self, copies: devices.Copies) -> Iterator[None]:
        """Inside the block kernels read `copies`, which hold the seed and the draw so far, and draws count from there: a recorded step has the
        same numbers every time. What is drawn is the same as without."""
        before = self._copies, self._base
        self._copies, self._base = copies, self.draw
        try:
            yield
        finally:
            self._copies, self._base = before

    def bits(self, n: int, draw: int, purpose: int) -> np.ndarray:
        """n words of 32 bits: word i is word i % 4 of block i // 4."""
        for name, value in (("n", n), ("draw", draw)):
            integer("Generator.bits", name, value, 0)
        integer("Generator.bits", "purpose", purpose, 0, 2**32)
        words: np.ndarray = _C.random_bits(_C.Random(n, draw, purpose), self.state).numpy()
        return words.astype(np.uint32)

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, dtype: str = "float32") -> np.ndarray:
        """Samples of [low, high) for initialisation, multiples of (high - low) / 2^32 in "float32" or "float64"; uses up one draw."""
        shape = _checked_shape("Generator.uniform", shape)
        one_of("Generator.uniform", "dtype", dtype, _FLOATS)
        checked_range("Generator.uniform", dtype, low=low, high=high)
        largest = _largest_below(high, low, dtype)
        words = self.bits(prod(shape), self.next_draw(), INIT)

        def samples(piece: slice) -> np.ndarray:
            return np.minimum(low + (high - low) * (words[piece].astype(np.float64) / 2.0**32), largest)

        return _in_pieces(shape, samples, dtype)

    def normal(self, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0, dtype: str = "float32") -> np.ndarray:
        """Gaussian samples (Box, Muller 1958) in "float32" or "float64" for initialisation; uses up one draw."""
        shape = _checked_shape("Generator.normal", shape)
        mean, std = number("Generator.normal", "mean", mean), number("Generator.normal", "std", std, "[0, inf)")
        one_of("Generator.normal", "dtype", dtype, _FLOATS)
        n = prod(shape)
        words = self.bits(2 * n, self.next_draw(), INIT)

        def samples(piece: slice) -> np.ndarray:
            u, v = ((w[piece].astype(np.float64) + 0.5) / 2.0**32 for w in (words[:n], words[n:]))
            return np.asarray(mean + std * (np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)))

        return _in_pieces(shape, samples, dtype)


def _checked_shape(what: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"{what}: shape must be several integers, got {shown(shape)}")
    checked = tuple([integer(what, "shape", n, 0) for n in shape])
    if prod(checked) > 2**46:
        _C.empty(checked)  # OutOfMemoryError: larger than any memory
    return checked


def checked_range(what: str, dtype: str, **ends: float) -> None:
    """Two numbers by name, the lower first, between which numbers of the type are drawn."""
    (a, b), (low, high) = ends, (number(what, name, end) for name, end in ends.items())
    got = " and ".join(f"{name}={shown(end)}" for name, end in ends.items())
    if low > high:
        raise ValueError(f"{what}: {a} must not be larger than {b}, got {got}")
    if high - low == inf or max(-low, high) > float(np.finfo(dtype).max):
        raise ValueError(f"{what}: {a}, {b} and their difference must be finite as {dtype}, got {got}")


def _largest_below(high: float, low: float, dtype: str) -> float:
    """The largest number of the type that is less than `high`, to which rounding would take a sample near it; `low` where none lies between."""
    with np.errstate(over="ignore"):
        rounded = np.dtype(dtype).type(high)
    below = float(rounded if rounded < high else np.nextafter(rounded, -np.inf, dtype=dtype))
    return max(below, low)


def _in_pieces(shape: tuple[int, ...], samples: Callable[[slice], np.ndarray], dtype: str) -> np.ndarray:
    """`dtype` of what `samples` makes in float64, a piece at a time: the 100 million weights of a layer would be gigabytes."""
    values = np.empty(prod(shape), dtype)
    for begin in range(0, values.size, 1 << 20):
        piece = slice(begin, min(begin + (1 << 20), values.size))
        values[piece] = samples(piece)
    return values.reshape(shape)


class _Default(threading.local):
    def __init__(self) -> None:
        self.generator = Generator(0)


_default = _Default()


def default_generator() -> Generator:
    """This thread's generator."""
    return _default.generator


def seed(n: int) -> None:
    """Starts this thread's default generator anew: the same seed gives the same initial weights and dropout masks.

    Of this thread alone: every other one begins with seed 0 by itself, so that nets made in several threads are alike until each calls seed.
    In a callback of a Trainer it holds for the rest of the callback; a fit's steps draw from the trainer's generator.
    """
    _default.generator = Generator(integer("seed", "n", n, 0, 2**63))


def go_on_with(generator: Generator) -> None:
    """Where somebody may have called `seed`: it is this thread's default again."""
    _default.generator = generator


@contextmanager
def using(generator: Generator) -> Iterator[None]:
    """Makes `generator` this thread's default inside the block."""
    before, _default.generator = _default.generator, generator
    try:
        yield
    finally:
        _default.generator = before
