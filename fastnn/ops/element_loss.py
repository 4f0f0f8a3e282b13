"""Losses of elements, each beside a target of its own; and penalties on weights, which are terms of a loss too."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import inf
from typing import Any

import numpy as np

from .. import _C
from ..arguments import number, several
from ..tensor import Array, Op, Tensor, apply
from .elementwise import constant, made_beside
from .loss import constant_beside
from .shape import expanded, expect_tensor, reshaped

element_loss_of = lru_cache(1024)(_C.ElementLoss)
binary_of = lru_cache(1024)(_C.BinaryCrossEntropy)


class ElementLoss(Op):
    __slots__ = ("arguments",)

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments  # width, curve, slope, reduction

    def forward(self, x: Array, target: Array) -> Array:
        self.save(x, target)
        return _C.element_loss_forward(element_loss_of(x.shape, *self.arguments), x, target)

    def backward(self, dloss: Array) -> tuple[Array | None, ...]:
        x, target = self.saved
        dx = _C.element_loss_backward(element_loss_of(x.shape, *self.arguments), x, target, dloss)
        if not self.needs[1]:
            return dx, None
        minus_one = constant(-1.0, dx.dtype, dx.device)._array
        return dx, _C.multiply(_C.Binary(dx.shape, ()), dx, minus_one)


class BinaryCrossEntropy(Op):
    __slots__ = ("constants", "reduction")

    def __init__(self, target: Array, weight: Array | None, positive: Array | None, reduction: str) -> None:
        self.constants, self.reduction = (target, weight, positive), reduction

    def forward(self, x: Array) -> Array:
        self.save(x, *self.constants)
        return _C.binary_cross_entropy_forward(binary_of(x.shape, self.reduction), x, *self.constants)

    def backward(self, dloss: Array) -> tuple[Array | None, ...]:
        x, target, weight, positive = self.saved
        return (_C.binary_cross_entropy_backward(binary_of(x.shape, self.reduction), x, target, weight, positive, dloss),)


class Penalty(Op):
    __slots__ = ("l1", "l2")

    def __init__(self, l1: float, l2: float) -> None:
        self.l1, self.l2 = l1, l2

    def forward(self, *weights: Array) -> Array:
        self.save(*weights)
        return _C.penalty_forward(_C.Penalty(len(weights), self.l1, self.l2), weights)

    def backward(self, dvalue: Array) -> tuple[Array | None, ...]:
        weights = [w for w, need in zip(self.saved, self.needs) if need]
        slopes = [_C.empty(w.shape, w.dtype, w.device) for w in weights]
        _C.penalty_backward(_C.Penalty(len(weights), self.l1, self.l2), weights, dvalue, slopes)
        left = iter(slopes)
        return tuple(next(left) if need else None for need in self.needs)


def _target_beside(what: str, x: Tensor, target: Any) -> Tensor:
    expect_tensor(what, x)
    if not isinstance(target, Tensor):
        target = made_beside(x, target, f"{what}: target")
    if target.shape != x.shape:
        column = x.ndim == 2 and x.shape[1] == 1
        wanted = "-1, 1" if column else "-1" if x.ndim == 1 else ", ".join(map(str, x.shape))
        hint = f": target.reshape({wanted}) has it" if target.size == x.size else ""
        raise ValueError(f"{what}: input has shape {x.shape}, target {target.shape}; both need the same, nothing is broadcast{hint}")
    beside: Tensor = target.to(x.device)
    return beside


def _element_loss(what: str, x: Tensor, target: Any, width: float, curve: float, slope: float, reduction: str) -> Tensor:
    return apply(ElementLoss(width, curve, slope, reduction), x, _target_beside(what, x, target))


def mse_loss(x: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """(x - target)^2; any shape, the same for both (ValueError: nothing is broadcast). "mean" divides by the number of elements.

    A target that lies on another device is brought to that of x.
    """
    return _element_loss("mse_loss", x, target, inf, 1.0, 1.0, reduction)


def l1_loss(x: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """|x - target|, its slope at 0 being 0; shapes and reduction as for mse_loss."""
    return _element_loss("l1_loss", x, target, 0.0, 0.0, 1.0, reduction)


def smooth_l1_loss(x: Tensor, target: Any, *, beta: float = 1.0, reduction: str = "mean") -> Tensor:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, of d = x - target (Girshick 2015); beta = 0 is l1_loss, and so is one that is too
    small to be a normal number of x's type. ValueError for beta < 0."""
    number("smooth_l1_loss", "beta", beta, "[0, inf)")
    if beta < np.finfo(np.float64 if getattr(x, "dtype", "") == "float64" else np.float32).tiny:  # 1 / (2 beta) would overflow
        beta = 0.0
    return _element_loss("smooth_l1_loss", x, target, float(beta), 0.5 / beta if beta else 0.0, 1.0, reduction)


def huber_loss(x: Tensor, target: Any, *, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), of d = x - target (Huber 1964). ValueError unless delta > 0.

    delta = inf: d^2 / 2 everywhere.
    """
    number("huber_loss", "delta", delta, "(0, inf]")
    return _element_loss("huber_loss", x, target, float(delta), 0.5, float(delta), reduction)


def _spread(what: str, name: str, x: Tensor, value: Any) -> Array | None:
    """Weights repeated to the shape of x by numpy's rules."""
    array = constant_beside(what, name, x, value)
    if array is None or array.shape == x.shape:
        return array
    shape = (1,) * (x.ndim - len(array.shape)) + array.shape
    if len(shape) != x.ndim or any(n not in (1, m) for n, m in zip(shape, x.shape)):
        raise ValueError(f"{what}: {name} has shape {array.shape}, which does not repeat to the input's {x.shape}")
    return expanded(reshaped(array, shape), x.shape)


def binary_cross_entropy_with_logits(
    x: Tensor, target: Any, weight: Any = None, *, pos_weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """weight (-pos_weight target log p - (1 - target) log(1 - p)), p = sigmoid(x), without overflow or cancellation; any shape.

    target: probabilities, of the shape of x (nothing is broadcast) and a constant. `weight` and `pos_weight` (more than 1: a missed positive
    costs more) repeat to the shape of x: one per class is of shape (C) beside (N, C), (C, 1, 1) beside (N, C, H, W).
    "mean" divides by the number of elements. ValueError for shapes that do not fit.
    """
    what = "binary_cross_entropy_with_logits"
    beside = _target_beside(what, x, target)
    if beside.requires_grad:
        raise ValueError(f"{what}: target is a constant of the loss; pass target.detach()")
    constants = beside._array, _spread(what, "weight", x, weight), _spread(what, "pos_weight", x, pos_weight)
    return apply(BinaryCrossEntropy(*constants, reduction), x)


def penalty(weights: Iterable[Tensor], *, l1: float = 0.0, l2: float = 0.0) -> Tensor:
    """l2 sum W^2 + l1 sum |W| over all elements of all `weights` (same type and device): a scalar, in one kernel.

    Both: the elastic net (Zou, Hastie 2005). Its slope is 2 l2 W + l1 sign(W), 0 for W = 0: l2 = d is weight_decay = 2 d of optim.SGD.
    ValueError for negative factors, or without weights.
    """
    number("penalty", "l1", l1, "[0, inf)"), number("penalty", "l2", l2, "[0, inf)")
    if isinstance(weights, Tensor):
        raise TypeError("penalty: weights must be a list of Tensors, got a Tensor; write penalty([weight])")
    weights = several("penalty", "weights", weights, Tensor, "a list of Tensors")
    if not weights:
        raise ValueError("penalty: there are no weights to penalise; give at least one")
    return apply(Penalty(float(l1), float(l2)), *weights)
