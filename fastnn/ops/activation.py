"""ReLU and SiLU."""

from __future__ import annotations

from functools import lru_cache

from .. import _C
from ..tensor import Array, Op, Tensor, apply

elements = lru_cache(4096)(_C.Elements)


class ReLU(Op):
    __slots__ = ()

    def forward(self, x: Array) -> Array:
        y = _C.relu_forward(elements(x.shape), x)
        self.save(y)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (y,) = self.saved
        return (_C.relu_backward(elements(dy.shape), y, dy),)


class SiLU(Op):
    __slots__ = ()

    def forward(self, x: Array) -> Array:
        self.save(x)
        return _C.silu_forward(elements(x.shape), x)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (x,) = self.saved
        return (_C.silu_backward(elements(dy.shape), x, dy),)


def relu(x: Tensor) -> Tensor:
    """max(0, x); the gradient at 0 is 0. NaN passes through."""
    return apply(ReLU(), x)


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x) (Elfwing, Uchibe, Doya 2017; "swish")."""
    return apply(SiLU(), x)
