"""Batch normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..tensor import Tensor, tensor
from .activation import GELU, ReLU, SiLU, absorb
from .module import Module, Parameter
from .sizes import checked_eps, checked_momentum, checked_size


class _BatchNorm(Module):
    ranks: tuple[int, ...] = ()
    letters = ""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        what = type(self).__name__
        self.num_features, self.eps = checked_size(what, "num_features", num_features), checked_eps(what, eps)
        self.momentum = checked_momentum(what, momentum)
        self.register_parameter("weight", Parameter(np.ones(num_features, np.float32)) if affine else None)
        self.register_parameter("bias", Parameter(np.zeros(num_features, np.float32)) if affine and bias else None)
        self.register_buffer("running_mean", tensor(np.zeros(num_features, np.float32)) if track_running_stats else None)
        self.register_buffer("running_var", tensor(np.ones(num_features, np.float32)) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", tensor(np.asarray(0, np.int64)) if track_running_stats else None)

    def forward(self, x: Tensor, residual: Tensor | None = None, activation: str = "none") -> Tensor:
        if x.ndim not in self.ranks or x.shape[1] != self.num_features:
            raise ValueError(f"got shape {x.shape}; expected {self.letters} with C = {self.num_features}")
        return self._normalized(x, residual, activation)

    def _normalized(self, x: Any, residual: Tensor | None, activation: str) -> Tensor:
        use_batch = self.training or self.running_mean is None
        y = ops.batch_norm(
            x,
            self.running_mean if self.training or not use_batch else None,
            self.running_var if self.training or not use_batch else None,
            self.weight,
            self.bias,
            training=use_batch,
            momentum=self.weight_of_batch(),
            eps=self.eps,
            residual=residual,
            activation=activation,
        )
        self.count_batch()
        return y

    def count_batch(self) -> None:
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked._array.increment()

    def absorbs(self, following: Sequence[Module]) -> tuple[int, dict[str, Any]]:
        return absorb(self, following, ReLU, SiLU, GELU) if type(self) in (BatchNorm1d, BatchNorm2d) else (0, {})

    def weight_of_batch(self) -> float:
        """Of the new value in the running statistics."""
        if self.momentum is not None:
            return self.momentum
        return 0.0 if self.num_batches_tracked is None else 1 / (self.num_batches_tracked.item() + 1)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm2d(_BatchNorm):
    """weight * (x - mean) / sqrt(var + eps) + bias per channel of (N, C, H, W) (Ioffe, Szegedy 2015).

    Training uses the batch's mean and biased variance and moves running_mean and running_var (unbiased) by `momentum`, the weight of the new
    value (None: their plain average over all batches so far); evaluation uses those. weight starts at 1, bias at 0.
    weight = sqrt(var + eps), bias = mean recovers the identity.
    affine=False leaves weight and bias out, bias=False the bias; track_running_stats=False keeps no statistics: evaluation uses the batch's too.
    `layer(x, residual, activation)` adds a residual and applies "relu", "silu" or "gelu" in the same pass. Training on one value per channel raises ValueError.
    """

    ranks, letters = (4,), "(N, C, H, W)"


class BatchNorm1d(_BatchNorm):
    """BatchNorm2d for inputs of shape (N, C) or (N, C, L)."""

    ranks, letters = (2, 3), "(N, C) or (N, C, L)"

    def forward(self, x: Tensor, residual: Tensor | None = None, activation: str = "none") -> Tensor:
        if x.ndim != 3:
            return super().forward(x, residual, activation)
        if x.shape[1] != self.num_features or (residual is not None and residual.shape != x.shape):
            beside = "" if residual is None else f" and a residual of its shape, got {residual.shape}"
            raise ValueError(f"got shape {x.shape}; expected {self.letters} with C = {self.num_features}{beside}")
        maps = [None if t is None else ops.reshape(t, (*t.shape, 1)) for t in (x, residual)]
        return ops.reshape(self._normalized(maps[0], maps[1], activation), x.shape)
