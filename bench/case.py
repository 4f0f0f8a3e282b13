"""One kernel on one shape, beside PyTorch's form (or forms) of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from fastnn import _C

from . import device
from .device import LAYOUTS as LAYOUTS
from .timing import Call

Sides = tuple[Call, Mapping[str, Call]]  # ours, and PyTorch's forms by name


@dataclass(frozen=True)
class Case:
    """`make` allocates random operands and gives the calls. One of flop and nbytes says what the kernel is bound by; where there are both it
    is compared with flop, and memory may be the bound.

    nbytes counts what must be read and written at least, with two passes over the input where statistics come first.
    """

    row: str  # of kernels.def
    name: str
    make: Callable[[], Sides]
    flop: float = 0.0
    nbytes: int = 0
    judged: bool = False
    comparable: bool = True  # both sides compute the same numbers


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal float32; a large array repeats itself."""
    values = np.random.default_rng(seed + sum(shape)).standard_normal(min(prod(shape), 2**22 + 1), np.float32)
    return np.resize(values, shape)


def ours(values: np.ndarray, real: bool = False) -> _C.Array:
    """On the device, in the storage type unless `real`."""
    return device.current.ours(values, real)


def theirs(values: np.ndarray, layout: str = "NCHW", real: bool = False) -> torch.Tensor:
    return device.current.theirs(values, layout, real)


def first(result: Any) -> np.ndarray:
    """The first output of either side as an array."""
    value = result[0] if isinstance(result, (tuple, list)) else result
    array: np.ndarray = value.detach().float().cpu().numpy() if isinstance(value, torch.Tensor) else value.numpy()
    return array


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Relative, in the 2-norm."""
    return float(np.linalg.norm(np.ravel(a - b).astype(np.float64)) / np.linalg.norm(np.ravel(b).astype(np.float64)))
