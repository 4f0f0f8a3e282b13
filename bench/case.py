"""One kernel on one shape, beside PyTorch's form (or forms) of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
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


def first(result: Any) -> torch.Tensor:
    """A float32 copy of the first output of either side, where it lies."""
    value = result[0] if isinstance(result, (tuple, list)) else result
    if not isinstance(value, torch.Tensor):
        value = torch.tensor(value.numpy()) if device.current.torch_name == "cpu" else torch.from_dlpack(value)
    tensor: torch.Tensor = value.detach().to(torch.float32, copy=True)
    return tensor


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative, in the 2-norm."""
    norm = partial(torch.linalg.vector_norm, dtype=torch.float64)
    return float(norm(a.reshape(b.shape) - b) / norm(b))
