"""Device names: "cpu", "cuda" (the first GPU), "cuda:1". The CUDA kernels are opened when one is first asked for, never at import."""

from __future__ import annotations

import copyreg
import os
from functools import lru_cache

import numpy as np

from . import _C
from .arguments import shown

CPU = "cpu"
_KINDS = ("float", "bfloat", "int", "uint", "bool")  # of numbers, which `to` does not change


def resolve(device: str) -> str:
    """The full name of a device ("cuda" -> "cuda:0"). ValueError when there is none of that name; DeviceError, in one sentence, when
    driver, GPU and build do not fit."""
    if not isinstance(device, str):
        raise TypeError(f"a device is a name like 'cpu', 'cuda' or 'cuda:1', got {shown(device)}")
    if device == CPU:
        return CPU
    kind, _, index = device.partition(":")
    if kind == "cuda":
        names = open_cuda()
    elif kind == "cuda-emulated":  # the CUDA kernels run by the CPU, for tests: somebody opened it before
        names = emulated_names()
    else:
        dtype = "; fastnn.tensor(x, dtype) changes a dtype, model.double() that of a model" if device.rstrip("0123456789") in _KINDS else ""
        raise ValueError(f"device {device!r} is not one of 'cpu', 'cuda', 'cuda:<number>'{dtype}")
    full = device if index else f"{kind}:0"
    if full not in names:
        raise ValueError(f"device {device!r} does not exist; there are cpu{''.join(f', {name}' for name in names)}")
    return full


def library() -> str:
    """Where the CUDA kernels lie: beside the compiled core, or where FASTNN_CUDA_LIBRARY says."""
    return os.environ.get("FASTNN_CUDA_LIBRARY") or os.path.join(os.path.dirname(_C.__file__), "_cuda.so")


@lru_cache(1)
def open_cuda() -> tuple[str, ...]:
    """The names of the GPUs. DeviceError says in one sentence why there are none."""
    path = library()
    if not os.path.exists(path):
        raise _C.DeviceError("this build has no CUDA kernels: nvcc was not found when it was built; see README, 'On a GPU'")
    return tuple(_C.open_backend(path))


class Copies:
    """An array that kernels of several devices read: its copies, made when first asked for."""

    def __init__(self, array: _C.Array) -> None:
        self.array = array
        self._by_device = {array.device: array}

    def on(self, device: str) -> _C.Array:
        if device not in self._by_device:
            self._by_device[device] = self.array.constant_on(device)
        return self._by_device[device]

    def __reduce__(self) -> tuple[type[Copies], tuple[_C.Array]]:
        return Copies, (self.array,)

    def follow(self, values: np.ndarray) -> None:
        """The copies take these values, which lie in `array` already."""
        for array in self._by_device.values():
            if array is not self.array:
                array.write(values)


def _array(values: np.ndarray, dtype: str) -> _C.Array:
    return _C.from_numpy(values, dtype=dtype)


# Copied deeply or pickled, within optimizers and averages: in the CPU's memory, from where it follows the parameters that it belongs to.
copyreg.pickle(_C.Array, lambda array: (_array, (np.asarray(array.numpy(), order="C"), array.dtype)))

_emulated: list[str] = []


def open_emulated(path: str) -> None:
    """Opens the CUDA kernels as compiled for the CPU by tests/cuda_on_cpu, as device "cuda-emulated"."""
    _emulated[:] = _C.open_backend(path)


def emulated_names() -> tuple[str, ...]:
    return tuple(_emulated)
