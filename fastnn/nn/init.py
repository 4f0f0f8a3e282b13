"""Initialisers. Each overwrites a parameter in place with numbers of the thread's generator (fastnn.seed) and returns it.

fan_in = inputs per output (C/groups R S for convolutions), fan_out = outputs per input (K R S).
The lectures' Xavier is 1/fan_in, Glorot's 2/(fan_in + fan_out).
"""

from __future__ import annotations

from math import prod, sqrt

import numpy as np

from .. import random
from ..tensor import Tensor


def uniform_values(shape: tuple[int, ...], bound: float) -> np.ndarray:
    return random.default_generator().uniform(shape, -bound, bound)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, window...)."""
    if len(shape) < 2:
        raise ValueError(f"fan_in and fan_out need a weight of rank 2 or more, got shape {shape}")
    window = prod(shape[2:])
    return shape[1] * window, shape[0] * window


def gain(nonlinearity: str) -> float:
    """How much an activation shrinks the standard deviation: 1 for linear, sqrt 2 for relu, 5/3 for tanh."""
    gains = {"linear": 1.0, "relu": sqrt(2.0), "tanh": 5 / 3}
    if nonlinearity not in gains:
        raise ValueError(f"gain: {nonlinearity!r} is not one of {', '.join(gains)}")
    return gains[nonlinearity]


def _fill(t: Tensor, values: np.ndarray) -> Tensor:
    t.copy_from(values.astype(t.dtype))
    return t


def zeros_(t: Tensor) -> Tensor:
    """All 0: every unit then learns the same; for biases and last gammas only."""
    return _fill(t, np.zeros(t.shape))


def constant_(t: Tensor, value: float) -> Tensor:
    return _fill(t, np.full(t.shape, value))


def normal_(t: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Gaussian."""
    return _fill(t, random.default_generator().normal(t.shape, mean, std))


def uniform_(t: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    return _fill(t, random.default_generator().uniform(t.shape, low, high))


def _fan(t: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be fan_in or fan_out, got {mode!r}")
    return fans(t.shape)[mode == "fan_out"]


def kaiming_normal_(t: Tensor, mode: str = "fan_in", nonlinearity: str = "relu") -> Tensor:
    """Gaussian with std = gain / sqrt(fan) (He, Zhang, Ren, Sun 2015)."""
    return normal_(t, 0.0, gain(nonlinearity) / sqrt(_fan(t, mode)))


def kaiming_uniform_(t: Tensor, mode: str = "fan_in", nonlinearity: str = "relu") -> Tensor:
    """Uniform in +-gain sqrt(3 / fan)."""
    bound = gain(nonlinearity) * sqrt(3.0 / _fan(t, mode))
    return uniform_(t, -bound, bound)


def xavier_normal_(t: Tensor, gain: float = 1.0) -> Tensor:
    """Gaussian with std = gain sqrt(2 / (fan_in + fan_out)) (Glorot, Bengio 2010)."""
    return normal_(t, 0.0, gain * sqrt(2.0 / sum(fans(t.shape))))


def xavier_uniform_(t: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out))."""
    bound = gain * sqrt(6.0 / sum(fans(t.shape)))
    return uniform_(t, -bound, bound)


def dirac_values(shape: tuple[int, ...]) -> np.ndarray:
    """A convolution's weight (out, in, R, S) that hands input channel i to output channel i, and 0 where there is none."""
    if len(shape) < 3:
        raise ValueError(f"dirac_: needs the weight of a convolution, (out, in, window...), got shape {shape}")
    values, middle = np.zeros(shape, np.float32), tuple(n // 2 for n in shape[2:])
    for channel in range(min(shape[:2])):
        values[channel, channel][middle] = 1
    return values


def dirac_(t: Tensor) -> Tensor:
    """The identity of a convolution with padding "same": output channel i is input channel i (Zagoruyko, Komodakis 2017)."""
    return _fill(t, dirac_values(t.shape))
