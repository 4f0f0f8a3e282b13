"""A convolution and the training form of the batch normalisation behind it, as one operation."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from .. import _C, shard
from ..tensor import Array, Op, Tensor, apply
from .batchnorm import batch_norm, check_rates
from .cast import like
from .conv2d import Gradient, Padding, Pair, arguments_of, conv2d, gradients
from .remade import MadeOf, remade
from .remade import geometry as norm_geometry

geometry = lru_cache(4096)(_C.Conv2dBatchNorm)


class Conv2dBatchNorm(Op):
    """Backward is that of the normalisation, then that of the convolution: both read z, the convolution's result. The result is not kept: where
    the next convolution's weight gradient reads it, it is made again from z."""

    __slots__ = ("running_mean", "running_var", "conv", "norm", "x_shape", "w_dtype")
    adds = remakes_inputs = True

    def __init__(self, running_mean: Array | None, running_var: Array | None, conv: tuple[object, ...], norm: tuple[Any, ...]) -> None:
        self.running_mean, self.running_var = running_mean, running_var
        self.conv, self.norm = conv, norm  # stride, pad_before, pad_after, dilation, groups; eps, momentum, activation

    def forward(self, x: Array, w: Array, b: Array | None, gamma: Array | None, beta: Array | None, residual: Array | None) -> Array:
        self.x_shape, self.w_dtype = x.shape, w.dtype
        w = like(x, w)
        plan = geometry(x.shape, w.shape, *self.conv, *self.norm, residual is not None)
        z, y, mean, rstd = _C.conv2d_batchnorm_forward(plan, x, w, b, gamma, beta, residual, self.running_mean, self.running_var)
        self.save(x if self.needs[1] else None, w, z, gamma, beta, residual, mean, rstd)
        return y

    def backward(self, dy: Array, before: Gradient = None) -> tuple[Gradient, ...]:
        x, w = self.saved[:2]
        dz, dgamma, dbeta, dresidual = self.through_norm(dy)
        del dy
        self._saved = ()  # z above all, before the convolution's gradients are made
        return *gradients(self, self.conv, x, w, dz, before), dgamma, dbeta, dresidual

    def through_norm(self, dy: Array) -> tuple[Array, Array, Array, Array | None]:
        _, _, z, gamma, beta, residual, mean, rstd = self.saved
        norm = norm_geometry(z.shape, *self.norm, True, residual is not None)
        dz, dgamma, dbeta, dresidual = _C.batchnorm_backward(norm, z, dy, gamma, beta, remade(residual), mean, rstd)
        return dz, dgamma, dbeta, dresidual if residual is not None else None

    def remakes(self) -> bool:
        return bool(self._saved) and self._saved[5] is None  # released: nothing is left to make it of

    def made_of(self) -> MadeOf:
        _, _, z, gamma, beta, _, mean, rstd = self.saved
        return z, gamma, beta, mean, rstd, self.norm[2]


def conv2d_batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    momentum: float = 0.1,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    activation: str = "none",
) -> Tensor:
    """batch_norm(conv2d(x, weight, bias, ...), ..., training=True): activation(gamma * (z - mean) / sqrt(var + eps) + beta + residual).

    On a GPU the statistics of z = conv2d(x) come from the convolution's tiles while those lie in shared memory, so that z is read once less:
    z is conv2d's to the bit (bfloat16 storage: statistics of the rounded z), mean and 1 / sqrt(var + eps) are those of batch_norm within a
    few units in the last place, relative to the largest |z| and to 1 + |mean| / deviation. On the CPU all bits are the same.
    Arguments and errors are those of the two (Ioffe, Szegedy 2015).
    """
    check_rates("conv2d_batch_norm", momentum, eps)
    if shard.gathering() is not None:
        z = conv2d(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
        norm: dict[str, Any] = {"momentum": momentum, "eps": eps, "residual": residual, "activation": activation}
        return batch_norm(z, running_mean, running_var, gamma, beta, training=True, **norm)
    mean, var = (None if t is None else t._array for t in (running_mean, running_var))
    conv = arguments_of(weight, stride, padding, dilation, groups)
    return apply(Conv2dBatchNorm(mean, var, conv, (eps, momentum, activation)), x, weight, bias, gamma, beta, residual)
