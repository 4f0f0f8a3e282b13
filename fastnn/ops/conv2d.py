"""Convolution: one kernel per direction."""

from __future__ import annotations

from functools import lru_cache

from .. import _C
from ..tensor import Array, Op, Tensor, apply
from .linear import channels

Pair = tuple[int, int]
Padding = int | Pair | str

geometry = lru_cache(4096)(_C.Conv2d)


def pair(value: int | Pair, what: str) -> Pair:
    if isinstance(value, int):
        return value, value
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(v, int) for v in value):
        return int(value[0]), int(value[1])
    raise TypeError(f"{what} must be an int or a pair of ints, got {value!r}")


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


class Conv2d(Op):
    __slots__ = ("arguments", "plan")

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments  # stride, pad_before, pad_after, dilation, groups

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.plan = geometry(x.shape, w.shape, *self.arguments)
        self.save(x, w)
        return _C.conv2d_forward(self.plan, x, w, b)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        x, w = self.saved
        dx = _C.conv2d_backward_input(self.plan, dy, w) if self.needs[0] else None
        dw = _C.conv2d_backward_weight(self.plan, x, dy) if self.needs[1] else None
        return dx, dw, _C.channel_sum(channels(dy.shape), dy) if self.needs[2] else None


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """y[n,k,p,q] = bias[k] + sum_{c,r,s} x[n, c, p*stride - padding + r*dilation, q*stride - padding + s*dilation] weight[k,c,r,s].

    x (N, C, H, W), weight (K, C/groups, R, S), bias (K) -> (N, K, P, Q) with P = floor((H + 2 padding - dilation (R - 1) - 1) / stride) + 1.
    padding: an int, a pair (vertical, horizontal), "same" (stride 1) or "valid". Raises ValueError with the arithmetic when sizes do not fit.
    """
    steps, spread = pair(stride, "stride"), pair(dilation, "dilation")
    window = (weight.shape[2], weight.shape[3]) if weight.ndim == 4 else (1, 1)
    before, after = resolve_padding(padding, window, steps, spread)
    return apply(Conv2d(steps, before, after, spread, groups), x, weight, bias)
