"""What Python's own words mean for Tensors, beside arithmetic: `==`, `-=`, `format()`, and names that other libraries' tensors have."""

from __future__ import annotations

import threading
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

from ..tape import is_grad_enabled
from ..tensor import Tensor
from . import add, divide, equal, multiply, not_equal, subtract


class _Identity(threading.local):
    """Inside `with by_identity:`, of this thread, `==` of Tensors asks whether they are the same object: for dicts and lists that hold some."""

    on = False

    def __enter__(self) -> None:
        self.on = True

    def __exit__(self, *_: object) -> None:
        self.on = False


by_identity = _Identity()


def _elementwise(operation: Callable[[Any, Any], Tensor]) -> Callable[[Tensor, Any], Any]:
    def compare(self: Tensor, other: Any) -> Any:
        if by_identity.on or not isinstance(other, (Tensor, np.ndarray, Real, np.generic, list, tuple)):
            return NotImplemented  # Python goes on to ask for identity
        return operation(self, other)

    return compare


def _assigning(operation: Callable[[Any, Any], Tensor], sign: str) -> Callable[[Tensor, Any], Tensor]:
    """The name gets a new Tensor, as for numbers; a leaf that requires a gradient (a parameter) gets new values, under no_grad."""

    def assign(self: Tensor, other: Any) -> Tensor:
        if self._op is not None or not self.requires_grad:
            return operation(self, other)
        if is_grad_enabled():
            raise RuntimeError(
                f"w {sign}= ... of a Tensor that requires a gradient would change it while gradients are recorded; write it inside of "
                f"`with fastnn.no_grad():`, or let an optimizer do it"
            )
        self.copy_from(operation(self, other).numpy())
        return self

    return assign


def _format(self: Tensor, spec: str) -> str:
    if not spec:
        return str(self)
    if self.size != 1:
        raise TypeError(f"a Tensor of shape {self.shape} cannot be formatted with {spec!r}; only one element can, as x[0] or x.mean()")
    return format(self.item(), spec)


_HERE = {
    "argmin": "(-x).argmax(axis)",
    "astype": 'ops.cast(x, dtype), or fastnn.tensor(x, "float64")',
    "clamp": "x.clip(min, max)",
    "clone": "fastnn.tensor(x), or x + 0.0 for the gradient to pass",
    "data": "x.detach(), or x.numpy(); x.copy_from(values) writes",
    "dim": "x.ndim",
    "double": 'fastnn.tensor(x, "float64")',
    "expand": "ops.broadcast_to(x, shape); operations do it by themselves",
    "flatten": "x.reshape(len(x), -1)",
    "float": 'ops.cast(x, "float32"), or fastnn.tensor(x, "float32")',
    "half": 'ops.cast(x, "bfloat16")',
    "long": 'fastnn.tensor(x, "int64")',
    "mm": "x @ y",
    "permute": "x.transpose(*axes)",
    "requires_grad_": "x.requires_grad = True",
    "squeeze": "x.reshape(*shape)",
    "type": "x.dtype",
    "unsqueeze": "x.reshape(*shape)",
    "view": "x.reshape(*shape)",
}


def _absent(self: Tensor, name: str) -> Any:
    here = f"; here it is {_HERE[name]}" if name in _HERE else ""
    raise AttributeError(f"a Tensor has no attribute {name!r}{here}")


for _name, _method in {
    "eq": _elementwise(equal),
    "ne": _elementwise(not_equal),
    "iadd": _assigning(add, "+"),
    "isub": _assigning(subtract, "-"),
    "imul": _assigning(multiply, "*"),
    "itruediv": _assigning(divide, "/"),
    "format": _format,
    "getattr": _absent,
}.items():
    setattr(Tensor, f"__{_name}__", _method)
