"""Noise that is never stored: backward draws it again from Philox, or sees in the result what was dropped."""

from __future__ import annotations

from typing import Any

from .. import _C, random, shard
from ..arguments import number, other_word, shown
from ..tensor import Array, Op, Tensor, apply
from .activation import led_past, pointwise, relu_of
from .shape import expect_tensor

_RANKS = {"element": None, "channel": 2, "sample": 1}  # how many dimensions have words of their own


class Dropout(Op):
    """Zeros for single elements, or for whole channels, samples or the batch, by `kind` and what it takes between shape and draw."""

    __slots__ = ("kind", "arguments", "inverted", "plan", "state")

    def __init__(self, kind: Any, arguments: tuple[Any, ...], inverted: bool) -> None:
        self.kind, self.arguments, self.inverted = kind, arguments, inverted

    def forward(self, x: Array) -> Array:
        generator = random.default_generator()
        self.state = generator.state_on(x.device)
        unit = self.arguments[0] if self.kind is _C.GroupDropout else "element"
        first = 0 if unit == "batch" else shard.offset(x.shape, _RANKS[unit])
        self.plan = self.kind(x.shape, *self.arguments, generator.next_draw(), first, self.inverted)
        self.save(self.state)
        return self.drop(x)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        _ = self.saved  # checks the version
        return (self.drop(dy),)

    def drop(self, x: Array) -> Array:
        return (_C.dropout if self.kind is _C.Dropout else _C.group_dropout)(self.plan, x, self.state)


class DropoutOfReLU(Dropout):
    """The gradient of relu and dropout together: 0 where the result is, else scaled. So its edge leads past the ReLU."""

    __slots__ = ()

    def forward(self, x: Array) -> Array:
        y = super().forward(x)
        self.save(y)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (y,) = self.saved
        p = float(self.arguments[-1])
        scale = 1 / (1 - p) if self.inverted and p < 1 else 1.0
        return (_C.pointwise_backward(pointwise(dy.shape, "scaled_relu", scale), y, dy),)


class GaussianNoise(Op):
    __slots__ = ("std",)

    def __init__(self, std: float) -> None:
        self.std = std

    def forward(self, x: Array) -> Array:
        generator = random.default_generator()
        self.save()
        return _C.gaussian_noise(_C.Noise(x.shape, self.std, generator.next_draw(), shard.offset(x.shape)), x, generator.state_on(x.device))

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (dy,)


def checked_rate(what: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise ValueError(f"{what}: p must lie in [0, 1], got {shown(p)}")
    return p


def _dropped(what: str, x: Tensor, p: float, training: bool, inverted: bool, kind: Any, *arguments: Any) -> Tensor:
    expect_tensor(what, x)
    checked_rate(what, p)
    if p == 0:
        return x
    if not training:
        return x if inverted else x * (1 - p)
    relu = relu_of(x)
    if relu is None:
        return apply(Dropout(kind, (*arguments, p), inverted), x)
    return led_past(relu, apply(DropoutOfReLU(kind, (*arguments, p), inverted), x))


def dropout(x: Tensor, p: float = 0.5, *, training: bool = True, inverted: bool = True) -> Tensor:
    """Inverted dropout (Srivastava et al. 2014): zero with probability p, else x / (1 - p); the identity when not training.

    inverted=False is the lectures' plain form: zero with probability p, else x, in training; (1 - p) x, the expected value, else.
    Element i (in memory order) is kept where word i of the generator's draw is at least round(p * 2**32). Raises ValueError unless 0 <= p <= 1.
    """
    return _dropped("dropout", x, p, training, inverted, _C.Dropout)


def dropout2d(x: Tensor, p: float = 0.5, *, training: bool = True, inverted: bool = True) -> Tensor:
    """Dropout of whole maps (Tompson et al. 2015): x (N, C, H, W), channel c of sample n goes by word n C + c of the draw.

    Raises ValueError unless 0 <= p <= 1 and x has rank 4.
    """
    if x.ndim != 4:
        raise ValueError(f"dropout2d: got shape {x.shape}; expected (N, C, H, W)")
    return _dropped("dropout2d", x, p, training, inverted, _C.GroupDropout, "channel")


def stochastic_depth(x: Tensor, p: float, mode: str = "row", *, training: bool = True) -> Tensor:
    """A residual branch dropped with probability p, else x / (1 - p) (Huang et al. 2016); the identity when not training.

    mode "row": each sample of the batch by its own word of the draw; "batch": all of them together. Raises ValueError for other modes and
    unless 0 <= p <= 1.
    """
    if mode not in ("row", "batch"):
        raise other_word("stochastic_depth", "mode", mode, "'row' or 'batch'")
    return _dropped("stochastic_depth", x, p, training, True, _C.GroupDropout, "sample" if mode == "row" else "batch")


def gaussian_noise(x: Tensor, std: float, *, training: bool = True) -> Tensor:
    """x + std z, z standard normal (Bishop 1995: a penalty on the slope); the identity when not training. The gradient passes unchanged.

    z are made in pairs by Box and Muller's method out of the words 2 j and 2 j + 1 of the draw; |z| is at most 5.8.
    Raises ValueError for a std that is negative or not finite.
    """
    expect_tensor("gaussian_noise", x)
    number("gaussian_noise", "std", std, "[0, inf)")
    return apply(GaussianNoise(float(std)), x) if training and std > 0 else x
