"""Which form of a model evaluate and predict run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .. import nn, ops
from ..captured import settings
from ..nn import Frozen, Module
from ..nn.frozen import as_it_is
from ..ops.python_words import unchanged
from ..tensor import Tensor
from .precision import Forward


class Inference:
    """A frozen copy (`nn.frozen`) of a model that is made of the library's own parts, and made anew when anything of the model has changed;
    others run as they are. `form` says in words which, and why."""

    def __init__(self) -> None:
        self.frozen: Frozen | None = None
        self._standing: Any = None  # of the model when that was made
        self._reason = "nothing was evaluated yet"

    @property
    def form(self) -> str:
        if self.frozen is None:
            return f"eager: {self._reason}" if self._reason else "given back"
        return self.frozen.form

    def of(self, forward: Forward) -> Callable[[Tensor], Tensor]:
        """What to call instead of `forward`, whose model is in evaluation mode."""
        self._reason = _reason_against(forward)
        if self._reason:
            self.release()
            return forward
        frozen = self.frozen  # another thread may be here
        if frozen is None or not unchanged(_standing(forward.model), self._standing):
            self.frozen = frozen = None  # before the next one needs memory
            frozen = nn.frozen(forward.model)
            self.frozen, self._standing = frozen, _standing(forward.model)
        return frozen if forward.precision == "float32" else partial(_narrow, frozen)

    def __reduce__(self) -> tuple[type[Inference], tuple[()]]:
        return Inference, ()  # a copy makes its own

    def release(self) -> None:
        """Gives the memory back. The next call makes another."""
        self.frozen = self._standing = None


def _narrow(frozen: Frozen, x: Tensor) -> Tensor:
    """As Forward does it: bfloat16 between the layers."""
    return ops.cast(frozen(ops.cast(x, "bfloat16")), "float32")


def _reason_against(forward: Forward) -> str:
    return next((f"{type(m).__name__} {why}" for m in forward.model.modules() if (why := as_it_is(m))), "")


def _standing(model: Module) -> list[Any]:
    """What the modules are made of, and arrays with their versions; what another library may write to is never the same."""
    arrays = [t._array for t in (*model.parameters(), *model.buffers())]
    return [[settings(m) for m in model.modules()], [(a, object() if a.shared else a.version) for a in arrays]]
