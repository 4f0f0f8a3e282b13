"""Normalisation of each sample by itself: no batch statistics, the same in training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import _C, ops
from ..ops.elementwise import constant
from ..tensor import Tensor, tensor
from .module import Module, Parameter
from .sizes import checked_eps, checked_momentum, checked_size


class LayerNorm(Module):
    """weight * (x - mean) / sqrt(var + eps) + bias over the last dimensions, `normalized_shape` (Ba, Kiros, Hinton 2016).

    Mean and biased variance of each sample. weight starts at 1, bias at 0, both of shape normalized_shape; elementwise_affine=False leaves both
    out, bias=False the bias. ValueError where the input does not end in normalized_shape.
    """

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ) -> None:
        super().__init__()
        sides = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        self.normalized_shape = tuple(checked_size("LayerNorm", "normalized_shape", n) for n in sides)
        self.eps, self.elementwise_affine = checked_eps("LayerNorm", eps), elementwise_affine
        ones, zeros = np.ones(self.normalized_shape, np.float32), np.zeros(self.normalized_shape, np.float32)
        self.register_parameter("weight", Parameter(ones) if elementwise_affine else None)
        self.register_parameter("bias", Parameter(zeros) if elementwise_affine and bias else None)

    def forward(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}" + ("" if self.elementwise_affine else ", not affine")


class GroupNorm(Module):
    """weight * (x - mean) / sqrt(var + eps) + bias, mean and biased variance of each sample over groups of num_channels / num_groups
    neighbouring channels and all their pixels (Wu, He 2018).

    x (N, num_channels, ...); weight (starts at 1) and bias (at 0) per channel, absent with affine=False, the bias with bias=False.
    ValueError unless num_groups divides num_channels.
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *, bias: bool = True) -> None:
        super().__init__()
        checked_size("GroupNorm", "num_channels", num_channels)
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: num_groups = {num_groups} must divide num_channels = {num_channels}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, checked_eps("GroupNorm", eps), affine
        self.register_parameter("weight", Parameter(np.ones(num_channels, np.float32)) if affine else None)
        self.register_parameter("bias", Parameter(np.zeros(num_channels, np.float32)) if affine and bias else None)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ValueError(f"got shape {x.shape}; expected (N, C, ...) with C = {self.num_channels}")
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups} groups of {self.num_channels}, eps={self.eps}" + ("" if self.affine else ", not affine")


class InstanceNorm2d(Module):
    """(x - mean) / sqrt(var + eps) of each channel of each sample of (N, C, H, W) (Ulyanov, Vedaldi, Lempitsky 2016): GroupNorm with a group per
    channel. affine=True adds weight and bias (bias=False: the weight alone). Maps of one pixel raise ValueError.

    track_running_stats=True: training moves running_mean and running_var by `momentum`, the weight of the new value, towards the samples'
    average of mean and unbiased variance; evaluation normalises by those, as BatchNorm2d does. momentum=None leaves them as they are, as 0
    does and as with PyTorch: there is no average over all batches as BatchNorm2d has.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = checked_size("InstanceNorm2d", "num_features", num_features)
        self.eps, self.affine = checked_eps("InstanceNorm2d", eps), affine
        self.momentum = checked_momentum("InstanceNorm2d", momentum)
        ones, zeros = np.ones(num_features, np.float32), np.zeros(num_features, np.float32)
        self.register_parameter("weight", Parameter(ones) if affine else None)
        self.register_parameter("bias", Parameter(zeros) if affine and bias else None)
        self.register_buffer("running_mean", tensor(zeros) if track_running_stats else None)
        self.register_buffer("running_var", tensor(ones) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", tensor(np.asarray(0, np.int64)) if track_running_stats else None)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.num_features:
            raise ValueError(f"got shape {x.shape}; expected (N, C, H, W) with C = {self.num_features}")
        if self.running_mean is not None and not self.training:
            return ops.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        if x.shape[2] * x.shape[3] == 1:
            raise ValueError(f"a map of one pixel has no variance, got {x.shape}")
        if self.running_mean is not None and x.shape[0]:
            self._follow(x.detach())
        return ops.group_norm(x, self.num_features, self.weight, self.bias, self.eps)

    def _follow(self, x: Tensor) -> None:
        if x.device != self.running_mean.device:
            raise ValueError(f"running_mean lies on {self.running_mean.device}, x on {x.device}; move one of them with .to('{x.device}')")
        if x.dtype == "bfloat16":  # statistics are float32
            x = ops.cast(x, "float32")
        if x.dtype != self.running_mean.dtype:
            kinds = f"x has dtype {x.dtype}, running_mean has dtype {self.running_mean.dtype}; expected the same for both"
            raise TypeError(f"{kinds}; fastnn.tensor(x, '{self.running_mean.dtype}') makes one, model.double() a model")
        new = ops.mean(x, (0, 2, 3)), ops.mean(ops.var(x, (2, 3)), 0)
        share = constant(float(self.momentum or 0), "float64", x.device)
        running = [self.running_mean._array, self.running_var._array]
        _C.average(_C.ParameterList(2), running, [t._array for t in new], share._array)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"
