"""What a model computes: the operations of one forward pass, in order, and which of their results they take."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from ..nn import Module
from ..ops.choice import _compared
from ..ops.elementwise import as_floats
from ..ops.pool2d import with_places
from ..tensor import Array, Op, Tensor, no_grad


@dataclass(frozen=True)
class Compared:
    """A comparison of floats, which no Op does: it has no gradient."""

    relation: str
    name: str = "comparison"


@dataclass(frozen=True)
class AsFloats:
    """Booleans as 0 and 1."""

    name: str = "a mask as numbers"


@dataclass(frozen=True)
class Places:
    """Where the winners of a max pooling lie in their maps of `size` pixels."""

    size: int
    name: str = "indices of a pooling"


@dataclass
class Step:
    """One operation: what it is (an Op, or one of the above), the dotted name of the layer that did it, the arrays that it took and what it gave.
    `caller`: variables of the function of fastnn.ops that called it, which knows some arguments in the user's words."""

    op: Any
    layer: str
    inputs: list[Array | None]
    result: Array
    caller: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.op.name} in {self.layer}" if self.layer else f"{self.op.name}"


@dataclass
class Trace:
    """`steps` of model(x), and its result: a Tensor, or a tuple, list or dict of some."""

    x: Tensor
    steps: list[Step]
    result: Any


_CALL = Module.__call__.__code__
_ASKED = ("index", "transpose", "max_unpool2d")  # functions whose variables are kept for the operation that they apply


class _Watch:
    """Inside the block, in this thread, operations are written down. The interpreter's profile hook tells of them, as in train.op_by_op: with
    it on, elementwise operations too go through Op.forward. What an operation does inside is its own."""

    def __init__(self, model: Module) -> None:
        self.names = {id(m): name for name, m in model.named_modules()}
        self.steps: list[Step] = []
        self._layers: list[str] = []
        self._open: FrameType | None = None  # the forward of the operation under way
        self._inputs: list[Array | None] = []
        self._before: Any = None
        self._functions: dict[Any, Callable[[Mapping[str, Any], Any], None]] = {
            _compared.__code__: self._compared,
            as_floats.__code__: self._as_floats,
            with_places.__code__: self._places,
        }

    def __enter__(self) -> _Watch:
        self._before = sys.getprofile()
        sys.setprofile(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before if callable(self._before) else None)

    def _see(self, frame: FrameType, event: str, result: Any) -> None:
        if event not in ("call", "return"):
            return
        code = frame.f_code
        if code is _CALL:
            if event == "call":
                module = frame.f_locals["self"]
                self._layers.append(self.names.get(id(module)) or (type(module).__name__ if self._layers else ""))
            else:
                self._layers.pop()
        elif code.co_name == "forward" and code.co_argcount:
            op = frame.f_locals.get(code.co_varnames[0])
            if isinstance(op, Op):
                self._operation(op, frame, event, result)
        elif event == "return" and result is not None and self._open is None and code in self._functions:
            self._functions[code](frame.f_locals, result)

    def _operation(self, op: Op, frame: FrameType, event: str, result: Any) -> None:
        if event == "call":
            if self._open is None:
                self._open, self._inputs = frame, _taken(frame)
            return
        if self._open is not frame:  # of its base class, or of an operation inside a Function
            return
        self._open = None
        if result is None:  # it raised
            return
        caller = frame.f_back
        asked = caller is not None and caller.f_code.co_name in _ASKED
        self._write(op, self._inputs, result, dict(caller.f_locals) if caller is not None and asked else {})

    def _write(self, op: Any, inputs: list[Array | None], result: Array, caller: Mapping[str, Any]) -> None:
        self.steps.append(Step(op, self._layers[-1] if self._layers else "", inputs, result, caller))

    def _compared(self, given: Mapping[str, Any], result: Array) -> None:
        self._write(Compared(given["relation"]), [given["a"], given["b"]], result, {})

    def _as_floats(self, given: Mapping[str, Any], result: Any) -> None:
        if isinstance(given["x"], Tensor) and given["x"].dtype == "bool":
            self._write(AsFloats(), [given["x"]._array], result._array, {})

    def _places(self, given: Mapping[str, Any], result: tuple[Tensor, Tensor]) -> None:
        pooled = next(step for step in reversed(self.steps) if step.result is given["y"]._array)
        taken = pooled.inputs[0]
        assert taken is not None
        self._write(Places(taken.shape[2] * taken.shape[3]), [given["y"]._array], result[1]._array, {})


def _taken(frame: FrameType) -> list[Array | None]:
    """The arrays that forward was called with, those behind a star too."""
    code, given = frame.f_code, frame.f_locals
    named = [given[name] for name in code.co_varnames[1 : code.co_argcount]]
    return [*named, *(given[code.co_varnames[code.co_argcount]] if code.co_flags & 0x04 else ())]  # CO_VARARGS


def trace(model: Module, x: Tensor) -> Trace:
    """What model(x) does, without gradients, in the mode that the model is in."""
    with no_grad(), _Watch(model) as watch:
        result = model(x)
    return Trace(x, watch.steps, result)
