"""How activations lie in memory while a model trains: mixed training keeps them, and the operands of products, in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _C, ops
from ..arguments import other_word, shown
from ..nn import Module, Sequential
from ..tensor import Tensor

if TYPE_CHECKING:
    from .inference import Inference

PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class Forward:
    """model(x), in "float32" or "bf16": then x and all that is made of it are bfloat16, weights, sums and statistics float32, and so is
    the result. `evaluating` is what evaluate and predict call instead: with an `inference`, perhaps another form of the model.
    """

    model: Module
    precision: str = "float32"
    inference: Inference | None = None

    def evaluating(self) -> Callable[[Tensor], Tensor]:
        return self if self.inference is None else self.inference.of(self)

    def __call__(self, x: Tensor) -> Tensor:
        if self.precision == "float32":
            return checked_output(self.model, self.model(x))
        return ops.cast(checked_output(self.model, self.model(ops.cast(x, "bfloat16"))), "float32")


def checked_output(model: Module, output: Any) -> Tensor:
    """What a model gave, whose forward is the user's."""
    if isinstance(output, Tensor):
        return output
    hints = {
        type(None): "; is a return missing?",
        tuple: "; return the logits alone",
        np.ndarray: "; an array has no gradient, compute with Tensors",
    }
    raise TypeError(f"{_giver(model)}.forward returned {shown(output)}; expected a Tensor{hints.get(type(output), '')}")


def _giver(model: Module, name: str = "") -> str:
    """Whose forward gave the result: of a Sequential the last module."""
    if isinstance(model, Sequential) and len(model):
        return _giver(model[-1], f"{name}[{len(model) - 1}]" if name else f"Sequential[{len(model) - 1}]")
    return f"{name} ({type(model).__name__})" if name else type(model).__name__


def checked_precision(precision: str, device: str, what: str = "Trainer") -> str:
    """ValueError also where the processor has no such arithmetic and would only be slower."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise other_word(what, "precision", precision, "'float32' or 'bf16'")
    if precision == "bf16" and device == "cpu" and _C.isa() not in _C.isas("bfloat16"):
        raise ValueError(
            f"{what}: precision='bf16' needs avx512_bf16 or AMX, this processor runs {_C.isa()} ({_C.isa_reason()}): "
            "float32 is faster here, leave precision out"
        )
    return precision
