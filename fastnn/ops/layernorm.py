"""Normalisation of each sample by itself: over its last dimensions, or over groups of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

from .. import _C
from ..arguments import integer, number
from ..tensor import Array, Op, Tensor, apply
from .shape import reshape

layer_geometry = lru_cache(4096)(_C.LayerNorm)
group_geometry = lru_cache(4096)(_C.GroupNorm)


class LayerNorm(Op):
    __slots__ = ("dims", "eps")

    def __init__(self, dims: int, eps: float) -> None:
        self.dims, self.eps = dims, eps

    def forward(self, x: Array, gamma: Array | None, beta: Array | None) -> Array:
        y, mean, rstd = _C.layernorm_forward(layer_geometry(x.shape, self.dims, self.eps), x, gamma, beta)
        self.save(x, gamma, mean, rstd)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        x, gamma, mean, rstd = self.saved
        plan = layer_geometry(x.shape, self.dims, self.eps, self.needs[1] or self.needs[2])
        return _C.layernorm_backward(plan, x, dy, gamma, mean, rstd)


class GroupNorm(Op):
    __slots__ = ("groups", "eps")

    def __init__(self, groups: int, eps: float) -> None:
        self.groups, self.eps = groups, eps

    def forward(self, x: Array, gamma: Array | None, beta: Array | None) -> Array:
        y, mean, rstd = _C.groupnorm_forward(group_geometry(x.shape, self.groups, self.eps), x, gamma, beta)
        self.save(x, gamma, mean, rstd)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        x, gamma, mean, rstd = self.saved
        plan = group_geometry(x.shape, self.groups, self.eps, self.needs[1] or self.needs[2])
        return _C.groupnorm_backward(plan, x, dy, gamma, mean, rstd)


def layer_norm(
    x: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """weight * (x - mean) / sqrt(var + eps) + bias over the last dimensions, which are `normalized_shape` (Ba, Kiros, Hinton 2016).

    Mean and biased variance of each sample; weight and bias have the shape normalized_shape. For (N, C, H, W) these are the last of N, C, H, W:
    (C, H, W) or (H, W) or (W), whatever lies side by side in memory. Raises ValueError where x does not end in normalized_shape.
    """
    number("layer_norm", "eps", eps, "[0, inf)")
    normalized = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    dims = len(normalized)
    if not dims or x.shape[-dims:] != normalized:
        sizes = tuple(integer("layer_norm", "normalized_shape", n, 0) for n in normalized)
        raise ValueError(f"layer_norm: got shape {x.shape}; expected one that ends in {sizes}")
    for what, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and parameter.shape != normalized:
            raise ValueError(f"layer_norm: {what} has shape {parameter.shape}; expected {normalized}")
    if x.ndim == 4 and dims < 3:  # not neighbours in memory
        rows = reshape(x, (prod(x.shape[:-dims]), prod(normalized)))
        return reshape(layer_norm(rows, rows.shape[1], _flat(weight, rows.shape[1:]), _flat(bias, rows.shape[1:]), eps), x.shape)
    shape = layer_geometry(x.shape, dims, eps).gamma_shape
    return apply(LayerNorm(dims, eps), x, _flat(weight, shape), _flat(bias, shape))


def _flat(t: Tensor | None, shape: Sequence[int]) -> Tensor | None:
    return None if t is None else reshape(t, shape)


def group_norm(x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """weight * (x - mean) / sqrt(var + eps) + bias, mean and biased variance of each sample over each of num_groups groups of C / num_groups
    neighbouring channels and all their pixels (Wu, He 2018).

    x (N, C, ...), weight and bias (C). One group per channel is instance normalisation (Ulyanov, Vedaldi,
    Lempitsky 2016). ValueError unless num_groups divides C.
    """
    number("group_norm", "eps", eps, "[0, inf)")
    if x.ndim in (2, 4):
        return apply(GroupNorm(num_groups, eps), x, weight, bias)
    if x.ndim < 2:
        raise ValueError(f"group_norm expects an input of shape (N, C, ...), got {x.shape}")
    maps = reshape(x, (*x.shape[:2], prod(x.shape[2:]), 1))
    return reshape(apply(GroupNorm(num_groups, eps), maps, weight, bias), x.shape)
