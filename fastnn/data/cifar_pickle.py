"""The pickled batches of CIFAR, read without running anything: pickle is a program, and a file is not to be trusted with one.

Of what a pickle may call, only numpy's way of rebuilding an array is known here, and it is done by the stand-ins below, not by numpy:
they keep the type's letters and the bytes, which are then checked.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np


class _DType:
    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = _text(code), "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def numpy(self) -> np.dtype[Any]:
        if not re.fullmatch("[iuf][1248]", self.code) or self.order not in tuple("<>|="):
            raise pickle.UnpicklingError(f"an array of type {self.order}{self.code}; expected integers or floats")
        return np.dtype(self.order + self.code)


class _Array:
    """What `_reconstruct` makes; its state (version, shape, dtype, in Fortran's order, bytes) follows."""

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def numpy(self) -> np.ndarray:
        _, shape, dtype, fortran, data = self.state
        array: np.ndarray = _values(dtype, data).reshape(shape, order="F" if fortran else "C")
        return array


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.state = (1, shape, dtype, order == "F", data)
    return array


def _scalar(dtype: Any, data: Any) -> Any:
    return _values(dtype, data)[0]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"encodes into {encoding!r}")
    return text.encode("latin1")


def _values(dtype: Any, data: Any) -> np.ndarray:
    if not isinstance(dtype, _DType) or not isinstance(data, (bytes, bytearray, str)):
        raise pickle.UnpicklingError(f"an array made of {type(dtype).__name__} and {type(data).__name__}; expected a type and bytes")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype.numpy())


def _ndarray(*_: Any) -> None:
    """Named as an argument of `_reconstruct`, never called by a pickle of arrays."""
    raise pickle.UnpicklingError("calls numpy.ndarray")


class _Call:
    """A stand-in as the file sees it: it can be called and nothing else; a pickle may write into any object that it gets hold of."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("changes what it calls")


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):
    _KNOWN[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _KNOWN[f"{_core}.multiarray", "scalar"] = _scalar
    _KNOWN[f"{_core}.numeric", "_frombuffer"] = _frombuffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _Call(_KNOWN[module, name])
        except KeyError:
            raise pickle.UnpicklingError(f"asks for {module}.{name}, which a batch of images does not need: refused") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("refers to an object outside of the file: refused")


def _look_over(data: bytes) -> None:
    """Reads the program without running it: every length lies within the file, and no place in the memo, a table that grows to the highest
    number it is given, lies beyond what the program can have stored. What asks for gigabytes ends here."""
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
            raise pickle.UnpicklingError(f"stores its {count}. object at place {argument}")


def read_pickle(data: bytes, name: str) -> dict[str, Any]:
    """The dictionary in a pickle of arrays, numbers, strings, lists and dictionaries. ValueError, naming the file, when it holds anything else."""
    try:
        _look_over(data)
        found = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(found, dict):
            raise pickle.UnpicklingError(f"holds a {type(found).__name__}, not a dictionary")
        return {_text(key): value.numpy() if isinstance(value, _Array) else value for key, value in found.items()}
    except Exception as error:  # MemoryError too: sizes in a damaged file know no bounds
        raise ValueError(f"{name}: not a whole CIFAR batch in Python's pickle format ({error or type(error).__name__})") from error


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise pickle.UnpicklingError(f"holds a {type(value).__name__} where a name is expected")
    return value
