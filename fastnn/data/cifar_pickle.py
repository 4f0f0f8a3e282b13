"""The pickled batches of CIFAR, read without running anything: pickle is a program, and a file is not to be trusted with one.

Python's own tokenizer takes the program apart; the few operations that a dictionary of arrays, numbers, strings and lists needs are carried
out here, all others are refused. Of what a pickle may call, only numpy's way of rebuilding an array is known, and it is done by the stand-ins
below, not by numpy: they keep the type's letters and the bytes, which are then checked.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..arguments import shown
from ..files import fault

_MOST_OPERATIONS = 2_000_000  # the largest published file, CIFAR-100's train, has 250,000


class _DType:
    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = _text(code), "|"

    def build(self, state: Any) -> None:
        self.order = _text(state[1])

    def numpy(self) -> np.dtype[Any]:
        if not re.fullmatch("[iuf][1248]", self.code) or self.order not in tuple("<>|="):
            raise ValueError(f"an array of type {self.order}{self.code}; expected integers or floats")
        return np.dtype(self.order + self.code)


class _Array:
    """What `_reconstruct` makes; its state (version, shape, dtype, in Fortran's order, bytes) follows."""

    def __init__(self) -> None:
        self.state: Any = None

    def build(self, state: Any) -> None:
        self.state = state

    def numpy(self) -> np.ndarray:
        _, shape, dtype, fortran, data = self.state
        array: np.ndarray = _values(dtype, data).reshape(shape, order="F" if fortran else "C")
        return array


class _Callable:
    """A name that the program may call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


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
        raise ValueError(f"encodes into {shown(encoding)}")
    return text.encode("latin1")


def _values(dtype: Any, data: Any) -> np.ndarray:
    if not isinstance(dtype, _DType) or not isinstance(data, (bytes, bytearray, str)):
        raise ValueError(f"an array made of {type(dtype).__name__} and {type(data).__name__}; expected a type and bytes")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype.numpy())


def _ndarray(*_: Any) -> None:
    """Named as an argument of `_reconstruct`, never called by a pickle of arrays."""
    raise ValueError("calls numpy.ndarray")


_KNOWN: dict[str, Callable[..., Any]] = {"numpy ndarray": _ndarray, "numpy dtype": _DType, "_codecs encode": _encode}
for _core in ("numpy.core", "numpy._core"):
    _KNOWN[f"{_core}.multiarray _reconstruct"] = _reconstruct
    _KNOWN[f"{_core}.multiarray scalar"] = _scalar
    _KNOWN[f"{_core}.numeric _frombuffer"] = _frombuffer

_VALUES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE "
    "BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """A stack, the stacks below its marks, and the objects stored for later use."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        push, stack = self.stack.append, self.stack
        if name in _VALUES:
            push(argument)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            push(self.memo[argument])
        elif name == "MARK":
            self.below.append(stack)
            self.stack = []
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self.to_mark()
            _of(list, self.stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self.to_mark()
            _set(_of(dict, self.stack[-1]), items)
        elif name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name in _TUPLES:
            self.take(_TUPLES[name])
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            push([] if name == "EMPTY_LIST" else {})
        elif name in ("TUPLE", "LIST", "DICT"):
            items = self.to_mark()
            self.stack.append(tuple(items) if name == "TUPLE" else items if name == "LIST" else _set({}, items))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            push(_named(argument if name == "GLOBAL" else f"{_text(stack.pop(-2))} {_text(stack.pop())}"))
        elif name == "REDUCE":
            function, arguments = stack.pop(-2), stack.pop()
            push(_of(_Callable, function).function(*_of(tuple, arguments)))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], (_Array, _DType)):
                raise ValueError("changes what it calls" if isinstance(stack[-1], _Callable) else f"changes a {type(stack[-1]).__name__}")
            stack[-1].build(state)
        elif name in ("PERSID", "BINPERSID"):
            raise ValueError("refers to an object outside of the file: refused")
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"has the operation {name}, which a batch of images does not need: refused")

    def to_mark(self) -> list[Any]:
        """What lies above the last mark, which goes."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def take(self, count: int) -> None:
        """The last `count` objects become a tuple."""
        at = len(self.stack) - count
        if at < 0:
            raise ValueError(f"makes a tuple of {count} out of {len(self.stack)}")
        self.stack[at:] = [tuple(self.stack[at:])]


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"holds a {type(value).__name__} where a {kind.__name__.strip('_').lower()} is expected")
    return value


def _set(into: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    """Keys are names and nothing else: the hash of a nest of tuples could take for ever."""
    if len(items) % 2:
        raise ValueError("holds a key without a value")
    into.update((_text(key), value) for key, value in zip(items[::2], items[1::2]))
    return into


def _named(name: str) -> _Callable:
    if name not in _KNOWN:
        raise ValueError(f"asks for {name.replace(' ', '.', 1)[:80]}, which a batch of images does not need: refused")
    return _Callable(_KNOWN[name])


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise ValueError(f"holds a {type(value).__name__} where a name is expected")
    return value


def _object(data: bytes) -> Any:
    """What the program leaves behind."""
    machine = _Machine()
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if count > _MOST_OPERATIONS:
            raise ValueError(f"has more than {_MOST_OPERATIONS:,} operations")
        machine.step(operation.name, argument)
    return machine.stack.pop()


def read_pickle(data: bytes, name: str) -> dict[str, Any]:
    """The dictionary in a pickle of arrays, numbers, strings, lists and dictionaries. ValueError, naming the file, when it holds anything else."""
    try:
        found = _object(data)
        if not isinstance(found, dict):
            raise ValueError(f"holds a {type(found).__name__}, not a dictionary")
        return {key: value.numpy() if isinstance(value, _Array) else value for key, value in found.items()}
    except Exception as error:  # the tokenizer has a dozen ways to say that the file is cut
        words = str(error) or type(error).__name__
        raise fault(name, error, f"not a whole CIFAR batch in Python's pickle format ({words[:200]})") from error
