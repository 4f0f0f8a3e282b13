"""The linear layer, and the shape layers that stand around it."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from .. import ops
from ..tensor import Tensor
from . import init
from .activation import ReLU, absorb
from .module import Module, Parameter
from .sizes import checked_size


class Linear(Module):
    """y = x weight^T + bias: (..., in_features) -> (..., out_features).

    weight (out, in) and bias (out) start uniform in +-1/sqrt(in_features), as PyTorch's.
    `layer(x, activation="relu")` does the activation along with it; Sequential calls it so for a ReLU that follows.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features = checked_size("Linear", "in_features", in_features)
        self.out_features = checked_size("Linear", "out_features", out_features)
        bound = 1 / sqrt(max(1, in_features))
        self.weight = Parameter(init.uniform_values((out_features, in_features), bound))
        self.register_parameter("bias", Parameter(init.uniform_values((out_features,), bound)) if bias else None)

    def forward(self, x: Tensor, activation: str = "none") -> Tensor:
        if not x.shape or x.shape[-1] != self.in_features:
            hint = f"; Flatten would give {x.size // max(1, x.shape[0])} features" if x.ndim > 2 else ""
            raise ValueError(f"got shape {x.shape}; expected (..., {self.in_features}){hint}")
        return ops.linear(x, self.weight, self.bias, activation=activation)

    def absorbs(self, following: Sequence[Module]) -> tuple[int, dict[str, Any]]:
        return absorb(self, following, ReLU) if type(self) is Linear else (0, {})

    def extra_repr(self) -> str:
        return f"{self.in_features}->{self.out_features}" + (", no bias" if self.bias is None else "")


class Flatten(Module):
    """(N, ...) -> (N, product of the rest), in (C, H, W) order as PyTorch; merges the dimensions start_dim ... end_dim."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return ops.flatten(x, self.start_dim, self.end_dim)


class Unflatten(Module):
    """Flatten taken back: dimension `dim` becomes those of `unflattened_size`, of which one may be -1."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(checked_size("Unflatten", "unflattened_size", n, -1) for n in unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        return ops.unflatten(x, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Identity(Module):
    """Its input. Arguments are passed over, as in PyTorch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
