"""Activations: a kernel for ReLU, one for SiLU, and one for all the others, which are functions of csrc/pointwise.h; and behind a product."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from .. import _C
from ..arguments import finite, number, other_word
from ..scopes import serials
from ..tensor import Array, Op, Tensor, apply

elements = lru_cache(4096)(_C.Elements)
pointwise = lru_cache(4096)(_C.Pointwise)
# elementwise(Op, row, what backward reads, otherwise)(*tensors): apply(Op(), *tensors) without Python in between; `otherwise` takes what is
# no Tensor, or refused (csrc/bind_elementwise.cpp)
elementwise: Callable[..., Callable[..., Tensor]] = _C.elementwise

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


class ReLU(Op):
    __slots__ = ()

    def forward(self, x: Array) -> Array:
        y = _C.relu_forward(elements(x.shape), x)
        self.save(y)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (y,) = self.saved
        return (_C.relu_backward(elements(dy.shape), y, dy),)


def relu_of(x: Any) -> ReLU | None:
    """The ReLU whose result x is, as it wrote it: who knows from x where it was above 0 can lead the gradient past it."""
    op = getattr(x, "_op", None)
    return op if isinstance(op, ReLU) and op._versions == (x._array.version,) else None


def led_past(relu: ReLU, y: Tensor) -> Tensor:
    """y, whose gradient goes by the ReLU; whoever else reads the ReLU's result goes through it, and if nobody does, that is freed."""
    if y._op is not None:
        y._op.edges = relu.edges
    return y


class SiLU(Op):
    __slots__ = ()

    def forward(self, x: Array) -> Array:
        self.save(x)
        return _C.silu_forward(elements(x.shape), x)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (x,) = self.saved
        return (_C.silu_backward(elements(dy.shape), x, dy),)


class Pointwise(Op):
    """A function of csrc/pointwise.h with its two parameters. `keeps_result`: its backward reads the result, not the input."""

    __slots__ = ("keeps_result", "arguments")

    def __init__(self, function: str, a: float = 0.0, b: float = 0.0, *, keeps_result: bool = False) -> None:
        self.keeps_result, self.arguments = keeps_result, (function, a + 0.0, b + 0.0)  # never -0.0, to the cache the same as 0.0

    def forward(self, x: Array) -> Array:
        y = _C.pointwise_forward(pointwise(x.shape, *self.arguments), x)
        self.save(y if self.keeps_result else x)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (kept,) = self.saved
        return (_C.pointwise_backward(pointwise(dy.shape, *self.arguments), kept, dy),)


def in_epilogue(activation: str) -> str:
    """What of `activation` ("none", "relu", "silu" or "gelu") a product applies in its own pass; `behind_product` does the rest. ReLU's gradient
    follows from its result; for the others backward would need what was before them, which is then not written. Raises ValueError for a name
    that nobody knows."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation '{activation}' is not one of {', '.join(ACTIVATIONS)}")
    return activation if activation == "relu" else "none"


def behind_product(y: Tensor, activation: str) -> Tensor:
    """`activation` of a product whose own pass did `in_epilogue(activation)`; ReLU still takes its place on the tape."""
    if activation == "none":
        return y
    if activation != "relu":
        return ACTIVATIONS[activation](y)
    if y._op is not None:
        relu = ReLU()
        relu.save(y._array)
        relu.needs, relu.edges, relu.serial = (True,), (y._op,), next(serials)
        y._op = relu
    return y


relu_tensor = elementwise(ReLU, "relu_forward", "result", lambda x: apply(ReLU(), x))
silu_tensor = elementwise(SiLU, "silu_forward", "inputs", lambda x: apply(SiLU(), x))


def relu(x: Tensor) -> Tensor:
    """max(0, x); the gradient at 0 is 0. NaN passes through."""
    return relu_tensor(x)


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x) (Elfwing, Uchibe, Doya 2017; "swish")."""
    return silu_tensor(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)). Saturates: the gradient y (1 - y) is at most 1/4 and vanishes on both sides."""
    return apply(Pointwise("sigmoid", keeps_result=True), x)


def tanh(x: Tensor) -> Tensor:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)), of gradient 1 - y^2."""
    return apply(Pointwise("tanh", keeps_result=True), x)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x above 0, negative_slope * x below (Maas, Hannun, Ng 2013); the gradient at 0 is negative_slope."""
    return apply(Pointwise("leaky_relu", finite("leaky_relu", "negative_slope", negative_slope), keeps_result=negative_slope >= 0), x)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x above 0, alpha (exp(x) - 1) below (Clevert, Unterthiner, Hochreiter 2015)."""
    return apply(Pointwise("elu", finite("elu", "alpha", alpha), 1.0), x)


def selu(x: Tensor) -> Tensor:
    """scale * elu(x, alpha) with alpha = 1.6732632423543772 and scale = 1.0507009873554805, which lead activations to mean 0 and
    variance 1 (Klambauer, Unterthiner, Mayr, Hochreiter 2017)."""
    return apply(Pointwise("elu", SELU_ALPHA * SELU_SCALE, SELU_SCALE), x)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x), Phi the normal distribution function (Hendrycks, Gimpel 2016).

    approximate="tanh": 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). Raises ValueError for another word.
    """
    if approximate not in ("none", "tanh"):
        raise other_word("gelu", "approximate", approximate, "'none' or 'tanh'")
    return apply(Pointwise("gelu_tanh" if approximate == "tanh" else "gelu"), x)


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold. Raises ValueError unless beta > 0."""
    return apply(Pointwise("softplus", number("softplus", "beta", beta, "(0, inf)"), finite("softplus", "threshold", threshold)), x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "relu": relu, "silu": silu, "gelu": gelu}
