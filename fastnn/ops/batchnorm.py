"""Batch normalisation with residual addition and activation in the same pass."""

from __future__ import annotations

from math import inf
from typing import Any

from .. import _C, shard
from ..arguments import number
from ..tensor import Array, Op, Tensor, apply
from .remade import MadeOf, geometry, remade


class BatchNorm(Op):
    __slots__ = ("running_mean", "running_var", "training", "arguments", "plan")
    remakes_inputs = True

    def __init__(self, running_mean: Array | None, running_var: Array | None, training: bool, *arguments: Any) -> None:
        self.running_mean, self.running_var, self.training = running_mean, running_var, training
        self.arguments = arguments  # eps, momentum, activation

    def forward(self, x: Array, gamma: Array | None, beta: Array | None, residual: Array | None) -> Array:
        self.plan = geometry(x.shape, *self.arguments, self.training, residual is not None)
        kernel: Any = _C.batchnorm_forward if self.training else _C.batchnorm_inference
        y: Array
        y, mean, rstd = kernel(self.plan, x, gamma, beta, residual, self.running_mean, self.running_var)
        self.save(x, gamma, beta, residual, mean, rstd)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        x, gamma, beta, residual, mean, rstd = self.saved
        dx, dgamma, dbeta, dresidual = _C.batchnorm_backward(self.plan, remade(x), dy, gamma, beta, remade(residual), mean, rstd)
        return dx, dgamma, dbeta, dresidual if residual is not None else None

    def remakes(self) -> bool:
        """Not behind another that is made again, nor with a residual: what is made again stays one pass away."""
        return bool(self._saved) and not isinstance(self._saved[0], Op) and self._saved[3] is None

    def made_of(self) -> MadeOf:
        x, gamma, beta, _, mean, rstd = self.saved
        return x, gamma, beta, mean, rstd, self.arguments[2]


def check_rates(what: str, momentum: float, eps: float) -> None:
    if not (0 <= momentum <= 1 and 0 <= eps < inf):  # soon said of each call
        number(what, "momentum", momentum, "[0, 1]")
        number(what, "eps", eps, "[0, inf)")


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    activation: str = "none",
) -> Tensor:
    """activation(weight * (x - mean) / sqrt(var + eps) + bias + residual), per channel over all samples and pixels (Ioffe, Szegedy 2015).

    x (N, C) or (N, C, H, W). Training uses the batch's mean and biased variance and moves the running ones in place:
    running = (1 - momentum) running + momentum new, the variance unbiased. Evaluation uses the running ones.
    activation: "none", "relu", "silu" or "gelu". Raises ValueError when training with one value per channel.
    """
    if not training and (running_mean is None or running_var is None):
        raise ValueError("batch_norm: evaluation needs running statistics; train with track_running_stats, or call train()")
    check_rates("batch_norm", momentum, eps)
    mean, var = (None if t is None else t._array for t in (running_mean, running_var))
    if training and shard.gathering() is not None:
        from .batchnorm_shared import SharedBatchNorm

        return apply(SharedBatchNorm(mean, var, eps, momentum, activation), x, weight, bias, residual)
    return apply(BatchNorm(mean, var, training, eps, momentum, activation), x, weight, bias, residual)
