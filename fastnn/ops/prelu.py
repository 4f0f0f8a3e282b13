"""Activations with weights of their own or between channels: PReLU and maxout."""

from __future__ import annotations

from functools import lru_cache

from .. import _C
from ..arguments import shown
from ..tensor import Array, Op, Tensor, apply
from .cast import beside
from .elementwise import binary
from .reduce import reduction

channel_groups = lru_cache(1024)(_C.Reduce.channel_groups)


class PReLU(Op):
    __slots__ = ()

    def forward(self, x: Array, slope: Array) -> Array:
        self.save(x, slope)
        return _C.prelu_forward(*_beside(x, slope))

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        x, slope = self.saved
        dx = _C.prelu_backward(*_beside(x, slope), dy) if self.needs[0] else None
        if not self.needs[1]:
            return dx, None
        terms = _C.prelu_slope(binary(x.shape, dy.shape), x, dy)
        axes = tuple(d for d in range(len(x.shape)) if d != 1 or slope.size == 1)
        return dx, _C.sum(reduction(x.shape, axes, False), terms).view(slope.shape)


def _beside(x: Array, slope: Array) -> tuple[_C.Binary, Array, Array]:
    """What a broadcasting kernel takes: the slopes stand along dimension 1."""
    slopes = slope.view((slope.size, *[1] * (len(x.shape) - 2)) if slope.size != 1 else ())
    return binary(x.shape, slopes.shape), x, slopes


class Maxout(Op):
    __slots__ = ("pieces", "shape")

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        y, winner = _C.max_forward(channel_groups(x.shape, self.pieces), x)
        self.save(winner)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (winner,) = self.saved
        return (_C.max_backward(channel_groups(self.shape, self.pieces), winner, dy),)


def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """x above 0, weight * x below (He, Zhang, Ren, Sun 2015). weight (1), or (C) for x (N, C, ...); its gradient sums x dy where x <= 0.

    Raises ValueError for another number of slopes.
    """
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.ndim != 1 or weight.shape[0] not in (1, channels):
        raise ValueError(f"prelu: weight has shape {weight.shape}; expected (1,) or ({channels},), one slope per channel of {x.shape}")
    return apply(PReLU(), x, beside(x, weight))


def maxout(x: Tensor, pieces: int) -> Tensor:
    """y[:, c] = the largest of x[:, c * pieces], ..., x[:, c * pieces + pieces - 1] (Goodfellow et al. 2013): (N, C * pieces, ...) -> (N, C, ...).

    The gradient goes to the winner, the first among ties; NaN wins. Raises ValueError where the channels do not divide by `pieces`.
    """
    if not hasattr(pieces, "__index__"):
        raise TypeError(f"maxout: pieces must be an integer, got {shown(pieces)}")
    return apply(Maxout(pieces), x)
