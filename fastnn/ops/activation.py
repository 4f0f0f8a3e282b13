"""ReLU and SiLU, by themselves and behind a product."""

from __future__ import annotations

from collections.abc import Callable
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


def activate(x: Tensor, activation: str) -> Tensor:
    """`activation` by name: "none", "relu" or "silu"."""
    return ACTIVATIONS[activation](x)


def in_epilogue(activation: str) -> bool:
    """Whether a product applies it in its own pass. ReLU's gradient follows from its result; for the others backward would need what was
    before them, which is then not written: they run as an operation of their own. Raises ValueError for a name that nobody knows."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation '{activation}' is not one of {', '.join(ACTIVATIONS)}")
    return activation in ("none", "relu")


def before_relu(y: Array | None, dy: Array) -> Array:
    """dy as the product sees it, whose result after relu was y; None where there was no relu."""
    return dy if y is None else _C.relu_backward(elements(dy.shape), y, dy)


def relu(x: Tensor) -> Tensor:
    """max(0, x); the gradient at 0 is 0. NaN passes through."""
    return apply(ReLU(), x)


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x) (Elfwing, Uchibe, Doya 2017; "swish")."""
    return apply(SiLU(), x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "relu": relu, "silu": silu}
