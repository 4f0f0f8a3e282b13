"""What the tape records: operations, while gradients are wanted."""

from __future__ import annotations

from contextlib import ContextDecorator
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import _C
from .arguments import function as checked_function

if TYPE_CHECKING:
    from .tensor import Tensor

Array = _C.Array
F = TypeVar("F")


class _NoGrad(ContextDecorator, _C.NoGrad):
    def _recreate_cm(self) -> _NoGrad:  # of each call of what it decorates
        return _NoGrad()

    def __call__(self, decorated: Any) -> Any:
        checked_function("no_grad", "function", decorated, "a function that it decorates")
        if isgeneratorfunction(decorated) or isasyncgenfunction(decorated) or iscoroutinefunction(decorated):
            does = "awaits" if iscoroutinefunction(decorated) else "yields"
            text = f"no_grad: {decorated.__name__} {does}, and what runs between its {does} is not inside; write `with no_grad():` in it"
            raise TypeError(text)
        return super().__call__(decorated)


@overload
def no_grad() -> _NoGrad: ...
@overload
def no_grad(function: F) -> F: ...
def no_grad(function: Any = None) -> Any:
    """Inside the block (of this thread) no operation is recorded, so results do not require gradients. Also a decorator, with () or without."""
    return _NoGrad() if function is None else _NoGrad()(function)


def is_grad_enabled() -> bool:
    """Whether operations of this thread are being recorded."""
    return _C.is_grad_enabled()


class Op:
    """One recorded operation: `forward` takes and returns arrays, `backward` takes dy and returns one gradient (or None) per input.

    `needs[i]` says whether input i wants a gradient; `save` keeps what backward reads, together with its version.
    """

    __slots__ = ("needs", "edges", "serial", "_saved", "_versions", "__weakref__")

    name = ""
    adds = False  # whether `backward` takes a gradient of its first input, if there is one already, and returns the sum
    remakes_inputs = False  # whether `saved` may hold, for an input, the operation that makes it again: see `ops.remade`
    version = 0  # of such a one
    needs: tuple[bool, ...]
    edges: tuple[Op | Tensor | None, ...] | None
    serial: int
    _saved: tuple[Any, ...]
    _versions: tuple[int, ...]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if not cls.__dict__.get("name"):
            cls.name = cls.__name__

    if TYPE_CHECKING:

        def save(self, *arrays: Array | None) -> None: ...  # csrc/bind_tape.cpp

    @property
    def saved(self) -> tuple[Any, ...]:
        for i, (array, version) in enumerate(zip(self._saved, self._versions)):
            if array is not None and array.version != version:
                raise RuntimeError(
                    f"backward of {self.name}: saved array {i} of shape {array.shape} was overwritten after the forward pass "
                    f"(version {array.version}, saved at {version}); call backward() before optimizer.step() or load_state_dict(), also those of other threads"
                )
        return self._saved

    def forward(self, *arrays: Any) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        raise NotImplementedError

    def made_of(self) -> Any:
        """What the result can be made of again, bit for bit: saved for backward anyway. See `ops.remade`."""

    def remakes(self) -> bool:
        return False

    def forget_inputs(self, *inputs: Tensor | None) -> None:
        """Saves, instead of those that can be made again, what makes them."""
        for t in inputs:
            if t is not None and t._op is not None and t._array.version == 0 and t._op.remakes():
                array, maker = t._array, t._op
                self._versions = tuple([0 if a is array else v for a, v in zip(self._saved, self._versions)])
                self._saved = tuple([maker if a is array else a for a in self._saved])

    def release(self) -> None:
        self._saved = ()
        self._versions = ()
        self.edges = None
