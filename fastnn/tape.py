"""What the tape records: operations, while gradients are wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import _C

if TYPE_CHECKING:
    from .tensor import Tensor

Array = _C.Array


class _Recorded(threading.local):
    on = True


recorded = _Recorded()


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside the block (of this thread) no operation is recorded, so results do not require gradients. Also a decorator."""
    before, recorded.on = recorded.on, False
    try:
        yield
    finally:
        recorded.on = before


def is_grad_enabled() -> bool:
    """Whether operations of this thread are being recorded."""
    return recorded.on


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

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if not cls.__dict__.get("name"):
            cls.name = cls.__name__

    def save(self, *arrays: Array | None) -> None:
        self._saved: tuple[Any, ...] = arrays
        self._versions = [a.version if a is not None else 0 for a in arrays]

    @property
    def saved(self) -> tuple[Any, ...]:
        for i, (array, version) in enumerate(zip(self._saved, self._versions)):
            if array is not None and array.version != version:
                raise RuntimeError(
                    f"backward of {self.name}: saved array {i} of shape {array.shape} was overwritten after the forward pass "
                    f"(version {array.version}, saved at {version}); call backward() before optimizer.step() or load_state_dict()"
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

    def forget(self, array: Array, maker: Op) -> None:
        """Saves what makes `array` instead."""
        self._versions = [0 if a is array else v for a, v in zip(self._saved, self._versions)]
        self._saved = tuple([maker if a is array else a for a in self._saved])

    def release(self) -> None:
        self._saved = ()
        self._versions = []
        self.edges = None
