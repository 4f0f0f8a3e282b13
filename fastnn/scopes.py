"""Which layer a kernel call belongs to, and which direction: a number that goes along with the call for the profiler.

Only followed while a step is recorded or profiled (`recording.under_way`). A layer's operations are found again in backward by their serial
numbers: those between two numbers taken where the layer began and where the next one did.
"""

from __future__ import annotations

import itertools
import threading
from bisect import bisect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from . import _C

serials = itertools.count()  # of operations, and of the borders between layers
_MOST = 1 << 16  # borders kept: those of some hundred steps


class Scope(NamedTuple):
    layer: str  # path below the module that was called first, or that one's class
    kind: str  # class
    phase: str  # "forward", "backward", "data" (what a Loader mixes), or "" outside of modules


_fresh = itertools.count()
_scopes: dict[int, Scope] = {}
_numbers: dict[Scope, int] = {}


def number_of(scope: Scope) -> int:
    """Without a lock, in which a signal's handler that calls a model would wait for itself; a number may be left over."""
    if scope not in _numbers:
        number = next(_fresh)
        _scopes[number] = scope
        _numbers.setdefault(scope, number)
    return _numbers[scope]


def scope_of(number: int) -> Scope:
    return _scopes[number]


_OUTSIDE, _DATA = number_of(Scope("", "", "")), number_of(Scope("", "", "data"))


class _Here(threading.local):
    def __init__(self) -> None:
        self.stack: list[int] = []  # of the modules that run
        self.names: dict[int, str] = {}  # paths below the outermost one
        self.borders: list[tuple[int, int]] = []  # and whose operations lie behind each
        self.between: Callable[[], None] | None = None  # called when gradients of an operation are there, ahead of the next one


_here = _Here()


def enter(module: Any) -> int:
    """A module begins; what `leave` is given at its end."""
    depth = len(_here.stack)
    if not depth:
        _here.names = {id(m): name for name, m in module.named_modules()}
        del _here.borders[:-_MOST]
    kind = type(module).__name__
    _here.stack.append(number_of(Scope(_here.names.get(id(module)) or kind, kind, "forward")))
    _begin(_here.stack[-1])
    return depth


def forget() -> None:
    """No module runs in this thread: what Ctrl-C ended between its lines may have left itself behind."""
    _here.stack.clear()


def leave(depth: int) -> None:
    del _here.stack[depth:]
    _begin(_here.stack[-1] if depth else _OUTSIDE)


def _begin(number: int) -> None:
    _here.borders.append((next(serials), number))
    _C.set_scope(number)


def enter_backward(serial: int | None) -> None:
    """The operation with this serial number goes back; None: all have."""
    if _here.between is not None:
        _here.between()
    if serial is None:
        return _C.set_scope(_here.stack[-1] if _here.stack else _OUTSIDE)
    at = bisect(_here.borders, (serial,)) - 1  # a border has a number of its own
    scope = scope_of(_here.borders[at][1] if at >= 0 else _OUTSIDE)
    return _C.set_scope(number_of(scope._replace(phase="backward")))


@contextmanager
def data() -> Iterator[None]:
    """Inside the block kernels make a batch, also those that are an optimizer's elsewhere."""
    _C.set_scope(_DATA)
    try:
        yield
    finally:
        enter_backward(None)
