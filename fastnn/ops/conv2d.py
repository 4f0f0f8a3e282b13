"""Convolution: one kernel per direction."""

from __future__ import annotations

from functools import lru_cache
from operator import index
from typing import Any

from .. import _C
from ..arguments import shown
from ..tensor import Array, Op, Tensor, apply
from .activation import behind_product, in_epilogue
from .cast import converted, like
from .linear import channels
from .remade import made_of

Pair = tuple[int, int]
Padding = int | Pair | str


@lru_cache(4096)
def geometry(
    x: tuple[int, ...], weight: tuple[int, ...], arguments: Any, activation: str = "none", weights_stay: bool = False
) -> _C.Conv2d:
    return _C.Conv2d(x, weight, *(*arguments, activation, weights_stay))


def pair(value: int | Pair, what: str) -> Pair:
    if type(value) is int:
        return value, value
    both = value if isinstance(value, (tuple, list)) else (value, value)
    if len(both) == 2 and all(hasattr(v, "__index__") and not isinstance(v, bool) for v in both):
        return index(both[0]), index(both[1])
    raise TypeError(f"{what} must be an int or a pair of ints, got {shown(value)}")


def resolve_padding(padding: Padding, window: Pair, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """(before, after) for each direction. "same" keeps the map's size at stride 1, the odd pixel goes behind (PyTorch's rule)."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f'padding "same" needs stride 1, got {stride}; give the padding as numbers')
        total = [d * (n - 1) for n, d in zip(window, dilation)]
        return (total[0] // 2, total[1] // 2), (total[0] - total[0] // 2, total[1] - total[1] // 2)
    if isinstance(padding, str):
        raise ValueError(f'padding must be an int, a pair, "same" or "valid", got {padding!r}')
    both = pair(padding, "padding")
    return both, both


class Arguments(tuple[Any, ...]):  # of the kernels, told apart by where they lie: what plans them is found sooner
    __hash__, __eq__, __ne__ = object.__hash__, object.__eq__, object.__ne__


@lru_cache(1024)
def _square(stride: int, padding: int, dilation: int, groups: int) -> Arguments:
    return Arguments(((stride, stride), (padding, padding), (padding, padding), (dilation, dilation), groups))


def arguments_of(
    weight: Tensor, stride: int | Pair, padding: Padding, dilation: int | Pair, groups: int
) -> tuple[Pair, Pair, Pair, Pair, int]:
    """stride, pad_before, pad_after, dilation, groups as the kernels take them."""
    if type(stride) is type(padding) is type(dilation) is type(groups) is int:  # soon done: each eager call comes here
        return _square(stride, padding, dilation, groups)
    steps, spread = pair(stride, "stride"), pair(dilation, "dilation")
    window = (weight.shape[2], weight.shape[3]) if weight.ndim == 4 else (1, 1)
    return steps, *resolve_padding(padding, window, steps, spread), spread, groups


Gradient = Array | None


def gradients(op: Any, arguments: tuple[object, ...], x: Any, w: Array, dy: Array, before: Gradient) -> tuple[Gradient, Gradient, Gradient]:
    """dx (+ before), dw, db of `op`'s convolution without activation, those that it needs. x: an array, or what makes it again."""
    shape, needs = op.x_shape, op.needs
    plan = geometry(shape, w.shape, arguments)
    dx = dw = None
    if needs[1] and isinstance(x, Op):  # first: what is made again for it is gone when dx is made
        z, gamma, beta, mean, rstd, activation = made_of(x)
        dw = _C.conv2d_normalized_backward_weight(geometry(shape, w.shape, arguments, activation), z, gamma, beta, mean, rstd, dy)
    elif needs[1]:
        dw = _C.conv2d_backward_weight(plan, x, dy)
    if needs[0]:
        dx = _C.conv2d_backward_input(plan, dy, w) if before is None else _C.conv2d_add_backward_input(plan, dy, w, before)
    dw = None if dw is None else converted(dw, op.w_dtype)
    return dx, dw, _C.channel_sum(channels(dy.shape), dy) if needs[2] else None


class Conv2d(Op):
    __slots__ = ("arguments", "activation", "x_shape", "w_dtype")
    adds = remakes_inputs = True

    def __init__(self, arguments: tuple[object, ...], activation: str) -> None:
        self.arguments, self.activation = arguments, activation

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.x_shape, self.w_dtype = x.shape, w.dtype
        w = like(x, w)
        self.save(x if self.needs[1] else None, w)
        return _C.conv2d_forward(geometry(x.shape, w.shape, self.arguments, self.activation), x, w, b)

    def backward(self, dy: Array, before: Gradient = None) -> tuple[Gradient, ...]:
        x, w = self.saved
        return gradients(self, self.arguments, x, w, dy, before)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    activation: str = "none",
) -> Tensor:
    """y[n,k,p,q] = activation(bias[k] + sum_{c,r,s} x[n, c, p*stride - padding + r*dilation, q*stride - padding + s*dilation] weight[k,c,r,s]).

    x (N, C, H, W), weight (K, C/groups, R, S), bias (K) -> (N, K, P, Q) with P = floor((H + 2 padding - dilation (R - 1) - 1) / stride) + 1.
    padding: an int, a pair (vertical, horizontal), "same" (stride 1) or "valid". activation: "none", "relu" (done while the result is
    written), "silu" or "gelu" (operations of their own behind it, whose gradients need their input). ValueError with the arithmetic when sizes do not fit.
    """
    op = Conv2d(arguments_of(weight, stride, padding, dilation, groups), in_epilogue(activation))
    y = apply(op, x, weight, bias)
    return y if activation == "none" else behind_product(y, activation)
